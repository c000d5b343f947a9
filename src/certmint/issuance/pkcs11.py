"""Private keys that live in a PKCS#11 token, behind pyca's private-key classes.

    pkcs11:token=ca;object=issuing-1?module-path=/usr/lib/softhsm/libsofthsm2.so     (RFC 7512)

One lock per process stands around every call, because python-pkcs11 initialises modules without
locking of their own: two threads in one module crash it. Open keys after a fork, never before.
A session that was lost is opened again once; after that the key store is Unavailable. ECDSA is
hashed here and signed by CKM_ECDSA, since SoftHSM has no CKM_ECDSA_SHA256. A wrong PIN is never
tried twice, so that nothing here locks a token. Keys are made non-extractable; there is no way
to read, import or delete one.
"""

import contextlib
import hashlib
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Never, Self, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.utils import Buffer

from certmint.model.errors import Conflict, Misconfigured, Unavailable
from certmint.model.keys import KeyKind, PrivateKey, PublicKey, public_key_of

_LOCK = threading.RLock()
_RSA_BITS = {KeyKind.RSA2048: 2048, KeyKind.RSA3072: 3072, KeyKind.RSA4096: 4096}
_CURVE_NAMES = {KeyKind.P256: "secp256r1", KeyKind.P384: "secp384r1"}

T = TypeVar("T")
PIN = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class TokenURI:
    """The subset of RFC 7512 that names one key pair: token, object and module-path."""

    token: str
    object: str
    module_path: str

    @classmethod
    def parse(cls, uri: str) -> "TokenURI":
        """Raises Misconfigured `key-uri`. A PIN in the URI is refused without repeating it."""
        path, _, query = uri.removeprefix("pkcs11:").partition("?")
        found = {}
        for pair in (*path.split(";"), *filter(None, query.split("&"))):
            name, equals, value = pair.partition("=")
            if not equals or not value or name in found or name not in _ATTRIBUTES:
                raise Misconfigured(
                    "key-uri",
                    f"attribute {name!r} of a pkcs11: key URI is not usable: write "
                    "pkcs11:token=…;object=…?module-path=…, and keep the PIN among the secrets",
                )
            found[name] = urllib.parse.unquote(value)
        missing = _ATTRIBUTES - found.keys()
        if missing:
            raise Misconfigured("key-uri", f"key URI {uri!r} lacks {', '.join(sorted(missing))}")
        return cls(found["token"], found["object"], found["module-path"])

    def __str__(self) -> str:
        return f"pkcs11:token={self.token};object={self.object}"


_ATTRIBUTES = {"token", "object", "module-path"}


@dataclass(eq=False, slots=True)
class _Token:
    """One token of one module: its session, and the key objects found in that session."""

    uri: TokenURI
    pin: PIN = field(repr=False)
    session: Any = field(default=None, repr=False)
    keys: dict[str, Any] = field(default_factory=dict, repr=False)

    def run(self, work: Callable[["_Token"], T]) -> T:
        """`work` with a session at hand; once more in a new session if the first was lost.

        Raises Unavailable `key-store`, Misconfigured `key-passphrase` (wrong PIN).
        """
        import pkcs11

        with _LOCK:
            try:
                return self._attempt(work)
            except pkcs11.PKCS11Error:
                self._forget_session()
            try:
                return self._attempt(work)
            except pkcs11.PKCS11Error as error:
                self._forget_session()
                raise Unavailable(
                    "key-store",
                    f"token {self.uri.token!r} of {self.uri.module_path} does not answer "
                    f"({type(error).__name__}): check the module and the token",
                ) from None

    def _attempt(self, work: Callable[["_Token"], T]) -> T:
        if self.session is None:
            self.session = self._open()
        return work(self)

    def _forget_session(self) -> None:
        import pkcs11

        session, self.session = self.session, None
        self.keys.clear()
        with contextlib.suppress(pkcs11.PKCS11Error):
            if session is not None:
                session.close()

    def private_key(self, label: str) -> Any:
        """The private key object in this session."""
        if label not in self.keys:
            self.keys[label] = self._find(label, "PRIVATE_KEY")
        return self.keys[label]

    def public_key(self, label: str) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
        """The public half, read out of the token."""
        import pkcs11
        from pkcs11.util.ec import encode_ec_public_key

        found = self._find(label, "PUBLIC_KEY")
        if found.key_type == pkcs11.KeyType.RSA:
            exponent = int.from_bytes(found[pkcs11.Attribute.PUBLIC_EXPONENT], "big")
            modulus = int.from_bytes(found[pkcs11.Attribute.MODULUS], "big")
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
        if found.key_type == pkcs11.KeyType.EC:
            key = serialization.load_der_public_key(encode_ec_public_key(found))
            if isinstance(key, ec.EllipticCurvePublicKey):
                return key
        raise Misconfigured("key-kind", f"the key {self.uri} is neither EC nor RSA")

    def holds(self, label: str) -> bool:
        """Whether any object carries this label."""
        import pkcs11

        return any(True for _ in self.session.get_objects({pkcs11.Attribute.LABEL: label}))

    def _find(self, label: str, kind: str) -> Any:
        import pkcs11

        try:
            return self.session.get_key(object_class=pkcs11.ObjectClass[kind], label=label)
        except pkcs11.NoSuchKey:
            raise Misconfigured(
                "key-missing", f"token {self.uri.token!r} holds no {kind.lower()} {label!r}"
            ) from None
        except pkcs11.MultipleObjectsReturned:
            raise Misconfigured(
                "key-missing", f"token {self.uri.token!r} holds more than one key {label!r}"
            ) from None

    def _open(self) -> Any:
        import pkcs11

        token = pkcs11.lib(self.uri.module_path).get_token(token_label=self.uri.token)
        try:
            return token.open(user_pin=self.pin().decode())
        except pkcs11.UserAlreadyLoggedIn:
            return token.open()  # a login is the process's, not the session's
        except (pkcs11.PinIncorrect, pkcs11.PinLenRange, pkcs11.PinInvalid, pkcs11.PinLocked):
            raise Misconfigured(
                "key-passphrase",
                f"the PIN for token {self.uri.token!r} is wrong or locked: check the secret "
                f"'pin:{self.uri.token}'",
            ) from None


_TOKENS: dict[tuple[str, str], _Token] = {}


def open_token_key(uri: TokenURI, pin: PIN) -> PrivateKey:
    """The private key that `uri` names, as a pyca key.

    Raises Misconfigured `key-missing`, `key-kind` or `key-passphrase`, Unavailable `key-store`.
    """
    token = _token(uri, pin)

    def find(token: _Token) -> PrivateKey:
        token.private_key(uri.object)
        public = token.public_key(uri.object)
        if isinstance(public, ec.EllipticCurvePublicKey):
            return TokenECKey(token, uri.object, public)
        return TokenRSAKey(token, uri.object, public)

    return token.run(find)


def create_token_key(uri: TokenURI, kind: KeyKind, pin: PIN) -> PublicKey:
    """Make a key pair inside the token and give back its public half.

    Raises Conflict `key-exists`, Misconfigured `key-passphrase`, Unavailable `key-store`.
    """

    def make(token: _Token) -> None:
        if token.holds(uri.object):
            raise Conflict("key-exists", f"{uri} exists already: choose another object")
        # A read-write session for this one act; it shares the login of the token's own session.
        with token.session.token.open(rw=True) as session:
            _generate(session, uri.object, kind)

    _token(uri, pin).run(make)
    return public_key_of(open_token_key(uri, pin))


def _generate(session: Any, label: str, kind: KeyKind) -> None:
    import pkcs11
    from pkcs11.util.ec import encode_named_curve_parameters

    stored = {
        "store": True,
        "label": label,
        "id": hashlib.sha256(label.encode()).digest()[:8],
        "capabilities": pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
        "private_template": {
            pkcs11.Attribute.SENSITIVE: True,
            pkcs11.Attribute.EXTRACTABLE: False,
        },
    }
    if kind.is_ec:
        parameters = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(_CURVE_NAMES[kind])}
        domain = session.create_domain_parameters(pkcs11.KeyType.EC, parameters, local=True)
        domain.generate_keypair(**stored)
    else:
        session.generate_keypair(pkcs11.KeyType.RSA, _RSA_BITS[kind], **stored)


def _token(uri: TokenURI, pin: PIN) -> _Token:
    with _LOCK:
        return _TOKENS.setdefault((uri.module_path, uri.token), _Token(uri, pin))


class _OnlySigns:
    """What the keys of both algorithms have in common: no way out of the token, no copies."""

    def _refuse(self, *_: object, **__: object) -> Never:
        raise UnsupportedAlgorithm("the private key never leaves its token: it only signs")

    exchange = decrypt = private_numbers = private_bytes = _refuse

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class TokenECKey(_OnlySigns, ec.EllipticCurvePrivateKey):
    """An EC key in a token: ECDSA over whole messages."""

    def __init__(self, token: _Token, label: str, public: ec.EllipticCurvePublicKey) -> None:
        self._token = token
        self._label = label
        self._public = public

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """The signature as DER. Raises Unavailable `key-store`, Misconfigured `key-missing`."""
        import pkcs11

        digest = _digest(data, signature_algorithm)
        raw: bytes = self._token.run(
            lambda token: token.private_key(self._label).sign(
                digest, mechanism=pkcs11.Mechanism.ECDSA
            )
        )
        half = len(raw) // 2
        return utils.encode_dss_signature(
            int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
        )

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size


class TokenRSAKey(_OnlySigns, rsa.RSAPrivateKey):
    """An RSA key in a token: PKCS#1 v1.5 signatures with SHA-256, and nothing else."""

    def __init__(self, token: _Token, label: str, public: rsa.RSAPublicKey) -> None:
        self._token = token
        self._label = label
        self._public = public

    def sign(self, data: Buffer, padding: object, algorithm: object) -> bytes:
        """The signature. Raises Unavailable `key-store`, Misconfigured `key-missing`."""
        import pkcs11

        if not (isinstance(padding, PKCS1v15) and isinstance(algorithm, hashes.SHA256)):
            raise UnsupportedAlgorithm("an RSA key in a token signs PKCS#1 v1.5 with SHA-256")
        signature: bytes = self._token.run(
            lambda token: token.private_key(self._label).sign(
                bytes(data), mechanism=pkcs11.Mechanism.SHA256_RSA_PKCS
            )
        )
        return signature

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    @property
    def key_size(self) -> int:
        return self._public.key_size


def _digest(data: Buffer, algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
    if not isinstance(algorithm, ec.ECDSA) or not isinstance(
        algorithm.algorithm, hashes.HashAlgorithm
    ):
        raise UnsupportedAlgorithm("an EC key in a token signs by ECDSA, whole messages only")
    digest = hashes.Hash(algorithm.algorithm)
    digest.update(bytes(data))
    return digest.finalize()
