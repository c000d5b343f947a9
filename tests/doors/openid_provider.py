"""A small OpenID provider on loopback: real keys, real signatures, real HTTP, and wishes of tests.

It checks what a provider checks of its clients: their credentials, PKCE, redirect URIs, one use
of a code, and how often a device code is polled.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import secrets
import ssl
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from certmint.model.openid import Provider

CLIENT, SECRET = "certmint", "a secret of the client: +/%&"
AUDIENCE = "https://pki.example"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_RSA = rsa.generate_private_key(65537, 2048)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def new_key(algorithm: str) -> PrivateKey:
    """A key for this algorithm; the RSA one is shared, as making it takes a while."""
    if algorithm == "RS256":
        return _RSA
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def jwk_of(key: PrivateKey, kid: str) -> dict[str, str]:
    """The public half, as a provider publishes it."""
    public = key.public_key()
    named = {"kid": kid, "use": "sig"}
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        n, e = (number.to_bytes((number.bit_length() + 7) // 8, "big") for number in
                (numbers.n, numbers.e))  # fmt: skip
        return named | {"kty": "RSA", "n": b64(n), "e": b64(e)}
    if isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        x, y = (number.to_bytes(32, "big") for number in (point.x, point.y))
        return named | {"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)}
    return named | {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw())}


def signature(key: PrivateKey, data: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return key.sign(data)


def compact(header: dict[str, Any], claims: Any, sign: Callable[[bytes], bytes]) -> str:
    """A token with exactly this header, these claims and that signature."""
    signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{signed}.{b64(sign(signed.encode()))}"


@dataclass
class OpenIDProvider:
    """The provider; tests read and change what they want of it."""

    issuer: str = ""
    seconds: Callable[[], float] = lambda: 0.0
    algorithm: str = "ES256"
    keys: dict[str, PrivateKey] = field(default_factory=dict)
    published: list[dict[str, str]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    device: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, dict[str, Any]] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)  # path -> another answer
    claims: dict[str, Any] = field(default_factory=dict)  # of ID tokens

    def __post_init__(self) -> None:
        self.rotate("one")

    def rotate(self, kid: str, algorithm: str | None = None) -> None:
        """Sign with a new key from now on, and publish that alone."""
        self.algorithm = algorithm or self.algorithm
        self.keys[kid] = new_key(self.algorithm)
        self.kid = kid
        self.published = [jwk_of(self.keys[kid], kid)]

    def settings(self, **changes: Any) -> Provider:
        """What a manufacturer configures of it."""
        wanted = {
            "manufacturer": "acme", "issuer": self.issuer, "client_id": CLIENT,
            "client_secret": SECRET, "audience": AUDIENCE,
            "algorithms": ("RS256", "ES256", "EdDSA"),
        }  # fmt: skip
        return Provider(**(wanted | changes))

    def token(self, sub: str = "jo-at-home", **changes: Any) -> str:
        """A bearer token, right but for the changes; None leaves a claim out."""
        now = int(self.seconds())
        claims = {"iss": self.issuer, "aud": AUDIENCE, "sub": sub, "iat": now, "exp": now + 300}
        wanted = {name: value for name, value in (claims | changes).items() if value is not None}
        return self.sign(wanted)

    def sign(self, claims: Any, **header: Any) -> str:
        said = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT"} | header
        kept = {name: value for name, value in said.items() if value is not None}
        return compact(kept, claims, lambda data: signature(self.keys[self.kid], data))

    def browse(self, url: str, sub: str, error: str = "") -> str:
        """What a browser brings back after its user has logged in as `sub`: the query."""
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        if error:
            back = {"error": error, "state": asked["state"], "iss": self.issuer}
        else:
            code = secrets.token_urlsafe(16)
            self.codes[code] = asked | {"sub": sub}
            back = {"code": code, "state": asked["state"], "iss": self.issuer}
        return urllib.parse.urlencode(back)

    def answer(self, path: str, form: dict[str, str], authorization: str) -> tuple[int, Any]:
        self.asked[path] += 1
        if path in self.overrides:
            return self.overrides[path]
        if path == "/.well-known/openid-configuration":
            names = ("jwks_uri", "authorization_endpoint", "token_endpoint",
                     "device_authorization_endpoint")  # fmt: skip
            ends = ("jwks", "authorize", "token", "device")
            said = {name: f"{self.issuer}/{end}" for name, end in zip(names, ends, strict=True)}
            return 200, said | {"issuer": self.issuer}
        if path == "/jwks":
            return 200, {"keys": self.published}
        pair = ":".join(map(urllib.parse.quote_plus, (CLIENT, SECRET)))
        if authorization != "Basic " + base64.b64encode(pair.encode()).decode():
            return 401, {"error": "invalid_client"}
        if path == "/device":
            self.device = {"code": secrets.token_urlsafe(16), "is": "authorization_pending"}
            return 200, {
                "device_code": self.device["code"], "user_code": "WDJB-MJHT", "interval": 5,
                "verification_uri": f"{self.issuer}/activate", "expires_in": 600,
            }  # fmt: skip
        if path == "/token":
            return self._tokens(form)
        return 404, {}

    def _tokens(self, form: dict[str, str]) -> tuple[int, Any]:
        if form["grant_type"].endswith("device_code"):
            if form["device_code"] != self.device.get("code"):
                return 400, {"error": "invalid_grant"}
            if "sub" not in self.device:
                return 400, {"error": self.device["is"]}
            sub, nonce = self.device.pop("sub"), None
            self.device = {}
        else:
            asked = self.codes.pop(form["code"], None)
            if asked is None or asked["redirect_uri"] != form["redirect_uri"]:
                return 400, {"error": "invalid_grant"}
            if (
                b64(hashlib.sha256(form["code_verifier"].encode()).digest())
                != asked["code_challenge"]
            ):
                return 400, {"error": "invalid_grant"}
            sub, nonce = asked["sub"], asked["nonce"]
        said = {"sub": sub, "aud": CLIENT, "nonce": nonce} | self.claims
        return 200, {"id_token": self.token(**said), "token_type": "Bearer"}


@contextlib.contextmanager
def provider(
    seconds: Callable[[], float], tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[OpenIDProvider]:
    """A provider that listens, over TLS if it is given some; its clock is the test's."""
    found = OpenIDProvider(seconds=seconds)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._serve({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._serve(dict(urllib.parse.parse_qsl(body)))

        def _serve(self, form: dict[str, str]) -> None:
            status, said = found.answer(self.path, form, self.headers.get("Authorization", ""))
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        # The handshake belongs to the thread of its connection, and may fail there.
        server.socket = tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
    found.issuer = f"{'https' if tls else 'http'}://{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
