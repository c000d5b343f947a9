"""A tiny CA, a server that plays REST and EST over mTLS, a router, and agents between."""

import base64
import dataclasses
import datetime as dt
import http.server
import json
import os
import select
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.model.cms import envelop
from certmint_agent.config import Config
from certmint_agent.credential import names_in
from certmint_agent.renewal import Agent
from certmint_agent.store import Store

from . import est
from .ca import DAY, NOW, PEM, key_bytes, make_root
from .hardware import TPM, Token, running_tpm

NAMES = ("rt-0001.dev.example.com", "router.example.com")


class Handler(http.server.BaseHTTPRequestHandler):
    """The contract of the REST door, and the faults that a test has queued."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self):
        if self.fault():
            return
        if self.path == "/base/.well-known/est/cacerts":
            est.cacerts(self)
            return
        peer = self.peer()
        if self.path != "/base/api/v1/device" or peer is None:
            self.problem(401, "certificate-required", "present the identity certificate")
            return
        world = self.server.world
        self.answer(
            200,
            {
                "serial_number": "RT-0001",
                "label": "rt-0001",
                "product": "router",
                "state": "active",
                "names": list(world.names),
                "time": world.now().isoformat(),
                "certificate": world.newest and {**world.newest, "certificate": None},
            },
        )

    def do_POST(self):
        world = self.server.world
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_est = "/.well-known/est/" in self.path
        content = x509.load_der_x509_csr(base64.b64decode(body)) if is_est else json.loads(body)
        world.requests.append((self.path, content, self.headers.get("Authorization")))
        if self.fault():
            return
        if is_est:
            est.enrol(self, content)
        elif self.path == "/base/api/v1/device/keys" and self.peer():
            self.answer(201, world.deliver(content["kind"], self.peer()))
        elif self.path == "/base/api/v1/device/certificates" and self.peer():
            self.answer(201, world.certify(content["csr"]))
        elif self.path == "/base/api/v1/owner/devices/RT%2F1/certificates":
            wanted = "Basic " + base64.b64encode(b"jo:correct horse").decode()
            if self.headers.get("Authorization") == wanted:
                self.answer(201, world.certify(content["csr"]))
            else:
                self.problem(401, "login-wrong", "the owner's login is wrong")
        else:
            self.problem(404, "not-found", "no such page")

    def peer(self) -> bytes | None:
        return self.connection.getpeercert(binary_form=True)

    def fault(self) -> bool:
        faults = self.server.world.faults
        return bool(faults) and bool(faults.pop(0)(self))

    def problem(self, status, code, detail, headers=()):
        self.answer(status, {"status": status, "code": code, "detail": detail}, headers)

    def answer(self, status, content, headers=()):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def date_time_string(self, timestamp=None):
        return super().date_time_string(self.server.world.now().timestamp())

    def log_message(self, *_):
        pass


class HTTPSServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, world: "World", context: ssl.SSLContext):
        super().__init__(("127.0.0.1", 0), Handler)
        self.world = world
        self.context = context

    def finish_request(self, request, client_address):
        request.settimeout(20)
        with self.context.wrap_socket(request, server_side=True) as tls:
            self.RequestHandlerClass(tls, client_address, self)

    def handle_error(self, request, client_address):
        """A client that goes away, or refuses our certificate, is what some tests are about."""


class World:
    """The server's side: what it knows, what it issued, what it was asked, what goes wrong."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.root = make_root()
        self.issuing = self.root.below("Test Issuing")
        self.now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
        self.names: tuple[str, ...] = NAMES
        self.lifetime = 90 * DAY
        self.window: tuple[dt.datetime, dt.datetime] | None = None
        self.newest: dict | None = None
        self.by_csr: dict[str, dict] = {}
        self.requests: list[tuple] = []
        self.faults: list[Callable[[Handler], bool]] = []
        self.server: HTTPSServer | None = None

    def certify(self, csr_pem: str) -> dict:
        """The same CSR gets the same certificate."""
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        assert csr.is_signature_valid
        if csr_pem not in self.by_csr:
            self.by_csr[csr_pem] = self.issue(csr.public_key(), names_in(csr) or self.names)
        self.newest = self.by_csr[csr_pem]
        return self.newest

    def authorities(self) -> bytes:
        """What cacerts shows: the root too, and not in order."""
        return est.bag(self.root.certificate, self.issuing.certificate)

    def issue(self, public, names) -> dict:
        start = self.now().replace(microsecond=0) - dt.timedelta(hours=1)
        end = start + self.lifetime
        leaf = self.issuing.issue(public, names, start=start, end=end)
        window = self.window or (start + self.lifetime / 2, start + self.lifetime * 2 / 3)
        return {
            "serial": f"{leaf.serial_number:040x}",
            "certificate": leaf.public_bytes(PEM).decode(),
            "chain": self.issuing.certificate.public_bytes(PEM).decode(),
            "not_before": start.isoformat(),
            "not_after": end.isoformat(),
            "renewal": {"start": window[0].isoformat(), "end": window[1].isoformat()},
        }

    def deliver(self, kind: str, recipient: bytes) -> dict:
        assert kind == "ec-p256"
        key = ec.generate_private_key(ec.SECP256R1())
        pkcs8 = key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        sealed = envelop(
            pkcs8, recipient, ephemeral=ec.generate_private_key, random_bytes=os.urandom
        )
        issued = self.issue(key.public_key(), self.names)
        return {**issued, "encrypted_key": base64.b64encode(sealed).decode()}

    def start(self, *, start=NOW - DAY, end=NOW + DAY, name="localhost") -> None:
        """Serve with a TLS certificate of these dates."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self.root.issue(key.public_key(), [name], start=start, end=end)
        (self.folder / "tls.pem").write_bytes(leaf.public_bytes(PEM) + key_bytes(key))
        (self.folder / "ca.pem").write_bytes(self.root.certificate.public_bytes(PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "tls.pem")
        context.load_verify_locations(self.folder / "ca.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        self.server = HTTPSServer(self, context)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server.server_port}/base"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A running server with its CA; the identity of a device lies beside it."""
    folder = tmp_path / "maker"
    folder.mkdir()
    world = World(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    identity = world.root.issue(key.public_key(), subject="RT-0001")
    (folder / "idevid.pem").write_bytes(identity.public_bytes(PEM))
    (folder / "idevid.key").write_bytes(key_bytes(key))
    world.start()
    yield world
    world.stop()


@dataclasses.dataclass
class Device:
    """The device's side: builds agents on one service folder, and looks into it."""

    world: World
    folder: Path
    said: list[str]

    def agent(self, *, now=None, random=lambda: 0.5, step=None, **changes) -> Agent:
        config = Config(
            **{
                "server": self.world.url,
                "ca_file": self.world.folder / "ca.pem",
                "service_folder": self.folder,
                "identity_certificate": self.world.folder / "idevid.pem",
                "identity_key": self.world.folder / "idevid.key",
                "server_timeout_s": 5,
                **changes,
            }
        )
        store = Store(self.folder) if step is None else Store(self.folder, step)
        return Agent(config, store, now or self.world.now, random, self.said.append)

    def toml(self, **changes) -> Path:
        """The same as a configuration file, with paths relative to it where they can be."""
        table = {
            "server": self.world.url,
            "ca_file": "maker/ca.pem",
            "service_folder": self.folder.name,
            "identity_certificate": "maker/idevid.pem",
            "identity_key": "maker/idevid.key",
            "server_timeout_s": 5,
            **changes,
        }
        path = self.folder.parent / "agent.toml"
        lines = (f"{key} = {json.dumps(value)}" for key, value in table.items())
        path.write_text("\n".join(lines) + "\n")
        return path

    def live(self) -> tuple[object, x509.Certificate] | None:
        """What a router's server would read now, by file name; it must be a matching pair."""
        link = self.folder / "live"
        if not link.is_symlink():
            return None
        key = serialization.load_pem_private_key((link / "key.pem").read_bytes(), None)
        leaf = x509.load_pem_x509_certificates((link / "chain.pem").read_bytes())[0]
        assert key.public_key() == leaf.public_key(), "live holds a key of another certificate"
        return key, leaf

    def entries(self) -> list[str]:
        return sorted(p.name for p in (self.folder / "versions").iterdir())


@pytest.fixture
def device(world: World, tmp_path: Path) -> Device:
    """A device with an identity and an empty service folder."""
    return Device(world, tmp_path / "tls", [])


@pytest.fixture
def token(tmp_path: Path, require, monkeypatch: pytest.MonkeyPatch) -> Token:
    """A fresh token, which every process that the test starts finds."""
    util = require("softhsm2-util", package="softhsm2")
    for program in ("p11tool", "certtool"):
        require(program, package="gnutls-bin")
    places = ("softhsm", "pkcs11", "x86_64-linux-gnu/softhsm", "aarch64-linux-gnu/softhsm")
    modules = (f"/usr/lib/{place}/libsofthsm2.so" for place in places)
    token = Token(require(*modules, package="softhsm2"), tmp_path / "hsm")
    monkeypatch.setenv("SOFTHSM2_CONF", str(token.configuration))
    token.make(util)
    return token


@pytest.fixture
def tpm(tmp_path: Path, require) -> Iterator[TPM]:
    """A fresh TPM."""
    require("tpm2_createprimary", package="tpm2-tools")
    with running_tpm(require("swtpm", package="swtpm"), tmp_path / "tpm") as tpm:
        yield tpm


class Router:
    """A TLS server in a process of its own that serves `live` and reloads on SIGHUP."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("router.py")), str(folder)],
            stdout=subprocess.PIPE,
        )
        ready, _, _ = select.select([self.process.stdout], [], [], 30)
        assert ready, "the router did not start"
        self.address = ("127.0.0.1", int(self.process.stdout.readline()))

    @property
    def reload_command(self) -> tuple[str, ...]:
        order = f"import os, signal; os.kill({self.process.pid}, signal.SIGHUP)"
        return (sys.executable, "-S", "-c", order)

    def break_reload(self, how: str) -> None:
        """`ignore`: it keeps serving what it had; `die`: it ends; `` repairs it."""
        (self.folder / "broken").write_text(how)

    def presented(self) -> x509.Certificate:
        pem = ssl.get_server_certificate(self.address, timeout=5)
        return x509.load_pem_x509_certificate(pem.encode())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def router_for() -> Iterator[Callable[[Device], Router]]:
    """Starts routers on a device's folder, and stops them."""
    started: list[Router] = []

    def start(device: Device) -> Router:
        started.append(Router(device.folder))
        return started[-1]

    yield start
    for router in started:
        router.stop()


@pytest.fixture
def run_agent(device: Device) -> Callable[..., subprocess.CompletedProcess]:
    """`python -m certmint_agent WORDS --config …` as a process."""

    def run(*words: str, **changes) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "certmint_agent", *words, "--config", device.toml(**changes)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Poll for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def eventually() -> Callable[..., None]:
    """`eventually(condition)`: wait for something that another process does."""
    return wait_until


@pytest.fixture
def running_agent(device: Device) -> Iterator[Callable[..., subprocess.Popen]]:
    """`certmint-agent run` as a process that the test signals."""
    started: list[subprocess.Popen] = []

    def start(**changes) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "certmint_agent", "run", "--config", device.toml(**changes)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()
