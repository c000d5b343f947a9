"""Proofs of control age; before they lapse they are made again, as far as the rules allow."""

import datetime as dt
import os

import pytest

from certmint.enrolment import domains, emailing
from certmint.enrolment.domains import Account, World
from certmint.enrolment.emailing import Post
from certmint.enrolment.revalidation import Means, renew_proofs
from certmint.enrolment.vault import Vault
from certmint.model.entities import DomainValidation, ValidationMethod
from certmint.model.profile import Trust
from certmint.policy.domains import usable_until
from certmint.registry import reads

from .house import DAY, NOW, OPERATOR, House, Published

ACCOUNT = Account("pki.example", "https://pki.example/manufacturers/example")


class Outbox:
    """Takes messages without a server."""

    def __init__(self) -> None:
        self.recipients: list[str] = []
        self.post = Post(self._take, "pki@pki.example", "https://pki.example", Vault(b"k" * 32))

    def _take(self, _sender: str, recipient: str, _message: bytes) -> None:
        self.recipients.append(recipient)


def proof(method: ValidationMethod, begun: dt.datetime) -> DomainValidation:
    return DomainValidation(
        "val", "mfr", "example.net", method, "", "", begun, begun + 30 * DAY, begun
    )


@pytest.mark.parametrize(
    ("method", "begun", "public", "private"),
    [
        ("dns-txt", "2026-05-01", "2026-11-17T00:00:00", "2027-06-03T00:00:00"),
        # The window shrinks under it: on 2027-03-15 it is older than 100 days.
        ("dns-txt", "2026-11-23", "2027-03-14T23:59:59.999999", "2027-12-26T00:00:00"),
        ("dns-txt", "2027-02-01", "2027-05-12T00:00:00", "2028-03-05T00:00:00"),
        ("dns-persist", "2026-11-23", "2026-12-03T00:00:00", "2027-12-26T00:00:00"),
        ("email", "2028-03-01", "2028-03-14T23:59:59.999999", "2029-04-03T00:00:00"),
        ("operator", "2026-11-23", None, "2027-12-26T00:00:00"),
    ],
)
def test_how_long_a_proof_counts(method: str, begun: str, public: str | None, private: str) -> None:
    """By the calendar, through every change of it."""
    found = proof(ValidationMethod(method), dt.datetime.fromisoformat(begun).replace(tzinfo=dt.UTC))
    for trust, until in ((Trust.PUBLIC, public), (Trust.PRIVATE, private)):
        expected = None if until is None else dt.datetime.fromisoformat(f"{until}+00:00")
        assert usable_until(found, trust) == expected


def begin(house: House, method: ValidationMethod) -> DomainValidation:
    return domains.begin_validation(
        house.db, house.tenant, "example.net", method,
        by=OPERATOR, now=house.clock(), random_bytes=os.urandom, account=ACCOUNT,
    )  # fmt: skip


def publish(attempt: DomainValidation) -> World:
    return World(Published(**{attempt.record_name: (attempt.random_value,)}))


def prove(house: House, method: ValidationMethod) -> tuple[DomainValidation, World]:
    attempt = begin(house, method)
    world = publish(attempt)
    done = domains.verify_domain(
        house.db, house.tenant, attempt.id, world, by=OPERATOR, now=house.clock()
    )
    return done, world


def round_of(house: House, world: World, post: Post | None = None) -> list[str]:
    """One round of the job; the codes of what failed for this domain."""
    means = Means(world, post, os.urandom)
    failed = renew_proofs(house.db, means, house.clock())
    return [error.code for age, error in failed if age.proof.domain == "example.net"]


def newest(house: House) -> domains.Age:
    (found,) = [
        each for each in domains.ages(house.db, house.tenant)
        if each.proof.domain == "example.net"
    ]  # fmt: skip
    return found


def lapsing_events(house: House) -> list[str]:
    with house.db.read() as tx:
        found = reads.audit_events(tx, house.tenant.id, 0, 10_000)
    return [each.subject for each in found if each.action == "domain.lapsing"]


def test_a_record_that_stays_is_looked_at_again(house: House) -> None:
    """For as long as it stands nobody has to do anything; once it is gone, nothing is proved."""
    first, world = prove(house, ValidationMethod.DNS_PERSIST)
    assert round_of(house, world) == []
    assert newest(house).proof.id == first.id  # it is young
    house.clock.now += 385 * DAY
    assert round_of(house, world) == []
    again = newest(house)
    assert again.proof.id != first.id
    assert again.lapses_at > NOW + 2 * 385 * DAY
    assert lapsing_events(house).count(first.id) == 1
    house.clock.now += 385 * DAY
    assert round_of(house, World(Published())) == ["validation-not-found"]
    assert newest(house).proof.id == again.proof.id


def test_a_random_value_is_never_used_twice(house: House) -> None:
    """The old record proves nothing; the new attempt's does, without anybody's `verify`."""
    first, old = prove(house, ValidationMethod.DNS_TXT)
    house.clock.now += 385 * DAY
    assert round_of(house, old) == ["validation-not-found"]
    with house.db.read() as tx:
        attempts = reads.domain_validations(tx, house.tenant.id, "example.net")
    waiting = attempts[-1]
    assert waiting.random_value != first.random_value
    assert round_of(house, old) == ["validation-not-found"]  # and no third attempt
    with house.db.read() as tx:
        assert len(reads.domain_validations(tx, house.tenant.id, "example.net")) == len(attempts)
    assert round_of(house, publish(waiting)) == []
    assert newest(house).proof.id == waiting.id
    assert lapsing_events(house).count(first.id) == 1


def test_contacts_are_written_to_again(house: House) -> None:
    """Once, and to those who were reached before."""
    outbox = Outbox()
    attempt, mails = emailing.begin(
        house.db, house.tenant, outbox.post, "example.net", ("admin@example.net",),
        by=OPERATOR, now=house.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    emailing.deliver(house.db, outbox.post, mails[0], house.clock())
    house.db.write(
        lambda tx: domains.writes.mark_domain_verified(
            tx, house.tenant.id, attempt.id, house.clock(), "{}", by="contact"
        )
    )
    nowhere = World(Published())
    assert round_of(house, nowhere, outbox.post) == []
    assert len(outbox.recipients) == 1
    house.clock.now += 385 * DAY
    for _ in range(3):
        assert round_of(house, nowhere, outbox.post) == []
    assert outbox.recipients == ["admin@example.net"] * 2


def test_an_operators_word_is_told_of(house: House) -> None:
    """Nobody can prove it by himself, so the audit log says it once."""
    house.assert_name("printer.lan")
    house.clock.now += 385 * DAY
    for _ in range(2):
        round_of(house, World(Published()))
    with house.db.read() as tx:
        made = reads.domain_validations(tx, house.tenant.id, "printer.lan")
    assert lapsing_events(house).count(made[0].id) == 1
