"""CMS (RFC 5652), as much of it as certificate enrolment needs.

`envelop` and `envelop_under` make EnvelopedData: a secret that the holder of one key reads, and
nobody else. `signed` makes SignedData around a package of keys, `certificates_only` the degenerate
SignedData that carries certificates and no signature.

- EC recipients: KeyAgreeRecipientInfo, one-pass ECDH with the X9.63 KDF over SHA-256 and AES-256
  key wrap (RFC 5753 3.1, 7.1.4; RFC 3565). RSA recipients: KeyTransRecipientInfo with OAEP over
  SHA-256 (RFC 3560). Holders of a shared key: KEKRecipientInfo with AES-256 key wrap. The content
  is AES-256-CBC (RFC 3565 4.1).
- A certified recipient is named by the issuer and serial number of its certificate (RFC 5652
  6.2.1), a shared key by its identifier (6.2.3).

EnvelopedData hides and does not authenticate: CBC lets a stranger garble the content unseen. The
connection that carries it, a signature inside, or the comparison of the key with its certificate
must do that. It does not judge the recipient (validity, key usage): the caller has.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from certmint.model import der
from certmint.model.errors import BadInput

DATA = "1.2.840.113549.1.7.1"
SIGNED_DATA = "1.2.840.113549.1.7.2"
AES256_CBC = "2.16.840.1.101.3.4.1.42"
KEY_PACKAGE = "2.16.840.1.101.2.1.2.78.5"  # AsymmetricKeyPackage: RFC 5958 2

_ENVELOPED_DATA = der.oid("1.2.840.113549.1.7.3")
_AES256_WRAP = der.sequence(der.oid("2.16.840.1.101.3.4.1.45"))  # no parameters: RFC 3565 2.3.2
# ECC-CMS-SharedInfo for a 256-bit key, without user keying material (RFC 5753 7.2).
_SHARED_INFO = der.sequence(
    _AES256_WRAP, der.explicit(2, der.octet_string((256).to_bytes(4, "big")))
)
_STD_DH_SHA256_KDF = der.oid("1.3.132.1.11.1")
_SHA256 = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"), der.NULL)
_MGF1 = der.sequence(der.oid("1.2.840.113549.1.1.8"), _SHA256)
_OAEP = der.sequence(
    der.oid("1.2.840.113549.1.1.7"),
    der.sequence(der.explicit(0, _SHA256), der.explicit(1, _MGF1)),
)
_ECDSA_SHA256 = der.sequence(der.oid("1.2.840.10045.4.3.2"))
_RSA = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.NULL)
_CONTENT_TYPE = der.oid("1.2.840.113549.1.9.3")
_MESSAGE_DIGEST = der.oid("1.2.840.113549.1.9.4")
_CURVES = (ec.SECP256R1, ec.SECP384R1)


@dataclass(frozen=True)
class Signer:
    """Who signs: a certificate with the CAs above it (DER, its own first), and its key.

    `signature` signs octets over SHA-256: ECDSA (DER) for an EC key, PKCS#1 v1.5 for an RSA key.
    """

    certificates: tuple[bytes, ...]
    signature: Callable[[bytes], bytes] = field(repr=False)


def envelop(
    content: bytes,
    recipient_certificate_der: bytes,
    *,
    ephemeral: Callable[[ec.EllipticCurve], ec.EllipticCurvePrivateKey],
    random_bytes: Callable[[int], bytes],
    content_type: str = DATA,
) -> bytes:
    """A DER ContentInfo that only the key of the recipient's certificate opens.

    `ephemeral` makes a key on the recipient's curve (`ec.generate_private_key`); it must be new
    for each call, and is not called for RSA, where pyca draws OAEP's seed itself. `random_bytes`
    gives the content key and the IV (`os.urandom`).
    Raises BadInput `envelope-recipient` for a certificate that is none, or whose key cannot
    receive: anything but EC P-256, EC P-384 and RSA of 2048 bits or more.
    """
    content_key, iv = random_bytes(32), random_bytes(16)
    recipient = _recipient(recipient_certificate_der, content_key, ephemeral)
    return _enveloped(content, content_type, recipient, content_key, iv)


def envelop_under(
    content: bytes,
    key_identifier: bytes,
    key: bytes,
    *,
    random_bytes: Callable[[int], bytes],
    content_type: str = DATA,
) -> bytes:
    """A DER ContentInfo that the holders of a shared AES-256 key open (RFC 5652 6.2.3)."""
    content_key, iv = random_bytes(32), random_bytes(16)
    wrapped = der.octet_string(aes_key_wrap(key, content_key))
    # [2] stands in place of KEKRecipientInfo's SEQUENCE tag (RFC 5652 6.2).
    recipient = der.explicit(
        2,
        der.integer(4) + der.sequence(der.octet_string(key_identifier)) + _AES256_WRAP + wrapped,
    )
    return _enveloped(content, content_type, recipient, content_key, iv)


def signed(content: bytes, content_type: str, signer: Signer) -> bytes:
    """SignedData in DER, without the ContentInfo around it: what an envelope carries inside.

    Raises BadInput `signer-certificate` for a signer that is neither EC nor RSA.
    """
    try:
        certificate = x509.load_der_x509_certificate(signer.certificates[0])
        public = certificate.public_key()
    except (ValueError, IndexError):
        raise BadInput("signer-certificate", "the signer's certificate cannot be read") from None
    if not isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise BadInput("signer-certificate", "the signer's key is neither EC nor RSA")
    # rsaEncryption, not sha256WithRSAEncryption: some clients read no other name (RFC 3370 3.2).
    algorithm = _RSA if isinstance(public, rsa.RSAPublicKey) else _ECDSA_SHA256
    attributes = der.set_of(
        der.sequence(_CONTENT_TYPE, der.set_of(der.oid(content_type))),
        der.sequence(
            _MESSAGE_DIGEST, der.set_of(der.octet_string(hashlib.sha256(content).digest()))
        ),
    )
    info = der.sequence(
        der.integer(1),
        _name_of(certificate),
        _SHA256,
        der.tlv(0xA0, der.content(attributes)),  # signed as a SET OF, sent as [0]: RFC 5652 5.4
        algorithm,
        der.octet_string(signer.signature(attributes)),
    )
    return der.sequence(
        der.integer(3),  # RFC 5652 5.1: any content type but id-data makes it 3
        der.set_of(_SHA256),
        der.sequence(der.oid(content_type), der.explicit(0, der.octet_string(content))),
        der.tlv(0xA0, der.content(der.set_of(*signer.certificates))),
        der.set_of(info),
    )


def certificates_only(certificates: Iterable[bytes]) -> bytes:
    """A ContentInfo in DER that carries certificates: nothing is signed, nobody signs.

    RFC 5652 5.2 calls it degenerate, RFC 7030 4.1.3 certs-only.
    """
    carried = der.tlv(0xA0, der.content(der.set_of(*certificates)))
    data = der.sequence(
        der.integer(1), der.set_of(), der.sequence(der.oid(DATA)), carried, der.set_of()
    )
    return der.sequence(der.oid(SIGNED_DATA), der.explicit(0, data))


def _enveloped(
    content: bytes, content_type: str, recipient: bytes, content_key: bytes, iv: bytes
) -> bytes:
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES256(content_key), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()
    plain = recipient[0] == der.SEQUENCE
    enveloped = der.sequence(
        der.integer(0 if plain else 2),  # RFC 5652 6.1: any RecipientInfo but version 0 makes it 2
        der.set_of(recipient),
        der.sequence(
            der.oid(content_type),
            der.sequence(der.oid(AES256_CBC), der.octet_string(iv)),
            der.tlv(0x80, sealed),
        ),
    )
    return der.sequence(_ENVELOPED_DATA, der.explicit(0, enveloped))


def _name_of(certificate: x509.Certificate) -> bytes:
    return der.sequence(certificate.issuer.public_bytes(), der.integer(certificate.serial_number))


def _recipient(
    certificate_der: bytes,
    content_key: bytes,
    ephemeral: Callable[[ec.EllipticCurve], ec.EllipticCurvePrivateKey],
) -> bytes:
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        public = certificate.public_key()
    except ValueError:
        raise BadInput(
            "envelope-recipient", "the recipient's certificate cannot be read as X.509 in DER"
        ) from None
    rid = _name_of(certificate)
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, _CURVES):
        return _agree(rid, public, ephemeral(public.curve), content_key)
    if isinstance(public, rsa.RSAPublicKey) and public.key_size >= 2048:
        return _transport(rid, public, content_key)
    raise BadInput(
        "envelope-recipient",
        "the recipient's key cannot receive an encrypted key: use EC P-256, EC P-384 or RSA-2048",
    )


def _agree(
    rid: bytes,
    public: ec.EllipticCurvePublicKey,
    ephemeral: ec.EllipticCurvePrivateKey,
    content_key: bytes,
) -> bytes:
    shared = ephemeral.exchange(ec.ECDH(), public)
    wrapping_key = X963KDF(hashes.SHA256(), 32, _SHARED_INFO).derive(shared)
    originator = der.children(
        ephemeral.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    wrapped = der.octet_string(aes_key_wrap(wrapping_key, content_key))
    # [1] stands in place of KeyAgreeRecipientInfo's SEQUENCE tag (RFC 5652 6.2).
    return der.explicit(
        1,
        der.integer(3)
        + der.explicit(0, der.explicit(1, b"".join(originator)))
        + der.sequence(_STD_DH_SHA256_KDF, _AES256_WRAP)
        + der.sequence(der.sequence(rid, wrapped)),
    )


def _transport(rid: bytes, public: rsa.RSAPublicKey, content_key: bytes) -> bytes:
    oaep = rsa_padding.OAEP(rsa_padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    return der.sequence(
        der.integer(0), rid, _OAEP, der.octet_string(public.encrypt(content_key, oaep))
    )
