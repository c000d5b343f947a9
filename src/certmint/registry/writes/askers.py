"""Writing what tells who asks: label secrets, sightings, hardware, offers, lock-outs."""

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa

from certmint.model.entities import Product, Sighting
from certmint.model.errors import Conflict
from certmint.model.serial import Serial
from certmint.registry import reads, rows, schema
from certmint.registry.compiled import Compiled
from certmint.registry.engine import Transaction
from certmint.registry.reads.askers import AnchorRow, Pairing, Transfer
from certmint.registry.statements import add, count, insert_if_absent, log

LOCKOUTS = 100_000  # rows at the most: an attacker's thousand addresses must not fill the disk

_SECRET = schema.label_secret.c
_SIGHTING = schema.device_sighting.c
_HARDWARE = schema.expected_hardware.c
_ANCHOR = schema.attestation_anchor.c
_TRANSFER = schema.device_transfer.c
_PAIRING = schema.device_pairing.c
_LOCKOUT = schema.lockout.c

_MOVE_SIGHTING = Compiled(
    sa.update(schema.device_sighting)
    .where(
        _SIGHTING.tenant_id == sa.bindparam("of_tenant"),
        _SIGHTING.device_id == sa.bindparam("of_device"),
    )
    .values(
        source=sa.bindparam("now_source"),
        key_fingerprint=sa.bindparam("now_key"),
        at=sa.bindparam("now_at", type_=_SIGHTING.at.type),
    )
)


def set_label_secrets(
    tx: Transaction,
    tenant_id: str,
    kind: str,
    macs: Sequence[tuple[str, str]],
    *,
    by: str,
    at: dt.datetime,
) -> None:
    """New secrets of one kind, as (device id, MAC); older ones of these devices end."""
    for device_id, mac in macs:
        tx.execute(
            sa.delete(schema.label_secret).where(
                _SECRET.tenant_id == tenant_id,
                _SECRET.device_id == device_id,
                _SECRET.kind == kind,
            )
        )
        row = {
            "tenant_id": tenant_id, "device_id": device_id, "kind": kind, "mac": mac,
            "created_at": at, "spent_at": None, "spent_on": None,
        }  # fmt: skip
        tx.execute(sa.insert(schema.label_secret), row)
    subject = macs[0][0] if len(macs) == 1 else f"{len(macs)} devices"
    log(
        tx, "device.secret-made", tenant_id, subject,
        by=by, at=at, kind=kind, devices=[device_id for device_id, _ in macs],
    )  # fmt: skip


def spend_label_secret(
    tx: Transaction, tenant_id: str, device_id: str, kind: str, serial: Serial, at: dt.datetime
) -> bool:
    """Whether the secret was there and not spent yet; it is now."""
    spent = count(
        tx,
        sa.update(schema.label_secret)
        .where(
            _SECRET.tenant_id == tenant_id,
            _SECRET.device_id == device_id,
            _SECRET.kind == kind,
            _SECRET.spent_at.is_(None),
        )
        .values(spent_at=at, spent_on=serial),
    )
    return spent == 1


def set_sighting(tx: Transaction, tenant_id: str, seen: Sighting) -> None:
    """Remember where a device got its last certificate; no change of anything, so not audited."""
    values = {
        "of_tenant": tenant_id, "of_device": seen.device_id, "now_source": seen.source,
        "now_key": seen.key_fingerprint, "now_at": seen.at,
    }  # fmt: skip
    if not _MOVE_SIGHTING.run(tx, values):
        insert_if_absent(tx, schema.device_sighting, {"tenant_id": tenant_id, **vars(seen)})


def expect_hardware(
    tx: Transaction, tenant_id: str, device_id: str, identifier: str, *, by: str, at: dt.datetime
) -> None:
    """This device has this hardware. Raises Conflict `hardware-taken` if another one has it."""
    row = {
        "tenant_id": tenant_id, "identifier": identifier, "device_id": device_id, "added_at": at,
    }  # fmt: skip
    if insert_if_absent(tx, schema.expected_hardware, row) != 1:
        holder = reads.device_id_by_hardware(tx, tenant_id, identifier)
        if holder == device_id:
            return
        raise Conflict("hardware-taken", f"the hardware {identifier!r} is that of another device")
    log(tx, "device.hardware-expected", tenant_id, device_id, by=by, at=at, identifier=identifier)


def forget_hardware(
    tx: Transaction, tenant_id: str, device_id: str, identifier: str, *, by: str, at: dt.datetime
) -> bool:
    """Whether the device was expected to have it; it is not any more."""
    gone = count(
        tx,
        sa.delete(schema.expected_hardware).where(
            _HARDWARE.tenant_id == tenant_id,
            _HARDWARE.device_id == device_id,
            _HARDWARE.identifier == identifier,
        ),
    )
    if gone:
        log(
            tx, "device.hardware-forgotten", tenant_id, device_id,
            by=by, at=at, identifier=identifier,
        )  # fmt: skip
    return bool(gone)


def add_attestation_anchor(
    tx: Transaction, tenant_id: str, product_id: str, anchor: AnchorRow, *, by: str
) -> None:
    """Let a CA vouch for a product's hardware. Raises Conflict `anchor-exists`."""
    taken = Conflict("anchor-exists", f"this root is trusted for {anchor.format!r} already")
    row = {"tenant_id": tenant_id, "product_id": product_id, **vars(anchor)}
    add(tx, schema.attestation_anchor, row, taken)
    log(
        tx, "product.attestation-trusted", tenant_id, product_id,
        by=by, at=anchor.added_at, format=anchor.format, fingerprint=anchor.fingerprint,
    )  # fmt: skip


def set_product_policy(tx: Transaction, product: Product, *, by: str, at: dt.datetime) -> None:
    """Change what a product asks for: proofs, grace, approval, channel linking."""
    row = rows.product_row(product)
    column = schema.product.c
    tx.execute(
        sa.update(schema.product)
        .where(column.tenant_id == product.tenant_id, column.id == product.id)
        .values({each: row[each] for each in ("accepts", "grace", "approval", "channel_linking")})
    )
    log(
        tx, "product.policy-set", product.tenant_id, product.id,
        by=by, at=at, accepts=list(product.accepts.lines()), approval=sorted(product.approval),
        channel_linking=product.channel_linking,
    )  # fmt: skip


def set_transfer(
    tx: Transaction, tenant_id: str, offer: Transfer, *, by: str, at: dt.datetime
) -> None:
    """An owner offers a device to another; an older offer ends."""
    drop_offers(tx, tenant_id, offer.device_id)
    tx.execute(sa.insert(schema.device_transfer), {"tenant_id": tenant_id, **vars(offer)})
    log(
        tx, "device.transfer-offered", tenant_id, offer.device_id,
        by=by, at=at, to=offer.to_owner_id,
    )  # fmt: skip


def set_pairing(
    tx: Transaction, tenant_id: str, device_id: str, wait: Pairing, *, by: str, at: dt.datetime
) -> None:
    """An owner waits for the device to name a code; an older code of this owner ends."""
    tx.execute(
        sa.delete(schema.device_pairing).where(
            _PAIRING.tenant_id == tenant_id,
            _PAIRING.device_id == device_id,
            (_PAIRING.owner_id == wait.owner_id) | (_PAIRING.expires_at <= at),
        )
    )
    row = {"tenant_id": tenant_id, "device_id": device_id, **vars(wait)}
    tx.execute(sa.insert(schema.device_pairing), row)
    log(tx, "device.pairing-begun", tenant_id, device_id, by=by, at=at, owner=wait.owner_id)


def drop_offers(tx: Transaction, tenant_id: str, device_id: str) -> None:
    """End every transfer and pairing of a device: somebody owns it now, or nobody does."""
    for table in (schema.device_transfer, schema.device_pairing):
        tx.execute(
            sa.delete(table).where(table.c.tenant_id == tenant_id, table.c.device_id == device_id)
        )


def set_lockout(
    tx: Transaction,
    subject: str,
    failures: int,
    at: dt.datetime,
    until: dt.datetime,
    forgotten: dt.datetime,
    keep: int = LOCKOUTS,
) -> None:
    """Remember a failure. Who was quiet since `forgotten` goes, and the oldest of more than `keep`.

    No change of anything, so it is not audited: an attacker would fill the log.
    """
    changed = count(
        tx,
        sa.update(schema.lockout)
        .where(_LOCKOUT.subject == subject)
        .values(failures=failures, failed_at=at, until=until),
    )
    if changed:
        return
    row = {"subject": subject, "failures": failures, "failed_at": at, "until": until}
    insert_if_absent(tx, schema.lockout, row)
    quiet = sa.select(_LOCKOUT.subject).where(_LOCKOUT.failed_at < forgotten).limit(1_000)
    tx.execute(sa.delete(schema.lockout).where(_LOCKOUT.subject.in_(quiet)))
    over = tx.execute(sa.select(sa.func.count()).select_from(schema.lockout)).scalar_one()
    if over > keep:
        oldest = sa.select(_LOCKOUT.subject).order_by(_LOCKOUT.failed_at).limit(over - keep)
        tx.execute(sa.delete(schema.lockout).where(_LOCKOUT.subject.in_(oldest)))


def drop_lockout(tx: Transaction, subject: str) -> None:
    """A subject succeeded: its failures are forgotten."""
    tx.execute(sa.delete(schema.lockout).where(_LOCKOUT.subject == subject))
