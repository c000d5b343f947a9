"""The router story on real parts: Knot, Unbound, certmint's command line and server, Chromium."""

import datetime as dt
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography import x509

from .browser import Browser, Seen, look
from .lan import Router
from .maker import Maker
from .nameservers import KEY_NAME, Knot, ask, unbound, write_tsig
from .relying import crl_and_ocsp, forged_package, request_certificate

pytestmark = pytest.mark.slow

Addresses = Callable[..., dict[str, str]]
Boot = Callable[[Path], Router]
Packages = Mapping[str, Path]

PAGE = "Your router is up"
WARNING = "Your connection is not private"
SHORT = dt.timedelta(seconds=40)  # enough for a mint, a boot and a first look on a busy machine


def test_name_and_wildcard_lead_to_the_router(maker: Maker, dns: Knot, resolver: int) -> None:
    """`certmint domain dns` ties a name and every name below it to an address, under DNSSEC."""
    maker.certmint(
        "domain", "dns", "lab.example.com", "--address", "192.168.1.1", "--server", dns.address,
        "--tsig-file", str(dns.tsig_file),
    )  # fmt: skip

    for name in ("lab.example.com", "r000001.lab.example.com"):
        answer = ask(resolver, name, "A")
        assert (answer.values, answer.authenticated) == (["192.168.1.1"], True)


@pytest.mark.parametrize("name", [KEY_NAME, "nobodys-key"])
def test_wrong_tsig_key_changes_nothing(maker: Maker, dns: Knot, tmp_path: Path, name: str) -> None:
    """Knot refuses an update under another secret or key; certmint says so in one sentence."""
    wrong = write_tsig(tmp_path / "wrong.tsig", name, "d3Jvbmcg" * 5 + "d3Jv")

    done = maker.certmint(
        "domain", "dns", "stolen.example.com", "--address", "192.168.1.1", "--server", dns.address,
        "--tsig-file", str(wrong), check=False,
    )  # fmt: skip

    assert done.returncode == 3
    assert "[dns-update-refused]" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "d3Jvbmc" not in done.stderr
    assert ask(dns.port, "stolen.example.com", "A").rcode == "NXDOMAIN"


@pytest.mark.parametrize(("method", "kind"), [("dns-txt", "TXT"), ("dns-cname", "CNAME")])
def test_control_of_a_domain_is_proved_in_the_dns(
    maker: Maker, dns: Knot, method: str, kind: str
) -> None:
    """Refused before the record is published; after it, what DNSSEC vouches for is kept."""
    attempt = maker.ask("domain", "add", "example.com", "--method", method)
    early = maker.certmint("domain", "verify", attempt["id"], check=False)
    maker.certmint(
        "domain", "publish", attempt["id"], "--server", dns.address,
        "--tsig-file", str(dns.tsig_file),
    )  # fmt: skip

    evidence = maker.ask("domain", "verify", attempt["id"])["evidence"]

    assert early.returncode == 3
    assert "[validation-not-found]" in early.stderr
    assert evidence["type"] == kind
    assert evidence["dnssec"] == "authenticated"
    assert evidence["values"][0].strip('"') in attempt["record"]


def test_bogus_zone_proves_nothing(
    require: Callable[..., str], maker: Maker, dns: Knot, tmp_path: Path
) -> None:
    """The record is there, but a resolver that cannot validate the zone makes no evidence."""
    attempt = maker.ask("domain", "add", "example.com")["id"]
    maker.certmint(
        "domain", "publish", attempt, "--server", dns.address, "--tsig-file", str(dns.tsig_file)
    )
    other_zone = dns.ds[:-8] + ("0" * 8 if dns.ds[-8:] != "0" * 8 else "1" * 8)
    deaf = maker.home / "bogus.toml"

    program = require("unbound", package="unbound")
    with unbound(program, tmp_path, dns.port, other_zone) as port:
        lines = maker.config.read_text().splitlines()
        deaf.write_text(
            "\n".join(
                f'resolvers = ["127.0.0.1:{port}"]' if line.startswith("resolvers") else line
                for line in lines
            )
        )
        done = maker.certmint("domain", "verify", attempt, "--config", str(deaf), check=False)

    assert done.returncode == 6
    assert "[dns-failed]" in done.stderr
    assert "SERVFAIL" in done.stderr


def test_name_outside_the_domain_is_refused(
    require: Callable[..., str], maker: Maker, tmp_path: Path
) -> None:
    """Not even the maker's operator gets a certificate for somebody else's name."""
    csr, out = tmp_path / "csr.pem", tmp_path / "chain.pem"
    request_certificate(require("openssl", package="openssl"), csr, tmp_path / "key.pem")

    done = maker.certmint(
        "certificate", "issue", "--authority", "tls-a", "--name", "gateway.example.net",
        "--csr", str(csr), "--out", str(out), check=False,
    )  # fmt: skip

    assert done.returncode == 3
    assert "[name-outside-constraints]" in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("serial", "name", "issuer"),
    [
        ("R000001", "router.example.com", "tls-a"),
        ("R000001", "r000001.dev.example.com", "tls-a"),
        ("G000001", "g000001.gw.example.com", "tls-b"),
    ],
)
def test_page_opens_without_a_warning(
    packages: Packages, boot: Boot, customer: Browser, addresses: Addresses, screens: Path,
    serial: str, name: str, issuer: str,
) -> None:  # fmt: skip
    """The customer sees the router's page, under both names and from both kinds of SubCA."""
    router = boot(packages[serial])
    with customer.window(addresses(router, name)) as page:
        seen = look(page, f"https://{name}/")
        if name == "router.example.com":
            page.screenshot(path=screens / "router-good.png")

    assert seen == Seen("", PAGE, issuer, "TLS 1.3")


def test_page_before_expiry_after_it_and_after_renewal(
    maker: Maker, packages: Packages, boot: Boot, customer: Browser, addresses: Addresses,
    screens: Path,
) -> None:  # fmt: skip
    """A router that was made just short of a certificate's life ago dies, and comes back."""
    remaining = _issued_with(maker, packages["W000001"])
    (package,) = maker.mint("router", "E000001", ago=remaining - SHORT).glob("E*")
    router, url = boot(package), "https://e000001.dev.example.com/"
    lan = addresses(router, "e000001.dev.example.com")

    with customer.window(lan) as page:
        before = look(page, url)
    _sleep_until(router.certificate.not_valid_after_utc + dt.timedelta(seconds=2))
    # A new window: a running Chromium keeps its verdict on a chain for a while.
    with customer.window(lan) as page:
        expired = look(page, url)
        page.screenshot(path=screens / "router-expired.png")
        enrolled = router.agent("enrol")
        after = look(page, url)

    assert (before.error, before.heading) == ("", PAGE)
    assert (expired.error, expired.heading) == ("ERR_CERT_DATE_INVALID", WARNING)
    assert enrolled.returncode == 0, enrolled.stderr
    assert (after.error, after.heading) == ("", PAGE)


def test_router_from_the_warehouse_gets_a_key_from_the_maker(
    packages: Packages, boot: Boot, customer: Browser, addresses: Addresses
) -> None:
    """Its certificate died in its box; with a key of the maker's key management the page opens."""
    router = boot(packages["W000001"])
    with customer.window(addresses(router, "router.example.com")) as page:
        boxed = look(page, "https://router.example.com/")
        enrolled = router.agent("enrol", "--key-from-server")
        opened = look(page, "https://router.example.com/")

    assert (boxed.error, boxed.heading) == ("ERR_CERT_DATE_INVALID", WARNING)
    assert enrolled.returncode == 0, enrolled.stderr
    assert (opened.error, opened.heading) == ("", PAGE)


def test_router_from_the_warehouse_is_enrolled_by_its_owner(
    maker: Maker, packages: Packages, boot: Boot, customer: Browser, addresses: Addresses,
    tmp_path: Path,
) -> None:  # fmt: skip
    """The login at the maker is enough evidence, once the owner has claimed the router."""
    router = boot(packages["W000002"])
    password = tmp_path / "password"
    password.write_text("correct horse battery")
    maker.certmint("owner", "add", "jo", "--password-file", str(password))
    router.configure_owner("example/jo", password, "router.example.com")
    unclaimed = router.agent("enrol")
    maker.certmint("device", "claim", router.serial, "jo")
    claimed = router.agent("enrol")
    with customer.window(addresses(router, "router.example.com")) as page:
        opened = look(page, "https://router.example.com/")

    assert (unclaimed.returncode, claimed.returncode) == (4, 0), claimed.stderr
    assert (opened.error, opened.heading) == ("", PAGE)


def test_renewal_is_not_noticed(
    packages: Packages, boot: Boot, customer: Browser, addresses: Addresses
) -> None:
    """The router changes its key and its certificate under the eyes of the customer."""
    router, url = boot(packages["R000001"]), "https://r000001.dev.example.com/"
    old = router.certificate
    with customer.window(addresses(router, "r000001.dev.example.com")) as page:
        before = look(page, url)
        renewed = router.agent("renew", "--force")
        after = look(page, url)

    assert renewed.returncode == 0, renewed.stderr
    assert old.serial_number != router.certificate.serial_number
    assert old.public_key() != router.certificate.public_key()
    assert before == after == Seen("", PAGE, "tls-a", "TLS 1.3")


def test_stranger_is_warned(
    packages: Packages, boot: Boot, stranger: Browser, addresses: Addresses
) -> None:
    """Without the maker's root in its store the browser shows its warning."""
    router = boot(packages["R000002"])
    with stranger.window(addresses(router, "router.example.com")) as page:
        seen = look(page, "https://router.example.com/")

    assert (seen.error, seen.heading) == ("ERR_CERT_AUTHORITY_INVALID", WARNING)


def test_router_under_the_name_of_another_is_refused(
    packages: Packages, boot: Boot, customer: Browser, addresses: Addresses
) -> None:
    """One router cannot pass for the next one, though both come from the same maker."""
    router = boot(packages["R000002"])
    with customer.window(addresses(router, "r000003.dev.example.com")) as page:
        seen = look(page, "https://r000003.dev.example.com/")

    assert (seen.error, seen.heading) == ("ERR_CERT_COMMON_NAME_INVALID", WARNING)


@pytest.mark.parametrize("subca", ["tls-a", "tls-b"])
@pytest.mark.parametrize(
    ("name", "error"), [("thief.example.com", ""), ("thief.example.net", "ERR_CERT_INVALID")]
)
def test_stolen_subca_key_opens_no_other_domain(
    require: Callable[..., str], maker: Maker, packages: Packages, boot: Boot, customer: Browser,
    tmp_path: Path, subca: str, name: str, error: str,
) -> None:  # fmt: skip
    """The browser enforces the name constraints, whoever signs with the SubCA's key."""
    openssl = require("openssl", package="openssl")
    forged = forged_package(openssl, maker, subca, packages["R000002"], name, tmp_path / "thief")
    router = boot(forged)
    with customer.window({name: f"127.0.0.1:{router.port}"}) as page:
        seen = look(page, f"https://{name}/")

    assert seen.error == error


def test_revoked_router(
    require: Callable[..., str], maker: Maker, root: Path, packages: Packages, boot: Boot,
    tmp_path: Path,
) -> None:  # fmt: skip
    """`certificate revoke` is what openssl sees in CRL and OCSP, and the device renews no more.

    The factory's identity and service certificates share a key: one compromise reaches both.
    """
    openssl = require("openssl", package="openssl")
    router = boot(packages["R000003"])
    before = crl_and_ocsp(openssl, router, root, tmp_path / "before")
    serial = f"{router.certificate.serial_number:x}"
    maker.certmint("certificate", "revoke", serial, "--reason", "key-compromise")
    after = crl_and_ocsp(openssl, router, root, tmp_path / "after")
    renewed = router.agent("renew", "--force")

    assert before == ("good", "good")
    assert after == ("revoked", "revoked")
    assert renewed.returncode == 4
    assert "evidence-revoked" in renewed.stderr


def _issued_with(maker: Maker, package: Path) -> dt.timedelta:
    """The time that a service certificate has from its issuance to its end."""
    leaf = x509.load_pem_x509_certificate((package / "service.pem").read_bytes())
    shown = maker.ask("certificate", "show", f"{leaf.serial_number:x}")
    end, issued = (dt.datetime.fromisoformat(shown[key]) for key in ("not_after", "issued_at"))
    return end - issued


def _sleep_until(moment: dt.datetime) -> None:
    time.sleep(max(0.0, (moment - dt.datetime.now(dt.UTC)).total_seconds()))
