"""The format "apple": a key in a Secure Enclave, as Managed Device Attestation certifies it.

Apple's enterprise attestation CA has put the SHA-256 of the token, and the device's serial number
and UDID, into extensions of the leaf, as bare octets without an inner encoding. The key
authorization is not in it (Apple never sees the account key): that the key is in the
requester's hands shows the CSR.
"""

import datetime as dt
import hashlib
import hmac
from collections.abc import Sequence

from cryptography import x509

from certmint.attestation import chain, members
from certmint.attestation.attested import Anchor, Format, Proof, Serial, SerialKind, Vouched
from certmint.attestation.members import Members
from certmint.model.errors import Refused

SERIAL_NUMBER = x509.ObjectIdentifier("1.2.840.113635.100.8.9.1")
UDID = x509.ObjectIdentifier("1.2.840.113635.100.8.9.2")
SEPOS_VERSION = x509.ObjectIdentifier("1.2.840.113635.100.8.10.2")
NONCE = x509.ObjectIdentifier("1.2.840.113635.100.8.11.1")


def verify(
    statement: Members, proof: Proof, anchors: Sequence[Anchor], now: dt.datetime
) -> Vouched:
    """Judge `{x5c}`. Raises BadInput `attestation-syntax`; Refused with an `attestation-…` code.

    User-enrolled devices hide serial number and UDID; then there is no identifier.
    """
    path = chain.validate(members.certificates(statement), anchors, Format.APPLE, now)
    nonce = members.extension(path.leaf, NONCE)
    digest = hashlib.sha256(proof.token).digest()
    if nonce is None or not hmac.compare_digest(nonce, digest):
        raise Refused(
            "attestation-mismatch", "Apple attested the key for another token than this one"
        )
    serials = []
    for kind, oid in ((SerialKind.APPLE_SERIAL, SERIAL_NUMBER), (SerialKind.APPLE_UDID, UDID)):
        octets = members.extension(path.leaf, oid)
        if octets is not None:
            serials.append(Serial(kind, members.printable(octets, kind.value)))
    claims = {}
    version = members.extension(path.leaf, SEPOS_VERSION)
    if version is not None:
        claims["sepos-version"] = members.printable(version, "sepOS version")
    return Vouched(members.key_of(path.leaf), tuple(serials), claims)
