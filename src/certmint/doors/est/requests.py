"""From the octets of an EST request to values: the path, the login, base64, PKCS#10.

RFC 8951 3.1: a body is the base64 of DER, whatever Content-Transfer-Encoding says; whitespace and
line breaks anywhere are skipped. A client should not send PEM, and some do (est-client-python): a
CSR's armour is the base64 of DER between two lines, so it is read. Plain DER is refused with a
sentence.
"""

import base64
import binascii
import hashlib
import re
import urllib.parse

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AttributeOID, NameOID

from certmint.enrolment.est import Asked, Label
from certmint.model import der
from certmint.model.cms import AES256_CBC
from certmint.model.csr import MAX_BYTES
from certmint.model.errors import BadInput, NotFound
from certmint.model.keys import KeyKind

_CHANGE_SUBJECT_NAME = x509.ObjectIdentifier("1.3.6.1.5.5.7.7.36")  # RFC 6402 2.8
_DECRYPT_KEY_ID = x509.ObjectIdentifier("1.2.840.113549.1.9.16.2.37")
_ASYMMETRIC_DECRYPT_KEY_ID = x509.ObjectIdentifier("1.2.840.113549.1.9.16.2.54")
_CAPABILITIES = x509.ObjectIdentifier("1.2.840.113549.1.9.15")
_CURVES = {"secp256r1": KeyKind.P256, "secp384r1": KeyKind.P384}
_SIZES = {2048: KeyKind.RSA2048, 3072: KeyKind.RSA3072, 4096: KeyKind.RSA4096}
_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_WHITESPACE = b" \t\r\n"
_ARMOUR = re.compile(
    rb"\s*-----BEGIN ((?:NEW )?CERTIFICATE REQUEST)-----(.*)-----END \1-----\s*", re.DOTALL
)
_SEPARATOR = "~"
_ENCODED = re.compile("%7e", re.IGNORECASE)


def split_path(raw_path: bytes) -> tuple[Label | None, str]:
    """The label and the operation of `/.well-known/est[/<label>]/<operation>`.

    A label is `<manufacturer>~<product>` or `<manufacturer>~<product>~<serial number>`, each part
    percent-encoded where it has to be; it can never be an operation's name, which has no tilde.
    Clients that encode the tildes as well mean the same (RFC 3986 6.2.2.2).
    Raises NotFound `not-found` or `label-unknown`.
    """
    parts = raw_path.partition(b"/.well-known/est/")[2].decode("ascii", "replace").split("/")
    if len(parts) == 1:
        return None, parts[0]
    if len(parts) != 2:
        raise NotFound("not-found", "an EST path is /.well-known/est/[<label>/]<operation>")
    label = parts[0] if _SEPARATOR in parts[0] else _ENCODED.sub(_SEPARATOR, parts[0])
    fields = label.split(_SEPARATOR, 2)
    if len(fields) < 2:
        raise NotFound("label-unknown", "a label is <manufacturer>~<product>[~<serial number>]")
    maker, product, *serial = (urllib.parse.unquote(each) for each in fields)
    return Label(maker, product, serial[0] if serial else None), parts[1]


def unbase64(body: bytes) -> bytes:
    """What an EST body carries. Raises BadInput `est-encoding`."""
    armoured = _ARMOUR.fullmatch(body)
    text = (armoured[2] if armoured else body).translate(None, _WHITESPACE)
    if text.startswith(b"-----BEGIN"):
        raise BadInput(
            "est-encoding",
            "the body is PEM of something else than one CSR: send base64 without the BEGIN and "
            "END lines",
        )
    if _looks_like_der(body):
        raise BadInput("est-encoding", "the body is plain DER: send it as base64 (RFC 8951 3.1)")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise BadInput("est-encoding", "the body is not base64 (RFC 8951 3.1)") from None


def _looks_like_der(body: bytes) -> bool:
    return body[:1] == b"\x30" and not body[:16].isascii()


def read_csr(data: bytes, *, wants_kind: bool = False) -> Asked:
    """What a PKCS#10 request asks for, whether or not its signature is good.

    The kind of its key is looked at for who `wants_kind`: to make one like it.
    Raises BadInput `csr-syntax` or `csr-names`.
    """
    if len(data) > MAX_BYTES:
        raise BadInput("csr-syntax", f"the CSR has {len(data)} bytes; at most {MAX_BYTES} are read")
    try:
        request = x509.load_der_x509_csr(data)
        attributes = {each.oid: each.value for each in request.attributes}
        subject = request.subject
        names = _names(request)
    except _UNREADABLE:
        raise BadInput("csr-syntax", "the body is not the base64 of a PKCS#10 request") from None
    serials = subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
    if len(serials) > 1:
        raise BadInput("csr-names", "the CSR's subject has more than one serialNumber")
    return Asked(
        subject=subject,
        names=names,
        kind=_kind(request) if wants_kind else None,
        serial_number=str(serials[0].value) if serials else None,
        challenge_password=_text(attributes.get(AttributeOID.CHALLENGE_PASSWORD)),
        changes_names=_CHANGE_SUBJECT_NAME in attributes,
        decrypt_key_id=attributes.get(_DECRYPT_KEY_ID),
        asymmetric_key_id=attributes.get(_ASYMMETRIC_DECRYPT_KEY_ID),
        reads_aes256=_reads_aes256(attributes.get(_CAPABILITIES)),
        key_fingerprint=hashlib.sha256(der.children(request.tbs_certrequest_bytes)[2]).hexdigest(),
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _names(request: x509.CertificateSigningRequest) -> tuple[str, ...]:
    try:
        general = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    found = []
    for each in general:
        if not isinstance(each, x509.DNSName | x509.IPAddress):
            raise BadInput(
                "csr-names", f"a {type(each).__name__} in the CSR's SAN is not accepted here"
            )
        found.append(str(each.value).lower())
    return tuple(found)


def _kind(request: x509.CertificateSigningRequest) -> KeyKind | None:
    """The kind alone: whether the key is good is looked at where it is to be certified."""
    try:
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name)
    if isinstance(key, rsa.RSAPublicKey):
        return _SIZES.get(key.key_size)
    return None


def _reads_aes256(capabilities: bytes | None) -> bool:
    """SMIMECapabilities ::= SEQUENCE OF SEQUENCE { capabilityID OID, parameters OPTIONAL }."""
    if capabilities is None:
        return True  # RFC 7030 4.4.1 asks for the attribute; whoever leaves it out gets AES-256
    try:
        listed = der.children(der.tlv(der.SEQUENCE, capabilities))
        return der.oid(AES256_CBC) in [der.children(each)[0] for each in listed]
    except (ValueError, IndexError):
        raise BadInput("csr-syntax", "the CSR's SMIMECapabilities cannot be read") from None
