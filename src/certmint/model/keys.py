"""Public keys, where they come from, and which of them are too weak to certify.

The kinds are the ones certmint certifies (BR 6.1.5 less P-521, plus nothing). A `PublicKey`
is built from a SubjectPublicKeyInfo that pyca has parsed (which proves that the point is on its
curve) and that has passed the checks of BR 6.1.1.3, or from a private key in our own hands.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certmint.model import der
from certmint.model.errors import BadInput

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class KeyKind(StrEnum):
    """Algorithm and size."""

    P256 = "ec-p256"
    P384 = "ec-p384"
    RSA2048 = "rsa-2048"
    RSA3072 = "rsa-3072"
    RSA4096 = "rsa-4096"

    @property
    def is_ec(self) -> bool:
        return self in (KeyKind.P256, KeyKind.P384)


class KeyOrigin(StrEnum):
    """Who made a key pair. A public profile accepts the first kind only (BR 6.1.1.3)."""

    SUBSCRIBER = "subscriber"  # the device made it and proved possession with a CSR
    FACTORY = "factory"  # a batch of ours made it, beside the line
    KEY_MANAGEMENT = "key-management"  # our key management made it, to be delivered encrypted
    AUTHORITY = "authority"  # it is a CA's own key


# The only SubjectPublicKeyInfo encodings that BR 7.1.3.1 admits, up to the key itself.
SPKI_PREFIX = {
    KeyKind.P256: bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"),
    KeyKind.P384: bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004"),
}
_RSA_ALGORITHM = bytes.fromhex("300d06092a864886f70d0101010500")
_RSA_CHECKS = (
    "fermat", "roca", "rsainvalid", "rsapoly", "sharedprimes", "smalld", "smallfactors",
    "rsabias", "pattern", "xzbackdoor",
)  # fmt: skip


@dataclass(frozen=True)
class PublicKey:
    """A key that certmint may put into a certificate. Build it with a function of this module."""

    kind: KeyKind
    spki: bytes

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo, in hex: the key's identity fleet-wide."""
        return hashlib.sha256(self.spki).hexdigest()

    @cached_property
    def key_id(self) -> bytes:
        """The subjectKeyIdentifier: leftmost 160 bits of SHA-256 of the key (RFC 7093, 2.1)."""
        if self.kind is KeyKind.P256:
            bits = self.spki[26:]
        else:
            bits = der.content(der.children(self.spki)[1])[1:]
        return hashlib.sha256(bits).digest()[:20]

    def __repr__(self) -> str:
        return f"PublicKey({self.kind}, {self.fingerprint[:16]}…)"


def public_key(spki: bytes) -> PublicKey:
    """A key from its SubjectPublicKeyInfo in DER.

    Raises BadInput: `key-syntax` (not a key), `key-kind` (algorithm, size or exponent that
    certmint does not certify), `key-weak` (Debian, ROCA, close primes, shared factors …).
    """
    try:
        loaded = serialization.load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise BadInput(
            "key-syntax", "the public key cannot be read as a key of a known kind"
        ) from None
    if isinstance(loaded, ec.EllipticCurvePublicKey):
        kind = {"secp256r1": KeyKind.P256, "secp384r1": KeyKind.P384}.get(loaded.curve.name)
        if kind is None or not spki.startswith(SPKI_PREFIX[kind]):
            raise BadInput(
                "key-kind",
                f"an EC key on {loaded.curve.name} in this encoding is not certified: use a named "
                "curve, P-256 or P-384, with an uncompressed point",
            )
        return PublicKey(kind, spki)
    if isinstance(loaded, rsa.RSAPublicKey):
        return _rsa(loaded, spki)
    raise BadInput("key-kind", f"a {type(loaded).__name__} is not certified: use EC P-256 or RSA")


def public_key_of(private: PrivateKey) -> PublicKey:
    """The public half of a private key that this process holds. Raises BadInput `key-kind`."""
    spki = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if isinstance(private, ec.EllipticCurvePrivateKey):
        for kind, prefix in SPKI_PREFIX.items():
            if spki.startswith(prefix):
                return PublicKey(kind, spki)
    elif (kind_of_rsa := _RSA_SIZES.get(private.key_size)) is not None:
        return PublicKey(kind_of_rsa, spki)
    raise BadInput("key-kind", "the private key is of a kind that certmint does not certify")


_RSA_SIZES = {2048: KeyKind.RSA2048, 3072: KeyKind.RSA3072, 4096: KeyKind.RSA4096}


def _rsa(loaded: rsa.RSAPublicKey, spki: bytes) -> PublicKey:
    numbers = loaded.public_numbers()
    kind = _RSA_SIZES.get(loaded.key_size)
    if kind is None or numbers.e != 65537 or _RSA_ALGORITHM not in spki[:24]:
        raise BadInput(
            "key-kind",
            f"RSA with {loaded.key_size} bits and exponent {numbers.e} is not certified: "
            "use 2048, 3072 or 4096 bits, exponent 65537, and the rsaEncryption identifier",
        )
    from badkeys import checks  # 0.1 s of import, for RSA keys only

    found = checks.checkrsa(numbers.n, numbers.e, checks=_RSA_CHECKS)
    if found:
        raise BadInput("key-weak", f"the RSA key is weak ({min(found)}): make a new one")
    return PublicKey(kind, spki)
