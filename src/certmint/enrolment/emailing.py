"""Proof of control by e-mail to a domain's contacts: choosing them, and getting the mail there.

BR 3.2.2.4.4. Each contact gets a message of its own with a random value of its own, good once and
for 30 days. A message is composed once and kept sealed, so that sending it again sends the same
octets; the registry knows the value by its hash. What the contacts answer is `approving`'s.

Messages are queued with the attempt in one transaction and sent after it: if the mail server or
the power fails, nothing is half-written, and the job `mail` sends what is still queued.
"""

import base64
import datetime as dt
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from certmint.enrolment.domains import VALUE_LIFE, validation
from certmint.enrolment.manufacturers import new_id
from certmint.enrolment.vault import Vault
from certmint.model.entities import DomainValidation, Manufacturer, ValidationMethod
from certmint.model.errors import (
    BadInput,
    CertmintError,
    Refused,
    TooOften,
    Unavailable,
    WrongState,
)
from certmint.model.mail import DomainMail, MailEvent, MailState, contact_addresses
from certmint.model.names import DNSName, IPName, parse_name
from certmint.model.serial import RandomBytes
from certmint.policy.domains import authorization_domains
from certmint.registry import reads, writes
from certmint.registry.engine import Database

MOST_A_DAY = 5  # new messages to one address
MOST_OF_ALL = 500  # new messages of one manufacturer in a day, to whomever
PAUSE = dt.timedelta(hours=1)  # between two copies of one message
_CLAIM = dt.timedelta(minutes=5)  # longer than any conversation with a mail server
_LONGEST_WAIT = dt.timedelta(hours=6)
_AT_ONCE = 50  # messages of one round of the job

Send = Callable[[str, str, bytes], None]
"""Sender, recipient, message. Raises Unavailable, Refused or Misconfigured, `mail-…`."""


@dataclass(frozen=True)
class Post:
    """How mail leaves this installation. `base_url` is the https:// base of the approval page."""

    send: Send
    sender: str
    base_url: str
    vault: Vault


def accepted_addresses(domain: str) -> tuple[str, ...]:
    """Whom a proof for `domain` may be asked of: five contacts of it and of each parent.

    Raises BadInput `name-syntax`, Refused `mail-domain`.
    """
    name = parse_name(domain)
    if isinstance(name, IPName) or name.is_wildcard:
        raise BadInput("name-syntax", f"{domain!r}: give the domain itself, without a wildcard")
    found = authorization_domains(name)
    if not found:
        raise Refused(
            "mail-domain",
            f"{domain} is a public suffix or under no known one, so nobody there gets mail: "
            "use another method",
        )
    return tuple(address for each in found for address in contact_addresses(DNSName(each)))


def begin(
    db: Database,
    tenant: Manufacturer,
    post: Post,
    domain: str,
    recipients: Sequence[str],
    *,
    by: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> tuple[DomainValidation, list[DomainMail]]:
    """Open one attempt and queue a message to each recipient; `deliver` sends them.

    What is validated is the recipients' domain: `domain` or a parent of it. Raises BadInput
    `name-syntax` or `mail-recipient`, Refused `mail-domain`, TooOften `mail-too-often`.
    """
    wanted = tuple(dict.fromkeys(each.lower() for each in recipients))
    _check(domain, wanted)
    adn = wanted[0].partition("@")[2]
    attempt = DomainValidation(
        id=new_id("val", now, random_bytes),
        tenant_id=tenant.id,
        domain=adn,
        method=ValidationMethod.EMAIL,
        random_value="",
        record_name="",
        created_at=now,
        expires_at=now + VALUE_LIFE,
    )
    mails = [
        _composed(post, tenant, attempt, str(parse_name(domain)), each, now, random_bytes)
        for each in wanted
    ]

    def work(tx: writes.Transaction) -> None:
        _limit_all(tx, tenant, len(wanted), now)
        for each in wanted:
            _limit(tx, tenant, each, now)
        writes.add_domain_validation(tx, attempt, by=by, at=now)
        writes.add_domain_mails(tx, mails, by=by, at=now)

    db.write(work)
    return attempt, mails


def _check(domain: str, wanted: tuple[str, ...]) -> None:
    accepted = accepted_addresses(domain)
    wrong = [each for each in wanted if each not in accepted]
    if wrong or not wanted:
        asked = f"{wrong[0]!r} may not answer for {domain}" if wrong else "nobody was chosen"
        raise BadInput("mail-recipient", f"{asked}: choose among {', '.join(accepted)}")
    if len({each.partition("@")[2] for each in wanted}) > 1:
        raise BadInput(
            "mail-recipient",
            f"{', '.join(wanted)} are of several domains: one attempt validates one domain",
        )


def _limit_all(tx: writes.Transaction, tenant: Manufacturer, more: int, now: dt.datetime) -> None:
    """Nobody writes to the contacts of the whole Internet in our name."""
    day = dt.timedelta(days=1)
    if reads.count_domain_mails(tx, tenant.id, None, now - day) + more > MOST_OF_ALL:
        raise TooOften(
            "mail-too-often",
            f"{tenant.slug} wrote {MOST_OF_ALL} messages within a day: wait a day",
            retry_after=int(day.total_seconds()),
        )


def _limit(tx: writes.Transaction, tenant: Manufacturer, recipient: str, now: dt.datetime) -> None:
    day = dt.timedelta(days=1)
    if reads.count_domain_mails(tx, tenant.id, recipient, now - day) >= MOST_A_DAY:
        raise TooOften(
            "mail-too-often",
            f"{recipient} was written to {MOST_A_DAY} times within a day: wait a day",
            retry_after=int(day.total_seconds()),
        )


def _composed(
    post: Post,
    tenant: Manufacturer,
    attempt: DomainValidation,
    applied_for: str,
    recipient: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> DomainMail:
    value = base64.b32encode(random_bytes(20)).decode().lower()
    mail_id = new_id("mail", now, random_bytes)
    made = EmailMessage(policy=SMTP)
    made["From"] = post.sender
    made["To"] = recipient
    made["Subject"] = f"May {attempt.domain} have certificates?"
    made["Date"] = format_datetime(now)
    made["Message-ID"] = f"<{mail_id}@{post.sender.rpartition('@')[2].strip('>')}>"
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office notes, please
    made["X-Auto-Response-Suppress"] = "All"
    made.set_content(_text(post, tenant, attempt, applied_for, value))
    return DomainMail(
        id=mail_id,
        tenant_id=tenant.id,
        validation_id=attempt.id,
        recipient=recipient,
        applied_for=applied_for,
        value_hash=hash_of(value),
        sealed=post.vault.lock(made.as_bytes(), mail_id, random_bytes),
        state=MailState.QUEUED,
        created_at=now,
        expires_at=attempt.expires_at,
        due_at=now,
    )


def _text(
    post: Post, tenant: Manufacturer, attempt: DomainValidation, applied_for: str, value: str
) -> str:
    below = "" if applied_for == attempt.domain else f" (it asked for {applied_for})"
    return f"""\
Hello,

{display_name(tenant)} makes connected devices, and wants certificates for
them under {attempt.domain}{below}.

You get this message because you answer for that domain. If you agree, open

{post.base_url}/approve/{value}

and press "Approve". The page says what it allows, and you can decline there
as well. Opening it decides nothing.

If you do nothing, nothing happens: the link works once, and until
{attempt.expires_at:%d %B %Y}.
"""


def display_name(tenant: Manufacturer) -> str:
    """What a contact is told of who asks: one line of printable characters."""
    name = tenant.subject.get("O") or tenant.slug
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())[:64]


def hash_of(value: str) -> str:
    """What the registry knows of a random value."""
    return hashlib.sha256(value.encode()).hexdigest()


def deliver(db: Database, post: Post, mail: DomainMail, now: dt.datetime) -> bool:
    """Send one queued message; False if another process is sending it.

    Raises what the mail server said: Unavailable and Misconfigured leave the message queued for
    later, Refused `mail-refused` ends it. A crash between the server's yes and our note sends the
    same message again.
    """
    taken = db.write(lambda tx: writes.take_domain_mail(tx, mail.tenant_id, mail, now + _CLAIM))
    if not taken:
        return False
    try:
        post.send(post.sender, mail.recipient, post.vault.unlock(mail.sealed, mail.id))
    except Refused as refusal:
        _move(db, mail, MailEvent.FAILED, "mail", now, failure=refusal.detail)
        raise
    except CertmintError as error:
        failure = error.detail
        wait = min(dt.timedelta(minutes=2 ** min(mail.attempts, 10)), _LONGEST_WAIT)
        db.write(
            lambda tx: writes.postpone_domain_mail(tx, mail.tenant_id, mail.id, now + wait, failure)
        )
        raise
    _move(db, mail, MailEvent.SENT, "mail", now)
    return True


def deliver_due(
    db: Database, post: Post, now: dt.datetime
) -> list[tuple[DomainMail, CertmintError]]:
    """Send what is queued and due; the failures. A server that is down ends the round."""
    with db.read() as tx:
        due = reads.due_domain_mails(tx, now, _AT_ONCE)
    failed: list[tuple[DomainMail, CertmintError]] = []
    for mail in due:
        try:
            deliver(db, post, mail, now)
        except Unavailable as error:
            return [*failed, (mail, error)]
        except CertmintError as error:
            failed.append((mail, error))
    return failed


def resend(
    db: Database,
    tenant: Manufacturer,
    post: Post,
    attempt_id: str,
    *,
    by: str,
    now: dt.datetime,
) -> list[DomainMail]:
    """Send the same messages of an attempt again; those that were.

    Raises NotFound `validation-unknown`, WrongState `validation-done`, Refused
    `validation-expired`, TooOften `mail-too-often`, and what `deliver` raises.
    """
    attempt = validation(db, tenant, attempt_id)
    if attempt.verified_at is not None:
        raise WrongState("validation-done", f"validation {attempt_id} was completed already")
    if now >= attempt.expires_at:
        raise Refused("validation-expired", f"the messages of {attempt_id} expired: begin again")
    with db.read() as tx:
        found = reads.domain_mails(tx, tenant.id, attempt_id)
    _pause(found, now)
    again = [mail for mail in found if mail.state is MailState.QUEUED]
    for mail in found:
        if mail.state is MailState.SENT:
            _move(db, mail, MailEvent.RESENT, by, now)
            again.append(replace(mail, state=MailState.QUEUED, due_at=now))
    for mail in again:
        deliver(db, post, mail, now)
    return again


def _pause(mails: Sequence[DomainMail], now: dt.datetime) -> None:
    for mail in mails:
        if mail.state is MailState.SENT and mail.sent_at is not None and now < mail.sent_at + PAUSE:
            raise TooOften(
                "mail-too-often",
                f"{mail.recipient} got the message at {mail.sent_at:%H:%M} UTC: wait an hour",
                retry_after=int((mail.sent_at + PAUSE - now).total_seconds()) + 1,
            )


def _move(
    db: Database,
    mail: DomainMail,
    event: MailEvent,
    by: str,
    now: dt.datetime,
    failure: str = "",
) -> None:
    before = MailState.SENT if event is MailEvent.RESENT else MailState.QUEUED

    def work(tx: writes.Transaction) -> None:
        writes.move_domain_mail(
            tx, mail.tenant_id, mail.id, before, event, by=by, at=now, failure=failure
        )

    try:
        db.write(work)
    except WrongState:
        if event is not MailEvent.SENT:
            raise
        # The contact was faster than our note: the answer stands.
