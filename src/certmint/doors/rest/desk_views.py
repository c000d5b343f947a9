"""The JSON of the operators' routes: models in, models out. OpenAPI is made from these."""

import datetime as dt
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from certmint.doors.rest.views import RevocationBody
from certmint.enrolment.chains import pem
from certmint.enrolment.device_requests import Waiting
from certmint.enrolment.domains import Age
from certmint.enrolment.operators import NewToken
from certmint.enrolment.proving import Todo
from certmint.enrolment.wishes import AuthorityKind, ConstraintsKind
from certmint.model.desk import APIToken, Job, OperatorApproval
from certmint.model.entities import (
    Authority,
    Batch,
    Certificate,
    Device,
    DomainValidation,
    Manufacturer,
    Operator,
    Owner,
    Product,
    Role,
)
from certmint.model.keys import KeyKind
from certmint.model.operations import Scope
from certmint.model.profile import Profile
from certmint.registry.audit import Entry

Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Text = Annotated[str, StringConstraints(max_length=256)]
SerialNumber = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Problem(BaseModel):
    """What was wrong (RFC 9457); `code` is stable, docs/errors.md has them all."""

    type: str
    title: str
    status: int
    detail: str
    code: str


class SelfView(_Strict):
    """Whose token this is, and what it may do."""

    id: str
    name: str
    role: Role
    manufacturer: str
    operations: tuple[str, ...]


class ManufacturerView(_Strict):
    slug: str
    subject: str
    created_at: dt.datetime

    @classmethod
    def of(cls, found: Manufacturer) -> "ManufacturerView":
        return cls(slug=found.slug, subject=str(found.subject), created_at=found.created_at)


class ManufacturerBody(_Strict):
    slug: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")
    subject: str = Field(min_length=1, max_length=512, examples=["C=US, O=Example Router Inc"])


class OperatorView(_Strict):
    id: str
    name: str
    role: Role
    disabled: bool

    @classmethod
    def of(cls, found: Operator) -> "OperatorView":
        return cls(id=found.id, name=found.name, role=found.role, disabled=found.disabled)


class OperatorBody(_Strict):
    name: Name
    role: Role


class OperatorChange(_Strict):
    role: Role | None = None
    disabled: bool | None = None


class TokenView(_Strict):
    id: str
    name: str
    scopes: tuple[Scope, ...] | None = Field(description="null: all that the role has")
    created_at: dt.datetime
    expires_at: dt.datetime
    revoked_at: dt.datetime | None

    @classmethod
    def of(cls, found: APIToken) -> "TokenView":
        scopes = None if found.scopes is None else tuple(sorted(found.scopes))
        return cls(
            id=found.id, name=found.name, scopes=scopes, created_at=found.created_at,
            expires_at=found.expires_at, revoked_at=found.revoked_at,
        )  # fmt: skip


class NewTokenView(TokenView):
    """A token; `token` is shown this once."""

    token: str

    @classmethod
    def made(cls, new: NewToken) -> "NewTokenView":
        return cls(**TokenView.of(new.token).model_dump(), token=new.secret)


class TokenBody(_Strict):
    name: Name
    lifetime_days: int = Field(default=90, ge=1, le=400)
    scopes: tuple[Scope, ...] | None = Field(default=None, max_length=len(Scope))

    @property
    def lifetime(self) -> dt.timedelta:
        return dt.timedelta(days=self.lifetime_days)


class Closed(_Strict):
    sessions: int


class DomainView(_Strict):
    """A proved domain, and until when certificates may rely on the newest proof."""

    domain: str
    method: str
    verified_at: dt.datetime
    public_until: dt.datetime | None
    private_until: dt.datetime | None
    lapses_at: dt.datetime
    days_left: int

    @classmethod
    def of(cls, found: Age, now: dt.datetime) -> "DomainView":
        return cls(
            domain=found.proof.domain, method=found.proof.method.value,
            verified_at=found.verified_at, public_until=found.public_until,
            private_until=found.private_until, lapses_at=found.lapses_at,
            days_left=found.days_left(now),
        )  # fmt: skip


class ContactsView(_Strict):
    domain: str
    addresses: tuple[str, ...]


class SentView(_Strict):
    messages: int


class ValidationView(_Strict):
    """An attempt to show control of a domain; publish what it says, then have it verified.

    `record_type` is TXT, CNAME or FILE (at an URL); "" where contacts were written to.
    """

    id: str
    domain: str
    method: str
    record_name: str
    record_type: str
    record_value: str
    created_at: dt.datetime
    expires_at: dt.datetime
    verified_at: dt.datetime | None
    evidence: dict[str, Any] | None

    @classmethod
    def of(cls, found: DomainValidation, todo: Todo) -> "ValidationView":
        return cls(
            id=found.id, domain=found.domain, method=found.method.value,
            record_name=todo.place, record_type=todo.kind, record_value=todo.value,
            created_at=found.created_at, expires_at=found.expires_at,
            verified_at=found.verified_at,
            evidence=json.loads(found.evidence) if found.evidence else None,
        )  # fmt: skip


class ValidationBody(_Strict):
    """What to prove, and how: BR 3.2.2.4.7, .22 (dns-persist), .4 (email), .18 (http-csr-hash)."""

    domain: str = Field(min_length=1, max_length=253)
    method: Literal[
        "dns-txt", "dns-cname", "dns-persist", "email", "cname-csr-hash", "http-csr-hash"
    ] = "dns-txt"
    recipients: tuple[Text, ...] = Field(default=(), max_length=5, description="for email")
    csr: str = Field(default="", max_length=16_384, description="PKCS#10 in PEM, for its hash")
    unique_value: str = Field(default="", max_length=20)


class AuthorityView(_Strict):
    id: str
    name: str
    kind: str
    trust: str
    state: str
    subject: str
    parent_id: str | None
    key: str
    domains: tuple[str, ...]
    path_length: int | None
    status_url: str
    serial: str | None
    not_before: dt.datetime | None
    not_after: dt.datetime | None
    certificate: str = Field(description="PEM; empty while the authority is pending")

    @classmethod
    def of(cls, found: Authority) -> "AuthorityView":
        domains = found.constraints.permitted_dns if found.constraints else ()
        return cls(
            id=found.id, name=found.name, kind=found.purpose.value, trust=found.trust.value,
            state=found.state.value, subject=str(found.subject), parent_id=found.parent_id,
            key=found.key.kind.value, domains=tuple(domains), path_length=found.path_length,
            status_url=found.status_url, serial=found.serial, not_before=found.not_before,
            not_after=found.not_after, certificate=pem(found.der) if found.der else "",
        )  # fmt: skip


class AuthorityBody(_Strict):
    """An authority to be made, once a second operator has agreed."""

    name: Name
    kind: AuthorityKind
    parent: Name | None = None
    domains: tuple[Annotated[str, StringConstraints(min_length=1, max_length=253)], ...] = Field(
        default=(), max_length=100
    )
    constraints: ConstraintsKind = ConstraintsKind.TECHNICALLY_CONSTRAINED
    critical: bool = False
    subject: Text = ""
    key_kind: Literal[KeyKind.P256, KeyKind.P384] = KeyKind.P256
    crl_shards: int = Field(default=1, ge=1, le=1024)


class ProfileView(_Strict):
    """One version of a profile; times are in seconds."""

    name: str
    version: int
    trust: str
    purpose: str
    lifetime: int | None
    grace: int
    key_kinds: tuple[str, ...]
    key_origins: tuple[str, ...]
    accepts: tuple[str, ...]
    extended_key_usage: tuple[str, ...]
    plain_delivery: bool

    @classmethod
    def of(cls, found: Profile) -> "ProfileView":
        lifetime = None if found.lifetime is None else int(found.lifetime.total_seconds())
        return cls(
            name=found.name, version=found.version, trust=found.trust.value,
            purpose=found.purpose.value, lifetime=lifetime,
            grace=int(found.grace.total_seconds()),
            key_kinds=tuple(sorted(found.key_kinds)), key_origins=tuple(sorted(found.key_origins)),
            accepts=tuple(" with ".join(sorted(each)) for each in found.accepts),
            extended_key_usage=found.extended_key_usage, plain_delivery=found.plain_delivery,
        )  # fmt: skip


class ProfileBody(_Strict):
    """A new version, once a second operator has agreed; times are in seconds."""

    lifetime: int | None = Field(default=None, ge=300, le=100 * 365 * 86_400)
    grace: int | None = Field(default=None, ge=0, le=10 * 365 * 86_400)
    accepts: tuple[Text, ...] | None = Field(default=None, min_length=1, max_length=16)
    plain_delivery: bool | None = None


class ProductView(_Strict):
    id: str
    name: str
    identity_profile: str
    identity_authority_id: str
    service_profile: str
    service_authority_id: str
    name_patterns: tuple[str, ...]
    shared_names: tuple[str, ...]
    renew_at: float
    accepts: tuple[str, ...]
    grace: int | None = Field(description="seconds; null: the profile's alone")
    approval: tuple[str, ...] = Field(description="situations where an operator decides as well")
    channel_linking: bool

    @classmethod
    def of(cls, found: Product) -> "ProductView":
        return cls(
            id=found.id, name=found.name, identity_profile=found.identity_profile,
            identity_authority_id=found.identity_authority_id,
            service_profile=found.service_profile,
            service_authority_id=found.service_authority_id,
            name_patterns=found.name_patterns, shared_names=tuple(map(str, found.shared_names)),
            renew_at=found.renew_at, accepts=tuple(found.accepts.lines()),
            grace=None if found.grace is None else int(found.grace.total_seconds()),
            approval=tuple(sorted(found.approval)), channel_linking=found.channel_linking,
        )  # fmt: skip


class ProductBody(_Strict):
    name: Name
    identity_profile: Name = "identity"
    identity_authority: Name
    service_profile: Name = "service"
    service_authority: Name
    name_patterns: tuple[Text, ...] = Field(default=(), max_length=16)
    shared_names: tuple[Text, ...] = Field(default=(), max_length=16)
    renew_at: float = Field(default=2 / 3, ge=0.3, le=0.9)
    accepts: tuple[Text, ...] = Field(default=(), max_length=16)
    grace: int | None = Field(default=None, ge=0, le=10 * 365 * 86_400)
    approval: tuple[Text, ...] = Field(default=(), max_length=4)
    channel_linking: bool = False


class ProductChange(_Strict):
    """What a product asks for from now on; what is left out stays."""

    accepts: tuple[Text, ...] = Field(default=(), max_length=16)
    grace: int | None = Field(default=None, ge=0, le=10 * 365 * 86_400)
    approval: tuple[Text, ...] = Field(default=(), max_length=4)
    channel_linking: bool | None = None


class DeviceRow(_Strict):
    """A device as an operator sees it."""

    serial_number: str
    label: str
    mac: str
    product_id: str
    state: str
    suspended_for: str
    batch_id: str | None
    owner_id: str | None
    claimed: bool
    created_at: dt.datetime

    @classmethod
    def of(cls, found: Device) -> "DeviceRow":
        return cls(
            serial_number=found.serial_number, label=found.label, mac=found.mac,
            product_id=found.product_id, state=found.state.value,
            suspended_for=found.suspended_for, batch_id=found.batch_id,
            owner_id=found.owner_id, claimed=found.owner_id is not None,
            created_at=found.created_at,
        )  # fmt: skip


class DeviceRequestView(_Strict):
    """What a device asked for; `evidence` are the kinds of proof that it showed."""

    id: str
    serial_number: str
    wish: str
    key_sha256: str
    requester: str
    evidence: tuple[str, ...]
    source: str
    reason: str
    state: str
    created_at: dt.datetime
    expires_at: dt.datetime
    decided_by: str | None
    decided_at: dt.datetime | None
    serial: str | None

    @classmethod
    def of(cls, found: Waiting) -> "DeviceRequestView":
        asked = found.request
        return cls(
            id=asked.id, serial_number=found.serial_number, wish=asked.wish.value,
            key_sha256=asked.key_fingerprint, requester=asked.requester, evidence=asked.evidence,
            source=asked.source, reason=asked.reason, state=asked.state.value,
            created_at=asked.created_at, expires_at=asked.expires_at,
            decided_by=asked.decided_by, decided_at=asked.decided_at, serial=asked.serial,
        )  # fmt: skip


class DevicesChange(_Strict):
    """The same change for many devices: a job."""

    action: Literal["suspend", "resume", "release"]
    serial_numbers: tuple[SerialNumber, ...] = Field(min_length=1, max_length=10_000)


class OwnerView(_Strict):
    id: str
    username: str
    created_at: dt.datetime

    @classmethod
    def of(cls, found: Owner) -> "OwnerView":
        return cls(id=found.id, username=found.username, created_at=found.created_at)


class OwnerBody(_Strict):
    username: str = Field(min_length=1, max_length=128)
    password: str = Field(min_length=10, max_length=1_024)


class BatchView(_Strict):
    id: str
    product_id: str
    manifest_sha256: str
    devices: int
    state: str
    created_at: dt.datetime
    by_state: dict[str, int] | None = None

    @classmethod
    def of(cls, found: Batch, by_state: dict[str, int] | None = None) -> "BatchView":
        return cls(
            id=found.id, product_id=found.product_id, manifest_sha256=found.manifest_hash,
            devices=found.size, state=found.state.value, created_at=found.created_at,
            by_state=by_state,
        )  # fmt: skip


class MintBody(_Strict):
    """The passphrase that encrypts the private keys in the packages (PBES2)."""

    passphrase: str = Field(min_length=12, max_length=1_024)


class CertificateRow(_Strict):
    """A certificate in a listing."""

    serial: str
    authority_id: str
    profile: str
    purpose: str
    subject: str
    names: tuple[str, ...]
    not_before: dt.datetime
    not_after: dt.datetime
    issued_at: dt.datetime
    key_sha256: str
    revoked_at: dt.datetime | None
    revocation_reason: str | None
    successor: str | None

    @classmethod
    def of(cls, found: Certificate) -> "CertificateRow":
        gone = found.revocation
        return cls(
            serial=found.serial, authority_id=found.authority_id, profile=found.profile,
            purpose=found.purpose.value, subject=found.subject, names=found.names,
            not_before=found.not_before, not_after=found.not_after, issued_at=found.issued_at,
            key_sha256=found.key_fingerprint, revoked_at=gone.revoked_at if gone else None,
            revocation_reason=gone.reason.value if gone else None, successor=found.successor,
        )  # fmt: skip


class IssueBody(_Strict):
    """A certificate for a server that is no device, on the operator's word."""

    authority: Name
    profile: Name = "service"
    csr: str = Field(min_length=1, max_length=16_384, description="PKCS#10 in PEM")
    names: tuple[Text, ...] = Field(min_length=1, max_length=100)
    lifetime_days: int | None = Field(default=None, ge=1, le=3_650)


class IssuedView(_Strict):
    serial: str
    certificate: str
    chain: str
    not_after: dt.datetime


class RevocationsBody(RevocationBody):
    """Many certificates, once a second operator has agreed: a job."""

    serials: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{1,40}$")], ...] = Field(
        min_length=1, max_length=10_000
    )


class AuditView(_Strict):
    number: int
    at: dt.datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    previous_hash: str
    hash: str

    @classmethod
    def of(cls, found: Entry) -> "AuditView":
        return cls(
            number=found.seq, at=found.at, actor=found.actor, action=found.action,
            subject=found.subject, detail=json.loads(found.detail),
            previous_hash=found.previous_hash, hash=found.hash,
        )  # fmt: skip


class JobView(_Strict):
    id: str
    kind: str
    state: str
    done: int
    total: int
    requested_by: str
    created_at: dt.datetime
    finished_at: dt.datetime | None
    outcome: dict[str, Any]

    @classmethod
    def of(cls, found: Job) -> "JobView":
        return cls(
            id=found.id, kind=found.kind.value, state=found.state.value, done=found.done,
            total=found.total, requested_by=found.requested_by, created_at=found.created_at,
            finished_at=found.finished_at, outcome=json.loads(found.outcome),
        )  # fmt: skip


class ApprovalView(_Strict):
    id: str
    operation: str
    summary: str
    document: dict[str, Any]
    state: str
    requested_by: str
    requested_at: dt.datetime
    expires_at: dt.datetime
    decided_by: str | None
    decided_at: dt.datetime | None
    outcome: str

    @classmethod
    def of(cls, found: OperatorApproval) -> "ApprovalView":
        return cls(
            id=found.id, operation=found.operation.value, summary=found.summary,
            document=json.loads(found.document), state=found.state.value,
            requested_by=found.requested_by, requested_at=found.requested_at,
            expires_at=found.expires_at, decided_by=found.decided_by,
            decided_at=found.decided_at, outcome=found.outcome,
        )  # fmt: skip
