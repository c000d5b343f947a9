"""Calling an OpenID provider: what it says of itself, its keys, its token endpoint.

Laws: https, or loopback for a lab; the issuer's own document must name the issuer that is
configured; an answer is bounded in size and time, and redirects are not followed. Keys are kept
for a while; an unknown key id makes them be fetched again, but not more often than once a minute,
so that nobody who sends forged tokens makes us a load on the provider.

What a token means is not judged here.
"""

import base64
import contextlib
import datetime as dt
import http.client
import json
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from certmint.model.errors import Misconfigured, Unavailable
from certmint.model.openid import Provider

DEADLINE_S = 5.0
MAX_ANSWER = 256 * 1024
MAX_KEYS = 50
MAX_AGE = dt.timedelta(minutes=15)
REFETCH = dt.timedelta(minutes=1)
PATIENCE = dt.timedelta(seconds=5)  # after a failure: so that not every thread waits for it
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

JWK = Mapping[str, object]
Answer = Mapping[str, object]


@dataclass(frozen=True)
class Metadata:
    """What certmint needs of a provider's metadata (OpenID Connect Discovery 3; RFC 8628 4).

    An endpoint that the provider does not have is "".
    """

    jwks_uri: str
    authorization_endpoint: str
    token_endpoint: str
    device_authorization_endpoint: str
    posts_secret: bool  # it takes the client's secret in the body only
    names_itself: bool  # it says `iss` in the answer to the browser (RFC 9207)


class RemoteProvider:
    """One provider, over the network. Threads share it."""

    def __init__(self, provider: Provider, deadline_s: float = DEADLINE_S) -> None:
        self.provider = provider
        self._deadline_s = deadline_s
        self._context = _context(provider)
        self._lock = threading.Lock()
        self._known: tuple[Metadata, tuple[JWK, ...]] | None = None
        self._fetched_at = dt.datetime.min.replace(tzinfo=dt.UTC)
        self._failed_at = self._fetched_at

    def metadata(self, now: dt.datetime) -> Metadata:
        """Its endpoints. Raises Unavailable `provider-unreachable`, `provider-answer`."""
        return self._fresh(now, MAX_AGE)[0]

    def keys(self, now: dt.datetime) -> tuple[JWK, ...]:
        """The provider's keys, a quarter of an hour old at the most. Raises as `metadata`."""
        return self._fresh(now, MAX_AGE)[1]

    def keys_again(self, now: dt.datetime) -> tuple[JWK, ...]:
        """The keys after a rotation: fetched now, unless that was done within a minute."""
        return self._fresh(now, REFETCH)[1]

    def post(self, url: str, form: Mapping[str, str], now: dt.datetime) -> tuple[int, Answer]:
        """Status and JSON of one request in the client's name (RFC 6749 2.3.1).

        Raises Unavailable `provider-unreachable`, `provider-answer`.
        """
        said, headers = dict(form), {"Content-Type": "application/x-www-form-urlencoded"}
        secret = self.provider.client_secret
        if secret and not self.metadata(now).posts_secret:
            pair = ":".join(map(urllib.parse.quote_plus, (self.provider.client_id, secret)))
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            said["client_id"] = self.provider.client_id
            if secret:
                said["client_secret"] = secret
        return self._ask("POST", url, urllib.parse.urlencode(said).encode(), headers)

    def _fresh(self, now: dt.datetime, age: dt.timedelta) -> tuple[Metadata, tuple[JWK, ...]]:
        with self._lock:
            if self._known is not None and now - self._fetched_at < age:
                return self._known
            if now - self._failed_at < PATIENCE:
                raise _unreachable(self.provider.issuer, "it did not answer a moment ago")
            try:
                metadata = self._discover()
                found = self._get(metadata.jwks_uri).get("keys")
            except Unavailable:
                self._failed_at = now
                raise
            listed = found if isinstance(found, list) else []
            keys = tuple(each for each in listed[:MAX_KEYS] if isinstance(each, dict))
            self._known, self._fetched_at = (metadata, keys), now
            return self._known

    def _discover(self) -> Metadata:
        issuer = self.provider.issuer
        said = self._get(issuer.rstrip("/") + "/.well-known/openid-configuration")
        if said.get("issuer") != issuer:
            raise _nonsense(issuer, "its configuration names another issuer")
        methods = said.get("token_endpoint_auth_methods_supported")
        return Metadata(
            jwks_uri=_text(said, "jwks_uri"),
            authorization_endpoint=_text(said, "authorization_endpoint"),
            token_endpoint=_text(said, "token_endpoint"),
            device_authorization_endpoint=_text(said, "device_authorization_endpoint"),
            posts_secret=isinstance(methods, list)
            and "client_secret_post" in methods
            and "client_secret_basic" not in methods,
            names_itself=said.get("authorization_response_iss_parameter_supported") is True,
        )

    def _get(self, url: str) -> Answer:
        status, said = self._ask("GET", url, None, {})
        if status != 200:
            raise _nonsense(url, f"it answered with status {status}")
        return said

    def _ask(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Answer]:
        connection, target = self._connection(url)
        # A timeout of the socket begins anew with every octet: this one ends the whole exchange.
        ends: threading.Timer | None = None
        try:
            connection.connect()
            ends = threading.Timer(self._deadline_s, _cut, (connection.sock,))
            ends.daemon = True
            ends.start()
            wanted = {"Accept": "application/json", "Connection": "close", **headers}
            connection.request(method, target, body, wanted)
            answer = connection.getresponse()
            content = answer.read(MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(url, type(error).__name__) from None
        finally:
            if ends is not None:
                ends.cancel()
            connection.close()
        if len(content) > MAX_ANSWER:
            raise _nonsense(url, "its answer is too long")
        return answer.status, _object(url, content)

    def _connection(self, url: str) -> tuple[http.client.HTTPConnection, str]:
        if not is_provider_url(url):
            raise _nonsense(self.provider.issuer, "one of its endpoints is no https:// URL")
        parts = urllib.parse.urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self._deadline_s), target
        secure = http.client.HTTPSConnection(
            host, port, timeout=self._deadline_s, context=self._context
        )
        return secure, target


def is_provider_url(url: str) -> bool:
    """Whether certmint talks to this: https, or http to this very machine."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if not url.isascii() or any(letter <= " " for letter in url) or parts.fragment:
        return False
    if parts.username is not None or not parts.hostname or port == 0:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _context(provider: Provider) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=provider.ca_file or None)
    except (OSError, ssl.SSLError):
        raise Misconfigured(
            "provider-roots",
            f"the CA file of the OpenID provider {provider.issuer} cannot be read",
        ) from None


def _cut(stream: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may have ended by itself
        stream.shutdown(socket.SHUT_RDWR)


def _object(url: str, content: bytes) -> Answer:
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise _nonsense(url, "its answer is no JSON object")
    return said


def _text(said: Answer, name: str) -> str:
    value = said.get(name, "")
    return value if isinstance(value, str) else ""


def _unreachable(url: str, why: str) -> Unavailable:
    return Unavailable(
        "provider-unreachable", f"the OpenID provider at {_host(url)} cannot be asked: {why}"
    )


def _nonsense(url: str, why: str) -> Unavailable:
    return Unavailable(
        "provider-answer", f"the OpenID provider at {_host(url)} is of no use: {why}"
    )


def _host(url: str) -> str:
    try:
        return urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return "an unreadable URL"
