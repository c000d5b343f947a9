"""Servers on loopback that answer as a test wants: HTTP by hand, and TLS with any certificate."""

import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certmint.model import der
from certmint.validation.dns import Answer
from certmint.validation.tlsalpn01 import ACME_IDENTIFIER


class Names:
    """A resolver for whom exactly these names and records exist."""

    def __init__(self, **addresses: tuple[str, ...]) -> None:
        self.hosts = {name.replace("_", "."): found for name, found in addresses.items()}
        self.records: dict[str, tuple[str, ...]] = {}
        self.asked: list[str] = []

    def addresses(self, name: str) -> Answer:
        self.asked.append(name)
        return Answer(self.hosts.get(name, ()), "test", authenticated=False)

    def txt(self, name: str) -> Answer:
        self.asked.append(name)
        return Answer(self.records.get(name, ()), "test", authenticated=True)

    def cname(self, name: str) -> Answer:
        return Answer((), "test", authenticated=False)


@contextlib.contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[bytes]]]:
    """A TCP server on a free port; `answer` gets each connection after its first bytes."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests: list[bytes] = []
    stop = threading.Event()

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            requests.append(connection.recv(65536))
            answer(connection)

    def run() -> None:
        while True:
            connection, _ = listener.accept()
            if stop.is_set():
                connection.close()
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()[1], requests
    finally:
        stop.set()
        socket.create_connection(listener.getsockname()).close()  # it waits for one
        thread.join()
        listener.close()


def says(text: str, *, status: str = "200 OK", headers: str = "") -> Callable[..., None]:
    """An ordinary answer."""

    def answer(connection: socket.socket) -> None:
        body = text.encode()
        head = f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)

    return answer


def alpn_context(
    folder: Path, digest: bytes, *names: x509.GeneralName, critical: bool = True,
    alpn: str = "acme-tls/1", key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
) -> ssl.SSLContext:  # fmt: skip
    """A server context with a challenge certificate (RFC 8737 3)."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "challenge")])
    now = dt.datetime.now(dt.UTC)
    proof = x509.UnrecognizedExtension(ACME_IDENTIFIER, der.octet_string(digest))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(proof, critical=critical)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "challenge.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "challenge.pem")
    context.set_alpn_protocols([alpn])
    return context
