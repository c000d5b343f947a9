"""Revoking certificates, and retiring devices."""

import datetime as dt

from certmint.enrolment.signing import SigningKeys
from certmint.enrolment.status import publish_crls
from certmint.model.entities import Authority, Certificate, RevocationReason
from certmint.model.errors import NotFound
from certmint.model.serial import Serial
from certmint.model.states import DeviceEvent
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction


def revoke(
    db: Database,
    keys: SigningKeys,
    tenant_id: str,
    serial: Serial,
    reason: RevocationReason,
    *,
    by: str,
    now: dt.datetime,
) -> Certificate:
    """Revoke one certificate and publish its authority's CRLs.

    OCSP and every door see the revocation as soon as the first transaction is durable; a crash
    before the CRL is published is made good by the next refresh. Raises NotFound
    `certificate-unknown`, Conflict `already-revoked`.
    """
    with db.read() as tx:
        found = reads.certificate(tx, tenant_id, serial)
    if found is None:
        raise NotFound("certificate-unknown", f"there is no certificate with serial {serial}")
    db.write(
        lambda tx: writes.revoke_certificate(
            tx, tenant_id, found.authority_id, serial, reason, by=by, at=now
        )
    )
    with db.read() as tx:
        authority = reads.authority(tx, tenant_id, found.authority_id)
        revoked = reads.certificate(tx, tenant_id, serial)
    if authority is None or revoked is None:
        raise NotFound("certificate-unknown", f"there is no certificate with serial {serial}")
    publish_crls(db, keys, authority, now)
    return revoked


def retire_device(
    db: Database,
    keys: SigningKeys,
    tenant_id: str,
    serial_number: str,
    *,
    by: str,
    now: dt.datetime,
) -> list[Certificate]:
    """Take a device out of service for good: its state and every live certificate, at once.

    Raises NotFound `device-unknown`, WrongState `wrong-state`.
    """
    with db.read() as tx:
        device = reads.device_by_serial_number(tx, tenant_id, serial_number)
        if device is None:
            raise NotFound("device-unknown", f"there is no device {serial_number!r}")
        live = [
            each for each in reads.certificates(tx, tenant_id, device_id=device.id, limit=10_000)
            if each.revocation is None and not each.is_expired(now)
        ]  # fmt: skip
        touched = {
            each.authority_id: reads.authority(tx, tenant_id, each.authority_id) for each in live
        }

    def work(tx: Transaction) -> None:
        writes.move_device(
            tx, tenant_id, device.id, device.state, DeviceEvent.RETIRED, by=by, at=now
        )
        for each in live:
            writes.revoke_certificate(
                tx, tenant_id, each.authority_id, each.serial,
                RevocationReason.CESSATION_OF_OPERATION, by=by, at=now,
            )  # fmt: skip

    db.write(work)
    _publish(db, keys, touched, now)
    return live


def _publish(
    db: Database, keys: SigningKeys, touched: dict[str, Authority | None], now: dt.datetime
) -> None:
    for authority in touched.values():
        if authority is not None:
            publish_crls(db, keys, authority, now)
