"""Where a device stands that asks for a service certificate, and what it has proved.

A device that comes by its identity alone cannot show what it holds: TLS carries one certificate.
So it counts as renewing in its planned time; before that, a device that does not show its newest
certificate, or that one's key, has lost it.
"""

import datetime as dt

from certmint.model.acceptance import Proof, Situation
from certmint.model.csr import CSR
from certmint.model.entities import Certificate
from certmint.model.evidence import EvidenceKind, HoldsCertificate
from certmint.model.profile import Purpose
from certmint.model.request import CertificateRequest, Facts
from certmint.policy.renewal import called_window, earlier, window

ANSWER_AGAIN = dt.timedelta(hours=1)

# Whoever has one of these is judged by the profile alone: the factory, an operator, and ACME,
# whose directories and bindings an operator opened for it.
_BY_PROFILE = frozenset(
    {EvidenceKind.BATCH_LINE, EvidenceKind.OPERATOR_GRANT, EvidenceKind.CONTROLS_NAMES}
)
_PROOFS = {
    EvidenceKind.OWNER_LOGIN: Proof.OWNER_LOGIN,
    EvidenceKind.ATTESTATION: Proof.ATTESTATION,
    EvidenceKind.ENROLMENT_SECRET: Proof.ENROLMENT_SECRET,
}


def is_in_the_field(request: CertificateRequest) -> bool:
    """Whether the product's policy judges it: a device's service certificate after the factory."""
    return (
        request.device_id is not None
        and request.profile.purpose is Purpose.SERVICE
        and not any(piece.kind in _BY_PROFILE for piece in request.evidence)
    )


def situation_of(request: CertificateRequest, facts: Facts, now: dt.datetime) -> Situation:
    """The situation at this moment, and never at a moment that a certificate names."""
    newest = facts.newest
    if newest is None:
        return Situation.FIRST
    if newest.revocation is not None or now < newest.not_before:
        return Situation.RE_IMAGED
    if newest.is_expired(now):
        late = now - newest.not_after
        return Situation.EXPIRED if late <= grace_of(request, facts) else Situation.RE_IMAGED
    if has(newest, request, facts) or _is_in_time(newest, request, facts, now):
        return Situation.RENEWING
    return Situation.RE_IMAGED


def is_repeated(request: CertificateRequest, facts: Facts, now: dt.datetime) -> bool:
    """Whether an answer that got lost is asked for again: by its own key, soon after it was given.

    Nothing new is certified then. What was enough for the certificate is enough for its answer.
    """
    newest = facts.newest
    return (
        newest is not None
        and newest.revocation is None
        and isinstance(request.key, CSR)
        and newest.key_fingerprint == request.public_key.fingerprint
        and now - newest.issued_at < ANSWER_AGAIN
    )


def grace_of(request: CertificateRequest, facts: Facts) -> dt.timedelta:
    """How long after its notAfter a held certificate counts: the profile's, within the product's.

    Other certificates than a device's own service certificate know the profile's alone.
    """
    own = facts.product.grace if facts.product is not None else None
    return request.profile.grace if own is None else min(own, request.profile.grace)


def proofs_of(request: CertificateRequest, facts: Facts) -> frozenset[Proof]:
    """What the evidence amounts to, once every piece of it was found to hold."""
    found = {_PROOFS[piece.kind] for piece in request.evidence if piece.kind in _PROOFS}
    for piece in request.evidence:
        if isinstance(piece, HoldsCertificate) and facts.presented is not None:
            is_identity = facts.presented.purpose is Purpose.IDENTITY
            found.add(Proof.IDENTITY_CERTIFICATE if is_identity else Proof.SERVICE_CERTIFICATE)
    return frozenset(found)


def has(held: Certificate, request: CertificateRequest, facts: Facts) -> bool:
    """Whether this request proves possession of a certificate's key: in TLS, or by its CSR."""
    proved = set()
    if isinstance(request.key, CSR):
        proved.add(request.public_key.fingerprint)
    if facts.presented is not None and any(
        isinstance(piece, HoldsCertificate) for piece in request.evidence
    ):
        proved.add(facts.presented.key_fingerprint)
    return held.key_fingerprint in proved


def _is_in_time(
    newest: Certificate, request: CertificateRequest, facts: Facts, now: dt.datetime
) -> bool:
    if Proof.IDENTITY_CERTIFICATE not in proofs_of(request, facts) or facts.product is None:
        return False
    planned = window(
        request.device_id or "", newest.not_before, newest.not_after, facts.product.renew_at
    )
    if facts.call is None:
        return now >= planned.start
    called = called_window(request.device_id or "", facts.call, now)
    return now >= earlier(planned, called).start
