"""The stage: a fresh installation on free ports, a DNS server, processes that are ended again."""

import contextlib
import datetime as dt
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from certmint.app import config, servercert
from certmint.app.demo.dns import LoopbackDNS
from certmint.app.demo.narrator import Narrator, NotProved
from certmint.app.wiring import Installation, open_installation, utc_now
from certmint.model.entities import Manufacturer
from certmint.model.errors import Conflict
from certmint.registry.engine import open_database

MARKER = ".certmint-demo"
TSIG_NAME = "demo-key"


@dataclass
class Past:
    """A clock that can be put back, for this process alone: a factory run of last summer."""

    days: int = 0

    def now(self) -> dt.datetime:
        return utc_now() - dt.timedelta(days=self.days)


@dataclass
class World:
    """Everything the steps share."""

    folder: Path
    say: Narrator
    here: Installation
    dns: LoopbackDNS
    tsig: bytes
    past: Past
    tenant: Manufacturer | None = None
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def maker(self) -> Manufacturer:
        if self.tenant is None:
            raise NotProved("demo-failed", "the manufacturer was not made")
        return self.tenant

    @property
    def https(self) -> str:
        return f"https://{self.here.config.settings.server.https}"

    @property
    def trust(self) -> Path:
        return self.here.config.resolve(servercert.ROOT_FILE)

    def run(
        self, *words: str, check: bool = True, show: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run `certmint` or `certmint-agent` to its end, as a person would.

        With `show` its standard error (a progress bar) goes to the terminal.
        """
        done = subprocess.run(  # noqa: S603 (our own programs)
            [self._program(words[0]), *words[1:]],
            stdout=subprocess.PIPE, stderr=None if show else subprocess.PIPE,
            text=True, timeout=120, check=False, env=self._environment(),
        )  # fmt: skip
        if check and done.returncode != 0:
            said = (done.stderr or "see above").strip()[-300:]
            raise NotProved("demo-failed", f"{' '.join(words)}: {said}")
        return done

    def start(self, *words: str, log: str) -> subprocess.Popen[bytes]:
        """Start a process that runs beside the story; its output goes to `<folder>/<log>`."""
        program = [sys.executable] if words[0] == "python" else [self._program(words[0])]
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 (our own programs)
                [*program, *words[1:]], stdout=output, stderr=output, env=self._environment()
            )
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End every process by its own id, and everything else."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            if process.poll() is None:
                process.kill()
                process.wait()
        self.dns.close()
        self.here.close()

    def _environment(self) -> dict[str, str]:
        return os.environ | {"CERTMINT_CONFIG": str(self.here.config.path)}

    @staticmethod
    def _program(name: str) -> str:
        return str(Path(sys.executable).with_name(name))


def build(folder: Path, say: Narrator) -> World:
    """A fresh installation in `folder`, which must be empty or of an earlier demo."""
    _clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    tsig = os.urandom(32)
    dns = LoopbackDNS("example.com", TSIG_NAME, tsig)
    https, http = (f"127.0.0.1:{free_port()}" for _ in range(2))
    home = folder / "certmint"
    for name in ("keys", "secrets", "tls"):
        (home / name).mkdir(parents=True, mode=0o700)
    (home / "secrets/keys.passphrase").write_text(os.urandom(24).hex())
    (home / "secrets/keys.passphrase").chmod(0o600)
    path = home / config.FILE_NAME
    path.write_text(
        config.example(
            https=https, http=http, status=f"http://{http}", resolvers=(f"127.0.0.1:{dns.port}",)
        )
    )
    loaded = config.load(path)
    db = open_database(loaded.database_url)
    db.migrate()
    db.close()
    past = Past()
    here = open_installation(loaded, clock=past.now)
    servercert.ensure(here)
    return World(folder, say, here, dns, tsig, past)


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """Wait until something listens. Raises NotProved when the process ends or time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise NotProved("demo-failed", f"a server ended with code {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise NotProved("demo-failed", f"nothing listens on port {port} after {seconds} s")


def _clear(folder: Path) -> None:
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / MARKER).exists():
        raise Conflict("demo-folder", f"{folder} is not empty and no earlier demo: choose another")
    shutil.rmtree(folder)
