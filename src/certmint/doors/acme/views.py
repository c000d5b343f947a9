"""ACME's objects as JSON (RFC 8555 7.1); URLs come from the configured base alone."""

import datetime as dt
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from certmint.doors.acme.problems import URN, kind_of
from certmint.enrolment.acme.challenges import Place
from certmint.enrolment.acme.limits import Limit, Limits
from certmint.model.acme import (
    Account,
    Authorization,
    AuthorizationState,
    AutoRenewal,
    AutoRenewalState,
    Challenge,
    ChallengeState,
    ChallengeType,
    Directory,
    Order,
    OrderState,
)
from certmint.model.errors import Refused


@dataclass(frozen=True)
class URLs:
    """Where the objects of one directory are."""

    base: str  # https://host/acme/<manufacturer>/<directory>

    @cached_property
    def index(self) -> bytes:
        """The Link header field that leads to the directory (RFC 8555 7.1)."""
        return f'<{self.base}/directory>;rel="index"'.encode()

    @cached_property
    def host(self) -> str:
        """Our own host name."""
        return urlsplit(self.base).hostname or ""

    def __call__(self, *parts: str) -> str:
        return "/".join((self.base, *parts))

    def account(self, account: Account) -> str:
        return self("account", account.id)

    def place(self, directory: Directory, account: Account) -> Place:
        """The account's URL, and the issuer's name: its CAA identity, or else our own host."""
        issuer = directory.caa_identities[0] if directory.caa_identities else ""
        return Place(self.account(account), issuer or self.host)


def when(moment: dt.datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def directory(found: Directory, urls: URLs) -> dict[str, Any]:
    """The directory object (RFC 8555 7.1.1, RFC 9773 3)."""
    return {
        "newNonce": urls("new-nonce"),
        "newAccount": urls("new-account"),
        "newOrder": urls("new-order"),
        "newAuthz": urls("new-authz"),
        "revokeCert": urls("revoke-cert"),
        "keyChange": urls("key-change"),
        "renewalInfo": urls("renewal-info"),
        "meta": _meta(found),
    }


def _meta(found: Directory) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "externalAccountRequired": found.requires_binding,
        "profiles": {name: f"the profile {name} of this authority" for name in found.profiles},
    }
    if found.terms:
        meta["termsOfService"] = found.terms
    if found.website:
        meta["website"] = found.website
    if found.caa_identities:
        meta["caaIdentities"] = list(found.caa_identities)
    if found.allows_subdomains:
        meta["subdomainAuthAllowed"] = True  # RFC 9444 4.4
    if found.auto_renewal is not None:  # RFC 8739 3.2
        meta["auto-renewal"] = {
            "min-lifetime": _seconds(found.auto_renewal.min_lifetime),
            "max-duration": _seconds(found.auto_renewal.max_duration),
            "allow-certificate-get": found.auto_renewal.allows_get,
        }
    return meta


def _seconds(length: dt.timedelta) -> int:
    return int(length.total_seconds())


def limits(found: Limits) -> str:
    """The rate limits for people: what the `help` link leads to (RFC 8555 6.6)."""
    hours, new = found.window.total_seconds() / 3600, found.accounts.manufacturer
    rows = [
        f"In {hours:g} hours, at most:",
        f"  orders:              {_three(found.orders)}",
        f"  failed validations:  {_three(found.failures)}",
        f"  new accounts:        {found.accounts.device} a device, {new} a maker",
        f"At any time, an account has at most {found.open_orders} orders that are pending.",
        "What is refused is not counted. Retry-After says when it will work.",
    ]
    return "\n".join(rows) + "\n"


def _three(limit: Limit) -> str:
    return f"{limit.account} an account, {limit.device} a device, {limit.manufacturer} a maker"


def account(found: Account, directory: Directory, urls: URLs) -> dict[str, Any]:
    """RFC 8555 7.1.2."""
    shown: dict[str, Any] = {
        "status": found.state.value,
        "contact": list(found.contacts),
        "orders": urls("account", found.id, "orders"),
    }
    if directory.terms:
        shown["termsOfServiceAgreed"] = found.agreed_terms == directory.terms
    if found.external_binding:
        shown["externalAccountBinding"] = json.loads(found.external_binding)
    return shown


def order(
    found: Order, renewal: AutoRenewal | None, urls: URLs, now: dt.datetime
) -> dict[str, Any]:
    """RFC 8555 7.1.3; an order that ran out of time is invalid."""
    state = found.state
    if state in (OrderState.PENDING, OrderState.READY) and now >= found.expires_at:
        state = OrderState.INVALID
    shown: dict[str, Any] = {
        "status": state.value,
        "expires": when(found.expires_at),
        "identifiers": [{"type": i.type.value, "value": i.value} for i in found.identifiers],
        "authorizations": [urls("authz", each) for each in found.authorization_ids],
        "finalize": urls("order", found.id, "finalize"),
        "profile": found.profile,
    }
    if found.replaces is not None:
        shown["replaces"] = found.replaces
    if found.error:
        shown["error"] = _error(found.error)
    if renewal is not None:
        shown |= _renewing(found, renewal, urls)
    elif found.serial is not None:
        shown["certificate"] = urls("cert", found.id)
    return shown


def _renewing(found: Order, renewal: AutoRenewal, urls: URLs) -> dict[str, Any]:
    """What is different of an order that renews itself (RFC 8739 3.1.1, 3.1.2)."""
    shown: dict[str, Any] = {
        "auto-renewal": {
            "end-date": when(renewal.ends_at),
            "lifetime": _seconds(renewal.lifetime),
            "lifetime-adjust": _seconds(renewal.adjust),
            "allow-certificate-get": renewal.allows_get,
        }
    }
    if found.serial is not None:
        shown["star-certificate"] = urls("star", found.id)
        shown["expires"] = when(renewal.ends_at)
    if renewal.state is not AutoRenewalState.ACTIVE:
        shown["status"] = "canceled"
    return shown


def authorization(
    found: Authorization, urls: URLs, place: Place, now: dt.datetime
) -> dict[str, Any]:
    """RFC 8555 7.1.4; expiry is computed."""
    state = found.state.value
    live = (AuthorizationState.PENDING, AuthorizationState.VALID)
    if found.state in live and now >= found.expires_at:
        state = "expired" if found.state is AuthorizationState.VALID else "invalid"
    challenges = found.challenges
    if found.state is AuthorizationState.VALID:
        challenges = tuple(c for c in challenges if c.state is ChallengeState.VALID)
    elif found.state is AuthorizationState.INVALID:  # the one that was attempted and failed
        failed = tuple(c for c in challenges if c.state is ChallengeState.INVALID)
        challenges = failed or challenges
    shown: dict[str, Any] = {
        "status": state,
        "identifier": {"type": found.identifier.type.value, "value": found.identifier.value},
        "expires": when(found.expires_at),
        "challenges": [challenge(each, urls, place) for each in challenges],
    }
    if found.is_wildcard:
        shown["wildcard"] = True
    if found.covers_subdomains:
        shown["subdomainAuthAllowed"] = True  # RFC 9444 4.1
    return shown


def challenge(found: Challenge, urls: URLs, place: Place) -> dict[str, Any]:
    """RFC 8555 7.1.5 and 8; a persistent record has no token, but names issuer and account."""
    shown: dict[str, Any] = {
        "type": found.type.value,
        "url": urls("challenge", found.id),
        "status": found.state.value,
    }
    if found.type is ChallengeType.DNS_PERSIST_01:
        shown["issuer-domain-names"] = [place.issuer]
        shown["accounturi"] = place.account_url
    else:
        shown["token"] = found.token
    if found.validated_at is not None:
        shown["validated"] = when(found.validated_at)
    if found.error:
        shown["error"] = _error(found.error)
    return shown


def _error(text: str) -> dict[str, Any]:
    kept = json.loads(text)
    kind = kept.get("type") or kind_of(Refused(kept.get("code", ""), ""))[0]
    return {"type": URN + kind, "detail": kept["detail"], "status": 403}
