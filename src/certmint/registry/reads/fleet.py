"""Reading products, devices, batches and owners."""

from collections.abc import Iterable

import sqlalchemy as sa

from certmint.model.entities import Batch, Device, Owner, Product
from certmint.model.states import DeviceState
from certmint.registry import rows, schema
from certmint.registry.compiled import Among, Compiled
from certmint.registry.engine import Transaction
from certmint.registry.memory import known

_PRODUCT = schema.product.c
_DEVICE = schema.device.c
_BATCH = schema.batch.c
_OWNER = schema.owner.c

_PRODUCT_BY_ID = Compiled(
    sa.select(schema.product).where(
        _PRODUCT.tenant_id == sa.bindparam("tenant_id"), _PRODUCT.id == sa.bindparam("id")
    ),
    of=rows.product_of,
    settled=(schema.product,),
)
_DEVICES = Among(
    sa.select(schema.device).where(_DEVICE.tenant_id == sa.bindparam("tenant_id")), _DEVICE.id
)
_DEVICE_BY_ID = Compiled(
    sa.select(schema.device).where(
        _DEVICE.tenant_id == sa.bindparam("tenant_id"), _DEVICE.id == sa.bindparam("id")
    )
)


def product(tx: Transaction, tenant_id: str, product_id: str) -> Product | None:
    """A product by its id."""
    found: Product | None = _PRODUCT_BY_ID.first(tx, tenant_id=tenant_id, id=product_id)
    return found


def product_by_name(tx: Transaction, tenant_id: str, name: str) -> Product | None:
    """A product by the name that people type."""
    return _product(tx, _PRODUCT.tenant_id == tenant_id, _PRODUCT.name == name)


def products(
    tx: Transaction, tenant_id: str, *, after: str | None = None, limit: int = 100
) -> list[Product]:
    """The tenant's products, by name; `after` is the last name of the page before."""
    query = sa.select(schema.product).where(_PRODUCT.tenant_id == tenant_id)
    if after is not None:
        query = query.where(_PRODUCT.name > after)
    return [rows.product_of(row) for row in tx.execute(query.order_by(_PRODUCT.name).limit(limit))]


def device(tx: Transaction, tenant_id: str, device_id: str) -> Device | None:
    """A device by its id."""

    def read() -> Device | None:
        row = _DEVICE_BY_ID.first(tx, tenant_id=tenant_id, id=device_id)
        return None if row is None else rows.device_of(row)

    return known(tx, schema.device, (tenant_id, device_id), read)


def device_by_serial_number(tx: Transaction, tenant_id: str, serial_number: str) -> Device | None:
    """A device by the maker's serial number."""
    return _device(tx, _DEVICE.tenant_id == tenant_id, _DEVICE.serial_number == serial_number)


def devices(
    tx: Transaction,
    tenant_id: str,
    *,
    product_id: str | None = None,
    batch_id: str | None = None,
    state: DeviceState | None = None,
    suspended_for: str | None = None,
    owner_id: str | None = None,
    prefix: str | None = None,
    after: str | None = None,
    limit: int = 100,
) -> list[Device]:
    """Devices by serial number; `after` is the last serial number of the page before.

    `prefix` is what their serial numbers begin with.
    """
    query = sa.select(schema.device).where(_DEVICE.tenant_id == tenant_id)
    if product_id is not None:
        query = query.where(_DEVICE.product_id == product_id)
    if batch_id is not None:
        query = query.where(_DEVICE.batch_id == batch_id)
    if state is not None:
        query = query.where(_DEVICE.state == state.value)
    if suspended_for is not None:
        query = query.where(_DEVICE.suspended_for == suspended_for)
    if owner_id is not None:
        query = query.where(_DEVICE.owner_id == owner_id)
    if prefix:
        # A range of the index; U+10FFFF is the last character that there is.
        last = prefix + "\U0010ffff"
        query = query.where(_DEVICE.serial_number >= prefix, _DEVICE.serial_number <= last)
    if after is not None:
        query = query.where(_DEVICE.serial_number > after)
    found = tx.execute(query.order_by(_DEVICE.serial_number).limit(limit))
    return [rows.device_of(row) for row in found]


def devices_by_id(tx: Transaction, tenant_id: str, ids: Iterable[str]) -> dict[str, Device]:
    """Those of the devices that exist, by id."""
    wanted = list(ids)
    if len(wanted) == 1:
        found = device(tx, tenant_id, wanted[0])
        return {found.id: found} if found is not None else {}
    return {row.id: rows.device_of(row) for row in _DEVICES.all(tx, wanted, tenant_id=tenant_id)}


def batch_devices(
    tx: Transaction,
    tenant_id: str,
    batch_id: str,
    *,
    state: DeviceState | None = None,
    after_line: int = 0,
    limit: int = 1_000,
) -> list[Device]:
    """A batch's devices in the order of its manifest, from behind `after_line` on."""
    query = sa.select(schema.device).where(
        _DEVICE.tenant_id == tenant_id, _DEVICE.batch_id == batch_id, _DEVICE.line > after_line
    )
    if state is not None:
        query = query.where(_DEVICE.state == state.value)
    return [rows.device_of(row) for row in tx.execute(query.order_by(_DEVICE.line).limit(limit))]


def count_devices_by_state(
    tx: Transaction, tenant_id: str, batch_id: str | None = None
) -> dict[DeviceState, int]:
    """How many devices are in each state, of the tenant or of one batch; no zeros."""
    query = sa.select(_DEVICE.state, sa.func.count()).where(_DEVICE.tenant_id == tenant_id)
    if batch_id is not None:
        query = query.where(_DEVICE.batch_id == batch_id)
    return {
        DeviceState(state): number for state, number in tx.execute(query.group_by(_DEVICE.state))
    }


def batch(tx: Transaction, tenant_id: str, batch_id: str) -> Batch | None:
    """A batch by its id."""
    return _batch(tx, _BATCH.tenant_id == tenant_id, _BATCH.id == batch_id)


def batch_by_manifest(
    tx: Transaction, tenant_id: str, product_id: str, manifest_hash: str
) -> Batch | None:
    """The batch that this manifest is: the same manifest is the same batch."""
    return _batch(
        tx,
        _BATCH.tenant_id == tenant_id,
        _BATCH.product_id == product_id,
        _BATCH.manifest_hash == manifest_hash,
    )


def batches(
    tx: Transaction, tenant_id: str, *, after: str | None = None, limit: int = 100
) -> list[Batch]:
    """The tenant's batches, by id; `after` is the last id of the page before."""
    query = sa.select(schema.batch).where(_BATCH.tenant_id == tenant_id)
    if after is not None:
        query = query.where(_BATCH.id > after)
    return [rows.batch_of(row) for row in tx.execute(query.order_by(_BATCH.id).limit(limit))]


def owner(tx: Transaction, tenant_id: str, owner_id: str) -> Owner | None:
    """An owner by its id."""
    query = sa.select(schema.owner).where(_OWNER.tenant_id == tenant_id, _OWNER.id == owner_id)
    row = tx.execute(query).one_or_none()
    return None if row is None else rows.owner_of(row)


def owners(
    tx: Transaction, tenant_id: str, *, after: str | None = None, limit: int = 100
) -> list[Owner]:
    """The tenant's owners by user name; `after` is the last name of the page before."""
    query = sa.select(schema.owner).where(_OWNER.tenant_id == tenant_id)
    if after is not None:
        query = query.where(_OWNER.username > after)
    return [rows.owner_of(row) for row in tx.execute(query.order_by(_OWNER.username).limit(limit))]


def owner_credentials(tx: Transaction, tenant_id: str, username: str) -> tuple[Owner, str] | None:
    """An owner by the name of the login, and the hash of the password."""
    query = sa.select(schema.owner).where(
        _OWNER.tenant_id == tenant_id, _OWNER.username == username
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else (rows.owner_of(row), row.password_hash)


def _product(tx: Transaction, *where: sa.ColumnElement[bool]) -> Product | None:
    row = tx.execute(sa.select(schema.product).where(*where)).one_or_none()
    return None if row is None else rows.product_of(row)


def _device(tx: Transaction, *where: sa.ColumnElement[bool]) -> Device | None:
    row = tx.execute(sa.select(schema.device).where(*where)).one_or_none()
    return None if row is None else rows.device_of(row)


def _batch(tx: Transaction, *where: sa.ColumnElement[bool]) -> Batch | None:
    row = tx.execute(sa.select(schema.batch).where(*where)).one_or_none()
    return None if row is None else rows.batch_of(row)
