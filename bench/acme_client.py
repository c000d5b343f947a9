"""A load client for ACME (RFC 8555): whole orders over kept connections, by several workers.

It answers http-01 itself and checks what it gets; keys and CSRs are made before the clock starts.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

_POLLS = 200


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Tally:
    """What a run came to; latencies in seconds, one an order."""

    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    requests: int = 0
    wall: float = 0.0

    @property
    def rate(self) -> float:
        """Orders a second."""
        return len(self.latencies) / self.wall

    def quantile(self, share: float) -> float:
        """The latency that this share of the orders stayed below."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True)
class Reply:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One kept HTTPS connection."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        self._host, self._port, self._context = host, port, context

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._context, server_hostname=self._host
        )

    async def ask(self, method: str, path: str, body: bytes = b"") -> Reply:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/jose+json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        raw = await self._reader.readuntil(b"\r\n\r\n")
        status, *lines = raw.decode("latin-1").rstrip().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines if ": " in line)}
        if headers.get("transfer-encoding") == "chunked":
            return Reply(int(status.split()[1]), headers, await self._chunks())
        size = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
        return Reply(int(status.split()[1]), headers, await self._reader.readexactly(size))

    async def _chunks(self) -> bytes:
        whole = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            whole += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)
        return whole

    def close(self) -> None:
        self._writer.close()


class Responder:
    """The web server that http-01 is fetched from."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}

    async def start(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._answer, "0.0.0.0", port)  # noqa: S104 - names of 127/8

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = self.answers.get(head.split(b" ", 2)[1].decode().rpartition("/")[2], b"")
        size = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        writer.write(b"HTTP/1.1 200 OK\r\n" + size + body)
        await writer.drain()
        writer.close()


@dataclass(frozen=True)
class Binding:
    """An external account binding (RFC 8555 7.3.4): whose accounts these are."""

    kid: str
    key: bytes = field(repr=False)

    def of(self, url: str, jwk: dict[str, str]) -> dict[str, str]:
        """The JWS by which the binding's key vouches for an account's."""
        header = {"alg": "HS256", "kid": self.kid, "url": url}
        protected, body = b64(json.dumps(header).encode()), b64(json.dumps(jwk).encode())
        mac = hmac.digest(self.key, f"{protected}.{body}".encode(), "sha256")
        return {"protected": protected, "payload": body, "signature": b64(mac)}


class Client:
    """An account with its connection; one order at a time."""

    def __init__(
        self,
        directory: str,
        context: ssl.SSLContext,
        responder: Responder,
        binding: Binding | None = None,
    ) -> None:
        self._binding = binding
        self._directory, self._context, self._responder = urlsplit(directory), context, responder
        self._key = ec.generate_private_key(ec.SECP256R1())
        point = self._key.public_key().public_numbers()
        self._jwk = {
            "crv": "P-256", "kty": "EC",
            "x": b64(point.x.to_bytes(32, "big")), "y": b64(point.y.to_bytes(32, "big")),
        }  # fmt: skip
        canonical = json.dumps(self._jwk, sort_keys=True, separators=(",", ":")).encode()
        self._thumbprint = b64(hashlib.sha256(canonical).digest())
        self._kid = ""
        self._nonce = ""
        self.tally = Tally()

    async def register(self) -> None:
        host, port = self._directory.hostname or "", self._directory.port or 443
        self._on = Connection(host, port, self._context)
        await self._on.open()
        self._places = (await self._on.ask("GET", self._directory.path)).json
        nonce = await self._on.ask("HEAD", urlsplit(self._places["newNonce"]).path)
        self._nonce = nonce.headers["replay-nonce"]
        where = self._places["newAccount"]
        opening: dict[str, object] = {"termsOfServiceAgreed": True}
        if self._binding is not None:
            opening["externalAccountBinding"] = self._binding.of(where, self._jwk)
        made = await self.post(where, opening)
        self._kid = made.headers["location"]

    async def post(self, url: str, payload: object) -> Reply:
        identity = {"kid": self._kid} if self._kid else {"jwk": self._jwk}
        protected = b64(
            json.dumps({"alg": "ES256", "nonce": self._nonce, "url": url, **identity}).encode()
        )
        body = "" if payload is None else b64(json.dumps(payload).encode())
        der = self._key.sign(f"{protected}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
        r, s = utils.decode_dss_signature(der)
        whole = {
            "protected": protected,
            "payload": body,
            "signature": b64(r.to_bytes(32, "big") + s.to_bytes(32, "big")),
        }
        reply = await self._on.ask("POST", urlsplit(url).path, json.dumps(whole).encode())
        self.tally.requests += 1
        self._nonce = reply.headers["replay-nonce"]
        if reply.status >= 400:
            raise RuntimeError(reply.body.decode())
        return reply

    async def order(self, identifier: dict[str, str], csr: bytes) -> None:
        """One whole order, up to its certificate."""
        began = time.perf_counter()
        made = await self.post(self._places["newOrder"], {"identifiers": [identifier]})
        order, where = made.json, made.headers["location"]
        if order["status"] == "pending":
            await self._prove(order["authorizations"][0])
        done = (await self.post(order["finalize"], {"csr": b64(csr)})).json
        for _ in range(_POLLS):
            if done["status"] == "valid":
                break
            await asyncio.sleep(0.005)
            done = (await self.post(where, None)).json
        chain = await self.post(done["certificate"], None)
        x509.load_pem_x509_certificate(chain.body)
        self.tally.latencies.append(time.perf_counter() - began)

    async def _prove(self, url: str) -> None:
        authorization = (await self.post(url, None)).json
        if authorization["status"] == "valid":
            return
        (challenge,) = (c for c in authorization["challenges"] if c["type"] == "http-01")
        token = challenge["token"]
        self._responder.answers[token] = f"{token}.{self._thumbprint}".encode()
        answered = (await self.post(challenge["url"], {})).json
        for _ in range(_POLLS):
            if answered["status"] == "valid":
                break
            await asyncio.sleep(0.005)
            answered = (await self.post(challenge["url"], None)).json
        del self._responder.answers[token]

    def close(self) -> None:
        self._on.close()


def request_for(identifier: dict[str, str]) -> bytes:
    """A CSR with a key of its own, in DER."""
    import ipaddress

    name: x509.GeneralName = x509.DNSName(identifier["value"])
    if identifier["type"] == "ip":
        name = x509.IPAddress(ipaddress.ip_address(identifier["value"]))
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


async def load(
    directory: str,
    identifiers: Callable[[int], dict[str, str]],
    count: int,
    workers: int,
    port: int,
    binding: Binding | None = None,
) -> Tally:
    """So many orders by so many workers, each with an account and a connection of its own."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    responder = Responder()
    server = await responder.start(port)
    clients = [Client(directory, context, responder, binding) for _ in range(workers)]
    for client in clients:
        await client.register()
    wanted = [(name, request_for(name)) for name in map(identifiers, range(count))]
    whole = Tally()

    async def work(client: Client) -> None:
        client.tally.requests = 0
        while wanted:
            try:
                await client.order(*wanted.pop())
            except (RuntimeError, OSError, asyncio.IncompleteReadError) as error:
                whole.errors.append(str(error))

    began = time.perf_counter()
    await asyncio.gather(*map(work, clients))
    whole.wall = time.perf_counter() - began
    for client in clients:
        whole.latencies += client.tally.latencies
        whole.requests += client.tally.requests
        client.close()
    server.close()
    return whole
