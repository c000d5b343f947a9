"""Reading e-mail to domain contacts."""

import datetime as dt

import sqlalchemy as sa

from certmint.model.mail import DomainMail, MailState
from certmint.registry import rows, schema
from certmint.registry.engine import Transaction

_MAIL = schema.domain_mail.c
_QUEUED = sa.text("state = 'queued'")  # in the words of the index


def domain_mail_by_value(tx: Transaction, value_hash: str) -> DomainMail | None:
    """The message whose random value has this hash, of any tenant: the value is the credential."""
    query = sa.select(schema.domain_mail).where(_MAIL.value_hash == value_hash)
    row = tx.execute(query).one_or_none()
    return None if row is None else _mail_of(row)


def domain_mails(tx: Transaction, tenant_id: str, validation_id: str) -> list[DomainMail]:
    """The messages of one attempt to show control of a domain, by recipient."""
    query = (
        sa.select(schema.domain_mail)
        .where(_MAIL.tenant_id == tenant_id, _MAIL.validation_id == validation_id)
        .order_by(_MAIL.recipient)
    )
    return [_mail_of(row) for row in tx.execute(query)]


def count_domain_mails(
    tx: Transaction, tenant_id: str, recipient: str | None, since: dt.datetime
) -> int:
    """How many messages to this address the tenant began since then; None: to anybody."""
    query = sa.select(sa.func.count()).where(_MAIL.tenant_id == tenant_id, _MAIL.created_at > since)
    if recipient is not None:
        query = query.where(_MAIL.recipient == recipient)
    return int(tx.execute(query).scalar_one())


def due_domain_mails(tx: Transaction, now: dt.datetime, limit: int) -> list[DomainMail]:
    """Messages of every tenant that are to be tried now and have not expired, longest due first."""
    query = (
        sa.select(schema.domain_mail)
        .where(_QUEUED, _MAIL.due_at <= now, _MAIL.expires_at > now)
        .order_by(_MAIL.due_at)
        .limit(limit)
    )
    return [_mail_of(row) for row in tx.execute(query)]


def _mail_of(row: rows.Row) -> DomainMail:
    values = dict(row._mapping)  # noqa: SLF001 - the public name of a row's mapping
    return DomainMail(**values | {"state": MailState(row.state)})
