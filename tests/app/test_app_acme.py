"""`certmint acme` as an operator types it, and the configuration of its limits."""

import datetime as dt
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.app import config
from certmint.app.cli import root
from certmint.app.cli.common import Failing
from certmint.app.jobs import Jobs
from certmint.app.wiring import acme_limits, open_installation
from certmint.enrolment.acme.limits import GENEROUS
from certmint.model.errors import Misconfigured


def run(*words: str) -> object:
    """`certmint words…` in this process: its exit code."""
    import sys

    before, sys.argv = sys.argv, ["certmint", *words]
    try:
        with pytest.raises(SystemExit) as end:
            Failing(root).run()
    finally:
        sys.argv = before
    return end.value.code


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of an installation with a manufacturer and an issuing authority."""
    folder = tmp_path_factory.mktemp("acme") / "pki"
    assert run("init", str(folder)) == 0
    path = folder / "certmint.toml"
    for words in (
        ("manufacturer", "add", "acme", "--subject", "C=US, O=Acme"),
        ("authority", "root", "acme-root"),
        ("authority", "issuing", "acme-ca", "--parent", "acme-root"),
    ):
        assert run(*words, "--config", str(path)) == 0
    return path


@pytest.fixture
def certmint(installed: Path, capsys: pytest.CaptureFixture[str]):
    """Runs a command on the installation; (exit code, stdout, stderr)."""

    def call(*words: str) -> tuple[object, str, str]:
        capsys.readouterr()
        code = run(*words, "--config", str(installed))
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def add(name: str, *options: str) -> tuple[str, ...]:
    return ("acme", "add", name, "--authority", "acme-ca", *options, "--json")


def test_a_directory_offers_what_it_is_told_to(certmint) -> None:
    """Challenges in their order; the list shows them, and the terms."""
    code, out, err = certmint(*add(
        "full", "--challenge", "dns-persist-01", "--challenge", "dns-01", "--terms",
        "https://acme.example/terms", "--website", "https://acme.example", "--caa", "ACME.example",
        "--subdomains", "--star", "1d/365d", "--star-get",
    ))  # fmt: skip
    assert (code, err) == (0, "")
    assert json.loads(out)["challenges"] == ["dns-persist-01", "dns-01"]
    assert certmint(*add("plain"))[0] == 0
    rows = map(json.loads, certmint("acme", "list", "--json")[1].splitlines())
    shown = {row["name"]: (row["challenges"], row["terms"]) for row in rows}
    assert shown["full"] == (["dns-persist-01", "dns-01"], "https://acme.example/terms")
    assert shown["plain"] == (["http-01", "dns-01", "tls-alpn-01"], "")


@pytest.mark.parametrize(
    "options",
    [
        ("--challenge", "dns-02"),
        ("--challenge", "dns-01", "--challenge", "dns-01"),
        ("--terms", "acme.example/terms"),
        ("--website", "ftp://acme.example"),
        ("--caa", "*.acme.example"),
        ("--caa", "acme_example"),
        ("--star", "1m/1d"),
        ("--star", "2d/1d"),
        ("--star", "2d"),
    ],
)
def test_an_impossible_offer_is_refused(certmint, options: tuple[str, ...]) -> None:
    """In one sentence, before anything is stored."""
    code, out, err = certmint(*add("wrong", *options))
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert "wrong" not in certmint("acme", "list", "--json")[1]


def test_terms_are_changed_and_removed(certmint) -> None:
    """The audit log keeps which."""
    assert certmint(*add("terms", "--terms", "https://acme.example/1"))[0] == 0
    for url in ("https://acme.example/2", ""):
        assert certmint("acme", "terms", "terms", url)[0] == 0
        rows = map(json.loads, certmint("acme", "list", "--json")[1].splitlines())
        assert {row["name"]: row["terms"] for row in rows}["terms"] == url
    assert certmint("acme", "terms", "terms", "nonsense")[0] == 2
    assert certmint("acme", "terms", "nowhere", "https://x.example")[0] == 4
    assert "acme-directory.terms-changed" in certmint("audit", "list", "--json")[1]


def test_accounts_are_listed_and_revoked(certmint) -> None:
    """Nobody there, and nobody to revoke."""
    code, out, _ = certmint("acme", "account", "list")
    assert (code, out.strip()) == (0, "no accounts")
    code, _, err = certmint("acme", "account", "revoke", "acc_nobody")
    assert code == 4
    assert "[account-unknown]" in err


def test_the_limits_are_the_configuration_s(installed: Path, tmp_path: Path) -> None:
    """The defaults of the file are the defaults of the code; each number has its place."""
    here = open_installation(config.load(installed))
    assert acme_limits(here) == GENEROUS
    here.close()
    numbers = {name: place for place, name in enumerate(config.ACMESection.model_fields, 7)}
    said = config.ACMESection(**numbers)
    assert [getattr(said, name) for name in numbers] == list(range(7, 7 + len(numbers)))
    for wrong in ("orders_account = 0", "orders_acount = 1", 'open_orders = "many"'):
        path = tmp_path / "certmint.toml"
        path.write_text(f"[acme]\n{wrong}\n")
        with pytest.raises(Misconfigured):
            config.load(path)


def test_the_jobs_of_acme_run(installed: Path) -> None:
    """On an installation where nothing is under way they find nothing, and fail at nothing."""
    here = open_installation(config.load(installed))
    jobs = Jobs(here, None, "test")  # type: ignore[arg-type]  # these two never touch TLS
    jobs._tidy_acme()
    jobs._renew_orders()
    here.close()


def test_an_operator_says_whose_hardware_a_directory_believes(certmint, tmp_path) -> None:
    """A CA is added, listed and removed; its SHA-256 is its name."""
    certmint(*add("hardware", "--challenge", "device-attest-01", "--eab"))
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "TPM CA")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "ca.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    words = ("acme", "anchor", "add", "hardware", "--certificate", str(file), "--format")
    code, fingerprint, _ = certmint(*words, "tpm")
    assert (code, fingerprint.strip()) == (0, made.fingerprint(hashes.SHA256()).hex())
    assert certmint(*words, "tpm")[0] == 5
    assert certmint(*words, "idevid")[0] == 2
    code, listed, _ = certmint("acme", "anchor", "list", "hardware", "--json")
    assert (code, json.loads(listed)["sha256"]) == (0, fingerprint.strip())
    assert certmint("acme", "anchor", "remove", "hardware", fingerprint.strip())[0] == 0
    assert certmint("acme", "anchor", "remove", "hardware", fingerprint.strip())[0] == 4
