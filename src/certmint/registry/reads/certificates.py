"""Reading public keys, intents and certificates."""

import datetime as dt
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from certmint.model.entities import Certificate, KeyRecord, RevocationReason
from certmint.model.profile import Purpose
from certmint.model.serial import Serial
from certmint.registry import rows, schema
from certmint.registry.compiled import Among, Compiled
from certmint.registry.engine import Transaction
from certmint.registry.memory import known
from certmint.registry.statements import chunks

_KEY = schema.public_key.c
_INTENT = schema.intent.c
_CERTIFICATE = schema.certificate.c

_OF_ITS_INTENT = sa.and_(
    _CERTIFICATE.authority_id == _INTENT.authority_id, _CERTIFICATE.serial == _INTENT.serial
)
_WITHOUT_DER = [
    sa.literal(b"").label("der") if each.name == "der" else each for each in schema.certificate.c
]
_WAS_SIGNED = sa.func.length(_CERTIFICATE.der) > 0  # an abandoned intent has no bytes

_KEYS = Among(sa.select(schema.public_key), _KEY.fingerprint)
_BY_AUTHORITY = Compiled(
    sa.select(schema.certificate).where(
        _CERTIFICATE.authority_id == sa.bindparam("authority_id"),
        _CERTIFICATE.serial == sa.bindparam("serial"),
    )
)
_DER = Compiled(
    sa.select(_CERTIFICATE.tenant_id, _CERTIFICATE.der).where(
        _CERTIFICATE.authority_id == sa.bindparam("authority_id"),
        _CERTIFICATE.serial == sa.bindparam("serial"),
    )
)
_BY_SERIAL = Compiled(
    sa.select(schema.certificate)
    .where(
        _CERTIFICATE.tenant_id == sa.bindparam("tenant_id"),
        _CERTIFICATE.serial == sa.bindparam("serial"),
    )
    .order_by(_CERTIFICATE.authority_id)
    .limit(1)
)
_STATUS = Compiled(
    sa.select(
        _CERTIFICATE.revoked_at,
        _CERTIFICATE.revocation_reason,
        sa.func.coalesce(_WAS_SIGNED, sa.false()).label("issued"),
    )
    .select_from(schema.intent.outerjoin(schema.certificate, _OF_ITS_INTENT))
    .where(
        _INTENT.authority_id == sa.bindparam("authority_id"),
        _INTENT.serial == sa.bindparam("serial"),
    )
)
_LATEST = Compiled(
    sa.select(schema.certificate)
    .where(
        _CERTIFICATE.tenant_id == sa.bindparam("tenant_id"),
        _CERTIFICATE.device_id == sa.bindparam("device_id"),
        _CERTIFICATE.purpose == sa.bindparam("purpose"),
        _WAS_SIGNED,
    )
    .order_by(_CERTIFICATE.serial.desc())  # which begins with the time (ADR 8), and is indexed
    .limit(1)
)


def key_records(tx: Transaction, fingerprints: Iterable[str]) -> dict[str, KeyRecord]:
    """What is known of those public keys, fleet-wide: of every tenant, never shown to one."""
    found = _KEYS.all(tx, fingerprints)
    return {row.fingerprint: rows.key_record_of(row) for row in found}


def orphan_intents(
    tx: Transaction,
    older_than: dt.datetime,
    limit: int,
    *,
    since: dt.datetime | None = None,
) -> list[rows.Intent]:
    """Intents recorded before `older_than` that have no certificate, oldest first.

    `since` spares a walk over every intent ever recorded, where older ones were looked at before.
    """
    query = (
        sa.select(schema.intent)
        .where(
            _INTENT.recorded_at < older_than,
            ~sa.exists().where(_OF_ITS_INTENT),
        )
        .order_by(_INTENT.recorded_at, _INTENT.serial)
        .limit(limit)
    )
    if since is not None:
        query = query.where(_INTENT.recorded_at >= since)
    return [rows.intent_of(row) for row in tx.execute(query)]


def issuance(tx: Transaction, tenant_id: str, serial: Serial) -> rows.Intent | None:
    """What was written down before a certificate was signed: who asked, with which evidence."""
    # Intents are keyed by authority and serial alone: a tenant's are those of its authorities.
    authority = schema.authority.c
    query = (
        sa.select(schema.intent)
        .join_from(schema.authority, schema.intent, authority.id == _INTENT.authority_id)
        .where(authority.tenant_id == tenant_id, _INTENT.serial == serial)
        .limit(1)
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else rows.intent_of(row)


def certificate(
    tx: Transaction, tenant_id: str, serial: Serial, authority_id: str | None = None
) -> Certificate | None:
    """A certificate of the tenant by its serial, or by authority and serial."""
    if authority_id is not None:
        found = presented_certificate(tx, authority_id, serial)
        return found if found is not None and found.tenant_id == tenant_id else None

    def read() -> Certificate | None:
        row = _BY_SERIAL.first(tx, tenant_id=tenant_id, serial=serial)
        return None if row is None else rows.certificate_of(row)

    return known(tx, schema.certificate, ("of", tenant_id, serial), read)


def certificate_der(
    tx: Transaction, tenant_id: str, authority_id: str, serial: Serial
) -> bytes | None:
    """A certificate of the tenant in DER; empty for one that was never stored."""
    row = _DER.first(tx, authority_id=authority_id, serial=serial)
    return None if row is None or row.tenant_id != tenant_id else bytes(row.der)


def presented_certificate(tx: Transaction, authority_id: str, serial: Serial) -> Certificate | None:
    """A certificate of any tenant, for the TLS layer; the caller compares the bytes."""

    def read() -> Certificate | None:
        row = _BY_AUTHORITY.first(tx, authority_id=authority_id, serial=serial)
        return None if row is None else rows.certificate_of(row)

    return known(tx, schema.certificate, (authority_id, serial), read)


def certificate_status(tx: Transaction, authority_id: str, serial: Serial) -> rows.Status:
    """What a responder may say of a serial, of any tenant; unknown serials have a status too."""
    row = _STATUS.first(tx, authority_id=authority_id, serial=serial)
    if row is None:
        return rows.Status(known=False, issued=False, revocation=None)
    return rows.Status(known=True, issued=bool(row.issued), revocation=rows.revocation_of(row))


def certificates(
    tx: Transaction,
    tenant_id: str,
    *,
    device_id: str | None = None,
    authority_id: str | None = None,
    profile: str | None = None,
    is_revoked: bool | None = None,
    with_der: bool = True,
    after: str | None = None,
    limit: int = 100,
) -> list[Certificate]:
    """The tenant's certificates, or a device's, by serial (so by age); abandoned ones too.

    `after` is the last serial of the page before. Without their DER, which is most of a row, long
    pages take a third of the time.
    """
    query = sa.select(*(schema.certificate.c if with_der else _WITHOUT_DER))
    if authority_id is None:
        query = query.where(_CERTIFICATE.tenant_id == tenant_id)
    else:
        # An authority is of one tenant, and its serials are the primary key: that way a rare
        # authority's page is found at once, so the tenant shall not choose the index.
        query = query.where(
            _CERTIFICATE.authority_id == authority_id, _CERTIFICATE.tenant_id + "" == tenant_id
        )
    if device_id is not None:
        query = query.where(_CERTIFICATE.device_id == device_id)
    if profile is not None:
        query = query.where(_CERTIFICATE.profile == profile)
    if is_revoked is not None:
        gone = _CERTIFICATE.revoked_at
        query = query.where(gone.is_not(None) if is_revoked else gone.is_(None))
    if after is not None:
        query = query.where(_CERTIFICATE.serial > after)
    found = tx.execute(query.order_by(_CERTIFICATE.serial).limit(limit))
    return [rows.certificate_of(row) for row in found]


def ending_certificates(
    tx: Transaction,
    tenant_id: str,
    before: dt.datetime,
    *,
    since: dt.datetime,
    after: tuple[dt.datetime, Serial] | None = None,
    limit: int = 100,
) -> list[Certificate]:
    """Certificates that end within [since, before) and were neither revoked nor replaced.

    By notAfter; `after` is notAfter and serial of the last one of the page before.
    """
    end = _CERTIFICATE.not_after
    query = sa.select(schema.certificate).where(
        _CERTIFICATE.tenant_id == tenant_id,
        end >= since,
        end < before,
        _CERTIFICATE.revoked_at.is_(None),
        _CERTIFICATE.successor.is_(None),
    )
    if after is not None:
        query = query.where(
            (end > after[0]) | ((end == after[0]) & (_CERTIFICATE.serial > after[1]))
        )
    found = tx.execute(query.order_by(end, _CERTIFICATE.serial).limit(limit))
    return [rows.certificate_of(row) for row in found]


def count_ending(tx: Transaction, tenant_id: str, bounds: Sequence[dt.datetime]) -> list[int]:
    """How many certificates in force end before the first bound, then between each two."""
    end = _CERTIFICATE.not_after
    counts = []
    for start, stop in zip([None, *bounds], bounds, strict=False):
        query = sa.select(sa.func.count()).where(
            _CERTIFICATE.tenant_id == tenant_id,
            _CERTIFICATE.revoked_at.is_(None),
            _CERTIFICATE.successor.is_(None),
            end < stop,
        )
        if start is not None:
            query = query.where(end >= start)
        counts.append(int(tx.execute(query).scalar_one()))
    return counts


def latest_certificate(
    tx: Transaction, tenant_id: str, device_id: str, purpose: Purpose
) -> Certificate | None:
    """The device's newest certificate of that purpose, revoked or not, expired or not."""

    def read() -> Certificate | None:
        row = _LATEST.first(tx, tenant_id=tenant_id, device_id=device_id, purpose=purpose.value)
        return None if row is None else rows.certificate_of(row)

    return known(tx, schema.certificate, ("latest", tenant_id, device_id, purpose), read)


def certificates_with_key(tx: Transaction, tenant_id: str, fingerprint: str) -> list[Certificate]:
    """The tenant's certificates for one public key, by serial."""
    key = key_records(tx, [fingerprint]).get(fingerprint)
    if key is None or key.tenant_id != tenant_id:
        return []
    # A key belongs to one device for ever, so these are among that device's few certificates.
    query = (
        sa.select(schema.certificate)
        .where(
            _CERTIFICATE.tenant_id == tenant_id,
            _CERTIFICATE.device_id.is_(None)
            if key.device_id is None
            else _CERTIFICATE.device_id == key.device_id,
            _CERTIFICATE.key_fingerprint == fingerprint,
        )
        .order_by(_CERTIFICATE.serial)
    )
    return [rows.certificate_of(row) for row in tx.execute(query)]


def batch_certificates(
    tx: Transaction, tenant_id: str, device_ids: Iterable[str]
) -> dict[str, list[Certificate]]:
    """The certificates of those devices, by serial; a device without any is left out."""
    query = (
        sa.select(schema.certificate)
        .where(_CERTIFICATE.tenant_id == tenant_id, _WAS_SIGNED)
        .order_by(_CERTIFICATE.serial)
    )
    found: dict[str, list[Certificate]] = {}
    for piece in chunks(device_ids):
        for row in tx.execute(query.where(_CERTIFICATE.device_id.in_(piece))):
            found.setdefault(row.device_id, []).append(rows.certificate_of(row))
    return found


def revoked_entries(tx: Transaction, authority_id: str, shard: int) -> list[rows.RevokedEntry]:
    """What one shard's CRL has to say, by serial; expired certificates too."""
    query = (
        sa.select(
            _CERTIFICATE.serial,
            _CERTIFICATE.revoked_at,
            _CERTIFICATE.revocation_reason,
            _CERTIFICATE.not_after,
        )
        .where(
            _CERTIFICATE.authority_id == authority_id,
            _CERTIFICATE.crl_shard == shard,
            _CERTIFICATE.revoked_at.is_not(None),
        )
        .order_by(_CERTIFICATE.serial)
    )
    return [
        rows.RevokedEntry(serial, revoked_at, RevocationReason(reason), not_after)
        for serial, revoked_at, reason, not_after in tx.execute(query)
    ]


def count_certificates(tx: Transaction, tenant_id: str) -> rows.CertificateCounts:
    """Totals of the tenant, in one snapshot; abandoned intents count as revoked, not as issued."""
    authorities = sa.select(schema.authority.c.id).where(schema.authority.c.tenant_id == tenant_id)
    kept = sa.select(sa.func.count()).where(_CERTIFICATE.tenant_id == tenant_id)
    # By authority, and thus by the small index of revoked rows alone.
    revoked = sa.select(sa.func.count()).where(
        _CERTIFICATE.authority_id.in_(authorities), _CERTIFICATE.revoked_at.is_not(None)
    )
    abandoned = revoked.where(~_WAS_SIGNED)
    intents = sa.select(sa.func.count()).where(_INTENT.authority_id.in_(authorities))
    total, gone, never, planned = tx.execute(
        sa.select(*(query.scalar_subquery() for query in (kept, revoked, abandoned, intents)))
    ).one()
    return rows.CertificateCounts(issued=total - never, revoked=gone, orphans=planned - total)
