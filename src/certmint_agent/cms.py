"""Opening the envelope in which a key was sent to this device (CMS EnvelopedData, RFC 5652).

It opens what the server's key delivery makes and nothing else: AES-256-CBC content, the content
key wrapped for our identity certificate, by ECDH and the X9.63 KDF over SHA-256 (RFC 5753) or by
RSA-OAEP over SHA-256 (RFC 3560). No algorithm is negotiated.

EnvelopedData is not authenticated: what comes out is trusted only once it is a private key that
matches the certificate beside it (`certmint_agent.credential`). Where the server signs what it
seals (RFC 7030 4.4.2), the signature is verified too (`certmint_agent.signed`).
"""

from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from certmint_agent.der import children, content, require
from certmint_agent.errors import Unacceptable

IdentityKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

# Complete encodings, compared byte for byte: DER has one way to write each of them.
_DATA = bytes.fromhex("06092a864886f70d010701")
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_ENVELOPED_DATA = bytes.fromhex("06092a864886f70d010703")
_AES256_CBC = bytes.fromhex("060960864801650304012a")
_ECDH_SHA256KDF_AES256WRAP = bytes.fromhex("301506062b8104010b01300b060960864801650304012d")
_OAEP_SHA256 = bytes.fromhex(
    "303c06092a864886f70d010107302fa00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500"
)
# ECC-CMS-SharedInfo for a 256-bit AES key wrap, without user keying material (RFC 5753 7.2).
_SHARED_INFO = bytes.fromhex("3015300b060960864801650304012da206040400000100")
_AGREE, _TRANSPORT = 0xA1, 0x30


def open_envelope(
    envelope: bytes,
    certificate: x509.Certificate,
    key: IdentityKey,
    verify: Callable[[bytes], bytes],
) -> bytes:
    """The private key in a DER ContentInfo that was made for `certificate`, whose key is `key`.

    `verify` gets SignedData if that is what was sealed, and gives back what it vouches for.
    Raises Unacceptable for an envelope that is malformed, made for somebody else or made in
    another way (it does not say at which step it failed), and whatever `verify` raises.
    """
    try:
        kind, found = _open(envelope, certificate, key)
    except (ValueError, IndexError, InvalidUnwrap):
        raise Unacceptable(
            "the encrypted key that the server sent does not open with the identity key"
        ) from None
    return verify(found) if kind == _SIGNED_DATA else found


def _open(envelope: bytes, certificate: x509.Certificate, key: IdentityKey) -> tuple[bytes, bytes]:
    """The content's type and the content."""
    kind, wrapper = children(envelope)
    require(kind == _ENVELOPED_DATA)
    _, recipients, encrypted = children(children(wrapper)[0])
    (recipient,) = children(recipients)
    content_type, algorithm, sealed = children(encrypted)
    cipher, iv = children(algorithm)
    require(content_type in (_DATA, _SIGNED_DATA))
    require(cipher == _AES256_CBC and sealed[0] == 0x80)
    content_key = _content_key(recipient, certificate, key)
    decryptor = Cipher(algorithms.AES256(content_key), modes.CBC(content(iv))).decryptor()
    padded = decryptor.update(content(sealed)) + decryptor.finalize()
    unpadder = padding.PKCS7(128).unpadder()
    return content_type, unpadder.update(padded) + unpadder.finalize()


def _content_key(recipient: bytes, certificate: x509.Certificate, key: IdentityKey) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        require(recipient[0] == _TRANSPORT)
        _, rid, algorithm, encrypted = children(recipient)
        require(_is_ours(rid, certificate) and algorithm == _OAEP_SHA256)
        oaep = rsa_padding.OAEP(rsa_padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        return key.decrypt(content(encrypted), oaep)
    require(recipient[0] == _AGREE)
    _, originator, algorithm, keys = children(recipient)
    ((rid, encrypted),) = (children(each) for each in children(keys))
    require(_is_ours(rid, certificate) and algorithm == _ECDH_SHA256KDF_AES256WRAP)
    shared = key.exchange(ec.ECDH(), _ephemeral(originator, key.public_key()))
    wrapping_key = X963KDF(hashes.SHA256(), 32, _SHARED_INFO).derive(shared)
    return aes_key_unwrap(wrapping_key, content(encrypted))


def _ephemeral(originator: bytes, ours: ec.EllipticCurvePublicKey) -> ec.EllipticCurvePublicKey:
    # Our own curve and our own algorithm identifier around their point: pyca then proves that
    # the point is on the curve, and a point of another curve has nowhere to go.
    algorithm, point = children(children(originator)[0])
    own = ours.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    require(algorithm == children(own)[0])
    return ec.EllipticCurvePublicKey.from_encoded_point(ours.curve, content(point)[1:])


def _is_ours(rid: bytes, certificate: x509.Certificate) -> bool:
    issuer, serial = children(rid)
    ours = int.from_bytes(content(serial), "big") == certificate.serial_number
    return ours and issuer == certificate.issuer.public_bytes()
