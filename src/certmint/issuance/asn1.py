"""The ASN.1 values that certificates, CRLs and OCSP responses have in common.

One signature algorithm belongs to each kind of CA key (BR 7.1.3.2), and there is no other
pairing. Times are whole seconds of UTC; a fraction is cut off, never rounded up.
"""

import datetime as dt
from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.model import der
from certmint.model.keys import KeyKind, PublicKey

_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
_RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")

SIGNATURE_ALGORITHM = {
    KeyKind.P256: _ECDSA_SHA256,
    KeyKind.P384: _ECDSA_SHA384,
    KeyKind.RSA2048: _RSA_SHA256,
    KeyKind.RSA3072: _RSA_SHA256,
    KeyKind.RSA4096: _RSA_SHA256,
}
"""The AlgorithmIdentifier that a CA key of each kind signs with, in DER."""


def digest(kind: KeyKind) -> hashes.SHA256 | hashes.SHA384:
    """The hash that a key of this kind signs with."""
    return hashes.SHA384() if kind is KeyKind.P384 else hashes.SHA256()


def curve(kind: KeyKind) -> ec.EllipticCurve:
    """The curve of an EC kind."""
    return ec.SECP384R1() if kind is KeyKind.P384 else ec.SECP256R1()


def time(moment: dt.datetime) -> bytes:
    """Time: UTCTime through 2049, GeneralizedTime from 2050 on (RFC 5280 4.1.2.5)."""
    t = moment.astimezone(dt.UTC)
    if t.year >= 2050:
        return generalized_time(t)
    text = b"%02d%02d%02d%02d%02d%02dZ" % (t.year % 100, t.month, t.day, t.hour, t.minute, t.second)
    return der.tlv(der.UTC_TIME, text)


def generalized_time(moment: dt.datetime) -> bytes:
    """GeneralizedTime in whole seconds (RFC 5280 4.1.2.5.2)."""
    t = moment.astimezone(dt.UTC)
    text = b"%04d%02d%02d%02d%02d%02dZ" % (t.year, t.month, t.day, t.hour, t.minute, t.second)
    return der.tlv(der.GENERALIZED_TIME, text)


@lru_cache(maxsize=1024)
def validity(not_before: dt.datetime, not_after: dt.datetime) -> bytes:
    """Validity; cached because the certificates of a batch share it."""
    return der.sequence(time(not_before), time(not_after))


def key_bits(key: PublicKey) -> bytes:
    """The subjectPublicKey of an SPKI, without tag, length and unused-bits octet."""
    return der.content(der.children(key.spki)[1])[1:]


def extension(dotted: str, value: bytes, *, critical: bool) -> bytes:
    """One Extension around the DER of its value (RFC 5280 4.1)."""
    flag = der.TRUE if critical else b""
    return der.sequence(der.oid(dotted), flag, der.octet_string(value))


def signed(content: bytes, algorithm: bytes, signature: bytes) -> bytes:
    """The outer SEQUENCE of a certificate, a CRL or a BasicOCSPResponse."""
    size = len(signature) + 1
    tail = algorithm + header(der.BIT_STRING, size) + b"\x00"
    total = len(content) + len(tail) + len(signature)
    return b"".join((header(der.SEQUENCE, total), content, tail, signature))


@lru_cache(maxsize=4096)
def header(tag: int, size: int) -> bytes:
    """Tag and length octets; cached because a batch needs the same few over and over."""
    return bytes((tag,)) + der.length(size)
