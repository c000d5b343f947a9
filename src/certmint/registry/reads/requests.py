"""Reading the requests of devices that an operator decides on."""

import datetime as dt

import sqlalchemy as sa

from certmint.model.entities import DeviceRequest, Wish
from certmint.model.states import RequestState
from certmint.registry import rows, schema
from certmint.registry.compiled import Compiled
from certmint.registry.engine import Transaction

_REQUEST = schema.device_request.c

_FOR = Compiled(
    sa.select(schema.device_request).where(
        _REQUEST.tenant_id == sa.bindparam("tenant_id"),
        _REQUEST.device_id == sa.bindparam("device_id"),
        _REQUEST.wish == sa.bindparam("wish"),
        _REQUEST.key_fingerprint == sa.bindparam("key_fingerprint"),
    )
)


def device_request(tx: Transaction, tenant_id: str, request_id: str) -> DeviceRequest | None:
    """A request by its id, over or not."""
    row = tx.execute(
        sa.select(schema.device_request).where(
            _REQUEST.tenant_id == tenant_id, _REQUEST.id == request_id
        )
    ).one_or_none()
    return None if row is None else rows.request_of(row)


def device_request_for(
    tx: Transaction, tenant_id: str, device_id: str, wish: Wish, key_fingerprint: str
) -> DeviceRequest | None:
    """What a device asked with this key before, over or not."""
    row = _FOR.first(
        tx, tenant_id=tenant_id, device_id=device_id, wish=wish.value,
        key_fingerprint=key_fingerprint,
    )  # fmt: skip
    return None if row is None else rows.request_of(row)


def device_requests(
    tx: Transaction,
    tenant_id: str,
    now: dt.datetime,
    *,
    state: RequestState | None = None,
    device_id: str | None = None,
    after: str = "",
    limit: int = 100,
) -> list[DeviceRequest]:
    """Requests that count now, oldest first; `after` is the last id of the page before."""
    query = sa.select(schema.device_request).where(
        _REQUEST.tenant_id == tenant_id, _REQUEST.expires_at > now, _REQUEST.id > after
    )
    if state is not None:
        query = query.where(_REQUEST.state == state.value)
    if device_id is not None:
        query = query.where(_REQUEST.device_id == device_id)
    return [rows.request_of(row) for row in tx.execute(query.order_by(_REQUEST.id).limit(limit))]


def count_device_requests(
    tx: Transaction, tenant_id: str, now: dt.datetime, device_id: str | None = None
) -> int:
    """How many requests are not over, of the tenant or of one device."""
    query = (
        sa.select(sa.func.count())
        .select_from(schema.device_request)
        .where(
            _REQUEST.tenant_id == tenant_id,
            _REQUEST.expires_at > now,
            _REQUEST.state != RequestState.DONE.value,
        )
    )
    if device_id is not None:
        query = query.where(_REQUEST.device_id == device_id)
    return int(tx.execute(query).scalar_one())
