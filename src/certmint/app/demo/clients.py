"""The demo's clients, which are not certmint: verifiers, a browser's TLS, openssl, HTTP."""

import base64
import datetime as dt
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509 import verification

from certmint.enrolment.chains import pem

OPENSSL = shutil.which("openssl")


def pyca_accepts(
    leaf: bytes, above: Sequence[bytes], root: bytes, name: str, now: dt.datetime
) -> bool:
    """Whether pyca's verifier builds a path from the leaf to the root for this server name."""
    load = x509.load_der_x509_certificate
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([load(root)]))
        .time(now)
        .build_server_verifier(x509.DNSName(name))
    )
    try:
        verifier.verify(load(leaf), [load(link) for link in above])
    except verification.VerificationError:
        return False
    return True


def openssl_verify(leaf: bytes, above: Sequence[bytes], root: bytes, *options: str) -> str:
    """What `openssl verify` says of the leaf; its last line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "leaf.pem").write_text(pem(leaf))
        (folder / "root.pem").write_text(pem(root))
        (folder / "above.pem").write_text("".join(map(pem, above)))
        done = openssl(
            "verify", "-x509_strict", *options, "-CAfile", str(folder / "root.pem"),
            "-untrusted", str(folder / "above.pem"), str(folder / "leaf.pem"),
        )  # fmt: skip
        lines = (done.stdout + done.stderr).strip().splitlines()
        return next((line for line in lines if "error " in line), lines[-1])


def openssl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the system's openssl."""
    return subprocess.run(  # noqa: S603 (a fixed program with our own arguments)
        [OPENSSL or "openssl", *arguments], capture_output=True, text=True, timeout=30, check=False
    )


@dataclass(frozen=True)
class Visit:
    """A page that was opened over verified TLS, or the reason why it was not."""

    ok: bool
    detail: str
    serial: str = ""


def visit(name: str, address: str, port: int, root_pem: str) -> Visit:
    """Open `https://<name>/` as a browser does that trusts only this root."""
    context = ssl.create_default_context(cadata=root_pem)
    try:
        with (
            socket.create_connection((address, port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            shown = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
            secure.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            page = b""
            while part := secure.recv(65536):
                page += part
    except ssl.SSLCertVerificationError as error:
        return Visit(False, error.verify_message)
    except OSError as error:
        return Visit(False, str(error))
    return Visit(b" 200 " in page[:20], "200", f"{shown.serial_number:040x}")


def call(
    url: str,
    path: str,
    trust: Path,
    *,
    identity: tuple[Path, Path] | None = None,
    headers: Mapping[str, str] | None = None,
    body: Mapping[str, object] | None = None,
) -> tuple[int, dict[str, object]]:
    """One call of the REST door; status and JSON."""
    context = ssl.create_default_context(cafile=str(trust))
    if identity is not None:
        context.load_cert_chain(*identity)
    host, _, port = url.removeprefix("https://").rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), timeout=20, context=context)
    data = None if body is None else json.dumps(body).encode()
    sent = dict(headers or {}) | ({"Content-Type": "application/json"} if body else {})
    try:
        connection.request("POST" if body is not None else "GET", path, data, sent)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")
    finally:
        connection.close()


def basic(user: str, password: str) -> dict[str, str]:
    """The Authorization header of HTTP Basic (RFC 7617)."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
