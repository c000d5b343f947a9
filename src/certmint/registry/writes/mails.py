"""Writing e-mail to domain contacts, and the warning that a proof of control will lapse."""

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa

from certmint.model.errors import WrongState
from certmint.model.mail import MAIL, DomainMail, MailEvent, MailState
from certmint.model.states import after
from certmint.registry import schema
from certmint.registry.engine import Transaction
from certmint.registry.statements import count, insert_if_absent, log

_MAIL = schema.domain_mail.c


def add_domain_mails(
    tx: Transaction, mails: Sequence[DomainMail], *, by: str, at: dt.datetime
) -> None:
    """New messages of one attempt, queued."""
    insert_if_absent(
        tx, schema.domain_mail, [vars(each) | {"state": each.state.value} for each in mails]
    )
    for each in mails:
        log(
            tx, "mail.queued", each.tenant_id, each.id,
            by=by, at=at, validation=each.validation_id, recipient=each.recipient,
        )  # fmt: skip


def take_domain_mail(tx: Transaction, tenant_id: str, mail: DomainMail, until: dt.datetime) -> bool:
    """Whether the queued message is the caller's to send, until then; nobody else took it."""
    taken = count(
        tx,
        sa.update(schema.domain_mail)
        .where(
            _MAIL.tenant_id == tenant_id,
            _MAIL.id == mail.id,
            _MAIL.state == MailState.QUEUED,
            _MAIL.due_at == mail.due_at,
        )
        .values(due_at=until, attempts=_MAIL.attempts + 1),
    )
    return taken == 1


def postpone_domain_mail(
    tx: Transaction, tenant_id: str, mail_id: str, due_at: dt.datetime, failure: str
) -> bool:
    """Try the queued message again then; `failure` says what happened. Not audited: it is a retry.

    False if it is no longer queued.
    """
    changed = count(
        tx,
        sa.update(schema.domain_mail)
        .where(_MAIL.tenant_id == tenant_id, _MAIL.id == mail_id, _MAIL.state == MailState.QUEUED)
        .values(due_at=due_at, failure=failure),
    )
    return changed == 1


def move_domain_mail(
    tx: Transaction,
    tenant_id: str,
    mail_id: str,
    state: MailState,
    event: MailEvent,
    *,
    by: str,
    at: dt.datetime,
    failure: str = "",
    source: str = "",
) -> None:
    """One move of its table. Raises WrongState `wrong-state` if somebody else moved it first.

    An answer wipes the sealed message, so that its value is nowhere any more.
    """
    target = after(MAIL, state, event)
    values: dict[str, object] = {"state": target, "failure": failure}
    if event is MailEvent.SENT:
        values["sent_at"] = at
    elif event is MailEvent.RESENT:
        values["due_at"] = at
    elif event in (MailEvent.APPROVED, MailEvent.DECLINED):
        values |= {"answered_at": at, "source": source, "sealed": b""}
    changed = count(
        tx,
        sa.update(schema.domain_mail)
        .where(_MAIL.tenant_id == tenant_id, _MAIL.id == mail_id, _MAIL.state == state)
        .values(**values),
    )
    if not changed:
        raise WrongState("wrong-state", f"message {mail_id!r} is no longer {state}")
    told = {"failure": failure, "source": source}
    detail = {name: value for name, value in told.items() if value}
    log(tx, f"mail.{event}", tenant_id, mail_id, by=by, at=at, **detail)


def note_domain_lapsing(
    tx: Transaction,
    tenant_id: str,
    validation_id: str,
    *,
    by: str,
    at: dt.datetime,
    **detail: object,
) -> bool:
    """Say once in the audit log that a proof will soon be too old; False if that was said."""
    column = schema.domain_validation.c
    told = count(
        tx,
        sa.update(schema.domain_validation)
        .where(
            column.tenant_id == tenant_id,
            column.id == validation_id,
            column.verified_at.is_not(None),
            column.lapse_told_at.is_(None),
        )
        .values(lapse_told_at=at),
    )
    if told:
        log(tx, "domain.lapsing", tenant_id, validation_id, by=by, at=at, **detail)
    return told == 1
