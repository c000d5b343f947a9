"""A real server with a fleet's packages: `certmint serve` over a house of the tests."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
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

THREADS = 8


@dataclass(frozen=True)
class Fleet:
    """A running server, and where the packages of its devices lie."""

    folder: Path
    port: int

    @property
    def packages(self) -> Path:
        return self.folder / "fleet"

    @property
    def words(self) -> list[str]:
        """How certmint-fleet is told of it."""
        return [
            "--server", f"https://localhost:{self.port}", "--ca-file", str(self.folder / ROOT_FILE),
            "--packages", str(self.packages),
        ]  # fmt: skip


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
