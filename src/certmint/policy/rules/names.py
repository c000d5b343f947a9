"""Rules about names: constraints, validated domains, the device's own names, the subject."""

import datetime as dt

from certmint.model.csr import CSR
from certmint.model.entities import DomainValidation
from certmint.model.evidence import Attestation, ControlsNames
from certmint.model.names import DNSName, Name, is_special_use
from certmint.model.profile import Purpose, Trust
from certmint.model.request import CertificateRequest, Facts
from certmint.policy.domains import covers, is_fresh, registered_domain
from certmint.policy.rules.rule import Rule


def _count(request: CertificateRequest, _facts: Facts, _: dt.datetime) -> str | None:
    named = request.profile.purpose is Purpose.SERVICE
    if named and not request.names and not request.hardware:
        return "a service certificate needs at least one name"
    if not named and request.names:
        return f"a {request.profile.purpose} certificate carries no DNS names or addresses"
    if len(set(request.names)) != len(request.names) or len(request.names) > 100:
        return "the names must be distinct and at most 100"
    return None


def _constrained(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    for constraints in facts.ancestors:
        for name in request.names:
            if not constraints.permits(name):
                trees = ", ".join(constraints.permitted_dns) or "no DNS name"
                return (
                    f"{name} is outside the name constraints of authority "
                    f"{facts.authority.name!r}, which permit {trees}"
                )
        if not request.profile.purpose.is_authority and not constraints.permits_subject(
            request.subject
        ):
            return f"subject {request.subject} is outside the permitted directory names"
    return None


def _subordinate(request: CertificateRequest, facts: Facts, now: dt.datetime) -> str | None:
    inner = request.constraints
    if request.profile.purpose is not Purpose.SUBORDINATE:
        return "only a subordinate CA carries name constraints" if inner is not None else None
    if inner is None or not inner.permitted_dns:
        return "a subordinate CA is constrained to at least one domain"
    for tree in inner.permitted_dns:
        if not _validated(DNSName(f"*.{tree}"), request, facts, now):
            return f"{tree}: a SubCA's domain must be validated first (BR 7.1.2.5.2)"
    if any(not outer.contains(inner) for outer in facts.ancestors):
        return "the SubCA's constraints permit more than those of the authorities above it"
    return None


def _unvalidated(request: CertificateRequest, facts: Facts, now: dt.datetime) -> str | None:
    proved = {
        name
        for piece in request.evidence
        if isinstance(piece, ControlsNames) and piece.verified_at <= now
        for name in piece.names
    }
    for name in request.names:
        if name not in proved and not _validated(name, request, facts, now):
            return f"{name} is not within a domain whose control was validated and is still fresh"
    return None


def _validated(
    name: Name, request: CertificateRequest, facts: Facts, now: dt.datetime
) -> DomainValidation | None:
    for found in facts.domains:
        if covers(found, name) and is_fresh(found, request.profile.trust, now):
            return found
    return None


def _foreign_name(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    if request.device_id is None or request.profile.purpose is not Purpose.SERVICE:
        return None
    if facts.device is None or facts.product is None:
        return f"device {request.device_id} is not in the inventory"
    own = facts.product.names_of(facts.device.label)
    for name in request.names:
        if name not in own:
            return (
                f"{name} is not a name of device {facts.device.serial_number}; "
                f"its product allows {', '.join(map(str, own))}"
            )
    return None


def _csr_asks_more(request: CertificateRequest, _facts: Facts, _: dt.datetime) -> str | None:
    if not isinstance(request.key, CSR):
        return None
    for asked in (*request.key.names, *request.key.hardware):
        if asked not in request.names and asked not in request.hardware:
            return f"the CSR asks for {asked}, which this certificate will not carry"
    common_name = request.key.common_name
    if common_name is None or request.profile.purpose is not Purpose.SERVICE:
        return None
    if common_name.lower() not in map(str, request.names):
        return f"the CSR's common name {common_name!r} is not one of the certificate's names"
    return None


def _unattested(request: CertificateRequest, _facts: Facts, _: dt.datetime) -> str | None:
    attested = {
        name
        for piece in request.evidence
        if isinstance(piece, Attestation)
        and piece.key_fingerprint == request.public_key.fingerprint
        for name in piece.hardware
    }
    for name in request.hardware:
        if name not in attested:
            return f"no hardware has attested that it is {name} and holds this key"
    return None


def _subject(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    purpose, subject = request.profile.purpose, request.subject
    if purpose is Purpose.SERVICE:
        return "a service certificate has an empty subject" if subject.attributes else None
    if not subject.attributes:
        return f"a {purpose} certificate needs a subject"
    if purpose is Purpose.IDENTITY:
        expected = facts.device.serial_number if facts.device is not None else None
        if subject.get("serialNumber") != expected:
            return f"an identity's subject names the device {expected!r} (802.1AR 8.6)"
    if purpose is Purpose.ROOT and subject != facts.authority.subject:
        return "a root's subject is its own issuer name"
    return None


def _not_public(request: CertificateRequest, _facts: Facts, _: dt.datetime) -> str | None:
    if request.profile.trust is not Trust.PUBLIC:
        return None
    if request.hardware:
        return "a public certificate says nothing of hardware (BR 7.1.2.7.12): leave it out"
    for name in request.names:
        if is_special_use(name):
            return f"{name} exists only inside private networks; use a private profile"
        if isinstance(name, DNSName) and registered_domain(name.base) is None:
            return f"{name} is a public suffix or under no known top-level domain"
    return None


RULES = (
    Rule("name-count", "RFC 5280 4.2.1.6",
         "A service certificate names something; others have no DNS names or addresses.", _count),
    Rule("name-outside-constraints", "RFC 5280 4.2.1.10",
         "Names and subject are within the constraints of every CA in the chain.", _constrained),
    Rule("name-not-validated", "BR 3.2.2.4, 4.2.1",
         "Each name is within a domain whose control was validated recently enough.", _unvalidated),
    Rule("name-not-of-device", "ours: per-device names", "A device gets its own names only.",
         _foreign_name),
    Rule("name-not-public", "BR 4.2.2, 3.2.2.6",
         "A public certificate names only what exists on the public Internet.", _not_public),
    Rule("hardware-attested", "draft-ietf-acme-device-attest 5",
         "A certificate names hardware that attested its name, and that it holds this very key.",
         _unattested),
    Rule("csr-asks-more", "RFC 8555 7.4, RFC 7030 4.2.1",
         "The CSR asks for nothing that the certificate will not carry.", _csr_asks_more),
    Rule("subject-not-allowed", "BR 7.1.2.7.2, 802.1AR 8.6",
         "The subject is what the profile prescribes.", _subject),
    Rule("constraints-not-allowed", "BR 7.1.2.5.2, RFC 5280 4.2.1.10",
         "A SubCA is constrained to validated domains, within its parents' constraints.",
         _subordinate),
)  # fmt: skip
