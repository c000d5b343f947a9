"""Writing what ACME's extensions keep: counters, trusted hardware, orders that renew themselves.

Laws: of two orders that would replace one certificate one does; a self-renewing order that was
given up brings no certificate any more, not even one that was being signed in that moment.
"""

import datetime as dt
from functools import partial

import sqlalchemy as sa

from certmint.model.acme import (
    AUTO_RENEWAL,
    AutoRenewal,
    AutoRenewalEvent,
    AutoRenewalState,
    Directory,
    Order,
    OrderState,
)
from certmint.model.errors import Conflict, WrongState
from certmint.model.serial import Serial
from certmint.model.states import after
from certmint.registry import acme_rows, schema
from certmint.registry.compiled import Compiled
from certmint.registry.engine import Transaction
from certmint.registry.reads.askers import AnchorRow
from certmint.registry.statements import add, count, insert_if_absent, log

_ANCHOR = schema.acme_anchor.c
_COUNTER = schema.acme_counter.c
_REPLACEMENT = schema.acme_replacement.c
_ORDER = schema.acme_order.c
_RENEWAL = schema.acme_auto_renewal.c

_time = partial(sa.bindparam, type_=_COUNTER.until.type)
_IS_OVER = _COUNTER.until <= _time("at")
_COUNT = Compiled(
    sa.update(schema.acme_counter)
    .where(_COUNTER.subject == sa.bindparam("of_subject"))
    .values(
        spent=sa.case((_IS_OVER, sa.literal_column("1")), else_=_COUNTER.spent + 1),
        until=sa.case((_IS_OVER, _time("ends")), else_=_COUNTER.until),
    )
    .returning(_COUNTER.spent, _COUNTER.until)
)


def add_acme_anchor(tx: Transaction, directory: Directory, anchor: AnchorRow, *, by: str) -> None:
    """Let a CA vouch for hardware at a directory. Raises Conflict `anchor-exists`."""
    taken = Conflict("anchor-exists", f"this root is trusted for {anchor.format!r} already")
    row = {"tenant_id": directory.tenant_id, "directory_id": directory.id, **vars(anchor)}
    add(tx, schema.acme_anchor, row, taken)
    log(
        tx, "acme-anchor.added", directory.tenant_id, directory.id,
        by=by, at=anchor.added_at, format=anchor.format, fingerprint=anchor.fingerprint,
    )  # fmt: skip


def remove_acme_anchor(
    tx: Transaction, directory: Directory, fingerprint: str, *, by: str, at: dt.datetime
) -> bool:
    """Whether the directory trusted this CA, for whatever format; it does not any more."""
    gone = count(
        tx,
        sa.delete(schema.acme_anchor).where(
            _ANCHOR.tenant_id == directory.tenant_id,
            _ANCHOR.directory_id == directory.id,
            _ANCHOR.fingerprint == fingerprint,
        ),
    )
    if gone:
        log(
            tx, "acme-anchor.removed", directory.tenant_id, directory.id,
            by=by, at=at, fingerprint=fingerprint,
        )  # fmt: skip
    return bool(gone)


def count_acme(
    tx: Transaction, subject: str, now: dt.datetime, ends: dt.datetime
) -> tuple[int, dt.datetime]:
    """Count once more: how often in the subject's window by now, and when that ends.

    Where no window is open one begins, and lasts until `ends`.
    """
    rows = _COUNT.all(tx, of_subject=subject, at=now, ends=ends)
    if rows:
        return rows[0].spent, rows[0].until
    insert_if_absent(tx, schema.acme_counter, {"subject": subject, "spent": 1, "until": ends})
    return 1, ends


def forget_acme_counts(tx: Transaction, before: dt.datetime, limit: int = 10_000) -> int:
    """How many windows that ended before then were deleted: at most `limit`, the oldest first."""
    oldest = (
        sa.select(_COUNTER.subject)
        .where(_COUNTER.until < before)
        .order_by(_COUNTER.until)
        .limit(limit)
    )
    return count(tx, sa.delete(schema.acme_counter).where(_COUNTER.subject.in_(oldest)))


def claim_acme_replacement(
    tx: Transaction, order: Order, authority_id: str, serial: Serial, now: dt.datetime
) -> None:
    """Let the order be the one that replaces a certificate (RFC 9773 5); the order is stored.

    An order that failed, or ran out of time, gives way. Raises Conflict `already-replaced`.
    """
    row = {
        "tenant_id": order.tenant_id,
        "account_id": order.account_id,
        "authority_id": authority_id,
        "serial": serial,
        "order_id": order.id,
    }
    if insert_if_absent(tx, schema.acme_replacement, row):
        return
    open_states = [OrderState.PENDING.value, OrderState.READY.value]
    failed = sa.exists().where(
        _ORDER.id == _REPLACEMENT.order_id,
        sa.or_(
            _ORDER.state == OrderState.INVALID.value,
            sa.and_(_ORDER.state.in_(open_states), _ORDER.expires_at <= now),
        ),
    )
    taken = (
        sa.update(schema.acme_replacement)
        .where(_REPLACEMENT.authority_id == authority_id, _REPLACEMENT.serial == serial, failed)
        .values(order_id=order.id, account_id=order.account_id)
    )
    if not count(tx, taken):
        raise Conflict("already-replaced", "another order is to replace this certificate already")


def add_acme_auto_renewal(tx: Transaction, renewal: AutoRenewal) -> None:
    """How an order that is stored renews itself. Raises NotFound `reference-unknown`."""
    tx.execute(sa.insert(schema.acme_auto_renewal), acme_rows.auto_renewal_row(renewal))


def record_acme_renewal(
    tx: Transaction,
    renewal: AutoRenewal,
    authority_id: str,
    serial: Serial,
    *,
    next_at: dt.datetime | None,
    csr: bytes,
    began_at: dt.datetime,
) -> None:
    """A further certificate of a self-renewing order, in the transaction that stores it.

    Raises WrongState `wrong-state` if the order was given up meanwhile: nothing is released.
    """
    recorded = count(
        tx,
        sa.update(schema.acme_auto_renewal)
        .where(
            _RENEWAL.order_id == renewal.order_id,
            _RENEWAL.state == AutoRenewalState.ACTIVE.value,
        )
        .values(
            authority_id=authority_id, serial=serial, next_at=next_at, csr=csr, began_at=began_at
        ),
    )
    if not recorded:
        raise WrongState("wrong-state", f"order {renewal.order_id!r} renews itself no more")
    row = {
        "tenant_id": renewal.tenant_id,
        "account_id": renewal.account_id,
        "authority_id": authority_id,
        "serial": serial,
        "order_id": renewal.order_id,
    }
    tx.execute(sa.insert(schema.acme_renewed), row)


def postpone_acme_renewal(tx: Transaction, renewal: AutoRenewal, until: dt.datetime | None) -> bool:
    """Take a certificate that is due, or put it off (None: for ever); False if another did."""
    update = (
        sa.update(schema.acme_auto_renewal)
        .where(
            _RENEWAL.order_id == renewal.order_id,
            _RENEWAL.state == AutoRenewalState.ACTIVE.value,
            _RENEWAL.next_at == renewal.next_at,
        )
        .values(next_at=until)
    )
    return count(tx, update) == 1


def move_acme_auto_renewal(
    tx: Transaction, renewal: AutoRenewal, event: AutoRenewalEvent, *, by: str, at: dt.datetime
) -> AutoRenewalState:
    """End the renewals of an order. Raises WrongState `wrong-state`."""
    to_state = after(AUTO_RENEWAL, renewal.state, event)
    moved = count(
        tx,
        sa.update(schema.acme_auto_renewal)
        .where(
            _RENEWAL.tenant_id == renewal.tenant_id,
            _RENEWAL.order_id == renewal.order_id,
            _RENEWAL.state == renewal.state.value,
        )
        .values(state=to_state.value, next_at=None),
    )
    if not moved:
        raise WrongState("wrong-state", f"order {renewal.order_id!r} renews itself no more")
    log(tx, f"acme-auto-renewal.{event}", renewal.tenant_id, renewal.order_id, by=by, at=at)
    return to_state
