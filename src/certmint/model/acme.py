"""ACME's nouns: accounts, orders, authorizations, challenges (RFC 8555 section 7.1).

Everything that moves one of them is in a table here; the registry applies a move as one
compare-and-set. Expiry is computed from `expires_at` and never stored. What a client may write
into an identifier is checked when the identifier is made.
"""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from certmint.model.errors import BadInput
from certmint.model.names import DNSName, IPName, Name
from certmint.model.serial import Serial

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class AccountState(StrEnum):
    """RFC 8555 7.1.6."""

    VALID = "valid"
    DEACTIVATED = "deactivated"  # by the client
    REVOKED = "revoked"  # by the operator


class AccountEvent(StrEnum):
    DEACTIVATED = "deactivated"
    REVOKED = "revoked"


class OrderState(StrEnum):
    """RFC 8555 7.1.6."""

    PENDING = "pending"
    READY = "ready"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"


class OrderEvent(StrEnum):
    AUTHORIZED = "authorized"  # every authorization is valid
    FINALIZED = "finalized"  # a good CSR came; the gate has the order now
    ISSUED = "issued"
    DECLINED = "declined"  # the gate failed in a way that another try may mend
    FAILED = "failed"


class AuthorizationState(StrEnum):
    """RFC 8555 7.1.6; `expired` is computed."""

    PENDING = "pending"
    VALID = "valid"
    INVALID = "invalid"
    DEACTIVATED = "deactivated"
    REVOKED = "revoked"


class AuthorizationEvent(StrEnum):
    VALIDATED = "validated"
    FAILED = "failed"
    DEACTIVATED = "deactivated"
    REVOKED = "revoked"


class ChallengeState(StrEnum):
    """RFC 8555 7.1.6."""

    PENDING = "pending"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"


class ChallengeEvent(StrEnum):
    ANSWERED = "answered"  # the client says that it is ready
    VALIDATED = "validated"
    FAILED = "failed"


ACCOUNT: Mapping[AccountState, Mapping[AccountEvent, AccountState]] = {
    AccountState.VALID: {
        AccountEvent.DEACTIVATED: AccountState.DEACTIVATED,
        AccountEvent.REVOKED: AccountState.REVOKED,
    },
    AccountState.DEACTIVATED: {AccountEvent.REVOKED: AccountState.REVOKED},
    AccountState.REVOKED: {},
}
_O, _OE = OrderState, OrderEvent
ORDER: Mapping[OrderState, Mapping[OrderEvent, OrderState]] = {
    _O.PENDING: {_OE.AUTHORIZED: _O.READY, _OE.FAILED: _O.INVALID},
    _O.READY: {_OE.FINALIZED: _O.PROCESSING, _OE.FAILED: _O.INVALID},
    _O.PROCESSING: {_OE.ISSUED: _O.VALID, _OE.DECLINED: _O.READY, _OE.FAILED: _O.INVALID},
    _O.VALID: {},
    _O.INVALID: {},
}
_A, _AE = AuthorizationState, AuthorizationEvent
AUTHORIZATION: Mapping[AuthorizationState, Mapping[AuthorizationEvent, AuthorizationState]] = {
    _A.PENDING: {
        _AE.VALIDATED: _A.VALID,
        _AE.FAILED: _A.INVALID,
        _AE.DEACTIVATED: _A.DEACTIVATED,
    },
    _A.VALID: {_AE.DEACTIVATED: _A.DEACTIVATED, _AE.REVOKED: _A.REVOKED},
    _A.INVALID: {},
    _A.DEACTIVATED: {},
    _A.REVOKED: {},
}
_C, _CE = ChallengeState, ChallengeEvent
CHALLENGE: Mapping[ChallengeState, Mapping[ChallengeEvent, ChallengeState]] = {
    _C.PENDING: {_CE.ANSWERED: _C.PROCESSING},
    _C.PROCESSING: {_CE.VALIDATED: _C.VALID, _CE.FAILED: _C.INVALID},
    _C.VALID: {},
    _C.INVALID: {},
}


class ChallengeType(StrEnum):
    """How control of an identifier is shown."""

    HTTP_01 = "http-01"  # RFC 8555 8.3
    DNS_01 = "dns-01"  # RFC 8555 8.4
    TLS_ALPN_01 = "tls-alpn-01"  # RFC 8737
    DNS_ACCOUNT_01 = "dns-account-01"  # draft-ietf-acme-dns-account-label
    DNS_PERSIST_01 = "dns-persist-01"  # draft-ietf-acme-dns-persist; has no token


class IdentifierType(StrEnum):
    """RFC 8555 9.7.7, RFC 8738."""

    DNS = "dns"
    IP = "ip"


@dataclass(frozen=True, slots=True, order=True)
class Identifier:
    """What an order asks a certificate for. A wildcard is part of the value in orders only."""

    type: IdentifierType
    value: str

    @property
    def name(self) -> Name:
        """The name that the certificate carries."""
        return DNSName(self.value) if self.type is IdentifierType.DNS else IPName(self.value)

    @property
    def is_wildcard(self) -> bool:
        return self.type is IdentifierType.DNS and self.value.startswith("*.")

    @property
    def authorized(self) -> "Identifier":
        """What an authorization names: the same without the wildcard label (RFC 8555 7.1.4)."""
        return Identifier(self.type, self.value.removeprefix("*."))


def identifier_of(kind: str, value: str) -> Identifier:
    """An identifier as a client sent it; DNS names in lower case.

    Raises BadInput `identifier-type` (RFC 8555 unsupportedIdentifier), `name-syntax`.
    """
    if kind == IdentifierType.DNS:
        return Identifier(IdentifierType.DNS, DNSName(value.lower()).value)
    if kind == IdentifierType.IP:
        return Identifier(IdentifierType.IP, IPName(value).value)
    raise BadInput("identifier-type", f"identifiers of type {kind!r} are not served here")


@dataclass(frozen=True)
class Directory:
    """One ACME server of a manufacturer: which authority issues, and under which profiles.

    `name` is its part of the URL; the first of `profiles` is what an order without one gets.
    """

    id: str
    tenant_id: str
    name: str
    authority_id: str
    profiles: tuple[str, ...]
    requires_binding: bool
    created_at: dt.datetime

    def __post_init__(self) -> None:
        if not _SLUG.fullmatch(self.name):
            raise BadInput(
                "directory-syntax",
                f"{self.name!r} is no name of a directory: use 1 to 63 lower-case letters, digits "
                "and inner hyphens",
            )
        if not self.profiles:
            raise BadInput("directory-syntax", f"directory {self.name!r} offers no profile")


@dataclass(frozen=True)
class Account:
    """An ACME account at one directory. `thumbprint` is RFC 7638's, `jwk` canonical JSON."""

    id: str
    tenant_id: str
    directory: str
    thumbprint: str
    jwk: str
    contacts: tuple[str, ...]
    state: AccountState
    binding_id: str | None
    created_at: dt.datetime


@dataclass(frozen=True)
class Binding:
    """An external account binding: who may open an account, and for what (RFC 8555 7.3.4).

    It reaches a whole manufacturer, one product, or one device. `account_id` is the account that
    a single-use binding was spent on; clearing it re-binds a device that was re-imaged.
    `sealed_key` is the MAC key, encrypted.
    """

    id: str
    tenant_id: str
    directory: str
    product_id: str | None
    device_id: str | None
    is_reusable: bool
    sealed_key: bytes = field(repr=False)
    expires_at: dt.datetime
    created_at: dt.datetime
    account_id: str | None = None
    revoked_at: dt.datetime | None = None


@dataclass(frozen=True)
class Challenge:
    """One way to satisfy an authorization. `error` is a problem document as JSON."""

    id: str
    authorization_id: str
    type: ChallengeType
    token: str
    state: ChallengeState
    validated_at: dt.datetime | None = None
    error: str = ""


DELEGATED = "the manufacturer's validation"


@dataclass(frozen=True)
class Authorization:
    """An account's control of one identifier. `evidence` says what was seen, and where."""

    id: str
    tenant_id: str
    account_id: str
    identifier: Identifier
    is_wildcard: bool
    state: AuthorizationState
    expires_at: dt.datetime
    created_at: dt.datetime
    challenges: tuple[Challenge, ...] = ()
    evidence: str = ""

    @property
    def is_delegated(self) -> bool:
        """Whether it rests on the manufacturer's validation, not on the account's own proof."""
        return DELEGATED in self.evidence


@dataclass(frozen=True)
class Order:
    """A request for one certificate. `serial` is set when it is VALID."""

    id: str
    tenant_id: str
    account_id: str
    directory: str
    profile: str
    state: OrderState
    identifiers: tuple[Identifier, ...]
    authorization_ids: tuple[str, ...]
    expires_at: dt.datetime
    created_at: dt.datetime
    replaces: str | None = None
    error: str = ""
    authority_id: str | None = None
    serial: Serial | None = None
