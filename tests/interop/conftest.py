"""What the interop tests share: two labs, one that requires a binding, and six clients."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .clients import (
    BUNDLE,
    Certbot,
    Client,
    Dehydrated,
    Home,
    Lego,
    PythonACME,
    RubyACME,
    Uacme,
    in_place_of_the_bundle,
)
from .lab import Lab, lab, names

Require = Callable[..., str]
Prepare = Callable[..., Client]


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the labs."""
    return tmp_path_factory.mktemp("interop")


@pytest.fixture(scope="session")
def dns(require: Require, stage: Path) -> Iterator[tuple[int, int]]:
    """The ports of a DNS server for the whole world, and of its management."""
    program = require("pebble-challtestsrv", package="pebble")
    with names(program, stage / "dns.log") as ports:
        yield ports


@pytest.fixture(scope="session")
def open_lab(stage: Path, dns: tuple[int, int]) -> Iterator[Lab]:
    """A lab where everybody may have an account."""
    with lab(stage / "open", dns, eab=False) as running:
        yield running


@pytest.fixture(scope="session")
def closed_lab(stage: Path, dns: tuple[int, int]) -> Iterator[Lab]:
    """A lab where an account needs an external account binding."""
    with lab(stage / "closed", dns, eab=True) as running:
        yield running


@pytest.fixture
def certbot(require: Require, tmp_path: Path) -> Callable[..., Certbot]:
    """`certbot(lab)`: a certbot that never ran before. `bound=True` gives it the binding."""
    program = require("certbot", package="certbot")
    return lambda lab, *, bound=False: Certbot(program, Home(tmp_path, lab, bound))


@pytest.fixture
def lego(require: Require, tmp_path: Path) -> Callable[..., Lego]:
    """`lego(lab)`: a lego that never ran before."""
    program = require("lego", package="lego")
    require("curl", package="curl")
    return lambda lab, *, bound=False: Lego(program, Home(tmp_path, lab, bound))


@pytest.fixture
def dehydrated(require: Require, tmp_path: Path) -> Callable[..., Dehydrated]:
    """`dehydrated(lab)`: a dehydrated that never ran before."""
    program = require("dehydrated", package="dehydrated")
    return lambda lab, *, bound=False: Dehydrated(program, Home(tmp_path, lab, bound))


@pytest.fixture
def uacme(require: Require, tmp_path: Path) -> Callable[..., Uacme]:
    """`uacme(lab)`: an uacme that never ran before."""
    program = require("uacme", package="uacme")
    require("curl", package="curl")
    require(BUNDLE, package="ca-certificates")
    trial = in_place_of_the_bundle(Path(BUNDLE), ["true"])
    if subprocess.run(trial, capture_output=True, check=False).returncode != 0:
        pytest.skip("uacme trusts the system's roots only, and no mount namespace is allowed here")
    return lambda lab, *, bound=False: Uacme(program, Home(tmp_path, lab, bound))


@pytest.fixture
def python_acme(require: Require, tmp_path: Path) -> Callable[..., PythonACME]:
    """`python_acme(lab)`: a client over python's `acme` library that never ran before."""
    require("/usr/lib/python3/dist-packages/acme/client.py", package="python3-acme")
    program = require("/usr/bin/python3", package="python3")
    return lambda lab, *, bound=False: PythonACME(program, Home(tmp_path, lab, bound))


@pytest.fixture
def ruby_acme(require: Require, tmp_path: Path) -> Callable[..., RubyACME]:
    """`ruby_acme(lab)`: a client over ruby's `acme-client` that never ran before."""
    require("/usr/share/doc/ruby-acme-client", package="ruby-acme-client")
    program = require("/usr/bin/ruby", package="ruby-acme-client")
    return lambda lab: RubyACME(program, Home(tmp_path, lab, bound=False))


@pytest.fixture(params=["certbot", "lego", "dehydrated", "uacme", "python_acme"])
def prepare(request: pytest.FixtureRequest) -> Prepare:
    """Each of the clients in turn, but for ruby's, which knows no binding."""
    chosen: Prepare = request.getfixturevalue(request.param)
    return chosen
