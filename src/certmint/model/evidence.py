"""Evidence: why a requester may have a certificate. A closed union; policy weighs it.

A door or a use case builds evidence only from something that it has verified *now*: a TLS
handshake, a password hash, a signed manifest. Each profile says which kinds it accepts.
"""

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from certmint.model.hardware import HardwareName
from certmint.model.names import Name


class EvidenceKind(StrEnum):
    """The names that profiles and products use for the members of the union."""

    CONTROLS_NAMES = "controls-names"
    HOLDS_CERTIFICATE = "holds-certificate"
    OWNER_LOGIN = "owner-login"
    ATTESTATION = "attestation"
    ENROLMENT_SECRET = "enrolment-secret"  # noqa: S105 (the name of a kind)
    BATCH_LINE = "batch-line"
    OPERATOR_GRANT = "operator-grant"
    APPROVED_REQUEST = "approved-request"


@dataclass(frozen=True, slots=True)
class ControlsNames:
    """The requester is authorized for names (ACME authorizations).

    It proved control of `names` itself; `delegated` are names that it may use because the
    manufacturer validated their domain, which policy checks again.
    """

    names: tuple[Name, ...]
    verified_at: dt.datetime
    delegated: tuple[Name, ...] = ()

    kind = EvidenceKind.CONTROLS_NAMES


@dataclass(frozen=True, slots=True)
class HoldsCertificate:
    """The requester proved possession of a certificate's key in a TLS handshake.

    `serial` and `authority_id` name a certificate that this registry issued, byte for byte.
    Whether it is still good is for policy, from `Facts.presented`.
    """

    authority_id: str
    serial: str
    verified_at: dt.datetime

    kind = EvidenceKind.HOLDS_CERTIFICATE


@dataclass(frozen=True, slots=True)
class OwnerLogin:
    """The device's owner presented their credentials at the maker."""

    owner_id: str
    verified_at: dt.datetime

    kind = EvidenceKind.OWNER_LOGIN


@dataclass(frozen=True, slots=True)
class Attestation:
    """Hardware vouched for a key: `key_fingerprint` lives in the device named `device_serial`.

    That is "" for hardware of no device in the inventory; `hardware` are the names of itself that
    it attested, if it was asked for some. `format` is a registered attestation statement format
    ("tpm", "android-key" …) and `statement_hash` the SHA-256 of the verified statement, kept for
    the audit.
    """

    format: str
    key_fingerprint: str
    device_serial: str
    statement_hash: str
    verified_at: dt.datetime
    hardware: tuple[HardwareName, ...] = ()

    kind = EvidenceKind.ATTESTATION


@dataclass(frozen=True, slots=True)
class EnrolmentSecret:
    """Somebody typed the secret on the label of the device named `device_serial`.

    `spent_on` is the serial of the certificate that it was spent on before, and "" for a secret
    that was not spent yet: recording the intent spends it.
    """

    device_serial: str
    spent_on: str
    verified_at: dt.datetime

    kind = EvidenceKind.ENROLMENT_SECRET


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A line of a factory manifest that an authorised operator submitted."""

    batch_id: str
    line: int
    manifest_hash: str

    kind = EvidenceKind.BATCH_LINE


@dataclass(frozen=True, slots=True)
class OperatorGrant:
    """An operator of the tenant decided it, with a token or at the console of the machine."""

    operator_id: str
    verified_at: dt.datetime

    kind = EvidenceKind.OPERATOR_GRANT


@dataclass(frozen=True, slots=True)
class ApprovedRequest:
    """An operator approved this very request of a device; it proves nothing of who asks.

    `key_fingerprint` is that of the CSR's key, and "" where a key is made for the device.
    """

    request_id: str
    device_id: str
    key_fingerprint: str
    approved_by: str
    verified_at: dt.datetime

    kind = EvidenceKind.APPROVED_REQUEST


Evidence = (
    ControlsNames
    | HoldsCertificate
    | OwnerLogin
    | Attestation
    | EnrolmentSecret
    | BatchLine
    | OperatorGrant
    | ApprovedRequest
)
