"""One device of a fleet: its agent, how it is started, and what it has in the end.

An attempt is either an ordinary one, or one that dies by SIGKILL after a given time: then it is a
process of its own, since a power cut takes all of it.
"""

import datetime as dt
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

import certmint_agent
from certmint_agent import config
from certmint_agent.credential import load_key, matches
from certmint_agent.errors import AgentError
from certmint_agent.renewal import Agent, renew
from certmint_agent.store import Store

SCRIPT = Path(certmint_agent.__file__).with_name("certmint-agent.sh")
DONE, KILLED, WAITING = "done", "killed", "waiting"
_OUTCOMES = {0: DONE, **{each.exit_code: each.__name__ for each in AgentError.__subclasses__()}}
_PENDING = "request-pending"  # the server's code for it
_LONGEST_S = 300.0  # an agent's own timeouts end an attempt long before


@dataclass(frozen=True)
class Attempt:
    """How one attempt ended: `done`, `killed`, `waiting` for an operator, or the agent's error.

    `detail` is the agent's sentence, where it had one.
    """

    outcome: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class Device:
    """A device with an agent. `settings` are those of its configuration, paths absolute."""

    name: str
    folder: Path
    settings: dict[str, str]
    shell: tuple[str, ...] = ()  # empty: the Python agent

    @property
    def kind(self) -> str:
        return "shell" if self.shell else "python"

    @property
    def service(self) -> Path:
        return self.folder / "tls"

    def attempt(self, killed_after: float | None = None) -> Attempt:
        """Get a new certificate, whether or not one is due; die after so many seconds, if any."""
        began = time.monotonic()
        if self.shell or killed_after is not None:
            outcome, detail = self._as_process(killed_after)
        else:
            outcome, detail = self._in_process()
        if _PENDING in detail:
            outcome = WAITING  # the agents call that "later", and keep their key
        return Attempt(outcome, time.monotonic() - began, detail)

    def has_valid_pair(self, now: dt.datetime) -> bool:
        """Whether `live` holds a key and the certificate for it, valid at this moment."""
        live = self.service / "live"
        try:
            key = load_key((live / "key.pem").read_bytes())
            leaf = x509.load_pem_x509_certificates((live / "chain.pem").read_bytes())[0]
        except (OSError, ValueError):
            return False
        is_valid = leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc
        return is_valid and matches(key.public_key(), leaf)

    def _in_process(self) -> tuple[str, str]:
        try:
            loaded = config.load(self._configured())
            store, dice = Store(loaded.service_folder), random.SystemRandom().random
            renew(Agent(loaded, store, _now, dice, lambda _: None), force=True)
        except AgentError as problem:
            return type(problem).__name__, str(problem)
        return DONE, ""

    def _as_process(self, killed_after: float | None) -> tuple[str, str]:
        python = [sys.executable, "-m", "certmint_agent"]
        words = [*self.shell, str(SCRIPT)] if self.shell else python
        scratch = self.folder / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(  # noqa: S603 - our own agent
            [*words, "enrol", "--config", str(self._configured())],
            env={**os.environ, "TMPDIR": str(scratch)},  # what a kill leaves there is found again
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a power cut takes its children, and Ctrl-C is not for it
        )
        try:
            _, said = process.communicate(timeout=killed_after or _LONGEST_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return KILLED, ""
        return _OUTCOMES.get(process.returncode, f"exit {process.returncode}"), said.strip()

    def _configured(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        table = {**self.settings, "service_folder": str(self.service)}
        if self.shell:
            path, lines = self.folder / "agent.conf", [f'{k}="{v}"' for k, v in table.items()]
        else:
            # A JSON string is a TOML basic string.
            lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
            path = self.folder / "agent.toml"
        path.write_text("\n".join(lines) + "\n")
        return path


def packages_in(folder: Path) -> list[Path]:
    """The packages of devices in a folder, by name: what a batch was minted into."""
    return sorted(path.parent for path in folder.glob("*/identity.pem"))


def devices_of(
    packages: Sequence[Path], home: Path, server: str, ca_file: Path, shells: int, shell: str
) -> list[Device]:
    """A device for each package; the last `shells` of them run the shell agent."""
    words = tuple(shlex.split(shell))
    first = len(packages) - shells
    return [
        Device(
            package.name,
            home.resolve() / package.name,
            {
                "server": server,
                "ca_file": str(ca_file.resolve()),
                "identity_certificate": str(package.resolve() / "identity.pem"),
                "identity_key": str(package.resolve() / "key.pem"),
            },
            words if place >= first else (),
        )
        for place, package in enumerate(packages)
    ]


def usual_shell() -> str:
    """BusyBox's, as on a router, or whatever this machine calls sh."""
    return "busybox ash" if shutil.which("busybox") else "sh"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)
