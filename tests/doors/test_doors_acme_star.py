"""Orders whose certificate renews itself (RFC 8739)."""

import datetime as dt
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from acme_client import Client, b64, csr, links
from acme_directories import meta, opened
from asgi import Answer
from backstage import ACMEHouse, refused
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certmint.enrolment.acme.star import renew_due
from certmint.model.acme import RenewalTerms
from certmint.model.errors import CertmintError

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
TERMS = RenewalTerms(HOUR, 60 * DAY, allows_get=True)


def member(acme: ACMEHouse, terms: RenewalTerms = TERMS, **offer: Any) -> Client:
    """An account where certificates may renew themselves."""
    client = Client(acme.app, f"/acme/acme/{opened(acme, auto_renewal=terms, **offer).name}")
    assert client.register().status == 201
    return client


def wish(acme: ACMEHouse, length: dt.timedelta = 10 * DAY, **changes: Any) -> dict[str, Any]:
    """An auto-renewal object: a day each, for ten days."""
    end = (acme.clock() + length).replace(microsecond=0)
    return {"end-date": end.isoformat(), "lifetime": 86400} | changes


def begun(acme: ACMEHouse, client: Client, name: str, key: Any = None, **changes: Any) -> Any:
    """A finalized order."""
    order = acme.ready(client, name, **{"auto-renewal": wish(acme, **changes)})
    done = client.post(order["finalize"], {"csr": csr(name, key=key)})
    assert done.json["status"] == "valid", done.body
    return done.json | {"location": done.headers["location"]}


def leaf(answer: Answer) -> x509.Certificate:
    assert answer.status == 200, answer.body
    return x509.load_pem_x509_certificates(answer.body)[0]


def pass_time(acme: ACMEHouse, order: Any, length: dt.timedelta) -> list[CertmintError | None]:
    """Let time pass, and then the job do its round: what it did for this order."""
    acme.clock.ahead += length
    here, order_id = acme.house.here, order["location"].rsplit("/", 1)[1]
    done = renew_due(here.db, here.gate, acme.clock())
    return [error for each, error in done if each == order_id]


def test_the_directory_says_what_it_renews(acme: ACMEHouse) -> None:
    """RFC 8739 3.2: in seconds; one without says nothing."""
    assert meta(acme, opened(acme, auto_renewal=TERMS))["auto-renewal"] == {
        "min-lifetime": 3600, "max-duration": 60 * 86400, "allow-certificate-get": True,
    }  # fmt: skip
    assert "auto-renewal" not in meta(acme, opened(acme))


def test_a_certificate_renews_itself(acme: ACMEHouse) -> None:
    """RFC 8739 3.3, 3.5: the next one is there well before half of the life of the one before."""
    client = member(acme)
    order = begun(acme, client, "self.star.example")
    assert "certificate" not in order
    assert order["auto-renewal"]["lifetime"] == 86400
    url = order["star-certificate"]
    started = acme.clock()
    first = leaf(client.post(url))
    assert abs(first.not_valid_after_utc - (started + DAY)) < dt.timedelta(minutes=1)
    assert pass_time(acme, order, 7 * HOUR) == []
    assert leaf(client.post(url)) == first
    assert pass_time(acme, order, 2 * HOUR) == [None]
    answer = client.post(url)
    second = leaf(answer)
    assert second.serial_number != first.serial_number
    assert second.public_key() == first.public_key()
    assert second.not_valid_before_utc <= acme.clock()
    assert abs(second.not_valid_after_utc - (started + 2 * DAY)) < dt.timedelta(minutes=1)
    for name, moment in (
        ("cert-not-before", second.not_valid_before_utc),
        ("cert-not-after", second.not_valid_after_utc),
    ):
        value = answer.headers[name]
        assert value == f'"{value[1:-1]}"'
        assert parsedate_to_datetime(value[1:-1]) == moment
    assert pass_time(acme, order, HOUR) == []
    assert client.post(order["location"]).json["status"] == "valid"


def test_it_ends_with_its_order(acme: ACMEHouse) -> None:
    """No certificate lives beyond end-date; from then on it is autoRenewalExpired."""
    client = member(acme)
    order = begun(acme, client, "end.star.example", length=dt.timedelta(hours=60))
    end = dt.datetime.fromisoformat(order["auto-renewal"]["end-date"])
    seen = set()
    for _ in range(58):
        assert set(pass_time(acme, order, HOUR)) <= {None}
        found = leaf(client.post(order["star-certificate"]))
        assert acme.clock() < found.not_valid_after_utc <= end
        seen.add(found.serial_number)
    assert len(seen) == 3
    assert set(pass_time(acme, order, 3 * HOUR)) <= {None}
    refused(client.post(order["star-certificate"]), "autoRenewalExpired", 403)
    answer = client.post(order["location"], {"status": "canceled"})
    refused(answer, "autoRenewalCancellationInvalid", 400)


def test_a_server_that_was_down_catches_up(acme: ACMEHouse) -> None:
    """One certificate, for now, and not one for each day that went by."""
    client = member(acme)
    order = begun(acme, client, "late.star.example")
    assert pass_time(acme, order, 4 * DAY + 12 * HOUR) == [None]
    found = leaf(client.post(order["star-certificate"]))
    assert found.not_valid_before_utc <= acme.clock() < found.not_valid_after_utc
    assert pass_time(acme, order, HOUR) == []


def test_the_client_cancels(acme: ACMEHouse) -> None:
    """RFC 8739 3.1.2: nothing more is issued or shown; once, and only of a valid order."""
    client = member(acme)
    waiting = client.order("wait.star.example", **{"auto-renewal": wish(acme)})
    answer = client.post(waiting.headers["location"], {"status": "canceled"})
    refused(answer, "autoRenewalCancellationInvalid", 400)
    order = begun(acme, client, "cancel.star.example")
    refused(client.post(order["location"], {"status": "valid"}), "malformed", 400)
    gone = client.post(order["location"], {"status": "canceled"})
    assert (gone.status, gone.json["status"]) == (200, "canceled")
    refused(client.post(order["star-certificate"]), "autoRenewalCanceled", 403)
    assert pass_time(acme, order, DAY) == []
    answer = client.post(order["location"], {"status": "canceled"})
    refused(answer, "autoRenewalCancellationInvalid", 400)


def test_anybody_may_fetch_it_where_the_order_says_so(acme: ACMEHouse) -> None:
    """RFC 8739 3.4: and caches may keep it until the next one is due."""
    client = member(acme)
    order = begun(acme, client, "get.star.example", **{"allow-certificate-get": True})
    assert order["auto-renewal"]["allow-certificate-get"] is True
    path = order["star-certificate"].removeprefix(client.url(""))
    answer = client.get(path)
    assert leaf(answer) == leaf(client.post(order["star-certificate"]))
    assert answer.headers["cache-control"].startswith("public, max-age=")
    assert 0 < int(answer.headers["cache-control"].partition("max-age=")[2]) <= 8 * 3600
    assert links(answer, "index") == [client.url("directory")]
    assert answer.headers["cert-not-after"]
    private = begun(acme, client, "post.star.example")
    assert client.get(private["star-certificate"].removeprefix(client.url(""))).status == 405
    assert client.get("star", "ord_nothing").status == 405
    client.post(order["location"], {"status": "canceled"})
    assert client.get(path).json["type"].endswith(":autoRenewalCanceled")


def test_a_directory_may_forbid_fetching(acme: ACMEHouse) -> None:
    """The order shows that the wish was not granted."""
    client = member(acme, RenewalTerms(HOUR, 60 * DAY))
    order = begun(acme, client, "forbid.star.example", **{"allow-certificate-get": True})
    assert order["auto-renewal"]["allow-certificate-get"] is False
    assert client.get(order["star-certificate"].removeprefix(client.url(""))).status == 405


def test_its_certificates_are_not_revoked_by_accounts(acme: ACMEHouse) -> None:
    """RFC 8739 3.1.2: the order is canceled instead; that holds for every one of them."""
    client = member(acme)
    key = ec.generate_private_key(ec.SECP256R1())
    order = begun(acme, client, "revoke.star.example", key=key)
    ders = [leaf(client.post(order["star-certificate"])).public_bytes(Encoding.DER)]
    assert pass_time(acme, order, 9 * HOUR) == [None]
    ders.append(leaf(client.post(order["star-certificate"])).public_bytes(Encoding.DER))
    for der in ders:
        answer = client.post(client.url("revoke-cert"), {"certificate": b64(der)})
        refused(answer, "autoRenewalRevocationNotSupported", 403)
    finder = Client(acme.app, client.directory, key=key)
    proof = finder.post(finder.url("revoke-cert"), {"certificate": b64(ders[0])})
    assert proof.status == 200
    (error,) = pass_time(acme, order, DAY)
    assert error is not None
    assert error.code == "key-blocked"


def test_authorizations_are_weighed_again(acme: ACMEHouse) -> None:
    """When the proof has aged, nothing more comes; a fresh one sets it going again."""
    client = member(acme)
    order = begun(acme, client, "age.star.example", length=50 * DAY)
    assert pass_time(acme, order, 29 * DAY) == [None]
    (error,) = pass_time(acme, order, 2 * DAY)
    assert error is not None
    assert error.code == "authorization-stale"
    acme.ready(client, "age.star.example")
    assert pass_time(acme, order, 3 * HOUR) == [None]
    assert leaf(client.post(order["star-certificate"])).not_valid_after_utc > acme.clock()


def test_a_closed_account_s_orders_stop(acme: ACMEHouse) -> None:
    """Once and for all."""
    client = member(acme)
    order = begun(acme, client, "closed.star.example")
    client.post(client.kid, {"status": "deactivated"})
    (error,) = pass_time(acme, order, DAY)
    assert error is not None
    assert error.code == "account-gone"
    assert pass_time(acme, order, DAY) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"lifetime": 60},
        {"lifetime": True},
        {"lifetime": "86400"},
        {"lifetime": 50 * 86400},
        {"lifetime-adjust": -1},
        {"end-date": "tomorrow"},
        {"end-date": "2999-01-01T00:00:00Z"},
        {"end-date": "2020-01-01T00:00:00Z"},
        {"end-date": "2027-01-01"},
        {"start-date": "2027-01-01T00:00:00Z"},
        {"allow-certificate-get": "yes"},
    ],
)
def test_a_wish_that_cannot_be_granted_is_malformed(
    acme: ACMEHouse, changes: dict[str, Any]
) -> None:
    """At newOrder, before anything is stored."""
    client = member(acme)
    answer = client.order("no.star.example", **{"auto-renewal": wish(acme) | changes})
    refused(answer, "malformed", 400)


def test_notbefore_and_renewal_exclude_each_other(acme: ACMEHouse) -> None:
    """RFC 8739 3.1.1; and a plain directory knows no renewal at all."""
    client = member(acme)
    payload = {"auto-renewal": wish(acme), "notAfter": "2027-01-01T00:00:00Z"}
    refused(client.order("no.star.example", **payload), "malformed", 400)
    refused(client.order("no.star.example", **{"auto-renewal": 5}), "malformed", 400)
    plain = acme.client()
    answer = plain.order("no.star.example", **{"auto-renewal": wish(acme)})
    refused(answer, "malformed", 400)
