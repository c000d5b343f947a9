"""TSS2 PRIVATE KEY: the file of a key that one TPM can use, and nobody else.

It holds the TPM's public and wrapped private structures in ASN.1, in the form that tpm2-openssl,
GnuTLS and tpm2-tools read. The parent is the owner hierarchy, which stands for the primary key that
`certmint_agent.tpm_keys` has the TPM derive. Only the public part can be read here.
"""

import base64
import binascii
import struct

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certmint_agent.credential import PublicKey
from certmint_agent.der import children, content, require

HEADER, FOOTER = b"-----BEGIN TSS2 PRIVATE KEY-----\n", b"-----END TSS2 PRIVATE KEY-----\n"
_LOADABLE_KEY = bytes.fromhex("0606 6781050a0103")  # 2.23.133.10.1.3
_EMPTY_AUTH = bytes.fromhex("a003 0101ff")
_OWNER = bytes.fromhex("0204 40000001")  # TPM_RH_OWNER
_RSA, _ECC, _NIST_P256 = 0x0001, 0x0023, 0x0003


def encode(public: bytes, private: bytes) -> bytes:
    """The PEM text of a TPM2B_PUBLIC and its TPM2B_PRIVATE."""
    fields = _LOADABLE_KEY + _EMPTY_AUTH + _OWNER + _tlv(0x04, public) + _tlv(0x04, private)
    text = base64.b64encode(_tlv(0x30, fields))
    lines = [text[start : start + 64] + b"\n" for start in range(0, len(text), 64)]
    return HEADER + b"".join(lines) + FOOTER


def decode(pem: bytes) -> tuple[bytes, bytes]:
    """TPM2B_PUBLIC and TPM2B_PRIVATE. Raises ValueError if `encode` did not write this."""
    try:
        require(pem.startswith(HEADER) and pem.endswith(FOOTER))
        der = base64.b64decode(pem[len(HEADER) : -len(FOOTER)])
        *head, public, private = children(der)
        require(head == [_LOADABLE_KEY, _EMPTY_AUTH, _OWNER])
        return content(public), content(private)
    except (binascii.Error, IndexError):
        raise ValueError("not a TSS2 PRIVATE KEY") from None


def public_key(public: bytes) -> PublicKey:
    """The key in a TPM2B_PUBLIC without schemes (TPM 2.0 part 2, 12.2.4). Raises ValueError."""
    try:
        kind, policy_size = struct.unpack_from(">2xH6xH", public)
        rest = public[12 + policy_size :]
        if kind == _RSA:
            bits, exponent = struct.unpack_from(">4xHI", rest)
            modulus, _ = _sized(rest[10:])
            require(len(modulus) * 8 == bits)
            numbers = rsa.RSAPublicNumbers(exponent or 65537, int.from_bytes(modulus, "big"))
            return numbers.public_key()
        (curve,) = struct.unpack_from(">4xH2x", rest)
        require(kind == _ECC and curve == _NIST_P256)
        x, rest = _sized(rest[8:])
        y, _ = _sized(rest)
    except struct.error:
        raise ValueError("not a TPM2B_PUBLIC") from None
    point = ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
    )
    return point.public_key()


def _sized(data: bytes) -> tuple[bytes, bytes]:
    (size,) = struct.unpack_from(">H", data)
    require(len(data) >= 2 + size)
    return data[2 : 2 + size], data[2 + size :]


def _tlv(tag: int, value: bytes) -> bytes:
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    if size <= 0xFF:
        return bytes((tag, 0x81, size)) + value
    return struct.pack(">BBH", tag, 0x82, size) + value
