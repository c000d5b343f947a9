"""Writing logins by an OpenID provider: linked identities, logins under way, sessions."""

import datetime as dt

import sqlalchemy as sa

from certmint.model.errors import Conflict, NotFound
from certmint.registry import schema
from certmint.registry.engine import Transaction
from certmint.registry.reads.logins import DeviceLogin
from certmint.registry.statements import add, count, log

LOGINS = 10_000  # browsers under way for one tenant: whoever begins more pushes out the oldest
SESSIONS = 20  # of one owner: the oldest ends
_SWEEP = 1_000  # rows at once

_IDENTITY = schema.owner_identity.c
_DEVICE = schema.device_login.c
_LOGIN = schema.owner_login.c
_SESSION = schema.owner_session.c


def link_identity(
    tx: Transaction, tenant_id: str, owner_id: str, issuer: str, subject: str, *, by: str,
    at: dt.datetime,
) -> None:  # fmt: skip
    """This person is this owner. Raises Conflict `identity-linked`."""
    taken = Conflict("identity-linked", "this person is linked with an owner already")
    row = {
        "tenant_id": tenant_id, "issuer": issuer, "subject": subject, "owner_id": owner_id,
        "linked_at": at,
    }  # fmt: skip
    add(tx, schema.owner_identity, row, taken)
    log(tx, "owner.identity-linked", tenant_id, owner_id, by=by, at=at, issuer=issuer)


def unlink_identity(
    tx: Transaction, tenant_id: str, owner_id: str, issuer: str, subject: str, *, by: str,
    at: dt.datetime,
) -> None:  # fmt: skip
    """This person is this owner no more, and the owner's sessions and grants end.

    Raises NotFound `link-unknown`.
    """
    gone = count(
        tx,
        sa.delete(schema.owner_identity).where(
            _IDENTITY.tenant_id == tenant_id,
            _IDENTITY.owner_id == owner_id,
            _IDENTITY.issuer == issuer,
            _IDENTITY.subject == subject,
        ),
    )
    if not gone:
        raise NotFound("link-unknown", f"nobody is linked as {subject!r} of {issuer}")
    for table in (schema.owner_session, schema.device_login):
        tx.execute(
            sa.delete(table).where(table.c.tenant_id == tenant_id, table.c.owner_id == owner_id)
        )
    log(tx, "owner.link-unknown", tenant_id, owner_id, by=by, at=at, issuer=issuer)


def begin_device_login(tx: Transaction, tenant_id: str, begun: DeviceLogin) -> None:
    """A device waits for its owner; what it waited for before ends, and what ran out goes."""
    stale = (
        sa.select(_DEVICE.device_id)
        .where(_DEVICE.tenant_id == tenant_id, _DEVICE.expires_at <= begun.begun_at)
        .limit(_SWEEP)
    )
    tx.execute(
        sa.delete(schema.device_login).where(
            _DEVICE.tenant_id == tenant_id,
            (_DEVICE.device_id == begun.device_id) | _DEVICE.device_id.in_(stale),
        )
    )
    tx.execute(sa.insert(schema.device_login), {"tenant_id": tenant_id, **vars(begun)})


def take_device_poll(
    tx: Transaction, tenant_id: str, login: DeviceLogin, now: dt.datetime, until: dt.datetime
) -> bool:
    """Whether it is this caller's turn to ask the provider; the next one is at `until`."""
    taken = count(
        tx,
        sa.update(schema.device_login)
        .where(*_still(tenant_id, login), _DEVICE.poll_at <= now)
        .values(poll_at=until),
    )
    return taken == 1


def slow_device_login(
    tx: Transaction, tenant_id: str, login: DeviceLogin, interval: int, until: dt.datetime
) -> None:
    """The provider wants to be asked less often (RFC 8628 3.5)."""
    tx.execute(
        sa.update(schema.device_login)
        .where(*_still(tenant_id, login))
        .values(interval=interval, poll_at=until)
    )


def grant_device_login(
    tx: Transaction, tenant_id: str, login: DeviceLogin, owner_id: str, *, at: dt.datetime,
    until: dt.datetime,
) -> None:  # fmt: skip
    """The owner logged in; that counts until `until`. Raises Conflict `login-over`."""
    granted = count(
        tx,
        sa.update(schema.device_login)
        .where(*_still(tenant_id, login))
        .values(owner_id=owner_id, granted_at=at, expires_at=until),
    )
    if granted != 1:
        raise Conflict("login-over", "this login ended meanwhile: begin again")
    by = f"owner:{owner_id}"
    log(tx, "device.login-granted", tenant_id, login.device_id, by=by, at=at, login=login.id)


def end_device_login(tx: Transaction, tenant_id: str, login: DeviceLogin) -> None:
    """The device waits no more."""
    tx.execute(sa.delete(schema.device_login).where(*_still(tenant_id, login)))


def begin_owner_login(
    tx: Transaction, tenant_id: str, state_hash: str, *, at: dt.datetime, until: dt.datetime,
    keep: int = LOGINS,
) -> None:  # fmt: skip
    """A browser is sent to the provider; what ran out goes, and the oldest of more than `keep`."""
    mine = _LOGIN.tenant_id == tenant_id
    stale = sa.select(_LOGIN.state_hash).where(mine, _LOGIN.expires_at <= at).limit(_SWEEP)
    tx.execute(sa.delete(schema.owner_login).where(mine, _LOGIN.state_hash.in_(stale)))
    row = {"tenant_id": tenant_id, "state_hash": state_hash, "begun_at": at, "expires_at": until}
    tx.execute(sa.insert(schema.owner_login), row)
    there = sa.select(sa.func.count()).select_from(schema.owner_login).where(mine)
    over = tx.execute(there).scalar_one() - keep
    if over > 0:
        oldest = sa.select(_LOGIN.state_hash).where(mine).order_by(_LOGIN.begun_at).limit(over)
        tx.execute(sa.delete(schema.owner_login).where(mine, _LOGIN.state_hash.in_(oldest)))


def spend_owner_login(tx: Transaction, tenant_id: str, state_hash: str, now: dt.datetime) -> bool:
    """Whether this login was under way; it is spent now."""
    spent = count(
        tx,
        sa.delete(schema.owner_login).where(
            _LOGIN.tenant_id == tenant_id,
            _LOGIN.state_hash == state_hash,
            _LOGIN.expires_at > now,
        ),
    )
    return spent == 1


def open_session(
    tx: Transaction, tenant_id: str, owner_id: str, token_hash: str, *, at: dt.datetime,
    until: dt.datetime, keep: int = SESSIONS,
) -> None:  # fmt: skip
    """A session of an owner; those that ran out go, and the oldest of more than `keep`."""
    theirs = (_SESSION.tenant_id == tenant_id) & (_SESSION.owner_id == owner_id)
    tx.execute(sa.delete(schema.owner_session).where(theirs, _SESSION.expires_at <= at))
    newest = (
        sa.select(_SESSION.token_hash)
        .where(theirs)
        .order_by(_SESSION.begun_at.desc())
        .limit(keep - 1)
    )
    tx.execute(sa.delete(schema.owner_session).where(theirs, _SESSION.token_hash.not_in(newest)))
    row = {
        "tenant_id": tenant_id, "token_hash": token_hash, "owner_id": owner_id, "begun_at": at,
        "expires_at": until,
    }  # fmt: skip
    tx.execute(sa.insert(schema.owner_session), row)
    log(tx, "owner.session-opened", tenant_id, owner_id, by=f"owner:{owner_id}", at=at)


def close_session(
    tx: Transaction, tenant_id: str, owner_id: str, token_hash: str, *, at: dt.datetime
) -> None:
    """A session ends, if it is there."""
    gone = count(
        tx,
        sa.delete(schema.owner_session).where(
            _SESSION.tenant_id == tenant_id, _SESSION.token_hash == token_hash
        ),
    )
    if gone:
        log(tx, "owner.session-closed", tenant_id, owner_id, by=f"owner:{owner_id}", at=at)


def _still(tenant_id: str, login: DeviceLogin) -> tuple[sa.ColumnElement[bool], ...]:
    """This very login, waiting: no newer one, and nobody logged in yet."""
    return (
        _DEVICE.tenant_id == tenant_id,
        _DEVICE.device_id == login.device_id,
        _DEVICE.id == login.id,
        _DEVICE.owner_id.is_(None),
    )
