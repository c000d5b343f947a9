"""The JSON of domains, authorities, profiles and products: models in, models out."""

import datetime as dt
import json
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from certmint.doors.rest.desk_views import Name, Strict, Text
from certmint.enrolment.chains import pem
from certmint.enrolment.domains import Age
from certmint.enrolment.proving import Todo
from certmint.enrolment.wishes import AuthorityKind, ConstraintsKind
from certmint.model.entities import Authority, DomainValidation, Product
from certmint.model.keys import KeyKind
from certmint.model.profile import Profile


class DomainView(Strict):
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


class ContactsView(Strict):
    domain: str
    addresses: tuple[str, ...]


class SentView(Strict):
    messages: int


class ValidationView(Strict):
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


class ValidationBody(Strict):
    """What to prove, and how: BR 3.2.2.4.7, .22 (dns-persist), .4 (email), .18 (http-csr-hash)."""

    domain: str = Field(min_length=1, max_length=253)
    method: Literal[
        "dns-txt", "dns-cname", "dns-persist", "email", "cname-csr-hash", "http-csr-hash"
    ] = "dns-txt"
    recipients: tuple[Text, ...] = Field(default=(), max_length=5, description="for email")
    csr: str = Field(default="", max_length=16_384, description="PKCS#10 in PEM, for its hash")
    unique_value: str = Field(default="", max_length=20)


class AuthorityView(Strict):
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


class AuthorityBody(Strict):
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


class ProfileView(Strict):
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


class ProfileBody(Strict):
    """A new version, once a second operator has agreed; times are in seconds."""

    lifetime: int | None = Field(default=None, ge=300, le=100 * 365 * 86_400)
    grace: int | None = Field(default=None, ge=0, le=10 * 365 * 86_400)
    accepts: tuple[Text, ...] | None = Field(default=None, min_length=1, max_length=16)
    plain_delivery: bool | None = None


class ProductView(Strict):
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


class ProductBody(Strict):
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


class ProductChange(Strict):
    """What a product asks for from now on; what is left out stays."""

    accepts: tuple[Text, ...] = Field(default=(), max_length=16)
    grace: int | None = Field(default=None, ge=0, le=10 * 365 * 86_400)
    approval: tuple[Text, ...] = Field(default=(), max_length=4)
    channel_linking: bool | None = None
