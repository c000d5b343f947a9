"""ACME's objects as JSON (RFC 8555 7.1); URLs come from the configured base alone."""

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

from certmint.doors.acme.problems import URN, kind_of
from certmint.model.acme import (
    Account,
    Authorization,
    AuthorizationState,
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

    def __call__(self, *parts: str) -> str:
        return "/".join((self.base, *parts))

    def account(self, account: Account) -> str:
        return self("account", account.id)


def when(moment: dt.datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def directory(found: Directory, urls: URLs) -> dict[str, Any]:
    """The directory object (RFC 8555 7.1.1, RFC 9773 3)."""
    return {
        "newNonce": urls("new-nonce"),
        "newAccount": urls("new-account"),
        "newOrder": urls("new-order"),
        "revokeCert": urls("revoke-cert"),
        "keyChange": urls("key-change"),
        "renewalInfo": urls("renewal-info"),
        "meta": {
            "externalAccountRequired": found.requires_binding,
            "profiles": {name: f"the profile {name} of this authority" for name in found.profiles},
        },
    }


def account(found: Account, urls: URLs) -> dict[str, Any]:
    """RFC 8555 7.1.2."""
    return {
        "status": found.state.value,
        "contact": list(found.contacts),
        "orders": urls("account", found.id, "orders"),
    }


def order(found: Order, urls: URLs, now: dt.datetime) -> dict[str, Any]:
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
    if found.serial is not None:
        shown["certificate"] = urls("cert", found.id)
    return shown


def authorization(found: Authorization, urls: URLs, now: dt.datetime) -> dict[str, Any]:
    """RFC 8555 7.1.4; expiry is computed."""
    state = found.state.value
    live = (AuthorizationState.PENDING, AuthorizationState.VALID)
    if found.state in live and now >= found.expires_at:
        state = "expired" if found.state is AuthorizationState.VALID else "invalid"
    challenges = found.challenges
    if found.state is AuthorizationState.VALID:
        challenges = tuple(c for c in challenges if c.state is ChallengeState.VALID)
    shown: dict[str, Any] = {
        "status": state,
        "identifier": {"type": found.identifier.type.value, "value": found.identifier.value},
        "expires": when(found.expires_at),
        "challenges": [challenge(each, urls) for each in challenges],
    }
    if found.is_wildcard:
        shown["wildcard"] = True
    return shown


def challenge(found: Challenge, urls: URLs) -> dict[str, Any]:
    """RFC 8555 7.1.5 and 8."""
    shown: dict[str, Any] = {
        "type": found.type.value,
        "url": urls("challenge", found.id),
        "status": found.state.value,
    }
    if found.type is not ChallengeType.DNS_PERSIST_01:
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
