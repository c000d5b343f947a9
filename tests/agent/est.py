"""EST (RFC 7030) as the server of `conftest` plays it, for the shell agent."""

import base64

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certmint.model.cms import certificates_only


def bag(*certificates: x509.Certificate) -> bytes:
    """Certificates alone, as CMS: what EST answers with."""
    return certificates_only([each.public_bytes(Encoding.DER) for each in certificates])


def cacerts(handler) -> None:
    """The CA's certificates, for whoever asks (section 4.1)."""
    handler.answer(200, base64.b64encode(handler.server.world.authorities()))


def enrol(handler, csr: x509.CertificateSigningRequest) -> None:
    """Who shows an identity, or logs in, gets a certificate (section 4.2)."""
    wanted = "Basic " + base64.b64encode(b"acme/jo:correct horse").decode()
    if handler.peer() is None and handler.headers.get("Authorization") != wanted:
        handler.problem(401, "login-required", "show the identity")
        return
    issued = handler.server.world.certify(csr.public_bytes(Encoding.PEM).decode())
    leaf = x509.load_pem_x509_certificate(issued["certificate"].encode())
    window = "{start}/{end}".format(**issued["renewal"]).replace("+00:00", "Z")
    handler.answer(200, base64.b64encode(bag(leaf)), [("Certmint-Renewal-Window", window)])
