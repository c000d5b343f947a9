"""One request for one certificate: what is asked, by whom, with which evidence; and the facts.

`CertificateRequest` is everything that was asked for. `Facts` is everything that certmint
knows and that policy may weigh; enrolment fills it from the registry, so policy asks nothing.
"""

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from certmint.model.campaign import Call
from certmint.model.constraints import NameConstraints
from certmint.model.csr import CSR
from certmint.model.entities import (
    Authority,
    Batch,
    Certificate,
    Device,
    DomainValidation,
    KeyRecord,
    Product,
    Sighting,
)
from certmint.model.errors import BadInput
from certmint.model.evidence import Evidence
from certmint.model.hardware import HardwareName
from certmint.model.keys import KeyOrigin, PublicKey
from certmint.model.names import Name
from certmint.model.profile import Profile
from certmint.model.subject import NO_SUBJECT, DistinguishedName


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key pair whose private half this system made or holds, so no CSR proves possession."""

    key: PublicKey
    origin: KeyOrigin

    def __post_init__(self) -> None:
        if self.origin is KeyOrigin.SUBSCRIBER:
            raise BadInput("key-origin", "a subscriber's key comes with a CSR")


class RequesterKind(StrEnum):
    """Who stands at a door, as the audit log spells it."""

    OPERATOR = "operator"
    DEVICE = "device"
    OWNER = "owner"
    STATION = "station"
    ACCOUNT = "account"  # an ACME account


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks, and that one's id."""

    kind: RequesterKind
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


@dataclass(frozen=True)
class Asker:
    """Who asks for a device's certificate, from where, and with what evidence."""

    requester: Requester
    evidence: tuple[Evidence, ...]
    source: str = ""  # the network address, where a door knows it


@dataclass(frozen=True)
class CertificateRequest:
    """Everything that was asked for.

    `names` and `subject` are what the certificate shall carry, worked out by the use case (from
    the product's patterns, an order, an operator); the CSR contributes its key and is checked
    against them. `hardware` is what the certificate says of the device itself, beside its names.
    `constraints` and `path_length` are for authorities only. `source` is the network address that
    it came from, where a door knows it.
    """

    tenant_id: str
    authority_id: str
    profile: Profile
    key: CSR | HeldKey
    requester: Requester
    evidence: tuple[Evidence, ...]
    subject: DistinguishedName = NO_SUBJECT
    names: tuple[Name, ...] = ()
    device_id: str | None = None
    constraints: NameConstraints | None = None
    lifetime: dt.timedelta | None = None
    hardware: tuple[HardwareName, ...] = ()
    replaces: str | None = None  # serial of the certificate that this one succeeds
    source: str = ""

    @property
    def public_key(self) -> PublicKey:
        return self.key.key

    @property
    def key_origin(self) -> KeyOrigin:
        return KeyOrigin.SUBSCRIBER if isinstance(self.key, CSR) else self.key.origin


@dataclass(frozen=True)
class Facts:
    """Everything that policy may know about one request; read in one transaction.

    `ancestors` are the constraints of the authority and of every CA above it.
    `presented` is the certificate that `HoldsCertificate` names; `replaced` the one in `replaces`.
    `newest` is the device's newest service certificate, `sighting` where it came from last; both
    are read only for a service certificate that a device gets in the field; `call` is what a
    campaign wants of the newest.
    `ct_logs` is how many certificate transparency logs this installation can submit to.
    """

    authority: Authority
    ancestors: tuple[NameConstraints, ...]
    domains: tuple[DomainValidation, ...] = ()
    key_record: KeyRecord | None = None
    device: Device | None = None
    product: Product | None = None
    batch: Batch | None = None
    presented: Certificate | None = None
    replaced: Certificate | None = None
    newest: Certificate | None = None
    sighting: Sighting | None = None
    call: Call | None = None
    ct_logs: int = 0
