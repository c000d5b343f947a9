"""What a line flashes, opened by openssl; the signed result; a folder that cannot be written."""

import base64
import csv
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certmint.enrolment import chains
from certmint.enrolment.packages import Package, PackageFormat, PackageWriter
from certmint.model.errors import Unavailable
from certmint.model.profile import Purpose
from certmint.model.states import BatchState

from .house import House

OpenSSL = Callable[..., Any]
PASSPHRASE = "a passphrase for the line"
SECRETS = pytest.mark.parametrize("passphrase", [PASSPHRASE, ""], ids=["encrypted", "plain"])
NAMES = ["N1", "N2"]


@pytest.fixture
def line(house: House) -> Callable[[PackageFormat, str], Path]:
    """Mints two devices; where the packages are."""

    def mint(form: PackageFormat, passphrase: str) -> Path:
        assert house.mint(house.submit(*NAMES), "line", form, passphrase.encode()) == []
        return house.folder / "line"

    return mint


def fingerprint_of(openssl: OpenSSL, *arguments: object) -> str:
    """SHA-256 of the public half, as openssl reads it."""
    done = openssl("pkey", *arguments, "-pubout")
    assert done.returncode == 0, done.stderr
    key = serialization.load_pem_public_key(done.stdout.encode())
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()


def is_private(path: Path) -> bool:
    return path.stat().st_mode & 0o077 == 0


@SECRETS
@pytest.mark.parametrize("form", [PackageFormat.PEM, PackageFormat.DER])
def test_openssl_opens_the_key(
    house: House, line: Any, openssl: OpenSSL, form: PackageFormat, passphrase: str
) -> None:
    """The key is the certificates' key, opens with the passphrase, and not without it."""
    out = line(form, passphrase)
    for name in NAMES:
        path = out / name / f"key.{form}"
        given = ("-inform", form.upper(), "-in", path)
        held = house.held(name)
        good = fingerprint_of(openssl, *given, "-passin", f"pass:{passphrase}")
        assert {each.key_fingerprint for each in held} == {good}
        wrong = openssl("pkey", *given, "-passin", "pass:something else entirely")
        assert (wrong.returncode == 0) == (not passphrase)
        assert is_private(path)
        assert is_private(path.parent)
        for each in held:
            leaf = out / name / f"{each.purpose}.{form}"
            load = x509.load_pem_x509_certificate
            load = x509.load_der_x509_certificate if form is PackageFormat.DER else load
            assert load(leaf.read_bytes()).serial_number == int(each.serial, 16)


def test_the_pem_chain_verifies(house: House, line: Any, openssl: OpenSSL) -> None:
    """What a device serves is the leaf and the CAs above it: a client needs the root alone."""
    out = line(PackageFormat.PEM, "")
    for purpose, root in ((Purpose.IDENTITY, "identity-root"), (Purpose.SERVICE, "root")):
        anchor = house.folder / "root.pem"
        anchor.write_text(chains.pem(house.authority(root).der))
        served = out / "N1" / f"{purpose}.pem"
        done = openssl("verify", "-CAfile", anchor, "-untrusted", served, served)
        assert done.returncode == 0, done.stderr


@SECRETS
def test_openssl_opens_pkcs12(house: House, line: Any, openssl: OpenSSL, passphrase: str) -> None:
    """Each file holds its leaf, the CAs above it and the key."""
    out = line(PackageFormat.PKCS12, passphrase)
    for name in NAMES:
        for purpose in (Purpose.IDENTITY, Purpose.SERVICE):
            words = ("pkcs12", "-in", out / name / f"{purpose}.p12", "-noenc")
            done = openssl(*words, "-passin", f"pass:{passphrase}")
            assert done.returncode == 0, done.stderr
            text = done.stdout
            (leaf, *above) = x509.load_pem_x509_certificates(
                text[text.index("-----BEGIN CERT") :].encode()
            )
            assert leaf.serial_number == int(house.latest(name, purpose).serial, 16)
            assert len(above) == (1 if purpose is Purpose.IDENTITY else 2)
            key = serialization.load_pem_private_key(
                text[text.index("-----BEGIN PRIVATE") :].encode(), None
            )
            assert key.public_key() == leaf.public_key()
            if passphrase:
                assert openssl(*words, "-passin", "pass:").returncode != 0


@SECRETS
def test_jsonl_is_a_line_a_device(
    house: House, line: Any, openssl: OpenSSL, passphrase: str
) -> None:
    """One file for the whole batch, in the order of the manifest."""
    out = line(PackageFormat.JSONL, passphrase)
    assert is_private(out / "packages.jsonl")
    found = [json.loads(text) for text in (out / "packages.jsonl").read_text().splitlines()]
    assert [each["serial"] for each in found] == NAMES
    for each in found:
        key = house.folder / "key.der"
        key.write_bytes(base64.b64decode(each["key"]))
        given = ("-inform", "DER", "-in", key, "-passin", f"pass:{passphrase}")
        for purpose in (Purpose.IDENTITY, Purpose.SERVICE):
            issued = house.latest(each["serial"], purpose)
            assert base64.b64decode(each[purpose]) == issued.der
            assert fingerprint_of(openssl, *given) == issued.key_fingerprint


@pytest.mark.parametrize("form", list(PackageFormat))
def test_a_public_device_leaves_with_its_identity_alone(house: House, form: PackageFormat) -> None:
    """A public CA never knows a subscriber's key, so the device asks for itself at first boot."""
    assert house.mint(house.submit("N1", product="public"), form=form) == []
    assert [each.purpose for each in house.held("N1")] == [Purpose.IDENTITY]
    assert not list((house.folder / "line").glob("N1/service*"))


@pytest.fixture
def signed(house: House, line: Any, openssl: OpenSSL) -> Callable[[Path], Any]:
    """Verifies a result file with the signature that the batch wrote."""
    out = line(PackageFormat.PEM, "")
    root = house.folder / "identity-root.pem"
    root.write_text(chains.pem(house.authority("identity-root").der))
    return lambda path: openssl(
        "cms", "-verify", "-binary", "-inform", "DER", "-in", out / "result.csv.p7s",
        "-CAfile", root, "-purpose", "any", "-content", path, "-out", os.devnull,
    )  # fmt: skip


def test_the_result_is_signed(house: House, signed: Any) -> None:
    """The result names every device and its certificates; openssl accepts its signature."""
    result = house.folder / "line" / "result.csv"
    done = signed(result)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(result.read_text().splitlines()))
    assert [row["serial"] for row in rows] == NAMES
    for row in rows:
        assert row["identity_serial"] == house.latest(row["serial"], Purpose.IDENTITY).serial
        assert row["service_serial"] == house.latest(row["serial"], Purpose.SERVICE).serial
        assert row["state"] == "provisioned"


def test_a_changed_result_is_not_accepted(house: House, signed: Any) -> None:
    """One changed letter breaks the signature."""
    changed = house.folder / "changed.csv"
    changed.write_bytes((house.folder / "line" / "result.csv").read_bytes().replace(b"N2", b"N3"))
    assert signed(changed).returncode != 0


def test_writing_a_package_again_replaces_it_whole(tmp_path: Path) -> None:
    """What two crashed runs left beside a package does not stop the third, and is swept away."""
    writer = PackageWriter(tmp_path, PackageFormat.DER, [], [], bytes, None)
    package = Package("N1", b"key", b"identity", b"")
    writer.write([package])
    for kind in ("draft", "spent"):
        (tmp_path / f".N1.{kind}").mkdir()
        (tmp_path / f".N1.{kind}" / "half").touch()
    writer.write([Package("N1", b"new key", b"identity", b"")], again=True)
    assert [path.name for path in tmp_path.iterdir()] == ["N1"]
    assert (tmp_path / "N1" / "key.der").read_bytes() == b"new key"


# A full disk. A limit on the size of files stops the same writes with the same kind of error, and
# needs no privilege; where we may mount, a small tmpfs does it for real.


@pytest.fixture
def size_limit() -> Iterator[Callable[[int], None]]:
    """Limits how large a file this process may write; SIGXFSZ becomes an error as ENOSPC is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.postgres
@pytest.mark.parametrize("form", [PackageFormat.PEM, PackageFormat.JSONL])
def test_a_package_that_cannot_be_written(
    postgresql_house: House, size_limit: Any, form: PackageFormat
) -> None:
    """One clear sentence, nothing half-written; and with space again the batch goes on."""
    house, out = postgresql_house, postgresql_house.folder / "line"
    names = [f"N{number}" for number in range(8)]
    batch = house.submit(*names)
    with pytest.raises(Unavailable) as refusal:
        house.mint(batch, form=form, progress=lambda _: size_limit(100))
    assert refusal.value.code == "package-folder"
    assert str(out) in refusal.value.detail
    size_limit(-1)
    assert [path.name for path in out.iterdir()] == [".spool"]
    assert house.mint(batch, form=form) == []
    for name in names:
        assert len(house.held(name)) == 2
    assert house.batch(batch).state is BatchState.FINISHED


@pytest.mark.postgres
def test_a_line_that_cannot_be_written_whole_is_taken_back(
    postgresql_house: House, size_limit: Any
) -> None:
    """A file that ran full in the middle of a line ends with the line before."""
    house, out = postgresql_house, postgresql_house.folder / "line"
    batch = house.submit(*(f"N{number}" for number in range(8)))

    def run_full(_: Any) -> None:
        size_limit(3_000)

    house.reached = run_full
    with pytest.raises(Unavailable):
        house.mint(batch, form=PackageFormat.JSONL)
    size_limit(-1)
    house.reached = lambda _: None
    assert (out / "packages.jsonl").read_bytes() == b""
    assert house.mint(batch, form=PackageFormat.JSONL) == []
    lines = (out / "packages.jsonl").read_text().splitlines()
    assert len({json.loads(line)["serial"] for line in lines}) == len(lines) == 8


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_folder_that_is_none(house: House, out: str) -> None:
    """Packages cannot go into a file, and that is one sentence too."""
    (house.folder / "file").touch()
    with pytest.raises(Unavailable) as refusal:
        house.mint(house.submit("N1"), out)
    assert refusal.value.code == "package-folder"


def test_a_full_disk(house: House) -> None:
    """On a full file system what was written is whole; with more space the rest follows."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("mounting a small tmpfs needs root and unshare (package util-linux)")
    out = house.folder / "tiny"
    out.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(out)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip("this machine does not let us mount a tmpfs")
    names = [f"N{number:02}" for number in range(30)]
    batch = house.submit(*names)
    try:
        with pytest.raises(Unavailable) as refusal:
            house.mint(batch, out)
        assert refusal.value.code == "package-folder"
        for path in out.iterdir():
            if path.is_dir() and not path.name.startswith("."):
                assert len(list(path.iterdir())) == 3
        subprocess.run(["mount", "-o", "remount,size=4m", str(out)], check=True)
        assert house.mint(batch, out) == []
        assert {path.name for path in out.iterdir() if path.name[0] == "N"} == set(names)
    finally:
        subprocess.run(["umount", str(out)], check=True)
