"""The one gate: sequences, refusals, races, and every way in which its helpers can fail."""

import asyncio
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy.exc import IntegrityError

from certmint.enrolment.issue import Gate, Step
from certmint.enrolment.reconcile import reconcile
from certmint.enrolment.renewal import renew
from certmint.enrolment.signing import SigningKeys
from certmint.issuance.keys import open_key
from certmint.model.csr import CSR
from certmint.model.entities import Certificate
from certmint.model.errors import CertmintError, Conflict, Misconfigured, Refused, Unavailable
from certmint.model.keys import KeyKind, PrivateKey
from certmint.registry import reads

from .house import DAY, SECRET, House, csr, new_key, status_of


def counts(house: House) -> tuple[int, int, int]:
    """Certificates, orphans, known keys: what a refusal must not change."""
    found = house.read(reads.count_certificates)
    return found.issued, found.revoked, found.orphans


def serials(house: House, name: str) -> list[str]:
    return [each.serial for each in house.held(name)]


def sound(house: House) -> None:
    """No serial is unaccounted for once `reconcile` has been, and the audit log is whole."""
    house.clock.now += DAY
    for intent in reconcile(house.db, house.keys, house.clock.now):
        assert status_of(house, intent) == ("revoked", True)
    assert house.read(reads.count_certificates).orphans == 0
    serials = [each.serial for each in house.read(reads.certificates, limit=10_000)]
    assert len(serials) == len(set(serials))
    assert house.is_chained()


def test_a_sequence_has_one_outcome_each_in_order(each_house: House) -> None:
    """Good and bad requests in one call: each gets its own answer, in its own place."""
    house, shared = each_house, new_key()
    requests = [
        house.leaf("a.example.com"),
        house.leaf("a.example.net"),
        house.leaf("b.example.com", "*.b.example.com"),
        house.leaf("c.example.com", evidence=()),
        house.leaf("d.example.com", key=shared),
        house.leaf("r1.dev.example.com", key=shared, device_id=house.view("R1").device.id),
    ]
    before = counts(house)
    outcomes = house.gate.issue(requests, house.clock())
    said = [each.code if isinstance(each, CertmintError) else each.names for each in outcomes]
    assert said == [
        ("a.example.com",),
        "name-outside-constraints",
        ("b.example.com", "*.b.example.com"),
        "evidence-missing",
        ("d.example.com",),
        "key-reused",
    ]
    assert counts(house) == (before[0] + 3, *before[1:])
    assert house.gate.issue([], house.clock()) == []
    sound(house)


def test_a_refusal_is_written_down_and_nothing_else(house: House) -> None:
    """Nothing is stored, signed or claimed for it: the same key may be certified afterwards."""
    key, before = new_key(), counts(house)
    with pytest.raises(Refused) as refusal:
        house.gate.issue_one(house.leaf("a.example.net", key=key), house.clock())
    assert refusal.value.code == "name-outside-constraints"
    assert counts(house) == before
    with house.db.read() as tx:
        assert reads.key_records(tx, [key.fingerprint]) == {}
    (event,) = house.audit("certificate.refused")
    assert "name-outside-constraints" in event.detail
    assert "a.example.net" in event.detail
    device = house.view("R1").device.id
    request = house.leaf("r1.dev.example.com", key=key, device_id=device)
    house.gate.issue_one(request, house.clock())


def test_a_thousand_refusals_are_one_event(house: House) -> None:
    """Whoever is refused a thousand times in one call does not fill the audit log."""
    house.gate.issue([house.leaf(f"x{n}.example.net") for n in range(1000)], house.clock())
    (event,) = house.audit("certificate.refused")
    assert '"name-outside-constraints":1000' in event.detail


def test_weighing_a_request_issues_nothing(house: House) -> None:
    """`check` grants or refuses as the gate would, writes a refusal down, and signs nothing."""
    before = counts(house)
    house.gate.check(house.leaf("a.example.com"), house.clock())
    with pytest.raises(Refused):
        house.gate.check(house.leaf("a.example.net"), house.clock())
    assert counts(house) == before
    assert len(house.audit("certificate.refused")) == 1


def at_once(*calls: Callable[[], object]) -> list[object]:
    """What each call returned or raised; all start at the same moment."""
    barrier = threading.Barrier(len(calls))
    results: list[object] = [None] * len(calls)

    def run(place: int, call: Callable[[], object]) -> None:
        barrier.wait()
        try:
            results[place] = call()
        except CertmintError as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def renewal(house: House, serial_number: str, request: CSR) -> Callable[[], object]:
    """A renewal by a device that looked at its state just now."""
    target, asker = house.view(serial_number), house.asker(serial_number)
    return lambda: renew(house.db, house.gate, target, request, asker, house.clock())


def codes(results: list[object]) -> list[str]:
    return sorted(each.code for each in results if isinstance(each, CertmintError))


def test_two_renewals_of_one_device_at_once(each_house: House) -> None:
    """By its identity a device may ask twice; the certificate before has one successor."""
    house, old = each_house, each_house.view("R1").service
    assert old is not None
    results = at_once(renewal(house, "R1", csr()), renewal(house, "R1", csr()))
    assert codes(results) == []
    assert len(house.held("R1")) == 4
    sound(house)
    made = {each.certificate.serial for each in results}  # type: ignore[attr-defined]
    assert house.read(reads.certificate, old.serial).successor in made


def test_one_key_for_two_devices_at_once(each_house: House) -> None:
    """A key belongs to the device that came first, and the other one is told so."""
    house, request = each_house, csr()
    results = at_once(renewal(house, "R1", request), renewal(house, "R2", request))
    assert codes(results) == ["key-reused"]
    assert sorted([len(house.held("R1")), len(house.held("R2"))]) == [2, 3]
    sound(house)


def test_many_devices_at_once(each_house: House) -> None:
    """Concurrent requests that do not touch each other all succeed."""
    house = each_house
    requests = [house.leaf(f"m{n}.example.com") for n in range(12)]
    now = house.clock()
    results = at_once(*(lambda r=r: house.gate.issue_one(r, now) for r in requests))
    assert all(isinstance(each, Certificate) for each in results), results
    sound(house)


class Failing(ec.EllipticCurvePrivateKey):
    """A key in a store that is there until it has to sign for the n-th time."""

    def __init__(self, real: ec.EllipticCurvePrivateKey, answer: Callable[[bytes], bytes]) -> None:
        self._real, self._answer = real, answer

    def sign(self, data: bytes, signature_algorithm: Any) -> bytes:  # type: ignore[override]
        return self._answer(self._real.sign(data, signature_algorithm))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._real.public_key()

    def public_bytes(self) -> None: ...
    def exchange(self, algorithm: Any, peer_public_key: Any) -> bytes: ...  # type: ignore[empty-body]
    def private_numbers(self) -> Any: ...
    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> bytes: ...  # type: ignore[empty-body] # noqa: A002
    def __copy__(self) -> "Failing": ...  # type: ignore[empty-body]
    def __deepcopy__(self, memo: Any) -> "Failing": ...  # type: ignore[empty-body]

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._real.curve

    @property
    def key_size(self) -> int:
        return self._real.key_size


def broken(answer: Callable[[bytes], bytes]) -> SigningKeys:
    """Key files as they are, but what they sign goes through `answer`."""

    def opened(uri: str) -> PrivateKey:
        real = open_key(uri, lambda _: SECRET, Path("/"))
        assert isinstance(real, ec.EllipticCurvePrivateKey)
        return Failing(real, answer)

    def create(uri: str, kind: KeyKind) -> Any:
        raise AssertionError(uri)

    return SigningKeys(opened, create)


def lost(_: bytes) -> bytes:
    raise Unavailable("key-store", "the key store does not answer")


def flipped(signature: bytes) -> bytes:
    return signature[:-1] + bytes([signature[-1] ^ 1])


@pytest.mark.parametrize(("answer", "code"), [(lost, "key-store"), (flipped, "signature-invalid")])
def test_a_key_store_that_fails(
    each_house: House, answer: Callable[[bytes], bytes], code: str
) -> None:
    """Nothing is released; the intents are revoked; with a sound key store it succeeds."""
    house, request, old = each_house, csr(), serials(each_house, "R1")
    sane, house.keys = house.keys, broken(answer)
    with pytest.raises(Unavailable) as failure:
        house.renew("R1", request)
    assert failure.value.code == code
    assert counts(house)[2] == 1
    assert serials(house, "R1") == old
    house.keys = sane
    sound(house)
    house.renew("R1", request)
    assert len(house.held("R1")) == 3


def test_a_slow_key_store_does_not_hold_up_the_loop(house: House) -> None:
    """A token signs in a thread while other requests go on; the certificate is none the worse."""
    signed_in: list[int] = []
    ticks = 0

    def slowly(signature: bytes) -> bytes:
        signed_in.append(threading.get_ident())
        time.sleep(0.05)
        return signature

    async def main() -> None:
        nonlocal ticks
        renewing = asyncio.ensure_future(house.db.run(lambda: house.renew("R1", csr())))
        while not renewing.done():
            await asyncio.sleep(0.005)
            ticks += 1
        await renewing

    house.keys = broken(slowly)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())

    assert len(house.held("R1")) == 3
    assert signed_in
    assert threading.get_ident() not in signed_in
    assert ticks > 3


def test_another_key_at_the_authority_s_uri(house: House) -> None:
    """A key file that was exchanged is noticed before anything is recorded."""
    other = ec.generate_private_key(ec.SECP256R1())
    before = counts(house)
    house.keys = SigningKeys(lambda _: other, lambda *_: new_key())
    with pytest.raises(Misconfigured) as failure:
        house.renew("R1", csr())
    assert failure.value.code == "key-mismatch"
    assert counts(house) == before


@contextmanager
def trigger(house: House, table: str) -> Iterator[None]:
    """Inserts into one table fail, as with a broken disk sector under it."""
    path = house.db.name
    for statement in (
        f"CREATE TRIGGER broken BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'x'); END",
        "DROP TRIGGER broken",
    ):
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()
        if statement.startswith("CREATE"):
            yield


@pytest.mark.parametrize("table", ["certificate", "intent", "public_key", "audit_event"])
def test_an_insert_fails(house: House, table: str) -> None:
    """Nothing is released, whichever table it is; without the fault the retry succeeds."""
    request, old = csr(), serials(house, "R1")
    with trigger(house, table), pytest.raises((IntegrityError, sqlite3.IntegrityError)):
        house.renew("R1", request)
    assert serials(house, "R1") == old
    house.renew("R1", request)
    assert len(house.held("R1")) == 3
    sound(house)


class FailsOnce:
    """A database whose n-th call raises before it does anything, or after it has done it."""

    def __init__(self, real: Any, victim: int, late: bool) -> None:
        self._real, self._victim, self._late = real, victim, late
        self.calls = 0

    def _count(self, late: bool) -> None:
        if late == self._late and self.calls == self._victim:
            raise Unavailable("database-unreachable", "the database does not answer")

    def write(self, work: Callable[[Any], Any]) -> Any:
        self.calls += 1
        self._count(late=False)
        result = self._real.write(work)
        self._count(late=True)
        return result

    @contextmanager
    def read(self) -> Iterator[Any]:
        self.calls += 1
        self._count(late=False)
        with self._real.read() as tx:
            yield tx


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_the_nth_call_of_the_database_fails(each_house: House, late: bool) -> None:
    """For every n: what was released is on record, and the request succeeds when asked again.

    `after` is the worst case: the commit was durable, and only its confirmation was lost.
    """
    house, released = each_house, set()
    for victim in itertools.count(1):
        request = csr()
        target, asker = house.view("R2"), house.asker("R2")
        db: Any = FailsOnce(house.db, victim, late)
        gate = Gate(db, house.keys, house.random_bytes)
        try:
            enrolled = renew(db, gate, target, request, asker, house.clock())
        except Unavailable:
            enrolled = house.renew("R2", request)
        released.add(enrolled.certificate.serial)
        assert house.read(reads.certificate, enrolled.certificate.serial).der
        house.clock.now += DAY / 24
        if db.calls < victim:
            break
    assert victim == 5, "a renewal makes four calls: look what the new one leaves behind"
    assert released <= {each.serial for each in house.held("R2")}
    sound(house)


def test_a_request_that_was_tidied_away_while_it_was_signed(each_house: House) -> None:
    """A signature that comes after its serial was revoked never leaves."""
    house, request = each_house, csr()

    def tidy(step: Step) -> None:
        if step is Step.SIGNED:
            house.reached = lambda _: None
            sound(house)

    house.reached = tidy
    with pytest.raises(Conflict) as refusal:
        house.renew("R1", request)
    assert refusal.value.code == "intent-reconciled"
    house.renew("R1", request)
    sound(house)


def test_the_steps_come_in_order(house: House) -> None:
    """The crash tests kill at each step; here is the proof that each of the eight is passed."""
    seen: list[Step] = []
    house.reached = seen.append
    house.gate.issue_one(house.leaf("a.example.com"), house.clock())
    assert seen == list(Step)


def test_requests_of_several_authorities_in_one_call(house: House) -> None:
    """Each is signed by the authority that it names, and the answers stay in order."""
    house.assert_name("printer.lan")
    requests = [
        house.leaf("a.example.com"),
        house.leaf("printer.lan", issuer="issuing"),
        house.leaf("b.example.com"),
    ]
    outcomes = house.gate.issue(requests, house.clock())
    issuers = [each.authority_id for each in outcomes if isinstance(each, Certificate)]
    assert issuers == [request.authority_id for request in requests]
    sound(house)
