"""Profiles: what a kind of certificate looks like, and which evidence buys it.

A profile is frozen and has a version; a certificate remembers which version made it. The
profiles that a manufacturer starts with are at the end.
"""

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from certmint.model.errors import BadInput
from certmint.model.evidence import EvidenceKind
from certmint.model.keys import KeyKind, KeyOrigin

SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
DOCUMENT_SIGNING = "1.3.6.1.5.5.7.3.36"  # RFC 9336
DV_POLICY = "2.23.140.1.2.1"  # BR 7.1.6.1, domain-validated


class Trust(StrEnum):
    """Whether relying parties outside the maker's control trust the hierarchy."""

    PUBLIC = "public"
    PRIVATE = "private"


class Purpose(StrEnum):
    """The shape of the certificate."""

    ROOT = "root"
    ISSUING = "issuing"  # a CA without name constraints
    SUBORDINATE = "subordinate"  # a technically constrained SubCA
    IDENTITY = "identity"  # IEEE 802.1AR IDevID of a device
    SERVICE = "service"  # serverAuth for DNS names and addresses
    SIGNER = "signer"  # signs the documents of a batch

    @property
    def is_authority(self) -> bool:
        return self in (Purpose.ROOT, Purpose.ISSUING, Purpose.SUBORDINATE)


_AUTHORITY_ORIGINS = frozenset({KeyOrigin.AUTHORITY})
_EC = frozenset({KeyKind.P256, KeyKind.P384})
_DEVICE_KEYS = frozenset({KeyKind.P256, KeyKind.P384, KeyKind.RSA2048, KeyKind.RSA3072})
# Servers have RSA of 4096 bits besides: some ACME clients make that unless they are told not to.
_SERVICE_KEYS = _DEVICE_KEYS | {KeyKind.RSA4096}


@dataclass(frozen=True)
class Profile:
    """One version of one profile. Raises BadInput `profile-syntax` if it contradicts itself.

    `lifetime` None means no well-defined expiration: 99991231235959Z (RFC 5280 4.1.2.5).
    `accepts` is a list of alternatives; each is a set of evidence kinds that must all be there.
    `grace` is how long after its notAfter a held certificate still counts as evidence.
    `plain_delivery`: a key made for a device may leave under TLS alone (RFC 7030 4.4.2); otherwise
    it leaves encrypted to a key of the device, or not at all.
    """

    name: str
    version: int
    trust: Trust
    purpose: Purpose
    lifetime: dt.timedelta | None
    key_kinds: frozenset[KeyKind]
    key_origins: frozenset[KeyOrigin]
    accepts: tuple[frozenset[EvidenceKind], ...]
    extended_key_usage: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    path_length: int | None = None
    backdate: dt.timedelta = dt.timedelta(hours=1)
    grace: dt.timedelta = dt.timedelta(0)
    plain_delivery: bool = False

    def __post_init__(self) -> None:
        problem = self._contradiction()
        if problem:
            raise BadInput("profile-syntax", f"profile {self.name!r}: {problem}")

    def _contradiction(self) -> str | None:
        if self.version < 1 or not self.accepts or not self.key_kinds or not self.key_origins:
            return "version, accepted evidence, key kinds and key origins must be given"
        if any(not alternative for alternative in self.accepts):
            return "an alternative without any evidence would let everybody in"
        if self.plain_delivery and KeyOrigin.KEY_MANAGEMENT not in self.key_origins:
            return "it has no keys made for devices, so none can be delivered"
        if self.trust is Trust.PUBLIC:
            return self._public_contradiction()
        if self.purpose.is_authority != (self.key_origins == _AUTHORITY_ORIGINS):
            return "authority keys are for authorities, and for nothing else"
        if self.lifetime is not None and self.lifetime < dt.timedelta(minutes=5):
            return "a lifetime below five minutes"
        if self.purpose is Purpose.SERVICE and self.lifetime is None:
            return "a service certificate must expire"
        return None

    def _public_contradiction(self) -> str | None:
        if self.purpose is not Purpose.SERVICE:
            return "certmint's public profiles are TLS server certificates"
        if self.key_origins != {KeyOrigin.SUBSCRIBER}:
            return "a public CA never makes or knows a subscriber's key (BR 6.1.1.3)"
        if self.extended_key_usage != (SERVER_AUTH,):
            return "a public TLS leaf carries serverAuth and nothing else (Chrome 1.3.2)"
        if self.policies[:1] != (DV_POLICY,):
            return "the reserved policy identifier must come first (BR 7.1.2.7.9)"
        if self.lifetime is None or self.backdate > dt.timedelta(hours=48):
            return "lifetime and notBefore must be bounded (BR 6.3.2, 7.1.2.7)"
        return None


def _any_of(*kinds: EvidenceKind) -> tuple[frozenset[EvidenceKind], ...]:
    return tuple(frozenset({kind}) for kind in kinds)


_BY_OPERATOR = _any_of(EvidenceKind.OPERATOR_GRANT)

ROOT = Profile(
    "root", 1, Trust.PRIVATE, Purpose.ROOT, dt.timedelta(days=25 * 365), _EC, _AUTHORITY_ORIGINS,
    _BY_OPERATOR, backdate=dt.timedelta(hours=1),
)  # fmt: skip
IDENTITY_ROOT = Profile(
    "identity-root", 1, Trust.PRIVATE, Purpose.ROOT, None, _EC, _AUTHORITY_ORIGINS, _BY_OPERATOR,
)  # fmt: skip
ISSUING = Profile(
    "issuing", 1, Trust.PRIVATE, Purpose.ISSUING, dt.timedelta(days=10 * 365), _EC,
    _AUTHORITY_ORIGINS, _BY_OPERATOR, extended_key_usage=(SERVER_AUTH,),
)  # fmt: skip
IDENTITY_ISSUING = Profile(
    "identity-issuing", 1, Trust.PRIVATE, Purpose.ISSUING, None, _EC, _AUTHORITY_ORIGINS,
    _BY_OPERATOR, extended_key_usage=(CLIENT_AUTH, DOCUMENT_SIGNING), path_length=0,
)  # fmt: skip
SUBORDINATE = Profile(
    "subordinate", 1, Trust.PRIVATE, Purpose.SUBORDINATE, dt.timedelta(days=3 * 365), _EC,
    _AUTHORITY_ORIGINS, _BY_OPERATOR, extended_key_usage=(SERVER_AUTH,), policies=(DV_POLICY,),
    path_length=0,
)  # fmt: skip
IDENTITY = Profile(
    "identity", 1, Trust.PRIVATE, Purpose.IDENTITY, None, _DEVICE_KEYS,
    frozenset({KeyOrigin.SUBSCRIBER, KeyOrigin.FACTORY}),
    _any_of(EvidenceKind.BATCH_LINE, EvidenceKind.OPERATOR_GRANT, EvidenceKind.ATTESTATION),
    extended_key_usage=(CLIENT_AUTH,),
)  # fmt: skip
SERVICE = Profile(
    "service", 1, Trust.PRIVATE, Purpose.SERVICE, dt.timedelta(days=90), _SERVICE_KEYS,
    frozenset({KeyOrigin.SUBSCRIBER, KeyOrigin.FACTORY, KeyOrigin.KEY_MANAGEMENT}),
    _any_of(
        EvidenceKind.HOLDS_CERTIFICATE, EvidenceKind.OWNER_LOGIN, EvidenceKind.ATTESTATION,
        EvidenceKind.ENROLMENT_SECRET, EvidenceKind.BATCH_LINE, EvidenceKind.OPERATOR_GRANT,
        EvidenceKind.CONTROLS_NAMES,
    ),
    extended_key_usage=(SERVER_AUTH,), grace=dt.timedelta(days=730),
)  # fmt: skip
SERVICE_PUBLIC = Profile(
    "service-public", 1, Trust.PUBLIC, Purpose.SERVICE, dt.timedelta(days=199), _SERVICE_KEYS,
    frozenset({KeyOrigin.SUBSCRIBER}),
    _any_of(
        EvidenceKind.HOLDS_CERTIFICATE, EvidenceKind.OWNER_LOGIN, EvidenceKind.ATTESTATION,
        EvidenceKind.ENROLMENT_SECRET, EvidenceKind.CONTROLS_NAMES,
    ),
    extended_key_usage=(SERVER_AUTH,), policies=(DV_POLICY,), grace=dt.timedelta(days=730),
)  # fmt: skip
SIGNER = Profile(
    "batch-signer", 1, Trust.PRIVATE, Purpose.SIGNER, dt.timedelta(days=3650), _EC,
    frozenset({KeyOrigin.FACTORY}), _any_of(EvidenceKind.BATCH_LINE),
    extended_key_usage=(DOCUMENT_SIGNING,),
)  # fmt: skip

BUILT_IN = (
    ROOT, IDENTITY_ROOT, ISSUING, IDENTITY_ISSUING, SUBORDINATE, IDENTITY, SERVICE,
    SERVICE_PUBLIC, SIGNER,
)  # fmt: skip
