"""Where new service keys are made: `key_store` of the configuration, opened for one attempt.

    file:          in the service folder, as PKCS#8
    tpm:…          by a TPM: see `certmint_agent.tpm_keys`
    pkcs11:…       in a token: see `certmint_agent.pkcs11_keys`

Keys of the other two homes stay where they are: a change of `key_store` holds from the next key on.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from certmint_agent import credential, pkcs11_keys
from certmint_agent.credential import PrivateKey
from certmint_agent.errors import Misconfigured
from certmint_agent.keys import StoredKey
from certmint_agent.pkcs11_keys import TokenURI
from certmint_agent.tpm_keys import TPMKeys


class KeyStore(Protocol):
    """Files, a token or a TPM. All methods raise KeyStoreFailed if it does not answer."""

    @property
    def home(self) -> str:
        """The `home` of the keys that are made here."""

    def generate(self, kind: str) -> PrivateKey:
        """A new key of `kind`, durable where the key itself is not put into a folder."""

    def open(self, key: StoredKey) -> PrivateKey | None:
        """The key that a folder has stored, or None if it is not here (any more)."""

    def sweep(self, named: Iterable[StoredKey]) -> None:
        """Destroy the keys made here that are not in `named`, which is all that folders hold."""


class FileKeys:
    """Keys that are files of the service folder, and live and die with it."""

    home = "file"

    def generate(self, kind: str) -> PrivateKey:
        return credential.generate(kind)

    def open(self, key: StoredKey) -> PrivateKey | None:
        try:
            return credential.load_key(key.text) if key.home == self.home else None
        except ValueError:
            return None

    def sweep(self, named: Iterable[StoredKey]) -> None:
        pass


def check(key_store: str) -> None:
    """Raises Misconfigured unless `key_store` is one that `opened` knows."""
    if key_store.startswith("pkcs11:"):
        TokenURI.parse(key_store)
    elif not key_store.startswith("tpm:") and key_store != "file:":
        raise Misconfigured(f"key_store = {key_store!r} must be file:, tpm: or pkcs11:…")


@contextmanager
def opened(key_store: str) -> Iterator[KeyStore]:
    """The store. Raises Misconfigured, KeyStoreFailed."""
    scheme, _, rest = key_store.partition(":")
    if scheme == "pkcs11":
        with pkcs11_keys.opened(TokenURI.parse(key_store)) as keys:
            yield keys
    elif scheme == "tpm":
        yield TPMKeys(rest)
    else:
        yield FileKeys()
