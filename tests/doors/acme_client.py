"""A small ACME client for tests: it says exactly what a test wants said, right or wrong."""

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass, field
from typing import Any

from asgi import Answer, call
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

BASE = "https://localhost:8443"
URN = "urn:ietf:params:acme:error:"


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk_of(key: Any) -> dict[str, str]:
    """A public JWK."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {"kty": "RSA", "e": b64(numbers.e.to_bytes(3, "big")),
                "n": b64(numbers.n.to_bytes(public.key_size // 8, "big"))}  # fmt: skip
    if isinstance(public, ed25519.Ed25519PublicKey):
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(raw)}
    size = (public.key_size + 7) // 8
    curve = {32: "P-256", 48: "P-384", 66: "P-521"}[size]
    point = public.public_numbers()
    return {"kty": "EC", "crv": curve, "x": b64(point.x.to_bytes(size, "big")),
            "y": b64(point.y.to_bytes(size, "big"))}  # fmt: skip


def algorithm_of(key: Any) -> str:
    """The JWS algorithm of a key."""
    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "EdDSA"
    return {256: "ES256", 384: "ES384", 521: "ES512"}[key.key_size]


def sign(key: Any, data: bytes) -> bytes:
    """A JWS signature."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    digest = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[key.key_size]
    r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
    size = (key.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def jws(key: Any, header: dict[str, Any], payload: Any) -> dict[str, str]:
    """A flattened JWS; `payload` None is POST-as-GET."""
    protected = b64(json.dumps({"alg": algorithm_of(key)} | header).encode())
    body = "" if payload is None else b64(json.dumps(payload).encode())
    signature = sign(key, f"{protected}.{body}".encode())
    return {"protected": protected, "payload": body, "signature": b64(signature)}


def mac_jws(secret: bytes, header: dict[str, Any], payload: Any) -> dict[str, str]:
    """The inner JWS of an external account binding."""
    protected = b64(json.dumps({"alg": "HS256"} | header).encode())
    body = b64(json.dumps(payload).encode())
    mac = hmac.digest(secret, f"{protected}.{body}".encode(), "sha256")
    return {"protected": protected, "payload": body, "signature": b64(mac)}


@dataclass
class Client:
    """An account key and where it talks to."""

    app: Any
    directory: str = "/acme/acme/open"
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    kid: str = ""

    def url(self, *parts: str) -> str:
        return "/".join((BASE + self.directory, *parts))

    def nonce(self) -> str:
        return call(self.app, "HEAD", f"{self.directory}/new-nonce").headers["replay-nonce"]

    def get(self, *parts: str) -> Answer:
        """A plain GET of something below the directory."""
        return call(self.app, "GET", "/".join((self.directory, *parts)))

    def send(self, url: str, body: Any, content_type: str = "application/jose+json") -> Answer:
        """POST a JWS, whatever is in it."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        path = url.removeprefix(BASE)
        return call(self.app, "POST", path, body=data, headers={"content-type": content_type})

    def post(self, url: str, payload: Any = None, **header: Any) -> Answer:
        """A good request, but for what `header` changes (None removes)."""
        wanted: dict[str, Any] = {"nonce": self.nonce(), "url": url}
        wanted |= {"kid": self.kid} if self.kid else {"jwk": jwk_of(self.key)}
        wanted = {k: v for k, v in (wanted | header).items() if v is not None}
        return self.send(url, jws(self.key, wanted, payload))

    def register(self, **payload: Any) -> Answer:
        """newAccount; remembers the account's URL."""
        answer = self.post(self.url("new-account"), {"termsOfServiceAgreed": True} | payload)
        if answer.status in (200, 201):
            self.kid = answer.headers["location"]
        return answer

    def order(self, *names: str, **payload: Any) -> Answer:
        """newOrder for DNS names."""
        identifiers = [{"type": "dns", "value": name} for name in names]
        return self.post(self.url("new-order"), {"identifiers": identifiers} | payload)

    @property
    def thumbprint(self) -> str:
        canonical = json.dumps(jwk_of(self.key), sort_keys=True, separators=(",", ":"))
        return b64(hashlib.sha256(canonical.encode()).digest())


def csr(*names: str, key: Any = None, common_name: str | None = None) -> str:
    """A CSR as finalize wants it."""
    subject = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        general = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(general, critical=False)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return b64(signed.public_bytes(serialization.Encoding.DER))


def links(answer: Answer, relation: str) -> list[str]:
    """Where the Link fields of this relation lead (RFC 8288)."""
    found = re.findall(r'<([^>]*)>;rel="([^"]*)"', answer.headers.get("link", ""))
    return [url for url, rel in found if rel == relation]
