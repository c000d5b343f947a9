"""A fleet of real agents against one real server: until each has renewed, with the figures.

The Python agents run in this process, in threads; each has its own folder, key and identity. The
shell agents are processes, as on devices. The server is `certmint serve` over a house of the tests.
"""

import contextlib
import datetime as dt
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from backstage import BY, House, build

from certmint.app import config as server_config
from certmint.app.servercert import ROOT_FILE
from certmint.app.wiring import utc_now
from certmint.enrolment import batches, minting
from certmint.enrolment.packages import PackageFormat
from certmint.enrolment.products import product_named
from certmint.model.manifest import parse_manifest
from certmint_agent.config import Config
from certmint_agent.errors import AgentError
from certmint_agent.renewal import Agent, renew
from certmint_agent.store import Store

from .shell import make_shell

THREADS = 8


@dataclass(frozen=True)
class Fleet:
    """A running server, and where the packages of its devices lie."""

    folder: Path
    port: int

    def settings(self, serial_number: str) -> dict[str, Path | str]:
        """How a device's agent is configured."""
        package = self.folder / "fleet" / serial_number
        return {
            "server": f"https://localhost:{self.port}",
            "ca_file": self.folder / ROOT_FILE,
            "identity_certificate": package / "identity.pem",
            "identity_key": package / "key.pem",
        }


@dataclass(frozen=True)
class Figures:
    """What a round of a fleet came to."""

    what: str
    agents: int
    failures: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        rate = (self.agents - len(self.failures)) / self.seconds
        return f"{self.what}: {self.agents} agents, {len(self.failures)} failed, {rate:.1f}/s"


@contextlib.contextmanager
def serving(folder: Path, serial_numbers: list[str]) -> Iterator[Fleet]:
    """A server that has minted these devices of the product `router`."""
    house = build(folder)
    _mint(house, folder / "fleet", serial_numbers)
    house.here.close()
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        https, http = one.getsockname()[1], two.getsockname()[1]
    path = folder / server_config.FILE_NAME
    path.write_text(server_config.example(https=f"127.0.0.1:{https}", http=f"127.0.0.1:{http}"))
    program = str(Path(sys.executable).with_name("certmint"))
    with (folder / "serve.log").open("wb") as log:
        server = subprocess.Popen([program, "serve", "--config", path], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 30
        while not _listens(https):
            assert server.poll() is None, (folder / "serve.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield Fleet(folder, https)
    finally:
        server.terminate()
        server.wait(20)


def _mint(house: House, out: Path, serial_numbers: list[str]) -> None:
    here = house.here
    lines = "\n".join(["serial", *serial_numbers]) + "\n"
    batch = batches.submit(
        here.db, house.maker, product_named(here.db, house.maker, "router"),
        parse_manifest(lines.encode()), by=BY, now=utc_now(), random_bytes=os.urandom,
    )  # fmt: skip
    minting.mint_into(
        here.db, here.gate, house.maker, batch, out, PackageFormat.PEM, b"",
        clock=utc_now, random_bytes=os.urandom, progress=lambda _: None,
    )  # fmt: skip


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def python_agents(fleet: Fleet, serial_numbers: list[str], home: Path) -> list[Figures]:
    """First certificates for all, and then a renewal of each."""

    def agent(serial_number: str) -> Agent:
        folder = home / serial_number
        settings = fleet.settings(serial_number)
        config = Config(**settings, service_folder=folder)  # type: ignore[arg-type]  # one table
        return Agent(config, Store(folder), _now, random.random, lambda _: None)

    agents = [agent(each) for each in serial_numbers]
    return [
        _round("python, first", [lambda a=a: _once(a, force=False) for a in agents]),
        _round("python, renewal", [lambda a=a: _once(a, force=True) for a in agents]),
    ]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def _once(agent: Agent, *, force: bool) -> str:
    try:
        assert renew(agent, force=force).renewed
    except AgentError as problem:
        return str(problem)
    return ""


def shell_agents(fleet: Fleet, serial_numbers: list[str], home: Path) -> list[Figures]:
    """The same with processes, every other one under dash and with curl."""
    shells = [
        make_shell(
            ("ash", "dash")[n % 2],
            home / each,
            curl=bool(n % 2),
            **fleet.settings(each),
        )
        for n, each in enumerate(serial_numbers)
    ]
    return [
        _round(f"shell, {what}", [lambda s=s: s.run("enrol")[2] for s in shells])
        for what in ("first", "renewal")
    ]


def _round(what: str, work: list[Callable[[], str]]) -> Figures:
    began = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        failures = tuple(filter(None, pool.map(lambda each: each(), work)))
    return Figures(what, len(work), failures, time.monotonic() - began)
