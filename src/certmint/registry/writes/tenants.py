"""Writing manufacturers, their domains and profiles; and the leases of the nodes."""

import datetime as dt
import hashlib

import sqlalchemy as sa

from certmint.model.entities import DomainValidation, Manufacturer
from certmint.model.errors import Conflict, WrongState
from certmint.model.profile import Profile
from certmint.registry import documents, rows, schema
from certmint.registry.engine import Transaction
from certmint.registry.statements import add, count, insert_if_absent, log


def add_manufacturer(
    tx: Transaction, manufacturer: Manufacturer, *, by: str, at: dt.datetime
) -> None:
    """A new tenant. Raises Conflict `manufacturer-exists`."""
    taken = Conflict(
        "manufacturer-exists", f"there is a manufacturer {manufacturer.slug!r} already"
    )
    add(tx, schema.manufacturer, rows.manufacturer_row(manufacturer), taken)
    log(
        tx, "manufacturer.added", manufacturer.id, manufacturer.id,
        by=by, at=at, slug=manufacturer.slug,
    )  # fmt: skip


def add_domain_validation(
    tx: Transaction, validation: DomainValidation, *, by: str, at: dt.datetime
) -> None:
    """A new attempt to show control of a domain. Raises Conflict `validation-exists`."""
    taken = Conflict("validation-exists", f"there is a validation {validation.id!r} already")
    add(tx, schema.domain_validation, rows.domain_validation_row(validation), taken)
    log(
        tx, "domain.requested", validation.tenant_id, validation.id,
        by=by, at=at, domain=validation.domain, method=validation.method.value,
    )  # fmt: skip


def mark_domain_verified(
    tx: Transaction,
    tenant_id: str,
    validation_id: str,
    verified_at: dt.datetime,
    evidence: str,
    *,
    by: str,
) -> None:
    """The value was seen. Raises WrongState `wrong-state` if it was before, or is unknown."""
    column = schema.domain_validation.c
    changed = count(
        tx,
        sa.update(schema.domain_validation)
        .where(
            column.tenant_id == tenant_id,
            column.id == validation_id,
            column.verified_at.is_(None),
        )
        .values(verified_at=verified_at, evidence=evidence),
    )
    if not changed:
        raise WrongState(
            "wrong-state", f"validation {validation_id!r} is verified already, or does not exist"
        )
    log(
        tx, "domain.verified", tenant_id, validation_id, by=by, at=verified_at, evidence=evidence
    )  # fmt: skip


def add_profile(
    tx: Transaction, tenant_id: str, profile: Profile, *, by: str, at: dt.datetime
) -> None:
    """A new version of a profile; a version never changes. Raises Conflict `profile-exists`."""
    document = documents.profile_text(profile)
    digest = hashlib.sha256(document.encode()).hexdigest()
    row = {
        "tenant_id": tenant_id,
        "name": profile.name,
        "version": profile.version,
        "document": document,
        "document_hash": digest,
        "created_at": at,
    }
    taken = Conflict(
        "profile-exists",
        f"there is a version {profile.version} of profile {profile.name!r} already: count it up",
    )
    add(tx, schema.profile, row, taken)
    log(
        tx, "profile.added", tenant_id, profile.name,
        by=by, at=at, version=profile.version, document_hash=digest,
    )  # fmt: skip


def take_lease(
    tx: Transaction, name: str, holder: str, now: dt.datetime, until: dt.datetime
) -> bool:
    """Whether `holder` has the lease until then: it was free, had ended, or is its own.

    To give it back, take it until `now`. A lease is no change of anything, so it is not audited.
    """
    row = {"name": name, "holder": holder, "until": until}
    if insert_if_absent(tx, schema.lease, row):
        return True
    column = schema.lease.c
    renewed = count(
        tx,
        sa.update(schema.lease)
        .where(column.name == name, (column.holder == holder) | (column.until <= now))
        .values(holder=holder, until=until),
    )
    return renewed == 1
