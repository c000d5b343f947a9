"""Opening the envelope in which a key was sent to this device (CMS EnvelopedData, RFC 5652).

It opens what the server's key delivery makes and nothing else: AES-256-CBC content, the content
key wrapped for our identity certificate, by ECDH and the X9.63 KDF over SHA-256 (RFC 5753) or by
RSA-OAEP over SHA-256 (RFC 3560). No algorithm is negotiated.

EnvelopedData is not authenticated: what comes out is trusted only once it is a private key that
matches the certificate beside it (`certmint_agent.credential`).
"""

from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from certmint_agent.errors import Unacceptable

IdentityKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

# Complete encodings, compared byte for byte: DER has one way to write each of them.
_DATA = bytes.fromhex("06092a864886f70d010701")
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


def open_envelope(envelope: bytes, certificate: x509.Certificate, key: IdentityKey) -> bytes:
    """The content of a DER ContentInfo that was made for `certificate`, whose key is `key`.

    Raises Unacceptable for an envelope that is malformed, made for somebody else or made in
    another way. It does not say at which step it failed.
    """
    try:
        return _open(envelope, certificate, key)
    except (ValueError, IndexError, InvalidUnwrap):
        raise Unacceptable(
            "the encrypted key that the server sent does not open with the identity key"
        ) from None


def _open(envelope: bytes, certificate: x509.Certificate, key: IdentityKey) -> bytes:
    kind, wrapper = _children(envelope)
    _require(kind == _ENVELOPED_DATA)
    _, recipients, encrypted = _children(_children(wrapper)[0])
    (recipient,) = _children(recipients)
    content_type, algorithm, sealed = _children(encrypted)
    cipher, iv = _children(algorithm)
    _require(content_type == _DATA and cipher == _AES256_CBC and sealed[0] == 0x80)
    content_key = _content_key(recipient, certificate, key)
    decryptor = Cipher(algorithms.AES256(content_key), modes.CBC(_content(iv))).decryptor()
    padded = decryptor.update(_content(sealed)) + decryptor.finalize()
    unpadder = padding.PKCS7(128).unpadder()
    return unpadder.update(padded) + unpadder.finalize()


def _content_key(recipient: bytes, certificate: x509.Certificate, key: IdentityKey) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        _require(recipient[0] == _TRANSPORT)
        _, rid, algorithm, encrypted = _children(recipient)
        _require(_is_ours(rid, certificate) and algorithm == _OAEP_SHA256)
        oaep = rsa_padding.OAEP(rsa_padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        return key.decrypt(_content(encrypted), oaep)
    _require(recipient[0] == _AGREE)
    _, originator, algorithm, keys = _children(recipient)
    ((rid, encrypted),) = (_children(each) for each in _children(keys))
    _require(_is_ours(rid, certificate) and algorithm == _ECDH_SHA256KDF_AES256WRAP)
    shared = key.exchange(ec.ECDH(), _ephemeral(originator, key.public_key()))
    wrapping_key = X963KDF(hashes.SHA256(), 32, _SHARED_INFO).derive(shared)
    return aes_key_unwrap(wrapping_key, _content(encrypted))


def _ephemeral(originator: bytes, ours: ec.EllipticCurvePublicKey) -> ec.EllipticCurvePublicKey:
    # Our own curve and our own algorithm identifier around their point: pyca then proves that
    # the point is on the curve, and a point of another curve has nowhere to go.
    algorithm, point = _children(_children(originator)[0])
    own = ours.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _require(algorithm == _children(own)[0])
    return ec.EllipticCurvePublicKey.from_encoded_point(ours.curve, _content(point)[1:])


def _is_ours(rid: bytes, certificate: x509.Certificate) -> bool:
    issuer, serial = _children(rid)
    ours = int.from_bytes(_content(serial), "big") == certificate.serial_number
    return ours and issuer == certificate.issuer.public_bytes()


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError("not the envelope that we open")


def _read(data: bytes, offset: int) -> tuple[int, int]:
    """Where the content of the TLV at `offset` starts and ends (definite lengths only)."""
    size, start = data[offset + 1], offset + 2
    if size & 0x80:
        width = size & 0x7F
        _require(1 <= width <= 4)
        size = int.from_bytes(data[start : start + width], "big")
        start += width
    _require(start + size <= len(data))
    return start, start + size


def _content(tlv: bytes) -> bytes:
    start, end = _read(tlv, 0)
    return tlv[start:end]


def _children(tlv: bytes) -> list[bytes]:
    position, end = _read(tlv, 0)
    found = []
    while position < end:
        _, stop = _read(tlv, position)
        found.append(tlv[position:stop])
        position = stop
    return found
