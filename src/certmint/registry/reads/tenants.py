"""Reading manufacturers, their domains and profiles, and the audit log."""

import hashlib

import sqlalchemy as sa

from certmint.model.entities import DomainValidation, Manufacturer
from certmint.model.errors import Misconfigured
from certmint.model.profile import Profile
from certmint.registry import documents, rows, schema
from certmint.registry.audit import Entry
from certmint.registry.compiled import Compiled
from certmint.registry.engine import Transaction

_MANUFACTURER = schema.manufacturer.c
_DOMAIN = schema.domain_validation.c
_PROFILE = schema.profile.c
_AUDIT = schema.audit_event.c


def _profile_of(row: rows.Row) -> Profile:
    # Certificates name a profile's version as their reason, so a version is never edited.
    if hashlib.sha256(row.document.encode()).hexdigest() != row.document_hash:
        raise Misconfigured(
            "profile-altered",
            f"version {row.version} of profile {row.name!r} was changed in the database: "
            "restore a backup",
        )
    return documents.profile_of(row.document)


_VERIFIED = Compiled(
    sa.select(schema.domain_validation)
    .where(_DOMAIN.tenant_id == sa.bindparam("tenant_id"), _DOMAIN.verified_at.is_not(None))
    .order_by(_DOMAIN.verified_at, _DOMAIN.id),
    of=rows.domain_validation_of,
    settled=(schema.domain_validation,),
)
_OF_PROFILE = (
    sa.select(schema.profile)
    .where(_PROFILE.tenant_id == sa.bindparam("tenant_id"), _PROFILE.name == sa.bindparam("name"))
    .order_by(_PROFILE.version.desc())
    .limit(1)
)
_NEWEST_PROFILE = Compiled(_OF_PROFILE, _profile_of, (schema.profile,))
_VERSION_OF_PROFILE = Compiled(
    _OF_PROFILE.where(_PROFILE.version == sa.bindparam("version")), _profile_of, (schema.profile,)
)


def manufacturer(tx: Transaction, manufacturer_id: str) -> Manufacturer | None:
    """A tenant by its id."""
    row = tx.execute(
        sa.select(schema.manufacturer).where(_MANUFACTURER.id == manufacturer_id)
    ).one_or_none()
    return None if row is None else rows.manufacturer_of(row)


def manufacturer_by_slug(tx: Transaction, slug: str) -> Manufacturer | None:
    """A tenant by the short name that people type."""
    row = tx.execute(sa.select(schema.manufacturer).where(_MANUFACTURER.slug == slug)).one_or_none()
    return None if row is None else rows.manufacturer_of(row)


def manufacturers(
    tx: Transaction, after: str | None = None, limit: int = 100
) -> list[Manufacturer]:
    """Every tenant, by slug; `after` is the last slug of the page before."""
    query = sa.select(schema.manufacturer).order_by(_MANUFACTURER.slug).limit(limit)
    if after is not None:
        query = query.where(_MANUFACTURER.slug > after)
    return [rows.manufacturer_of(row) for row in tx.execute(query)]


def domain_validation(
    tx: Transaction, tenant_id: str, validation_id: str
) -> DomainValidation | None:
    """One attempt to show control of a domain."""
    query = sa.select(schema.domain_validation).where(
        _DOMAIN.tenant_id == tenant_id, _DOMAIN.id == validation_id
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else rows.domain_validation_of(row)


def domain_validations(
    tx: Transaction,
    tenant_id: str,
    domain: str | None = None,
    *,
    after: str | None = None,
    limit: int | None = None,
) -> list[DomainValidation]:
    """Every attempt, or those of one domain, oldest first.

    With a `limit` a page of them by id, which begins with the time; `after` is the last id of the
    page before.
    """
    query = sa.select(schema.domain_validation).where(_DOMAIN.tenant_id == tenant_id)
    if domain is not None:
        query = query.where(_DOMAIN.domain == domain)
    if after is not None:
        query = query.where(_DOMAIN.id > after)
    if limit is None:
        query = query.order_by(_DOMAIN.created_at, _DOMAIN.id)
    else:
        query = query.order_by(_DOMAIN.id).limit(limit)
    found = tx.execute(query)
    return [rows.domain_validation_of(row) for row in found]


def verified_domains(tx: Transaction, tenant_id: str) -> tuple[DomainValidation, ...]:
    """Every attempt that succeeded, oldest first; whether it is still young enough is policy's."""
    return tuple(_VERIFIED.all(tx, tenant_id=tenant_id))


def profile(
    tx: Transaction, tenant_id: str, name: str, version: int | None = None
) -> Profile | None:
    """One version of a profile, or the newest. Raises Misconfigured `profile-altered`."""
    found: Profile | None
    if version is None:
        found = _NEWEST_PROFILE.first(tx, tenant_id=tenant_id, name=name)
    else:
        found = _VERSION_OF_PROFILE.first(tx, tenant_id=tenant_id, name=name, version=version)
    return found


def profiles(tx: Transaction, tenant_id: str) -> list[Profile]:
    """Every version of every profile, by name and version."""
    query = (
        sa.select(schema.profile)
        .where(_PROFILE.tenant_id == tenant_id)
        .order_by(_PROFILE.name, _PROFILE.version)
    )
    return [_profile_of(row) for row in tx.execute(query)]


def audit_events(tx: Transaction, tenant_id: str, after: int = 0, limit: int = 100) -> list[Entry]:
    """The tenant's part of the audit log, oldest first; `after` is the last number seen."""
    query = (
        sa.select(schema.audit_event)
        .where(_AUDIT.tenant_id == tenant_id, _AUDIT.seq > after)
        .order_by(_AUDIT.seq)
        .limit(limit)
    )
    return [Entry(*row) for row in tx.execute(query)]


def events_of(tx: Transaction, tenant_id: str, subject: str, limit: int = 200) -> list[Entry]:
    """What the log says of one thing, newest first."""
    query = (
        sa.select(schema.audit_event)
        .where(_AUDIT.tenant_id == tenant_id, _AUDIT.subject == subject)
        .order_by(_AUDIT.seq.desc())
        .limit(limit)
    )
    return [Entry(*row) for row in tx.execute(query)]


def latest_events(
    tx: Transaction, tenant_id: str, action: str, *, among: int = 20_000, limit: int = 10
) -> list[Entry]:
    """The tenant's newest events of one kind, among the last so many of the whole log."""
    head = sa.select(schema.audit_head.c.seq).where(schema.audit_head.c.id == 1).scalar_subquery()
    query = (
        sa.select(schema.audit_event)
        .where(_AUDIT.tenant_id == tenant_id, _AUDIT.seq > head - among, _AUDIT.action == action)
        .order_by(_AUDIT.seq.desc())
        .limit(limit)
    )
    return [Entry(*row) for row in tx.execute(query)]
