"""Whole ACME orders against a server in a process of its own.

The limit is the arithmetic that an order cannot do without: five signatures of the client and one
of its CSR verified, one certificate signed.
"""

import asyncio
import contextlib
import datetime as dt
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bench.acme_client import Binding, Tally, load
from certmint.app import config, lab
from certmint.enrolment.manufacturers import new_id
from certmint.model.entities import DomainValidation, ValidationMethod
from certmint.registry import reads, writes

WORKERS = 16
SIGNED_REQUESTS = 5
DOMAIN = "bench.example"


@dataclass(frozen=True)
class Run:
    """One run: CPU of the server in seconds an order, its memory at the end in octets."""

    tally: Tally
    cpu: float
    memory: int


@dataclass(frozen=True)
class Server:
    """A running ACME server, which fetches http-01 from `port`.

    With a `binding` the maker vouches for the accounts, and has validated `DOMAIN`.
    """

    directory: str
    pid: int
    port: int
    binding: Binding | None = None

    def orders(self, count: int, first: int) -> Run:
        """So many orders, each for a name of its own: an address in 127/8, or one below DOMAIN."""

        def identifier(number: int) -> dict[str, str]:
            place = first + number
            if self.binding is not None:
                return {"type": "dns", "value": f"u{place}.{DOMAIN}"}
            return {
                "type": "ip",
                "value": f"127.{1 + place // 62500}.{place // 250 % 250}.{1 + place % 250}",
            }

        began = cpu_of(self.pid)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            tally = runner.run(
                load(self.directory, identifier, count, WORKERS, self.port, self.binding)
            )
        if tally.errors:
            raise RuntimeError(f"{len(tally.errors)} orders failed: {tally.errors[0]}")
        return Run(tally, (cpu_of(self.pid) - began) / count, _memory(self.pid))


@contextlib.contextmanager
def certmint() -> Iterator[Server]:
    """A fresh lab."""
    folder = Path(tempfile.mkdtemp(prefix="certmint-bench-acme-"))
    https, http, web, tls = (free_port() for _ in range(4))
    command = [
        str(Path(sys.executable).with_name("certmint")), "lab", str(folder / "lab"),
        "--https", str(https),
        "--http", str(http), "--http01-port", str(web), "--tls-port", str(tls),
    ]  # fmt: skip
    with running(command, dict(os.environ), https) as pid:
        yield Server(f"https://localhost:{https}/acme/lab/acme/directory", pid, web)
    shutil.rmtree(folder)


@contextlib.contextmanager
def certmint_of_a_maker() -> Iterator[Server]:
    """A lab whose maker has validated DOMAIN, for accounts that are bound to it."""
    folder = Path(tempfile.mkdtemp(prefix="certmint-bench-acme-"))
    ports = lab.Ports(*(free_port() for _ in range(4)))
    made = lab.build(folder, ports, "127.0.0.1:53", requires_binding=True)
    here, now = made.installation, made.installation.clock()
    with here.db.read() as tx:
        maker = next(each for each in reads.manufacturers(tx) if each.slug == "lab")
    proof = DomainValidation(
        id=new_id("val", now, here.random_bytes), tenant_id=maker.id, domain=DOMAIN,
        method=ValidationMethod.DNS_TXT, random_value="", record_name=DOMAIN, created_at=now,
        expires_at=now + dt.timedelta(days=30), verified_at=now, evidence="{}",
    )  # fmt: skip
    here.db.write(lambda tx: writes.add_domain_validation(tx, proof, by="console:bench", at=now))
    here.db.close()
    command = [
        str(Path(sys.executable).with_name("certmint")), "serve",
        "--config", str(folder / config.FILE_NAME),
    ]  # fmt: skip
    binding = Binding(made.kid, made.hmac_key)
    with running(command, dict(os.environ), ports.https) as pid:
        yield Server(made.directory_url, pid, ports.http01, binding)
    shutil.rmtree(folder)


def floor(requests: int = SIGNED_REQUESTS) -> float:
    """Orders a CPU-second that the arithmetic alone allows."""
    key, algorithm, content = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.ECDSA(hashes.SHA256()),
        b"x" * 400,
    )
    signature, public = key.sign(content, algorithm), key.public_key()
    began = time.process_time()
    for _ in range(200):
        for _ in range(requests + 1):
            public.verify(signature, content, algorithm)
        key.sign(content, algorithm)
    return 200 / (time.process_time() - began)


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str], port: int) -> Iterator[int]:
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _await_port(port, process)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} did not start listening on port {port}")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()
