"""Reading ACME's directories, accounts, bindings, orders, authorizations and challenges.

What belongs to an account is read by the account's id, and never shows another account's. Only
what serves the jobs of every tenant (stale orders and challenges) takes neither.
"""

import datetime as dt
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from certmint.model.acme import (
    Account,
    Authorization,
    AuthorizationState,
    Binding,
    Challenge,
    Directory,
    Order,
    OrderState,
)
from certmint.model.serial import Serial
from certmint.registry import acme_rows, schema
from certmint.registry.compiled import Among, Compiled
from certmint.registry.engine import Transaction
from certmint.registry.memory import Memory, memory_of
from certmint.registry.rows import Row

_MANUFACTURER = schema.manufacturer.c
_DIRECTORY = schema.acme_directory.c
_ACCOUNT = schema.acme_account.c
_BINDING = schema.acme_binding.c
_ORDER = schema.acme_order.c
_PART = schema.acme_order_authorization.c
_AUTHORIZATION = schema.acme_authorization.c
_CHALLENGE = schema.acme_challenge.c

# In the words of the partial indexes: a bound value would not let the planner use them.
_IS_PENDING = sa.text("state = 'pending'")
_IS_PROCESSING = sa.text("state = 'processing'")
_IS_LIVE = sa.text("acme_authorization.state IN ('pending', 'valid')")
_IS_PENDING_ORDER = sa.text("acme_order.state = 'pending'")

_DIRECTORY_BY_URL = Compiled(
    sa.select(schema.acme_directory)
    .join(schema.manufacturer, _MANUFACTURER.id == _DIRECTORY.tenant_id)
    .where(_MANUFACTURER.slug == sa.bindparam("slug"), _DIRECTORY.name == sa.bindparam("name")),
    of=acme_rows.directory_of,
    settled=(schema.acme_directory, schema.manufacturer),
)
_ACCOUNT_BY_ID = Compiled(
    sa.select(schema.acme_account).where(
        _ACCOUNT.directory_id == sa.bindparam("directory_id"), _ACCOUNT.id == sa.bindparam("id")
    ),
    of=acme_rows.account_of,
    settled=(schema.acme_account,),
)
_BINDING_BY_ID = Compiled(
    sa.select(schema.acme_binding).where(
        _BINDING.directory_id == sa.bindparam("directory_id"), _BINDING.id == sa.bindparam("id")
    ),
    of=acme_rows.binding_of,
    settled=(schema.acme_binding,),
)
_PENDING_ORDERS = Compiled(
    sa.select(sa.func.count().label("pending"))
    .select_from(schema.acme_order)
    .where(
        _ORDER.account_id == sa.bindparam("account_id"),
        _ORDER.expires_at > sa.bindparam("now"),
        _IS_PENDING,
    )
)

_ORDER_BY_ID = Compiled(
    sa.select(schema.acme_order).where(
        _ORDER.account_id == sa.bindparam("account_id"), _ORDER.id == sa.bindparam("id")
    )
)
_PARTS = Among(
    sa.select(_PART.order_id, _PART.authorization_id).order_by(_PART.order_id, _PART.position),
    _PART.order_id,
)
_ORDERS_OF_AUTHORIZATION = Compiled(
    sa.select(schema.acme_order)
    .join(schema.acme_order_authorization, _PART.order_id == _ORDER.id)
    .where(_PART.authorization_id == sa.bindparam("authorization_id"))
    .order_by(_ORDER.created_at, _ORDER.id)
)
_OTHER_PART = schema.acme_order_authorization.alias("other_part")
_OTHER = schema.acme_authorization.alias("other")
_ORDERS_AUTHORIZED = Compiled(
    sa.select(_ORDER.id)
    .join(schema.acme_order_authorization, _PART.order_id == _ORDER.id)
    .where(
        _PART.authorization_id == sa.bindparam("authorization_id"),
        _IS_PENDING_ORDER,
        ~sa.exists().where(
            _OTHER_PART.c.order_id == _ORDER.id,
            _OTHER_PART.c.authorization_id == _OTHER.c.id,
            _OTHER.c.id != sa.bindparam("authorization_id"),
            _OTHER.c.state != sa.bindparam("valid", AuthorizationState.VALID.value),
        ),
    )
    .order_by(_ORDER.created_at, _ORDER.id)
)
_AUTHORIZATIONS = Among(
    sa.select(schema.acme_authorization).where(
        _AUTHORIZATION.account_id == sa.bindparam("account_id")
    ),
    _AUTHORIZATION.id,
)
_OF_ANY_ACCOUNT = Among(sa.select(schema.acme_authorization), _AUTHORIZATION.id)
_REUSABLE = Among(
    sa.select(schema.acme_authorization).where(
        _AUTHORIZATION.account_id == sa.bindparam("account_id"),
        _IS_LIVE,
        _AUTHORIZATION.expires_at > sa.bindparam("now"),
    ),
    _AUTHORIZATION.identifier,
)
_CHALLENGES = Among(
    sa.select(schema.acme_challenge).order_by(_CHALLENGE.authorization_id, _CHALLENGE.position),
    _CHALLENGE.authorization_id,
)
_CHALLENGE_BY_ID = Compiled(
    sa.select(schema.acme_challenge).where(
        _CHALLENGE.account_id == sa.bindparam("account_id"), _CHALLENGE.id == sa.bindparam("id")
    )
)

_USED_NONCE = Compiled(
    sa.select(schema.acme_nonce.c.nonce).where(schema.acme_nonce.c.nonce == sa.bindparam("nonce"))
)

WantedIdentifier = tuple[str, str, bool]
"""Type, value without a wildcard label, and whether it is for the wildcard."""


def acme_directory(tx: Transaction, tenant_slug: str, name: str) -> Directory | None:
    """A directory by the two words of its URL, of any tenant."""
    found: Directory | None = _DIRECTORY_BY_URL.first(tx, slug=tenant_slug, name=name)
    return found


def acme_directories(tx: Transaction, tenant_id: str) -> list[Directory]:
    """The tenant's directories, by name."""
    query = (
        sa.select(schema.acme_directory)
        .where(_DIRECTORY.tenant_id == tenant_id)
        .order_by(_DIRECTORY.name)
    )
    return [acme_rows.directory_of(row) for row in tx.execute(query)]


def acme_directory_by_id(tx: Transaction, directory_id: str) -> tuple[str, Directory] | None:
    """A directory by its id, of any tenant, with the tenant's word in its URL; for the jobs."""
    query = (
        sa.select(schema.acme_directory, _MANUFACTURER.slug)
        .join(schema.manufacturer, _MANUFACTURER.id == _DIRECTORY.tenant_id)
        .where(_DIRECTORY.id == directory_id)
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else (row.slug, acme_rows.directory_of(row))


def acme_account(tx: Transaction, directory_id: str, account_id: str) -> Account | None:
    """An account of the directory by its id, in whatever state."""
    found: Account | None = _ACCOUNT_BY_ID.first(tx, directory_id=directory_id, id=account_id)
    return found


def acme_account_by_key(tx: Transaction, directory_id: str, thumbprint: str) -> Account | None:
    """The account that this key has at the directory, in whatever state."""
    return _account(tx, _ACCOUNT.directory_id == directory_id, _ACCOUNT.thumbprint == thumbprint)


def acme_account_by_id(tx: Transaction, account_id: str) -> Account | None:
    """An account of any tenant by its id alone, for the jobs."""
    return _account(tx, _ACCOUNT.id == account_id)


def acme_accounts(
    tx: Transaction, tenant_id: str, after: str | None = None, limit: int = 100
) -> list[Account]:
    """The tenant's accounts, by id; `after` is the last id of the page before."""
    query = sa.select(schema.acme_account).where(_ACCOUNT.tenant_id == tenant_id)
    if after is not None:
        query = query.where(_ACCOUNT.id > after)
    found = tx.execute(query.order_by(_ACCOUNT.id).limit(limit))
    return [acme_rows.account_of(row) for row in found]


def acme_accounts_with_key(tx: Transaction, tenant_id: str, thumbprint: str) -> list[Account]:
    """The accounts that this key has, at any directory of the tenant."""
    query = (
        sa.select(schema.acme_account)
        .join(schema.acme_directory, _DIRECTORY.id == _ACCOUNT.directory_id)
        .where(_DIRECTORY.tenant_id == tenant_id, _ACCOUNT.thumbprint == thumbprint)
    )
    return [acme_rows.account_of(row) for row in tx.execute(query)]


def acme_binding(tx: Transaction, directory_id: str, binding_id: str) -> Binding | None:
    """A binding of the directory; the caller checks expiry, revocation and whether it is spent."""
    found: Binding | None = _BINDING_BY_ID.first(tx, directory_id=directory_id, id=binding_id)
    return found


def acme_bindings(
    tx: Transaction, tenant_id: str, after: str | None = None, limit: int = 100
) -> list[Binding]:
    """The tenant's bindings, by id; `after` is the last id of the page before."""
    query = sa.select(schema.acme_binding).where(_BINDING.tenant_id == tenant_id)
    if after is not None:
        query = query.where(_BINDING.id > after)
    found = tx.execute(query.order_by(_BINDING.id).limit(limit))
    return [acme_rows.binding_of(row) for row in found]


def is_acme_nonce_used(tx: Transaction, nonce: str) -> bool:
    """Whether `use_acme_nonce` was told of it, and remembers."""
    return _USED_NONCE.first(tx, nonce=nonce) is not None


def acme_order(tx: Transaction, account_id: str, order_id: str) -> Order | None:
    """An order of the account by its id."""
    memory = memory_of(tx)
    known: Order | None = memory.value(order_id) if memory is not None else None
    if known is not None:
        return known if known.account_id == account_id else None
    found = _orders(tx, _ORDER_BY_ID.all(tx, account_id=account_id, id=order_id))
    if found and memory is not None:
        memory.keep(order_id, found[0])
    return found[0] if found else None


def acme_orders(
    tx: Transaction,
    account_id: str,
    *,
    after: str | None = None,
    limit: int = 100,
    now: dt.datetime,
) -> list[str]:
    """Ids of the account's orders that are neither invalid nor expired, newest first.

    `after` is the last id of the page before; behind one that is not the account's is nothing.
    """
    query = sa.select(_ORDER.id).where(
        _ORDER.account_id == account_id,
        _ORDER.state != OrderState.INVALID.value,
        _ORDER.expires_at > now,
    )
    if after is not None:
        last = (
            sa.select(_ORDER.created_at, _ORDER.id)
            .where(_ORDER.account_id == account_id, _ORDER.id == after)
            .scalar_subquery()
        )
        query = query.where(sa.tuple_(_ORDER.created_at, _ORDER.id) < last)
    newest_first = query.order_by(_ORDER.created_at.desc(), _ORDER.id.desc())
    return list(tx.execute(newest_first.limit(limit)).scalars())


def count_pending_acme_orders(tx: Transaction, account_id: str, now: dt.datetime) -> int:
    """How many of the account's orders wait for an authorization and have not expired."""
    return int(_PENDING_ORDERS.first(tx, account_id=account_id, now=now).pending)


def acme_stale_orders(tx: Transaction, older_than: dt.datetime, limit: int) -> list[Order]:
    """Orders of every tenant that have been PROCESSING since before then, oldest first."""
    query = (
        sa.select(schema.acme_order)
        .where(_ORDER.moved_at < older_than, _IS_PROCESSING)
        .order_by(_ORDER.moved_at)
        .limit(limit)
    )
    return _orders(tx, tx.execute(query).all())


def acme_order_of_serial(tx: Transaction, tenant_id: str, serial: Serial) -> Order | None:
    """The order that a certificate was issued for: it says which account has it."""
    query = (
        sa.select(schema.acme_order)
        .where(_ORDER.tenant_id == tenant_id, _ORDER.serial == serial)
        .limit(1)
    )
    return next(iter(_orders(tx, tx.execute(query).all())), None)


def acme_orders_of_authorization(tx: Transaction, authorization_id: str) -> list[Order]:
    """Every order that needs the authorization, oldest first; they are of one account."""
    return _orders(tx, _ORDERS_OF_AUTHORIZATION.all(tx, authorization_id=authorization_id))


def acme_orders_authorized(tx: Transaction, authorization_id: str) -> list[str]:
    """Ids of pending orders that need the authorization, and no other that is not VALID."""
    return [row.id for row in _ORDERS_AUTHORIZED.all(tx, authorization_id=authorization_id)]


def acme_authorization(
    tx: Transaction, account_id: str, authorization_id: str
) -> Authorization | None:
    """An authorization of the account by its id, with its challenges."""
    return acme_authorizations(tx, account_id, [authorization_id]).get(authorization_id)


def acme_authorizations(
    tx: Transaction, account_id: str, ids: Iterable[str]
) -> dict[str, Authorization]:
    """Those of the authorizations that the account has, by id, with their challenges."""
    memory, wanted = memory_of(tx), list(ids)
    known: dict[str, Authorization] = {}
    if memory is not None:
        known = {key: value for key in wanted if (value := memory.value(key)) is not None}
    unknown = [key for key in wanted if key not in known]
    for each in _with_challenges(tx, _AUTHORIZATIONS.all(tx, unknown, account_id=account_id)):
        known[each.id] = each
        if memory is not None:
            keep_authorization(memory, each)
    return {key: each for key, each in known.items() if each.account_id == account_id}


def live_acme_authorizations(
    tx: Transaction,
    account_id: str,
    identifiers: Sequence[WantedIdentifier],
    now: dt.datetime,
) -> list[Authorization]:
    """The account's authorizations for these that are PENDING or VALID and have not expired.

    Valid ones are behind the pending ones, and the longest-lived last.
    """
    wanted = {(str(kind), value, is_wildcard) for kind, value, is_wildcard in identifiers}
    values = sorted({value for _, value, _ in wanted})
    found = [
        row
        for row in _REUSABLE.all(tx, values, account_id=account_id, now=now)
        if (row.identifier_type, row.identifier, bool(row.is_wildcard)) in wanted
    ]
    found.sort(key=lambda row: (row.state, row.expires_at, row.id))  # as it happens, p before v
    return _with_challenges(tx, found)


def valid_acme_authorizations(
    tx: Transaction,
    account_id: str,
    identifiers: Sequence[WantedIdentifier],
    now: dt.datetime,
) -> list[Authorization]:
    """Those of them that are VALID."""
    found = live_acme_authorizations(tx, account_id, identifiers, now)
    return [each for each in found if each.state is AuthorizationState.VALID]


def acme_challenge(
    tx: Transaction, account_id: str, challenge_id: str
) -> tuple[Authorization, Challenge] | None:
    """A challenge of the account by its id, and the authorization that it is for."""
    if (known := _known_challenge(tx, account_id, challenge_id)) is not None:
        return known
    found = _CHALLENGE_BY_ID.all(tx, account_id=account_id, id=challenge_id)
    return next(iter(_with_authorizations(tx, found)), None)


def acme_challenge_alone(tx: Transaction, account_id: str, challenge_id: str) -> Challenge | None:
    """A challenge of the account by its id."""
    if (known := _known_challenge(tx, account_id, challenge_id)) is not None:
        return known[1]
    row = _CHALLENGE_BY_ID.first(tx, account_id=account_id, id=challenge_id)
    return None if row is None else acme_rows.challenge_of(row)


def stale_acme_challenges(
    tx: Transaction, older_than: dt.datetime, limit: int
) -> list[tuple[Authorization, Challenge]]:
    """Challenges of every tenant that have been PROCESSING since before then, oldest first."""
    query = (
        sa.select(schema.acme_challenge)
        .where(_CHALLENGE.moved_at < older_than, _IS_PROCESSING)
        .order_by(_CHALLENGE.moved_at)
        .limit(limit)
    )
    return _with_authorizations(tx, tx.execute(query).all())


def keep_authorization(memory: Memory, authorization: Authorization) -> None:
    """Know an authorization, and by its challenges too."""
    memory.keep(authorization.id, authorization)
    for challenge in authorization.challenges:
        memory.keep(challenge.id, authorization.id)


def _known_challenge(
    tx: Transaction, account_id: str, challenge_id: str
) -> tuple[Authorization, Challenge] | None:
    memory = memory_of(tx)
    if memory is None or (authorization_id := memory.value(challenge_id)) is None:
        return None
    found: Authorization | None = memory.value(authorization_id)
    if found is None or found.account_id != account_id:
        return None
    return next(((found, each) for each in found.challenges if each.id == challenge_id), None)


def _account(tx: Transaction, *where: sa.ColumnElement[bool]) -> Account | None:
    row = tx.execute(sa.select(schema.acme_account).where(*where)).one_or_none()
    return None if row is None else acme_rows.account_of(row)


def _orders(tx: Transaction, found: Sequence[Row]) -> list[Order]:
    parts: dict[str, list[str]] = {row.id: [] for row in found}
    for order_id, authorization_id in _PARTS.all(tx, parts):
        parts[order_id].append(authorization_id)
    return [acme_rows.order_of(row, parts[row.id]) for row in found]


def _with_challenges(tx: Transaction, found: Sequence[Row]) -> list[Authorization]:
    challenges: dict[str, list[Challenge]] = {row.id: [] for row in found}
    for row in _CHALLENGES.all(tx, challenges):
        challenges[row.authorization_id].append(acme_rows.challenge_of(row))
    return [acme_rows.authorization_of(row, challenges[row.id]) for row in found]


def _with_authorizations(
    tx: Transaction, found: Sequence[Row]
) -> list[tuple[Authorization, Challenge]]:
    parents = _OF_ANY_ACCOUNT.all(tx, {row.authorization_id for row in found})
    by_id = {each.id: each for each in _with_challenges(tx, parents)}
    return [(by_id[row.authorization_id], acme_rows.challenge_of(row)) for row in found]
