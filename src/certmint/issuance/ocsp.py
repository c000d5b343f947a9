"""OCSP answers (RFC 6960, RFC 9654), signed by the CA key itself.

CertIDs by SHA-1 and by SHA-256 are understood and mirrored. A request that is not about this
authority is `unauthorized`, one that cannot be read is `malformedRequest`; both are unsigned, as
the RFC has it. A serial that was never issued is `unknown`, never `good`. A nonce of 1 to 128
octets is echoed. This module asks `lookup` and believes it; it neither caches nor stores.
"""

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from certmint.issuance import asn1
from certmint.issuance.authority import SigningAuthority
from certmint.issuance.crl import REASON_CODE
from certmint.model import der
from certmint.model.entities import Authority, Revocation
from certmint.model.serial import Serial, serial_of

MALFORMED_REQUEST = bytes.fromhex("30030a0101")
UNAUTHORIZED = bytes.fromhex("30030a0106")

MAX_BYTES = 8192
MAX_SINGLE_REQUESTS = 16
_MAX_NONCE = 128  # RFC 9654, 2.1
_NONCE = der.oid("1.3.6.1.5.5.7.48.1.2")
_BASIC_RESPONSE = der.oid("1.3.6.1.5.5.7.48.1.1")
_HASHES = {der.oid("1.3.14.3.2.26"): "sha1", der.oid("2.16.840.1.101.3.4.2.1"): "sha256"}


@dataclass(frozen=True, slots=True)
class CertStatus:
    """What the registry knows of a serial: whether it was ever assigned, and its revocation."""

    known: bool
    revocation: Revocation | None = None


Lookup = Callable[[Serial], CertStatus]


@dataclass(frozen=True, slots=True)
class _CertID:
    encoded: bytes  # mirrored as it came
    hash_name: str | None  # None for a hash that nobody here computes
    name_hash: bytes
    key_hash: bytes
    serial: int


@dataclass(frozen=True, slots=True)
class _Request:
    ids: tuple[_CertID, ...]
    nonce: bytes | None  # the whole extension


def respond(
    request_der: bytes,
    signing: SigningAuthority,
    lookup: Lookup,
    now: dt.datetime,
    validity: dt.timedelta,
) -> bytes:
    """An OCSPResponse in DER: signed, or one of the unsigned refusals.

    Raises Unavailable `key-store` or `signature-invalid` from the key.
    """
    try:
        request = _parse(request_der)
    except (ValueError, IndexError):
        return MALFORMED_REQUEST
    if not all(_is_about(signing.authority, cert_id) for cert_id in request.ids):
        return UNAUTHORIZED
    period = asn1.generalized_time(now)
    period += der.explicit(0, asn1.generalized_time(now + validity))
    singles = [der.sequence(i.encoded, _status(i.serial, lookup), period) for i in request.ids]
    key_hash = hashlib.sha1(asn1.key_bits(signing.authority.key), usedforsecurity=False).digest()
    content = der.sequence(
        der.explicit(2, der.octet_string(key_hash)),  # responderID byKey
        asn1.generalized_time(now),
        der.sequence(*singles),
        der.explicit(1, der.sequence(request.nonce)) if request.nonce else b"",
    )
    basic = signing.seal(content, sampled=True)
    response = der.sequence(_BASIC_RESPONSE, der.octet_string(basic))
    return der.sequence(der.tlv(0x0A, b"\x00"), der.explicit(0, response))


def _is_about(authority: Authority, cert_id: _CertID) -> bool:
    if cert_id.hash_name is None:
        return False
    name = hashlib.new(cert_id.hash_name, authority.subject.der(), usedforsecurity=False)
    key = hashlib.new(cert_id.hash_name, asn1.key_bits(authority.key), usedforsecurity=False)
    return (cert_id.name_hash, cert_id.key_hash) == (name.digest(), key.digest())


def _status(number: int, lookup: Lookup) -> bytes:
    # A number that no serial of ours can be is unknown without asking.
    possible = number > 0 and number.bit_length() <= 159
    found = lookup(serial_of(number)) if possible else CertStatus(known=False)
    if found.revocation is not None:
        code = REASON_CODE.get(found.revocation.reason)
        reason = b"" if code is None else der.explicit(0, der.tlv(0x0A, bytes((code,))))
        revoked = asn1.generalized_time(found.revocation.revoked_at) + reason
        return der.explicit(1, revoked)
    return b"\x80\x00" if found.known else b"\x82\x00"


def _parse(data: bytes) -> _Request:
    if len(data) > MAX_BYTES:
        raise ValueError("the request is too long")
    # OCSPRequest ::= SEQUENCE { tbsRequest, optionalSignature [0] OPTIONAL }; the signature is
    # ignored, as everybody may ask.
    tbs, *signature = _members(data, der.SEQUENCE)
    if len(signature) > 1:
        raise ValueError("the request has members that RFC 6960 does not know")
    members = _members(tbs, der.SEQUENCE)
    if members[0][0] == 0xA0 and _members(members.pop(0), 0xA0) != [der.integer(0)]:
        raise ValueError("the request's version is not 1")
    if members[0][0] == 0xA1:
        members.pop(0)  # requestorName
    singles = _members(members.pop(0), der.SEQUENCE)
    if not 1 <= len(singles) <= MAX_SINGLE_REQUESTS:
        raise ValueError("the request asks for none or for too many")
    ids = tuple(_cert_id(_members(single, der.SEQUENCE)[0]) for single in singles)
    if len(members) > 1:
        raise ValueError("the request has members that RFC 6960 does not know")
    return _Request(ids, _nonce(members[0]) if members else None)


def _cert_id(data: bytes) -> _CertID:
    algorithm, name_hash, key_hash, serial = _members(data, der.SEQUENCE)
    oid, *parameters = _members(algorithm, der.SEQUENCE)
    if parameters not in ([], [der.NULL]) or serial[0] != der.INTEGER:
        raise ValueError("the CertID is malformed")
    number = int.from_bytes(der.content(serial), "big", signed=True)
    if serial != der.integer(number):
        raise ValueError("the serial is not in DER")
    return _CertID(data, _HASHES.get(oid), _octets(name_hash), _octets(key_hash), number)


def _nonce(explicit: bytes) -> bytes | None:
    """The nonce extension, whole, if the request's extensions have one."""
    (listed,) = _members(explicit, 0xA2)
    found = None
    for extension in _members(listed, der.SEQUENCE):
        oid, *_, value = _members(extension, der.SEQUENCE)
        if oid != _NONCE:
            continue
        nonce = _octets(_octets(value))
        if found is not None or not 1 <= len(nonce) <= _MAX_NONCE:
            raise ValueError("the nonce is repeated, empty or too long")
        found = extension
    return found


def _members(data: bytes, tag: int) -> list[bytes]:
    found, _, end = der.read(data)
    if found != tag or end != len(data):
        raise ValueError("unexpected tag, or bytes after the end")
    return der.children(data)


def _octets(data: bytes) -> bytes:
    found, start, end = der.read(data)
    if found != der.OCTET_STRING or end != len(data):
        raise ValueError("unexpected tag, or bytes after the end")
    return data[start:end]
