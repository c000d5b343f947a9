"""The JSON of the operators' routes: models in, models out. OpenAPI is made from these."""

import datetime as dt
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from certmint.doors.rest.views import RevocationBody
from certmint.enrolment.device_requests import Waiting
from certmint.enrolment.operators import NewToken
from certmint.model.desk import APIToken, Job, OperatorApproval
from certmint.model.entities import (
    Batch,
    Certificate,
    Device,
    Manufacturer,
    Operator,
    Owner,
    Role,
)
from certmint.model.operations import Scope
from certmint.registry.audit import Entry

Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Text = Annotated[str, StringConstraints(max_length=256)]
SerialNumber = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Strict(BaseModel):
    """Members that are not known are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Problem(BaseModel):
    """What was wrong (RFC 9457); `code` is stable, docs/errors.md has them all."""

    type: str
    title: str
    status: int
    detail: str
    code: str


class SelfView(Strict):
    """Whose token this is, and what it may do."""

    id: str
    name: str
    role: Role
    manufacturer: str
    operations: tuple[str, ...]


class ManufacturerView(Strict):
    slug: str
    subject: str
    created_at: dt.datetime

    @classmethod
    def of(cls, found: Manufacturer) -> "ManufacturerView":
        return cls(slug=found.slug, subject=str(found.subject), created_at=found.created_at)


class ManufacturerBody(Strict):
    slug: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")
    subject: str = Field(min_length=1, max_length=512, examples=["C=US, O=Example Router Inc"])


class OperatorView(Strict):
    id: str
    name: str
    role: Role
    disabled: bool

    @classmethod
    def of(cls, found: Operator) -> "OperatorView":
        return cls(id=found.id, name=found.name, role=found.role, disabled=found.disabled)


class OperatorBody(Strict):
    name: Name
    role: Role


class OperatorChange(Strict):
    role: Role | None = None
    disabled: bool | None = None


class TokenView(Strict):
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


class TokenBody(Strict):
    name: Name
    lifetime_days: int = Field(default=90, ge=1, le=400)
    scopes: tuple[Scope, ...] | None = Field(default=None, max_length=len(Scope))

    @property
    def lifetime(self) -> dt.timedelta:
        return dt.timedelta(days=self.lifetime_days)


class Closed(Strict):
    sessions: int


class DeviceRow(Strict):
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


class DeviceRequestView(Strict):
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


class DevicesChange(Strict):
    """The same change for many devices: a job."""

    action: Literal["suspend", "resume", "release"]
    serial_numbers: tuple[SerialNumber, ...] = Field(min_length=1, max_length=10_000)


class OwnerView(Strict):
    id: str
    username: str
    created_at: dt.datetime

    @classmethod
    def of(cls, found: Owner) -> "OwnerView":
        return cls(id=found.id, username=found.username, created_at=found.created_at)


class OwnerBody(Strict):
    username: str = Field(min_length=1, max_length=128)
    password: str = Field(min_length=10, max_length=1_024)


class BatchView(Strict):
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


class MintBody(Strict):
    """The passphrase that encrypts the private keys in the packages (PBES2)."""

    passphrase: str = Field(min_length=12, max_length=1_024)


class CertificateRow(Strict):
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


class IssueBody(Strict):
    """A certificate for a server that is no device, on the operator's word."""

    authority: Name
    profile: Name = "service"
    csr: str = Field(min_length=1, max_length=16_384, description="PKCS#10 in PEM")
    names: tuple[Text, ...] = Field(min_length=1, max_length=100)
    lifetime_days: int | None = Field(default=None, ge=1, le=3_650)


class IssuedView(Strict):
    serial: str
    certificate: str
    chain: str
    not_after: dt.datetime


class RevocationsBody(RevocationBody):
    """Many certificates, once a second operator has agreed: a job."""

    serials: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{1,40}$")], ...] = Field(
        min_length=1, max_length=10_000
    )


class AuditView(Strict):
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


class JobView(Strict):
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


class ApprovalView(Strict):
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
