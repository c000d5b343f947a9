"""The http-01 challenge (RFC 8555 8.3, BR 3.2.2.4.19)."""

import hmac
import time
import urllib.parse
from typing import Self

from certmint.model.errors import BadInput
from certmint.model.names import IPName, Name, parse_name
from certmint.validation.dns import Resolver
from certmint.validation.reach import (
    Dial,
    Failed,
    IPAddress,
    Line,
    Reach,
    addresses,
    connected,
    dial,
    left,
)

MAX_BODY = 4096
MAX_HEAD = 16 * 1024
MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)


def check(
    name: Name,
    token: str,
    key_authorization: str,
    resolver: Resolver,
    reach: Reach,
    dial: Dial = dial,
) -> dict[str, object]:
    """Fetch the key authorization from `name`; what was seen, as evidence.

    Raises Failed with the ACME error type; nothing that the server sent is in its text.
    """
    path = f"/.well-known/acme-challenge/{token}"
    body, hops = fetched(name, path, resolver, reach, dial)
    if not hmac.compare_digest(body.rstrip(b" \t\r\n"), key_authorization.encode()):
        raise Failed("unauthorized", f"{hops[-1]} did not answer with the key authorization")
    return {"method": "http-01 (BR 3.2.2.4.19)", "hops": hops}


def fetched(
    name: Name, path: str, resolver: Resolver, reach: Reach, dial: Dial = dial
) -> tuple[bytes, list[str]]:
    """The first octets of what stands at `path` on port 80 of `name`, and the hops to it.

    Redirects are followed as BR 3.2.2.4.18 and .19 allow. Raises Failed.
    """
    ends = time.monotonic() + reach.deadline_s
    hops: list[str] = []
    scheme, port = "http", reach.http_port
    for _ in range(MAX_REDIRECTS + 1):
        targets = addresses(name, port, resolver, reach)
        hops.append(f"{scheme}://{name}:{port} at {targets[0]}")
        answer = _Get(name, port, path, scheme, ends).from_one_of(targets, dial)
        if answer.status in _REDIRECTS:
            scheme, name, port, path = _target(answer.location, scheme, name, port, path)
            continue
        if answer.status != 200:
            raise Failed("unauthorized", f"{name} answered with status {answer.status}")
        return answer.body, hops
    raise Failed("connection", f"more than {MAX_REDIRECTS} redirects")


class _Get:
    """One request to a checked address; never a cookie, a credential, or an unbounded read."""

    def __init__(self, name: Name, port: int, path: str, scheme: str, ends: float) -> None:
        self._name, self._port, self._path = name, port, path
        self._scheme, self._ends = scheme, ends
        self.status = 0
        self.location = ""
        self.body = b""

    def from_one_of(self, targets: list[IPAddress], dial: Dial) -> Self:
        line = connected(targets, self._port, self._ends, dial)
        try:
            if self._scheme == "https":
                # A redirect to https proves nothing by its certificate: it may be the very one
                # that is expired or missing. What counts is the body (RFC 8555 8.3).
                sni = None if isinstance(self._name, IPName) else str(self._name)
                line = line.secured(sni, left(self._ends))
            self._exchange(line)
        except OSError as error:  # of TLS as well
            raise Failed("connection", f"{self._name}: {type(error).__name__}") from None
        finally:
            line.close()
        return self

    def _exchange(self, line: Line) -> None:
        host = f"[{self._name}]" if ":" in str(self._name) else str(self._name)
        default = 443 if self._scheme == "https" else 80
        authority = host if self._port == default else f"{host}:{self._port}"
        request = (
            f"GET {self._path} HTTP/1.1\r\nHost: {authority}\r\n"
            "User-Agent: certmint-validator\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        )
        line.send(request.encode("ascii"), left(self._ends))
        head, self.body = self._read(line)
        status, *lines = head.decode("latin-1").split("\r\n")
        words = status.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise Failed("connection", f"{self._name} does not speak HTTP")
        self.status = int(words[1])
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        headers = {key.strip().lower(): value.strip() for key, value in fields.items()}
        self.location = headers.get("location", "")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            self.body = _unchunked(self.body)

    def _read(self, line: Line) -> tuple[bytes, bytes]:
        data = b""
        while True:
            part = line.receive(8192, left(self._ends))
            data += part
            head, separator, body = data.partition(b"\r\n\r\n")
            if separator and (not part or len(body) > MAX_BODY or _is_whole(head, body)):
                return head, body[:MAX_BODY]
            if not part or (not separator and len(data) > MAX_HEAD):
                raise Failed("connection", f"{self._name} does not speak HTTP")


def _is_whole(head: bytes, body: bytes) -> bool:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == b"content-length" and value.strip().isdigit():
            return len(body) >= int(value)
        if key.strip().lower() == b"transfer-encoding":
            return body.endswith(b"0\r\n\r\n")
    return False


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        try:
            length = int(size.split(b";")[0], 16)
        except ValueError:
            return whole
        if not length:
            break
        whole, body = whole + body[:length], body[length + 2 :]
    return whole


def _target(
    location: str, scheme: str, name: Name, port: int, path: str
) -> tuple[str, Name, int, str]:
    """Where a redirect leads; http or https, a name, an authorized port (BR 3.2.2.4.19)."""
    current = f"{scheme}://{name}:{port}{path}"
    try:
        url = urllib.parse.urlsplit(urllib.parse.urljoin(current, location))
        target = parse_name(url.hostname or "")
        chosen = url.port or (443 if url.scheme == "https" else 80)
    except (ValueError, BadInput):
        raise Failed("connection", "a redirect leads to no host") from None
    if url.scheme not in ("http", "https") or url.username or url.password:
        raise Failed("connection", "a redirect leads away from http and https")
    where = url.path or "/"
    if url.query:
        where += "?" + url.query
    if not where.isascii() or any(c <= " " for c in where):
        raise Failed("connection", "a redirect's path cannot be asked for")
    return url.scheme, target, chosen, where
