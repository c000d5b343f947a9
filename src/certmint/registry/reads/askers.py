"""Reading what tells who asks: label secrets, sightings, hardware, offers, lock-outs."""

import datetime as dt
from dataclasses import dataclass, field

import sqlalchemy as sa

from certmint.model.entities import Sighting
from certmint.registry import rows, schema
from certmint.registry.compiled import Compiled
from certmint.registry.engine import Transaction

_SECRET = schema.label_secret.c
_SIGHTING = schema.device_sighting.c
_HARDWARE = schema.expected_hardware.c
_ANCHOR = schema.attestation_anchor.c
_TRANSFER = schema.device_transfer.c
_PAIRING = schema.device_pairing.c
_LOCKOUT = schema.lockout.c

_SIGHTING_OF = Compiled(
    sa.select(schema.device_sighting).where(
        _SIGHTING.tenant_id == sa.bindparam("tenant_id"),
        _SIGHTING.device_id == sa.bindparam("device_id"),
    )
)


@dataclass(frozen=True)
class LabelSecret:
    """A secret of a device's label: its MAC, and what it was spent on ("" for nothing yet)."""

    mac: str = field(repr=False)
    spent_on: str


@dataclass(frozen=True)
class AnchorRow:
    """A CA that vouches for hardware of one format, for the devices of one product."""

    format: str
    fingerprint: str
    der: bytes = field(repr=False)
    added_at: dt.datetime


@dataclass(frozen=True)
class Transfer:
    """An owner's offer to hand a device on."""

    device_id: str
    from_owner_id: str
    to_owner_id: str
    expires_at: dt.datetime


@dataclass(frozen=True)
class Pairing:
    """An owner who was shown a code; the device has to name it."""

    owner_id: str
    mac: str = field(repr=False)
    expires_at: dt.datetime


@dataclass(frozen=True)
class Lockout:
    """How often a subject failed in a row, and until when it has to wait."""

    failures: int
    failed_at: dt.datetime
    until: dt.datetime


def label_secret(tx: Transaction, tenant_id: str, device_id: str, kind: str) -> LabelSecret | None:
    """A device's secret of this kind."""
    row = tx.execute(
        sa.select(schema.label_secret).where(
            _SECRET.tenant_id == tenant_id,
            _SECRET.device_id == device_id,
            _SECRET.kind == kind,
        )
    ).one_or_none()
    return None if row is None else LabelSecret(row.mac, row.spent_on or "")


def sighting(tx: Transaction, tenant_id: str, device_id: str) -> Sighting | None:
    """Where from a device got its last certificate by itself."""
    row = _SIGHTING_OF.first(tx, tenant_id=tenant_id, device_id=device_id)
    return None if row is None else rows.sighting_of(row)


def device_id_by_hardware(tx: Transaction, tenant_id: str, identifier: str) -> str | None:
    """The device that is expected to have this hardware identity."""
    return tx.execute(
        sa.select(_HARDWARE.device_id).where(
            _HARDWARE.tenant_id == tenant_id, _HARDWARE.identifier == identifier
        )
    ).scalar_one_or_none()


def expected_hardware(tx: Transaction, tenant_id: str, device_id: str) -> list[str]:
    """The hardware identities that a device is expected to have."""
    query = sa.select(_HARDWARE.identifier).where(
        _HARDWARE.tenant_id == tenant_id, _HARDWARE.device_id == device_id
    )
    return list(tx.execute(query.order_by(_HARDWARE.identifier)).scalars())


def attestation_anchors(tx: Transaction, tenant_id: str, product_id: str) -> list[AnchorRow]:
    """The CAs that vouch for the hardware of a product."""
    query = sa.select(schema.attestation_anchor).where(
        _ANCHOR.tenant_id == tenant_id, _ANCHOR.product_id == product_id
    )
    return [
        AnchorRow(row.format, row.fingerprint, row.der, row.added_at)
        for row in tx.execute(query.order_by(_ANCHOR.format, _ANCHOR.fingerprint))
    ]


def device_transfer(
    tx: Transaction, tenant_id: str, device_id: str, now: dt.datetime
) -> Transfer | None:
    """The offer that stands for a device now."""
    row = tx.execute(
        sa.select(schema.device_transfer).where(
            _TRANSFER.tenant_id == tenant_id,
            _TRANSFER.device_id == device_id,
            _TRANSFER.expires_at > now,
        )
    ).one_or_none()
    if row is None:
        return None
    return Transfer(row.device_id, row.from_owner_id, row.to_owner_id, row.expires_at)


def device_pairings(
    tx: Transaction, tenant_id: str, device_id: str, now: dt.datetime
) -> list[Pairing]:
    """Who waits for this device now."""
    query = sa.select(schema.device_pairing).where(
        _PAIRING.tenant_id == tenant_id,
        _PAIRING.device_id == device_id,
        _PAIRING.expires_at > now,
    )
    return [
        Pairing(row.owner_id, row.mac, row.expires_at)
        for row in tx.execute(query.order_by(_PAIRING.owner_id))
    ]


def lockout(tx: Transaction, subject: str) -> Lockout | None:
    """The failures of a subject, of no tenant."""
    row = tx.execute(sa.select(schema.lockout).where(_LOCKOUT.subject == subject)).one_or_none()
    return None if row is None else Lockout(row.failures, row.failed_at, row.until)
