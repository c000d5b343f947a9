"""CA keys by URI: opening one gives a pyca private key, wherever it lives.

    file:keys/issuing.pem                                      encrypted PKCS#8, in PEM
    pkcs11:token=ca;object=issuing-1?module-path=/…/module.so  see `pkcs11`

Secrets come from a callback by name: `keys` is the passphrase of all key files, `pin:<token>`
the PIN of a token. They are never part of a URI, and no error repeats them. A key file is never
overwritten and never half-written. Only `issuance.authority` and the wiring may import this
module; nothing here signs.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certmint.issuance import asn1
from certmint.issuance.pkcs11 import TokenURI, create_token_key, open_token_key
from certmint.model.errors import Conflict, Misconfigured, Unavailable
from certmint.model.keys import KeyKind, PrivateKey, PublicKey, public_key_of

Secrets = Callable[[str], bytes]

_RSA_BITS = {KeyKind.RSA2048: 2048, KeyKind.RSA3072: 3072, KeyKind.RSA4096: 4096}
_SPARE_BITS = 40  # a random scalar is this much shorter than its curve once in 2**40 keys


def open_key(uri: str, secrets: Secrets, base: Path) -> PrivateKey:
    """The private key at `uri`; a relative path is resolved against `base`.

    Raises Misconfigured `key-uri`, `key-missing`, `key-passphrase`, `key-weak` or `key-kind`,
    Unavailable `key-store`.
    """
    if uri.startswith("pkcs11:"):
        token = TokenURI.parse(uri)
        return open_token_key(token, lambda: secrets(f"pin:{token.token}"))
    return _open_file(_path(uri, base), _passphrase(secrets), uri)


def create_key(uri: str, kind: KeyKind, secrets: Secrets, base: Path) -> PublicKey:
    """Make a key pair at `uri` and give back its public half.

    Raises Conflict `key-exists`, Misconfigured `key-uri` or `key-passphrase`, Unavailable
    `key-store`.
    """
    if uri.startswith("pkcs11:"):
        token = TokenURI.parse(uri)
        return create_token_key(token, kind, lambda: secrets(f"pin:{token.token}"))
    path = _path(uri, base)
    key: PrivateKey
    if kind.is_ec:
        key = _sane(ec.generate_private_key(asn1.curve(kind)), uri)
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS[kind])
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(_passphrase(secrets)),
    )
    try:
        _write_new(path, encrypted, uri)
    except OSError as error:
        raise Unavailable("key-store", f"{uri} cannot be written: {error.strerror}") from None
    return public_key_of(key)


def _passphrase(secrets: Secrets) -> bytes:
    found = secrets("keys")
    if not found:
        raise Misconfigured("key-passphrase", "the secret 'keys' is empty: set a passphrase")
    return found


def _path(uri: str, base: Path) -> Path:
    if not uri.startswith("file:") or not uri.removeprefix("file:").strip("/"):
        raise Misconfigured(
            "key-uri", f"key URI {uri!r} is neither file:<path> nor pkcs11:token=…;object=…"
        )
    return base / uri.removeprefix("file:")


def _open_file(path: Path, passphrase: bytes, uri: str) -> PrivateKey:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise Misconfigured(
            "key-missing", f"there is no key at {uri}: restore it from the backup"
        ) from None
    except OSError as error:
        raise Unavailable("key-store", f"{uri} cannot be read: {error.strerror}") from None
    try:
        key = serialization.load_pem_private_key(data, passphrase)
    except TypeError:
        raise Misconfigured("key-passphrase", f"the key at {uri} is not encrypted") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Misconfigured(
            "key-passphrase",
            f"{uri} cannot be decrypted: the secret 'keys' is wrong, or the file is damaged",
        ) from None
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _sane(key, uri)
    if isinstance(key, rsa.RSAPrivateKey):
        return key
    raise Misconfigured("key-kind", f"the key at {uri} is neither EC nor RSA")


def _sane(key: ec.EllipticCurvePrivateKey, uri: str) -> ec.EllipticCurvePrivateKey:
    # Eight CAs had scalars small enough to search for (CVE-2026-111943).
    if key.private_numbers().private_value.bit_length() < key.key_size - _SPARE_BITS:
        raise Misconfigured(
            "key-weak", f"the private key at {uri} is too small a number: retire it"
        )
    return key


def _write_new(path: Path, data: bytes, uri: str) -> None:
    """All of `data` at `path`, or nothing; never in the place of another file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # If the power fails before this line, an encrypted file with a random name is left over.
        os.link(temporary, path)  # unlike a rename, this fails if the key exists
    except FileExistsError:
        raise Conflict(
            "key-exists", f"{uri} exists already, and a CA key is never overwritten: choose another"
        ) from None
    finally:
        temporary.unlink()
    for folder in (path.parent, path.parent.parent):  # the folder may be new as well
        _sync(folder)  # before anybody knows the public key


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
