"""The signature of a JSON Web Token, by the keys of the provider that is to have issued it.

Laws: the algorithm is one that the manufacturer's settings name, and the key is of that
algorithm's type; `none` and shared secrets do not exist here. joserfc reads the token and the
JWK; the signature is pyca's, since joserfc warns of the name EdDSA (RFC 9864), which providers
still use.
"""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from joserfc import jwk, jws
from joserfc.errors import JoseError

from certmint.model.errors import Unauthenticated
from certmint.model.openid import Claims
from certmint.validation.oidc import JWK

MAX_TOKEN = 16 * 1024
_TYPES = {"RS256": ("RSA", None), "ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519")}
_MIN_RSA_BITS = 2048
_REGISTRY = jws.JWSRegistry()
_REGISTRY.max_header_length = _REGISTRY.max_payload_length = MAX_TOKEN

Key = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class UnknownKey(Exception):
    """None of the keys is the one that the token names: they may have been rotated."""


@dataclass(frozen=True)
class Token:
    """What a token says of itself, and what its signature is over."""

    algorithm: str
    key_id: object
    claims: Claims
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def read(text: str) -> Token:
    """A token in its compact form, not verified yet. Raises Unauthenticated `token-syntax`."""
    refusal = Unauthenticated("token-syntax", "the token is not a signed JSON Web Token")
    if len(text) > MAX_TOKEN or not text.isascii():
        raise refusal
    signed, _, signature = text.rpartition(".")
    try:
        parsed = jws.extract_compact(text.encode(), registry=_REGISTRY)
        header, claims = _members(parsed.headers()), _members(json.loads(parsed.payload))
        signature_octets = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    except (JoseError, ValueError, RecursionError):
        raise refusal from None
    if "crit" in header:
        raise refusal  # nothing critical is understood here (RFC 7515 4.1.11)
    algorithm = header.get("alg")
    return Token(
        algorithm if isinstance(algorithm, str) else "", header.get("kid"), claims,
        signed.encode(), signature_octets,
    )  # fmt: skip


def _members(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 (the caller answers for both)
    return value


def check_signature(token: Token, keys: Iterable[JWK], algorithms: Iterable[str]) -> None:
    """Raises Unauthenticated `token-algorithm`, `token-signature`; UnknownKey."""
    algorithm, key_id = token.algorithm, token.key_id
    if algorithm not in algorithms or algorithm not in _TYPES:
        raise Unauthenticated("token-algorithm", "the token is signed in a way that is not taken")
    fitting = [each for each in keys if _fits(each, algorithm)]
    if key_id is not None:
        fitting = [each for each in fitting if each.get("kid") == key_id]
    # Without a key id there must be no choice (OpenID Connect Core 10.1).
    if len(fitting) != 1:
        raise UnknownKey
    key = _key(fitting[0])
    if key is None or not _verifies(key, token.signature, token.signed):
        raise Unauthenticated("token-signature", "the token's signature is not its provider's")


def _fits(key: JWK, algorithm: str) -> bool:
    kind, curve = _TYPES[algorithm]
    return (
        key.get("kty") == kind
        and (curve is None or key.get("crv") == curve)
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
    )


def _key(key: JWK) -> Key | None:
    members = {name: key[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in key}
    if not all(isinstance(value, str) for value in members.values()):
        return None
    if len(str(members.get("n", ""))) < 4 * _MIN_RSA_BITS // 24 and members.get("kty") == "RSA":
        return None  # before joserfc warns of it
    try:
        found = jwk.import_key({name: str(value) for name, value in members.items()})
        public = found.public_key
    except (JoseError, ValueError, KeyError):
        return None
    if isinstance(public, rsa.RSAPublicKey):
        return public if public.key_size >= _MIN_RSA_BITS else None
    if isinstance(public, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        return public
    return None


def _verifies(key: Key, signature: bytes, signed: bytes) -> bool:
    try:
        match key:
            case rsa.RSAPublicKey():
                key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            case ec.EllipticCurvePublicKey():
                if len(signature) != 64:  # r and s (RFC 7518 3.4)
                    return False
                r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
                encoded = utils.encode_dss_signature(r, s)
                key.verify(encoded, signed, ec.ECDSA(hashes.SHA256()))
            case ed25519.Ed25519PublicKey():
                key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
