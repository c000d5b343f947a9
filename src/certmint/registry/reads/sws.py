"""Reading orders of SWS clients."""

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa

from certmint.model.sws import REF, Order, OrderState
from certmint.registry import schema, sws_rows
from certmint.registry.engine import Transaction

_ORDER = schema.sws_order.c
_DUE = sa.text("due_at IS NOT NULL")  # in the words of the index


@dataclass(frozen=True)
class OrderFilter:
    """Which orders: made within a time, vouchers only, of this ref, or with this text in a name."""

    since: dt.datetime | None = None
    until: dt.datetime | None = None
    vouchers: bool = False
    search: str = ""


def sws_order(tx: Transaction, tenant_id: str, order_id: str) -> Order | None:
    """One order, whatever its state."""
    query = sa.select(schema.sws_order).where(_ORDER.tenant_id == tenant_id, _ORDER.id == order_id)
    row = tx.execute(query).one_or_none()
    return None if row is None else sws_rows.order_of(row)


def sws_orders(
    tx: Transaction, tenant_id: str, wanted: OrderFilter, *, offset: int = 0, limit: int = 25
) -> list[Order]:
    """Orders, newest first; `offset` since SWS clients ask for pages by their number."""
    query = sa.select(schema.sws_order).where(_ORDER.tenant_id == tenant_id)
    if wanted.since is not None:
        query = query.where(_ORDER.created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(_ORDER.created_at < wanted.until)
    if wanted.vouchers:
        query = query.where(_ORDER.state == OrderState.WAITING_CSR.value)
    if wanted.search.startswith(REF):
        query = query.where(_ORDER.id == wanted.search)
    elif wanted.search:
        query = query.where(
            sa.or_(
                _ORDER.external_order_number == wanted.search,
                _ORDER.names.contains(wanted.search, autoescape=True),
            )
        )
    page = query.order_by(_ORDER.created_at.desc(), _ORDER.id.desc()).offset(offset).limit(limit)
    return [sws_rows.order_of(row) for row in tx.execute(page)]


def due_sws_orders(tx: Transaction, now: dt.datetime, limit: int) -> list[Order]:
    """Orders of every tenant that are to be looked at now, longest due first."""
    query = (
        sa.select(schema.sws_order)
        .where(_DUE, _ORDER.due_at <= now)
        .order_by(_ORDER.due_at)
        .limit(limit)
    )
    return [sws_rows.order_of(row) for row in tx.execute(query)]
