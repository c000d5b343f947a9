"""Checking signatures by COSE algorithm numbers (RFC 9053, RFC 8812).

An algorithm goes with one kind of key, and there is no other pairing. RS1 (RSA with SHA-1) is
here because TPMs sign with it; only the tpm format admits it.
"""

from enum import IntEnum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from certmint.model.errors import Refused

Hash = hashes.SHA256 | hashes.SHA384 | hashes.SHA1
SMALLEST_RSA = 2048


class Algorithm(IntEnum):
    """COSE algorithms that hardware signs with."""

    ES256 = -7
    ES384 = -35
    RS256 = -257
    RS1 = -65535


_HASHES: dict[Algorithm, Hash] = {
    Algorithm.ES256: hashes.SHA256(),
    Algorithm.ES384: hashes.SHA384(),
    Algorithm.RS256: hashes.SHA256(),
    Algorithm.RS1: hashes.SHA1(),  # noqa: S303 - what older TPMs have
}
_CURVES = {Algorithm.ES256: "secp256r1", Algorithm.ES384: "secp384r1"}
USUAL = frozenset({Algorithm.ES256, Algorithm.ES384, Algorithm.RS256})


def algorithm(number: int, admitted: frozenset[Algorithm] = USUAL) -> Algorithm:
    """The algorithm of a COSE number. Raises Refused `attestation-signature` for any other."""
    try:
        found = Algorithm(number)
    except ValueError:
        found = None
    if found is None or found not in admitted:
        raise Refused(
            "attestation-signature", f"the signature algorithm {number} is not accepted here"
        )
    return found


def hash_of(chosen: Algorithm) -> Hash:
    """The hash that an algorithm signs."""
    return _HASHES[chosen]


def check(
    key: CertificatePublicKeyTypes, chosen: Algorithm, signature: bytes, message: bytes
) -> None:
    """Raises Refused `attestation-signature` unless `key` made `signature` over `message`."""
    digest = _HASHES[chosen]
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == _CURVES.get(chosen):
            key.verify(signature, message, ec.ECDSA(digest))
            return
        if isinstance(key, rsa.RSAPublicKey) and chosen not in _CURVES and _is_long(key):
            key.verify(signature, message, padding.PKCS1v15(), digest)
            return
    except (InvalidSignature, UnsupportedAlgorithm):
        raise Refused(
            "attestation-signature", "the signature of the attestation was not made by its key"
        ) from None
    raise Refused(
        "attestation-signature", f"the attestation's key does not sign with {chosen.name}"
    )


def _is_long(key: rsa.RSAPublicKey) -> bool:
    return key.key_size >= SMALLEST_RSA
