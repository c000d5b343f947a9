"""Who vouches for a key that was sent to us: SignedData inside of the envelope (RFC 7030 4.4.2).

It reads what the server's key delivery makes and nothing else: one signer, SHA-256, signed
attributes, ECDSA or RSA PKCS#1 v1.5, around an AsymmetricKeyPackage of one key (RFC 5958). The
signer is the server that `server` names: its certificate has that host's name, and a chain to the
trust anchors of `ca_file` that holds at the judged time. A stranger's valid certificate is not
enough, and neither is a signature without a certificate.
"""

import datetime as dt
import hashlib
import ipaddress

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from certmint_agent.der import children, content, require
from certmint_agent.errors import Unacceptable

# Complete encodings, compared byte for byte.
_KEY_PACKAGE = bytes.fromhex("060a60864801650201024e05")  # 2.16.840.1.101.2.1.2.78.5
_CONTENT_TYPE = bytes.fromhex("06092a864886f70d010903")
_MESSAGE_DIGEST = bytes.fromhex("06092a864886f70d010904")
_SHA256 = bytes.fromhex("0609608648016503040201")

_UNREADABLE = (
    ValueError,
    IndexError,
    InvalidSignature,
    UnsupportedAlgorithm,
    VerificationError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def vouched_key(data: bytes, anchors: list[x509.Certificate], host: str, now: dt.datetime) -> bytes:
    """The PKCS#8 key that SignedData in DER carries, if `host` signed it.

    Raises Unacceptable for anything else.
    """
    try:
        return _verify(data, anchors, host, now)
    except _UNREADABLE:
        raise Unacceptable(
            f"the key that the server sent is not signed by {host}, as ca_file knows it"
        ) from None


def _verify(data: bytes, anchors: list[x509.Certificate], host: str, now: dt.datetime) -> bytes:
    _, _, carried, bag, signers = children(data)
    kind, wrapped = children(carried)
    require(kind == _KEY_PACKAGE and bag[0] == 0xA0)
    package = content(children(wrapped)[0])
    (signer,) = children(signers)
    _, rid, digest, attributes, _, signature = children(signer)
    require(children(digest)[0] == _SHA256 and attributes[0] == 0xA0)
    certificates = [x509.load_der_x509_certificate(each) for each in children(bag)]
    (leaf,) = (each for each in certificates if _is_named(rid, each))
    _check_attributes(attributes, package)
    # The attributes travel as [0], and are signed as the SET OF that they are (RFC 5652 5.4).
    _check_signature(leaf, content(signature), b"\x31" + attributes[1:])
    _check_chain(leaf, [each for each in certificates if each != leaf], anchors, host, now)
    (key,) = children(package)
    return key


def _is_named(rid: bytes, certificate: x509.Certificate) -> bool:
    issuer, serial = children(rid)
    number = int.from_bytes(content(serial), "big")
    return issuer == certificate.issuer.public_bytes() and number == certificate.serial_number


def _check_attributes(attributes: bytes, package: bytes) -> None:
    found = {}
    for kind, values in map(children, children(attributes)):
        require(kind not in found)
        (found[kind],) = children(values)
    require(found.get(_CONTENT_TYPE) == _KEY_PACKAGE and _MESSAGE_DIGEST in found)
    require(content(found[_MESSAGE_DIGEST]) == hashlib.sha256(package).digest())


def _check_signature(leaf: x509.Certificate, signature: bytes, data: bytes) -> None:
    public = leaf.public_key()
    require(isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey))
    if isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())


def _check_chain(
    leaf: x509.Certificate,
    others: list[x509.Certificate],
    anchors: list[x509.Certificate],
    host: str,
    now: dt.datetime,
) -> None:
    subject: x509.DNSName | x509.IPAddress
    try:
        subject = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    policy = PolicyBuilder().store(Store(anchors)).time(now)
    policy.build_server_verifier(subject).verify(leaf, others)
