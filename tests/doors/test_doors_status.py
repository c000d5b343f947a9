"""The status door: CRLs, OCSP and issuers' certificates, for everybody."""

import base64
import urllib.parse
from typing import Any

from asgi import call
from backstage import House
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from certmint.enrolment.revocation import revoke
from certmint.model.entities import Authority, RevocationReason
from certmint.model.serial import serial_of
from certmint.registry import reads


def issuing(house: House) -> Authority:
    """The CA that issues the service certificates."""
    with house.here.db.read() as tx:
        found = reads.authority_by_name(tx, house.maker.id, "issuing")
    assert found is not None
    return found


def ocsp_request(house: House, leaf: x509.Certificate) -> bytes:
    """A request for one certificate."""
    ca = x509.load_der_x509_certificate(issuing(house).der)
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, ca, hashes.SHA1())  # noqa: S303
    return builder.build().public_bytes(Encoding.DER)


def status_of(body: bytes) -> Any:
    """The certificate status in a response."""
    return ocsp.load_der_ocsp_response(body).certificate_status


def test_crl_is_served_with_validators(house: House) -> None:
    """The CRL is DER, cacheable, and not sent again to who has it."""
    ca = issuing(house)
    path = f"/crl/{ca.id}/0.crl"

    answer = call(house.status, "GET", path)
    again = call(house.status, "GET", path, headers={"if-none-match": answer.headers["etag"]})

    assert answer.headers["content-type"] == "application/pkix-crl"
    crl = x509.load_der_x509_crl(answer.body)
    assert crl.is_signature_valid(x509.load_der_x509_certificate(ca.der).public_key())  # type: ignore[arg-type]
    assert (again.status, again.body) == (304, b"")


def test_issuer_certificate_is_served(house: House) -> None:
    """caIssuers leads to the CA's own certificate in DER."""
    ca = issuing(house)

    answer = call(house.status, "GET", f"/aia/{ca.id}.cer")

    assert (answer.status, answer.body) == (200, ca.der)


def test_revocation_shows_in_ocsp_and_crl_at_once(house: House) -> None:
    """Good before, revoked after, in both."""
    leaf = house.service("R5")
    ca = issuing(house)
    request = ocsp_request(house, leaf)

    before = status_of(call(house.status, "POST", f"/ocsp/{ca.id}", body=request).body)
    revoke(
        house.here.db, house.here.keys, house.maker.id, serial_of(leaf.serial_number),
        RevocationReason.SUPERSEDED, by="test", now=house.here.clock(),
    )  # fmt: skip
    after = status_of(call(house.status, "POST", f"/ocsp/{ca.id}", body=request).body)
    crl = x509.load_der_x509_crl(call(house.status, "GET", f"/crl/{ca.id}/0.crl").body)

    assert (before, after) == (ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED)
    entry = crl.get_revoked_certificate_by_serial_number(leaf.serial_number)
    assert entry is not None
    reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.superseded


def test_ocsp_by_get_in_every_spelling(house: House) -> None:
    """Escaped, bare, with a slash too many, and without padding: all are the same request."""
    ca = issuing(house)
    encoded = base64.b64encode(ocsp_request(house, house.service("R2"))).decode()

    for spelling in (
        urllib.parse.quote(encoded, safe=""), encoded, "/" + encoded, encoded.rstrip("="),
    ):  # fmt: skip
        answer = call(house.status, "GET", f"/ocsp/{ca.id}/{spelling}")
        assert answer.headers["content-type"] == "application/ocsp-response"
        assert status_of(answer.body) is ocsp.OCSPCertStatus.GOOD


def test_strangers_questions(house: House) -> None:
    """Unknown paths are 404, garbage gets an OCSP error, an overlong question 413."""
    ca = issuing(house)

    assert call(house.status, "GET", "/crl/nope/0.crl").code == "crl-unknown"
    assert call(house.status, "GET", f"/crl/{ca.id}/7.crl").code == "crl-unknown"
    assert call(house.status, "GET", "/aia/nope.cer").code == "authority-unknown"
    assert call(house.status, "GET", f"/ocsp/{ca.id}/%%%").code == "ocsp-syntax"
    garbage = call(house.status, "POST", f"/ocsp/{ca.id}", body=b"garbage")
    assert garbage.body == bytes.fromhex("30030a0101")
    assert call(house.status, "POST", f"/ocsp/{ca.id}", body=b"x" * 9000).status == 413
