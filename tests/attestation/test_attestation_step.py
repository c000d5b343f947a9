"""The format "step": YubiKeys, real ones as far as their certificates go."""

import datetime as dt

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.attestation import chain, step
from certmint.attestation.attested import Anchor, Attested, Format, Serial, SerialKind
from certmint.attestation.statement import verify
from certmint.model.errors import CertmintError
from certmint.model.hardware import PermanentIdentifier
from certmint.model.keys import public_key_of

from .makers import (
    CA,
    NOW,
    PROOF,
    Extension,
    Maker,
    PrivateKey,
    attestation,
    ec_key,
    raw,
    refusal,
    rsa_key,
    signed,
    vector_certificates,
)

ROOT = Maker("PIV Root")
F9 = ROOT.below("PIV Attestation")
KEY = ec_key()
FIRMWARE = raw(step.FIRMWARE, b"\x05\x04\x03")
SERIAL = raw(step.SERIAL_NUMBER, bytes.fromhex("020400f00f14"))
POLICIES = raw(step.POLICIES, b"\x02\x01")
SLOT = (FIRMWARE, SERIAL, POLICIES)


def judge(
    *extensions: Extension,
    key: PrivateKey = KEY,
    sig: bytes = b"",
    alg: int = -7,
    signer: Maker = F9,
) -> Attested:
    statement = {
        "alg": alg,
        "sig": sig or signed(key, PROOF.key_authorization),
        "x5c": [signer.issue(key, *extensions), signer.certificate],
    }
    octets = attestation("step", statement)
    return verify(octets, PROOF, [ROOT.anchor(Format.STEP)], NOW, revoked=frozenset())


def code(*extensions: Extension, **more: object) -> str:
    try:
        judge(*extensions, **more)  # type: ignore[arg-type]
    except CertmintError as refused:
        return refusal(refused)
    return "accepted"


def test_a_yubikey() -> None:
    """Its key, its serial number and the policies of the slot."""
    attested = judge(*SLOT)
    assert attested.public_key == public_key_of(KEY)
    assert attested.identifiers == (Serial(SerialKind.YUBIKEY_SERIAL, "15732500"),)
    assert attested.names(PermanentIdentifier("15732500"))
    assert attested.claims == {
        "firmware": "5.4.3",
        "pin-policy": "once",
        "touch-policy": "never",
    }


def test_keys_and_signatures_of_every_kind() -> None:
    """Bare, or wrapped in CBOR as step's client does it; P-256, P-384 and RSA."""
    wrapped = cbor2.dumps(signed(KEY, PROOF.key_authorization))
    assert code(*SLOT, sig=wrapped) == "accepted"
    assert code(*SLOT, key=rsa_key(), alg=-257) == "accepted"
    p384 = ec_key(ec.SECP384R1())
    sig = signed(p384, PROOF.key_authorization, hashes.SHA384())
    assert code(*SLOT, key=p384, sig=sig, alg=-35) == "accepted"


@pytest.mark.parametrize(
    ("extensions", "expected"),
    [
        ((SERIAL, POLICIES), "attestation-certificate"),
        ((SERIAL, FIRMWARE), "attestation-certificate"),
        ((SERIAL, FIRMWARE, raw(step.POLICIES, b"\x01")), "attestation-certificate"),
        ((SERIAL, POLICIES, raw(step.FIRMWARE, b"\x05\x04")), "attestation-certificate"),
        ((FIRMWARE, POLICIES, raw(step.SERIAL_NUMBER, b"12")), "attestation-syntax"),
        ((FIRMWARE, POLICIES, raw(step.SERIAL_NUMBER, b"\x02\x01\xff")), "attestation-syntax"),
        ((FIRMWARE, POLICIES, raw(step.SERIAL_NUMBER, b"\x02\x02\x00\x01")), "attestation-syntax"),
        ((*SLOT, CA), "attestation-certificate"),
    ],
)
def test_what_is_no_slot_s_certificate(extensions: tuple[Extension, ...], expected: str) -> None:
    """Firmware version and policies are in every one; the serial number may be hidden."""
    assert code(*extensions) == expected


def test_a_hidden_serial_number() -> None:
    """Then the YubiKey proves where the key is, and not which one it is."""
    assert judge(FIRMWARE, POLICIES).identifiers == ()


def test_the_slot_s_key_has_to_sign() -> None:
    """This challenge, with the algorithm it says."""
    other = signed(KEY, PROOF.token)
    assert code(*SLOT, sig=other) == "attestation-signature"
    assert code(*SLOT, sig=signed(ec_key(), PROOF.key_authorization)) == "attestation-signature"
    assert code(*SLOT, sig=cbor2.dumps(other)) == "attestation-signature"
    assert code(*SLOT, sig=cbor2.dumps([other])) == "attestation-signature"
    assert code(*SLOT, alg=-257) == "attestation-signature"
    weak = signed(rsa_key(), PROOF.key_authorization, hashes.SHA1())  # noqa: S303 - refused
    assert code(*SLOT, key=rsa_key(), sig=weak, alg=-65535) == "attestation-signature"
    assert code(*SLOT, signer=Maker("PIV Root")) == "attestation-untrusted"


def test_every_octet_of_the_signature() -> None:
    """Cut or flipped, it is none."""
    good = signed(KEY, PROOF.key_authorization)
    for size in range(1, len(good)):
        assert code(*SLOT, sig=good[:size]) == "attestation-signature"
    for place in range(len(good)):
        torn = bytearray(good)
        torn[place] ^= 1
        assert code(*SLOT, sig=bytes(torn)) == "attestation-signature"


YEARS_AGO = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def test_a_real_yubikey_5() -> None:
    """Slot 9a, its attestation key and Yubico's root (vectors/README.md)."""
    x5c = vector_certificates("yubikey-slot-9a.pem") + vector_certificates("yubikey-f9.pem")
    root = Anchor(vector_certificates("yubico-piv-root.pem")[0], Format.STEP)
    path = chain.validate(x5c, [root], Format.STEP, YEARS_AGO)
    serials, claims = step.slot(path.leaf)
    assert serials == (Serial(SerialKind.YUBIKEY_SERIAL, "15732500"),)
    assert claims["firmware"] == "5.4.3"


def test_a_real_yubikey_4_of_2017() -> None:
    """Its attestation key's certificate is no CA's, so nothing that it signed is believed."""
    x5c = vector_certificates("yubikey4-slot-9a.pem") + vector_certificates("yubikey4-f9.pem")
    root = Anchor(vector_certificates("yubico-u2f-root.pem")[0], Format.STEP)
    with pytest.raises(CertmintError) as refused:
        chain.validate(x5c, [root], Format.STEP, YEARS_AGO)
    assert refusal(refused.value) == "attestation-certificate"
