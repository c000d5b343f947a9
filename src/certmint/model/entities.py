"""What the registry keeps, as values: one dataclass per kind of row.

Every row belongs to a manufacturer (the tenant), and every id is opaque text. `der` fields hold
certificates exactly as they were signed.
"""

import datetime as dt
from dataclasses import dataclass, field
from enum import StrEnum

from certmint.model import acceptance
from certmint.model.acceptance import Acceptance, Situation
from certmint.model.constraints import NameConstraints
from certmint.model.errors import BadInput
from certmint.model.keys import KeyOrigin, PublicKey
from certmint.model.names import DNSName, Name, parse_name
from certmint.model.profile import Purpose, Trust
from certmint.model.serial import Serial
from certmint.model.states import AuthorityState, BatchState, DeviceState, RequestState
from certmint.model.subject import DistinguishedName


@dataclass(frozen=True)
class Manufacturer:
    """The tenant. Nothing crosses tenants. `slug` is what people type."""

    id: str
    slug: str
    subject: DistinguishedName
    created_at: dt.datetime


class Role(StrEnum):
    """What an operator may do; the table of rights is `policy.authorization`."""

    ADMINISTRATOR = "administrator"
    SECURITY_OFFICER = "security-officer"
    OPERATOR = "operator"
    STATION = "station"
    AUDITOR = "auditor"
    VIEWER = "viewer"


@dataclass(frozen=True)
class Operator:
    """A person or machine of the manufacturer, who shows a token or a session."""

    id: str
    tenant_id: str
    name: str
    role: Role
    disabled: bool = False


class ValidationMethod(StrEnum):
    """How control of a domain was shown."""

    DNS_TXT = "dns-txt"  # BR 3.2.2.4.7
    DNS_CNAME = "dns-cname"  # BR 3.2.2.4.7
    DNS_PERSIST = "dns-persist"  # BR 3.2.2.4.22: a record that stays
    EMAIL = "email"  # BR 3.2.2.4.4, until its sunset
    CNAME_CSR_HASH = "cname-csr-hash"  # BR 3.2.2.4.7 with a request token
    HTTP_CSR_HASH = "http-csr-hash"  # BR 3.2.2.4.18 with a request token: that very name alone
    OPERATOR = "operator"  # ours: special-use names in private hierarchies, on an operator's word


@dataclass(frozen=True)
class DomainValidation:
    """One attempt to show control of one domain (the authorization domain name).

    `random_value` has 160 bits and dies at `expires_at` (BR 3.2.2.4.7: 30 days at most); for a
    persistent record or a request token it is the text that is looked for, and for e-mail it is
    empty, as each message has its own. `record_name` is where it is looked for: a DNS name or a
    URL. `verified_at` is None until it was seen; `evidence` says what was seen, and where.
    `lapse_told_at` is when the audit log said that this proof will soon be too old.
    """

    id: str
    tenant_id: str
    domain: str
    method: ValidationMethod
    random_value: str = field(repr=False)
    record_name: str
    created_at: dt.datetime
    expires_at: dt.datetime
    verified_at: dt.datetime | None = None
    evidence: str = ""
    lapse_told_at: dt.datetime | None = None


@dataclass(frozen=True)
class Authority:
    """An issuing CA. `key_uri` names its private key, `der` is its own certificate.

    `status_url` is the http:// base of its CRLs, OCSP responder and caIssuers; it is fixed when
    the authority is made, because certificates and CRLs must name the same URL for ever.
    """

    id: str
    tenant_id: str
    name: str
    purpose: Purpose
    trust: Trust
    parent_id: str | None
    subject: DistinguishedName
    key: PublicKey
    key_uri: str = field(repr=False)
    constraints: NameConstraints | None
    path_length: int | None
    state: AuthorityState
    status_url: str
    crl_shards: int
    created_at: dt.datetime
    serial: Serial | None = None
    der: bytes = field(default=b"", repr=False)
    not_before: dt.datetime | None = None
    not_after: dt.datetime | None = None

    def __post_init__(self) -> None:
        if not self.status_url.startswith("http://") or self.status_url.endswith("/"):
            raise BadInput(
                "status-url",
                f"{self.status_url!r} must be a plain http:// base without a slash at the end: "
                "CRL, OCSP and AIA are fetched before TLS can be trusted (BR 7.1.2.11.2)",
            )

    def crl_url(self, shard: int) -> str:
        """The cRLDistributionPoints and IDP URL of one shard, byte-identical in both."""
        return f"{self.status_url}/crl/{self.id}/{shard}.crl"

    @property
    def ocsp_url(self) -> str:
        return f"{self.status_url}/ocsp/{self.id}"

    @property
    def issuer_url(self) -> str:
        """caIssuers: where this authority's own certificate is served (DER)."""
        return f"{self.status_url}/aia/{self.id}.cer"


@dataclass(frozen=True)
class Product:
    """A device model: how its devices are named, certified and renewed.

    `name_patterns` hold `{id}` for the device's label (`{id}.dev.example.com`).
    `shared_names` are names that every device of the product may carry: an explicit exception,
    since each buyer of one device can then impersonate the name to another. `accepts` says which
    proofs buy a device's service certificate; `grace` bounds the profile's grace further. In the
    situations of `approval` an operator decides as well. `channel_linking`: a CSR that comes by EST
    has to be linked to its TLS connection (RFC 7030 3.5).
    """

    id: str
    tenant_id: str
    name: str
    identity_authority_id: str
    identity_profile: str
    service_authority_id: str
    service_profile: str
    name_patterns: tuple[str, ...]
    shared_names: tuple[Name, ...] = ()
    renew_at: float = 2 / 3  # share of the lifetime after which renewal is due
    accepts: Acceptance = acceptance.DEFAULT
    grace: dt.timedelta | None = None  # None: the profile's alone
    approval: frozenset[Situation] = frozenset()
    channel_linking: bool = False

    def __post_init__(self) -> None:
        if not 0.3 <= self.renew_at <= 0.9:
            raise BadInput("product-syntax", f"renew_at {self.renew_at} is not within 0.3 and 0.9")
        if self.grace is not None and self.grace < dt.timedelta(0):
            raise BadInput("product-syntax", f"a grace of {self.grace} is below nothing")
        if not self.name_patterns and not self.shared_names:
            raise BadInput("product-syntax", f"product {self.name!r} gives its devices no name")
        for pattern in self.name_patterns:
            if pattern.count("{id}") != 1:
                raise BadInput("product-syntax", f"name pattern {pattern!r} needs one '{{id}}'")
            parse_name(pattern.replace("{id}", "x"))

    def names_of(self, label: str) -> tuple[Name, ...]:
        """The names that the device with this label may carry, per-device names first."""
        own = tuple(DNSName(pattern.replace("{id}", label)) for pattern in self.name_patterns)
        return own + self.shared_names


@dataclass(frozen=True)
class Device:
    """One unit. `serial_number` is the maker's; `label` is its part of a DNS name.

    `suspended_for` says why it is suspended: "" for an operator's wish, or a code. `firmware` is
    what it reported last, "" if it never did.
    """

    id: str
    tenant_id: str
    product_id: str
    serial_number: str
    label: str
    mac: str
    state: DeviceState
    batch_id: str | None
    line: int | None
    owner_id: str | None
    created_at: dt.datetime
    suspended_for: str = ""
    firmware: str = ""


@dataclass(frozen=True)
class Sighting:
    """Where from a device got its last certificate by itself, and for which key."""

    device_id: str
    source: str
    key_fingerprint: str
    at: dt.datetime


class Wish(StrEnum):
    """What a device's request is for."""

    CERTIFICATE = "certificate"  # for the CSR's key
    KEY = "key"  # a key pair is made for the device, and certified


@dataclass(frozen=True)
class DeviceRequest:
    """A device's request that an operator decides on; past `expires_at` it counts for nothing.

    It is known by device, wish and key: asking again with the same key finds it. `key_fingerprint`
    and `csr` (DER) are those of the CSR that came, "" and empty where none did; `evidence` are the
    kinds that were shown, `reason` is why an operator has to decide.
    """

    id: str
    tenant_id: str
    device_id: str
    wish: Wish
    key_fingerprint: str
    csr: bytes = field(repr=False)
    requester: str
    evidence: tuple[str, ...]
    source: str
    reason: str
    state: RequestState
    created_at: dt.datetime
    expires_at: dt.datetime
    decided_by: str | None = None
    decided_at: dt.datetime | None = None
    serial: Serial | None = None  # the certificate that it bought


@dataclass(frozen=True)
class Batch:
    """One factory run. `manifest_hash` makes it idempotent: the same manifest is the same batch."""

    id: str
    tenant_id: str
    product_id: str
    manifest_hash: str
    size: int
    state: BatchState
    created_at: dt.datetime


@dataclass(frozen=True)
class Owner:
    """A customer of the maker, with credentials at the maker."""

    id: str
    tenant_id: str
    username: str
    created_at: dt.datetime


class RevocationReason(StrEnum):
    """The reasons certmint writes (RFC 5280 5.3.1; BR 7.2.2). Hold and 0 cannot be encoded."""

    UNSPECIFIED = "unspecified"  # encoded by leaving the entry extension out
    KEY_COMPROMISE = "key-compromise"
    CA_COMPROMISE = "ca-compromise"
    AFFILIATION_CHANGED = "affiliation-changed"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessation-of-operation"
    PRIVILEGE_WITHDRAWN = "privilege-withdrawn"


@dataclass(frozen=True)
class Revocation:
    """When and why a serial was revoked."""

    revoked_at: dt.datetime
    reason: RevocationReason


@dataclass(frozen=True)
class Certificate:
    """A certificate as it was issued. `der` is empty for an intent that reconcile revoked."""

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
    issued_at: dt.datetime
    crl_shard: int
    der: bytes = field(repr=False)
    revocation: Revocation | None = None
    successor: Serial | None = None

    def is_expired(self, now: dt.datetime) -> bool:
        """notAfter is the last second of validity (RFC 5280 4.1.2.5)."""
        return now.replace(microsecond=0) > self.not_after


@dataclass(frozen=True)
class KeyRecord:
    """What the registry knows of one public key, fleet-wide and for ever."""

    fingerprint: str
    tenant_id: str
    device_id: str | None
    origin: KeyOrigin
    blocked: bool = False
