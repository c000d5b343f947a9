"""EST over real TLS: curl and openssl, a foreign client, and nginx in front of the server."""

import base64
import datetime as dt
import email
import http.client
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from asgi import Answer
from backstage import PASSWORD
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.name import _ASN1Type
from est_house import (
    ASYMMETRIC_DECRYPT_KEY_ID,
    CHALLENGE_PASSWORD,
    csr,
    key_part,
    names_of,
    octets,
)

from .est_world import World, body_of, curl, encoded, nginx, posted, world

pytestmark = pytest.mark.slow

Require = Callable[..., str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, require: Require) -> Iterator[World]:
    """One server for the tests of this file."""
    require("curl", package="curl")
    require("openssl", package="openssl")
    with world(tmp_path_factory.mktemp("est")) as running:
        yield running


def leaf_of(answer: bytes) -> x509.Certificate:
    """The certificate in an answer that curl printed."""
    assert b" 200 OK" in answer.partition(b"\r\n")[0], answer
    (leaf,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body_of(answer)))
    return leaf


def shown(world: World, serial_number: str) -> list[str | Path]:
    """curl's words for a device's identity."""
    certificate, key = world.identity(serial_number)
    return ["--cert", certificate, "--key", key]


def test_a_device_enrols_with_curl_and_openssl(server: World, tmp_path: Path) -> None:
    """cacerts, a key and a CSR by openssl, simpleenroll; openssl verifies what came."""
    key, request, anchors, leaf = (
        tmp_path / name for name in ("key", "csr", "anchors.pem", "leaf.pem")
    )
    commands = (
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key],
        ["openssl", "req", "-new", "-key", key, "-subj", "/", "-outform", "DER", "-out", request],
    )
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)

    _, _, ca = curl(server, server.url("cacerts", "acme~router"))
    words = posted(*shown(server, "R1"), server.url("simpleenroll"))
    _, _, enrolled = curl(server, *words, given=encoded(request.read_bytes()))

    for answer, path in ((ca, anchors), (enrolled, leaf)):
        der = base64.b64decode(body_of(answer))
        subprocess.run(
            ["openssl", "pkcs7", "-inform", "DER", "-print_certs", "-out", path],
            input=der, check=True,
        )  # fmt: skip
    subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", anchors, leaf],
        check=True, capture_output=True,
    )  # fmt: skip
    assert names_of(x509.load_pem_x509_certificate(leaf.read_bytes())) == ["r1.router.lan"]


def test_the_names_of_fields_are_spelled_out(server: World) -> None:
    """As in the standards' examples: libest finds no other spelling of any of these."""
    url = server.url("cacerts", "acme~router")
    _, _, found = curl(server, url)
    _, _, refused = curl(server, *posted(server.url("simpleenroll")), given=encoded(csr()))

    for field in (b"Content-Type: application/pkcs7-mime", b"Content-Length: ", b"Date: "):
        assert b"\r\n" + field in found.partition(b"\r\n\r\n")[0]
    assert b"\r\nWWW-Authenticate: Basic" in refused


def test_an_owner_enrols_with_a_password(server: World) -> None:
    """curl sends the password when it is asked, inside TLS."""
    url = server.url("simpleenroll", "acme~router~R2")
    words = posted("--anyauth", "--user", f"acme/jo:{PASSWORD}", url)

    status, _, answer = curl(server, *words, given=encoded(csr()))

    assert status == 0
    last = answer[answer.rindex(b"HTTP/1.1") :]
    assert names_of(leaf_of(last)) == ["r2.router.lan"]


def test_a_key_is_delivered_to_its_device(server: World) -> None:
    """serverkeygen by curl; openssl opens the envelope with the identity's key, and no other."""
    certificate, key = server.identity("R3")
    public = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public).digest
    request = csr(attributes=octets(ASYMMETRIC_DECRYPT_KEY_ID, identifier))

    words = posted(*shown(server, "R3"), server.url("serverkeygen", "acme~router~R3"))
    _, _, answer = curl(server, *words, given=encoded(request))

    head = email.message_from_bytes(answer.partition(b"\r\n\r\n")[0].partition(b"\r\n")[2])
    fields = {name.lower(): value for name, value in head.items()}
    _, envelope, leaf = key_part(Answer(200, fields, body_of(answer)))
    inside = subprocess.run(
        ["openssl", "cms", "-decrypt", "-inform", "DER", "-binary", "-inkey", key,
         "-recip", certificate],
        input=envelope, capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert names_of(leaf) == ["r3.router.lan"]
    spki = leaf.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    assert spki in inside


def test_a_refused_device_sees_why(server: World, tmp_path: Path) -> None:
    """A certificate of an unknown CA ends in the alert that says so, not in a torn connection."""
    key = ec.generate_private_key(ec.SECP256R1())
    rogue = rogue_certificate(key)
    (tmp_path / "rogue.pem").write_bytes(rogue.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "rogue.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    for version in ("--tls-max", "1.2"), ("--tlsv1.3",):
        status, said, _ = curl(
            server, *version, "--cert", tmp_path / "rogue.pem", "--key", tmp_path / "rogue.key",
            server.url("cacerts", "acme~router"),
        )  # fmt: skip
        assert status != 0
        assert "unknown ca" in said, said


def rogue_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """A certificate by a CA that nobody knows, that looks like a device's."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.SERIAL_NUMBER, "R1")])
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "id")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer)
    builder = builder.public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(now - dt.timedelta(days=1))
    builder = builder.not_valid_after(now + dt.timedelta(days=1))
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())


def test_what_is_wrong_with_a_request_is_said_in_http(server: World) -> None:
    """The listener lets a device's certificate in; the refusal has a code and a sentence."""
    words = posted(*shown(server, "R3"), server.url("simplereenroll"))

    status, _, answer = curl(server, *words, given=encoded(csr()))

    assert status == 0
    assert b" 403 " in answer.partition(b"\r\n")[0]
    assert b"certmint-code: renewal-changes-names" in answer.lower()


def test_a_body_that_is_too_long_is_answered(server: World) -> None:
    """A client that sends before it reads finds the refusal, and no torn connection."""
    head = (
        b"POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/pkcs10\r\nContent-Length: 8000000\r\n\r\n"
    )
    context = ssl.create_default_context(cafile=str(server.root))
    context.load_cert_chain(*map(str, server.identity("R1")))
    with (
        socket.create_connection(("localhost", server.port), timeout=20) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        tls.sendall(head + b"A" * 8_000_000)
        answer = tls.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"body-too-long" in answer


def test_a_csr_is_bound_to_its_tls_1_2_connection(server: World) -> None:
    """tls-unique of the real connection passes; the same over TLS 1.3 cannot be checked."""
    assert bound_enrolment(server, "R4", ssl.TLSVersion.TLSv1_2) == (200, "")
    assert bound_enrolment(server, "R4", ssl.TLSVersion.TLSv1_3) == (403, "channel-binding")


def bound_enrolment(server: World, serial_number: str, version: ssl.TLSVersion) -> tuple[int, str]:
    """Status and code of an enrolment whose challengePassword is the connection's tls-unique."""
    context = ssl.create_default_context(cafile=str(server.root))
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(*map(str, server.identity(serial_number)))
    connection = http.client.HTTPSConnection("localhost", server.port, context=context, timeout=20)
    connection.connect()
    try:
        assert isinstance(connection.sock, ssl.SSLSocket)
        unique = base64.b64encode(connection.sock.get_channel_binding("tls-unique") or b"")
        request = csr(attributes={CHALLENGE_PASSWORD: (unique, _ASN1Type.PrintableString)})
        connection.request(
            "POST", "/.well-known/est/simpleenroll", encoded(request),
            {"Content-Type": "application/pkcs10"},
        )  # fmt: skip
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Certmint-Code", "")
    finally:
        connection.close()


# strongSwan


def test_strongswan_enrols_and_renews(server: World, require: Require, tmp_path: Path) -> None:
    """`pki --estca`, then `pki --est` by password and again with a device's own certificate."""
    program = require("pki", package="strongswan-pki libstrongswan-extra-plugins")

    def pki(*words: str | Path) -> bytes:
        done = subprocess.run([program, *map(str, words)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    new_key, request = tmp_path / "new.key", tmp_path / "request.der"
    new_key.write_bytes(pki("--gen", "--type", "ecdsa", "--size", "256"))
    subject = ("--dn", "CN=r2.router.lan, serialNumber=R2", "--san", "r2.router.lan")
    request.write_bytes(pki("--req", "--type", "ecdsa", "--in", new_key, *subject))
    # pki makes no CSR without a subject, which is what renews a certificate without one.
    renewal = tmp_path / "renewal.der"
    renewal.write_bytes(csr(names=("r5.router.lan",)))
    url = ("--url", f"https://localhost:{server.port}", "--cacert", server.root)
    first = pki("--est", *url, "--userpass", f"acme/jo:{PASSWORD}", "--in", request)
    certificate, key = server.identity("R5")
    renewed = pki("--est", *url, "--cert", certificate, "--key", key, "--in", renewal)

    assert names_of(x509.load_der_x509_certificate(first)) == ["r2.router.lan"]
    assert names_of(x509.load_der_x509_certificate(renewed)) == ["r5.router.lan"]


# A proxy in front


def test_a_trusted_proxy_forwards_the_devices_certificate(
    server: World, require: Require, tmp_path: Path
) -> None:
    """nginx at the address that the configuration names: the device enrols through it."""
    program = require("nginx", package="nginx-light")
    with nginx(program, server, tmp_path, "127.0.0.2") as port:
        url = server.url("simpleenroll", port=port)
        words = posted(*shown(server, "R6"), url)
        _, _, answer = curl(server, *words, given=encoded(csr()))
        _, _, anonymous = curl(server, *posted(url), given=encoded(csr()))

    assert names_of(leaf_of(answer)) == ["r6.router.lan"]
    assert b" 401 " in anonymous.partition(b"\r\n")[0]


def test_a_proxy_at_another_address_is_not_believed(
    server: World, require: Require, tmp_path: Path
) -> None:
    """The same nginx from another address: its Client-Cert counts for nothing, and is logged."""
    program = require("nginx", package="nginx-light")
    with nginx(program, server, tmp_path, "127.0.0.3") as port:
        words = posted(*shown(server, "R6"), server.url("simpleenroll", port=port))
        _, _, answer = curl(server, *words, given=encoded(csr()))

    assert b" 401 " in answer.partition(b"\r\n")[0]
    assert "Client-Cert of 127.0.0.3 was ignored" in server.log
