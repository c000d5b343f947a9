"""A small house behind the doors: two manufacturers, a hierarchy, minted devices, people."""

import atexit
import contextlib
import datetime as dt
import functools
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import argon2
from acme_client import BASE, URN, Client, b64, csr, jwk_of, mac_jws
from asgi import Answer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hostile import Names, says, serving

from certmint.app import config
from certmint.app.wiring import (
    Installation,
    derived_key,
    open_installation,
    rest_services,
    utc_now,
    vault,
)
from certmint.doors.acme.app import ACMEDoor
from certmint.doors.acme.app import Services as ACMEServices
from certmint.doors.acme.problems import TYPES
from certmint.doors.rest.app import rest_app
from certmint.doors.status.routes import status_app
from certmint.enrolment import (
    authorities,
    batches,
    devices,
    domains,
    manufacturers,
    minting,
    operators,
)
from certmint.enrolment.acme.accounts import new_binding
from certmint.enrolment.acme.challenges import Network
from certmint.enrolment.acme.directories import add_directory, directory_named
from certmint.enrolment.acme.nonces import Nonces
from certmint.enrolment.manufacturers import new_id
from certmint.enrolment.packages import PackageFormat
from certmint.enrolment.products import add_product, product_named
from certmint.model.entities import Manufacturer, Owner, Role
from certmint.model.keys import KeyKind
from certmint.model.manifest import parse_manifest
from certmint.model.subject import DistinguishedName
from certmint.registry import reads, writes
from certmint.registry.engine import Database, open_database
from certmint.validation.reach import PrivateNetwork, Reach

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
    """A house in a folder; its devices are R1 to R6 and, of a public product, P1.

    It is a copy of one that was built once in this process: the same keys and certificates.
    """
    template, tokens = _template()
    shutil.copytree(template, folder, dirs_exist_ok=True)
    here = open_installation(config.load(folder / config.FILE_NAME))
    return House(
        here,
        manufacturers.manufacturer(here.db, "acme"),
        folder / "packages",
        rest_app(rest_services(here), "0"),
        status_app(here.db, here.keys, here.clock),
        dict(tokens),
    )


@functools.cache
def _template() -> tuple[Path, dict[str, str]]:
    """The folder of the house that is copied, and its operators' tokens; nobody opens it."""
    kept = tempfile.mkdtemp(prefix="certmint-house-")
    atexit.register(shutil.rmtree, kept, ignore_errors=True)
    folder = Path(kept)
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
    _fleet(here, maker, folder / "packages")
    tokens = {}
    for slug in ("acme", "other"):
        tenant = manufacturers.manufacturer(here.db, slug)
        for role in Role:
            _, first = operators.add_operator(
                here.db, tenant, role.value, role, lifetime=dt.timedelta(days=1),
                by=BY, now=utc_now(), random_bytes=os.urandom,
            )  # fmt: skip
            assert first is not None
            tokens[f"{slug}/{role}"] = first.secret
    add_owner(here.db, maker, "jo")
    devices.claim(here.db, maker, "R2", "jo", by=BY, now=utc_now())
    here.close()
    return folder, tokens


def add_owner(db: Database, maker: Manufacturer, username: str) -> None:
    """An owner with PASSWORD. Its hash is a cheap one, and so is each check of it by the house."""
    hashed = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    owner = Owner(new_id("own", utc_now(), os.urandom), maker.id, username, utc_now())
    db.write(lambda tx: writes.add_owner(tx, owner, hashed, by=BY, at=utc_now()))


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


@dataclass
class Skewed:
    """The system's clock, as much ahead as a test wants."""

    ahead: dt.timedelta = dt.timedelta(0)

    def __call__(self) -> dt.datetime:
        return utc_now() + self.ahead


@dataclass
class Page:
    """What the only web server of this world answers, whatever it is asked for."""

    content: str = ""

    def answer(self, connection: socket.socket) -> None:
        says(self.content)(connection)


@dataclass
class ACMEHouse:
    """An ACME door with the directories `open` and `bound`, and the world its validators see."""

    house: House
    app: Any
    door: ACMEDoor
    names: Names = field(default_factory=Names)
    page: Page = field(default_factory=Page)
    clock: Skewed = field(default_factory=Skewed)

    def client(self, directory: str = "open", key: Any = None, **contact: Any) -> Client:
        """A client with an account at a directory without bindings."""
        found = Client(self.app, f"/acme/acme/{directory}", *([key] if key else []))
        assert found.register(**contact).status == 201
        return found

    def binding(self, *, device: str = "", is_reusable: bool = False) -> tuple[str, bytes]:
        """An external account binding of the directory `bound`: its kid and MAC key."""
        here = self.house.here
        found = None
        if device:
            with here.db.read() as tx:
                found = reads.device_by_serial_number(tx, self.house.maker.id, device)
        binding, secret = new_binding(
            here.db, vault(here.config), directory_named(here.db, "acme", "bound"), product=None,
            device=found, is_reusable=is_reusable, lifetime=dt.timedelta(days=1),
            by=BY, now=self.clock(), random_bytes=os.urandom,
        )  # fmt: skip
        return binding.id, secret

    def bound_client(self, *, device: str = "") -> Client:
        """A client with an account at `bound`."""
        found = Client(self.app, "/acme/acme/bound")
        inner = bound(found, *self.binding(device=device))
        assert found.register(externalAccountBinding=inner).status == 201
        return found

    def prove(self, client: Client, authorization: str) -> Answer:
        """Answer the challenge that fits, and show the authorization as it is then."""
        found = client.post(authorization).json
        kind = "dns-01" if found.get("wildcard") else "http-01"
        (challenge,) = (each for each in found["challenges"] if each["type"] == kind)
        name = found["identifier"]["value"]
        proof = f"{challenge['token']}.{client.thumbprint}"
        self.names.hosts[name] = ("127.0.0.1",)
        self.names.records[f"_acme-challenge.{name}"] = (digest(proof),)
        self.page.content = proof
        assert client.post(challenge["url"], {}).status == 200
        return client.post(authorization)

    def ready(self, client: Client, *names: str, **payload: Any) -> Any:
        """An order whose authorizations are valid."""
        order = client.order(*names, **payload)
        assert order.status == 201, order.body
        for each in order.json["authorizations"]:
            if client.post(each).json["status"] == "pending":
                assert self.prove(client, each).json["status"] == "valid"
        return client.post(order.headers["location"]).json

    def certify(self, client: Client, *names: str, key: Any = None, **payload: Any) -> bytes:
        """The certificate of a whole flow, in DER."""
        order = self.ready(client, *names, **payload)
        done = client.post(order["finalize"], {"csr": csr(*names, key=key)})
        assert done.json["status"] == "valid", done.body
        chain = client.post(done.json["certificate"]).body
        leaf = x509.load_pem_x509_certificates(chain)[0]
        return leaf.public_bytes(serialization.Encoding.DER)


def digest(proof: str) -> str:
    """The TXT record of a dns-01 challenge (RFC 8555 8.4)."""
    sha256 = hashes.Hash(hashes.SHA256())
    sha256.update(proof.encode())
    return b64(sha256.finalize())


def bound(client: Client, kid: str, secret: bytes, **header: Any) -> dict[str, str]:
    """The inner JWS of a binding, with what `header` changes (None removes)."""
    wanted = {"kid": kid, "url": client.url("new-account")} | header
    kept = {name: value for name, value in wanted.items() if value is not None}
    return mac_jws(secret, kept, jwk_of(client.key))


def refused(answer: Answer, kind: str, status: int) -> Any:
    """The problem document, after what holds for all of them: type, status, nonce, index."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json["type"], answer.status) == (URN + kind, status), answer.body
    assert kind in TYPES
    assert answer.json["status"] == status
    assert answer.json["detail"]
    assert answer.headers["replay-nonce"]
    assert 'directory>;rel="index"' in answer.headers["link"]
    return answer.json


@contextlib.contextmanager
def acme_house(house: House) -> Iterator[ACMEHouse]:
    """The ACME door of a house, with its validators on loopback."""
    here, page, names, clock = house.here, Page(), Names(), Skewed()
    for name, needs in (("open", False), ("bound", True)):
        add_directory(
            here.db, house.maker, name, "issuing", ("service",), requires_binding=needs,
            by=BY, now=utc_now(), random_bytes=os.urandom,
        )  # fmt: skip
    with serving(page.answer) as (port, _):
        loopback = PrivateNetwork.parse(f"127.0.0.0/8:{port}")
        door = ACMEDoor(
            ACMEServices(
                db=here.db,
                gate=here.gate,
                keys=here.keys,
                nonces=Nonces(here.db, derived_key(here.config, "nonces")),
                vault=vault(here.config),
                network=Network(names, Reach(port, 443, (loopback,), 3.0)),
                clock=clock,
                random_bytes=os.urandom,
                base_url=BASE,
            )
        )
        yield ACMEHouse(house, door, door, names, page, clock)
