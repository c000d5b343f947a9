"""The commands behind the question who asks, as an operator types them."""

import csv
import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.attestation.makers import Maker

from certmint.app import config, wiring
from certmint.app.cli import root
from certmint.app.cli.common import Failing
from certmint.enrolment import asking, devices, renewal
from certmint.model.csr import parse_csr
from certmint.model.errors import Pending, Refused
from certmint.registry import reads

Run = Callable[..., tuple[object, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small maker with a minted batch of two routers."""
    folder = tmp_path_factory.mktemp("who") / "pki"
    manifest = folder.parent / "manifest.csv"
    manifest.write_text("serial,attestation_id\nR1,yubikey-serial:4711\nR2,\n")
    for words in (
        ("init", str(folder)),
        ("manufacturer", "add", "acme", "--subject", "C=US, O=Acme"),
        ("authority", "root", "root"),
        ("authority", "issuing", "tls", "--parent", "root"),
        ("authority", "root", "id-root", "--identity"),
        ("authority", "issuing", "id", "--parent", "id-root", "--identity"),
        ("domain", "add", "lan", "--assert"),
        ("product", "add", "router", "--identity-authority", "id", "--service-authority", "tls",
         "--name-pattern", "{id}.lan", "--accept", "strict", "--accept", "first: attestation",
         "--grace", "30d"),
        ("batch", "mint", str(manifest), "--product", "router", "--plain-keys",
         "--out", str(folder.parent / "packages")),
    ):  # fmt: skip
        config = () if words[0] == "init" else ("--config", str(folder / "certmint.toml"))
        assert ends(*words, *config) == 0, words
    return folder


def ends(*words: str) -> object:
    before, sys.argv = sys.argv, ["certmint", *words]
    try:
        with pytest.raises(SystemExit) as end:
            Failing(root).run()
    finally:
        sys.argv = before
    return end.value.code


@pytest.fixture
def certmint(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: its exit code, and everything that it said."""

    def run(*words: str) -> tuple[object, str]:
        code = ends(*words, "--config", str(folder / "certmint.toml"))
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_a_product_s_policy(certmint: Run) -> None:
    """Said when the product is added, shown, and changed line by line."""
    shown = json.loads(certmint("product", "list", "--json")[1])
    assert shown["accepts"][:2] == [
        "first: attestation",
        "renewing: identity-certificate | attestation | service-certificate",
    ]
    assert shown["grace_days"] == 30
    changed = json.loads(certmint("product", "accept", "router", "expired: nobody", "--json")[1])
    assert changed["accepts"][2] == "expired: nobody"
    assert changed["accepts"][:2] == shown["accepts"][:2]
    assert changed["grace_days"] == 30
    code, said = certmint("product", "accept", "router", "expired: magic")
    assert (code, said.count("\n")) == (2, 1)
    assert "[acceptance-syntax]" in said


def test_labels(certmint: Run, folder: Path) -> None:
    """A file for the printer that nobody else may read, and is never overwritten."""
    _, listed = certmint("batch", "list", "--json")
    batch, out = json.loads(listed)["id"], folder.parent / "labels.csv"
    assert certmint("device", "labels", "--batch", batch, "--out", str(out))[0] == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["serial"] for row in rows] == ["R1", "R2"]
    assert {len(row["enrolment_secret"]) for row in rows} == {17}
    assert {len(row["claim_code"]) for row in rows} == {14}
    code, said = certmint("device", "labels", "--batch", batch, "--out", str(out))
    assert (code, "[file-unwritable]" in said) == (2, True)
    one = json.loads(certmint("device", "secret", "R2", "--json")[1])
    assert one["enrolment_secret"] != rows[1]["enrolment_secret"]


def test_hardware(certmint: Run, folder: Path) -> None:
    """From the manifest, or typed; and the root that vouches for it."""
    shown = json.loads(certmint("device", "show", "R1", "--json")[1])
    assert shown["hardware"] == ["yubikey-serial:4711"]
    assert certmint("device", "expect", "R2", "tpm-ek:" + "AB" * 32)[0] == 0
    assert certmint("device", "expect", "R2", "yubikey-serial:4711")[0] == 5
    maker = Maker(key=ec.generate_private_key(ec.SECP256R1()))
    pem = x509.load_der_x509_certificate(maker.certificate).public_bytes(serialization.Encoding.PEM)
    roots = folder.parent / "roots.pem"
    roots.write_bytes(pem)
    trust = ("product", "trust-attestation", "router", "--format", "step", "--root", str(roots))
    assert certmint(*trust)[0] == 0
    assert certmint(*trust)[0] == 5
    assert certmint(*trust[:4], "magic", *trust[5:])[0] == 2


def test_a_device_changes_hands(certmint: Run, folder: Path) -> None:
    """Claimed and released by an operator; shown with where its ownership stands."""
    password = folder.parent / "password"
    password.write_text("a good long password")
    certmint("owner", "add", "jo", "--password-file", str(password))
    assert certmint("device", "claim", "R1", "jo")[0] == 0
    assert json.loads(certmint("device", "show", "R1", "--json")[1])["ownership"] == "owned"
    assert certmint("device", "release", "R1")[0] == 0
    assert certmint("device", "release", "R1")[0] == 5


def test_a_clone_is_seen(certmint: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the list of suspended devices, and by the doctor, until it is resumed."""
    here = wiring.open_installation(config.load(folder / "certmint.toml"))
    with here.db.read() as tx:
        tenant = reads.manufacturer_by_slug(tx, "acme")
    assert tenant is not None
    found = devices.view_by_serial_number(here.db, tenant.id, "R2").device
    why = Refused("device-cloned", "two devices show one identity")
    devices.quarantine(here.db, found, why, "192.0.2.1", here.clock())
    here.close()
    capsys.readouterr()  # the alert
    listed = json.loads(certmint("device", "list", "--state", "suspended", "--json")[1])
    assert (listed["serial"], listed["suspended_for"]) == ("R2", "cloned")
    assert "1 suspended as cloned, such as acme/R2" in certmint("doctor")[1]
    assert certmint("device", "resume", "R2")[0] == 0
    assert "no identity was seen in two places" in certmint("doctor")[1]


def test_requests_of_devices(certmint: Run, folder: Path) -> None:
    """An operator lists, rejects and approves what a device asked for; then it is done."""
    code, said = certmint("product", "accept", "router", "--approve", "sometimes")
    assert (code, said.count("\n")) == (2, 1)
    shown = json.loads(certmint("product", "accept", "router", "--approve", "always", "--json")[1])
    assert shown["approval"] == ["expired", "first", "re-imaged", "renewing"]
    assert certmint("device", "requests") == (0, "no requests\n")
    with pytest.raises(Pending):
        by_identity(folder, "R2", KEY)
    code, said = certmint("device", "requests", "--json")
    (asked,) = map(json.loads, said.splitlines())
    assert (asked["serial"], asked["wish"], asked["state"]) == ("R2", "certificate", "pending")
    assert asked["shown"] == ["holds-certificate"]
    assert "R2" in certmint("device", "requests")[1]
    assert json.loads(certmint("device", "reject", asked["request"], "--json")[1])["state"] == (
        "rejected"
    )
    with pytest.raises(Refused):
        by_identity(folder, "R2", KEY)
    assert certmint("device", "approve", asked["request"])[0] == 0
    assert by_identity(folder, "R2", KEY)
    code, said = certmint("device", "approve", asked["request"])
    assert (code, said.count("\n")) == (5, 1)
    assert "request is done: it cannot be approved" in said
    assert certmint("device", "approve", "req_0")[0] == 4
    assert certmint("product", "accept", "router", "--approve", "none")[0] == 0


KEY = ec.generate_private_key(ec.SECP256R1())


def by_identity(folder: Path, serial: str, key: ec.EllipticCurvePrivateKey) -> str:
    """A device asks for a certificate, as the doors would for it; its serial number."""
    here = wiring.open_installation(config.load(folder / "certmint.toml"))
    try:
        pem = (folder.parent / "packages" / serial / "identity.pem").read_bytes()
        shown = x509.load_pem_x509_certificate(pem)
        caller = asking.admit(
            here.db, asking.Shown(shown.public_bytes(serialization.Encoding.DER)), b"", here.clock()
        )
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        request = builder.sign(key, hashes.SHA256())
        csr = parse_csr(request.public_bytes(serialization.Encoding.DER))
        target = asking.target_of(here.db, caller)
        found = renewal.renew(here.db, here.gate, target, csr, caller.asker, here.clock())
        return found.certificate.serial
    finally:
        here.close()


def test_a_profile_s_next_version(certmint: Run) -> None:
    """What it accepts more, and plain delivery; what it says already makes no version."""
    words = (
        "profile",
        "change",
        "service",
        "--accept",
        "enrolment-secret with owner-login",
        "--json",
    )
    changed = json.loads(certmint(*words)[1])
    assert changed["version"] == 2
    assert "enrolment-secret with owner-login" in changed["accepts"]
    code, said = certmint(*words)
    assert (code, said.count("\n")) == (2, 1)
    assert "changes nothing" in said
    assert json.loads(certmint("profile", "change", "service", "--plain-delivery", "--json")[1])[
        "plain_delivery"
    ]
    code, said = certmint("profile", "change", "service-public", "--plain-delivery")
    assert (code, said.count("\n")) == (2, 1)
    assert "it has no keys made for devices" in said
    code, said = certmint("profile", "change", "service", "--accept", "charm")
    assert (code, said.count("\n")) == (2, 1)
    assert certmint("profile", "change", "service", "--no-plain-delivery")[0] == 0


def test_a_device_s_transport_key(certmint: Run, folder: Path) -> None:
    """Into a file for its eyes only, never to the terminal, and with a line in the audit log."""
    out = folder.parent / "r1.transport"
    code, said = certmint("device", "transport-key", "R1", "--out", str(out))
    assert code == 0
    lines = dict(line.split("=") for line in out.read_text().splitlines())
    assert bytes.fromhex(lines["secretkeyid"]) == b"R1"
    assert len(bytes.fromhex(lines["secretkey"])) == 32
    assert lines["secretkey"] not in said
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "device.transport-key-read" in certmint("audit", "list", "--limit", "1000")[1]
    assert certmint("device", "transport-key", "R1", "--out", str(out))[0] == 2
