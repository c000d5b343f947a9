"""EnvelopedData, opened by OpenSSL: software that we did not write."""

import datetime as dt
import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from certmint.model.cms import envelop
from certmint.model.errors import BadInput

KINDS: dict[str, Callable[[], object]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
    "RSA-1024": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505 - to be refused
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
}
CONTENT = b"a private key, let us say: " + bytes(range(256))


@pytest.fixture
def needs_openssl(require) -> str:  # type: ignore[no-untyped-def]
    """The other side: Debian's openssl."""
    return require("openssl", package="openssl")


def random_bytes(size: int) -> bytes:
    return hashlib.shake_256(b"test").digest(size)


def self_signed(key: object) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Gerät 1")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder().issuer_name(name).subject_name(name)
    builder = builder.serial_number(0x80 << 64).public_key(key.public_key())
    builder = builder.not_valid_before(start).not_valid_after(start + dt.timedelta(days=9999))
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(serialization.Encoding.DER)


def seal(certificate: bytes) -> bytes:
    return envelop(
        CONTENT, certificate, ephemeral=ec.generate_private_key, random_bytes=random_bytes
    )


def openssl_opens(folder: Path, envelope: bytes, key: object, certificate: bytes) -> bytes | None:
    """What `openssl cms -decrypt` makes of it, or None if it refuses."""
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "id.key").write_bytes(pem)
    (folder / "id.pem").write_bytes(
        x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)
    )
    done = subprocess.run(
        [
            *("openssl", "cms", "-decrypt", "-inform", "DER", "-binary"),
            *("-inkey", folder / "id.key", "-recip", folder / "id.pem"),
        ],
        input=envelope,
        capture_output=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else None


@pytest.mark.usefixtures("needs_openssl")
@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA-2048"])
def test_openssl_opens_it_with_the_right_key_only(tmp_path: Path, kind: str) -> None:
    """The device's key opens the envelope; the key of another device does not."""
    key, stranger = KINDS[kind](), KINDS[kind]()
    certificate = self_signed(key)
    envelope = seal(certificate)
    assert openssl_opens(tmp_path, envelope, key, certificate) == CONTENT
    assert openssl_opens(tmp_path, envelope, stranger, certificate) != CONTENT
    assert openssl_opens(tmp_path, envelope, stranger, self_signed(stranger)) != CONTENT


@pytest.mark.usefixtures("needs_openssl")
@pytest.mark.parametrize("kind", ["P-256", "RSA-2048"])
def test_a_flipped_byte_does_not_open(tmp_path: Path, kind: str) -> None:
    """In the wrapped key, in the IV or in the content: the secret does not come out."""
    key = KINDS[kind]()
    certificate = self_signed(key)
    envelope = seal(certificate)
    iv = envelope.index(random_bytes(16))
    wrapped = envelope.index(bytes.fromhex("06092a864886f70d010701")) - 8
    for place in (iv, wrapped, len(envelope) - 1):
        torn = bytearray(envelope)
        torn[place] ^= 1
        assert openssl_opens(tmp_path, bytes(torn), key, certificate) != CONTENT


def test_the_same_content_never_looks_the_same() -> None:
    """The ephemeral key is new each time, so even equal content keys are wrapped differently."""
    certificate = self_signed(KINDS["P-256"]())
    assert seal(certificate) != seal(certificate)


def test_the_secret_is_not_in_the_envelope() -> None:
    """Neither the content nor the content key lies open."""
    envelope = seal(self_signed(KINDS["P-384"]()))
    assert CONTENT[:16] not in envelope
    assert random_bytes(32) not in envelope


@pytest.mark.parametrize("kind", ["RSA-1024", "P-521"])
def test_a_key_that_cannot_receive_is_refused(kind: str) -> None:
    """Weak and unsupported recipients are refused with a code, before anything is sealed."""
    with pytest.raises(BadInput) as refusal:
        seal(self_signed(KINDS[kind]()))
    assert refusal.value.code == "envelope-recipient"


def test_a_signing_key_cannot_receive() -> None:
    """Ed25519 signs and agrees on nothing."""
    with pytest.raises(BadInput) as refusal:
        seal(self_signed(ed25519.Ed25519PrivateKey.generate()))
    assert refusal.value.code == "envelope-recipient"


def test_a_certificate_that_is_none_is_refused() -> None:
    """Bytes that are no certificate get a sentence, not a traceback."""
    with pytest.raises(BadInput) as refusal:
        seal(b"\x30\x00")
    assert refusal.value.code == "envelope-recipient"
