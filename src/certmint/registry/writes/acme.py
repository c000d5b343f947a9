"""Writing ACME's directories, accounts, bindings, orders, authorizations, challenges and nonces.

Laws: an order is stored with its new authorizations and their challenges, or not at all; a key
has one account at a directory; a single-use binding opens one account; a nonce is used once.

Orders, challenges and nonces are not audited: they come by the thousand, from strangers, and
what they lead to (an account, an authorization, a certificate) is.
"""

import dataclasses
import datetime as dt
import functools
from collections.abc import Sequence
from enum import StrEnum

import sqlalchemy as sa

from certmint.model.acme import (
    ACCOUNT,
    AUTHORIZATION,
    CHALLENGE,
    ORDER,
    Account,
    AccountEvent,
    AccountState,
    Authorization,
    AuthorizationEvent,
    AuthorizationState,
    Binding,
    ChallengeEvent,
    ChallengeState,
    Directory,
    Order,
    OrderEvent,
    OrderState,
)
from certmint.model.errors import Conflict, NotFound, WrongState
from certmint.model.serial import Serial
from certmint.model.states import after
from certmint.registry import acme_rows, documents, schema
from certmint.registry.compiled import Compiled
from certmint.registry.engine import Transaction
from certmint.registry.memory import Memory, memory_of
from certmint.registry.reads.acme import keep_authorization
from certmint.registry.rows import Row
from certmint.registry.statements import add, count, insert_if_absent, log

_DIRECTORY = schema.acme_directory.c
_ACCOUNT = schema.acme_account.c
_BINDING = schema.acme_binding.c
_NONCE = schema.acme_nonce.c

_ADD_ORDER = Compiled(sa.insert(schema.acme_order))
_ADD_PART = Compiled(sa.insert(schema.acme_order_authorization))
_ADD_AUTHORIZATION = Compiled(sa.insert(schema.acme_authorization))
_ADD_CHALLENGE = Compiled(sa.insert(schema.acme_challenge))


def add_acme_directory(tx: Transaction, directory: Directory, *, by: str, at: dt.datetime) -> None:
    """A new directory. Raises Conflict `directory-exists`."""
    taken = Conflict("directory-exists", f"there is a directory {directory.name!r} already")
    add(tx, schema.acme_directory, acme_rows.directory_row(directory), taken)
    log(
        tx, "acme-directory.added", directory.tenant_id, directory.id,
        by=by, at=at, name=directory.name, authority=directory.authority_id,
        profiles=directory.profiles, requires_binding=directory.requires_binding,
    )  # fmt: skip


def add_acme_account(tx: Transaction, account: Account, *, by: str, at: dt.datetime) -> bool:
    """Whether the account is new; False if its key has one at this directory already."""
    if not insert_if_absent(tx, schema.acme_account, acme_rows.account_row(account)):
        return False
    log(
        tx, "acme-account.added", account.tenant_id, account.id,
        by=by, at=at, directory=account.directory, thumbprint=account.thumbprint,
        binding=account.binding_id,
    )  # fmt: skip
    return True


def set_acme_terms(
    tx: Transaction, directory: Directory, terms: str, *, by: str, at: dt.datetime
) -> None:
    """Other terms of service, which every account has to agree to. Raises NotFound."""
    changed = dataclasses.replace(directory, terms=terms)
    of_id = (_DIRECTORY.tenant_id == directory.tenant_id, _DIRECTORY.id == directory.id)
    update = sa.update(schema.acme_directory).where(*of_id)
    if not count(tx, update.values(offer=acme_rows.offer_text(changed))):
        raise _unknown("directory", directory.id)
    log(
        tx, "acme-directory.terms-changed", directory.tenant_id, directory.id,
        by=by, at=at, terms=terms,
    )  # fmt: skip


def agree_acme_terms(
    tx: Transaction, tenant_id: str, account_id: str, terms: str, *, by: str, at: dt.datetime
) -> None:
    """The account's holder agreed to these terms.

    Raises WrongState `wrong-state`, NotFound `account-unknown`.
    """
    changed: dict[str, object] = {"agreed_terms": terms}
    _set(tx, schema.acme_account, tenant_id, account_id, AccountState.VALID, changed)
    log(tx, "acme-account.terms-agreed", tenant_id, account_id, by=by, at=at, terms=terms)


def update_acme_contacts(
    tx: Transaction,
    tenant_id: str,
    account_id: str,
    contacts: Sequence[str],
    *,
    by: str,
    at: dt.datetime,
) -> None:
    """Whom to write to about a valid account.

    Raises WrongState `wrong-state`, NotFound `account-unknown`.
    """
    changed: dict[str, object] = {"contacts": documents.list_text(contacts)}
    _set(tx, schema.acme_account, tenant_id, account_id, AccountState.VALID, changed)
    # How many, and not which: an address is a person's, and the log is for ever.
    log(
        tx, "acme-account.contacts-changed", tenant_id, account_id,
        by=by, at=at, count=len(contacts),
    )  # fmt: skip


def move_acme_account(
    tx: Transaction,
    tenant_id: str,
    account_id: str,
    from_state: AccountState,
    event: AccountEvent,
    *,
    by: str,
    at: dt.datetime,
) -> AccountState:
    """The account's new state. Raises WrongState `wrong-state`, NotFound `account-unknown`."""
    to_state = after(ACCOUNT, from_state, event)
    _set(tx, schema.acme_account, tenant_id, account_id, from_state, {"state": to_state.value})
    log(tx, f"acme-account.{event}", tenant_id, account_id, by=by, at=at)
    return to_state


def close_acme_account(
    tx: Transaction, tenant_id: str, account_id: str, error: str, at: dt.datetime
) -> None:
    """What an account that is gone had under way (RFC 8555 7.3.6): open orders, authorizations."""
    of_account = {"tenant_id": tenant_id, "account_id": account_id}
    given_up = after(AUTHORIZATION, AuthorizationState.PENDING, AuthorizationEvent.DEACTIVATED)
    pending = sa.update(schema.acme_authorization).filter_by(
        **of_account, state=AuthorizationState.PENDING.value
    )
    tx.execute(pending.values(state=given_up.value))
    for state in (OrderState.PENDING, OrderState.READY):
        failed = after(ORDER, state, OrderEvent.FAILED)
        unfinished = sa.update(schema.acme_order).filter_by(**of_account, state=state.value)
        tx.execute(unfinished.values(state=failed.value, error=error, moved_at=at))


def change_acme_key(
    tx: Transaction,
    tenant_id: str,
    account_id: str,
    old_thumbprint: str,
    new_thumbprint: str,
    new_jwk: str,
    *,
    by: str,
    at: dt.datetime,
) -> None:
    """Roll a valid account over from its present key to another one (RFC 8555 7.3.5).

    Raises Conflict `account-key-used` if an account of the directory has the new key (this one
    or another), WrongState `wrong-state` if the old one is not current, NotFound `account-unknown`.
    """
    other = schema.acme_account.alias()
    taken = sa.exists().where(
        other.c.directory_id == _ACCOUNT.directory_id,
        other.c.thumbprint == new_thumbprint,
    )
    of_id = (_ACCOUNT.tenant_id == tenant_id, _ACCOUNT.id == account_id)
    current = (_ACCOUNT.thumbprint == old_thumbprint, _ACCOUNT.state == AccountState.VALID.value)
    changed = count(
        tx,
        sa.update(schema.acme_account)
        .where(*of_id, *current, ~taken)
        .values(thumbprint=new_thumbprint, jwk=new_jwk),
    )
    if not changed:
        held = tx.execute(sa.select(taken.label("taken")).where(*of_id)).one_or_none()
        if held is None:
            raise _unknown("account", account_id)
        if held.taken:
            raise Conflict(
                "account-key-used", "an account has the new key already: make another one"
            )
        raise WrongState(
            "wrong-state", f"account {account_id!r} has another key by now, or is not valid"
        )
    log(
        tx, "acme-account.key-changed", tenant_id, account_id,
        by=by, at=at, before=old_thumbprint, thumbprint=new_thumbprint,
    )  # fmt: skip


def add_acme_binding(tx: Transaction, binding: Binding, *, by: str, at: dt.datetime) -> None:
    """A new external account binding. Raises Conflict `binding-exists`."""
    taken = Conflict("binding-exists", f"there is a binding {binding.id!r} already")
    add(tx, schema.acme_binding, acme_rows.binding_row(binding), taken)
    log(
        tx, "acme-binding.added", binding.tenant_id, binding.id,
        by=by, at=at, directory=binding.directory, product=binding.product_id,
        device=binding.device_id, is_reusable=binding.is_reusable,
    )  # fmt: skip


def spend_acme_binding(
    tx: Transaction,
    tenant_id: str,
    binding_id: str,
    account_id: str,
    *,
    by: str,
    at: dt.datetime,
) -> None:
    """Let the binding open this account; a reusable one is left as it is. Expiry is the caller's.

    Raises Conflict `binding-spent` if another account was first or `binding-revoked`, NotFound
    `binding-unknown`.
    """
    spent = count(
        tx,
        sa.update(schema.acme_binding)
        .where(
            *_of_binding(tenant_id, binding_id),
            _BINDING.is_reusable == 0,
            _BINDING.account_id.is_(None),
            _BINDING.revoked_at.is_(None),
        )
        .values(account_id=account_id),
    )
    if spent:
        log(tx, "acme-binding.spent", tenant_id, binding_id, by=by, at=at, account=account_id)
        return
    held = _binding(tx, tenant_id, binding_id)
    if held.revoked_at is not None:
        raise Conflict("binding-revoked", f"binding {binding_id!r} was revoked: ask for another")
    if not held.is_reusable:
        raise Conflict("binding-spent", f"binding {binding_id!r} opened an account already")


def note_acme_binding_attacked(
    tx: Transaction, tenant_id: str, binding_id: str, attempts: int, *, by: str, at: dt.datetime
) -> None:
    """Somebody who does not have the binding's key tries to use it, again and again."""
    log(tx, "acme-binding.attacked", tenant_id, binding_id, by=by, at=at, attempts=attempts)


def rebind_acme_binding(
    tx: Transaction, tenant_id: str, binding_id: str, *, by: str, at: dt.datetime
) -> None:
    """Let a spent binding open one more account, for a device that was re-imaged.

    The account before stays. One that is not spent is left. Raises NotFound `binding-unknown`.
    """
    before = _binding(tx, tenant_id, binding_id).account_id
    if before is None:
        return
    update = sa.update(schema.acme_binding).where(*_of_binding(tenant_id, binding_id))
    tx.execute(update.values(account_id=None))
    log(tx, "acme-binding.rebound", tenant_id, binding_id, by=by, at=at, before=before)


def revoke_acme_binding(
    tx: Transaction, tenant_id: str, binding_id: str, *, by: str, at: dt.datetime
) -> None:
    """Let it open no account any more, for ever. Raises NotFound `binding-unknown`."""
    revoked = count(
        tx,
        sa.update(schema.acme_binding)
        .where(*_of_binding(tenant_id, binding_id), _BINDING.revoked_at.is_(None))
        .values(revoked_at=at),
    )
    if not revoked:
        _binding(tx, tenant_id, binding_id)
        return  # it was revoked before, and keeps that date
    log(tx, "acme-binding.revoked", tenant_id, binding_id, by=by, at=at)


def add_acme_order(tx: Transaction, order: Order, authorizations: Sequence[Authorization]) -> None:
    """A new order with those of its authorizations that are new, and their challenges.

    Raises Conflict `already-exists` for an id that is taken, NotFound `reference-unknown` for an
    authorization that is neither new nor the account's.
    """
    _ADD_ORDER.run(tx, acme_rows.order_row(order))
    add_acme_authorizations(tx, authorizations)
    _ADD_PART.run(tx, acme_rows.order_authorization_rows(order))
    if (memory := memory_of(tx)) is not None:
        memory.keep(order.id, order)


def add_acme_authorizations(tx: Transaction, authorizations: Sequence[Authorization]) -> None:
    """New authorizations with their challenges. Raises Conflict `already-exists`."""
    _ADD_AUTHORIZATION.run(tx, [acme_rows.authorization_row(new) for new in authorizations])
    challenges = [row for new in authorizations for row in acme_rows.challenge_rows(new)]
    _ADD_CHALLENGE.run(tx, challenges)
    if (memory := memory_of(tx)) is not None:
        for new in authorizations:
            keep_authorization(memory, new)


def move_acme_order(
    tx: Transaction,
    tenant_id: str,
    order_id: str,
    from_state: OrderState,
    event: OrderEvent,
    *,
    at: dt.datetime,
    error: str = "",
    authority_id: str | None = None,
    serial: Serial | None = None,
) -> OrderState:
    """The order's new state; `error` replaces the one before, a certificate is never taken away.

    Raises WrongState `wrong-state`, NotFound `order-unknown`.
    """
    to_state = after(ORDER, from_state, event)
    values: dict[str, object] = {"state": to_state.value, "moved_at": at, "error": error}
    if authority_id is not None:
        values["authority_id"] = authority_id
    if serial is not None:
        values["serial"] = serial
    _set(tx, schema.acme_order, tenant_id, order_id, from_state, values)
    memory = memory_of(tx)
    known: Order | None = memory.current(order_id) if memory is not None else None
    if memory is not None and known is not None:
        moved = dataclasses.replace(
            known, state=to_state, error=error, authority_id=authority_id or known.authority_id,
            serial=serial or known.serial,
        )  # fmt: skip
        memory.keep(order_id, moved)
    return to_state


def move_acme_authorization(
    tx: Transaction,
    tenant_id: str,
    authorization_id: str,
    from_state: AuthorizationState,
    event: AuthorizationEvent,
    *,
    by: str,
    at: dt.datetime,
    evidence: str = "",
    expires_at: dt.datetime | None = None,
) -> AuthorizationState:
    """The authorization's new state; `evidence` and `expires_at` stay unless they are given.

    Raises WrongState `wrong-state`, NotFound `authorization-unknown`.
    """
    to_state = after(AUTHORIZATION, from_state, event)
    values: dict[str, object] = {"state": to_state.value}
    if evidence:
        values["evidence"] = evidence
    if expires_at is not None:
        values["expires_at"] = expires_at
    _set(tx, schema.acme_authorization, tenant_id, authorization_id, from_state, values)
    memory = memory_of(tx)
    known: Authorization | None = memory.current(authorization_id) if memory is not None else None
    if memory is not None and known is not None:
        moved = dataclasses.replace(
            known, state=to_state, evidence=evidence or known.evidence,
            expires_at=expires_at or known.expires_at,
        )  # fmt: skip
        memory.keep(authorization_id, moved)
    log(
        tx, f"acme-authorization.{event}", tenant_id, authorization_id,
        by=by, at=at, evidence=evidence,
    )  # fmt: skip
    return to_state


def move_acme_challenge(
    tx: Transaction,
    tenant_id: str,
    challenge_id: str,
    from_state: ChallengeState,
    event: ChallengeEvent,
    *,
    at: dt.datetime,
    error: str = "",
    validated_at: dt.datetime | None = None,
) -> ChallengeState:
    """The challenge's new state. Raises WrongState `wrong-state`, NotFound `challenge-unknown`."""
    to_state = after(CHALLENGE, from_state, event)
    values: dict[str, object] = {"state": to_state.value, "moved_at": at, "error": error}
    if validated_at is not None:
        values["validated_at"] = validated_at
    _set(tx, schema.acme_challenge, tenant_id, challenge_id, from_state, values)
    if (memory := memory_of(tx)) is not None:
        _move_known_challenge(memory, challenge_id, to_state, error, validated_at)
    return to_state


def _move_known_challenge(
    memory: Memory,
    challenge_id: str,
    state: ChallengeState,
    error: str,
    validated_at: dt.datetime | None,
) -> None:
    known: Authorization | None = memory.current(memory.current(challenge_id))
    if known is None:
        return
    challenges = tuple(
        dataclasses.replace(
            each, state=state, error=error, validated_at=validated_at or each.validated_at
        )
        if each.id == challenge_id
        else each
        for each in known.challenges
    )
    memory.keep(known.id, dataclasses.replace(known, challenges=challenges))


def use_acme_nonce(tx: Transaction, nonce: str, expires_at: dt.datetime) -> bool:
    """Whether the nonce was never used before; it is now, and is remembered until it expires."""
    row = {"nonce": nonce, "expires_at": expires_at}
    return insert_if_absent(tx, schema.acme_nonce, row) == 1


def forget_acme_nonces(tx: Transaction, before: dt.datetime, limit: int = 10_000) -> int:
    """How many nonces that expired before then were deleted: at most `limit`, the oldest first.

    Call it, each time in a transaction of its own, until it says 0: a writer never waits long.
    """
    oldest = (
        sa.select(_NONCE.nonce)
        .where(_NONCE.expires_at < before)
        .order_by(_NONCE.expires_at)
        .limit(limit)
    )
    return count(tx, sa.delete(schema.acme_nonce).where(_NONCE.nonce.in_(oldest)))


def _set(
    tx: Transaction,
    table: sa.Table,
    tenant_id: str,
    row_id: str,
    from_state: StrEnum,
    values: dict[str, object],
) -> None:
    """One compare-and-set: the values, if the row is still in that state."""
    given = {"of_tenant": tenant_id, "of_id": row_id, "from_state": from_state.value} | {
        f"new_{name}": value for name, value in values.items()
    }
    if _compare_and_set(table, tuple(values)).run(tx, given):
        return
    of_id = (table.c.tenant_id == tenant_id, table.c.id == row_id)
    noun = table.name.removeprefix("acme_")
    if tx.execute(sa.select(table.c.id).where(*of_id)).one_or_none() is None:
        raise _unknown(noun, row_id)
    raise WrongState("wrong-state", f"{noun} {row_id!r} is not {from_state} any more")


@functools.cache
def _compare_and_set(table: sa.Table, columns: tuple[str, ...]) -> Compiled:
    new = {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in columns}
    return Compiled(
        sa.update(table)
        .where(
            table.c.tenant_id == sa.bindparam("of_tenant"),
            table.c.id == sa.bindparam("of_id"),
            table.c.state == sa.bindparam("from_state"),
        )
        .values(new)
    )


def _unknown(noun: str, row_id: str) -> NotFound:
    return NotFound(f"{noun}-unknown", f"there is no {noun} {row_id!r}")


def _of_binding(tenant_id: str, binding_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (_BINDING.tenant_id == tenant_id, _BINDING.id == binding_id)


def _binding(tx: Transaction, tenant_id: str, binding_id: str) -> Row:
    query = sa.select(schema.acme_binding).where(*_of_binding(tenant_id, binding_id))
    row = tx.execute(query).one_or_none()
    if row is None:
        raise _unknown("binding", binding_id)
    return row
