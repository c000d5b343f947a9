"""Rules about who signs: tenant, state, kind and reach of the authority."""

import datetime as dt
from functools import lru_cache

from cryptography import x509

from certmint.model.profile import Purpose, Trust
from certmint.model.request import CertificateRequest, Facts
from certmint.model.states import AuthorityState
from certmint.policy.rules.rule import Rule


def _other_tenant(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    mine = request.tenant_id
    things = (facts.authority, facts.device, facts.product, facts.batch, facts.presented,
              facts.replaced)  # fmt: skip
    if any(thing is not None and thing.tenant_id != mine for thing in things):
        return "something in this request belongs to another manufacturer"
    return None


def _inactive(request: CertificateRequest, facts: Facts, now: dt.datetime) -> str | None:
    authority = facts.authority
    if request.profile.purpose is Purpose.ROOT and authority.state is AuthorityState.PENDING:
        return None  # a root certifies itself, once
    if authority.state is not AuthorityState.ACTIVE:
        return f"authority {authority.name!r} is {authority.state} and signs no certificates"
    if authority.not_before is None or authority.not_after is None:
        return f"authority {authority.name!r} has no certificate"
    if not authority.not_before <= now <= authority.not_after:
        return f"authority {authority.name!r} is not valid at {now.isoformat()}"
    return None


_ISSUERS = {
    Purpose.ROOT: {Purpose.ROOT},
    Purpose.ISSUING: {Purpose.ROOT},
    Purpose.SUBORDINATE: {Purpose.ROOT, Purpose.ISSUING},
    Purpose.IDENTITY: {Purpose.ISSUING},
    Purpose.SIGNER: {Purpose.ISSUING},
    Purpose.SERVICE: {Purpose.ISSUING, Purpose.SUBORDINATE},
}


def _wrong_issuer(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    authority, wanted = facts.authority, request.profile.purpose
    if authority.purpose not in _ISSUERS[wanted]:
        return f"a {authority.purpose} authority does not issue {wanted} certificates"
    if wanted.is_authority and authority.path_length == 0:
        return f"authority {authority.name!r} has path length 0 and certifies no further CA"
    if authority.trust is not request.profile.trust:
        return (
            f"authority {authority.name!r} is {authority.trust}, "
            f"profile {request.profile.name!r} is {request.profile.trust}"
        )
    return None


def _key_usage(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    allowed = authority_key_usages(facts.authority.der)
    outside = set(request.profile.extended_key_usage) - allowed if allowed else set()
    if outside:
        return (
            f"extended key usage {min(outside)} is not one of authority "
            f"{facts.authority.name!r}: a chain through it would not be accepted"
        )
    return None


@lru_cache(maxsize=256)
def authority_key_usages(der: bytes) -> frozenset[str]:
    """The extended key usages a CA certificate is bounded to; empty when it has none."""
    if not der:
        return frozenset()
    try:
        usages = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(
            x509.ExtendedKeyUsage
        )
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(oid.dotted_string for oid in usages.value)


def _no_transparency(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    if request.profile.trust is Trust.PUBLIC and facts.ct_logs < 2:
        return (
            f"profile {request.profile.name!r} is public and needs certificate transparency logs "
            f"of two operators; this installation can submit to {facts.ct_logs}"
        )
    return None


TENANT = Rule(
    "tenant-mismatch",
    "ours: nothing crosses tenants",
    "Everything in a request belongs to one manufacturer.",
    _other_tenant,
)
RULES = (
    Rule("authority-inactive", "RFC 5280 6.1.3",
         "The authority is active and valid now.", _inactive),
    Rule("authority-purpose", "RFC 5280 4.2.1.9",
         "The authority's kind, path length and trust allow this kind of certificate.",
         _wrong_issuer),
    Rule("authority-key-usage", "BR 7.1.2.10.6, Chrome 1.3.2",
         "The extended key usages are within the authority's.", _key_usage),
    Rule("ct-required", "Chrome CT policy, Apple 103214",
         "A public certificate is logged before it is used.", _no_transparency),
)  # fmt: skip
