"""One attestation object of device-attest-01, from its octets to a verdict.

The object is a CBOR map `{fmt, attStmt [, authData]}` (WebAuthn 6.5.4; members that are not named
here are ignored). Each format has its own module, which gets only the statement and the anchors
of that format. There is no format "none", and no way to add one from outside.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from certmint.attestation import android, apple, cbor, idevid, step, tpm
from certmint.attestation.attested import Anchor, Attested, Format, Proof, Vouched
from certmint.attestation.members import Members
from certmint.model.errors import BadInput, Refused

_Judge = Callable[[Members, Proof, Sequence[Anchor], dt.datetime], Vouched]

_JUDGES: Mapping[Format, _Judge] = {
    Format.TPM: tpm.verify,
    Format.APPLE: apple.verify,
    Format.STEP: step.verify,
    Format.IDEVID: idevid.verify,
}


def verify(
    attestation: bytes,
    proof: Proof,
    anchors: Sequence[Anchor],
    now: dt.datetime,
    *,
    revoked: AbstractSet[str],
) -> Attested:
    """What hardware says about a key, if it says so about this challenge and is trusted.

    `revoked` are serial numbers of Android's revoked attestation certificates, in lower-case hex.
    Raises BadInput `attestation-syntax`, `hardware-syntax` for what cannot be read, and Refused:
    `attestation-format` (not served), `attestation-untrusted`, `attestation-expired`,
    `attestation-revoked`, `attestation-certificate`, `attestation-signature`,
    `attestation-mismatch` (another challenge or key), `attestation-key` (not in hardware, or weak).
    """
    kind, members = _opened(attestation)
    if kind is Format.ANDROID_KEY:
        vouched = android.verify(members, proof, anchors, now, revoked)
    else:
        vouched = _JUDGES[kind](members, proof, anchors, now)
    return Attested(
        kind,
        vouched.public_key,
        vouched.identifiers,
        vouched.claims,
        hashlib.sha256(attestation).hexdigest(),
    )


def _opened(attestation: bytes) -> tuple[Format, Members]:
    decoded = cbor.decode(attestation)
    if not isinstance(decoded, dict):
        raise BadInput("attestation-syntax", "the attestation object is no CBOR map")
    name, statement = decoded.get("fmt"), decoded.get("attStmt")
    if not isinstance(name, str) or not isinstance(statement, dict):
        raise BadInput(
            "attestation-syntax", "the attestation object lacks `fmt`, a text, or `attStmt`, a map"
        )
    served = {kind.value: kind for kind in (*_JUDGES, Format.ANDROID_KEY)}
    if name not in served:
        raise Refused(
            "attestation-format",
            f"attestation format {name[:40]!r} is not served: use one of {', '.join(served)}",
        )
    return served[name], statement
