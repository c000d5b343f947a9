"""Writing what was signed, what never will be, and what is revoked.

Laws: a certificate's row is copied from its intent by the database, so the two cannot differ;
storing a certificate and abandoning its intent need the same row, so only one of them happens;
a revocation is never undone.
"""

import datetime as dt
import hashlib
from collections.abc import Sequence

import sqlalchemy as sa

from certmint.model.entities import RevocationReason
from certmint.model.errors import Conflict, NotFound
from certmint.model.serial import Serial
from certmint.registry import reads, schema
from certmint.registry.engine import Transaction
from certmint.registry.rows import Intent
from certmint.registry.statements import copy_if_absent, count, log
from certmint.registry.writes.intents import NAMED_SERIALS, by_tenant

_INTENT = schema.intent.c
_CERTIFICATE = schema.certificate.c
_KEY = schema.public_key.c

_DESCRIPTION = (
    _INTENT.authority_id,
    _INTENT.serial,
    _INTENT.tenant_id,
    _INTENT.profile,
    _INTENT.profile_version,
    _INTENT.purpose,
    _INTENT.device_id,
    _INTENT.subject,
    _INTENT.names,
    _INTENT.key_fingerprint,
    _INTENT.not_before,
    _INTENT.not_after,
    _INTENT.crl_shard,
)


def _given(name: str) -> sa.ColumnElement[object]:
    column = schema.certificate.c[name]
    return sa.bindparam(f"new_{name}", type_=column.type).label(name)


_ISSUED = (*_DESCRIPTION, _given("issued_at"), _given("der"))
_ABANDONED = (*_ISSUED, _given("revoked_at"), _given("revocation_reason"))
_OF_INTENT = sa.and_(
    _INTENT.authority_id == sa.bindparam("of_authority"),
    _INTENT.serial == sa.bindparam("of_serial"),
)


def record_issued(tx: Transaction, issued: Sequence[tuple[Intent, bytes]], at: dt.datetime) -> None:
    """Store the certificates that one call of the gate signed, all or none.

    Raises Conflict `intent-reconciled` if one of the intents was abandoned meanwhile (its serial
    is revoked: the certificate must not leave), NotFound `intent-unknown`.
    """
    if not issued:
        return
    stored = copy_if_absent(
        tx,
        schema.certificate,
        _ISSUED,
        _OF_INTENT,
        [
            {
                "of_authority": intent.authority_id,
                "of_serial": intent.serial,
                "new_issued_at": at,
                "new_der": der,
            }
            for intent, der in issued
        ],
    )
    if stored != len(issued):
        raise _why_not_stored(tx, issued)
    ders = {intent.serial: der for intent, der in issued}
    for tenant_id, group in by_tenant(intent for intent, _ in issued).items():
        hashes = [hashlib.sha256(ders[intent.serial]).digest() for intent in group]
        detail: dict[str, object] = {"digest": hashlib.sha256(b"".join(hashes)).hexdigest()}
        if len(group) <= NAMED_SERIALS:
            detail["serials"] = [intent.serial for intent in group]
        log(
            tx, "certificates.issued", tenant_id, group[0].call_id,
            by=group[0].requester, at=at, count=len(group), **detail,
        )  # fmt: skip


def _why_not_stored(tx: Transaction, issued: Sequence[tuple[Intent, bytes]]) -> Conflict | NotFound:
    for intent, der in issued:
        held = reads.presented_certificate(tx, intent.authority_id, intent.serial)
        if held is None:
            return NotFound("intent-unknown", f"no intent was recorded for serial {intent.serial}")
        if held.der != der:
            return Conflict(
                "intent-reconciled",
                f"serial {intent.serial} was abandoned and revoked while it was being signed",
            )
    return Conflict("intent-reconciled", "these certificates were stored before: ask again")


def abandon_intent(
    tx: Transaction, intent: Intent, at: dt.datetime, *, by: str = "job:reconcile"
) -> None:
    """Count an intent without a certificate as issued, and revoke its serial.

    What it was to replace may be replaced again. Raises Conflict `intent-issued` if its
    certificate was stored meanwhile, NotFound `intent-unknown`.
    """
    row = {
        "of_authority": intent.authority_id,
        "of_serial": intent.serial,
        "new_issued_at": at,
        "new_der": b"",
        "new_revoked_at": at,
        "new_revocation_reason": RevocationReason.UNSPECIFIED.value,
    }
    if copy_if_absent(tx, schema.certificate, _ABANDONED, _OF_INTENT, [row]) != 1:
        if reads.certificate_status(tx, intent.authority_id, intent.serial).known:
            raise Conflict("intent-issued", f"serial {intent.serial} has its certificate by now")
        raise NotFound("intent-unknown", f"no intent was recorded for serial {intent.serial}")
    if intent.replaces is not None:
        tx.execute(
            sa.update(schema.certificate)
            .where(
                _CERTIFICATE.tenant_id == intent.tenant_id,
                _CERTIFICATE.serial == intent.replaces,
                _CERTIFICATE.successor == intent.serial,
            )
            .values(successor=None)
        )
    log(
        tx, "intent.abandoned", intent.tenant_id, intent.serial,
        by=by, at=at, authority=intent.authority_id, call=intent.call_id,
    )  # fmt: skip


def revoke_certificate(
    tx: Transaction,
    tenant_id: str,
    authority_id: str,
    serial: Serial,
    reason: RevocationReason,
    *,
    by: str,
    at: dt.datetime,
) -> None:
    """Revoke a certificate, for ever.

    A revoked one can only become `key-compromise`, and keeps its date. Raises Conflict
    `already-revoked`, NotFound `certificate-unknown`.
    """
    of_serial = (
        _CERTIFICATE.tenant_id == tenant_id,
        _CERTIFICATE.authority_id == authority_id,
        _CERTIFICATE.serial == serial,
    )
    update = sa.update(schema.certificate).where(*of_serial)
    revoked = count(
        tx,
        update.where(_CERTIFICATE.revoked_at.is_(None)).values(
            revoked_at=at, revocation_reason=reason.value
        ),
    )
    if not revoked and reason is RevocationReason.KEY_COMPROMISE:
        revoked = count(
            tx,
            update.where(_CERTIFICATE.revocation_reason != reason.value).values(
                revocation_reason=reason.value
            ),
        )
    if not revoked:
        if reads.certificate(tx, tenant_id, serial, authority_id) is None:
            raise NotFound("certificate-unknown", f"there is no certificate with serial {serial}")
        raise Conflict("already-revoked", f"certificate {serial} is revoked already")
    log(
        tx, "certificate.revoked", tenant_id, serial,
        by=by, at=at, authority=authority_id, reason=reason.value,
    )  # fmt: skip


def block_key(tx: Transaction, fingerprint: str, at: dt.datetime, *, by: str) -> None:
    """Never certify this key again; blocking it twice changes nothing. Raises NotFound."""
    blocked = count(
        tx,
        sa.update(schema.public_key)
        .where(_KEY.fingerprint == fingerprint, _KEY.blocked_at.is_(None))
        .values(blocked_at=at),
    )
    held = reads.key_records(tx, [fingerprint]).get(fingerprint)
    if held is None:
        raise NotFound("key-unknown", f"no certificate was asked for the key {fingerprint[:16]}…")
    if blocked:
        log(tx, "key.blocked", held.tenant_id, fingerprint, by=by, at=at, device=held.device_id)
