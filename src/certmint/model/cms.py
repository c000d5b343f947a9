"""CMS EnvelopedData (RFC 5652): a secret, readable by the holder of one certificate's key only.

It carries a private key from the maker's key management to the one device it was made for.

- EC recipients: KeyAgreeRecipientInfo, one-pass ECDH with the X9.63 KDF over SHA-256 and AES-256
  key wrap (RFC 5753 3.1, 7.1.4; RFC 3565). RSA recipients: KeyTransRecipientInfo with OAEP over
  SHA-256 (RFC 3560). The content is AES-256-CBC (RFC 3565 4.1).
- The recipient is named by the issuer and serial number of its certificate (RFC 5652 6.2.1).

EnvelopedData hides and does not authenticate: CBC lets a stranger garble the content unseen. The
connection that carries it, and the comparison of the key with its certificate, must do that.
It does not judge the recipient (validity, key usage): the caller has.
"""

from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from certmint.model import der
from certmint.model.errors import BadInput

_DATA = der.oid("1.2.840.113549.1.7.1")
_ENVELOPED_DATA = der.oid("1.2.840.113549.1.7.3")
_AES256_CBC = der.oid("2.16.840.1.101.3.4.1.42")
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
_CURVES = (ec.SECP256R1, ec.SECP384R1)


def envelop(
    content: bytes,
    recipient_certificate_der: bytes,
    *,
    ephemeral: Callable[[ec.EllipticCurve], ec.EllipticCurvePrivateKey],
    random_bytes: Callable[[int], bytes],
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
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES256(content_key), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()
    agreed = recipient[0] == 0xA1
    enveloped = der.sequence(
        der.integer(2 if agreed else 0),  # RFC 5652 6.1: any RecipientInfo but version 0 makes it 2
        der.set_of(recipient),
        der.sequence(
            _DATA,
            der.sequence(_AES256_CBC, der.octet_string(iv)),
            der.tlv(0x80, sealed),
        ),
    )
    return der.sequence(_ENVELOPED_DATA, der.explicit(0, enveloped))


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
    rid = der.sequence(certificate.issuer.public_bytes(), der.integer(certificate.serial_number))
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
