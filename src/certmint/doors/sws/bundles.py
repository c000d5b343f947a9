"""Certificates in the response types of SWS: one by one, zip, PKCS#7, Netscape sequence."""

import io
import zipfile
from collections.abc import Sequence

from certmint.enrolment.chains import pem
from certmint.model import cms, der
from certmint.model.errors import BadInput

TYPES = ("individually", "zip", "netscape", "pkcs7")
ENCODINGS = ("base64", "binary")
_MEDIA = {
    "individually": ("application/x-pem-file", "pem"),
    "zip": ("application/zip", "zip"),
    "netscape": ("application/x-x509-ca-cert", "nsc"),
    "pkcs7": ("application/pkcs7-mime", "p7b"),
}
_NETSCAPE_CERT_SEQUENCE = "2.16.840.1.113730.2.5"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same certificates make the same octets


def check(kind: str, encoding: str) -> None:
    """Raises BadInput `request-syntax`."""
    if kind not in TYPES:
        raise BadInput("request-syntax", f"response_type: use one of {', '.join(TYPES)}")
    if encoding not in ENCODINGS:
        raise BadInput("request-syntax", f"response_encoding: use one of {', '.join(ENCODINGS)}")


def bundle(kind: str, certificates: Sequence[bytes]) -> bytes:
    """The leaf and the CAs above it (DER, leaf first) as one file of this kind."""
    match kind:
        case "zip":
            return _zip(certificates)
        case "pkcs7":
            return cms.certificates_only(certificates)
        case "netscape":
            # What Netscape called a certificate sequence; `openssl nseq` reads it.
            inner = der.explicit(0, der.sequence(*certificates))
            return der.sequence(der.oid(_NETSCAPE_CERT_SEQUENCE), inner)
        case _:
            return "".join(map(pem, certificates)).encode()


def media_of(kind: str) -> tuple[str, str]:
    """The media type of a file of this kind, and how its name ends."""
    return _MEDIA[kind]


def _zip(certificates: Sequence[bytes]) -> bytes:
    """`certificate.crt`, `ca_bundle.crt`, and both in `chain.crt`."""
    texts = list(map(pem, certificates))
    files = {
        "certificate.crt": texts[0],
        "ca_bundle.crt": "".join(texts[1:]),
        "chain.crt": "".join(texts),
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), text)
    return packed.getvalue()
