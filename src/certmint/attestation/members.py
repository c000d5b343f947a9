"""Reading the members of an attestation statement, and what its certificates carry.

A member that is missing or of another type is `attestation-syntax`. Members that nobody asks
for are ignored (draft-ietf-acme-device-attest).
"""

from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certmint.model import der
from certmint.model.errors import BadInput, Refused
from certmint.model.hardware import HardwareName, hardware_name
from certmint.model.keys import PublicKey, public_key

Members = Mapping[object, object]
LONGEST_TEXT = 256


def octets(members: Members, name: str) -> bytes:
    """A byte string that is not empty."""
    value = members.get(name)
    if not isinstance(value, bytes) or not value:
        raise _wrong(name, "a byte string")
    return value


def text(members: Members, name: str) -> str:
    """A text string."""
    value = members.get(name)
    if not isinstance(value, str):
        raise _wrong(name, "a text string")
    return value


def number(members: Members, name: str) -> int:
    """An integer."""
    value = members.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(name, "a number")
    return value


def certificates(members: Members) -> tuple[bytes, ...]:
    """`x5c`: the attestation certificate, and those above it (WebAuthn section 8)."""
    value = members.get("x5c")
    if not isinstance(value, list) or not value:
        raise _wrong("x5c", "a list of certificates")
    found = tuple(item for item in value if isinstance(item, bytes))
    if len(found) != len(value):
        raise _wrong("x5c", "a list of certificates")
    return found


def printable(value: bytes, what: str) -> str:
    """A text that hardware wrote, fit for logs and pages.

    Raises BadInput `attestation-syntax` if it is not UTF-8, empty, long, or has controls.
    """
    try:
        decoded = value.decode()
    except UnicodeDecodeError:
        decoded = ""
    if not decoded or not decoded.isprintable() or len(value) > LONGEST_TEXT:
        raise BadInput(
            "attestation-syntax", f"the {what} in the attestation is no text that can be shown"
        )
    return decoded


def attested_key(spki: bytes) -> PublicKey:
    """The key that hardware vouches for. Raises Refused `attestation-key` if it is too weak."""
    try:
        return public_key(spki)
    except BadInput as refusal:
        raise Refused("attestation-key", f"the attested key is refused: {refusal}") from None


def spki(certificate: x509.Certificate) -> bytes:
    """The SubjectPublicKeyInfo of a certificate."""
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def key_of(certificate: x509.Certificate) -> PublicKey:
    """The key of an attestation certificate that certifies the attested key itself."""
    return attested_key(spki(certificate))


def extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes | None:
    """The value of an extension that pyca does not know, or None."""
    for found in certificate.extensions:
        if found.oid == oid and isinstance(found.value, x509.UnrecognizedExtension):
            return found.value.value
    return None


def hardware_names(certificate: x509.Certificate) -> tuple[HardwareName, ...]:
    """The RFC 4043 and RFC 4108 names in a certificate. Raises BadInput `hardware-syntax`."""
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    names = []
    for other in alternative.value.get_values_for_type(x509.OtherName):
        kind = der.oid(other.type_id.dotted_string)
        name = hardware_name(der.explicit(0, kind + der.explicit(0, other.value)))
        if name is not None:
            names.append(name)
    return tuple(names)


def _wrong(name: str, wanted: str) -> BadInput:
    return BadInput(
        "attestation-syntax", f"the attestation statement has no member {name!r} that is {wanted}"
    )
