"""ACME with clients that we did not write, and openssl as the judge of what they were given."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from .clients import Certbot, Client, Failed, Lego, PythonACME, RubyACME, Uacme, run
from .lab import Lab

pytestmark = pytest.mark.slow

Prepare = Callable[..., Client]
Judge = Callable[[Path, Lab], x509.Certificate]


@pytest.fixture
def openssl(require: Callable[..., str]) -> str:
    """The judge."""
    return require("openssl", package="openssl")


@pytest.fixture
def accepted(openssl: str, tmp_path: Path) -> Judge:
    """`accepted(chain, lab)`: the leaf, which openssl verified up to the lab's root."""

    def judge(chain: Path, lab: Lab) -> x509.Certificate:
        leaf, _ = _leaf_and_issuer(chain, tmp_path)
        said = run(
            [openssl, "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(lab.root),
             "-untrusted", str(chain), str(leaf)]
        )  # fmt: skip
        assert said == f"{leaf}: OK\n"
        return x509.load_pem_x509_certificate(leaf.read_bytes())

    return judge


@pytest.fixture
def status(openssl: str, tmp_path: Path) -> Callable[[Path, Lab], str]:
    """`status(chain, lab)`: what the responder named in the leaf says about it, signed."""

    def ask(chain: Path, lab: Lab) -> str:
        leaf, issuer = _leaf_and_issuer(chain, tmp_path)
        url = run([openssl, "x509", "-in", str(leaf), "-noout", "-ocsp_uri"]).strip()
        said = run(
            [openssl, "ocsp", "-issuer", str(issuer), "-cert", str(leaf), "-url", url,
             "-CAfile", str(lab.root)]
        )  # fmt: skip
        assert "Response verify OK" in said
        found = re.search(rf"^{re.escape(str(leaf))}: (\w+)$", said, re.MULTILINE)
        return found.group(1) if found else said

    return ask


def test_a_client_issues_renews_and_revokes_over_http(
    prepare: Prepare, open_lab: Lab, tmp_path: Path, accepted: Judge, status: Callable[..., str]
) -> None:
    """A certificate is issued, replaced by another one, and after revocation OCSP says so."""
    client = prepare(open_lab)
    name = _name(client, "life")

    first = accepted(client.issue((name,)), open_lab)
    chain = client.renew(name)
    second = accepted(chain, open_lab)
    kept = Path(shutil.copy(chain, tmp_path / "kept.pem"))  # a client may move what it revoked

    assert _names(first) == _names(second) == [name]
    assert isinstance(first.public_key(), ec.EllipticCurvePublicKey)
    assert first.serial_number != second.serial_number
    assert status(kept, open_lab) == "good"

    client.revoke(name)

    assert status(kept, open_lab) == "revoked"


def test_a_client_brings_an_rsa_key(prepare: Prepare, open_lab: Lab, accepted: Judge) -> None:
    """An RSA key of 2048 bits is certified as well as one on P-256."""
    client = prepare(open_lab)
    name = _name(client, "rsa")

    key = accepted(client.issue((name,), key="rsa"), open_lab).public_key()

    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 2048


def test_a_client_gets_a_wildcard_over_dns(
    prepare: Prepare, open_lab: Lab, accepted: Judge
) -> None:
    """A name and its wildcard, two authorizations under one TXT name, become one certificate."""
    client = prepare(open_lab)
    name = _name(client, "wild")

    leaf = accepted(client.issue((name, f"*.{name}"), "dns-01"), open_lab)

    assert _names(leaf) == sorted((name, f"*.{name}"))


def test_a_client_without_the_binding_is_turned_away(prepare: Prepare, closed_lab: Lab) -> None:
    """Where a binding is required, a client without one gets no account, and is told why."""
    client = prepare(closed_lab)

    with pytest.raises(Failed, match=r"(?i)external.?(account|credentials)|\bEAB\b"):
        client.issue((_name(client, "unbound"),))


def test_a_client_with_the_binding_is_served(
    prepare: Prepare, closed_lab: Lab, accepted: Judge
) -> None:
    """The key id and the key that the lab printed buy an account, and that a certificate."""
    client = prepare(closed_lab, bound=True)
    name = _name(client, "bound")

    assert _names(accepted(client.issue((name,)), closed_lab)) == [name]


def test_lego_proves_a_name_over_tls(
    lego: Callable[..., Lego], open_lab: Lab, accepted: Judge
) -> None:
    """tls-alpn-01 is answered by lego's own TLS server (RFC 8737)."""
    client = lego(open_lab)

    leaf = accepted(client.issue(("tls.lego.lab.test",), "tls-alpn-01"), open_lab)

    assert _names(leaf) == ["tls.lego.lab.test"]


def test_ruby_writes_another_version_into_its_request(
    ruby_acme: Callable[..., RubyACME],
    open_lab: Lab,
    accepted: Judge,
    status: Callable[[Path, Lab], str],
) -> None:
    """Its CSRs say version 3, which PKCS#10 does not have; wildcard, RSA and revocation beside."""
    client = ruby_acme(open_lab)
    chain = client.issue(("ruby.lab.test", "*.ruby.lab.test"), "dns-01", "rsa")

    assert _names(accepted(chain, open_lab)) == ["*.ruby.lab.test", "ruby.lab.test"]

    client.revoke("ruby.lab.test")

    assert status(chain, open_lab) == "revoked"


@pytest.mark.parametrize("program", ["uacme", "python_acme", "ruby_acme"])
def test_a_client_rolls_its_account_key(
    program: str,
    request: pytest.FixtureRequest,
    open_lab: Lab,
    tmp_path: Path,
    accepted: Judge,
) -> None:
    """After a rollover the new key is the account, and the old key is nobody (RFC 8555 7.3.5)."""
    client: Uacme | PythonACME | RubyACME = request.getfixturevalue(program)(open_lab)
    name = _name(client, "rolled")
    client.issue((name,))
    old = Path(shutil.copy(client.account_key, tmp_path / "old.pem"))

    client.roll_key()

    is_same = client.account_key.read_bytes() == old.read_bytes()
    assert not is_same  # and no key in a report
    assert _names(accepted(client.renew(name), open_lab)) == [name]

    shutil.copy(old, client.account_key)

    with pytest.raises(Failed, match=r"no account associated|[aA]ccountDoesNotExist"):
        client.renew(name)


@pytest.mark.parametrize("kinds", [("rsa", "ecdsa"), ("ecdsa", "rsa")])
def test_an_account_changes_the_kind_of_its_key(
    kinds: tuple[Literal["rsa", "ecdsa"], Literal["rsa", "ecdsa"]],
    python_acme: Callable[..., PythonACME],
    open_lab: Lab,
    accepted: Judge,
) -> None:
    """From RSA to P-256 and back: the two signatures of a rollover may be of different kinds."""
    client, (before, after) = python_acme(open_lab), kinds
    name = f"{before}-to-{after}.python.lab.test"
    client.issue((name,), key=before)

    client.roll_key(after)

    assert _names(accepted(client.renew(name), open_lab)) == [name]


@pytest.mark.parametrize("program", ["certbot", "uacme"])
def test_the_key_of_a_certificate_revokes_it(
    program: str,
    request: pytest.FixtureRequest,
    open_lab: Lab,
    tmp_path: Path,
    status: Callable[..., str],
) -> None:
    """Whoever holds a certificate's private key may revoke it, with no account at all."""
    client: Certbot | Uacme = request.getfixturevalue(program)(open_lab)
    name = f"leaked.{program}.lab.test"
    chain = client.issue((name,))
    key = {
        "certbot": chain.with_name("privkey.pem"),
        "uacme": tmp_path / "uacme/private" / name / "key.pem",
    }[program]
    kept = Path(shutil.copy(chain, tmp_path / "kept.pem"))
    found = Path(shutil.copy(key, tmp_path / "found.pem"))
    alone, _ = _leaf_and_issuer(kept, tmp_path)
    shutil.rmtree(tmp_path / program)

    client.revoke_with_key(Path(shutil.copy(alone, tmp_path / "alone.pem")), found)

    assert status(kept, open_lab) == "revoked"


def _name(client: Client, label: str) -> str:
    return f"{label}.{type(client).__name__.lower()}.lab.test"


def _names(leaf: x509.Certificate) -> list[str]:
    extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return sorted(extension.value.get_values_for_type(x509.DNSName))


def _leaf_and_issuer(chain: Path, folder: Path) -> tuple[Path, Path]:
    """The first two certificates of a chain, each in a file of its own."""
    both = x509.load_pem_x509_certificates(chain.read_bytes())[:2]
    paths = (folder / "leaf.pem", folder / "issuer.pem")
    for path, certificate in zip(paths, both, strict=True):
        path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return paths
