"""The format "idevid": a device's birth certificate (IEEE 802.1AR) signs a challenge.

Ours, not registered: `{x5c, alg, sig [, key]}`. With `key`, a SubjectPublicKeyInfo, the device says
with its IDevID that it wants a certificate for that key (an LDevID); without it, for the IDevID's
own. The signature is over `to_be_signed`, which no TLS handshake, CSR or other protocol can
look like, since the IDevID key signs those as well.

It proves which device asks. It does not prove where `key` lives; the claim `key` says so.
"""

import datetime as dt
import hashlib
from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from certmint.attestation import chain, members, signatures
from certmint.attestation.attested import Anchor, Format, Proof, Serial, SerialKind, Vouched
from certmint.attestation.members import Members
from certmint.model.errors import Refused

CONTEXT = b"certmint idevid attestation 1\x00"

_EXPLAINED = frozenset({x509.OID_SUBJECT_ALTERNATIVE_NAME, x509.OID_EXTENDED_KEY_USAGE})


def to_be_signed(key_authorization: bytes, key: bytes) -> bytes:
    """What the device signs; `key` is empty if the IDevID key itself is to be certified."""
    return b"".join(
        (CONTEXT, hashlib.sha256(key_authorization).digest(), hashlib.sha256(key).digest())
    )


def verify(
    statement: Members, proof: Proof, anchors: Sequence[Anchor], now: dt.datetime
) -> Vouched:
    """Judge `{x5c, alg, sig [, key]}`.

    Raises BadInput `attestation-syntax`, `hardware-syntax`; Refused with an `attestation-…` code.
    """
    path = chain.validate(members.certificates(statement), anchors, Format.IDEVID, now, _EXPLAINED)
    _check_usage(path.leaf)
    key = members.octets(statement, "key") if "key" in statement else b""
    algorithm = signatures.algorithm(members.number(statement, "alg"))
    message = to_be_signed(proof.key_authorization, key)
    signatures.check(path.leaf.public_key(), algorithm, members.octets(statement, "sig"), message)
    identifiers = (*members.hardware_names(path.leaf), *_serials(path.leaf))
    if not identifiers:
        raise Refused(
            "attestation-certificate",
            "the IDevID certificate is refused: it has neither a serialNumber in its subject nor "
            "a hardware name",
        )
    public = members.attested_key(key) if key else members.key_of(path.leaf)
    return Vouched(public, identifiers, {"key": "presented" if key else "idevid"})


def _serials(certificate: x509.Certificate) -> tuple[Serial, ...]:
    found = []
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER):
        value = attribute.value
        octets = value if isinstance(value, bytes) else value.encode()
        found.append(Serial(SerialKind.IDEVID_SERIAL, members.printable(octets, "serial number")))
    return tuple(found)


def _check_usage(certificate: x509.Certificate) -> None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.digital_signature:
        raise Refused(
            "attestation-certificate",
            "the IDevID certificate is refused: its key may not sign (key usage)",
        )
