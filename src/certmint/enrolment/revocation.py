"""Revoking certificates, and retiring devices."""

import datetime as dt
from collections.abc import Sequence

from certmint.enrolment.signing import SigningKeys
from certmint.enrolment.status import publish_crls
from certmint.model.entities import Authority, Certificate, RevocationReason
from certmint.model.errors import Conflict, NotFound, Refused
from certmint.model.serial import Serial
from certmint.model.states import AuthorityState, DeviceEvent
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
    publish: bool = True,
) -> Certificate:
    """Revoke one certificate and publish its authority's CRLs.

    Of many revocations, those that are not `publish` leave the CRLs to `publish_everywhere`.

    On an operator's word that its key is compromised, the key is blocked for ever and every
    certificate with it is revoked (BR 4.9.1.1 (3)): a thief of a factory key holds the identity
    too. OCSP and every door see it as soon as the first transaction is durable; a crash before
    the CRL is published is made good by the next refresh. Raises NotFound `certificate-unknown`,
    Conflict `already-revoked`.
    """
    found = _certificate(db, tenant_id, serial)
    if reason is RevocationReason.KEY_COMPROMISE:
        if found.revocation is not None and found.revocation.reason is reason:
            raise Conflict("already-revoked", f"certificate {serial} is revoked already")
        report_compromise(db, keys, found, by=by, now=now, publish=publish)
    else:
        revoke_one(db, keys, found, reason, by=by, now=now, publish=publish)
    return _certificate(db, tenant_id, serial)


def revoke_one(
    db: Database,
    keys: SigningKeys,
    found: Certificate,
    reason: RevocationReason,
    *,
    by: str,
    now: dt.datetime,
    publish: bool = True,
) -> None:
    """Revoke this certificate and nothing else, whatever the reason given for it.

    A subscriber's bare claim of a compromise ends here: without proof of the key it must not
    reach other certificates. Raises Conflict `already-revoked`.
    """
    db.write(
        lambda tx: writes.revoke_certificate(
            tx, found.tenant_id, found.authority_id, found.serial, reason, by=by, at=now
        )
    )
    if publish:
        _publish(db, keys, _authorities(db, [found]), now)


def report_compromise(
    db: Database,
    keys: SigningKeys,
    found: Certificate,
    *,
    by: str,
    now: dt.datetime,
    publish: bool = True,
) -> list[Certificate]:
    """Block a certificate's key for ever and revoke every certificate with it, at once."""
    reason = RevocationReason.KEY_COMPROMISE
    with db.read() as tx:
        same = reads.certificates_with_key(tx, found.tenant_id, found.key_fingerprint)
    open_ones = [
        each for each in same if each.revocation is None or each.revocation.reason is not reason
    ]

    def work(tx: Transaction) -> None:
        writes.block_key(tx, found.key_fingerprint, now, by=by)
        for each in open_ones:
            writes.revoke_certificate(
                tx, each.tenant_id, each.authority_id, each.serial, reason, by=by, at=now
            )

    db.write(work)
    if publish:
        _publish(db, keys, _authorities(db, open_ones), now)
    return open_ones


def refuse_authority(db: Database, tenant_id: str, serial: Serial) -> None:
    """Whether one person may revoke this: not what an authority signs with.

    Revoking that ends every certificate below it, so it takes as many people as making it did.
    Raises Refused `authority-certificate`, NotFound `certificate-unknown`.
    """
    found = _certificate(db, tenant_id, serial)
    if found.purpose.is_authority:
        raise Refused(
            "authority-certificate",
            f"certificate {serial} is an authority's: ask with POST /certificates/revocations, "
            "where a second operator has to agree",
        )


def check_known(db: Database, tenant_id: str, serials: Sequence[Serial]) -> None:
    """Whether all of them are the tenant's. Raises NotFound `certificate-unknown`."""
    with db.read() as tx:
        for serial in serials:
            if reads.certificate(tx, tenant_id, serial) is None:
                raise NotFound(
                    "certificate-unknown", f"there is no certificate with serial {serial}"
                )


def publish_everywhere(db: Database, keys: SigningKeys, tenant_id: str, now: dt.datetime) -> None:
    """Fresh CRLs of every authority of a tenant that has a certificate."""
    with db.read() as tx:
        known = reads.authorities(tx, tenant_id)
    for each in known:
        if each.state is not AuthorityState.PENDING:
            publish_crls(db, keys, each, now)


def _certificate(db: Database, tenant_id: str, serial: Serial) -> Certificate:
    with db.read() as tx:
        found = reads.certificate(tx, tenant_id, serial)
    if found is None:
        raise NotFound("certificate-unknown", f"there is no certificate with serial {serial}")
    return found


def _authorities(db: Database, touched: Sequence[Certificate]) -> dict[str, Authority | None]:
    with db.read() as tx:
        return {
            each.authority_id: reads.authority(tx, each.tenant_id, each.authority_id)
            for each in touched
        }


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
