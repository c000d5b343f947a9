"""The lab that the clients meet: `certmint lab` and a DNS server, as whole processes on loopback.

Every server is on a port that the system chose, and is ended by its own id. What a lab says about
itself is read from what it prints, as a person would read it.
"""

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SOON_S = 20
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Lab:
    """A running lab. `kid` and `hmac_key` are empty where no binding is required."""

    directory: str
    ca_file: Path
    root: Path
    kid: str
    hmac_key: str
    http01: int
    tlsalpn01: int
    txt: str  # where a TXT record is set: the management URL of its DNS server


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at this moment, neither for TCP nor for UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind((LOOPBACK, 0))
            port = int(tcp.getsockname()[1])
            with contextlib.suppress(OSError):
                udp.bind((LOOPBACK, port))
                return port


@contextlib.contextmanager
def names(program: str, log: Path) -> Iterator[tuple[int, int]]:
    """challtestsrv: every name is 127.0.0.1, and TXT is as told. Its (DNS, management) ports."""
    dns, management = free_port(), free_port()
    command = [
        program, "-dns01", f"{LOOPBACK}:{dns}", "-management", f"{LOOPBACK}:{management}",
        "-http01", "", "-https01", "", "-tlsalpn01", "",
        "-defaultIPv4", LOOPBACK, "-defaultIPv6", "",
    ]  # fmt: skip
    with _running(command, _listens(management), log):
        yield dns, management


@contextlib.contextmanager
def lab(folder: Path, ports: tuple[int, int], *, eab: bool) -> Iterator[Lab]:
    """`certmint lab` in a fresh folder, asking the DNS server on these `ports` of `names`."""
    dns, management = ports
    https, http, http01, tlsalpn01 = (free_port() for _ in range(4))
    log = folder.with_suffix(".log")
    command = [
        str(Path(sys.executable).with_name("certmint")), "lab", str(folder),
        "--https", str(https), "--http", str(http), "--http01-port", str(http01),
        "--tls-port", str(tlsalpn01), "--resolver", f"{LOOPBACK}:{dns}",
    ]  # fmt: skip
    with _running(command + ["--eab"] * eab, _listens(https), log):
        said = dict(re.findall(r"^([a-z-]+): +(\S+)$", log.read_text(), re.MULTILINE))
        yield Lab(
            directory=said["directory"],
            ca_file=Path(said["ca-file"]),
            root=Path(said["root"]),
            kid=said.get("eab-kid", ""),
            hmac_key=said.get("eab-key", ""),
            http01=http01,
            tlsalpn01=tlsalpn01,
            txt=f"http://{LOOPBACK}:{management}/set-txt",
        )


@contextlib.contextmanager
def web_server(folder: Path, port: int) -> Iterator[None]:
    """The domain's own web server, for clients that put their answer under its root."""
    server = ThreadingHTTPServer((LOOPBACK, port), partial(_Files, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing on the test's terminal."""


@contextlib.contextmanager
def _running(command: list[str], ready: Callable[[], bool], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        end = time.monotonic() + SOON_S
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} is not ready: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> Callable[[], bool]:
    def probe() -> bool:
        with socket.socket() as client:
            return client.connect_ex((LOOPBACK, port)) == 0

    return probe
