"""Writing products, batches, devices and owners."""

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa

from certmint.model.entities import Batch, Device, Owner, Product
from certmint.model.errors import BadInput, Conflict, NotFound, WrongState
from certmint.model.states import (
    BATCH,
    DEVICE,
    BatchEvent,
    BatchState,
    DeviceEvent,
    DeviceState,
    after,
)
from certmint.registry import reads, rows, schema
from certmint.registry.engine import Transaction
from certmint.registry.statements import add, chunks, count, insert_if_absent, log

_DEVICE = schema.device.c
_BATCH = schema.batch.c


def add_product(tx: Transaction, product: Product, *, by: str, at: dt.datetime) -> None:
    """A new device model. Raises Conflict `product-exists`."""
    taken = Conflict("product-exists", f"there is a product {product.name!r} already")
    add(tx, schema.product, rows.product_row(product), taken)
    log(
        tx, "product.added", product.tenant_id, product.id,
        by=by, at=at, name=product.name, shared_names=[str(name) for name in product.shared_names],
    )  # fmt: skip


def add_batch(tx: Transaction, batch: Batch, *, by: str, at: dt.datetime) -> None:
    """A new factory run. Raises Conflict `batch-exists`: the same manifest is the same batch."""
    taken = Conflict("batch-exists", "a batch with this manifest exists already: resume that one")
    add(tx, schema.batch, rows.batch_row(batch), taken)
    log(
        tx, "batch.added", batch.tenant_id, batch.id,
        by=by, at=at, size=batch.size, manifest_hash=batch.manifest_hash,
    )  # fmt: skip


def move_batch(
    tx: Transaction,
    tenant_id: str,
    batch_id: str,
    from_state: BatchState,
    event: BatchEvent,
    *,
    by: str,
    at: dt.datetime,
) -> BatchState:
    """The batch's new state. Raises WrongState `wrong-state`, NotFound `batch-unknown`."""
    to_state = after(BATCH, from_state, event)
    of_id = (_BATCH.tenant_id == tenant_id, _BATCH.id == batch_id)
    moved = count(
        tx,
        sa.update(schema.batch)
        .where(*of_id, _BATCH.state == from_state.value)
        .values(state=to_state.value),
    )
    if not moved:
        if reads.batch(tx, tenant_id, batch_id) is None:
            raise NotFound("batch-unknown", f"there is no batch {batch_id!r}")
        raise WrongState("wrong-state", f"batch {batch_id!r} is not {from_state} any more")
    log(tx, f"batch.{event}", tenant_id, batch_id, by=by, at=at)
    return to_state


def add_devices(tx: Transaction, devices: Sequence[Device], *, by: str, at: dt.datetime) -> None:
    """New devices of one tenant, all or none.

    Raises Conflict `device-exists` with the first serial number that is taken (or whose label or
    line of the batch is), BadInput `device-tenant` for devices of several tenants.
    """
    if not devices:
        return
    tenant_id = devices[0].tenant_id
    if any(device.tenant_id != tenant_id for device in devices):
        raise BadInput("device-tenant", "devices of several manufacturers were added in one call")
    known = insert_if_absent(tx, schema.device, [rows.device_row(device) for device in devices])
    if known != len(devices):
        raise Conflict(
            "device-exists",
            f"device {_first_refused(tx, devices).serial_number!r} exists already, or its name "
            "label or manifest line is taken",
        )
    log(
        tx, "devices.added", tenant_id, devices[0].batch_id or devices[0].product_id,
        by=by, at=at, count=len(devices),
    )  # fmt: skip


def _first_refused(tx: Transaction, devices: Sequence[Device]) -> Device:
    stored = reads.devices_by_id(tx, devices[0].tenant_id, [device.id for device in devices])
    seen: set[str] = set()
    for device in devices:
        if stored.get(device.id) != device or device.id in seen:
            return device
        seen.add(device.id)
    return devices[0]  # every one of them was there before, exactly like this


def move_device(
    tx: Transaction,
    tenant_id: str,
    device_id: str,
    from_state: DeviceState,
    event: DeviceEvent,
    *,
    by: str,
    at: dt.datetime,
    reason: str = "",
) -> DeviceState:
    """The device's new state. Raises WrongState `wrong-state`, NotFound `device-unknown`.

    `reason` says why a device is suspended, as a code.
    """
    if not move_devices(tx, tenant_id, [device_id], from_state, event, by=by, at=at, reason=reason):
        if reads.device(tx, tenant_id, device_id) is None:
            raise NotFound("device-unknown", f"there is no device {device_id!r}")
        raise WrongState("wrong-state", f"device {device_id!r} is not {from_state} any more")
    return after(DEVICE, from_state, event)


def move_devices(
    tx: Transaction,
    tenant_id: str,
    device_ids: Sequence[str],
    from_state: DeviceState,
    event: DeviceEvent,
    *,
    by: str,
    at: dt.datetime,
    reason: str = "",
) -> int:
    """How many of the devices were in `from_state` and moved. Raises WrongState `wrong-state`."""
    to_state = after(DEVICE, from_state, event)
    statement = sa.update(schema.device).values(state=to_state.value, suspended_for=reason or None)
    in_state = (_DEVICE.tenant_id == tenant_id, _DEVICE.state == from_state.value)
    moved = sum(
        count(tx, statement.where(*in_state, _DEVICE.id.in_(piece))) for piece in chunks(device_ids)
    )
    if moved:
        subject = device_ids[0] if len(device_ids) == 1 else f"{moved} devices"
        log(tx, f"device.{event}", tenant_id, subject, by=by, at=at, devices=list(device_ids))
    return moved


def set_device_owner(
    tx: Transaction,
    tenant_id: str,
    device_id: str,
    owner_id: str | None,
    expected_owner_id: str | None,
    *,
    by: str,
    at: dt.datetime,
) -> None:
    """Hand the device from one owner (or nobody) to another (or nobody).

    Raises Conflict `device-claimed` if it belongs to somebody else by now, NotFound
    `device-unknown` or `reference-unknown`.
    """
    changed = count(
        tx,
        sa.update(schema.device)
        .where(
            _DEVICE.tenant_id == tenant_id,
            _DEVICE.id == device_id,
            _DEVICE.owner_id.is_(None)
            if expected_owner_id is None
            else _DEVICE.owner_id == expected_owner_id,
        )
        .values(owner_id=owner_id),
    )
    if not changed:
        if reads.device(tx, tenant_id, device_id) is None:
            raise NotFound("device-unknown", f"there is no device {device_id!r}")
        raise Conflict(
            "device-claimed", f"device {device_id!r} changed its owner meanwhile: look again"
        )
    log(
        tx, "device.owner-changed", tenant_id, device_id,
        by=by, at=at, owner=owner_id, before=expected_owner_id,
    )  # fmt: skip


def add_owner(
    tx: Transaction, owner: Owner, password_hash: str, *, by: str, at: dt.datetime
) -> None:
    """A new customer of the maker. Raises Conflict `owner-exists`."""
    taken = Conflict("owner-exists", f"there is an owner {owner.username!r} already")
    add(tx, schema.owner, rows.owner_row(owner, password_hash), taken)
    log(tx, "owner.added", owner.tenant_id, owner.id, by=by, at=at)
