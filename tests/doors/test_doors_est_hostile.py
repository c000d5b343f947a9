"""EST under fire: whatever the octets, an answer with a code; refused handshakes that say why."""

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from asgi import call
from backstage import House
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from est_house import CSR_TYPE, WELL_KNOWN, ESTHouse, csr, open_est
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certmint.app.tls import server_context

REQUEST = csr(names=("r1.router.lan",), subject="2.5.4.5=R1")
FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def est(house: House) -> ESTHouse:
    """The EST door of the house."""
    return open_est(house)


@FEW
@given(st.binary(max_size=200))
def test_any_body_gets_a_code(est: ESTHouse, body: bytes) -> None:
    """No octets make the door fail, as a body or as what base64 carries."""
    for operation in ("simpleenroll", "serverkeygen"):
        for sent in (body, b"\x30" + body):
            answer = est.post(operation, sent, peer=est.house.identity("R1"))
            assert 400 <= answer.status < 500
            assert answer.headers["certmint-code"]


@FEW
@given(
    st.sampled_from(["simpleenroll", "simplereenroll", "serverkeygen"]),
    st.lists(st.tuples(st.integers(0, 999), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_any_damage_to_a_csr_gets_a_code(
    est: ESTHouse, operation: str, changes: list[tuple[int, int]]
) -> None:
    """A CSR with octets changed is refused with a code, and not by a failure of ours."""
    torn = bytearray(REQUEST)
    for place, octet in changes:
        torn[1 + place % (len(torn) - 1)] = octet

    answer = est.post(operation, bytes(torn), peer=est.house.identity("R1"))

    assert answer.status == 200 or answer.headers["certmint-code"]


@FEW
@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40))
def test_any_path_gets_a_code(est: ESTHouse, path: str) -> None:
    """Labels and operations are looked up, never trusted."""
    target = f"{WELL_KNOWN}/{path.replace('?', '')}"
    answer = call(est.app, "POST", target, body=b"AAAA", headers=CSR_TYPE)
    assert 400 <= answer.status < 500 or answer.status == 501
    assert answer.headers["certmint-code"]


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_refused_handshake_says_why(loop: str, version: str, tmp_path: Path) -> None:
    """On either event loop, a client with an unknown certificate reads the alert."""
    key, certificate = _self_signed(tmp_path, "server")
    other_key, other = _self_signed(tmp_path, "rogue")
    context = server_context(certificate, key, [certificate.read_text()])
    client = ssl.create_default_context(cafile=str(certificate))
    client.load_cert_chain(other, other_key)
    client.maximum_version = getattr(ssl.TLSVersion, version)

    with pytest.raises(ssl.SSLError) as refusal:
        _talk(LOOPS[loop], context, client)

    assert refusal.value.reason == "TLSV1_ALERT_UNKNOWN_CA"


def _talk(new_loop: Callable[[], Any], context: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """One handshake and one read against a server on a loop of that kind."""

    async def exchange() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
        try:
            port = server.sockets[0].getsockname()[1]
            await asyncio.to_thread(_connect, port, client)
        finally:
            server.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(exchange())


def _connect(port: int, client: ssl.SSLContext) -> None:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        client.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        tls.recv(1)  # in TLS 1.3 the refusal comes after the client's own handshake


def _self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(hours=1))
    builder = builder.not_valid_after(now + dt.timedelta(hours=1))
    san = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    made = builder.add_extension(san, critical=False).sign(key, hashes.SHA256())
    paths = folder / f"{name}.key", folder / f"{name}.pem"
    paths[0].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    paths[1].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return paths
