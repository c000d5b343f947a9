"""CSR attributes (RFC 7030 4.5.2), in both of the styles that RFC 9908 describes.

The legacy style names a kind of key, a signature and, where the device is known, its SAN (3.2).
The template says the same with places that the client fills in (3.4); a client that reads
templates looks at nothing else (4). Both say only what the product demands; it demands nothing of
the subject, so the template has none.
"""

import ipaddress
from collections.abc import Sequence

from certmint.model import der
from certmint.model.keys import KeyKind

_EC_KEY = der.oid("1.2.840.10045.2.1")
_CURVE = {KeyKind.P256: der.oid("1.2.840.10045.3.1.7"), KeyKind.P384: der.oid("1.3.132.0.34")}
_RSA_KEY = der.oid("1.2.840.113549.1.1.1")
_ECDSA = {
    KeyKind.P256: der.oid("1.2.840.10045.4.3.2"),  # with SHA-256
    KeyKind.P384: der.oid("1.2.840.10045.4.3.3"),  # with SHA-384
}
_RSA_SHA256 = der.oid("1.2.840.113549.1.1.11")
_EXTENSION_REQUEST = der.oid("1.2.840.113549.1.9.14")
_TEMPLATE = der.oid("1.2.840.113549.1.9.16.2.61")
_EXTENSION_TEMPLATE = der.oid("1.2.840.113549.1.9.16.2.62")
_CHALLENGE_PASSWORD = der.oid("1.2.840.113549.1.9.7")
_SAN = der.oid("2.5.29.17")


def csr_attributes(kind: KeyKind, names: Sequence[str], *, is_linked: bool = False) -> bytes:
    """CsrAttrs in DER for a key of this kind; without names the device itself is not known.

    `is_linked` asks for a challengePassword, which links the CSR to its connection (RFC 7030 3.5).
    """
    signature = _ECDSA[kind] if kind.is_ec else _RSA_SHA256
    items = [_key_wish(kind), signature, _attribute(_TEMPLATE, _template(kind, names))]
    if names:
        items.append(_extension_request(names))
    if is_linked:
        items.append(_CHALLENGE_PASSWORD)
    return der.sequence(*items)


def _attribute(kind: bytes, *values: bytes) -> bytes:
    return der.sequence(kind, der.set_of(*values))


def _bits(kind: KeyKind) -> int:
    return int(kind.value.removeprefix("rsa-"))


def _key_wish(kind: KeyKind) -> bytes:
    if kind.is_ec:
        return _attribute(_EC_KEY, _CURVE[kind])
    return _attribute(_RSA_KEY, der.integer(_bits(kind)))


def _extension_request(names: Sequence[str]) -> bytes:
    general = der.sequence(*map(_general_name, names))
    extension = der.sequence(_SAN, der.octet_string(general))
    return _attribute(_EXTENSION_REQUEST, der.sequence(extension))


def _general_name(name: str) -> bytes:
    try:
        return der.tlv(0x87, ipaddress.ip_address(name).packed)
    except ValueError:
        return der.tlv(0x82, name.encode("ascii"))


def _template(kind: KeyKind, names: Sequence[str]) -> bytes:
    """CertificationRequestInfoTemplate; its module has implicit tags."""
    if kind.is_ec:
        key = der.sequence(_EC_KEY, _CURVE[kind])
    else:
        # A placeholder of the wished length says the size (RFC 9908 3.4).
        modulus = der.integer((1 << _bits(kind)) - 1)
        placeholder = der.bit_string(der.sequence(modulus, der.integer(65537)))
        key = der.sequence(_RSA_KEY, der.NULL) + placeholder
    if names:
        wish = _extension_request(names)
    else:  # a SAN whose value the client fills in
        wish = _attribute(_EXTENSION_TEMPLATE, der.sequence(der.sequence(_SAN)))
    return der.sequence(der.integer(0), der.tlv(0xA0, key), der.tlv(0xA1, wish))
