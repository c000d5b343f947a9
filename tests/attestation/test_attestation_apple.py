"""The format "apple": Managed Device Attestation, by a CA that plays Apple's."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.attestation import apple
from certmint.attestation.attested import Attested, Format, Serial, SerialKind
from certmint.attestation.statement import verify
from certmint.model.errors import CertmintError
from certmint.model.hardware import PermanentIdentifier
from certmint.model.keys import public_key_of

from .makers import NOW, PROOF, Extension, Maker, attestation, ec_key, raw, refusal

ROOT = Maker("Enterprise Attestation Root")
KEY = ec_key(ec.SECP384R1())
NONCE = raw(apple.NONCE, hashlib.sha256(PROOF.token).digest())
SERIAL = raw(apple.SERIAL_NUMBER, b"C02XYZ1234")
UDID = raw(apple.UDID, b"00008110-000A1B2C3D4E5F6A")


def judge(*extensions: Extension, maker: Maker = ROOT) -> Attested:
    octets = attestation("apple", {"x5c": [maker.issue(KEY, *extensions)]})
    return verify(octets, PROOF, [ROOT.anchor(Format.APPLE)], NOW, revoked=frozenset())


def test_a_mac() -> None:
    """Its key, its serial number and UDID, and the version of its Secure Enclave's system."""
    attested = judge(NONCE, SERIAL, UDID, raw(apple.SEPOS_VERSION, b"14.2"))
    assert attested.public_key == public_key_of(KEY)
    assert attested.identifiers == (
        Serial(SerialKind.APPLE_SERIAL, "C02XYZ1234"),
        Serial(SerialKind.APPLE_UDID, "00008110-000A1B2C3D4E5F6A"),
    )
    assert attested.names(PermanentIdentifier("C02XYZ1234"))
    assert not attested.names(PermanentIdentifier("c02xyz1234"))
    assert not attested.names(PermanentIdentifier("C02XYZ1234", "1.2.3"))
    assert attested.claims == {"sepos-version": "14.2"}


def test_a_device_that_hides_who_it_is() -> None:
    """User enrolment: a key in some Apple device, and no more."""
    assert judge(NONCE).identifiers == ()


@pytest.mark.parametrize(
    ("extensions", "maker", "expected"),
    [
        ((SERIAL,), ROOT, "attestation-mismatch"),
        ((raw(apple.NONCE, PROOF.token), SERIAL), ROOT, "attestation-mismatch"),
        (
            (raw(apple.NONCE, hashlib.sha256(PROOF.key_authorization).digest()),),
            ROOT,
            "attestation-mismatch",
        ),
        ((NONCE, raw(apple.SERIAL_NUMBER, b"\xff")), ROOT, "attestation-syntax"),
        ((NONCE, raw(apple.SERIAL_NUMBER, b"")), ROOT, "attestation-syntax"),
        ((NONCE, raw(apple.SERIAL_NUMBER, b"x" * 300)), ROOT, "attestation-syntax"),
        ((NONCE, raw(apple.SERIAL_NUMBER, b"a\x1b[2J")), ROOT, "attestation-syntax"),
        ((NONCE, SERIAL), Maker("Enterprise Attestation Root"), "attestation-untrusted"),
    ],
)
def test_another_story(extensions: tuple[Extension, ...], maker: Maker, expected: str) -> None:
    """No nonce, another nonce, texts that are none, another CA."""
    with pytest.raises(CertmintError) as refused:
        judge(*extensions, maker=maker)
    assert refusal(refused.value) == expected


def test_a_key_that_is_not_certified_here() -> None:
    """The attested key has to be one that certmint certifies at all."""
    octets = attestation("apple", {"x5c": [ROOT.issue(ec_key(ec.SECP521R1()), NONCE, SERIAL)]})
    with pytest.raises(CertmintError) as refused:
        verify(octets, PROOF, [ROOT.anchor(Format.APPLE)], NOW, revoked=frozenset())
    assert refusal(refused.value) == "attestation-key"
