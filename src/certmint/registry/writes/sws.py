"""Writing orders of SWS clients."""

import datetime as dt
import hashlib

import sqlalchemy as sa

from certmint.model.errors import Conflict
from certmint.model.states import after
from certmint.model.sws import ORDER, Order, OrderEvent
from certmint.registry import schema, sws_rows
from certmint.registry.engine import Transaction
from certmint.registry.statements import add, count, insert_if_absent, log

_ORDER = schema.sws_order.c
_CSR = schema.sws_csr.c
_UNTOLD = (OrderEvent.CLAIMED, OrderEvent.POSTPONED)  # looks, of which there are many


def add_sws_order(tx: Transaction, order: Order, *, by: str, at: dt.datetime) -> None:
    """A new order. Raises Conflict `csr-unique-value`."""
    add(
        tx,
        schema.sws_order,
        sws_rows.order_row(order),
        Conflict("already-exists", f"there is an order {order.id!r} already"),
    )
    _claim_csr(tx, order)
    log(
        tx, "order.placed", order.tenant_id, order.id,
        by=by, at=at, product=order.product, period=order.period, names=list(order.names),
    )  # fmt: skip


def change_sws_order(
    tx: Transaction,
    tenant_id: str,
    before: Order,
    changed: Order,
    event: OrderEvent,
    *,
    by: str,
    at: dt.datetime,
) -> Order:
    """The order after one move, with everything that changes with it.

    Looking at the network is not audited: the validations are. Raises WrongState `wrong-state`,
    Conflict `order-changed` if somebody else moved it first, or `csr-unique-value`.
    """
    state = after(ORDER, before.state, event)
    version = before.version + 1
    row = sws_rows.order_row(changed) | {"state": state.value, "version": version}
    moved = count(
        tx,
        sa.update(schema.sws_order)
        .where(
            _ORDER.tenant_id == tenant_id,
            _ORDER.id == before.id,
            _ORDER.version == before.version,
        )
        .values(row),
    )
    if moved != 1:
        raise Conflict("order-changed", f"order {before.id} was changed meanwhile: look again")
    _claim_csr(tx, changed)
    if event not in _UNTOLD:
        log(
            tx, f"order.{event.value}", tenant_id, before.id,
            by=by, at=at, state=state.value, names=list(changed.names),
        )  # fmt: skip
    return sws_rows.moved(changed, state, version)


def _claim_csr(tx: Transaction, order: Order) -> None:
    """Of two orders with one CSR and one unique value, the second is refused."""
    if not order.csr:
        return
    claim = {
        "tenant_id": order.tenant_id,
        "fingerprint": hashlib.sha256(order.csr).hexdigest(),
        "unique_value": order.unique_value,
        "order_id": order.id,
    }
    if insert_if_absent(tx, schema.sws_csr, claim) == 1:
        return
    owner = tx.execute(
        sa.select(_CSR.order_id).where(
            _CSR.tenant_id == order.tenant_id,
            _CSR.fingerprint == claim["fingerprint"],
            _CSR.unique_value == order.unique_value,
        )
    ).scalar_one()
    if owner != order.id:
        raise Conflict(
            "csr-unique-value",
            "this CSR was used in another order with the same unique value: send another "
            "unique_value, or another CSR",
        )
