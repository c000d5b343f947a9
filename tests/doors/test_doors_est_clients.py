"""What EST clients of others need, beyond the standards or before them; each was run against us."""

import base64
import email
from collections.abc import Iterator

import pytest
from asgi import Answer, call
from backstage import House
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from est_house import ESTHouse, certificates, csr, key_part, names_of, open_est

LIBEST = {"user-agent": "libest 3.2.0p"}


@pytest.fixture(scope="module")
def est(house: House) -> ESTHouse:
    """The EST door of the house."""
    return open_est(house)


@pytest.fixture
def plain(est: ESTHouse) -> Iterator[ESTHouse]:
    """The house while its profile lets keys leave under TLS alone."""
    est.change_profile(plain_delivery=True)
    yield est
    est.change_profile(plain_delivery=False)


def answers_with_base64(est: ESTHouse, headers: dict[str, str]) -> list[Answer]:
    """One of each kind: CA certificates, attributes, a certificate."""
    return [
        est.get("cacerts", headers=headers),
        est.get("csrattrs", headers=headers),
        est.post("simpleenroll", csr(), peer=est.house.identity("R1"), headers=headers),
    ]


def test_answers_say_that_they_are_base64(plain: ESTHouse) -> None:
    """Bouncy Castle and est-client-python take a body without the field for DER (RFC 7030 4.1.3).

    libest skips a part without it.
    """
    for answer in answers_with_base64(plain, {}):
        assert answer.status == 200
        assert answer.headers["content-transfer-encoding"] == "base64"

    delivered = plain.post("serverkeygen", csr(), peer=plain.house.identity("R3"))
    head = f"Content-Type: {delivered.headers['content-type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + delivered.body).get_payload()
    assert [each["content-transfer-encoding"] for each in parts] == ["base64", "base64"]
    assert "content-transfer-encoding" not in delivered.headers


def test_libest_gets_lines(plain: ESTHouse) -> None:
    """OpenSSL's base64 BIO, with which it reads, finds nothing in one long line."""
    for answer in answers_with_base64(plain, LIBEST):
        lines = answer.body.splitlines()
        assert len(lines) > 1
        assert max(map(len, lines)) == 64
        assert answer.headers["content-length"] == str(len(answer.body))
        one = base64.b64encode(base64.b64decode(answer.body))
        assert one == answer.body.replace(b"\n", b"")

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    peer = plain.house.identity("R3")
    delivered = plain.post("serverkeygen", csr(key), peer=peer, headers=LIBEST)
    assert names_of(key_part(delivered)[2]) == ["r3.router.lan"]
    assert max(map(len, delivered.body.splitlines())) == 64
    assert delivered.headers["content-length"] == str(len(delivered.body))


def test_libest_is_refused_in_sentences(est: ESTHouse) -> None:
    """What is no base64 stays as it is; nothing gets a length that may have none."""
    refused = est.post("simpleenroll", csr(), headers=LIBEST)
    nothing = est.get("csrattrs", "", headers=LIBEST)

    assert refused.headers["certmint-code"] == "login-required"
    assert refused.body.count(b"\n") == 1
    assert refused.headers["content-length"] == str(len(refused.body))
    assert (nothing.status, nothing.body) == (204, b"")
    assert "content-length" not in nothing.headers


@pytest.mark.parametrize("armour", ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"])
def test_a_csr_may_come_in_armour(est: ESTHouse, armour: str) -> None:
    """est-client-python sends PEM, and so does whoever forgets -outform DER."""
    inside = base64.encodebytes(csr())
    pem = f"-----BEGIN {armour}-----\r\n".encode() + inside + f"-----END {armour}-----\n".encode()

    answer = est.post("simpleenroll", pem, peer=est.house.identity("R4"))

    assert names_of(*certificates(answer)) == ["r4.router.lan"]


def test_one_csr_comes_in_armour(est: ESTHouse) -> None:
    """Two of them, or a certificate, are refused as before."""
    for kind, count in (("CERTIFICATE REQUEST", 2), ("CERTIFICATE", 1)):
        pem = b"-----BEGIN %b-----\n%b-----END %b-----\n" % (
            kind.encode(), base64.encodebytes(csr()), kind.encode(),
        )  # fmt: skip
        answer = est.post("simpleenroll", pem * count, peer=est.house.identity("R4"))
        assert (answer.status, answer.headers["certmint-code"]) == (400, "est-encoding")


def test_a_renewal_may_repeat_the_names_of_what_is_shown(est: ESTHouse) -> None:
    """libest renews with the names of the certificate that it shows; a service certificate of
    serverAuth alone cannot be shown."""
    shown = x509.load_der_x509_certificate(est.house.identity("R5"))
    request = csr(subject=shown.subject.rfc4514_string())

    answer = est.post("simplereenroll", request, peer=est.house.identity("R5"))
    by_another = est.post("simplereenroll", request, peer=est.house.identity("R6"))

    (leaf,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.body))
    assert (leaf.subject, names_of(leaf)) == (x509.Name([]), ["r5.router.lan"])
    assert by_another.headers["certmint-code"] == "device-contradiction"


@pytest.mark.parametrize("label", ["acme%7Erouter", "acme%7erouter%7ER1", "acme~router~R%31"])
def test_a_label_may_be_encoded(est: ESTHouse, label: str) -> None:
    """Some libraries encode tildes, which nobody needs to (RFC 3986 2.3)."""
    assert est.get("cacerts", label).body == est.get("cacerts").body


def test_head_asks_what_get_asks(est: ESTHouse) -> None:
    """RFC 9110 9.1: whoever has GET has HEAD; uvicorn leaves the body out."""
    answer = call(est.app, "HEAD", "/.well-known/est/acme~router/cacerts")
    wrong = call(est.app, "HEAD", "/.well-known/est/simpleenroll")

    assert (answer.status, answer.headers["content-length"]) == (200, str(len(answer.body)))
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
