"""The client against a live server: TLS, a worker for the jobs, and the page with its examples."""

import datetime as dt
import inspect
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from backstage import House, build, csr_pem
from click.testing import CliRunner, Result

import certmint.client
from certmint.app import servercert
from certmint.app.cli import root
from certmint.app.wiring import workshop
from certmint.app.worker import Worker
from certmint.client import Client, Plan, Problem, Selection, Unreachable
from certmint.enrolment.work import work_off
from certmint.model.errors import Forbidden
from certmint.model.operations import Operation

OURS = {"Page"}
PAGE = Path(__file__).parents[2] / "docs/client.md"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    built = build(tmp_path_factory.mktemp("client"))
    yield built
    built.here.close()


@pytest.fixture(scope="module")
def server(house: House) -> Iterator[str]:
    """The house's REST door on loopback, with its worker: the base URL."""
    here = house.here
    servercert.ensure(here)
    tls, resolve = here.config.settings.server, here.config.resolve
    app = uvicorn.Server(
        uvicorn.Config(
            house.rest, host="127.0.0.1", port=0, lifespan="off", log_config=None, ws="none",
            ssl_certfile=str(resolve(tls.certificate)), ssl_keyfile=str(resolve(tls.key)),
        )
    )  # fmt: skip
    thread, worker = (
        threading.Thread(target=app.run),
        Worker("test", 0.1, partial(work_off, workshop(here, "test"))),
    )
    thread.start()
    worker.start()
    while not app.started and thread.is_alive():
        time.sleep(0.01)
    yield f"https://localhost:{app.servers[0].sockets[0].getsockname()[1]}"
    worker.stop()
    app.should_exit = True
    thread.join(10)


@pytest.fixture
def client(house: House, server: str) -> Iterator[Client]:
    """An administrator's client, which does not wait long."""
    with _client(house, server, "administrator", attempts=1) as opened:
        yield opened


def _client(house: House, server: str, role: str, **given: Any) -> Client:
    root = house.here.config.folder / "tls/root.pem"
    return Client(server, house.tokens[f"acme/{role}"], ca_file=root, **given)


def test_examples_of_the_page(
    house: House, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that docs/client.md shows works, one block after the other."""
    (tmp_path / "operator.token").write_text(house.tokens["acme/administrator"] + "\n")
    (tmp_path / "colleague.token").write_text(house.tokens["acme/security-officer"] + "\n")
    (tmp_path / "root.pem").write_bytes((house.here.config.folder / "tls/root.pem").read_bytes())
    (tmp_path / "manifest.csv").write_text("serial\nL1\nL2\n")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) > 5
    names: dict[str, Any] = {}

    for block in blocks:
        exec(block.replace("https://localhost:8443", server), names)  # noqa: S102 - our own page
    names["colleague"].close()

    assert names["count"] >= 15
    assert len((tmp_path / "packages.jsonl").read_text().splitlines()) == 2
    assert names["agreed"].state == "done"


def test_every_operation_has_its_method() -> None:
    """The client's methods are the operations of the door, by name."""
    methods = {name for name, _ in inspect.getmembers(Client, inspect.isfunction)}

    public = {name for name in methods if not name.startswith("_")} - {"close", "wait_for"}

    assert public == {operation.value for operation in Operation}


def test_members_are_those_of_the_document(house: House) -> None:
    """Each member of an answer stands in the OpenAPI document, and none of it is left out."""
    schemas = house.rest.openapi()["components"]["schemas"]
    shapes = [set(schema["properties"]) for schema in schemas.values() if "properties" in schema]
    kinds = [each for each in vars(certmint.client).values() if is_dataclass(each)]
    assert len(kinds) > 20

    for kind in kinds:
        members = {each.name for each in fields(kind)} - {"etag"}
        assert kind.__name__ in OURS or members in shapes, kind


def test_every_list_comes_in_pages_and_as_a_stream(client: Client) -> None:
    """Both ways give the same things, whatever the list is of."""
    operator = next(iter(client.list_operators()))
    lists = [
        client.list_manufacturers(), client.list_operators(), client.list_tokens(operator.id),
        client.list_approvals(), client.list_domains(), client.list_validations(),
        client.list_authorities(), client.list_profiles(), client.list_products(),
        client.list_devices(), client.list_device_certificates("R1"), client.list_owners(),
        client.list_device_requests(), client.list_batches(), client.list_certificates(),
        client.list_jobs(), client.list_campaigns(),
    ]  # fmt: skip

    for each in lists:
        assert list(each) == list(each.stream())

    devices = client.list_devices(prefix="R")
    assert [d.serial_number for d in devices.page(limit=2).items] == ["R1", "R2"]
    assert devices.page("R2", limit=1).items[0].serial_number == "R3"


def test_things_are_made_shown_and_changed(client: Client) -> None:
    """An operator's life over the wire: made, given a token, changed, shut out."""
    made = client.create_operator("robot", "viewer")
    token = client.create_token(made.id, "ci", lifetime_days=3, scopes=["devices:read"])
    seen = client.show_operator(made.id)
    with pytest.raises(ValueError, match="show_"):
        client.change_operator(made, role="station")
    changed = client.change_operator(seen, role="auditor")

    assert token.token not in repr(token)
    assert token.scopes == ("devices:read",)
    assert (seen, seen.etag) != (made, "")
    assert changed.role == "auditor"
    with pytest.raises(Problem) as stale:
        client.change_operator(seen, disabled=True)
    assert (stale.value.status, stale.value.code) == (412, "changed-meanwhile")
    assert client.close_sessions(made.id) == 0
    client.revoke_token(made.id, token.id)
    assert [each.revoked_at is not None for each in client.list_tokens(made.id)] == [True]


@pytest.mark.slow
def test_devices_move(client: Client) -> None:
    """Claiming, handing on, suspending and retiring are one call each; a slash is no path."""
    client.create_owner("ann", "a good long password")
    client.create_owner("bob", "a good long password")
    client.claim_device("R3", "ann")
    client.transfer_device("R3", "bob")
    client.release_device("R3")

    assert client.suspend_device("R3").state == "suspended"
    assert client.resume_device("R3").state == "active"
    assert client.retire_device("R3").state == "retired"
    job = client.wait_for(client.change_devices("suspend", ["R4", "R5", "no/body"]))
    assert job.outcome["changed"] == 2
    assert job.outcome["refused"][0]["code"] == "device-unknown"
    with pytest.raises(Problem) as refused:
        client.show_device("no/body")
    assert refused.value.code == "device-unknown"


def test_certificates_are_issued_and_revoked(client: Client) -> None:
    """A server's certificate comes by name, and is revoked by its serial."""
    issued = client.issue_certificate("issuing", csr_pem(), ["server.lan"], lifetime_days=5)

    shown = client.show_certificate(issued.serial)
    assert shown.certificate == issued.certificate
    assert "BEGIN" not in repr(issued) + repr(shown)
    assert client.revoke_certificate(issued.serial, "superseded").revocation_reason == "superseded"
    with pytest.raises(Problem) as refused:
        client.revoke_certificate(issued.serial)
    assert refused.value.code == "already-revoked"


def test_the_audit_log_is_walked_and_read(client: Client) -> None:
    """The job's outcome names the head of the chain."""
    job = client.wait_for(client.verify_audit())

    assert (job.state, job.outcome["broken_at"]) == ("done", None)
    event = next(iter(client.list_audit_events()))
    assert client.list_audit_events().page(str(event.number), 1).items[0].number > event.number


def test_domains_are_proved(client: Client) -> None:
    """An attempt says what to publish; a look at a name that is not there says so."""
    begun = client.begin_validation("example.com")

    assert (begun.record_type, client.show_validation(begun.id)) == ("TXT", begun)
    assert "admin@example.com" in client.list_contacts("example.com").addresses


def test_approvals_take_two(house: House, server: str, client: Client) -> None:
    """Who asked cannot agree; a second operator can say no."""
    profile = client.show_profile("service")
    wanted = client.change_profile(profile, lifetime=86_400)

    with pytest.raises(Problem) as refused:
        client.approve(wanted.id)
    assert refused.value.code == "four-eyes"
    with _client(house, server, "security-officer") as colleague:
        assert colleague.reject(wanted.id).state == "rejected"
    assert client.show_approval(wanted.id).document["lifetime"] == 86_400


def test_campaigns_are_drafted_and_steered(client: Client) -> None:
    """A draft says what it would touch, and is started, paused, and ended."""
    deadline = dt.datetime.now(dt.UTC) + dt.timedelta(days=7)
    with pytest.raises(ValueError, match="time zone"):
        Plan("replace", dt.datetime.now())  # noqa: DTZ005 - what is refused
    client.report_firmware("R4", "1.0/a")
    draft = client.create_campaign("c", Selection(firmware="1.0/a"), Plan("replace", deadline))

    assert (draft.devices, draft.certificates, draft.deadline) == (1, 1, deadline)
    assert client.preview_campaign(draft.id) == draft
    assert client.start_campaign(draft.id).state != draft.state
    assert client.pause_campaign(draft.id).state == "paused"
    assert client.resume_campaign(draft.id).id == draft.id
    assert client.cancel_campaign(draft.id).state == "cancelled"
    assert list(client.report_campaign(draft.id)) == []
    with pytest.raises(Problem) as refused:
        client.approve_campaign(draft.id)
    assert refused.value.code == "four-eyes"


def test_a_server_that_is_not_trusted_gets_no_token(house: House, server: str) -> None:
    """Without the installation's root the handshake fails, at once and for good."""
    pauses: list[float] = []
    stranger = Client(server, house.tokens["acme/viewer"], sleep=pauses.append)

    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        stranger.show_self()

    assert pauses == []
    assert house.tokens["acme/viewer"] not in repr(stranger)


def test_the_command_line_decides_as_the_token_s_operator(
    house: House, server: str, client: Client, tmp_path: Path
) -> None:
    """`certmint approval approve` with a second operator's token; the first one's is refused."""
    asked = client.create_authority("by-hand", "root")
    tokens = {}
    for role in ("administrator", "security-officer"):
        tokens[role] = tmp_path / role
        tokens[role].write_text(house.tokens[f"acme/{role}"])

    def decide(role: str) -> Result:
        given = ["--server", server, "--ca-file", str(house.here.config.folder / "tls/root.pem")]
        words = ["approval", "approve", asked.id, "--token-file", str(tokens[role]), "--json"]
        return CliRunner().invoke(root, [*words, *given])

    own = decide("administrator")
    assert isinstance(own.exception, Forbidden)
    assert own.exception.code == "four-eyes"
    done = decide("security-officer")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["state"] == "done"
    assert client.show_authority("by-hand").state == "active"
