"""The format "step": a key in a PIV slot of a YubiKey (Yubico's PIV attestation).

The YubiKey certifies the slot's key with its own attestation key (slot f9), and the slot's key
signs the key authorization. The signature may be wrapped in a CBOR byte string, as step-ca's
clients send it. YubiKeys before firmware 4.3.5 have an f9 certificate that is no CA's; they are
refused.
"""

import datetime as dt
from collections.abc import Sequence

from cryptography import x509

from certmint.attestation import cbor, chain, members, signatures
from certmint.attestation.attested import Anchor, Format, Proof, Serial, SerialKind, Vouched
from certmint.attestation.members import Members
from certmint.model import der
from certmint.model.errors import BadInput, Refused

FIRMWARE = x509.ObjectIdentifier("1.3.6.1.4.1.41482.3.3")
SERIAL_NUMBER = x509.ObjectIdentifier("1.3.6.1.4.1.41482.3.7")
POLICIES = x509.ObjectIdentifier("1.3.6.1.4.1.41482.3.8")

_PIN_POLICIES = {1: "never", 2: "once", 3: "always", 4: "match-once", 5: "match-always"}
_TOUCH_POLICIES = {1: "never", 2: "always", 3: "cached"}


def verify(
    statement: Members, proof: Proof, anchors: Sequence[Anchor], now: dt.datetime
) -> Vouched:
    """Judge `{alg, sig, x5c}`.

    Raises BadInput `attestation-syntax`; Refused with an `attestation-…` code.
    """
    path = chain.validate(members.certificates(statement), anchors, Format.STEP, now)
    algorithm = signatures.algorithm(members.number(statement, "alg"))
    signature = _unwrapped(members.octets(statement, "sig"))
    signatures.check(path.leaf.public_key(), algorithm, signature, proof.key_authorization)
    serials, claims = slot(path.leaf)
    return Vouched(members.key_of(path.leaf), serials, claims)


def slot(certificate: x509.Certificate) -> tuple[tuple[Serial, ...], dict[str, str]]:
    """The serial number, where the YubiKey shows it, and claims of a slot's certificate.

    Raises Refused `attestation-certificate` for one without a firmware version: a YubiKey's own
    attestation certificate would also lead to Yubico, but not every certificate there is a slot's.
    """
    firmware = members.extension(certificate, FIRMWARE)
    policies = members.extension(certificate, POLICIES)
    if firmware is None or len(firmware) != 3 or policies is None or len(policies) != 2:
        raise Refused(
            "attestation-certificate",
            "the attestation certificate is refused: it is not that of a key in a PIV slot",
        )
    claims = {
        "firmware": ".".join(map(str, firmware)),
        "pin-policy": _PIN_POLICIES.get(policies[0], "unknown"),
        "touch-policy": _TOUCH_POLICIES.get(policies[1], "unknown"),
    }
    number = members.extension(certificate, SERIAL_NUMBER)
    if number is None:
        return (), claims
    return (Serial(SerialKind.YUBIKEY_SERIAL, str(_integer(number))),), claims


def _unwrapped(octets: bytes) -> bytes:
    try:
        inner = cbor.decode(octets)
    except BadInput:
        return octets
    return inner if isinstance(inner, bytes) else octets


def _integer(encoded: bytes) -> int:
    try:
        value = int.from_bytes(der.content(encoded), "big", signed=True)
    except ValueError:
        value = -1
    if value < 0 or der.integer(value) != encoded:
        raise BadInput("attestation-syntax", "the YubiKey's serial number cannot be read as DER")
    return value
