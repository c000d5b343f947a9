"""A certmint that serves EST over real TLS, its devices' files, and a proxy in front of it."""

import base64
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backstage import House, build

from certmint.app import config
from certmint.app.servercert import ROOT_FILE

from .lab import LOOPBACK, free_port
from .lab import _listens as listens
from .lab import _running as running

# nginx has the certificate as PEM; RFC 9440 wants its base64 between colons, without line breaks.
_LINES = 40


@dataclass(frozen=True)
class World:
    """A running server. `folder` is its installation, `house` what stands in it."""

    folder: Path
    house: House
    port: int

    @property
    def root(self) -> Path:
        """The trust anchor of the server's own certificate."""
        return self.folder / ROOT_FILE

    @property
    def log(self) -> str:
        """What the server has written."""
        return (self.folder / "serve.log").read_text()

    def url(self, operation: str, label: str = "", port: int | None = None) -> str:
        """Where an operation is, directly or by a proxy's port."""
        parts = filter(None, (".well-known/est", label, operation))
        return f"https://localhost:{port or self.port}/{'/'.join(parts)}"

    def identity(self, serial_number: str) -> tuple[Path, Path]:
        """A device's identity certificate and its key."""
        folder = self.house.packages / serial_number
        return folder / "identity.pem", folder / "key.pem"


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """`certmint serve` over a house of the tests; 127.0.0.2 is its trusted proxy."""
    house = build(folder)
    house.here.close()
    https, http = free_port(), free_port()
    text = config.example(https=f"{LOOPBACK}:{https}", http=f"{LOOPBACK}:{http}")
    path = folder / config.FILE_NAME
    path.write_text(text.replace("trusted_proxies = []", 'trusted_proxies = ["127.0.0.2"]'))
    program = str(Path(sys.executable).with_name("certmint"))
    command = [program, "serve", "--config", str(path)]
    with running(command, listens(https), folder / "serve.log"):
        yield World(folder, house, https)


def curl(world: World, *words: str | Path, given: bytes = b"") -> tuple[int, str, bytes]:
    """curl's exit status, what it said of the connection, and the answer's head and body."""
    command = ["curl", "-sSv", "--max-time", "20", "--cacert", str(world.root), "-i"]
    done = subprocess.run(
        [*command, *map(str, words)], input=given, capture_output=True, check=False
    )
    return done.returncode, done.stderr.decode(errors="replace"), done.stdout


def body_of(answer: bytes) -> bytes:
    """The body of what `curl -i` printed."""
    return answer.partition(b"\r\n\r\n")[2]


def posted(*words: str | Path) -> list[str | Path]:
    """curl's words for an EST request; the body comes by standard input."""
    return [*words, "-H", "Content-Type: application/pkcs10", "--data-binary", "@-"]


def encoded(der: bytes) -> bytes:
    return base64.encodebytes(der)


@contextlib.contextmanager
def nginx(program: str, world: World, folder: Path, source: str) -> Iterator[int]:
    """nginx before the server, coming to it from the address `source`. Its port."""
    port = free_port()
    (folder / "nginx.conf").write_text(_nginx_conf(world, folder, port, source))
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    with running(command, listens(port), folder / "nginx.log"):
        yield port


def _nginx_conf(world: World, folder: Path, port: int, source: str) -> str:
    lines = "".join(f"(?:(?<l{each}>[A-Za-z0-9+/=]+)\\n)?" for each in range(_LINES))
    joined = "".join(f"${{l{each}}}" for each in range(_LINES))
    return f"""
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  map $ssl_client_raw_cert $client_cert {{
    default "";
    "~^-----BEGIN CERTIFICATE-----\\n{lines}-----END CERTIFICATE-----\\n$" ":{joined}:";
  }}
  server {{
    listen {LOOPBACK}:{port} ssl;
    ssl_certificate {world.folder}/tls/server.pem;
    ssl_certificate_key {world.folder}/tls/server.key;
    ssl_verify_client optional_no_ca;
    location / {{
      proxy_pass https://{LOOPBACK}:{world.port};
      proxy_bind {source};
      proxy_ssl_trusted_certificate {world.root};
      proxy_ssl_verify on;
      proxy_ssl_name localhost;
      proxy_set_header Client-Cert $client_cert;
    }}
  }}
}}
"""
