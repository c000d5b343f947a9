"""JSON Web Signatures as ACME uses them (RFC 7515, RFC 8555 6.2), and nothing more of JOSE.

Bytes in, values out: no request, no nonce store, no account. Flattened serialization only, no
unprotected header, base64url without padding, and an algorithm that fits the key: a MAC or `none`
can never be taken for a signature, because signatures and MACs are checked by two functions.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

ALGORITHMS = ("ES256", "ES384", "ES512", "EdDSA", "RS256")
MAC_ALGORITHMS = ("HS256", "HS384", "HS512")
_BASE64URL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_FILLING = (b"", b"===", b"==", b"=")
_STANDARD = bytes.maketrans(b"-_", b"+/")
_CURVES: dict[str, tuple[type[ec.EllipticCurve], int, str]] = {
    "P-256": (ec.SECP256R1, 32, "ES256"),
    "P-384": (ec.SECP384R1, 48, "ES384"),
    "P-521": (ec.SECP521R1, 66, "ES512"),
}
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


class Malformed(Exception):
    """It is not a JWS as ACME wants it."""


class BadAlgorithm(Exception):
    """The algorithm is not one of ours, or does not fit the key."""


class BadKey(Exception):
    """The key is of a kind or size that is not accepted."""


class BadSignature(Exception):
    """The signature does not verify."""


@dataclass(frozen=True)
class JWS:
    """A parsed JWS, not yet verified. `payload` is None for POST-as-GET's empty string."""

    header: Mapping[str, Any]
    payload: bytes | None
    signature: bytes
    signed: bytes

    def json(self) -> dict[str, Any]:
        """The payload as a JSON object; unknown members are the caller's to ignore."""
        if self.payload is None:
            raise Malformed("the payload is empty, and this request needs a JSON object")
        return _object(self.payload, "payload")


@dataclass(frozen=True)
class AccountKey:
    """A public key with its identity: RFC 7638 thumbprint and canonical JWK."""

    key: PublicKey
    algorithm: str
    thumbprint: str
    jwk: str


def b64url(data: bytes) -> str:
    """base64url without padding (RFC 7515 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: object, what: str) -> bytes:
    """The octets of base64url text. Raises Malformed for padding or any other character."""
    if not isinstance(text, str) or not text.isascii():
        raise Malformed(f"{what} is not base64url without padding")
    octets = text.encode()
    if octets.translate(None, _BASE64URL):  # something else is left
        raise Malformed(f"{what} is not base64url without padding")
    try:
        return binascii.a2b_base64(octets.translate(_STANDARD) + _FILLING[len(octets) % 4])
    except binascii.Error:
        raise Malformed(f"{what} is not base64url without padding") from None


def parse(body: bytes | Mapping[str, Any]) -> JWS:
    """A flattened JWS. Raises Malformed."""
    outer = _object(body, "body") if isinstance(body, bytes) else body
    if "header" in outer or "signatures" in outer:
        raise Malformed("an unprotected header or several signatures are not allowed")
    protected = unb64url(outer.get("protected"), "protected")
    payload = unb64url(outer.get("payload"), "payload")
    signature = unb64url(outer.get("signature"), "signature")
    header = _object(protected, "protected header")
    if not isinstance(header.get("alg"), str):
        raise Malformed("the protected header has no alg")
    if "crit" in header or header.get("b64") is False:
        raise Malformed("critical header parameters are not supported")
    signed = f"{outer['protected']}.{outer['payload']}".encode()
    return JWS(header, payload or None, signature, signed)


def account_key(jwk: object) -> AccountKey:
    """A key from its JWK. Raises BadKey, Malformed."""
    if not isinstance(jwk, Mapping):
        raise Malformed("jwk is not a JSON object")
    kind = jwk.get("kty")
    if kind == "EC":
        return _elliptic(jwk)
    if kind == "RSA":
        return _rsa(jwk)
    if kind == "OKP" and jwk.get("crv") == "Ed25519":
        x = unb64url(jwk.get("x"), "jwk.x")
        if len(x) != 32:
            raise BadKey("an Ed25519 key has 32 octets")
        members = {"crv": "Ed25519", "kty": "OKP", "x": b64url(x)}
        return _identified(ed25519.Ed25519PublicKey.from_public_bytes(x), "EdDSA", members)
    raise BadKey(f"keys of type {kind!r} are not accepted: use P-256, P-384, P-521, Ed25519 or RSA")


def verify(jws: JWS, key: AccountKey) -> None:
    """Raises BadAlgorithm, BadSignature."""
    algorithm = jws.header["alg"]
    if algorithm not in ALGORITHMS or algorithm != key.algorithm:
        raise BadAlgorithm(f"algorithm {algorithm!r} is not the {key.algorithm} of this key")
    try:
        _CHECKS[algorithm](key.key, jws.signature, jws.signed)
    except InvalidSignature:
        raise BadSignature("the signature does not verify") from None


def verify_mac(jws: JWS, secret: bytes) -> None:
    """The inner JWS of an external account binding (RFC 8555 7.3.4), in constant time.

    Raises BadAlgorithm, BadSignature.
    """
    algorithm = jws.header["alg"]
    if algorithm not in MAC_ALGORITHMS:
        raise BadAlgorithm(f"a binding is signed with {', '.join(MAC_ALGORITHMS)}")
    expected = hmac.digest(secret, jws.signed, f"sha{algorithm[2:]}")
    if not hmac.compare_digest(expected, jws.signature):
        raise BadSignature("the binding's MAC does not verify")


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        found = orjson.loads(data)
    except ValueError:
        raise Malformed(f"the {what} is not JSON") from None
    if not isinstance(found, dict):
        raise Malformed(f"the {what} is not a JSON object")
    return found


def _identified(key: PublicKey, algorithm: str, members: dict[str, str]) -> AccountKey:
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return AccountKey(
        key, algorithm, b64url(hashlib.sha256(canonical.encode()).digest()), canonical
    )


def _elliptic(jwk: Mapping[str, Any]) -> AccountKey:
    name = jwk.get("crv")
    if not isinstance(name, str) or name not in _CURVES:
        raise BadKey(f"curve {name!r} is not accepted: use P-256, P-384 or P-521")
    curve, size, algorithm = _CURVES[name]
    x, y = unb64url(jwk.get("x"), "jwk.x"), unb64url(jwk.get("y"), "jwk.y")
    if len(x) != size or len(y) != size:
        raise BadKey(f"a coordinate on {name} has {size} octets")
    try:
        numbers = ec.EllipticCurvePublicNumbers(
            int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve()
        )
        key = numbers.public_key()
    except ValueError:
        raise BadKey("the point is not on its curve") from None
    return _identified(key, algorithm, {"crv": name, "kty": "EC", "x": b64url(x), "y": b64url(y)})


def _rsa(jwk: Mapping[str, Any]) -> AccountKey:
    n = int.from_bytes(unb64url(jwk.get("n"), "jwk.n"), "big")
    e = int.from_bytes(unb64url(jwk.get("e"), "jwk.e"), "big")
    if not 2048 <= n.bit_length() <= 4096 or n % 2 == 0 or not 2**16 < e < 2**32 or e % 2 == 0:
        raise BadKey("RSA account keys have 2048 to 4096 bits and an odd exponent of 65537 or more")
    try:
        key = rsa.RSAPublicNumbers(e, n).public_key()
    except ValueError:
        raise BadKey("the RSA key's numbers contradict each other") from None
    members = {"e": b64url(_octets(e)), "kty": "RSA", "n": b64url(_octets(n))}
    return _identified(key, "RS256", members)


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _ecdsa(digest: hashes.HashAlgorithm, size: int) -> Callable[[Any, bytes, bytes], None]:
    algorithm = ec.ECDSA(digest)

    def check(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> None:
        if len(signature) != 2 * size:
            raise InvalidSignature
        r, s = (int.from_bytes(half, "big") for half in (signature[:size], signature[size:]))
        key.verify(utils.encode_dss_signature(r, s), signed, algorithm)

    return check


def _rs256(key: rsa.RSAPublicKey, signature: bytes, signed: bytes) -> None:
    key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())


def _eddsa(key: ed25519.Ed25519PublicKey, signature: bytes, signed: bytes) -> None:
    key.verify(signature, signed)


_CHECKS: Mapping[str, Callable[[Any, bytes, bytes], None]] = {
    "ES256": _ecdsa(hashes.SHA256(), 32),
    "ES384": _ecdsa(hashes.SHA384(), 48),
    "ES512": _ecdsa(hashes.SHA512(), 66),
    "EdDSA": _eddsa,
    "RS256": _rs256,
}


def fingerprint(key: AccountKey) -> str:
    """SHA-256 of an account key's SubjectPublicKeyInfo, to compare it with certified keys."""
    spki = key.key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()
