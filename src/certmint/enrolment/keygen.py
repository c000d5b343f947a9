"""Key pairs that this system makes for others: a factory's devices, key delivery, a trial."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certmint.model.keys import KeyKind, PrivateKey


def make_key(kind: KeyKind) -> PrivateKey:
    """A new key pair."""
    if kind is KeyKind.P256:
        return ec.generate_private_key(ec.SECP256R1())
    if kind is KeyKind.P384:
        return ec.generate_private_key(ec.SECP384R1())
    return rsa.generate_private_key(65537, int(kind.value.removeprefix("rsa-")))


def pkcs8_of(private: PrivateKey) -> bytes:
    """The key as PrivateKeyInfo in DER (RFC 5958), not encrypted."""
    return private.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
