"""The EST door of the house of the tests, and what its clients send and read."""

import base64
import email
import os
from dataclasses import dataclass
from typing import Any

from asgi import Answer, call
from backstage import BY, House
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.name import _ASN1Type

from certmint.app.servercert import document_signer, ensure
from certmint.app.wiring import SECRETS, derived_key, utc_now
from certmint.doors.est.app import ESTDoor, Services
from certmint.enrolment.delivery import Delivery, transport_key
from certmint.enrolment.oidc import OIDC
from certmint.model.profile import Profile
from certmint.registry import reads, writes

WELL_KNOWN = "/.well-known/est"
LABEL = "acme~router"
CSR_TYPE = {"content-type": "application/pkcs10"}
DECRYPT_KEY_ID = x509.ObjectIdentifier("1.2.840.113549.1.9.16.2.37")
ASYMMETRIC_DECRYPT_KEY_ID = x509.ObjectIdentifier("1.2.840.113549.1.9.16.2.54")
CAPABILITIES = x509.ObjectIdentifier("1.2.840.113549.1.9.15")
CHANGE_SUBJECT_NAME = x509.ObjectIdentifier("1.3.6.1.5.5.7.7.36")
CHALLENGE_PASSWORD = x509.ObjectIdentifier("1.2.840.113549.1.9.7")


@dataclass
class ESTHouse:
    """A house and its EST door."""

    house: Any
    app: Any

    def get(self, operation: str, label: str = LABEL, **more: Any) -> Answer:
        """A question without a body."""
        return call(self.app, "GET", path(operation, label), **more)

    def post(
        self, operation: str, body: bytes, label: str = "", headers: Any = None, **more: Any
    ) -> Answer:
        """An EST request; a CSR in DER is sent as base64."""
        sent = base64.b64encode(body) if body[:1] == b"\x30" else body
        told = {"accept": "*/*", **CSR_TYPE, **(headers or {})}
        return call(self.app, "POST", path(operation, label), body=sent, headers=told, **more)

    def transport_key(self, serial_number: str) -> tuple[bytes, bytes]:
        """The identifier and the key that a device shares with the house."""
        here = self.house.here
        with here.db.read() as tx:
            device = reads.device_by_serial_number(tx, self.house.maker.id, serial_number)
        assert device is not None
        return transport_key(derived_key(here.config, "transport keys"), device)

    def change_profile(self, **changes: Any) -> None:
        """A new version of the profile `service`, as an operator would add one."""
        here, tenant = self.house.here, self.house.maker.id
        with here.db.read() as tx:
            old = reads.profile(tx, tenant, "service")
        assert old is not None
        new = Profile(**{**vars(old), "version": old.version + 1, **changes})
        here.db.write(lambda tx: writes.add_profile(tx, tenant, new, by=BY, at=utc_now()))


def path(operation: str, label: str) -> str:
    return "/".join(filter(None, (WELL_KNOWN, label, operation)))


def open_est(house: House, oidc: OIDC | None = None, clock: Any = None) -> ESTHouse:
    """The door, with the installation's own TLS key as the signer of keys."""
    here = house.here
    ensure(here)
    secret = derived_key(here.config, "transport keys")
    delivery = Delivery(lambda: document_signer(here), secret, os.urandom)
    services = Services(
        here.db, here.gate, clock or here.clock, delivery, derived_key(here.config, SECRETS),
        oidc or OIDC(),
    )  # fmt: skip
    return ESTHouse(house, ESTDoor(services).app)


def csr(
    key: Any = None,
    *,
    names: tuple[str, ...] = (),
    subject: str = "",
    attributes: dict[x509.ObjectIdentifier, tuple[bytes, _ASN1Type]] | None = None,
) -> bytes:
    """A CSR in DER, by a new key unless one is given."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder(
        subject_name=x509.Name.from_rfc4514_string(subject)
    )
    if names:
        san = x509.SubjectAlternativeName(list(map(x509.DNSName, names)))
        builder = builder.add_extension(san, critical=True)
    for oid, (value, tag) in (attributes or {}).items():
        builder = builder.add_attribute(oid, value, _tag=tag)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def octets(oid: x509.ObjectIdentifier, value: bytes) -> Any:
    """An attribute whose value is an OCTET STRING."""
    return {oid: (value, _ASN1Type.OctetString)}


def certificates(answer: Answer) -> list[x509.Certificate]:
    """What a certs-only answer carries; its base64 is one line."""
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/pkcs7-mime; smime-type=certs-only"
    assert b"\n" not in answer.body
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.body, validate=True))


def key_part(answer: Answer) -> tuple[str, bytes, x509.Certificate]:
    """The key's content type and octets, and the certificate, of a serverkeygen answer."""
    assert answer.status == 200, answer.body
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    first, second = email.message_from_bytes(head + answer.body).get_payload()
    assert second["content-type"] == "application/pkcs7-mime; smime-type=certs-only"
    key, leaf = (base64.b64decode(part.get_payload(), validate=False) for part in (first, second))
    (certificate,) = pkcs7.load_der_pkcs7_certificates(leaf)
    return first["content-type"], key, certificate


def names_of(certificate: x509.Certificate) -> list[str]:
    """The DNS names that a certificate carries."""
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return san.get_values_for_type(x509.DNSName)
