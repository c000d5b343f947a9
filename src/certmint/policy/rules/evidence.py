"""Rules about evidence: each piece must hold now, and together they must buy the profile.

A piece that does not hold refuses the request, even if the others would have been enough:
who presents a revoked certificate has something to explain.
"""

import datetime as dt

from certmint.model.acceptance import Situation, written
from certmint.model.csr import CSR
from certmint.model.entities import Certificate
from certmint.model.evidence import (
    ApprovedRequest,
    Attestation,
    BatchLine,
    ControlsNames,
    EnrolmentSecret,
    EvidenceKind,
    HoldsCertificate,
    OperatorGrant,
    OwnerLogin,
)
from certmint.model.profile import Purpose
from certmint.model.request import CertificateRequest, Facts, RequesterKind
from certmint.model.states import BatchState
from certmint.policy.rules.rule import Rule
from certmint.policy.situation import (
    grace_of,
    has,
    is_in_the_field,
    is_repeated,
    proofs_of,
    situation_of,
)

CLONE_INTERVAL = dt.timedelta(minutes=10)
# An approval lets a request through; it does not say which of two devices asks.
_NO_OTHER_PROOF = (EvidenceKind.HOLDS_CERTIFICATE, EvidenceKind.APPROVED_REQUEST)


def _not_enough(request: CertificateRequest, _facts: Facts, _: dt.datetime) -> str | None:
    held = {piece.kind for piece in request.evidence}
    if any(needed <= held for needed in request.profile.accepts):
        return None
    wanted = " or ".join(" with ".join(sorted(needed)) for needed in request.profile.accepts)
    return f"profile {request.profile.name!r} asks for {wanted}"


def _holding(request: CertificateRequest, facts: Facts) -> Certificate | None:
    if any(isinstance(piece, HoldsCertificate) for piece in request.evidence):
        return facts.presented
    return None


def _unknown(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    for piece in request.evidence:
        if not isinstance(piece, HoldsCertificate):
            continue
        shown = facts.presented
        if shown is None or (shown.authority_id, shown.serial) != (
            piece.authority_id,
            piece.serial,
        ):
            return "the client certificate was not issued here"
        if shown.purpose not in (Purpose.IDENTITY, Purpose.SERVICE):
            return f"a {shown.purpose} certificate does not identify a device"
        if shown.device_id is None or shown.device_id != request.device_id:
            return "the client certificate belongs to another device"
    return None


def _revoked(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    shown = _holding(request, facts)
    if shown is not None and shown.revocation is not None:
        when = shown.revocation.revoked_at.date().isoformat()
        return f"the client certificate was revoked on {when} ({shown.revocation.reason})"
    return None


def _is_asking_again(request: CertificateRequest, facts: Facts, successor: str) -> bool:
    """Whether a lost answer is asked for: the successor itself, by its own key."""
    newest = facts.newest
    return (
        newest is not None
        and newest.serial == successor
        and newest.revocation is None
        and newest.key_fingerprint == request.public_key.fingerprint
    )


def _cloned(request: CertificateRequest, facts: Facts, now: dt.datetime) -> str | None:
    """Two devices with one identity, as far as it can be seen by requests without other proof.

    A certificate whose successor is in other hands; or the same identity within minutes from
    another address, with another new key, and without the certificate that was issued first.
    """
    if any(piece.kind not in _NO_OTHER_PROOF for piece in request.evidence):
        return None  # who has more to show may be a device that was set back: not a clone's proof
    shown, seen = _holding(request, facts), facts.sighting
    if shown is None or not is_in_the_field(request):
        return None
    both = "so it is in two devices: both are suspended until the maker has looked"
    # A key that we make says nothing about who asks: a lost answer looks the same.
    other_key = isinstance(request.key, CSR) and shown.successor is not None
    if other_key and not _is_asking_again(request, facts, shown.successor or ""):
        return f"the client certificate was replaced and is used again with another key, {both}"
    if (
        seen is not None
        and now - seen.at < CLONE_INTERVAL
        and "" not in (seen.source, request.source)
        and seen.source != request.source
        and seen.key_fingerprint != request.public_key.fingerprint
        and (facts.newest is None or not has(facts.newest, request, facts))
    ):
        return f"this identity was used from another place with another key just now, {both}"
    return None


def _superseded(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    shown = _holding(request, facts)
    if (
        shown is not None
        and shown.successor is not None
        and not _is_asking_again(request, facts, shown.successor)
    ):
        return (
            f"the client certificate has a successor already, {shown.successor}: show that one, or "
            "the identity; or, if its answer was lost, ask again with the same key"
        )
    return None


def _early(request: CertificateRequest, facts: Facts, now: dt.datetime) -> str | None:
    shown = _holding(request, facts)
    if shown is not None and now < shown.not_before:
        return f"the client certificate is not valid before {shown.not_before.isoformat()}"
    return None


def _expired(request: CertificateRequest, facts: Facts, now: dt.datetime) -> str | None:
    shown = _holding(request, facts)
    grace = grace_of(request, facts)
    if shown is not None and now - grace > shown.not_after:
        return (
            f"the client certificate expired at {shown.not_after.isoformat()}, and the grace of "
            f"{grace.days} days is over"
        )
    return None


def _not_owner(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    for piece in request.evidence:
        if isinstance(piece, OwnerLogin) and (
            facts.device is None or facts.device.owner_id != piece.owner_id
        ):
            return "this login is not the device's owner"
    return None


def _attested(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    for piece in request.evidence:
        if not isinstance(piece, Attestation):
            continue
        if piece.key_fingerprint != request.public_key.fingerprint:
            return "the attested key is not the key of this request"
        if piece.device_serial != (facts.device.serial_number if facts.device else ""):
            return f"the attestation names device {piece.device_serial!r}, not this one"
    return None


def _secret(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    for piece in request.evidence:
        if not isinstance(piece, EnrolmentSecret):
            continue
        if facts.device is None or facts.device.serial_number != piece.device_serial:
            return f"the enrolment secret is that of device {piece.device_serial!r}, not this one"
        if piece.spent_on and not _is_asking_again(request, facts, piece.spent_on):
            return "the enrolment secret was spent on a certificate already: it serves once"
    return None


def _not_enough_here(request: CertificateRequest, facts: Facts, now: dt.datetime) -> str | None:
    if facts.product is None or not is_in_the_field(request):
        return None
    situation = situation_of(request, facts, now)
    wanted, held = facts.product.accepts.of(situation), proofs_of(request, facts)
    if any(needed <= held for needed in wanted):
        return None
    if is_repeated(request, facts, now) and any(
        needed <= held for each in Situation for needed in facts.product.accepts.of(each)
    ):
        return None
    return (
        f"for a device that is {situation}, product {facts.product.name!r} asks for "
        f"{written(wanted)}; {' and '.join(sorted(held)) or 'nothing'} was shown"
    )


def _batch(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    for piece in request.evidence:
        if not isinstance(piece, BatchLine):
            continue
        batch = facts.batch
        if (
            batch is None
            or batch.id != piece.batch_id
            or batch.manifest_hash != piece.manifest_hash
        ):
            return "the manifest line is not of a batch that this manufacturer submitted"
        if batch.state is not BatchState.RUNNING:
            return f"batch {batch.id} is {batch.state}, not running"
        device = facts.device
        if device is not None and (device.batch_id, device.line) != (batch.id, piece.line):
            return f"line {piece.line} of batch {batch.id} names another device"
    return None


def _grant(request: CertificateRequest, _facts: Facts, _: dt.datetime) -> str | None:
    for piece in request.evidence:
        if isinstance(piece, OperatorGrant) and (
            request.requester.kind is not RequesterKind.OPERATOR
            or request.requester.id != piece.operator_id
        ):
            return "an operator's grant counts only for the operator who gave it"
    return None


def _approved(request: CertificateRequest, _facts: Facts, _: dt.datetime) -> str | None:
    key = request.public_key.fingerprint if isinstance(request.key, CSR) else ""
    for piece in request.evidence:
        if isinstance(piece, ApprovedRequest) and (
            (piece.device_id, piece.key_fingerprint) != (request.device_id, key)
        ):
            return "the operator approved another request"
    return None


def _controls(request: CertificateRequest, _facts: Facts, _: dt.datetime) -> str | None:
    for piece in request.evidence:
        if isinstance(piece, ControlsNames) and not set(request.names) <= {
            *piece.names,
            *piece.delegated,
        }:
            return "the proof of control does not cover every name of this request"
    return None


RULES = (
    Rule("evidence-missing", "ours: the profile's `accepts`",
         "The evidence is one of the combinations that the profile accepts.", _not_enough),
    Rule("evidence-other-device", "ours", "A client certificate speaks for its own device only.",
         _unknown),
    Rule("evidence-revoked", "RFC 5280 6.3", "A revoked certificate is evidence of nothing.",
         _revoked),
    Rule("device-cloned", "ours: one identity, one device",
         "An identity is used by one device only.", _cloned),
    Rule("evidence-superseded", "ours: one successor per certificate",
         "A certificate that was replaced renews nothing; it may ask for its successor again.",
         _superseded),
    Rule("evidence-not-yet-valid", "RFC 5280 6.1.3", "A future-dated certificate is refused.",
         _early),
    Rule("evidence-expired", "ours: the grace of profile and product",
         "An expired certificate counts only within the grace.", _expired),
    Rule("evidence-not-owner", "ours", "A login speaks for the devices that it owns.", _not_owner),
    Rule("evidence-attestation", "draft-ietf-acme-device-attest 5",
         "The attested key and device are those of the request.", _attested),
    Rule("evidence-secret", "ours: one-time secrets",
         "An enrolment secret counts for its own device, and once.", _secret),
    Rule("evidence-batch", "ours", "A manifest line speaks for its device while its batch runs.",
         _batch),
    Rule("evidence-grant", "ours", "A grant counts for the operator who gave it.", _grant),
    Rule("evidence-approval", "ours",
         "An approval counts for the device and the key that were approved.", _approved),
    Rule("evidence-names", "RFC 8555 7.4", "Proof of control covers every name.", _controls),
    Rule("evidence-not-enough", "ours: the product's policy",
         "The proofs are one of the combinations that the product accepts in this situation.",
         _not_enough_here),
)  # fmt: skip
