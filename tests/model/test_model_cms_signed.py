"""SignedData and shared keys: openssl verifies and opens what we make."""

import datetime as dt
import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from certmint.model import der
from certmint.model.cms import (
    KEY_PACKAGE,
    SIGNED_DATA,
    Signer,
    certificates_only,
    envelop_under,
    signed,
)
from certmint.model.errors import BadInput

CONTENT = b"a package of keys: " + bytes(range(64))
IDENTIFIER, SHARED = b"R1", bytes(range(32))


@pytest.fixture(autouse=True)
def needs_openssl(require: Callable[..., str]) -> None:
    """The other side: Debian's openssl."""
    require("openssl", package="openssl")


def random_bytes(size: int) -> bytes:
    return hashlib.shake_256(b"test").digest(size)


def openssl(*words: str | Path, given: bytes) -> subprocess.CompletedProcess[bytes]:
    command = ["openssl", *map(str, words)]
    return subprocess.run(command, input=given, capture_output=True, check=False)


def self_signed(key: Any, name: str = "signer") -> bytes:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder().issuer_name(subject).subject_name(subject)
    builder = builder.serial_number(7).public_key(key.public_key())
    builder = builder.not_valid_before(start).not_valid_after(start + dt.timedelta(days=9999))
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(serialization.Encoding.DER)


def signer(kind: str) -> Signer:
    if kind == "EC":
        curve = ec.generate_private_key(ec.SECP256R1())
        return Signer(
            (self_signed(curve),), lambda data: curve.sign(data, ec.ECDSA(hashes.SHA256()))
        )
    key = rsa.generate_private_key(65537, 2048)
    return Signer(
        (self_signed(key),), lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    )


def info(content: bytes) -> bytes:
    """ContentInfo around SignedData."""
    return der.sequence(der.oid(SIGNED_DATA), der.explicit(0, content))


def verified(message: bytes, trusted: bytes, folder: Path) -> bytes | None:
    """The content, if openssl trusts the signature."""
    anchor = folder / "anchor.pem"
    anchor.write_bytes(
        x509.load_der_x509_certificate(trusted).public_bytes(serialization.Encoding.PEM)
    )
    done = openssl(
        "cms", "-verify", "-inform", "DER", "-binary", "-CAfile", anchor, given=message
    )  # fmt: skip
    return done.stdout if done.returncode == 0 else None


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_openssl_verifies_the_signature(tmp_path: Path, kind: str) -> None:
    """Up to the signer's certificate, and not up to another one of the same name."""
    who, stranger = signer(kind), signer(kind)
    message = info(signed(CONTENT, KEY_PACKAGE, who))

    assert verified(message, who.certificates[0], tmp_path) == CONTENT
    assert verified(message, stranger.certificates[0], tmp_path) is None
    torn = message.replace(CONTENT, CONTENT[::-1])
    assert verified(torn, who.certificates[0], tmp_path) is None


def test_a_signer_that_cms_does_not_know_is_refused() -> None:
    """Ed25519 would need another digest, and a signer without a certificate convinces nobody."""
    ed = self_signed(ed25519.Ed25519PrivateKey.generate())
    for certificates in ((ed,), (b"\x30\x00",), ()):
        with pytest.raises(BadInput) as refusal:
            signed(CONTENT, KEY_PACKAGE, Signer(certificates, lambda data: data))
        assert refusal.value.code == "signer-certificate"


def test_certificates_travel_without_a_signature() -> None:
    """openssl reads every certificate of a degenerate SignedData, in any number."""
    for number in (1, 3):
        carried = [
            self_signed(ec.generate_private_key(ec.SECP256R1()), f"ca {each}")
            for each in range(number)
        ]
        printed = openssl(
            "pkcs7", "-inform", "DER", "-print_certs", given=certificates_only(carried)
        ).stdout
        found = x509.load_pem_x509_certificates(printed)
        assert {each.public_bytes(serialization.Encoding.DER) for each in found} == set(carried)


def test_the_holders_of_a_shared_key_open_the_envelope() -> None:
    """By its identifier and key; with another key, or another identifier, nothing comes out."""
    envelope = envelop_under(CONTENT, IDENTIFIER, SHARED, random_bytes=random_bytes)

    def opened(identifier: bytes, key: bytes) -> bytes:
        return openssl(
            "cms", "-decrypt", "-inform", "DER", "-binary", "-secretkey", key.hex(),
            "-secretkeyid", identifier.hex(), given=envelope,
        ).stdout  # fmt: skip

    assert opened(IDENTIFIER, SHARED) == CONTENT
    assert opened(IDENTIFIER, SHARED[::-1]) != CONTENT
    assert opened(b"R2", SHARED) != CONTENT
    assert CONTENT[:16] not in envelope
