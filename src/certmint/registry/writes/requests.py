"""Writing the requests of devices that an operator decides on."""

import datetime as dt

import sqlalchemy as sa

from certmint.model.entities import DeviceRequest
from certmint.model.errors import Conflict
from certmint.model.serial import Serial
from certmint.model.states import REQUEST, RequestEvent, RequestState, after
from certmint.registry import rows, schema
from certmint.registry.engine import Transaction
from certmint.registry.statements import count, insert_if_absent, log

_REQUEST = schema.device_request.c
_SWEEP = 1_000  # rows at once


def add_device_request(tx: Transaction, request: DeviceRequest, *, by: str) -> bool:
    """Whether it is new: of two at once, the other one is it.

    What the device asked with this key before goes if it is over, and so does what expired.
    """
    mine = _REQUEST.tenant_id == request.tenant_id
    expired = _REQUEST.expires_at <= request.created_at
    before = (
        (_REQUEST.device_id == request.device_id)
        & (_REQUEST.wish == request.wish.value)
        & (_REQUEST.key_fingerprint == request.key_fingerprint)
        & (expired | (_REQUEST.state == RequestState.DONE.value))
    )
    stale = sa.select(_REQUEST.id).where(mine, expired).limit(_SWEEP)
    tx.execute(sa.delete(schema.device_request).where(mine, before | _REQUEST.id.in_(stale)))
    if insert_if_absent(tx, schema.device_request, rows.request_row(request)) != 1:
        return False
    log(
        tx, "device.request-made", request.tenant_id, request.device_id,
        by=by, at=request.created_at, request=request.id, wish=request.wish.value,
        key=request.key_fingerprint,
    )  # fmt: skip
    return True


def move_device_request(
    tx: Transaction,
    tenant_id: str,
    request: DeviceRequest,
    event: RequestEvent,
    *,
    by: str,
    at: dt.datetime,
    until: dt.datetime,
    serial: Serial | None = None,
) -> RequestState:
    """Decide on a request, or use its approval for `serial`; the row counts until `until`.

    Raises WrongState `wrong-state`, Conflict `request-changed` if somebody else moved it first.
    """
    moved_to = after(REQUEST, request.state, event)
    values: rows.Values = {"state": moved_to.value, "expires_at": until}
    if event is RequestEvent.USED:
        values |= {"serial": serial}
    else:
        values |= {"decided_by": by, "decided_at": at}
    moved = count(
        tx,
        sa.update(schema.device_request)
        .where(
            _REQUEST.tenant_id == tenant_id,
            _REQUEST.id == request.id,
            _REQUEST.state == request.state.value,
        )
        .values(values),
    )
    if moved != 1:
        raise Conflict(
            "request-changed", f"request {request.id} was decided or used meanwhile: look again"
        )
    log(
        tx, f"device.request-{event.value}", tenant_id, request.device_id,
        by=by, at=at, request=request.id,
    )  # fmt: skip
    return moved_to
