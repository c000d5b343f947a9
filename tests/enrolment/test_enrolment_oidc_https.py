"""A provider over HTTPS: `ca_file` says whom certmint believes it, and nothing turns that off."""

import datetime as dt
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from openid_provider import OpenIDProvider, provider

from certmint.enrolment import oidc
from certmint.model.errors import CertmintError, Misconfigured
from certmint.validation.oidc import RemoteProvider

from .house import House
from .openid_world import linked, seconds_of, trusting

PEM = serialization.Encoding.PEM


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for a host of this name, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(
            subject, subject, key.public_key(), x509.random_serial_number(),
            now - dt.timedelta(hours=1), now + dt.timedelta(days=1),
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(PEM))
    paths[1].write_bytes(
        key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@pytest.fixture
def idp(house: House, tmp_path: Path) -> Iterator[OpenIDProvider]:
    """The provider of the house's manufacturer, at https://localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path, "localhost"))
    with provider(seconds_of(house), context, "localhost") as running:
        linked(house, running)
        yield running


def who(house: House, idp: OpenIDProvider, **settings: str) -> str:
    """The owner whom a good token of the provider names, or why it was not asked."""
    try:
        return oidc.owner_by_bearer(
            house.db, trusting(idp, **settings), idp.token(), house.clock(), house.random_bytes
        ).username
    except CertmintError as refusal:
        return refusal.code


def test_a_provider_is_believed_by_its_ca_file(
    house: House, idp: OpenIDProvider, tmp_path: Path
) -> None:
    """Its keys come over TLS, from whom that file vouches for."""
    assert who(house, idp, ca_file=str(tmp_path / "localhost.pem")) == "grace"


def test_nobody_else_is_believed(house: House, idp: OpenIDProvider, tmp_path: Path) -> None:
    """Not by the system's roots, not by another CA, and not under another name."""
    other, _ = self_signed(tmp_path, "elsewhere")
    assert who(house, idp) == "provider-unreachable"
    assert who(house, idp, ca_file=str(other)) == "provider-unreachable"
    idp.issuer = idp.issuer.replace("localhost", "127.0.0.1")
    assert who(house, idp, ca_file=str(tmp_path / "localhost.pem")) == "provider-unreachable"
    assert idp.asked.total() == 0


def test_a_ca_file_that_is_none_is_said_at_the_start(idp: OpenIDProvider, tmp_path: Path) -> None:
    """Before anybody logs in."""
    for name in ("absent.pem", "localhost.key"):
        with pytest.raises(Misconfigured) as refusal:
            RemoteProvider(idp.settings(ca_file=str(tmp_path / name)))
        assert refusal.value.code == "provider-roots"
