"""A small house behind the doors: two manufacturers, a hierarchy, minted devices, people."""

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.app import config
from certmint.app.wiring import Installation, open_installation, utc_now
from certmint.doors.rest.app import Services, rest_app
from certmint.doors.status.routes import status_app
from certmint.enrolment import authorities, batches, devices, domains, manufacturers, minting
from certmint.enrolment.packages import PackageFormat
from certmint.enrolment.products import add_product, product_named
from certmint.model.entities import Manufacturer, Role
from certmint.model.keys import KeyKind
from certmint.model.manifest import parse_manifest
from certmint.model.subject import DistinguishedName
from certmint.registry.engine import open_database

BY = "console:test"
PASSWORD = "a good long password"


@dataclass
class House:
    """What the tests of the doors ask of."""

    here: Installation
    maker: Manufacturer
    packages: Path
    rest: Any
    status: Any
    tokens: dict[str, str]

    def identity(self, serial: str) -> bytes:
        """A device's identity certificate in DER, as TLS would show it."""
        pem = (self.packages / serial / "identity.pem").read_bytes()
        return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)

    def service(self, serial: str) -> x509.Certificate:
        """A device's factory service certificate."""
        pem = (self.packages / serial / "service.pem").read_bytes()
        return x509.load_pem_x509_certificate(pem)


def csr_pem(key: ec.EllipticCurvePrivateKey | None = None) -> str:
    """A CSR without names, by a new key."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = request.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def build(folder: Path) -> House:
    """A house in a folder; its devices are R1 to R6 and, of a public product, P1."""
    for name in ("keys", "secrets"):
        (folder / name).mkdir()
    (folder / "secrets/keys.passphrase").write_text("a passphrase of the tests")
    (folder / config.FILE_NAME).write_text(config.example())
    loaded = config.load(folder / config.FILE_NAME)
    db = open_database(loaded.database_url)
    db.migrate()
    db.close()
    here = open_installation(loaded)
    maker = _maker(here, "acme")
    _maker(here, "other")
    packages = folder / "packages"
    _fleet(here, maker, packages)
    tokens = {}
    for slug in ("acme", "other"):
        tenant = manufacturers.manufacturer(here.db, slug)
        for role in Role:
            _, tokens[f"{slug}/{role}"] = manufacturers.add_operator(
                here.db, tenant, role.value, role, dt.timedelta(days=1),
                by=BY, now=utc_now(), random_bytes=os.urandom,
            )  # fmt: skip
    devices.add_owner(here.db, maker, "jo", PASSWORD, by=BY, now=utc_now(), random_bytes=os.urandom)
    devices.claim(here.db, maker, "R2", "jo", by=BY, now=utc_now())
    services = Services(here.db, here.gate, here.keys, here.clock, here.random_bytes)
    return House(
        here,
        maker,
        packages,
        rest_app(services, "0"),
        status_app(here.db, here.keys, here.clock),
        tokens,
    )


def _maker(here: Installation, slug: str) -> Manufacturer:
    return manufacturers.add_manufacturer(
        here.db, slug, DistinguishedName.of(C="US", O=slug.title()),
        by=BY, now=utc_now(), random_bytes=os.urandom,
    )  # fmt: skip


def _fleet(here: Installation, maker: Manufacturer, packages: Path) -> None:
    for name, profile, parent in (
        ("root", "root", None), ("issuing", "issuing", "root"),
        ("id-root", "identity-root", None), ("id", "identity-issuing", "id-root"),
    ):  # fmt: skip
        wanted = authorities.NewAuthority(
            name=name, subject=DistinguishedName.of(C="US", O="Acme", CN=name), profile=profile,
            key_uri="file:keys/{id}.pem", key_kind=KeyKind.P256,
            status_url="http://status.example", parent=parent,
        )  # fmt: skip
        authorities.create_authority(
            here.db, here.gate, here.keys, maker, wanted,
            operator_id=BY, now=utc_now(), random_bytes=os.urandom,
        )  # fmt: skip
    domains.assert_domain(here.db, maker, "lan", by=BY, now=utc_now(), random_bytes=os.urandom)
    for name, service in (("router", "service"), ("router-public", "service-public")):
        add_product(
            here.db, maker, name, identity=("identity", "id"), service=(service, "issuing"),
            patterns=("{id}.router.lan",), shared_names=(), renew_at=2 / 3,
            by=BY, now=utc_now(), random_bytes=os.urandom,
        )  # fmt: skip
    for product, text in (("router", "R1\nR2\nR3\nR4\nR5\nR6\n"), ("router-public", "P1\n")):
        batch = batches.submit(
            here.db, maker, product_named(here.db, maker, product),
            parse_manifest(f"serial\n{text}".encode()),
            by=BY, now=utc_now(), random_bytes=os.urandom,
        )  # fmt: skip
        out = packages if product == "router" else packages.parent / "public"
        minting.mint_into(
            here.db, here.gate, maker, batch, out, PackageFormat.PEM, b"",
            clock=utc_now, random_bytes=os.urandom, progress=lambda _: None,
        )  # fmt: skip
