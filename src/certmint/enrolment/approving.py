"""What a domain's contact answers to our message: approve or decline, once.

The random value in the link is the credential; looking at the page decides nothing, because mail
scanners open links. One contact's yes is enough for the domain, one contact's no ends the attempt.
"""

import datetime as dt
import hmac
import json
from dataclasses import dataclass

from certmint.enrolment.emailing import display_name, hash_of
from certmint.model.entities import DomainValidation
from certmint.model.errors import NotFound, Refused, WrongState
from certmint.model.mail import DomainMail, MailEvent, MailState
from certmint.model.profile import Trust
from certmint.policy import calendar
from certmint.policy.domains import usable_until
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

_ANSWERABLE = (MailState.QUEUED, MailState.SENT)


@dataclass(frozen=True)
class Invitation:
    """What a contact is asked, in the contact's words.

    `public_until` and `private_until` are when an approval of now would lapse; None if it does
    not count for that kind of certificate at all.
    """

    manufacturer: str
    domain: str
    applied_for: str
    recipient: str
    asked_at: dt.datetime
    expires_at: dt.datetime
    public_until: dt.datetime | None
    private_until: dt.datetime | None


@dataclass(frozen=True)
class _Found:
    mail: DomainMail
    attempt: DomainValidation
    manufacturer: str


def look(db: Database, value: str, now: dt.datetime) -> Invitation:
    """What the holder of this value is asked.

    Raises NotFound `mail-unknown`, Refused `validation-expired` or `mail-declined`, WrongState
    `validation-done`.
    """
    with db.read() as tx:
        found = _find(tx, value, now)
    return _invitation(found, now)


def answer(
    db: Database, value: str, *, approves: bool, source: str, now: dt.datetime
) -> Invitation:
    """Take the contact's answer, in one transaction with the evidence; raises what `look` does.

    `source` is the network address that it came from.
    """

    def work(tx: writes.Transaction) -> _Found:
        found = _find(tx, value, now)  # again in here: two answers at once are one
        mail = found.mail
        by = f"contact:{mail.id}"
        event = MailEvent.APPROVED if approves else MailEvent.DECLINED
        writes.move_domain_mail(
            tx, mail.tenant_id, mail.id, mail.state, event, by=by, at=now, source=source
        )
        if approves:
            writes.mark_domain_verified(
                tx, mail.tenant_id, mail.validation_id, now, _evidence(found, source, now), by=by
            )
        return found

    return _invitation(db.write(work), now)


def _find(tx: Transaction, value: str, now: dt.datetime) -> _Found:
    digest = hash_of(value)
    mail = reads.domain_mail_by_value(tx, digest)
    # The index compared a hash, which tells nothing about the value; this is for the reader.
    if mail is None or not hmac.compare_digest(mail.value_hash, digest):
        raise NotFound("mail-unknown", "this link is not one of ours, or it is not complete")
    attempt = reads.domain_validation(tx, mail.tenant_id, mail.validation_id)
    tenant = reads.manufacturer(tx, mail.tenant_id)
    if attempt is None or tenant is None:
        raise NotFound("mail-unknown", "this link is not one of ours, or it is not complete")
    others = reads.domain_mails(tx, mail.tenant_id, mail.validation_id)
    if any(each.state is MailState.DECLINED for each in others):
        raise Refused("mail-declined", f"this request for {attempt.domain} was declined")
    if attempt.verified_at is not None:
        raise WrongState("validation-done", f"this request for {attempt.domain} was approved")
    if now >= mail.expires_at or mail.state not in _ANSWERABLE:
        raise Refused(
            "validation-expired",
            f"this request for {attempt.domain} could be answered until {mail.expires_at:%d %B %Y}",
        )
    return _Found(mail, attempt, display_name(tenant))


def _invitation(found: _Found, now: dt.datetime) -> Invitation:
    attempt, mail = found.attempt, found.mail
    return Invitation(
        manufacturer=found.manufacturer,
        domain=attempt.domain,
        applied_for=mail.applied_for,
        recipient=mail.recipient,
        asked_at=mail.created_at,
        expires_at=mail.expires_at,
        public_until=_later(usable_until(attempt, Trust.PUBLIC, now), now),
        private_until=_later(usable_until(attempt, Trust.PRIVATE, now), now),
    )


def _later(until: dt.datetime | None, now: dt.datetime) -> dt.datetime | None:
    return until if until is not None and until > now else None


def _evidence(found: _Found, source: str, now: dt.datetime) -> str:
    """What an auditor asks for (BR 5.4.1, ballot SC-099), and the rules as they were known."""
    mail = found.mail
    return json.dumps(
        {
            "adn": found.attempt.domain,
            "applied_for": mail.applied_for,
            "method": "BR 3.2.2.4.4",
            "requirements": calendar.REQUIREMENTS,
            "rules": calendar.VERSION,
            "message": mail.id,
            "recipient": mail.recipient,
            "created_at": mail.created_at.isoformat(),
            "sent_at": mail.sent_at.isoformat() if mail.sent_at else None,
            "answered_at": now.isoformat(),
            "source": source,
        },
        sort_keys=True,
    )
