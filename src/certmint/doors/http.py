"""What the HTTP doors share: problem documents (RFC 9457), limits, the client certificate.

The certificate is that of the TLS connection, or one that a proxy forwards (RFC 9440) from an
address that the configuration names. Whether it is worth anything is for enrolment.
"""

import base64
import binascii
import datetime as dt
import ipaddress
import json
import logging
import threading
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from certmint.model.errors import (
    BadInput,
    CertmintError,
    Conflict,
    Forbidden,
    Misconfigured,
    NotFound,
    Pending,
    Refused,
    TooOften,
    Unauthenticated,
    Unavailable,
    WrongState,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 64 * 1024
RETRY_AFTER_S = 30
_WINDOW_S = 60

# The one table from refusals to HTTP. A test proves that every kind of error is in it.
STATUS: Mapping[type[CertmintError], tuple[int, str]] = {
    Pending: (202, "An operator has to approve the request"),
    BadInput: (400, "The request is malformed"),
    Unauthenticated: (401, "The credentials are missing or wrong"),
    Refused: (403, "Policy refuses the request"),
    Forbidden: (403, "The requester may not do this"),
    NotFound: (404, "There is no such thing"),
    Conflict: (409, "The request conflicts with what is there"),
    WrongState: (409, "The thing is in another state"),
    Misconfigured: (500, "The server is not set up correctly"),
    TooOften: (429, "The requester asks or guesses too often"),
    Unavailable: (503, "The server cannot do this right now"),
}

_OPERATORS_ONLY = ("token-required", "token-invalid")

log = logging.getLogger("certmint.http")


@dataclass(frozen=True, slots=True)
class Plain:
    """A POST that came whole, without anything of HTTP that needs a second look.

    Names of `headers` are in lower case, each is there once; `path` is ASCII and has no escapes.
    """

    path: str
    headers: Mapping[bytes, bytes]
    body: bytes
    tls: Mapping[str, Any]
    client: tuple[str, int] | None


Told = Callable[[int, Sequence[tuple[bytes, bytes]], bytes], None]
"""What a lane calls with its answer: status, header fields, body."""


class Lane(Protocol):
    """A door's short way for plain requests: the same answers as by ASGI, and less to do."""

    def takes(self, request: Plain) -> bool:
        """Whether this request can be answered so."""
        ...

    def serve(self, request: Plain, told: Told) -> None:
        """Answer it, now or later. Never raises."""
        ...


class Answer:
    """An answer that is whole: what the doors of devices give, with as little as ASGI asks for."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, body: bytes = b"", status: int = 200, media_type: str = "") -> None:
        self.body, self.status = body, status
        self.headers: list[tuple[bytes, bytes]] = []
        if status != 204:  # RFC 9110 8.6
            self.headers.append((b"content-length", b"%d" % len(body)))
        if media_type:
            self.headers.append((b"content-type", media_type.encode("latin-1")))

    def add(self, name: str, value: str) -> None:
        """One more header field."""
        self.headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def problem(error: CertmintError) -> Response:
    """An error as `application/problem+json`, with its stable code."""
    if isinstance(error, Pending):
        return waiting(error)
    status, title = STATUS[type(error)]
    detail = error.detail
    headers = {}
    if isinstance(error, Misconfigured):
        log.error("misconfigured: %s: %s", error.code, error.detail)
        detail = "the operator of this server has to look at its log"
    if isinstance(error, Unavailable):
        log.warning("unavailable: %s: %s", error.code, error.detail)
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, TooOften):
        headers["Retry-After"] = str(error.retry_after)
    response = problem_response(status, title, error.code, detail, headers)
    challenge(response, error)
    return response


def challenge(response: Response, error: CertmintError) -> None:
    """Say what would be accepted instead, each scheme in a field of its own (RFC 9110 11.6.1).

    An operator has a bearer token and nothing else. A bearer token that was not good is said to be
    so, and one that did not come is not (RFC 6750 3.1).
    """
    if not isinstance(error, Unauthenticated):
        return
    bearer = 'Bearer realm="certmint"'
    if error.code != "token-required" and error.code.startswith(("token-", "session-")):
        bearer += ', error="invalid_token"'
    # Basic first, for clients that read one challenge only.
    if error.code not in _OPERATORS_ONLY:
        response.headers.append("WWW-Authenticate", 'Basic realm="certmint", charset="UTF-8"')
    response.headers.append("WWW-Authenticate", bearer)


def waiting(error: Pending, headers: Mapping[str, str] | None = None) -> Response:
    """202: what was asked is kept, and the same request gets its answer later. No problem yet."""
    body = {"code": error.code, "detail": error.detail, "retry_after": error.retry_after}
    told = {"Retry-After": str(error.retry_after), **(headers or {})}
    return Response(json.dumps(body), STATUS[Pending][0], told, media_type="application/json")


def problem_response(
    status: int, title: str, code: str, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """A problem document. `code` is the part that programs look at."""
    body = {
        "type": f"urn:certmint:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }
    return Response(
        json.dumps(body), status, dict(headers or {}), media_type="application/problem+json"
    )


def unexpected(request: Request, error: Exception) -> Response:
    """A bug: an empty 500 for the client, the traceback for the log."""
    log.error("unexpected error at %s", request.url.path, exc_info=error)
    return problem_response(
        500, "The server failed", "internal", "the server failed; its log says why"
    )


def peer_certificate(request: Request) -> bytes | None:
    """The client's certificate in DER, as the TLS listener verified it; None without one."""
    tls = request.scope.get("state", {}).get("tls")
    return tls.get("peer") if tls else None


def source_of(scope: Scope) -> str:
    """The client's network address, as far as it can be known; "" if it cannot.

    Behind a trusted proxy it is the last address of X-Forwarded-For, the one that the proxy wrote.
    """
    if not scope.get("state", {}).get("tls", {}).get("is_forwarded", False):
        return str((scope.get("client") or ("",))[0])
    fields = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    said = fields[-1].decode("latin-1").rpartition(",")[2].strip() if fields else ""
    try:
        return str(ipaddress.ip_address(said))
    except ValueError:
        return ""


def bearer_of(authorization: str) -> str:
    """The token of `Authorization: Bearer` (RFC 6750 2.1); "" without one."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def basic_login(authorization: str) -> tuple[str, str, str, str]:
    """Basic credentials: manufacturer, the separator, what stands behind it, the password.

    An owner is `manufacturer/user`; a label is `manufacturer~serial number`, percent-encoded where
    it has a colon, with the label's secret as the password.

    Raises Unauthenticated `login-required`.
    """
    refusal = Unauthenticated(
        "login-required",
        "log in by HTTP Basic: as 'manufacturer/user' with the owner's password, or as "
        "'manufacturer~serial' with the secret on the device's label",
    )
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise refusal
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise refusal from None
    user, _, password = text.partition(":")
    separator = next((letter for letter in user if letter in "/~"), "")
    if not separator or not password:
        raise refusal
    maker, _, name = user.partition(separator)
    return maker, separator, urllib.parse.unquote(name) if separator == "~" else name, password


class ForwardedCertificate:
    """Takes the client's certificate from `Client-Cert` when a trusted proxy says it (RFC 9440).

    Of such a proxy the field alone counts, and never the certificate of the proxy's own
    connection. From anybody else the fields are dropped, and that is logged. The chain is not
    looked at: a certificate counts if this registry issued these very bytes.
    """

    def __init__(self, app: App, proxies: Iterable[str]) -> None:
        self._app = app
        self._proxies = frozenset(map(ipaddress.ip_address, proxies))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = [value for name, value in scope["headers"] if name == b"client-cert"]
            if self._is_proxy(scope):
                try:
                    peer = _forwarded(given)
                except BadInput as error:
                    await problem(error)(scope, receive, send)
                    return
                scope = self._seen_through(scope, peer)
            elif given:
                address = (scope.get("client") or ("a socket",))[0]
                log.warning("Client-Cert of %s was ignored: it is no trusted proxy", address)
        await self._app(scope, receive, send)

    def _is_proxy(self, scope: Scope) -> bool:
        if not self._proxies or not scope.get("client"):
            return False
        try:
            return ipaddress.ip_address(scope["client"][0]) in self._proxies
        except ValueError:
            return False

    def _seen_through(self, scope: Scope, peer: bytes | None) -> Scope:
        state = scope.get("state", {})
        # The proxy's own TLS says nothing about the client's: no tls-unique can be compared.
        tls = {**state.get("tls", {}), "peer": peer, "unique": None, "is_forwarded": True}
        return {**scope, "state": {**state, "tls": tls}}


def _forwarded(given: list[bytes]) -> bytes | None:
    """The DER in a Client-Cert field, a byte sequence of RFC 8941 3.3.5; None without the field.

    Raises BadInput `client-cert-syntax`.
    """
    if not given:
        return None
    refusal = BadInput(
        "client-cert-syntax", "the proxy's Client-Cert is not one byte sequence (RFC 9440 2.2)"
    )
    text = given[0].strip()
    if len(given) > 1 or len(text) < 3 or text[:1] + text[-1:] != b"::":
        raise refusal
    try:
        return base64.b64decode(text[1:-1], validate=True)
    except binascii.Error:
        raise refusal from None


class Doorman:
    """Sends a request to the door whose prefix its path has; the paths stay whole."""

    def __init__(self, doors: Mapping[str, App], otherwise: App) -> None:
        self._doors = tuple(doors.items())
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        for prefix, door in self._doors:
            if path.startswith(prefix):
                await door(scope, receive, send)
                return
        await self._otherwise(scope, receive, send)


class RateLimit:
    """Fixed windows of a minute; `quota` requests of each manufacturer in each of them.

    Each node counts for itself: a count in the database would make every read a write. The header
    fields are those of draft-ietf-httpapi-ratelimit-headers.
    """

    def __init__(self, quota: int) -> None:
        self._quota = quota
        self._window = 0
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()

    def take(self, tenant_id: str, now: dt.datetime) -> tuple[int, int, int]:
        """Count a request: the quota, what remains of it (below zero: refused), seconds to wait."""
        seconds = int(now.timestamp())
        with self._lock:
            if seconds // _WINDOW_S != self._window:
                self._window = seconds // _WINDOW_S
                self._used.clear()  # bounded by the tenants that ask within a minute
            used = self._used[tenant_id] = self._used.get(tenant_id, 0) + 1
        return self._quota, self._quota - used, _WINDOW_S - seconds % _WINDOW_S

    @staticmethod
    def tell(response: Response, quota: int, remaining: int, reset: int) -> None:
        """Say in an answer what `take` found."""
        response.headers["RateLimit-Policy"] = f'"default";q={quota};w={_WINDOW_S}'
        response.headers["RateLimit"] = f'"default";r={max(0, remaining)};t={reset}'


def too_many(quota: int, reset: int) -> TooOften:
    """The refusal of a request beyond the quota."""
    return TooOften(
        "rate-limit",
        f"this manufacturer makes more than {quota} requests a minute: wait {reset} s",
        reset,
    )


UPLOADS = ("text/csv", "application/x-ndjson")


def is_upload(content_type: str) -> bool:
    """Whether a body is a long list, which its route reads by itself once it knows who sends it."""
    return content_type.partition(";")[0].strip().lower() in UPLOADS


class BodyLimit:
    """Refuses bodies over `limit` bytes with 413, whatever Content-Length says.

    Uploads to `uploads` go through as they come: those routes have limits of their own, and read
    nothing before they know who sends it. Elsewhere no media type lifts the limit. At `long`
    paths there may be `long_limit` bytes.
    """

    def __init__(
        self,
        app: App,
        limit: int = MAX_BODY,
        long: tuple[str, ...] = (),
        long_limit: int = 16 * MAX_BODY,
        uploads: tuple[str, ...] = (),
    ) -> None:
        self._app = app
        self._limit = limit
        self._long = long
        self._long_limit = long_limit
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        kind = headers.get(b"content-type", b"").decode("latin-1")
        if scope["path"] in self._uploads and is_upload(kind):
            await self._app(scope, receive, send)
            return
        limit = self._long_limit if scope["path"] in self._long else self._limit
        declared = headers.get(b"content-length", b"0")
        body = b""
        more = not declared.isdigit() or int(declared) <= limit
        too_long = not more
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > limit:
                too_long, more = True, False
        if too_long:
            detail = f"the body is longer than {limit} bytes"
            answer = problem_response(413, "The body is too long", "body-too-long", detail)
            answer.headers["Connection"] = "close"
            await answer(scope, receive, send)
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)
