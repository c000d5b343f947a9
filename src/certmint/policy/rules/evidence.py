"""Rules about evidence: each piece must hold now, and together they must buy the profile.

A piece that does not hold refuses the request, even if the others would have been enough:
who presents a revoked certificate has something to explain.
"""

import datetime as dt

from certmint.model.entities import Certificate
from certmint.model.evidence import (
    Attestation,
    BatchLine,
    ControlsNames,
    HoldsCertificate,
    OperatorGrant,
    OwnerLogin,
)
from certmint.model.profile import Purpose
from certmint.model.request import CertificateRequest, Facts, RequesterKind
from certmint.model.states import BatchState
from certmint.policy.rules.rule import Rule


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


def _superseded(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    shown = _holding(request, facts)
    if shown is not None and shown.successor is not None:
        return f"the client certificate has a successor already, {shown.successor}"
    return None


def _early(request: CertificateRequest, facts: Facts, now: dt.datetime) -> str | None:
    shown = _holding(request, facts)
    if shown is not None and now < shown.not_before:
        return f"the client certificate is not valid before {shown.not_before.isoformat()}"
    return None


def _expired(request: CertificateRequest, facts: Facts, now: dt.datetime) -> str | None:
    shown = _holding(request, facts)
    if shown is not None and now - request.profile.grace > shown.not_after:
        return (
            f"the client certificate expired at {shown.not_after.isoformat()}, and profile "
            f"{request.profile.name!r} gives {request.profile.grace.days} days of grace"
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
        if facts.device is None or facts.device.serial_number != piece.device_serial:
            return f"the attestation names device {piece.device_serial!r}, not this one"
    return None


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
    Rule("evidence-superseded", "ours: one successor per certificate",
         "A certificate that was replaced does not renew again.", _superseded),
    Rule("evidence-not-yet-valid", "RFC 5280 6.1.3", "A future-dated certificate is refused.",
         _early),
    Rule("evidence-expired", "ours: the profile's `grace`",
         "An expired certificate counts only within the profile's grace.", _expired),
    Rule("evidence-not-owner", "ours", "A login speaks for the devices that it owns.", _not_owner),
    Rule("evidence-attestation", "draft-ietf-acme-device-attest 5",
         "The attested key and device are those of the request.", _attested),
    Rule("evidence-batch", "ours", "A manifest line speaks for its device while its batch runs.",
         _batch),
    Rule("evidence-grant", "ours", "A grant counts for the operator who gave it.", _grant),
    Rule("evidence-names", "RFC 8555 7.4", "Proof of control covers every name.", _controls),
)  # fmt: skip
