"""Reading logins by an OpenID provider: linked identities, logins under way, sessions."""

import datetime as dt
from dataclasses import dataclass, field

import sqlalchemy as sa

from certmint.model.entities import Owner
from certmint.registry import rows, schema
from certmint.registry.engine import Transaction

_IDENTITY = schema.owner_identity.c
_DEVICE = schema.device_login.c
_SESSION = schema.owner_session.c
_OWNER = schema.owner.c


@dataclass(frozen=True)
class LinkedIdentity:
    """Somebody at a provider, and the owner that they are here."""

    issuer: str
    subject: str
    username: str
    linked_at: dt.datetime


@dataclass(frozen=True)
class DeviceLogin:
    """A device's login under way; `owner_id` is who logged in, None until then.

    `request_hash` is SHA-256 of the CSR that it is for; `interval` is in seconds; `device_code`
    is encrypted.
    """

    device_id: str
    id: str
    request_hash: str
    device_code: bytes = field(repr=False)
    interval: int
    begun_at: dt.datetime
    poll_at: dt.datetime
    expires_at: dt.datetime
    owner_id: str | None = None
    granted_at: dt.datetime | None = None


def owner_of_identity(tx: Transaction, tenant_id: str, issuer: str, subject: str) -> Owner | None:
    """The owner who is linked with this person."""
    query = (
        sa.select(schema.owner)
        .join(
            schema.owner_identity,
            (_IDENTITY.tenant_id == _OWNER.tenant_id) & (_IDENTITY.owner_id == _OWNER.id),
        )
        .where(
            _IDENTITY.tenant_id == tenant_id,
            _IDENTITY.issuer == issuer,
            _IDENTITY.subject == subject,
        )
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else rows.owner_of(row)


def owner_identities(
    tx: Transaction, tenant_id: str, after: tuple[str, str] | None, limit: int
) -> list[LinkedIdentity]:
    """Linked identities in the order of issuer and subject, after that one."""
    query = (
        sa.select(schema.owner_identity, _OWNER.username)
        .join(
            schema.owner,
            (_IDENTITY.tenant_id == _OWNER.tenant_id) & (_IDENTITY.owner_id == _OWNER.id),
        )
        .where(_IDENTITY.tenant_id == tenant_id)
    )
    if after is not None:
        query = query.where(sa.tuple_(_IDENTITY.issuer, _IDENTITY.subject) > sa.tuple_(*after))
    return [
        LinkedIdentity(row.issuer, row.subject, row.username, row.linked_at)
        for row in tx.execute(query.order_by(_IDENTITY.issuer, _IDENTITY.subject).limit(limit))
    ]


def device_login(tx: Transaction, tenant_id: str, device_id: str) -> DeviceLogin | None:
    """A device's login under way, over or not."""
    columns = [column for column in schema.device_login.c if column.name != "tenant_id"]
    row = (
        tx.execute(
            sa.select(*columns).where(
                _DEVICE.tenant_id == tenant_id, _DEVICE.device_id == device_id
            )
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else DeviceLogin(**row)


def owner_of_session(tx: Transaction, token_hash: str, now: dt.datetime) -> Owner | None:
    """Whose session this is, of every tenant: the token says which."""
    query = (
        sa.select(schema.owner)
        .join(
            schema.owner_session,
            (_SESSION.tenant_id == _OWNER.tenant_id) & (_SESSION.owner_id == _OWNER.id),
        )
        .where(_SESSION.token_hash == token_hash, _SESSION.expires_at > now)
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else rows.owner_of(row)
