"""EST enrolments against a server in a process of its own, each device with its own identity.

The limit is the arithmetic that an enrolment cannot do without: the CSR's signature verified and
one certificate signed; over a connection of its own also the TLS handshake, which is measured by
the same client against the same server, with nothing asked.
"""

import asyncio
import base64
import os
import ssl
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench import acme
from bench.workloads import Stage
from certmint.app import config, servercert

DEVICES = 16
SHA = hashes.SHA256()


@dataclass(frozen=True)
class Run:
    """One run: enrolments a second, and the server's CPU in seconds for each."""

    rate: float
    cpu: float


@dataclass(frozen=True)
class Server:
    """A running server, and a folder for each of its devices."""

    port: int
    pid: int
    root: Path
    devices: tuple[Path, ...]

    def enrolments(self, count: int, *, keeps: bool) -> Run:
        """So many, by all devices at once; each on a new connection unless a device `keeps` its."""
        bodies = [_body() for _ in range(count)]
        return self._timed(self._enrol(bodies, keeps), count)

    def handshakes(self, count: int) -> Run:
        """So many connections with a client certificate, one after another and with all devices."""
        return self._timed(self._connect(count), count)

    def _timed(self, work: Coroutine[Any, Any, None], count: int) -> Run:
        cpu, began = acme.cpu_of(self.pid), time.perf_counter()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)
        seconds = time.perf_counter() - began
        return Run(count / seconds, (acme.cpu_of(self.pid) - cpu) / count)

    async def _enrol(self, bodies: list[bytes], keeps: bool) -> None:
        waiting = iter(bodies)

        async def device(folder: Path) -> None:
            context = self._context(folder)
            streams = await self._open(context) if keeps else None
            for body in waiting:
                reader, writer = streams or await self._open(context)
                writer.write(body)
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"an enrolment was refused: {head[:80]!r}")
                size = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
                await reader.readexactly(int(size))
                if streams is None:
                    writer.close()

        await asyncio.gather(*map(device, self.devices))

    async def _connect(self, count: int) -> None:
        waiting = iter(range(count))

        async def device(folder: Path) -> None:
            context = self._context(folder)
            for _ in waiting:
                (await self._open(context))[1].close()

        await asyncio.gather(*map(device, self.devices))

    def _context(self, folder: Path) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.root)
        context.load_cert_chain(folder / "identity.pem", folder / "key.pem")
        return context

    async def _open(
        self, context: ssl.SSLContext
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname="localhost"
        )


@contextmanager
def certmint() -> Iterator[Server]:
    """A maker with devices out of its factory."""
    https, http = acme.free_port(), acme.free_port()
    with Stage(https=f"127.0.0.1:{https}", http=f"127.0.0.1:{http}") as stage:
        stage.batch(DEVICES, "pem")
        servercert.ensure(stage.here)
        command = [
            str(Path(sys.executable).with_name("certmint")), "serve",
            "--config", str(stage.folder / config.FILE_NAME),
        ]  # fmt: skip
        (out,) = stage.folder.glob("out-*")
        folders = tuple(sorted(each for each in out.iterdir() if (each / "key.pem").exists()))
        root = stage.here.config.resolve(servercert.ROOT_FILE)
        with acme.running(command, dict(os.environ), https) as pid:
            yield Server(https, pid, root, folders)


def floor() -> float:
    """Enrolments a CPU-second that the arithmetic alone allows."""
    key, algorithm, content = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(SHA), b"x" * 400
    signature, public = key.sign(content, algorithm), key.public_key()
    began = time.process_time()
    for _ in range(500):
        public.verify(signature, content, algorithm)
        key.sign(content, algorithm)
    return 500 / (time.process_time() - began)


def _body() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, SHA)
    text = base64.b64encode(request.public_bytes(serialization.Encoding.DER))
    return (
        b"POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/pkcs10\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
    )
