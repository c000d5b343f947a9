"""Operators, the tokens that programs show for them, and the sessions that browsers do.

Laws: a token is shown once and known by its hash; it ends by itself; a session is opened with a
token, has that token's scopes at most, and ends within hours, when it is closed, or when the
operator changes.
"""

import base64
import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from certmint.enrolment.manufacturers import new_id
from certmint.model.desk import APIToken
from certmint.model.entities import Manufacturer, Operator, Role
from certmint.model.errors import BadInput, Forbidden, NotFound, Unauthenticated
from certmint.model.operations import Scope
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

# They mark tokens for secret scanners.
TOKEN_PREFIX = "cmt_"  # noqa: S105
SESSION_PREFIX = "cmo_"
SESSION_LIFE = dt.timedelta(hours=8)
MOST_LIFE = dt.timedelta(days=400)
_TOKEN_BYTES = 32
_NAME = 64


@dataclass(frozen=True)
class NewToken:
    """A token as its one reader sees it."""

    token: APIToken
    secret: str = field(repr=False)


def add_operator(
    db: Database,
    tenant: Manufacturer,
    name: str,
    role: Role,
    *,
    by: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
    lifetime: dt.timedelta | None = None,
    scopes: Sequence[str] | None = None,
) -> tuple[Operator, NewToken | None]:
    """A new operator, with a first token if `lifetime` says how long that is to live.

    Raises BadInput `operator-syntax`, `token-syntax`; Conflict `operator-exists`.
    """
    if not 1 <= len(name) <= _NAME or not name.isprintable():
        raise BadInput("operator-syntax", f"an operator's name has 1 to {_NAME} characters")
    made = Operator(new_id("opr", now, random_bytes), tenant.id, name, role)
    first = None
    if lifetime is not None:
        first = _token(made, "first", lifetime, scopes, now, random_bytes)

    def work(tx: Transaction) -> None:
        writes.add_operator(tx, made, by=by, at=now)
        if first is not None:
            writes.add_token(tx, first.token, token_hash(first.secret), by=by, at=now)

    db.write(work)
    return made, first


def add_token(
    db: Database,
    tenant_id: str,
    operator_id: str,
    name: str,
    lifetime: dt.timedelta,
    *,
    by: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
    scopes: Sequence[str] | None = None,
    within: frozenset[Scope] | None = None,
) -> NewToken:
    """Another token of an operator; its value exists nowhere but in this answer.

    `within` are the scopes of whoever makes it, None for no bound: nobody gives what they do not
    have. Raises NotFound `operator-unknown`, BadInput `token-syntax`, Forbidden `scope-forbids`.
    """
    found = operator_of(db, tenant_id, operator_id)
    made = _token(found, name, lifetime, scopes, now, random_bytes)
    if within is not None and (made.token.scopes is None or not made.token.scopes <= within):
        raise Forbidden(
            "scope-forbids",
            f"a narrowed token gives no more than it has: name some of {', '.join(sorted(within))}",
        )
    db.write(lambda tx: writes.add_token(tx, made.token, token_hash(made.secret), by=by, at=now))
    return made


def _token(
    operator: Operator,
    name: str,
    lifetime: dt.timedelta,
    scopes: Sequence[str] | None,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> NewToken:
    if not 1 <= len(name) <= _NAME or not name.isprintable():
        raise BadInput("token-syntax", f"a token's name has 1 to {_NAME} characters")
    if not dt.timedelta(0) < lifetime <= MOST_LIFE:
        raise BadInput("token-syntax", f"a token lives for 1 to {MOST_LIFE.days} days")
    token = APIToken(
        id=new_id("tok", now, random_bytes),
        tenant_id=operator.tenant_id,
        operator_id=operator.id,
        name=name,
        scopes=None if scopes is None else frozenset(map(_scope, scopes)),
        created_at=now,
        expires_at=now + lifetime,
    )
    return NewToken(token, _secret(TOKEN_PREFIX, random_bytes))


def _scope(text: str) -> Scope:
    try:
        return Scope(text)
    except ValueError:
        known = ", ".join(Scope)
        raise BadInput("token-syntax", f"{text!r} is not a scope: use some of {known}") from None


def operator_of(db: Database, tenant_id: str, operator_id: str) -> Operator:
    """Raises NotFound `operator-unknown`."""
    with db.read() as tx:
        found = reads.operator(tx, tenant_id, operator_id)
    if found is None:
        raise NotFound("operator-unknown", f"there is no operator {operator_id!r}")
    return found


def operator_named(db: Database, tenant_id: str, name: str) -> Operator:
    """Raises NotFound `operator-unknown`."""
    with db.read() as tx:
        found = reads.operator_by_name(tx, tenant_id, name)
    if found is None:
        raise NotFound(
            "operator-unknown", f"there is no operator {name!r}: see `certmint operator list`"
        )
    return found


def revoke_token(db: Database, tenant_id: str, token_id: str, *, by: str, now: dt.datetime) -> None:
    """Raises NotFound `token-unknown`."""
    db.write(lambda tx: writes.revoke_token(tx, tenant_id, token_id, by=by, at=now))


def close_sessions(
    db: Database, tenant_id: str, operator_id: str, *, by: str, now: dt.datetime
) -> int:
    """End every session of an operator; how many. Raises NotFound `operator-unknown`."""
    operator_of(db, tenant_id, operator_id)
    return db.write(
        lambda tx: writes.close_operator_sessions(tx, tenant_id, operator_id, by=by, at=now)
    )


def change_operator(
    db: Database,
    before: Operator,
    *,
    role: Role,
    disabled: bool,
    by: str,
    now: dt.datetime,
    within: frozenset[Scope] | None = None,
    administrators: int = 0,
) -> Operator:
    """Another role, or shut out, or let in again.

    `within` are the scopes of whoever does it, None for no bound: with a narrowed token nobody
    gets more rights. At least so many `administrators` must be able to come in afterwards; the
    machine itself, where another one can always be made, asks for none. Raises Conflict
    `changed-meanwhile` or `last-administrator`, Forbidden `scope-forbids`.
    """
    if within is not None and (role is not before.role or (before.disabled and not disabled)):
        raise Forbidden(
            "scope-forbids", "a narrowed token can shut an operator out, and give no other role"
        )
    now_is = replace(before, role=role, disabled=disabled)
    db.write(
        lambda tx: writes.change_operator(
            tx, before, now_is, by=by, at=now, administrators=administrators
        )
    )
    return now_is


def authenticate(
    db: Database, secret: str, now: dt.datetime
) -> tuple[Operator, frozenset[Scope] | None]:
    """Whose token or session this is, with its scopes. Raises Unauthenticated `token-invalid`."""
    found = None
    if secret.startswith(TOKEN_PREFIX):
        with db.read() as tx:
            found = reads.operator_by_token(tx, token_hash(secret), now)
    elif secret.startswith(SESSION_PREFIX):
        with db.read() as tx:
            found = reads.operator_by_session(tx, token_hash(secret), now)
    if found is None:
        raise Unauthenticated(
            "token-invalid", "the token is unknown, revoked or expired, or its operator disabled"
        )
    return found


def open_session(
    db: Database,
    operator: Operator,
    scopes: frozenset[Scope] | None,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> tuple[str, dt.datetime]:
    """A session for somebody who has been authenticated: its secret, and when it ends."""
    secret = _secret(SESSION_PREFIX, random_bytes)
    until = now + SESSION_LIFE
    db.write(
        lambda tx: writes.open_operator_session(
            tx, operator, token_hash(secret), scopes, at=now, until=until
        )
    )
    return secret, until


def close_session(db: Database, operator: Operator, secret: str, now: dt.datetime) -> None:
    """End this session; one that is over already is no error."""
    db.write(
        lambda tx: writes.close_operator_sessions(
            tx, operator.tenant_id, operator.id,
            by=f"operator:{operator.id}", at=now, token_hash=token_hash(secret),
        )
    )  # fmt: skip


def _secret(prefix: str, random_bytes: RandomBytes) -> str:
    return prefix + base64.b32encode(random_bytes(_TOKEN_BYTES)).decode().rstrip("=").lower()


def token_hash(token: str) -> str:
    """How the registry knows a token. It has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
