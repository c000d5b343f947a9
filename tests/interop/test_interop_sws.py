"""A client written against the SWS documentation alone, with curl, unzip and openssl.

It knows a base URL, an account key and a secret key; everything else it reads from answers. The
DNS in which it shows control is challtestsrv, the server is `certmint serve`.
"""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from backstage import House, build
from cryptography import x509

from certmint.enrolment import chains
from certmint.registry import reads

from .lab import LOOPBACK, _listens, _running, free_port, names

pytestmark = pytest.mark.slow

SECRETS = {"account_key": "acme"}
PENDING = ("waiting on validation from customer", "validating, please wait")


@dataclass
class Client:
    """What an SWS client is told, and a folder for what it makes and gets."""

    base: str
    account: dict[str, str]
    ca_file: Path
    folder: Path
    status: str
    dns: str
    root: Path

    def curl(self, method: str, path: str, **said: Any) -> bytes:
        command = [
            "curl", "--silent", "--show-error", "--cacert", str(self.ca_file), "-X", method,
            "-H", "Content-Type: application/json", "-d", "@-", f"{self.base}{path}",
        ]  # fmt: skip
        body = json.dumps(self.account | said).encode()
        return subprocess.run(
            command, input=body, capture_output=True, timeout=60, check=True
        ).stdout

    def ask(self, method: str, path: str, **said: Any) -> Any:
        answer = json.loads(self.curl(method, path, **said))
        assert not (isinstance(answer, dict) and answer.get("errors")), answer
        return answer

    def openssl(self, *arguments: object) -> str:
        run = subprocess.run(
            ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30,
            check=False, cwd=self.folder,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        return run.stdout + run.stderr

    def csr(self, name: str) -> str:
        self.openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", "key.pem", "-out", "request.pem", "-subj", f"/CN={name}",
            "-addext", f"subjectAltName=DNS:{name},DNS:*.{name}",
        )  # fmt: skip
        return (self.folder / "request.pem").read_text().replace("\n", "\r\n")

    def publish(self, name: str, target: str) -> None:
        said = json.dumps({"host": name, "target": target}).encode()
        urllib.request.urlopen(f"{self.dns}/set-cname", said, timeout=10).close()  # noqa: S310 - ours

    def until_issued(self, ref: str) -> Any:
        end = time.monotonic() + 60
        while True:
            order = self.ask("GET", f"/certificate/{ref}")
            if order["order_status"] == "issued":
                return order
            assert order["order_status"] in PENDING, order
            assert time.monotonic() < end, order
            time.sleep(1)

    def save(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def revoked(self, certificate: Path, issuer: Path) -> tuple[bool, bool]:
        """What the CRL and OCSP say, as openssl reads them."""
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
        points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        full_name = points[0].full_name or []
        place = self.status + urlsplit(full_name[0].value).path
        with urllib.request.urlopen(place, timeout=10) as answer:  # noqa: S310 - ours
            crl = self.save("status.crl", answer.read())
        listed = self.openssl("crl", "-inform", "DER", "-in", crl, "-noout", "-text")
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        (place,) = (
            each.access_location.value for each in access
            if each.access_method == x509.AuthorityInformationAccessOID.OCSP
        )  # fmt: skip
        said = self.openssl(
            "ocsp", "-issuer", issuer, "-cert", certificate, "-CAfile", self.root, "-no_nonce",
            "-url", self.status + urlsplit(place).path,
        )  # fmt: skip
        assert "Response verify OK" in said
        return f"{leaf.serial_number:X}" in listed, f"{certificate}: revoked" in said


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = build(tmp_path_factory.mktemp("sws"))
    yield made
    made.here.close()


@pytest.fixture(scope="module")
def client(
    house: House, tmp_path_factory: pytest.TempPathFactory, require: Callable[..., str]
) -> Iterator[Client]:
    """The house's server as a process, and a client at its door."""
    program = require("pebble-challtestsrv", package="pebble")
    for each in ("curl", "unzip", "openssl"):
        require(each, package=each)
    settings = house.here.config.folder / "certmint.toml"
    https, http = free_port(), free_port()
    folder = tmp_path_factory.mktemp("client")
    with names(program, folder / "dns.log") as (dns, management):
        text = settings.read_text()
        for old, new in (
            ('https = "127.0.0.1:8443"', f'https = "{LOOPBACK}:{https}"'),
            ('http = "127.0.0.1:8080"', f'http = "{LOOPBACK}:{http}"'),
            ('resolvers = ["127.0.0.1"]', f'resolvers = ["{LOOPBACK}:{dns}"]'),
        ):
            assert old in text
            text = text.replace(old, new)
        settings.write_text(text)
        command = [
            str(Path(sys.executable).with_name("certmint")), "serve", "--config", str(settings),
        ]  # fmt: skip
        with _running(command, _listens(https), settings.with_name("serve.log")):
            yield Client(
                f"https://{LOOPBACK}:{https}/sws",
                SECRETS | {"secret_key": house.tokens["acme/administrator"]},
                settings.parent / "tls/root.pem",
                folder,
                f"http://{LOOPBACK}:{http}",
                f"http://{LOOPBACK}:{management}",
                _root(house, folder),
            )


def _root(house: House, folder: Path) -> Path:
    with house.here.db.read() as tx:
        found = reads.authority_by_name(tx, house.maker.id, "root")
    assert found is not None
    path = folder / "root.pem"
    path.write_text(chains.pem(found.der))
    return path


def test_a_whole_life(client: Client, house: House) -> None:
    """Voucher, CSR, validation in the DNS, downloads, reprocess, revocation by serial."""
    name = "router.example.com"
    voucher = client.ask("POST", "/certificates", product="105", period=365)
    assert voucher["order_status"].startswith("unused")
    ref = voucher["ref"]

    domains = {name: {"dcv": "CNAME_CSR_HASH"}}
    filled = client.ask("PUT", f"/certificate/{ref}", csr=client.csr(name), domains=domains)
    assert filled["order_status"] == "waiting on validation from customer"
    ways = client.ask("GET", f"/certificate/{ref}/validations/methods")
    record = ways["dcv_methods"][name]["cname_csr_hash"]
    client.publish(record["name"], record["value"])
    client.ask("POST", f"/certificate/{ref}/retry_domain_validation")
    issued = client.until_issued(ref)
    assert issued["validations"][name]["status"] == "satisfied"
    assert set(issued["subject_alternative_names"]) == {name, f"*.{name}"}
    first = issued["serial"]

    leaf, bundle = _unzipped(client, ref)
    verified = client.openssl("verify", "-CAfile", client.root, "-untrusted", bundle, leaf)
    assert verified.strip().endswith("OK")
    wanted = {"response_type": "pkcs7", "response_encoding": "binary"}
    p7 = client.save("chain.p7b", client.curl("GET", f"/certificate/{ref}", **wanted))
    read = client.openssl("pkcs7", "-inform", "DER", "-in", p7, "-print_certs")
    assert read.count("BEGIN CERTIFICATE") == 2
    old = client.save("old.pem", leaf.read_bytes())
    assert client.revoked(old, bundle) == (False, False)

    again = client.ask("PUT", f"/certificate/{ref}", csr=client.csr(name))
    assert again["order_status"] == "issued"  # the domain is proved: nothing to do again
    assert len(client.ask("GET", f"/certificate/{ref}")["serials"]) == 2
    leaf, bundle = _unzipped(client, ref)
    assert leaf.read_bytes() != old.read_bytes()
    ended = client.ask("DELETE", f"/certificate/{ref}", reason="superseded", serials=[first])
    assert ended["order_status"] == "issued"
    assert client.revoked(old, bundle) == (True, True)
    assert client.revoked(leaf, bundle) == (False, False)
    log = (house.here.config.folder / "serve.log").read_text()
    assert client.account["secret_key"] not in log
    assert "Traceback" not in log


def test_the_job_looks_by_itself(client: Client) -> None:
    """A record that appears after the order is found without being asked for."""
    name = "late.example.net"
    csr = client.csr(name)
    domains = {name: {"dcv": "CNAME_CSR_HASH"}}
    order = client.ask(
        "POST", "/certificates", product="106", period=90, csr=csr, domains=domains,
        unique_value="k1",
    )  # fmt: skip
    tokens = client.ask(
        "POST", "/certificates/validations/csr_hash", csr=csr, domains=[name], unique_value="k1"
    )
    record = tokens["dcv_methods"][name]["cname_csr_hash"]
    client.publish(record["name"], record["value"])
    assert client.until_issued(order["ref"])["serial"]


def _unzipped(client: Client, ref: str) -> tuple[Path, Path]:
    wanted = {"response_type": "zip", "response_encoding": "binary"}
    packed = client.save("chain.zip", client.curl("GET", f"/certificate/{ref}", **wanted))
    subprocess.run(
        ["unzip", "-o", "-q", str(packed), "-d", str(client.folder)], timeout=20, check=True
    )
    return client.folder / "certificate.crt", client.folder / "ca_bundle.crt"
