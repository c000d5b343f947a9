"""Rules about keys: kind, origin, and one key for one device."""

import datetime as dt

from certmint.model.keys import KeyOrigin
from certmint.model.profile import Trust
from certmint.model.request import CertificateRequest, Facts
from certmint.policy.rules.rule import Rule


def _kind(request: CertificateRequest, _facts: Facts, _: dt.datetime) -> str | None:
    allowed = request.profile.key_kinds
    if request.public_key.kind not in allowed:
        return (
            f"a {request.public_key.kind} key is not accepted by profile "
            f"{request.profile.name!r}: use {', '.join(sorted(allowed))}"
        )
    return None


def _origin(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    origin = request.key_origin
    if origin not in request.profile.key_origins:
        return f"profile {request.profile.name!r} does not accept keys made by {origin}"
    record = facts.key_record
    known = record.origin if record is not None else origin
    if request.profile.trust is Trust.PUBLIC and known is not KeyOrigin.SUBSCRIBER:
        return f"this key was made by {known}; a public CA never knows a subscriber's key"
    return None


def _blocked(_request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    if facts.key_record is not None and facts.key_record.blocked:
        return "this key was reported compromised and is blocked for ever: make a new one"
    return None


def _reused(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    record = facts.key_record
    if record is None:
        return None
    if record.tenant_id != request.tenant_id or record.device_id != request.device_id:
        return "this key is already certified for another device: each device has its own key"
    if (record.origin is KeyOrigin.AUTHORITY) != (request.key_origin is KeyOrigin.AUTHORITY):
        return "an authority's key is certified for the authority and for nothing else"
    return None


RULES = (
    Rule("key-kind", "BR 6.1.5", "The profile accepts this algorithm and size.", _kind),
    Rule("key-origin", "BR 6.1.1.3",
         "The profile accepts who made the key; a public one accepts subscribers' keys only.",
         _origin),
    Rule("key-blocked", "BR 6.1.1.3, 4.9.1.1", "A compromised key is never certified again.",
         _blocked),
    Rule("key-reused", "ours: one SPKI per device (BR 4.9.1.1 (3))",
         "A key belongs to one device, fleet-wide.", _reused),
)  # fmt: skip
