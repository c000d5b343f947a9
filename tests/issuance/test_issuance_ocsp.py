"""OCSP answers: read by pyca and openssl; whatever is asked, there is an answer."""

import contextlib
import datetime as dt
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certmint.issuance.authority import SigningAuthority
from certmint.issuance.ocsp import MALFORMED_REQUEST, UNAUTHORIZED, CertStatus, respond
from certmint.model import der
from certmint.model.entities import Revocation, RevocationReason
from certmint.model.keys import KeyKind
from certmint.model.profile import SERVICE
from certmint.model.serial import Serial, serial_of

LIFE = dt.timedelta(hours=12)
SHA1 = hashes.SHA1()  # noqa: S303 what most OCSP clients name certificates by
GOOD = CertStatus(known=True)
UNKNOWN = CertStatus(known=False)


@pytest.fixture(scope="module")
def issuing(world: Any) -> SigningAuthority:
    return world.below(world.root())


@pytest.fixture(scope="module")
def leaf(world: Any, issuing: SigningAuthority) -> x509.Certificate:
    approval = world.approve(issuing.authority, SERVICE, world.key(), names=("a.example.com",))
    return x509.load_der_x509_certificate(world.issue(issuing, approval)[0])


def _issuer(signing: SigningAuthority) -> x509.Certificate:
    return x509.load_der_x509_certificate(signing.authority.der)


def _request(
    leaf: x509.Certificate,
    issuer: x509.Certificate,
    nonce: bytes | None = None,
    algorithm: hashes.HashAlgorithm = SHA1,
) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, algorithm)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def _verify(response: ocsp.OCSPResponse, signing: SigningAuthority) -> None:
    public = _issuer(signing).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    digest = response.signature_hash_algorithm
    assert digest is not None
    public.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(digest))


@pytest.mark.parametrize("algorithm", [SHA1, hashes.SHA256()])
def test_good_is_signed_by_the_ca(
    world: Any, issuing: SigningAuthority, leaf: x509.Certificate, algorithm: Any
) -> None:
    """The CertID comes back as it was asked, with the times and the CA's own signature."""
    asked: list[Serial] = []

    def lookup(serial: Serial) -> CertStatus:
        asked.append(serial)
        return GOOD

    request = _request(leaf, _issuer(issuing), algorithm=algorithm)
    response = ocsp.load_der_ocsp_response(respond(request, issuing, lookup, world.now, LIFE))

    _verify(response, issuing)
    assert asked == [serial_of(leaf.serial_number)]
    assert response.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert response.serial_number == leaf.serial_number
    assert isinstance(response.hash_algorithm, type(algorithm))
    assert response.this_update_utc == response.produced_at_utc == world.now
    assert response.next_update_utc == world.now + LIFE
    assert (
        response.responder_key_hash
        == ocsp.load_der_ocsp_request(_request(leaf, _issuer(issuing))).issuer_key_hash
    )


@pytest.mark.parametrize("reason", list(RevocationReason))
def test_revoked_says_when_and_why(
    world: Any, issuing: SigningAuthority, leaf: x509.Certificate, reason: RevocationReason
) -> None:
    """The reason is left out where there is none to tell."""
    when = world.now - dt.timedelta(days=3)
    status = CertStatus(known=True, revocation=Revocation(when, reason))

    der_ = respond(_request(leaf, _issuer(issuing)), issuing, lambda _: status, world.now, LIFE)

    response = ocsp.load_der_ocsp_response(der_)
    assert response.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert response.revocation_time_utc == when
    found = response.revocation_reason
    if reason is RevocationReason.UNSPECIFIED:
        assert found is None
    else:
        assert found is not None
        assert found.name == reason.name.lower()


def test_unissued_serial_is_unknown_never_good(
    world: Any, issuing: SigningAuthority, leaf: x509.Certificate
) -> None:
    """RFC 6960 2.2; BR 4.9.10."""
    request = _request(leaf, _issuer(issuing))

    response = ocsp.load_der_ocsp_response(
        respond(request, issuing, lambda _: UNKNOWN, world.now, LIFE)
    )

    assert response.certificate_status is ocsp.OCSPCertStatus.UNKNOWN


@pytest.mark.parametrize("number", [-5, 0, 1 << 160])
def test_impossible_serial_is_unknown_without_asking(
    world: Any, issuing: SigningAuthority, leaf: x509.Certificate, number: int
) -> None:
    """The registry is not asked for what no serial can be."""

    def lookup(_: Serial) -> CertStatus:
        raise AssertionError("asked")

    one = der.sequence(_cert_id(issuing, leaf, number))
    answer = respond(
        der.sequence(der.sequence(der.sequence(one))), issuing, lookup, world.now, LIFE
    )

    assert b"\x82\x00" in answer
    _verify(ocsp.load_der_ocsp_response(answer), issuing)


def _cert_id(signing: SigningAuthority, leaf: x509.Certificate, number: int) -> bytes:
    """A CertID as pyca writes it, with another serial."""
    (tbs,) = der.children(_request(leaf, _issuer(signing)))
    (listed,) = der.children(tbs)
    (single,) = der.children(listed)
    (cert_id,) = der.children(single)
    return der.sequence(*der.children(cert_id)[:3], der.integer(number))


@pytest.mark.parametrize("length", [1, 16, 32, 128])
def test_nonce_comes_back(
    world: Any, issuing: SigningAuthority, leaf: x509.Certificate, length: int
) -> None:
    """RFC 9654: 1 to 128 octets, echoed."""
    nonce = bytes(range(length))
    request = _request(leaf, _issuer(issuing), nonce)

    response = ocsp.load_der_ocsp_response(
        respond(request, issuing, lambda _: GOOD, world.now, LIFE)
    )

    assert response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce


@pytest.mark.parametrize("length", [0, 129])
def test_nonce_of_another_length_is_malformed(
    world: Any, issuing: SigningAuthority, leaf: x509.Certificate, length: int
) -> None:
    """RFC 9654, 2.1."""
    request = _request(leaf, _issuer(issuing), b"n" * length)

    answer = respond(request, issuing, lambda _: GOOD, world.now, LIFE)

    assert answer == MALFORMED_REQUEST


def test_other_authority_is_unauthorized(
    world: Any, issuing: SigningAuthority, leaf: x509.Certificate
) -> None:
    """Nobody else's certificates are spoken for; a hash that we do not compute is nobody's."""
    other = world.below(world.root())
    for request in (
        _request(leaf, _issuer(other)),
        _request(leaf, _issuer(issuing), algorithm=hashes.SHA512()),
    ):
        assert respond(request, issuing, lambda _: GOOD, world.now, LIFE) == UNAUTHORIZED


def test_several_requests_are_answered_in_order(
    world: Any, issuing: SigningAuthority, leaf: x509.Certificate
) -> None:
    """Sixteen at most; none at all, or seventeen, are malformed."""

    def lookup(serial: Serial) -> CertStatus:
        return GOOD if serial.endswith("2") else UNKNOWN

    def ask(count: int) -> bytes:
        singles = [der.sequence(_cert_id(issuing, leaf, n + 1)) for n in range(count)]
        request = der.sequence(der.sequence(der.sequence(*singles)))
        return respond(request, issuing, lookup, world.now, LIFE)

    found = [r.certificate_status.name for r in ocsp.load_der_ocsp_response(ask(3)).responses]

    assert found == ["UNKNOWN", "GOOD", "UNKNOWN"]
    assert len(list(ocsp.load_der_ocsp_response(ask(16)).responses)) == 16
    assert ask(17) == ask(0) == MALFORMED_REQUEST


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_bytes_get_an_answer(
    world: Any, issuing: SigningAuthority, leaf: x509.Certificate, data: st.DataObject
) -> None:
    """Random bytes and damaged requests: an answer that pyca can read, never an exception."""
    good = _request(leaf, _issuer(issuing), b"n" * 16)
    place = data.draw(st.integers(0, len(good) - 1))
    mangled = data.draw(
        st.binary(max_size=80)
        | st.integers(0, 255).map(lambda b: good[:place] + bytes((b,)) + good[place + 1 :])
        | st.just(good[:place])
        | st.binary(max_size=3).map(lambda b: good[:place] + b + good[place:])
    )

    answer = respond(mangled, issuing, lambda _: UNKNOWN, world.now, LIFE)

    ocsp.load_der_ocsp_response(answer)


@pytest.mark.parametrize("text", ["", "3000", "30023000", "300430023000", "3006300430023000"])
def test_hollow_requests_are_malformed(world: Any, issuing: SigningAuthority, text: str) -> None:
    """Structures with nothing in them."""
    answer = respond(bytes.fromhex(text), issuing, lambda _: GOOD, world.now, LIFE)

    assert answer == MALFORMED_REQUEST


def test_long_request_is_malformed(world: Any, issuing: SigningAuthority) -> None:
    """Nothing beyond 8 kB is even looked at."""
    answer = respond(der.tlv(0x30, bytes(9000)), issuing, lambda _: GOOD, world.now, LIFE)

    assert answer == MALFORMED_REQUEST


@contextlib.contextmanager
def _responder(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """The URL of a responder on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/ocsp-response")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("kind", "digest"), [(KeyKind.P256, "sha1"), (KeyKind.P384, "sha256")])
def test_openssl_believes_the_answer(
    world: Any, openssl: Callable[..., Any], tmp_path: Path, kind: KeyKind, digest: str
) -> None:
    """The openssl command asks over HTTP with a nonce: good, then revoked, then unknown."""
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)  # openssl checks against the real clock
    root = world.root(kind)
    approval = world.approve(root.authority, SERVICE, world.key(), names=("a.example.com",))
    (certificate,) = world.issue(root, approval)
    ca, leaf = tmp_path / "ca.pem", tmp_path / "leaf.pem"
    for path, content in ((ca, root.authority.der), (leaf, certificate)):
        path.write_bytes(x509.load_der_x509_certificate(content).public_bytes(Encoding.PEM))
    revocation = Revocation(now - dt.timedelta(hours=1), RevocationReason.SUPERSEDED)
    states = {
        "good": GOOD,
        "revoked": CertStatus(known=True, revocation=revocation),
        "unknown": UNKNOWN,
    }
    for word, status in states.items():
        with _responder(
            lambda request, status=status: respond(request, root, lambda _: status, now, LIFE)
        ) as url:
            asked = openssl(
                "ocsp", "-url", url, "-issuer", ca, f"-{digest}", "-cert", leaf, "-CAfile", ca,
                "-nonce", "-no_check_time",
            )  # fmt: skip

        assert "Response verify OK" in asked.stderr
        assert "Nonce" not in asked.stderr
        assert f"{leaf}: {word}" in asked.stdout
