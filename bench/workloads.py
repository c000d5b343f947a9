"""The workloads: the product's own code, on a fresh registry in a temporary folder."""

import datetime as dt
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.app import config
from certmint.app.wiring import Installation, open_installation, utc_now
from certmint.enrolment import authorities, batches, domains, manufacturers, minting, products
from certmint.enrolment.facts import gather
from certmint.enrolment.keygen import make_key, pkcs8_of
from certmint.enrolment.packages import PackageFormat
from certmint.model.entities import ValidationMethod
from certmint.model.evidence import OperatorGrant
from certmint.model.keys import KeyKind, KeyOrigin, public_key_of
from certmint.model.manifest import parse_manifest
from certmint.model.names import DNSName
from certmint.model.profile import SERVICE
from certmint.model.request import CertificateRequest, HeldKey, Requester, RequesterKind
from certmint.model.subject import DistinguishedName
from certmint.policy.decide import decide
from certmint.registry import writes
from certmint.registry.engine import open_database

COUNT = 1000
OPERATOR = "console:bench"
MAKER = DistinguishedName.of(C="US", O="Example Router Inc")


class Stage:
    """A fresh installation with authorities and a product."""

    def __init__(self, database: str = "sqlite:certmint.db", **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="certmint-bench-"))
        self._settings = {"database": database, **settings}
        self._runs = 0
        self.here = self._install()
        self._hierarchy()
        self._sign_key = ec.generate_private_key(ec.SECP256R1())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.here.close()
        shutil.rmtree(self.folder)

    def _install(self) -> Installation:
        (self.folder / "keys").mkdir()
        (self.folder / "secrets").mkdir()
        (self.folder / "secrets/keys.passphrase").write_text("bench " * 4)
        path = self.folder / config.FILE_NAME
        path.write_text(config.example(**self._settings))
        loaded = config.load(path)
        db = open_database(loaded.database_url)
        db.migrate()
        db.close()
        return open_installation(loaded)

    def _hierarchy(self) -> None:
        here, now = self.here, utc_now()
        by = {"by": OPERATOR, "now": now, "random_bytes": os.urandom}
        self.maker = manufacturers.add_manufacturer(here.db, "bench", MAKER, **by)  # type: ignore[arg-type]
        attempt = domains.begin_validation(
            here.db, self.maker, "example.com", ValidationMethod.DNS_TXT, **by  # type: ignore[arg-type]
        )  # fmt: skip
        here.db.write(
            lambda tx: writes.mark_domain_verified(
                tx, self.maker.id, attempt.id, now, "{}", by=OPERATOR
            )
        )
        for name, profile, parent in (
            ("root", "root", None), ("issuing", "issuing", "root"),
            ("identity-root", "identity-root", None),
            ("identity", "identity-issuing", "identity-root"),
        ):  # fmt: skip
            wanted = authorities.NewAuthority(
                name=name, subject=DistinguishedName.of(C="US", O="Example Router Inc", CN=name),
                profile=profile, key_uri="file:keys/{id}.pem", key_kind=KeyKind.P256,
                status_url="http://127.0.0.1:8080", parent=parent,
            )  # fmt: skip
            authorities.create_authority(
                here.db, here.gate, here.keys, self.maker, wanted,
                operator_id=OPERATOR, now=now, random_bytes=os.urandom,
            )  # fmt: skip
        with here.db.read() as tx:
            self.issuing = authorities.authority_named(tx, self.maker.id, "issuing")
        self.product = products.add_product(
            here.db, self.maker, "router", identity=("identity", "identity"),
            service=("service", "issuing"), patterns=("{id}.dev.example.com",), shared_names=(),
            renew_at=2 / 3, **by,  # type: ignore[arg-type]
        )  # fmt: skip

    def requests(self) -> list[CertificateRequest]:
        """A thousand requests with keys that were made before."""
        self._runs += 1
        grant = OperatorGrant(OPERATOR, utc_now())
        return [
            CertificateRequest(
                tenant_id=self.maker.id, authority_id=self.issuing.id, profile=SERVICE,
                key=HeldKey(public_key_of(make_key(KeyKind.P256)), KeyOrigin.KEY_MANAGEMENT),
                requester=Requester(RequesterKind.OPERATOR, OPERATOR), evidence=(grant,),
                names=(DNSName(f"r{self._runs:05d}-{n:05d}.example.com"),),
            )
            for n in range(COUNT)
        ]  # fmt: skip

    def _approved(self) -> list[object]:
        requests = self.requests()
        with self.here.db.read() as tx:
            facts = gather(tx, requests)
        now = utc_now()
        return [decide(request, known, now) for request, known in zip(requests, facts, strict=True)]

    def prepare_and_sign(self) -> float:
        approvals = self._approved()
        signer = self.here.keys.of(self.issuing)
        began = time.process_time()
        signer.sign(signer.prepare(approvals, utc_now(), os.urandom))  # type: ignore[arg-type]
        return COUNT / (time.process_time() - began)

    def bare_sign(self) -> float:
        key, algorithm, content = self._sign_key, ec.ECDSA(hashes.SHA256()), os.urandom(600)
        began = time.process_time()
        for _ in range(COUNT * 4):
            key.sign(content, algorithm)
        return COUNT * 4 / (time.process_time() - began)

    def bare_sign_wall(self) -> float:
        key, algorithm, content = self._sign_key, ec.ECDSA(hashes.SHA256()), os.urandom(600)
        began = time.perf_counter()
        for _ in range(COUNT * 4):
            key.sign(content, algorithm)
        return COUNT * 4 / (time.perf_counter() - began)

    def builder(self) -> float:
        """The same certificate by pyca's builder, from scratch."""
        key, public = self._sign_key, make_key(KeyKind.P256).public_key()
        issuer = MAKER.to_x509()
        now = utc_now().replace(microsecond=0)
        began = time.process_time()
        for n in range(COUNT):
            builder = (
                x509.CertificateBuilder()
                .issuer_name(issuer)
                .subject_name(x509.Name([]))
                .public_key(public)  # type: ignore[arg-type]
                .serial_number(x509.random_serial_number())
                .not_valid_before(now)
                .not_valid_after(now + dt.timedelta(days=90))
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(x509.KeyUsage(True, *[False] * 8), critical=True)
                .add_extension(
                    x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]),
                    critical=False,
                )
                .add_extension(
                    x509.SubjectAlternativeName([x509.DNSName(f"r{n}.example.com")]), critical=True
                )
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
                    critical=False,
                )
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)  # type: ignore[arg-type]
                .add_extension(
                    x509.CRLDistributionPoints(
                        [x509.DistributionPoint([_url("http://127.0.0.1:8080/crl/0")], *[None] * 3)]
                    ),
                    critical=False,
                )
                .add_extension(
                    x509.AuthorityInformationAccess(
                        [
                            x509.AccessDescription(oid, _url("http://127.0.0.1:8080/x"))
                            for oid in (
                                x509.oid.AuthorityInformationAccessOID.OCSP,
                                x509.oid.AuthorityInformationAccessOID.CA_ISSUERS,
                            )
                        ]
                    ),
                    critical=False,
                )
            )
            builder.sign(key, hashes.SHA256())
        return COUNT / (time.process_time() - began)

    def decide(self) -> float:
        requests = self.requests()
        with self.here.db.read() as tx:
            facts = gather(tx, requests)
        now = utc_now()
        began = time.process_time()
        for request, known in zip(requests, facts, strict=True):
            decide(request, known, now)
        return COUNT / (time.process_time() - began)

    def gate(self) -> float:
        requests = self.requests()
        began = time.perf_counter()
        self.here.gate.issue(requests, utc_now())
        return COUNT / (time.perf_counter() - began)

    def batch(self, devices: int, form: str) -> float:
        """A whole factory batch: keys, two certificates each, packages, signed result."""
        self._runs += 1
        lines = "".join(f"S{self._runs:03d}-{n:07d}\n" for n in range(devices))
        submitted = batches.submit(
            self.here.db, self.maker, self.product, parse_manifest(f"serial\n{lines}".encode()),
            by=OPERATOR, now=utc_now(), random_bytes=os.urandom,
        )  # fmt: skip
        began = time.perf_counter()
        minting.mint_into(
            self.here.db, self.here.gate, self.maker, submitted,
            self.folder / f"out-{self._runs}", PackageFormat(form), b"",
            clock=utc_now, random_bytes=os.urandom, progress=lambda _: None,
        )  # fmt: skip
        return devices / (time.perf_counter() - began)

    def keygen_and_two_signs(self) -> float:
        """The floor of one device: make a key, write it as PKCS#8, sign twice."""
        algorithm, content = ec.ECDSA(hashes.SHA256()), os.urandom(600)
        began = time.perf_counter()
        for _ in range(COUNT):
            pkcs8_of(make_key(KeyKind.P256))
            self._sign_key.sign(content, algorithm)
            self._sign_key.sign(content, algorithm)
        return COUNT / (time.perf_counter() - began)


def _url(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)
