"""A service key as the service folder knows it, and keys in hardware behind pyca's classes.

A folder holds one of three things: the key itself (`key.pem`, PKCS#8), a key that is wrapped for
one TPM (`key.pem`, TSS2 PRIVATE KEY), or the URI of a key in a PKCS#11 token (`key.uri`, and the
same as a line for nginx, so that both change with `live`). Only the first is a secret.

It talks to no hardware: `certmint_agent.pkcs11_keys` and `certmint_agent.tpm_keys` do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Never, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

from certmint_agent import tss2
from certmint_agent.credential import PrivateKey, PublicKey, key_pem, load_key, matches

if TYPE_CHECKING:
    from cryptography.utils import Buffer

Sign = Callable[[bytes], bytes]  # a message -> ECDSA (DER) or PKCS#1 v1.5, with SHA-256


@dataclass(frozen=True)
class StoredKey:
    """What a folder holds of its key; `home` is where the key is: `file`, `tpm` or `pkcs11`."""

    home: str
    text: bytes = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> "StoredKey":
        """Raises OSError; FileNotFoundError if the folder holds no key."""
        uri = folder / "key.uri"
        if uri.exists():
            return cls("pkcs11", uri.read_bytes().rstrip(b"\n"))
        text = (folder / "key.pem").read_bytes()
        return cls("tpm" if text.startswith(tss2.HEADER) else "file", text)

    def files(self) -> dict[str, bytes]:
        """The same as files of a folder."""
        if self.home == "pkcs11":
            line = b'ssl_certificate_key "engine:pkcs11:%s";\n' % self.text
            return {"key.uri": self.text + b"\n", "key.nginx.conf": line}
        return {"key.pem": self.text}

    @property
    def where(self) -> str:
        """For people: `file:`, `tpm:`, or the URI in the token."""
        if self.home == "pkcs11":
            return self.text.decode(errors="replace").partition("?")[0]
        return f"{self.home}:"

    def belongs_to(self, leaf: x509.Certificate) -> bool:
        """Whether it is the leaf's key. Of a key in a token only the token knows: True."""
        try:
            if self.home == "file":
                return matches(load_key(self.text).public_key(), leaf)
            if self.home == "tpm":
                return matches(tss2.public_key(tss2.decode(self.text)[0]), leaf)
        except ValueError:
            return False
        return self.text.startswith(b"pkcs11:")


class _OnlySigns:
    """What keys in hardware have in common: no way out, no copies, and a name to be found by."""

    def __init__(self, stored: StoredKey, sign: Sign) -> None:
        self.stored = stored
        self._sign = sign

    def _refuse(self, *_: object, **__: object) -> Never:
        raise UnsupportedAlgorithm("a private key in hardware only signs, with SHA-256")

    exchange = decrypt = private_numbers = private_bytes = _refuse

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class HardwareECKey(_OnlySigns, ec.EllipticCurvePrivateKey):
    """An EC key in hardware: ECDSA with SHA-256 over whole messages."""

    def __init__(self, public: ec.EllipticCurvePublicKey, stored: StoredKey, sign: Sign) -> None:
        super().__init__(stored, sign)
        self._public = public

    def sign(
        self, data: "Buffer", signature_algorithm: ec.EllipticCurveSignatureAlgorithm
    ) -> bytes:
        """The signature as DER. Raises KeyStoreFailed."""
        if not isinstance(signature_algorithm.algorithm, hashes.SHA256):
            self._refuse()
        return self._sign(bytes(data))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size


class HardwareRSAKey(_OnlySigns, rsa.RSAPrivateKey):
    """An RSA key in hardware: PKCS#1 v1.5 with SHA-256."""

    def __init__(self, public: rsa.RSAPublicKey, stored: StoredKey, sign: Sign) -> None:
        super().__init__(stored, sign)
        self._public = public

    def sign(self, data: "Buffer", padding: object, algorithm: object) -> bytes:
        """The signature. Raises KeyStoreFailed."""
        if not (isinstance(padding, PKCS1v15) and isinstance(algorithm, hashes.SHA256)):
            self._refuse()
        return self._sign(bytes(data))

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    @property
    def key_size(self) -> int:
        return self._public.key_size


def hardware_key(public: PublicKey, stored: StoredKey, sign: Sign) -> PrivateKey:
    """The private half of `public`, which is where `stored` says."""
    if isinstance(public, rsa.RSAPublicKey):
        return HardwareRSAKey(public, stored, sign)
    return HardwareECKey(public, stored, sign)


def stored(key: PrivateKey) -> StoredKey:
    """What a folder shall hold of `key`."""
    if isinstance(key, HardwareECKey | HardwareRSAKey):
        return key.stored
    return StoredKey("file", key_pem(key))
