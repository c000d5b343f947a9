"""What Prometheus reads, and what a load balancer asks."""

import datetime as dt
import os
from typing import Any

import pytest
from asgi import call
from backstage import House
from prometheus_client.parser import text_string_to_metric_families

from certmint.app.metrics import Metrics
from certmint.app.wiring import rest_services
from certmint.doors.rest.app import rest_app
from certmint.enrolment import manufacturers, operators
from certmint.enrolment.overview import Counts
from certmint.model.entities import Role
from certmint.model.subject import DistinguishedName
from certmint.registry.engine import open_database


def numbers(text: bytes) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and the values of its labels in the order of their names."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_requests_and_fleets_are_counted(house: House) -> None:
    """By door and status, with times; devices, certificates, proofs and CRLs from the registry."""
    metrics = Metrics(house.here.db, Counts(house.here.db), house.here.clock, "1.2.3")
    doors, rest = metrics.watch({"/acme/": house.status}, house.rest)
    call(rest, "GET", "/api/v1/time")
    call(rest, "GET", "/api/v1/nothing")
    call(doors["/acme/"], "GET", "/crl/none/0.crl")

    found = numbers(metrics.text())

    assert found["certmint_http_requests_total", "rest", "2xx"] == 1
    assert found["certmint_http_requests_total", "rest", "4xx"] == 1
    assert found["certmint_http_requests_total", "acme", "4xx"] == 1
    assert found["certmint_http_request_seconds_count", "rest"] == 2
    assert found["certmint_build_info", "1.2.3"] == 1
    states = [value for key, value in found.items() if key[:2] == ("certmint_devices", "acme")]
    assert sum(states) >= 7
    in_force = "certmint_certificates_in_force"
    ends = [v for k, v in found.items() if (k[0], k[-1]) == (in_force, "acme")]
    assert sum(ends) == 19  # 7 identities, 6 for services, 4 authorities, 2 batch signers
    lapse = found["certmint_domain_lapses_timestamp_seconds", "lan", "acme"]
    assert lapse > house.here.clock().timestamp()
    assert found["certmint_crl_next_update_timestamp_seconds", "issuing", "acme", "0"] > 0


def test_metrics_are_for_the_installation_s_own_operators(house: House) -> None:
    """They speak of every manufacturer, so no manufacturer's operator reads them."""
    here = house.here
    try:
        own = manufacturers.manufacturer(here.db, "instance")
    except Exception as absent:  # noqa: BLE001 - made where a server has run
        assert "instance" in str(absent)  # noqa: PT017
        own = manufacturers.add_manufacturer(
            here.db, "instance", DistinguishedName.of(O="Instance"),
            by="x", now=here.clock(), random_bytes=os.urandom,
        )  # fmt: skip
    _, first = operators.add_operator(
        here.db, own, "prometheus", Role.VIEWER, lifetime=dt.timedelta(days=1),
        scopes=["metrics:read"], by="x", now=here.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    assert first is not None
    metrics = Metrics(here.db, Counts(here.db), here.clock, "1")
    app = rest_app(rest_services(here, metrics.text), "1")

    def scrape(token: str) -> Any:
        headers = {"authorization": f"Bearer {token}"}
        return call(app, "GET", "/api/v1/metrics", headers=headers)

    answer = scrape(first.secret)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert ("certmint_build_info", "1") in numbers(answer.body)
    assert scrape(house.tokens["acme/administrator"]).code == "role-forbids"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_good_node_says_so(house: House, path: str) -> None:
    """To anybody, without a word about anything else."""
    answer = call(house.status, "GET", path)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")


def test_a_node_without_its_registry_lives_and_is_not_ready(house: House, tmp_path: Any) -> None:
    """A load balancer takes it out, a process manager does not kill it."""
    from certmint.doors.status.routes import status_app

    nowhere = open_database(f"sqlite:{tmp_path / 'none.db'}")
    app = status_app(nowhere, house.here.keys, house.here.clock)
    assert call(app, "GET", "/healthz").status == 200
    assert call(app, "GET", "/readyz").status == 503
    nowhere.close()
