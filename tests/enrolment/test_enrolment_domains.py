"""Proof of control by DNS, against a real DNS server on loopback."""

import datetime as dt
import json
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.rcode
import pytest

from certmint.app.demo.dns import LoopbackDNS
from certmint.enrolment import domains
from certmint.model.entities import DomainValidation, ValidationMethod
from certmint.model.errors import (
    BadInput,
    CertmintError,
    NotFound,
    Refused,
    Unavailable,
    WrongState,
)
from certmint.validation.dns import Nameserver, NetworkResolver
from certmint.validation.dnsupdate import Record, TSIGKey, replace_records

from .house import DAY, OPERATOR, House

KEY = TSIGKey("maker", "hmac-sha256", b"0123456789abcdef0123456789abcdef")
METHODS = pytest.mark.parametrize("method", [ValidationMethod.DNS_TXT, ValidationMethod.DNS_CNAME])


@pytest.fixture(scope="module")
def zone() -> Iterator[Nameserver]:
    """The maker's server for example.org."""
    running = LoopbackDNS("example.org", KEY.name, KEY.secret)
    yield Nameserver("127.0.0.1", running.port)
    running.close()


@pytest.fixture
def broken() -> Iterator[Nameserver]:
    """A server that answers SERVFAIL to everything."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, sock = self.request
            reply = dns.message.make_response(dns.message.from_wire(data))
            reply.set_rcode(dns.rcode.SERVFAIL)
            sock.sendto(reply.to_wire(), self.client_address)

    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Nameserver("127.0.0.1", server.server_address[1])
        server.shutdown()


def begin(
    house: House, domain: str, method: ValidationMethod = ValidationMethod.DNS_TXT
) -> DomainValidation:
    return domains.begin_validation(
        house.db, house.tenant, domain, method,
        by=OPERATOR, now=house.clock(), random_bytes=house.random_bytes,
    )  # fmt: skip


def verify(house: House, attempt: DomainValidation, server: Nameserver) -> DomainValidation:
    resolver = NetworkResolver((server,), timeout_s=2)
    return domains.verify_domain(
        house.db, house.tenant, attempt.id, domains.World(resolver), by=OPERATOR, now=house.clock()
    )


def refused(house: House, attempt: DomainValidation, server: Nameserver) -> str:
    with pytest.raises(CertmintError) as refusal:
        verify(house, attempt, server)
    return refusal.value.code


@METHODS
def test_control_is_shown_by_a_record(
    house: House, zone: Nameserver, method: ValidationMethod
) -> None:
    """Refused before the record is published, verified after, and refused when asked again."""
    attempt = begin(house, f"{method}.example.org", method)
    assert refused(house, attempt, zone) == "validation-not-found"
    with pytest.raises(Refused) as refusal:
        house.gate.issue_one(house.leaf(f"a.{method}.example.org"), house.clock())
    assert refusal.value.code in ("name-not-validated", "name-outside-constraints")
    record = domains.challenge_record(attempt)
    (proof,) = domains.apply_records(zone, "example.org", [record], KEY)
    assert attempt.random_value in proof
    done = verify(house, attempt, zone)
    assert done.verified_at == house.clock.now
    evidence = json.loads(done.evidence)
    assert evidence["adn"] == f"{method}.example.org"
    assert evidence["server"] == str(zone)
    assert any(attempt.random_value in value for value in evidence["values"])
    with pytest.raises(WrongState) as again:
        verify(house, attempt, zone)
    assert again.value.code == "validation-done"


@METHODS
def test_a_wrong_value(house: House, zone: Nameserver, method: ValidationMethod) -> None:
    """Another attempt's value, or one with a letter less, shows nothing."""
    attempt = begin(house, f"wrong-{method}.example.org", method)
    other = begin(house, f"wrong-{method}.example.org", method)
    assert attempt.random_value != other.random_value
    replace_records(zone, "example.org", [domains.challenge_record(other)], KEY)
    assert refused(house, attempt, zone) == "validation-not-found"
    short = attempt.random_value[:-1]
    value = f"{short}.dcv.example.org." if method is ValidationMethod.DNS_CNAME else f'"{short}"'
    record = Record(f"{attempt.record_name}.", domains.challenge_record(attempt).kind, value)
    replace_records(zone, "example.org", [record], KEY)
    assert refused(house, attempt, zone) == "validation-not-found"


def test_a_value_dies_after_thirty_days(house: House, zone: Nameserver) -> None:
    """Its last second is the thirtieth day's (BR 3.2.2.4.7)."""
    attempt = begin(house, "late.example.org")
    replace_records(zone, "example.org", [domains.challenge_record(attempt)], KEY)
    house.clock.now = attempt.expires_at - dt.timedelta(milliseconds=1)  # the next look adds one
    assert refused(house, attempt, zone) == "validation-expired"
    house.clock.now = attempt.created_at + 30 * DAY - DAY / 86400
    assert verify(house, attempt, zone).verified_at is not None


def test_a_failing_server_is_no_answer(house: House, zone: Nameserver, broken: Nameserver) -> None:
    """NXDOMAIN says something about the domain; SERVFAIL says nothing, and may be tried again."""
    attempt = begin(house, "nowhere.example.org")
    with pytest.raises(Refused):
        verify(house, attempt, zone)
    with pytest.raises(Unavailable) as failure:
        verify(house, attempt, broken)
    assert failure.value.code == "dns-failed"
    assert "SERVFAIL" in failure.value.detail
    assert domains.validation(house.db, house.tenant, attempt.id).verified_at is None


@pytest.mark.parametrize("name", ["router.lan", "printer.home.arpa", "192.168.1.1", "fd00::1"])
def test_a_private_name_is_asserted(house: House, name: str) -> None:
    """Nobody can prove it in the DNS, so an operator's word counts, for private profiles."""
    made = domains.assert_domain(
        house.db, house.tenant, name,
        by=OPERATOR, now=house.clock(), random_bytes=house.random_bytes,
    )  # fmt: skip
    assert made.verified_at is not None
    assert house.gate.issue_one(house.leaf(name, issuer="issuing"), house.clock()).names == (name,)


@pytest.mark.parametrize("name", ["example.org", "8.8.8.8", "router.example", "*.lan"])
def test_a_name_that_can_be_proved_is_not_asserted(house: House, name: str) -> None:
    """Where the DNS can tell, nobody's word is taken."""
    with pytest.raises(Refused) as refusal:
        house.assert_name(name)
    assert refusal.value.code == "validation-not-private"


@pytest.mark.parametrize("name", ["*.example.org", "192.0.2.1", "exa mple.org", "example.org.", ""])
def test_what_is_no_domain_is_not_begun(house: House, name: str) -> None:
    """Only a domain name, without a wildcard, can be validated."""
    with pytest.raises(BadInput) as refusal:
        begin(house, name)
    assert refusal.value.code == "name-syntax"


def test_what_validation_does_not_take(house: House) -> None:
    """An operator's word is no DNS method, and an unknown attempt is not found."""
    with pytest.raises(BadInput):
        begin(house, "example.org", ValidationMethod.OPERATOR)
    with pytest.raises(NotFound):
        domains.validation(house.db, house.tenant, "val_unknown")


@pytest.mark.parametrize(
    ("address", "kind", "written"),
    [
        ("192.168.1.1", "A", "192.168.1.1"),
        ("2001:DB8:0:0::1", "AAAA", "2001:db8::1"),
        ("fd00::1", "AAAA", "fd00::1"),
    ],
)
def test_address_records(zone: Nameserver, address: str, kind: str, written: str) -> None:
    """The name and its wildcard get the address, however it was typed, and answer with it."""
    records = domains.address_records("Router.example.org", address)
    assert [(each.name, each.kind) for each in records] == [
        ("router.example.org.", kind),
        ("*.router.example.org.", kind),
    ]
    proof = domains.apply_records(zone, "example.org", records, KEY)
    assert len(proof) == 2
    assert all(written in line for line in proof)


@pytest.mark.parametrize(
    ("name", "address"),
    [("*.example.org", "192.0.2.1"), ("192.0.2.1", "192.0.2.1"), ("example.org", "192.0.2.256")],
)
def test_no_address_records(name: str, address: str) -> None:
    """What is no name or no address is not written into anybody's zone."""
    with pytest.raises(BadInput):
        domains.address_records(name, address)


def test_a_wrong_tsig_key(zone: Nameserver) -> None:
    """The server refuses it, and the secret is in no message."""
    wrong = TSIGKey(KEY.name, "hmac-sha256", b"wrong wrong wrong wrong wrong")
    records: Any = domains.address_records("router.example.org", "192.0.2.1")
    with pytest.raises(Refused) as refusal:
        domains.apply_records(zone, "example.org", records, wrong)
    assert refusal.value.code == "dns-update-refused"
    assert "wrong wrong" not in str(refusal.value) + repr(wrong)
