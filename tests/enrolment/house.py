"""A manufacturer with everything that enrolment needs, on a real registry, with real keys.

`found` builds it once: a root, an issuing CA, a SubCA for example.com, an identity hierarchy, the
products and three minted routers. Tests and the children that die work on copies of its database.
"""

import datetime as dt
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp

from certmint.enrolment import (
    authorities,
    batches,
    devices,
    domains,
    manufacturers,
    products,
    status,
)
from certmint.enrolment.issue import Gate, Step
from certmint.enrolment.minting import mint_into
from certmint.enrolment.packages import PackageFormat
from certmint.enrolment.renewal import Asker, Enrolled, renew
from certmint.enrolment.signing import SigningKeys
from certmint.issuance.keys import create_key, open_key
from certmint.model.constraints import technically_constrained
from certmint.model.csr import CSR, parse_csr
from certmint.model.entities import Authority, Batch, Certificate, Manufacturer, ValidationMethod
from certmint.model.evidence import HoldsCertificate, OperatorGrant
from certmint.model.keys import KeyKind, KeyOrigin, PublicKey, public_key_of
from certmint.model.manifest import parse_manifest
from certmint.model.names import parse_name
from certmint.model.profile import SERVICE, Profile, Purpose
from certmint.model.request import CertificateRequest, HeldKey, Requester, RequesterKind
from certmint.model.serial import RandomBytes
from certmint.model.states import BatchState
from certmint.model.subject import DistinguishedName
from certmint.registry import audit, reads
from certmint.registry.engine import Database, open_database
from certmint.registry.rows import Intent
from certmint.validation.dns import Answer

NOW = dt.datetime(2026, 11, 23, 12, 0, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
SECRET = b"the passphrase of the key files"
OPERATOR = "opr-ada"
SUBJECT = DistinguishedName.of(C="US", O="Example Router Inc")
STOCK = ("R1", "R2", "R3")  # minted when the house was founded


class Clock:
    """Stands still but for a millisecond a look, so that what happens later is later."""

    def __init__(self, now: dt.datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> dt.datetime:
        self.now += dt.timedelta(milliseconds=1)
        return self.now


class Published:
    """A resolver for whom exactly these records exist."""

    def __init__(self, **records: tuple[str, ...]) -> None:
        self.records = records

    def txt(self, name: str) -> Answer:
        return Answer(self.records.get(name, ()), "192.0.2.53:53", authenticated=False)

    cname = addresses = txt


def key_store(secret: bytes = SECRET) -> SigningKeys:
    """The real key files, opened with `secret`."""
    return SigningKeys(
        lambda uri: open_key(uri, lambda _: secret, Path("/")),
        lambda uri, kind: create_key(uri, kind, lambda _: secret, Path("/")),
    )


def go_on(_: Step) -> None:
    """Nothing happens between two steps."""


@dataclass
class House:
    """One installation: use cases with fewer words, and looks at what they left."""

    db: Database
    keys: SigningKeys
    home: Path  # keys, and the packages of STOCK
    folder: Path  # of this test
    clock: Clock = field(default_factory=Clock)
    random_bytes: RandomBytes = os.urandom
    reached: Callable[[Step], None] = go_on

    @property
    def gate(self) -> Gate:
        return Gate(self.db, self.keys, self.random_bytes, self._reached)

    def _reached(self, step: Step) -> None:
        self.reached(step)  # looked up each time: a test changes it under way

    @property
    def tenant(self) -> Manufacturer:
        return manufacturers.manufacturer(self.db, "example")

    def read(self, query: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """One read of this tenant's rows, in a snapshot of its own."""
        with self.db.read() as tx:
            return query(tx, self.tenant.id, *args, **named)

    def authority(self, name: str) -> Authority:
        return self.read(authorities.authority_named, name)

    def add_authority(
        self, name: str, profile: str, parent: str | None = None, **changes: Any
    ) -> Authority:
        """Made and certified."""
        wanted = authorities.NewAuthority(
            **{
                "name": name,
                "subject": DistinguishedName.of(C="US", O="Example Router Inc", CN=name),
                "profile": profile,
                "key_uri": f"file:{self.home}/keys/{{id}}.pem",
                "key_kind": KeyKind.P256,
                "status_url": "http://pki.example.com",
                "parent": parent,
            }
            | changes
        )
        return authorities.create_authority(
            self.db, self.gate, self.keys, self.tenant, wanted,
            operator_id=OPERATOR, now=self.clock(), random_bytes=self.random_bytes,
        )  # fmt: skip

    def add_product(
        self, name: str, profile: str, *patterns: str, shared: Any = (), issuer: str = "tls"
    ) -> None:
        products.add_product(
            self.db, self.tenant, name,
            identity=("identity", "identity-ca"), service=(profile, issuer), patterns=patterns,
            shared_names=shared, renew_at=2 / 3,
            by=OPERATOR, now=self.clock(), random_bytes=self.random_bytes,
        )  # fmt: skip

    def assert_name(self, name: str) -> None:
        """An operator vouches for a name that only exists in private networks."""
        domains.assert_domain(
            self.db, self.tenant, name,
            by=OPERATOR, now=self.clock(), random_bytes=self.random_bytes,
        )  # fmt: skip

    def submit(self, *lines: str, product: str = "router") -> Batch:
        """A manifest of serial numbers, or of whole lines `serial,mac,label`."""
        rows = [line if "," in line else f"{line},," for line in lines]
        return batches.submit(
            self.db, self.tenant, products.product_named(self.db, self.tenant, product),
            parse_manifest("\n".join(["serial,mac,label", *rows]).encode()),
            by=OPERATOR, now=self.clock(), random_bytes=self.random_bytes,
        )  # fmt: skip

    def batch(self, batch: Batch) -> Batch:
        """As it is now."""
        return batches.batch_of(self.db, self.tenant, batch.id)

    def mint(
        self,
        batch: Batch,
        out: str | Path = "line",
        form: PackageFormat = PackageFormat.PEM,
        passphrase: bytes = b"",
        progress: Callable[[int], None] = lambda _: None,
    ) -> list[batches.Refusal]:
        """Mint what is left of it, into a folder of this test."""
        return mint_into(
            self.db, self.gate, self.tenant, self.batch(batch), self.folder / out, form, passphrase,
            clock=self.clock, random_bytes=self.random_bytes, progress=progress,
        )  # fmt: skip

    def view(self, serial_number: str) -> devices.DeviceView:
        return devices.view_by_serial_number(self.db, self.tenant.id, serial_number)

    def held(self, serial_number: str) -> list[Certificate]:
        """The device's certificates that are not revoked, oldest first."""
        device_id = self.view(serial_number).device.id
        found = self.read(reads.certificates, device_id=device_id)
        return [each for each in found if each.revocation is None]

    def latest(self, serial_number: str, purpose: Purpose) -> Certificate:
        device_id = self.view(serial_number).device.id
        return self.read(reads.latest_certificate, device_id, purpose)

    def asker(self, serial_number: str, purpose: Purpose = Purpose.IDENTITY) -> Asker:
        """The device, which has shown one of its certificates in TLS."""
        shown = self.latest(serial_number, purpose)
        evidence = HoldsCertificate(shown.authority_id, shown.serial, self.clock.now)
        device_id = shown.device_id or ""
        return Asker(Requester(RequesterKind.DEVICE, device_id), (evidence,))

    def renew(self, serial_number: str, csr: CSR, asker: Asker | None = None) -> Enrolled:
        asks = asker or self.asker(serial_number)
        return renew(self.db, self.gate, self.view(serial_number), csr, asks, self.clock())

    def stock_key(self, serial_number: str) -> ec.EllipticCurvePrivateKey:
        """The identity key of a router of STOCK, as the line flashed it."""
        pem = (self.home / "stock" / serial_number / "key.pem").read_bytes()
        key = serialization.load_pem_private_key(pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    def leaf(
        self, *names: str, key: PublicKey | None = None, issuer: str = "tls", **changes: Any
    ) -> CertificateRequest:
        """A service certificate for nobody's device, on an operator's word."""
        requester = Requester(RequesterKind.OPERATOR, OPERATOR)
        fields: dict[str, Any] = {
            "tenant_id": self.tenant.id,
            "authority_id": self.authority(issuer).id,
            "profile": SERVICE,
            "key": HeldKey(key or new_key(), KeyOrigin.KEY_MANAGEMENT),
            "requester": requester,
            "evidence": (OperatorGrant(OPERATOR, self.clock.now),),
            "names": tuple(map(parse_name, names)),
        }
        return CertificateRequest(**fields | changes)

    def profile(self, name: str) -> Profile:
        return self.read(authorities.profile_named, name)

    def audit(self, action: str) -> list[audit.Entry]:
        """The events of one kind."""
        return [e for e in self.read(reads.audit_events, limit=100_000) if e.action == action]

    def is_chained(self) -> bool:
        """Whether the audit log is whole."""
        with self.db.read() as tx:
            return audit.verify(tx).broken_at is None


def packages(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def whole(
    house: House, batch: Batch, folder: Path, names: list[str], passphrase: bytes | None = None
) -> None:
    """Every device has one package, one key and two good certificates; nothing waits."""
    assert house.batch(batch).state is BatchState.FINISHED
    assert packages(folder) == sorted(names)
    keys = set()
    for name in names:
        pem = (folder / name / "key.pem").read_bytes()
        key = serialization.load_pem_private_key(pem, passphrase)
        fingerprint = public_key_of(key).fingerprint  # type: ignore[arg-type]
        held = house.held(name)
        assert sorted(each.purpose for each in held) == [Purpose.IDENTITY, Purpose.SERVICE]
        for each in held:
            assert each.key_fingerprint == fingerprint
            pem = (folder / name / f"{each.purpose}.pem").read_bytes()
            (leaf, *_) = x509.load_pem_x509_certificates(pem)
            assert leaf.public_bytes(serialization.Encoding.DER) == each.der
        keys.add(fingerprint)
    assert len(keys) == len(names)
    assert not list((folder / ".spool").glob("*keys-*"))


def status_of(house: House, issued: Intent | Certificate) -> tuple[str, bool]:
    """What OCSP says of a serial (`good`, `revoked`, `unknown`), and whether the CRL lists it."""
    issuer = x509.load_der_x509_certificate(status.issuer(house.db, issued.authority_id))
    bits = issuer.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    name_hash, key_hash = hashes.Hash(hashes.SHA256()), hashes.Hash(hashes.SHA256())
    name_hash.update(issuer.subject.public_bytes())
    key_hash.update(bits)
    request = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        name_hash.finalize(), key_hash.finalize(), int(issued.serial, 16), hashes.SHA256()
    )
    answer = status.ocsp(
        house.db, house.keys, issued.authority_id,
        request.build().public_bytes(serialization.Encoding.DER), house.clock.now,
    )  # fmt: skip
    said = ocsp.load_der_ocsp_response(answer).certificate_status.name.lower()
    crl = status.crl(house.db, issued.authority_id, issued.crl_shard)
    listed = x509.load_der_x509_crl(crl.der).get_revoked_certificate_by_serial_number(
        int(issued.serial, 16)
    )
    return said, listed is not None


def new_key() -> PublicKey:
    return public_key_of(ec.generate_private_key(ec.SECP256R1()))


def csr(*names: str, key: Any = None) -> CSR:
    """A device's request, as it comes over the wire."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        general = [x509.DNSName(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=True)
    made = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return parse_csr(made.public_bytes(serialization.Encoding.DER))


def found(url: str, home: Path, keys: SigningKeys) -> None:
    """Build the house in an empty database at `url`."""
    db = open_database(url)
    db.migrate()
    house = House(db, keys, home, home, Clock(NOW - DAY))
    manufacturers.add_manufacturer(
        db, "example", SUBJECT, by=OPERATOR, now=house.clock(), random_bytes=os.urandom
    )
    attempt = domains.begin_validation(
        db, house.tenant, "example.com", ValidationMethod.DNS_TXT,
        by=OPERATOR, now=house.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    resolver = Published(**{attempt.record_name: (attempt.random_value,)})
    domains.verify_domain(
        db, house.tenant, attempt.id, domains.World(resolver), by=OPERATOR, now=house.clock()
    )
    house.add_authority("root", "root")
    house.add_authority("issuing", "issuing", "root")
    house.add_authority("identity-root", "identity-root")
    house.add_authority("identity-ca", "identity-issuing", "identity-root", crl_shards=2)
    house.add_authority(
        "tls", "subordinate", "issuing",
        constraints=technically_constrained(("example.com",), SUBJECT), crl_shards=2,
    )  # fmt: skip
    house.add_product("router", "service", "{id}.dev.example.com", shared=("router.example.com",))
    house.add_product("public", "service-public", "{id}.dev.example.com")
    assert house.mint(house.submit(*STOCK), "stock") == []
    db.close()
