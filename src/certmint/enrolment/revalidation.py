"""Proofs of control that will soon be too old: proved again by ourselves where the rules allow it.

A record that stays (BR 3.2.2.4.22) is looked at again. A random value is not: it dies with its
attempt (3.2.2.4.7), so a new attempt is opened, the audit log says which record to publish, and
every round looks whether it is there. Contacts who answered before are written to again. An
operator's word and the hash of a CSR need somebody to act. Whatever it is, `domain.lapsing` is
written once for each proof.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace

from certmint.enrolment import domains, emailing
from certmint.enrolment.domains import Age
from certmint.enrolment.emailing import Post
from certmint.enrolment.manufacturers import new_id
from certmint.enrolment.proofs import World
from certmint.model.entities import DomainValidation, Manufacturer, ValidationMethod
from certmint.model.errors import CertmintError
from certmint.model.mail import MailState
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database

BY = "revalidation"
_PAGE = 100
_REACHED = (MailState.SENT, MailState.APPROVED)
_WITH_RECORD = (ValidationMethod.DNS_TXT, ValidationMethod.DNS_CNAME)


@dataclass(frozen=True)
class Means:
    """What it takes to prove again. Without `post` no mail is sent; `ahead` is how early to act.

    A window of a few days would lapse from the start, so the last third of it is early enough.
    """

    world: World
    post: Post | None
    random_bytes: RandomBytes
    ahead: dt.timedelta = dt.timedelta(days=14)


def renew_proofs(db: Database, means: Means, now: dt.datetime) -> list[tuple[Age, CertmintError]]:
    """One round over every manufacturer: what lapses, and why it could not be proved again."""
    failed = []
    for tenant in _manufacturers(db):
        for age in lapsing(db, tenant, means.ahead, now):
            try:
                _tell(db, age, now)
                _prove_again(db, tenant, age, means, now)
            except CertmintError as error:
                failed.append((age, error))
    return failed


def lapsing(db: Database, tenant: Manufacturer, ahead: dt.timedelta, now: dt.datetime) -> list[Age]:
    """The domains whose newest proof lapses soon, or has; those that never counted are left out."""

    def is_due(age: Age) -> bool:
        window = age.lapses_at - age.proof.created_at
        return age.lapses_at - min(ahead, window / 3) <= now

    return [age for age in domains.ages(db, tenant) if is_due(age)]


def _manufacturers(db: Database) -> Iterator[Manufacturer]:
    after = None
    while True:
        with db.read() as tx:
            page = reads.manufacturers(tx, after, _PAGE)
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].slug


def _tell(db: Database, age: Age, now: dt.datetime) -> None:
    proof = age.proof
    if proof.lapse_told_at is not None:
        return
    db.write(
        lambda tx: writes.note_domain_lapsing(
            tx, proof.tenant_id, proof.id, by=BY, at=now,
            domain=proof.domain, method=proof.method.value, lapses_at=age.lapses_at.isoformat(),
        )
    )  # fmt: skip


def _prove_again(
    db: Database, tenant: Manufacturer, age: Age, means: Means, now: dt.datetime
) -> None:
    proof = age.proof
    if proof.method is ValidationMethod.DNS_PERSIST:
        _look_again(db, tenant, proof, means, now)
    elif proof.method in _WITH_RECORD:
        attempt = _open_attempt(db, tenant, proof, now) or _ask_for_record(
            db, tenant, proof, means, now
        )
        domains.verify_domain(db, tenant, attempt.id, means.world, by=BY, now=now)
    elif proof.method is ValidationMethod.EMAIL and means.post is not None:
        _write_again(db, tenant, proof, means, means.post, now)


def _open_attempt(
    db: Database, tenant: Manufacturer, proof: DomainValidation, now: dt.datetime
) -> DomainValidation | None:
    """The newest attempt for the same, younger than the proof, that can still succeed."""
    with db.read() as tx:
        found = reads.domain_validations(tx, tenant.id, proof.domain)
    still = [
        each
        for each in found
        if each.method is proof.method
        and each.verified_at is None
        and proof.created_at < each.created_at
        and now < each.expires_at
    ]
    return still[-1] if still else None


def _look_again(
    db: Database, tenant: Manufacturer, proof: DomainValidation, means: Means, now: dt.datetime
) -> None:
    """A new proof from the record that stays; nothing is written unless it is there."""
    attempt = replace(
        proof,
        id=new_id("val", now, means.random_bytes),
        created_at=now,
        expires_at=now + domains.VALUE_LIFE,
        verified_at=None,
        evidence="",
        lapse_told_at=None,
    )
    evidence = domains.evidence_of(db, tenant, attempt, means.world, now)

    def work(tx: writes.Transaction) -> None:
        writes.add_domain_validation(tx, attempt, by=BY, at=now)
        writes.mark_domain_verified(tx, tenant.id, attempt.id, now, evidence, by=BY)

    db.write(work)


def _ask_for_record(
    db: Database, tenant: Manufacturer, proof: DomainValidation, means: Means, now: dt.datetime
) -> DomainValidation:
    return domains.begin_validation(
        db, tenant, proof.domain, proof.method, by=BY, now=now, random_bytes=means.random_bytes
    )


def _write_again(
    db: Database,
    tenant: Manufacturer,
    proof: DomainValidation,
    means: Means,
    post: Post,
    now: dt.datetime,
) -> None:
    """To those who got the last message, with a new value for each, unless they have it."""
    if _open_attempt(db, tenant, proof, now) is not None:
        return
    with db.read() as tx:
        before = reads.domain_mails(tx, tenant.id, proof.id)
    recipients = [each.recipient for each in before if each.state in _REACHED]
    _, mails = emailing.begin(
        db, tenant, post, proof.domain, recipients,
        by=BY, now=now, random_bytes=means.random_bytes,
    )  # fmt: skip
    for mail in mails:
        emailing.deliver(db, post, mail, now)
