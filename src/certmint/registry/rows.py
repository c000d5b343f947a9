"""Rows and the model's values: for each kind, one function there and one back, step by step.

Beside the entities of `certmint.model.entities` stand here the few values that only the registry
has: an intent, a status, a CRL, an entry of one, the totals. Nothing here speaks to a database.
"""

import datetime as dt
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from certmint.model.acceptance import Situation
from certmint.model.entities import (
    Authority,
    Batch,
    Certificate,
    Device,
    DeviceRequest,
    DomainValidation,
    KeyRecord,
    Manufacturer,
    Operator,
    Owner,
    Product,
    Revocation,
    RevocationReason,
    Role,
    Sighting,
    ValidationMethod,
    Wish,
)
from certmint.model.keys import KeyKind, KeyOrigin, PublicKey
from certmint.model.names import parse_name
from certmint.model.profile import Purpose, Trust
from certmint.model.serial import Serial
from certmint.model.states import AuthorityState, BatchState, DeviceState, RequestState
from certmint.registry import documents

Row = sa.Row[Any]
REMEMBERED = 1024  # rows that hardly change, and cost more to understand than to read
Values = dict[str, Any]


@dataclass(frozen=True)
class Intent:
    """What certmint is about to sign: written, durable, before the key is used.

    `evidence` is canonical JSON, `rules` the codes that were passed, `calendar` the version of
    the rule calendar; `call_id` ties together what one call of the gate did.
    """

    serial: Serial
    authority_id: str
    tenant_id: str
    profile: str
    profile_version: int
    purpose: Purpose
    device_id: str | None
    subject: str
    names: tuple[str, ...]
    key_fingerprint: str
    not_before: dt.datetime
    not_after: dt.datetime
    crl_shard: int
    requester: str
    evidence: str
    rules: str
    calendar: str
    tbs: bytes = field(repr=False)
    call_id: str
    recorded_at: dt.datetime
    replaces: str | None = None


@dataclass(frozen=True)
class Status:
    """What a responder may say of a serial. `known`: this registry gave it out.

    `issued` is False for an intent without a certificate, and for one that was abandoned.
    """

    known: bool
    issued: bool
    revocation: Revocation | None


@dataclass(frozen=True)
class CRLRow:
    """One published CRL of one shard."""

    authority_id: str
    shard: int
    number: int
    this_update: dt.datetime
    next_update: dt.datetime
    der: bytes = field(repr=False)


class RevokedEntry(NamedTuple):
    """What a CRL says of one serial, and until when it has to."""

    serial: Serial
    revoked_at: dt.datetime
    reason: RevocationReason
    not_after: dt.datetime


@dataclass(frozen=True)
class CertificateCounts:
    """Totals of one tenant. `orphans` are intents without a certificate: zero but for moments."""

    issued: int
    revoked: int
    orphans: int


def manufacturer_row(manufacturer: Manufacturer) -> Values:
    return {
        "id": manufacturer.id,
        "slug": manufacturer.slug,
        "subject": documents.subject_text(manufacturer.subject),
        "created_at": manufacturer.created_at,
    }


def manufacturer_of(row: Row) -> Manufacturer:
    return Manufacturer(row.id, row.slug, documents.subject_of(row.subject), row.created_at)


def operator_row(operator: Operator, at: dt.datetime) -> Values:
    return {
        "tenant_id": operator.tenant_id,
        "id": operator.id,
        "name": operator.name,
        "role": operator.role.value,
        "disabled_at": at if operator.disabled else None,
    }


def operator_of(row: Row) -> Operator:
    return Operator(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        role=Role(row.role),
        disabled=row.disabled_at is not None,
    )


def domain_validation_row(validation: DomainValidation) -> Values:
    return vars(validation) | {"method": validation.method.value}


@lru_cache(maxsize=REMEMBERED)
def domain_validation_of(row: Row) -> DomainValidation:
    return DomainValidation(
        id=row.id,
        tenant_id=row.tenant_id,
        domain=row.domain,
        method=ValidationMethod(row.method),
        random_value=row.random_value,
        record_name=row.record_name,
        created_at=row.created_at,
        expires_at=row.expires_at,
        verified_at=row.verified_at,
        evidence=row.evidence,
        lapse_told_at=row.lapse_told_at,
    )


def authority_row(authority: Authority) -> Values:
    return {
        "id": authority.id,
        "tenant_id": authority.tenant_id,
        "name": authority.name,
        "purpose": authority.purpose.value,
        "trust": authority.trust.value,
        "parent_id": authority.parent_id,
        "subject": documents.subject_text(authority.subject),
        "key_kind": authority.key.kind.value,
        "spki": authority.key.spki,
        "key_id": authority.key.key_id.hex(),
        "key_uri": authority.key_uri,
        "constraints": documents.constraints_text(authority.constraints),
        "path_length": authority.path_length,
        "state": authority.state.value,
        "status_url": authority.status_url,
        "crl_shards": authority.crl_shards,
        "crl_number": 0,
        "created_at": authority.created_at,
        "serial": authority.serial,
        "der": authority.der,
        "not_before": authority.not_before,
        "not_after": authority.not_after,
    }


@lru_cache(maxsize=REMEMBERED)
def authority_of(row: Row) -> Authority:
    return Authority(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        purpose=Purpose(row.purpose),
        trust=Trust(row.trust),
        parent_id=row.parent_id,
        subject=documents.subject_of(row.subject),
        key=PublicKey(KeyKind(row.key_kind), row.spki),
        key_uri=row.key_uri,
        constraints=documents.constraints_of(row.constraints),
        path_length=row.path_length,
        state=AuthorityState(row.state),
        status_url=row.status_url,
        crl_shards=row.crl_shards,
        created_at=row.created_at,
        serial=row.serial,
        der=row.der,
        not_before=row.not_before,
        not_after=row.not_after,
    )


def product_row(product: Product) -> Values:
    return {
        "tenant_id": product.tenant_id,
        "id": product.id,
        "name": product.name,
        "identity_authority_id": product.identity_authority_id,
        "identity_profile": product.identity_profile,
        "service_authority_id": product.service_authority_id,
        "service_profile": product.service_profile,
        "name_patterns": documents.list_text(product.name_patterns),
        "shared_names": documents.list_text(map(str, product.shared_names)),
        "renew_at": product.renew_at,
        "accepts": documents.acceptance_text(product.accepts),
        "grace": documents.microseconds_of(product.grace),
        "approval": documents.list_text(sorted(product.approval)) if product.approval else None,
        "channel_linking": 1 if product.channel_linking else None,
    }


@lru_cache(maxsize=REMEMBERED)
def product_of(row: Row) -> Product:
    return Product(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        identity_authority_id=row.identity_authority_id,
        identity_profile=row.identity_profile,
        service_authority_id=row.service_authority_id,
        service_profile=row.service_profile,
        name_patterns=documents.list_of(row.name_patterns),
        shared_names=tuple(map(parse_name, documents.list_of(row.shared_names))),
        renew_at=row.renew_at,
        accepts=documents.acceptance_of(row.accepts),
        grace=documents.duration_of(row.grace),
        approval=frozenset(map(Situation, documents.list_of(row.approval or "[]"))),
        channel_linking=bool(row.channel_linking),
    )


def device_row(device: Device) -> Values:
    return vars(device) | {
        "state": device.state.value,
        "suspended_for": device.suspended_for or None,
        "firmware": device.firmware or None,
    }


def device_of(row: Row) -> Device:
    return Device(
        id=row.id,
        tenant_id=row.tenant_id,
        product_id=row.product_id,
        serial_number=row.serial_number,
        label=row.label,
        mac=row.mac,
        state=DeviceState(row.state),
        batch_id=row.batch_id,
        line=row.line,
        owner_id=row.owner_id,
        created_at=row.created_at,
        suspended_for=row.suspended_for or "",
        firmware=row.firmware or "",
    )


def request_row(request: DeviceRequest) -> Values:
    return vars(request) | {
        "wish": request.wish.value,
        "evidence": documents.list_text(request.evidence),
        "state": request.state.value,
    }


def request_of(row: Row) -> DeviceRequest:
    return DeviceRequest(
        id=row.id,
        tenant_id=row.tenant_id,
        device_id=row.device_id,
        wish=Wish(row.wish),
        key_fingerprint=row.key_fingerprint,
        csr=row.csr,
        requester=row.requester,
        evidence=documents.list_of(row.evidence),
        source=row.source,
        reason=row.reason,
        state=RequestState(row.state),
        created_at=row.created_at,
        expires_at=row.expires_at,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        serial=row.serial,
    )


def sighting_of(row: Row) -> Sighting:
    return Sighting(row.device_id, row.source, row.key_fingerprint, row.at)


def batch_row(batch: Batch) -> Values:
    return vars(batch) | {"state": batch.state.value}


def batch_of(row: Row) -> Batch:
    return Batch(
        id=row.id,
        tenant_id=row.tenant_id,
        product_id=row.product_id,
        manifest_hash=row.manifest_hash,
        size=row.size,
        state=BatchState(row.state),
        created_at=row.created_at,
    )


def owner_row(owner: Owner, password_hash: str) -> Values:
    return vars(owner) | {"password_hash": password_hash}


def owner_of(row: Row) -> Owner:
    return Owner(row.id, row.tenant_id, row.username, row.created_at)


def key_record_of(row: Row) -> KeyRecord:
    return KeyRecord(
        fingerprint=row.fingerprint,
        tenant_id=row.tenant_id,
        device_id=row.device_id,
        origin=KeyOrigin(row.origin),
        blocked=row.blocked_at is not None,
    )


def intent_row(intent: Intent) -> Values:
    return vars(intent) | {
        "purpose": intent.purpose.value,
        "names": documents.list_text(intent.names),
    }


def intent_of(row: Row) -> Intent:
    return Intent(
        serial=row.serial,
        authority_id=row.authority_id,
        tenant_id=row.tenant_id,
        profile=row.profile,
        profile_version=row.profile_version,
        purpose=Purpose(row.purpose),
        device_id=row.device_id,
        subject=row.subject,
        names=documents.list_of(row.names),
        key_fingerprint=row.key_fingerprint,
        not_before=row.not_before,
        not_after=row.not_after,
        crl_shard=row.crl_shard,
        requester=row.requester,
        evidence=row.evidence,
        rules=row.rules,
        calendar=row.calendar,
        tbs=row.tbs,
        call_id=row.call_id,
        recorded_at=row.recorded_at,
        replaces=row.replaces,
    )


def certificate_of(row: Row) -> Certificate:
    return Certificate(
        serial=row.serial,
        authority_id=row.authority_id,
        tenant_id=row.tenant_id,
        profile=row.profile,
        profile_version=row.profile_version,
        purpose=Purpose(row.purpose),
        device_id=row.device_id,
        subject=row.subject,
        names=documents.list_of(row.names),
        key_fingerprint=row.key_fingerprint,
        not_before=row.not_before,
        not_after=row.not_after,
        issued_at=row.issued_at,
        crl_shard=row.crl_shard,
        der=row.der,
        revocation=revocation_of(row),
        successor=row.successor,
    )


def revocation_of(row: Row) -> Revocation | None:
    """From any row with the two columns of a revocation."""
    if row.revoked_at is None:
        return None
    return Revocation(row.revoked_at, RevocationReason(row.revocation_reason))


def crl_of(row: Row) -> CRLRow:
    return CRLRow(
        row.authority_id, row.shard, row.number, row.this_update, row.next_update, row.der
    )
