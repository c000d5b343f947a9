"""Key delivery: what the server seals, this device opens, and nobody else."""

import dataclasses
import datetime as dt
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certmint.model.cms import envelop
from certmint_agent.cms import open_envelope as open_any
from certmint_agent.credential import load_key
from certmint_agent.errors import Unacceptable

SECRET = ec.generate_private_key(ec.SECP256R1())
PKCS8 = SECRET.private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


def open_envelope(envelope: bytes, certificate: x509.Certificate, key: object) -> bytes:
    """What was sealed without a signature."""
    return open_any(envelope, certificate, key, verify=lambda data: data)


KINDS = ("P-256", "P-384", "RSA-2048")


@dataclasses.dataclass
class Identity:
    key: object
    certificate: x509.Certificate


def make_identity(kind: str) -> Identity:
    key = {
        "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
    }[kind]()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Maker Identity CA")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder().issuer_name(name).subject_name(name)
    builder = builder.serial_number(x509.random_serial_number()).public_key(key.public_key())
    builder = builder.not_valid_before(start).not_valid_after(start + dt.timedelta(days=9999))
    return Identity(key, builder.sign(key, hashes.SHA256()))


@pytest.fixture(scope="module")
def identities() -> dict[str, Identity]:
    """One device of each kind of identity key."""
    return {kind: make_identity(kind) for kind in KINDS}


def sealed(recipient: Identity) -> bytes:
    der = recipient.certificate.public_bytes(serialization.Encoding.DER)
    return envelop(PKCS8, der, ephemeral=ec.generate_private_key, random_bytes=os.urandom)


@pytest.mark.parametrize("kind", KINDS)
def test_the_device_opens_its_own_envelope(kind: str, identities: dict[str, Identity]) -> None:
    """The key that was sealed comes out, bit for bit."""
    device = identities[kind]
    assert open_envelope(sealed(device), device.certificate, device.key) == PKCS8


@pytest.mark.parametrize("kind", KINDS)
def test_another_device_does_not(kind: str, identities: dict[str, Identity]) -> None:
    """Neither another key under the right certificate, nor a certificate of another device."""
    device, stranger = identities[kind], make_identity(kind)
    envelope = sealed(device)
    with pytest.raises(Unacceptable):
        open_envelope(envelope, device.certificate, stranger.key)
    with pytest.raises(Unacceptable):
        open_envelope(envelope, stranger.certificate, device.key)


@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_byte_yields_another_key(kind: str, identities: dict[str, Identity]) -> None:
    """CBC is not authenticated, so the proof is: what comes out is our key, or nothing is used."""
    device = identities[kind]
    envelope = sealed(device)
    refused = 0
    for place in range(len(envelope)):
        torn = bytearray(envelope)
        torn[place] ^= 0x41
        try:
            key = load_key(open_envelope(bytes(torn), device.certificate, device.key))
        except (Unacceptable, ValueError):
            refused += 1
            continue
        if key.public_key() != SECRET.public_key():  # what `credential.accept` compares
            refused += 1
        else:
            assert key.private_numbers() == SECRET.private_numbers()
    assert refused > len(envelope) * 0.9


def test_every_truncation_is_refused(identities: dict[str, Identity]) -> None:
    """A cut answer is one sentence, never a traceback."""
    device = identities["P-256"]
    envelope = sealed(device)
    for size in range(len(envelope)):
        with pytest.raises(Unacceptable):
            open_envelope(envelope[:size], device.certificate, device.key)


def test_a_point_that_is_not_on_the_curve_is_refused(identities: dict[str, Identity]) -> None:
    """An invalid-curve ephemeral key does not get near the identity key."""
    device = identities["P-256"]
    envelope = sealed(device)
    start = envelope.index(b"\x03\x42\x00\x04") + 4
    torn = envelope[:start] + bytes(range(64)) + envelope[start + 64 :]
    with pytest.raises(Unacceptable):
        open_envelope(torn, device.certificate, device.key)


def test_the_envelope_of_another_tool_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """What is no envelope of ours says so."""
    device = make_identity("P-256")
    with pytest.raises(Unacceptable, match="does not open"):
        open_envelope(b"\x30\x03\x02\x01\x00", device.certificate, device.key)
