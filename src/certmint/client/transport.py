"""HTTP to one server: TLS, one connection that is kept, attempts with growing pauses.

Laws: nothing is sent in the clear, and no redirect is followed, so the token goes to the named
server alone. What the server refused for now (429, 503) is tried again when it says so; a lost
connection only where doing it twice does nothing twice: a GET, or what carries an Idempotency-Key.
"""

import contextlib
import email.utils
import http.client
import itertools
import json
import math
import random
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from certmint.client.errors import Problem, Unexpected, Unreachable

T = TypeVar("T")

Query = Mapping[str, str | int | bool | None]
Body = bytes | Path | Iterable[bytes]

PREFIX = "/api/v1"
NDJSON = "application/x-ndjson"
_IDLE_S = 10.0  # well below the server's 30 s: a connection that it is about to close is not used
_LONGEST_S = 60.0
_PIECE = 64 * 1024


@dataclass(frozen=True)
class Request:
    """One call of the API. `is_repeatable`: sent twice, it is carried out once."""

    method: str
    path: str
    query: Query = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = field(default=None, repr=False)
    is_repeatable: bool = False

    @property
    def target(self) -> str:
        given = {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in self.query.items()
            if value is not None
        }
        query = urllib.parse.urlencode(given)
        return PREFIX + self.path + (f"?{query}" if query else "")


@dataclass(frozen=True)
class Answer:
    """What came back. Its body may hold a new token."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """Raises Unexpected."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise Unexpected(f"the server answered {self.status} without JSON") from None


class Transport:
    """A connection to a server. `attempts` counts the first one; `sleep` takes seconds."""

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        ca_file: str | Path | None,
        timeout: float,
        attempts: int,
        sleep: Callable[[float], None],
    ) -> None:
        parts = urllib.parse.urlsplit(base_url)
        more = (parts.path.strip("/"), parts.query, parts.fragment, parts.username)
        if parts.scheme != "https" or not parts.hostname or any(more):
            # Not told, since somebody may have put a password into it.
            raise ValueError("the address of a server is https://host:port, and nothing more")
        if not token or not token.isascii() or not token.isprintable():
            raise ValueError("the token is empty or has characters that no token has")
        self.base_url = f"https://{parts.netloc}"
        self._host, self._port = parts.hostname, parts.port or 443
        self._token = token
        self._tls = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        self._timeout = timeout
        self._attempts = attempts
        self._sleep = sleep
        self._kept: http.client.HTTPSConnection | None = None
        self._used_at = 0.0

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def call(self, request: Request) -> Answer:
        """The answer to a request. Raises Problem, Unreachable, Unexpected."""
        return self._try(request, self._ask)

    @contextlib.contextmanager
    def stream(self, request: Request) -> Iterator["Incoming"]:
        """An answer that is read while it comes, on a connection of its own.

        Raises Problem and Unreachable, the latter also while it is read.
        """
        incoming = self._try(request, self._begin)
        try:
            yield incoming
        finally:
            incoming.close()

    def _try(self, request: Request, ask: Callable[[Request], T]) -> T:
        for attempt in itertools.count(1):
            is_last, pause = attempt >= self._attempts, _pause(attempt)
            try:
                return ask(request)
            except Problem as problem:
                if is_last or not _will_pass(problem) or not _can_be_sent_again(request):
                    raise
                pause = max(pause, problem.retry_after or 0.0)
            except (OSError, http.client.HTTPException) as error:
                if is_last or not request.is_repeatable or _is_distrust(error):
                    raise unreachable(self.base_url, error) from error
            self._sleep(pause)
        raise AssertionError("counting has no end")

    def _ask(self, request: Request) -> Answer:
        if self._kept is None or time.monotonic() - self._used_at > _IDLE_S:
            self.close()
            self._kept = self._open()
        try:
            self._send(self._kept, request)
            answer = _answer(self._kept.getresponse())
        except BaseException:  # interrupted in the midst: nothing else may be sent behind that
            self.close()
            raise
        self._used_at = time.monotonic()
        if answer.status >= 300:
            raise _problem(answer)
        return answer

    def _begin(self, request: Request) -> "Incoming":
        connection = self._open()
        try:
            self._send(connection, request)
            response = connection.getresponse()
            refusal = _problem(_answer(response)) if response.status >= 300 else None
        except BaseException:
            connection.close()
            raise
        if refusal is not None:
            connection.close()
            raise refusal
        return Incoming(self.base_url, connection, response)

    def _open(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout, context=self._tls
        )

    def _send(self, connection: http.client.HTTPSConnection, request: Request) -> None:
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Accept": "application/json",
            "User-Agent": "certmint-client",
            **request.headers,
        }
        # A server that refuses does not wait for the end of a body; why stands in its answer.
        with contextlib.suppress(BrokenPipeError):
            if isinstance(request.body, Path):
                with request.body.open("rb") as file:
                    connection.request(request.method, request.target, file, headers)
            else:
                connection.request(request.method, request.target, request.body, headers)


class Incoming:
    """An answer under way. Its iterators raise Unreachable when the rest does not come."""

    def __init__(
        self,
        base_url: str,
        connection: http.client.HTTPSConnection,
        response: http.client.HTTPResponse,
    ) -> None:
        self._base_url = base_url
        self._connection = connection
        self._response = response

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def lines(self) -> Iterator[bytes]:
        while line := self._read(self._response.readline):
            yield line

    def pieces(self) -> Iterator[bytes]:
        while piece := self._read(lambda: self._response.read1(_PIECE)):
            yield piece
        if self._response.length:  # http.client says nothing of an end that comes too early
            raise Unreachable(f"{self._base_url} left out {self._response.length} bytes")

    def _read(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(self._base_url, error) from error


def unreachable(base_url: str, error: Exception) -> Unreachable:
    """What a lost connection is to who called."""
    return Unreachable(f"{base_url} gave no answer: {str(error) or type(error).__name__}")


def _answer(response: http.client.HTTPResponse) -> Answer:
    body = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, body)


def _problem(answer: Answer) -> Problem:
    """The refusal in an answer; a proxy's own gets the code `http`."""
    code, detail = "http", f"the server answered {answer.status}"
    if answer.headers.get("content-type", "").startswith("application/problem+json"):
        said = answer.json
        if isinstance(said, dict):
            code, detail = str(said.get("code", code)), str(said.get("detail", detail))
    return Problem(answer.status, code, detail, _seconds(answer.headers.get("retry-after", "")))


def _seconds(text: str) -> float | None:
    """Retry-After: seconds or a date (RFC 9110 10.2.3)."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until: float = email.utils.parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
    return max(0.0, until - time.time())


def _pause(attempt: int) -> float:
    """Seconds: a half, one, two …, each off by up to a half, so that clients do not march."""
    longest = min(_LONGEST_S, math.ldexp(0.5, attempt - 1))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret


def _will_pass(problem: Problem) -> bool:
    """Whether it is worth waiting for, and soon enough over."""
    is_for_now = problem.status in (429, 503) or problem.code == "idempotency-busy"
    return is_for_now and (problem.retry_after or 0.0) <= _LONGEST_S


def _is_distrust(error: Exception) -> bool:
    return isinstance(error, ssl.SSLCertVerificationError)


def _can_be_sent_again(request: Request) -> bool:
    body = request.body
    return body is None or isinstance(body, (bytes, Path)) or iter(body) is not body
