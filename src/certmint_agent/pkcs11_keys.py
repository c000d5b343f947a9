"""Service keys in a PKCS#11 token: made there, signing there, never leaving it.

    pkcs11:token=router;object=https?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/pin

All keys carry the label `object` and an id of their own, which starts with b"certmint". A key is
made before any folder names it, and destroyed only when none does: so whatever has a name in the
service folder has its key in the token, whenever the power fails. Objects of another label or id
are never touched. A PIN is not tried if the token has seen a wrong one since its last login, so
that an agent that runs for ever locks no token.

It needs python-pkcs11 (the extra `pkcs11`), and reads no key out of a token.
"""

import contextlib
import re
import secrets
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils

from certmint_agent.credential import PrivateKey, PublicKey
from certmint_agent.errors import KeyStoreFailed, Misconfigured
from certmint_agent.keys import StoredKey, hardware_key

_OURS = b"certmint"
_SHAPE = "pkcs11:token=…;object=…?module-path=/…&pin-source=file:/…"


@dataclass(frozen=True)
class TokenURI:
    """Which token, by which module and PIN, and the label of our keys in it (RFC 7512)."""

    token: str
    object: str
    module_path: str
    pin_file: Path

    @classmethod
    def parse(cls, text: str) -> "TokenURI":
        """Raises Misconfigured. A PIN in the URI is refused, and not repeated."""
        found = _attributes(text)
        if found.keys() != {"token", "object", "module-path", "pin-source"}:
            raise Misconfigured(f"key_store must be {_SHAPE}, with the PIN in that file")
        pin_file = re.sub("^file:(//)?(?=/)", "", found["pin-source"])
        if not (pin_file.startswith("/") and found["module-path"].startswith("/")):
            raise Misconfigured("key_store: module-path and pin-source need whole paths, from /")
        return cls(found["token"], found["object"], found["module-path"], Path(pin_file))

    def of_key(self, number: bytes) -> str:
        """The URI of one key, as web servers read it.

        libp11 0.4.12 refuses a URI with a module-path, and GnuTLS 3.7 a pin-source with `file:`.
        """
        token, label = (urllib.parse.quote(each, safe="") for each in (self.token, self.object))
        name = "".join(f"%{byte:02X}" for byte in number)
        pin = urllib.parse.quote(str(self.pin_file))
        return f"pkcs11:token={token};object={label};id={name};type=private?pin-source={pin}"

    def id_of(self, key: StoredKey) -> bytes | None:
        """The id of a key that `of_key` named, if it is in this token under our label."""
        found = _attributes(key.text.decode(errors="replace"))
        if (found.get("token"), found.get("object")) != (self.token, self.object):
            return None
        path = key.text.decode(errors="replace").partition("?")[0]
        text = next((p[3:] for p in path.split(";") if p.startswith("id=")), "")
        return urllib.parse.unquote_to_bytes(text)


def _attributes(uri: str) -> dict[str, str]:
    path, _, query = uri.removeprefix("pkcs11:").partition("?")
    pairs = [pair.partition("=") for pair in (*path.split(";"), *query.split("&"))]
    return {name: urllib.parse.unquote(value) for name, _, value in pairs if value}


@dataclass(frozen=True)
class TokenKeys:
    """The keys of one service folder in a token, by a session that is logged in."""

    uri: TokenURI
    session: Any
    home = "pkcs11"

    def generate(self, kind: str) -> PrivateKey:
        """A new key pair in the token, not extractable. Raises KeyStoreFailed."""
        number = _OURS + secrets.token_bytes(8)
        with _answers(self.uri):
            _generate(self.session, self.uri.object, number, kind)
        found = self._open(number)
        if found is None:
            raise KeyStoreFailed(f"token {self.uri.token!r} made a key and does not find it")
        return found

    def open(self, key: StoredKey) -> PrivateKey | None:
        """The key that a folder names, or None if it is not in this token."""
        number = self.uri.id_of(key) if key.home == self.home else None
        return self._open(number) if number else None

    def sweep(self, named: Iterable[StoredKey]) -> None:
        """Destroy those of our keys that are not in `named`. Raises KeyStoreFailed."""
        import pkcs11

        kept = {self.uri.id_of(key) for key in named if key.home == self.home}
        label = {pkcs11.Attribute.LABEL: self.uri.object}
        with _answers(self.uri):
            for found in list(self.session.get_objects(label)):
                number = found[pkcs11.Attribute.ID]
                if number.startswith(_OURS) and number not in kept:
                    found.destroy()  # half a pair that a power cut leaves goes the next time

    def _open(self, number: bytes) -> PrivateKey | None:
        import pkcs11

        name = {"label": self.uri.object, "id": number}
        with _answers(self.uri):
            try:
                private = self.session.get_key(pkcs11.ObjectClass.PRIVATE_KEY, **name)
                public = _public(self.session.get_key(pkcs11.ObjectClass.PUBLIC_KEY, **name))
            except pkcs11.NoSuchKey:
                return None

        def sign(message: bytes) -> bytes:
            with _answers(self.uri):
                return _sign(private, public, message)

        return hardware_key(public, StoredKey(self.home, self.uri.of_key(number).encode()), sign)


@contextlib.contextmanager
def opened(uri: TokenURI) -> Iterator[TokenKeys]:
    """A session with the token. Raises KeyStoreFailed, and Misconfigured for PIN and module."""
    session = _login(uri)
    try:
        yield TokenKeys(uri, session)
    finally:
        with contextlib.suppress(KeyStoreFailed), _answers(uri):
            session.close()  # a token that is gone has closed it already


def _login(uri: TokenURI) -> Any:
    try:
        import pkcs11
    except ImportError:
        raise Misconfigured(
            "key_store names a PKCS#11 token: install certmint-agent[pkcs11]"
        ) from None
    try:
        pin = uri.pin_file.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise Misconfigured(f"key_store: the PIN file {uri.pin_file} cannot be read") from None
    with _answers(uri):
        token = pkcs11.lib(uri.module_path).get_token(token_label=uri.token)
        if token.flags & pkcs11.TokenFlag.USER_PIN_COUNT_LOW:
            raise Misconfigured(
                f"token {uri.token!r} was given a wrong PIN, and another might lock it: correct "
                f"{uri.pin_file} and log in once by hand"
            )
        try:
            return token.open(user_pin=pin, rw=True)
        except (pkcs11.PinIncorrect, pkcs11.PinLenRange, pkcs11.PinInvalid, pkcs11.PinLocked):
            raise Misconfigured(
                f"the PIN for token {uri.token!r} in {uri.pin_file} is wrong, or locked"
            ) from None


@contextlib.contextmanager
def _answers(uri: TokenURI) -> Iterator[None]:
    """Errors of the module in our words. It repeats none of the module's: they may be anything."""
    import pkcs11

    try:
        yield
    except pkcs11.PKCS11Error as problem:
        raise KeyStoreFailed(
            f"token {uri.token!r} of {uri.module_path} does not answer "
            f"({type(problem).__name__}): check the module and the token"
        ) from None


def _generate(session: Any, label: str, number: bytes, kind: str) -> None:
    import pkcs11
    from pkcs11.util.ec import encode_named_curve_parameters

    stored = {
        "store": True,
        "label": label,
        "id": number,
        "capabilities": pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
        "private_template": {
            pkcs11.Attribute.SENSITIVE: True,
            pkcs11.Attribute.EXTRACTABLE: False,
        },
    }
    if kind == "rsa-2048":
        session.generate_keypair(pkcs11.KeyType.RSA, 2048, **stored)
        return
    curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
    domain = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
    domain.generate_keypair(**stored)


def _public(found: Any) -> PublicKey:
    import pkcs11
    from pkcs11.util.ec import encode_ec_public_key

    if found.key_type == pkcs11.KeyType.RSA:
        exponent = int.from_bytes(found[pkcs11.Attribute.PUBLIC_EXPONENT], "big")
        modulus = int.from_bytes(found[pkcs11.Attribute.MODULUS], "big")
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    key = serialization.load_der_public_key(encode_ec_public_key(found))
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key
    raise KeyStoreFailed("the token holds a key of ours that is neither EC nor RSA")


def _sign(private: Any, public: object, message: bytes) -> bytes:
    """ECDSA is hashed here: SoftHSM, and many a chip, has no CKM_ECDSA_SHA256."""
    import pkcs11

    if isinstance(public, rsa.RSAPublicKey):
        return bytes(private.sign(message, mechanism=pkcs11.Mechanism.SHA256_RSA_PKCS))
    digest = hashes.Hash(hashes.SHA256())
    digest.update(message)
    raw = private.sign(digest.finalize(), mechanism=pkcs11.Mechanism.ECDSA)
    half = len(raw) // 2
    r, s = (int.from_bytes(part, "big") for part in (raw[:half], raw[half:]))
    return utils.encode_dss_signature(r, s)
