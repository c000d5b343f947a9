"""The stage of the story: the maker's DNS, installation and server; routers; two browsers."""

import datetime as dt
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from .browser import Browser, person
from .lan import Router, flash, switched_on
from .maker import Maker, program
from .nameservers import Knot, ask, knot, unbound
from .processes import free_port, listens, running

Require = Callable[..., str]

LONG_AGO = dt.timedelta(days=121)  # when the maker set up its CA
SUMMER = dt.timedelta(days=120)  # when the first batch was made: 90 days are over since
LAN = "127.0.0.1"
SHARED = "router.example.com"


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of everything that the story keeps."""
    return tmp_path_factory.mktemp("story")


@pytest.fixture(scope="session")
def dns(require: Require, stage: Path) -> Iterator[Knot]:
    """The maker's authoritative server, with a signed example.com."""
    folder = stage / "knot"
    folder.mkdir()
    with knot(require("knotd", package="knot"), folder) as running_knot:
        yield running_knot


@pytest.fixture(scope="session")
def resolver(require: Require, stage: Path, dns: Knot) -> Iterator[int]:
    """The port of a resolver that validates example.com."""
    folder = stage / "unbound"
    folder.mkdir()
    with unbound(require("unbound", package="unbound"), folder, dns.port, dns.ds) as port:
        yield port


@pytest.fixture(scope="session")
def maker(require: Require, stage: Path, dns: Knot, resolver: int) -> Maker:
    """A maker that proved example.com and set up its CA 121 days ago, by the command line."""
    maker = Maker(stage, require("faketime", package="faketime"))
    maker.certmint(
        "init", str(maker.home), "--https", f"127.0.0.1:{free_port()}",
        "--http", f"127.0.0.1:{free_port()}", "--resolver", f"127.0.0.1:{resolver}",
        ago=LONG_AGO,
    )  # fmt: skip
    maker.certmint(
        "manufacturer", "add", "example", "--subject", "C=US, O=Example Router Inc", ago=LONG_AGO
    )
    attempt = maker.ask("domain", "add", "example.com", ago=LONG_AGO)["id"]
    # TSIG signs the time, and Knot lives in the present (RFC 8945 5.2.3).
    maker.certmint(
        "domain", "publish", attempt, "--server", dns.address, "--tsig-file", str(dns.tsig_file)
    )
    maker.certmint("domain", "verify", attempt, ago=LONG_AGO)
    for words in (
        "root maker-root", "issuing maker-issuing --parent maker-root",
        "root identity-root --identity",
        "issuing identity-ca --identity --parent identity-root",
        "subordinate tls-a --parent maker-issuing --domain example.com --kind tc-tls-7.1.2.5",
        "subordinate tls-b --parent maker-issuing --domain example.com --kind tls-7.1.2.6-named",
    ):  # fmt: skip
        maker.certmint("authority", *words.split(), ago=LONG_AGO)
    for product, subca, names in (
        ("router", "tls-a", ("--name-pattern", "{id}.dev.example.com", "--shared-name", SHARED)),
        ("gateway", "tls-b", ("--name-pattern", "{id}.gw.example.com")),
    ):
        maker.certmint(
            "product", "add", product, "--identity-authority", "identity-ca",
            "--service-authority", subca, *names, ago=LONG_AGO,
        )  # fmt: skip
    return maker


@pytest.fixture(scope="session")
def root(maker: Maker) -> Path:
    """The maker's root, as its customers import it."""
    path = maker.folder / "maker-root.pem"
    maker.certmint("authority", "show", "maker-root", "--out", str(path))
    return path


@pytest.fixture(scope="session")
def packages(maker: Maker) -> Mapping[str, Path]:
    """Factory packages by serial number: of last summer (W…), of today (R…, G…)."""
    made = (
        maker.mint("router", "W000001", "W000002", ago=SUMMER),
        maker.mint("router", "R000001", "R000002", "R000003"),
        maker.mint("gateway", "G000001"),
    )
    return {each.name: each for out in made for each in out.iterdir() if each.name[0] in "WRG"}


@pytest.fixture(scope="session")
def server(maker: Maker, packages: Mapping[str, Path]) -> Iterator[str]:
    """The base URL of the maker's running server."""
    settings = maker.config.read_text().splitlines()
    https = next(line for line in settings if line.startswith("https = ")).split('"')[1]
    command = [program("certmint"), "serve", "--config", str(maker.config)]
    ready = listens(int(https.rpartition(":")[2]))
    with running(command, ready, maker.folder / "server.log"):
        yield f"https://{https}"


@pytest.fixture
def boot(
    require: Require, maker: Maker, server: str, tmp_path: Path
) -> Iterator[Callable[[Path], Router]]:
    """`boot(package)`: a router that was flashed with the package and switched on."""
    openssl = require("openssl", package="openssl")
    with ExitStack() as stack:
        yield lambda package: stack.enter_context(
            switched_on(flash(openssl, package, tmp_path / package.name), server, maker.server_root)
        )


@pytest.fixture(scope="session")
def customer(require: Require, stage: Path, root: Path) -> Browser:
    """The browser of a customer who trusts the maker's root."""
    return _person(require, stage / "customer", root)


@pytest.fixture(scope="session")
def stranger(require: Require, stage: Path) -> Browser:
    """The browser of somebody who never heard of the maker."""
    return _person(require, stage / "stranger", None)


def _person(require: Require, home: Path, trusted: Path | None) -> Browser:
    certutil = require("certutil", package="libnss3-tools")
    return person(require("chromium", package="chromium"), certutil, home, trusted)


@pytest.fixture(scope="session")
def addresses(maker: Maker, dns: Knot, resolver: int) -> Callable[..., dict[str, str]]:
    """`addresses(router, *names)`: HOST:PORT for each name, the host as the DNS answers it."""
    for name in (SHARED, "dev.example.com", "gw.example.com"):
        maker.certmint(
            "domain", "dns", name, "--address", LAN, "--server", dns.address,
            "--tsig-file", str(dns.tsig_file),
        )  # fmt: skip

    def find(router: Router, *names: str) -> dict[str, str]:
        return {
            name: f"{address}:{router.port}"
            for name in names
            for address in ask(resolver, name, "A").values
        }

    return find


@pytest.fixture
def screens(tmp_path: Path) -> Path:
    """Where pictures go: a scratch folder, or docs/screens when CERTMINT_SCREENS=1."""
    if os.environ.get("CERTMINT_SCREENS") != "1":
        return tmp_path
    folder = Path(__file__).parents[2] / "docs" / "screens"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
