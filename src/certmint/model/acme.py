"""ACME's nouns: accounts, orders, authorizations, challenges (RFC 8555 section 7.1).

Everything that moves one of them is in a table here; the registry applies a move as one
compare-and-set. Expiry is computed from `expires_at` and never stored. What a client may write
into an identifier is checked when the identifier is made.
"""

import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from certmint.model.errors import BadInput
from certmint.model.hardware import HardwareModuleName, HardwareName, PermanentIdentifier
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
    # What is seen at once is never written down as processing.
    _C.PENDING: {
        _CE.ANSWERED: _C.PROCESSING,
        _CE.VALIDATED: _C.VALID,
        _CE.FAILED: _C.INVALID,
    },
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
    DEVICE_ATTEST_01 = "device-attest-01"  # draft-ietf-acme-device-attest; for hardware alone


DEFAULT_CHALLENGES = (ChallengeType.HTTP_01, ChallengeType.DNS_01, ChallengeType.TLS_ALPN_01)
IN_THE_DNS = frozenset(
    {ChallengeType.DNS_01, ChallengeType.DNS_ACCOUNT_01, ChallengeType.DNS_PERSIST_01}
)


class AutoRenewalState(StrEnum):
    """Of an order whose certificate renews itself (RFC 8739 3.1); its end is computed."""

    ACTIVE = "active"
    CANCELED = "canceled"  # by the client
    STOPPED = "stopped"  # its account went, and nobody may be certified for it any more


class AutoRenewalEvent(StrEnum):
    CANCELED = "canceled"
    STOPPED = "stopped"


_R, _RE = AutoRenewalState, AutoRenewalEvent
AUTO_RENEWAL: Mapping[AutoRenewalState, Mapping[AutoRenewalEvent, AutoRenewalState]] = {
    _R.ACTIVE: {_RE.CANCELED: _R.CANCELED, _RE.STOPPED: _R.STOPPED},
    _R.CANCELED: {},
    _R.STOPPED: {},
}


class IdentifierType(StrEnum):
    """RFC 8555 9.7.7, RFC 8738, draft-ietf-acme-device-attest."""

    DNS = "dns"
    IP = "ip"
    PERMANENT_IDENTIFIER = "permanent-identifier"
    HARDWARE_MODULE = "hardware-module"


@dataclass(frozen=True, slots=True, order=True)
class Identifier:
    """What an order asks a certificate for. A wildcard is part of the value in orders only.

    It is a name or the device itself: one of `name` and `hardware` is None.
    """

    type: IdentifierType
    value: str

    @property
    def name(self) -> Name | None:
        """The name that the certificate carries."""
        if self.type is IdentifierType.DNS:
            return DNSName(self.value)
        return IPName(self.value) if self.type is IdentifierType.IP else None

    @property
    def hardware(self) -> HardwareName | None:
        """What the certificate says of the device itself, unless its requester keeps it private."""
        if self.type is IdentifierType.PERMANENT_IDENTIFIER:
            return PermanentIdentifier.parse(self.value)
        if self.type is IdentifierType.HARDWARE_MODULE:
            return HardwareModuleName.parse(self.value)
        return None

    @property
    def is_hardware(self) -> bool:
        return self.type in (IdentifierType.PERMANENT_IDENTIFIER, IdentifierType.HARDWARE_MODULE)

    @property
    def is_wildcard(self) -> bool:
        return self.type is IdentifierType.DNS and self.value.startswith("*.")

    @property
    def authorized(self) -> "Identifier":
        """What an authorization names: the same without the wildcard label (RFC 8555 7.1.4)."""
        return Identifier(self.type, self.value.removeprefix("*.")) if self.is_wildcard else self


def identifier_of(kind: str, value: str) -> Identifier:
    """An identifier as a client sent it; DNS names in lower case, hardware octet for octet.

    Raises BadInput `identifier-type` (RFC 8555 unsupportedIdentifier), `name-syntax`, or
    `identifier-syntax` for hardware that breaks the draft's grammar.
    """
    if kind == IdentifierType.DNS:
        # Outside ASCII lower() would make a name of what is none: U+212A is not k.
        name = DNSName(value.lower() if value.isascii() else value)
        return Identifier(IdentifierType.DNS, name.value)
    if kind == IdentifierType.IP:
        return Identifier(IdentifierType.IP, IPName(value).value)
    if kind in (IdentifierType.PERMANENT_IDENTIFIER, IdentifierType.HARDWARE_MODULE):
        found = Identifier(IdentifierType(kind), value)
        try:
            _ = found.hardware
        except BadInput as error:
            raise BadInput("identifier-syntax", error.detail) from None
        return found
    raise BadInput("identifier-type", f"identifiers of type {kind!r} are not served here")


MIN_AUTO_RENEWAL = dt.timedelta(minutes=15)  # a third of it is several rounds of the job


@dataclass(frozen=True)
class RenewalTerms:
    """What a directory offers of RFC 8739 (3.2): certificates that renew themselves."""

    min_lifetime: dt.timedelta
    max_duration: dt.timedelta
    allows_get: bool = False

    def __post_init__(self) -> None:
        if not MIN_AUTO_RENEWAL <= self.min_lifetime <= self.max_duration:
            raise BadInput(
                "directory-syntax",
                f"a self-renewing certificate of {self.min_lifetime} for {self.max_duration}: it "
                f"lives {MIN_AUTO_RENEWAL} at least, and no longer than its order",
            )


@dataclass(frozen=True)
class Directory:
    """One ACME server of a manufacturer: which authority issues, and under which profiles.

    `name` is its part of the URL; the first of `profiles` is what an order without one gets.
    `terms` is the URL of the terms of service that accounts must agree to, if there are any.
    """

    id: str
    tenant_id: str
    name: str
    authority_id: str
    profiles: tuple[str, ...]
    requires_binding: bool
    created_at: dt.datetime
    challenges: tuple[ChallengeType, ...] = DEFAULT_CHALLENGES
    terms: str = ""
    website: str = ""
    caa_identities: tuple[str, ...] = ()
    allows_subdomains: bool = False
    auto_renewal: RenewalTerms | None = None

    def __post_init__(self) -> None:
        problem = self._contradiction()
        if problem:
            raise BadInput("directory-syntax", f"directory {self.name!r}: {problem}")

    def _contradiction(self) -> str | None:
        if not _SLUG.fullmatch(self.name):
            return "use 1 to 63 lower-case letters, digits and inner hyphens for a name"
        if not self.profiles:
            return "it offers no profile"
        if not self.challenges or len(set(self.challenges)) != len(self.challenges):
            return "it needs one or more challenge types, each once"
        for url in (self.terms, self.website):
            if url and not re.fullmatch(r"https?://[!-~]+", url):
                return f"{url!r} is not a URL of http or https"
        for name in self.caa_identities:
            if DNSName(name).is_wildcard:
                return f"{name!r} is a wildcard, and a CAA identity is a domain name"
        return None


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
    agreed_terms: str = ""  # the URL of the terms that its holder agreed to
    external_binding: str = ""  # the JWS that bound it, as JSON: the client sees it again


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
    """An account's control of one identifier. `evidence` says what was seen, and where.

    With `covers_subdomains` it is for every name below as well (RFC 9444).
    """

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
    covers_subdomains: bool = False

    def covers(self, wanted: Identifier) -> bool:
        """Whether it is for this identifier of an order (RFC 8555 7.1.4, RFC 9444 4.1)."""
        if (self.identifier, self.is_wildcard) == (wanted.authorized, wanted.is_wildcard):
            return True
        name = wanted.name
        return (
            self.covers_subdomains
            and isinstance(name, DNSName)
            and name.is_within(self.identifier.value)
        )

    @property
    def is_delegated(self) -> bool:
        """Whether it rests on the manufacturer's validation, not on the account's own proof."""
        if DELEGATED not in self.evidence:
            return False  # no need to read it
        return bool(json.loads(self.evidence).get("method") == DELEGATED)


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


@dataclass(frozen=True)
class AutoRenewal:
    """How an order's certificate renews itself (RFC 8739 3.1.1).

    `lifetime` is the nominal one, `adjust` the client's wish for an earlier start of each. Since
    finalize there are a `csr`, the moment it `began_at`, and when the next one is due (`next_at`,
    None behind the last one); `serial` is the newest certificate's.
    """

    order_id: str
    tenant_id: str
    account_id: str
    state: AutoRenewalState
    ends_at: dt.datetime
    lifetime: dt.timedelta
    adjust: dt.timedelta
    allows_get: bool
    csr: bytes = field(default=b"", repr=False)
    began_at: dt.datetime | None = None
    next_at: dt.datetime | None = None
    authority_id: str | None = None
    serial: Serial | None = None
