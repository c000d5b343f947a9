"""Secrets that have to be read again, encrypted at rest."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certmint.model.errors import Misconfigured
from certmint.model.serial import RandomBytes


class Vault:
    """Encrypts under a key that every node of the installation derives for itself.

    `context` says whose secret it is: a sealed secret opens in its own place only.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def lock(self, secret: bytes, context: str, random_bytes: RandomBytes) -> bytes:
        nonce = random_bytes(12)
        return nonce + self._cipher.encrypt(nonce, secret, context.encode())

    def unlock(self, sealed: bytes, context: str) -> bytes:
        """Raises Misconfigured `sealed-secret` where the installation's passphrase changed."""
        try:
            return self._cipher.decrypt(sealed[:12], sealed[12:], context.encode())
        except InvalidTag:
            raise Misconfigured(
                "sealed-secret",
                "a stored secret cannot be opened with this installation's passphrase",
            ) from None
