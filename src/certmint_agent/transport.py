"""One HTTPS exchange with the server: JSON out, JSON in, within limits.

TLS 1.2 or newer; the server is verified against `ca_file` alone, its host name always. No
redirect is followed, no proxy is taken from the environment, no body above 1 MiB is read, and no
exchange outlives its deadline by more than one `timeout_s`. It does not retry.

A router without a battery wakes up in 1970, when every certificate is "not yet valid". If the
clock shows a time before this program was built (`clock_is_right=False`), dates are taken out of
OpenSSL's verification, and instead the server's certificate must be valid at the time that the
server itself states, which must not be before BUILD_DATE. So a server key that was stolen and has
expired since could fool a device whose clock is lost; a clock that is merely wrong changes nothing.
"""

import datetime as dt
import http.client
import json
import socket
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path

from cryptography import x509

from certmint_agent import BUILD_DATE, VERSION
from certmint_agent.errors import Misconfigured, Refused, Unacceptable, Unreachable

LONGEST_BODY = 1 << 20
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name


@dataclass(frozen=True)
class Answer:
    """A complete response: `time` is the server's clock, from its Date header."""

    status: int
    body: bytes
    time: dt.datetime | None
    retry_after: float | None


@dataclass(frozen=True)
class Transport:
    """Where the server is and who we are to it. Every request is a connection of its own."""

    server: str
    ca_file: Path
    identity: tuple[Path, Path] | None  # certificate and key, PEM
    timeout_s: float
    clock_is_right: bool = True
    authorization: str | None = field(default=None, repr=False)

    def get(self, path: str) -> dict[str, object]:
        """The JSON object at `path`."""
        return _json(self.exchange("GET", path, None))

    def post(self, path: str, content: Mapping[str, object]) -> dict[str, object]:
        """The JSON object that answers `content`."""
        return _json(self.exchange("POST", path, json.dumps(content).encode()))

    def exchange(self, method: str, path: str, body: bytes | None) -> Answer:
        """One request, one response of any status. Raises Unreachable, Misconfigured."""
        url = urllib.parse.urlsplit(self.server)
        connection = http.client.HTTPSConnection(
            url.hostname or "", url.port, timeout=self.timeout_s, context=self._context()
        )
        headers = {"Accept": "application/json", "User-Agent": f"certmint-agent/{VERSION}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self.authorization is not None:
            headers["Authorization"] = self.authorization
        deadline = time.monotonic() + self.timeout_s
        try:
            connection.connect()
            peer = connection.sock.getpeercert(binary_form=True)
            connection.request(method, url.path.rstrip("/") + path, body, headers)
            answer = _read(connection.getresponse(), deadline)
        except ssl.SSLCertVerificationError as problem:
            raise Unreachable(
                f"{self.server} is not the server that ca_file vouches for: "
                f"{problem.verify_message}"
            ) from None
        except (OSError, UnicodeError, http.client.HTTPException) as problem:
            raise Unreachable(f"{self.server} cannot be reached: {_reason(problem)}") from None
        finally:
            connection.close()
        if not self.clock_is_right:
            _check_dates_by_hand(peer or b"", answer.time)
        return answer

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies the chain and the host name
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self.clock_is_right:
            context.verify_flags |= _NO_CHECK_TIME
        try:
            context.load_verify_locations(self.ca_file)
        except OSError as problem:
            raise Misconfigured(f"ca_file {self.ca_file}: {_reason(problem)}") from None
        if self.identity is not None:
            try:
                # With a password given, OpenSSL never asks for one at the terminal.
                context.load_cert_chain(*self.identity, password="")
            except (OSError, ValueError) as problem:
                raise Misconfigured(
                    f"identity {self.identity[0]} with {self.identity[1]}: {_reason(problem)}"
                ) from None
        return context


def _reason(problem: Exception) -> str:
    if isinstance(problem, TimeoutError | socket.timeout):
        return "no answer in time"
    if isinstance(problem, ssl.SSLError):
        return problem.reason or "TLS failed"
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return str(problem) or type(problem).__name__


def _read(response: http.client.HTTPResponse, deadline: float) -> Answer:
    body = bytearray()
    while chunk := response.read1(65_536):
        body += chunk
        if len(body) > LONGEST_BODY:
            raise http.client.HTTPException(f"an answer above {LONGEST_BODY} bytes is not read")
        if time.monotonic() > deadline:
            raise TimeoutError
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    now = _http_date(response.headers.get("Date"))
    after = _retry_after(response.headers.get("Retry-After"), now)
    return Answer(response.status, bytes(body), now, after)


def _http_date(value: str | None) -> dt.datetime | None:
    try:
        found = parsedate_to_datetime(value) if value else None
    except ValueError:
        return None
    return found.replace(tzinfo=dt.UTC) if found and found.tzinfo is None else found


def _retry_after(value: str | None, now: dt.datetime | None) -> float | None:
    """Seconds to wait (RFC 9110 10.2.3): a number, or a date measured on the server's clock."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    until = _http_date(value)
    return (until - now).total_seconds() if until and now else None


def _check_dates_by_hand(peer: bytes, stated: dt.datetime | None) -> None:
    certificate = x509.load_der_x509_certificate(peer)
    if stated is None or stated < BUILD_DATE:
        raise Unreachable("the clock of this device is lost, and the server states no usable time")
    if not certificate.not_valid_before_utc <= stated <= certificate.not_valid_after_utc:
        raise Unreachable("the server's certificate is not valid at the time the server states")


def _json(answer: Answer) -> dict[str, object]:
    try:
        content = json.loads(answer.body) if answer.body else {}
    except (ValueError, RecursionError):
        content = None
    if answer.status in (200, 201) and isinstance(content, dict):
        return content
    problem = content if isinstance(content, dict) else {}
    said = f"{answer.status} {_word(problem, 'code')}: {_word(problem, 'detail')}".rstrip(": ")
    if answer.status in (200, 201):
        raise Unacceptable(
            f"the server answers {answer.status} with something that is no JSON object"
        )
    if answer.status in (202, 429) or answer.status >= 500:
        raise Unreachable(f"the server says: later ({said})", retry_after=answer.retry_after)
    if 300 <= answer.status < 400:
        raise Refused(f"the server redirects ({answer.status}), which is not followed")
    raise Refused(f"the server refuses ({said})", retry_after=answer.retry_after)


def _word(problem: dict[str, object], key: str) -> str:
    value = problem.get(key, "")
    return value[:300] if isinstance(value, str) else ""
