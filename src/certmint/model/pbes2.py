"""Encrypted PKCS#8 (RFC 5958, RFC 8018) for a whole batch under one passphrase.

pyca derives the key anew for each file; at the iterations that a passphrase needs, a thousand
devices would take minutes. Here the derivation is done once a batch and each file has its own
initialisation vector. `openssl pkcs8` and every other PBES2 reader opens the result.
"""

import hashlib
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from certmint.model import der
from certmint.model.errors import BadInput

ITERATIONS = 600_000
MIN_PASSPHRASE = 12

_PBES2 = der.oid("1.2.840.113549.1.5.13")
_PBKDF2 = der.oid("1.2.840.113549.1.5.12")
_HMAC_SHA256 = der.oid("1.2.840.113549.2.9")
_AES256_CBC = der.oid("2.16.840.1.101.3.4.1.42")


@dataclass(frozen=True)
class BatchCipher:
    """A derived key and the parameters that a reader needs to derive it again."""

    key: bytes = field(repr=False)
    derivation: bytes

    def encrypt(self, pkcs8: bytes, iv: bytes) -> bytes:
        """EncryptedPrivateKeyInfo in DER. `iv` is 16 random bytes, never used twice."""
        padder = padding.PKCS7(128).padder()
        padded = padder.update(pkcs8) + padder.finalize()
        encryptor = Cipher(algorithms.AES256(self.key), modes.CBC(iv)).encryptor()
        scheme = der.sequence(_AES256_CBC, der.octet_string(iv))
        algorithm = der.sequence(_PBES2, der.sequence(self.derivation, scheme))
        return der.sequence(
            algorithm, der.octet_string(encryptor.update(padded) + encryptor.finalize())
        )

    def decrypt(self, encrypted: bytes) -> bytes:
        """What `encrypt` was given. Raises BadInput `passphrase-wrong`."""
        try:
            algorithm, sealed = der.children(encrypted)
            derivation, scheme = der.children(der.children(algorithm)[1])
            iv = der.content(der.children(scheme)[1])
            decryptor = Cipher(algorithms.AES256(self.key), modes.CBC(iv)).decryptor()
            padded = decryptor.update(der.content(sealed)) + decryptor.finalize()
            unpadder = padding.PKCS7(128).unpadder()
            plain = unpadder.update(padded) + unpadder.finalize()
            whole = der.read(plain)[2] == len(plain) and derivation == self.derivation
        except ValueError:
            whole = False
        if not whole:
            raise BadInput("passphrase-wrong", "the passphrase is not the one of this batch")
        return plain


def batch_cipher(passphrase: bytes, salt: bytes) -> BatchCipher:
    """Derive a batch's key; `salt` is 16 random bytes. Raises BadInput `passphrase-short`."""
    if len(passphrase) < MIN_PASSPHRASE:
        raise BadInput(
            "passphrase-short", f"the passphrase is shorter than {MIN_PASSPHRASE} characters"
        )
    key = hashlib.pbkdf2_hmac("sha256", passphrase, salt, ITERATIONS, 32)
    parameters = der.sequence(
        der.octet_string(salt),
        der.integer(ITERATIONS),
        der.integer(32),
        der.sequence(_HMAC_SHA256, der.NULL),
    )
    return BatchCipher(key, der.sequence(_PBKDF2, parameters))
