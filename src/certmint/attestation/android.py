"""The format "android-key": a key in a phone's TEE or StrongBox (WebAuthn 8.4, Android's docs).

The challenge in the certificate is the key authorization itself, and the key has signed it too.
What counts is what the hardware enforces: security level, origin and purpose; identifiers that
Android alone has written are not taken over. The extension stands in the leaf and nowhere
else, so a key that can sign cannot vouch for another one. Keys that an application's own
attestation key certified are refused for that reason. Google's list of revoked serial numbers is
the caller's to fetch.
"""

import datetime as dt
import hmac
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from cryptography import x509

from certmint.attestation import chain, members, signatures
from certmint.attestation.attested import Anchor, Format, Proof, Serial, SerialKind, Vouched
from certmint.attestation.keydescription import (
    NEWEST,
    OLDEST,
    KeyDescription,
    Tag,
    key_description,
)
from certmint.attestation.members import Members
from certmint.model.errors import Refused

KEY_DESCRIPTION = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.1.17")

_LEVELS = {1: "trusted-environment", 2: "strongbox"}
_BOOT_STATES = {0: "verified", 1: "self-signed", 2: "unverified", 3: "failed"}
_GENERATED, _SIGN = 0, 2
_SERIALS = {
    SerialKind.ANDROID_SERIAL: Tag.ID_SERIAL,
    SerialKind.ANDROID_IMEI: Tag.ID_IMEI,
    SerialKind.ANDROID_MEID: Tag.ID_MEID,
}
_TEXTS = {
    "brand": Tag.ID_BRAND,
    "device": Tag.ID_DEVICE,
    "product": Tag.ID_PRODUCT,
    "manufacturer": Tag.ID_MANUFACTURER,
    "model": Tag.ID_MODEL,
}


def verify(
    statement: Members,
    proof: Proof,
    anchors: Sequence[Anchor],
    now: dt.datetime,
    revoked: AbstractSet[str],
) -> Vouched:
    """Judge `{alg, sig, x5c}`. `revoked` are serial numbers in hex, as Google publishes them.

    Raises BadInput `attestation-syntax`; Refused with an `attestation-…` code.
    """
    path = chain.validate(members.certificates(statement), anchors, Format.ANDROID_KEY, now)
    _check_revocation(path, revoked)
    description = _description(path)
    if not hmac.compare_digest(description.challenge, proof.key_authorization):
        raise Refused(
            "attestation-mismatch", "the phone attested the key for another challenge than this one"
        )
    algorithm = signatures.algorithm(members.number(statement, "alg"))
    signatures.check(
        path.leaf.public_key(),
        algorithm,
        members.octets(statement, "sig"),
        proof.key_authorization,
    )
    check_key(description)
    return Vouched(members.key_of(path.leaf), serials(description), claims(description))


def check_key(description: KeyDescription) -> None:
    """Raises Refused `attestation-key` unless secure hardware made the key and keeps it."""
    if not OLDEST <= description.version <= NEWEST:
        raise Refused(
            "attestation-format",
            f"Android attestation version {description.version} is not read here: "
            f"{OLDEST} to {NEWEST} are",
        )
    if not {description.security_level, description.keymint_security_level} <= _LEVELS.keys():
        raise Refused("attestation-key", "the key is not in a TEE or StrongBox, but in software")
    if description.number(Tag.ORIGIN) != _GENERATED:
        raise Refused("attestation-key", "the key was not generated in the phone's hardware")
    if _SIGN not in description.numbers(Tag.PURPOSE):
        raise Refused("attestation-key", "the key's hardware does not let it sign")


def serials(description: KeyDescription) -> tuple[Serial, ...]:
    """The identifiers that the hardware vouches for (ID attestation)."""
    found = []
    for kind, tag in _SERIALS.items():
        octets = description.octets(tag)
        if octets is not None:
            found.append(Serial(kind, members.printable(octets, kind.value)))
    return tuple(found)


def claims(description: KeyDescription) -> dict[str, str]:
    """Further facts of the phone; `verified-boot` says which system it runs."""
    found = {
        "attestation-version": str(description.version),
        "security-level": _LEVELS[min(
            description.security_level, description.keymint_security_level
        )],
    }  # fmt: skip
    for claim, tag in _TEXTS.items():
        octets = description.octets(tag)
        if octets is not None:
            found[claim] = members.printable(octets, claim)
    for claim, tag in (("os-version", Tag.OS_VERSION), ("os-patch-level", Tag.OS_PATCH_LEVEL)):
        number = description.number(tag)
        if number is not None:
            found[claim] = str(number)
    boot = description.root_of_trust()
    if boot is not None:
        locked, state = boot
        found["device-locked"] = "yes" if locked else "no"
        found["verified-boot"] = _BOOT_STATES.get(state, "unknown")
    return found


def _check_revocation(path: chain.Path, revoked: AbstractSet[str]) -> None:
    for certificate in path.certificates:
        if f"{certificate.serial_number:x}" in revoked:
            raise Refused(
                "attestation-revoked",
                f"the attestation certificate with serial number {certificate.serial_number:x} is "
                "on the list of revoked ones",
            )


def _description(path: chain.Path) -> KeyDescription:
    leaf = members.extension(path.leaf, KEY_DESCRIPTION)
    above = [members.extension(c, KEY_DESCRIPTION) for c in path.certificates[1:]]
    if leaf is None or any(value is not None for value in above):
        raise Refused(
            "attestation-certificate",
            "the attestation certificate is refused: Android's KeyDescription has to stand in the "
            "first certificate, and in no other",
        )
    return key_description(leaf)
