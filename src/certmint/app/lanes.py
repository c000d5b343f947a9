"""The short way from a connection to the doors that every device of a fleet comes through.

A plain request (a POST whose head and body have come, in the shape that nearly every client sends)
is read here and given to its door's lane; one octet that is not expected, and the whole of it goes
the long way, through the HTTP parser and ASGI. So nothing is decided here but whether a request is
plain, and the strictness of that costs nobody anything but time.
"""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from certmint.app.metrics import Note
from certmint.app.spelling import spelled
from certmint.app.tls import NEVER, LimitedProtocol
from certmint.doors.http import Lane, Plain

# Field values are visible ASCII with spaces: no folding, no bare line breaks, no tabs.
_HEAD = re.compile(
    rb"POST (/[A-Za-z0-9/._~-]{1,1000}) HTTP/1\.1\r\n"
    rb"((?:[A-Za-z0-9-]{1,64}:[ -~]{0,4096}\r\n){1,40})\r\n"
)
_LONGEST_BODY = 64 * 1024
_MOST_HELD = 128 * 1024
_SECOND_LOOK = frozenset(
    {b"transfer-encoding", b"expect", b"upgrade", b"client-cert", b"te", b"trailer"}
)


@dataclass(frozen=True)
class Way:
    """A lane, the prefix of the paths that it is for, and where its answers are counted."""

    prefix: str
    lane: Lane
    note: Note


class LaneProtocol(LimitedProtocol):
    """`LimitedProtocol` with lanes. Outside of them it is uvicorn's, callback for callback."""

    def __init__(self, *given: Any, ways: Sequence[Way], **named: Any) -> None:
        super().__init__(*given, **named)
        self._ways = ways
        self._is_serving = self._is_last = self._is_lost = False
        self._held = b""  # what came while a lane was at work, or a body that is not whole yet
        self._in_message = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._plain_transport = transport
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        came = len(data)
        if self._held:
            data, self._held = self._held + data, b""
        if self._is_serving:
            self._held = data
            if len(data) > _MOST_HELD:
                self.flow.pause_reading()
            return
        if self._in_message or self._is_answering():
            super().data_received(data)
            return
        request = self._plain(data)
        if request is None:
            super().data_received(data)
        elif isinstance(request, bytes):
            if self._due is None or self._enough == NEVER:  # the rest has to come in time
                self._await_body()
            self._received += came
            self._held = request
        else:
            self._serve(*request)

    def on_message_begin(self) -> None:
        self._in_message = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._in_message = False
        super().on_message_complete()

    def shutdown(self) -> None:
        if self._is_serving:
            self._is_last = True
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _plain(self, data: bytes) -> tuple[Way, Plain] | bytes | None:
        """The request and its way; `data` if its body is not whole; None for the long way."""
        head = _HEAD.match(data)
        if head is None:
            return None
        path = head[1].decode("ascii")
        way = next((each for each in self._ways if path.startswith(each.prefix)), None)
        headers = _fields(head[2]) if way is not None else None
        if way is None or headers is None:
            return None
        size = int(headers[b"content-length"])
        missing = head.end() + size - len(data)
        if missing:
            return data if missing > 0 else None
        plain = Plain(path, headers, data[head.end() :], self.app_state["tls"], self.client)
        return (way, plain) if way.lane.takes(plain) else None

    def _serve(self, way: Way, request: Plain) -> None:
        self._due, self._received = None, 0
        self._unset_keepalive_if_required()
        self._is_serving = True
        self._is_last = request.headers.get(b"connection", b"").lower() == b"close"
        began = time.perf_counter()

        def told(status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
            self._is_serving = False
            way.note(status, time.perf_counter() - began)
            if not self._is_lost and not self.transport.is_closing():
                self._write(status, headers, body)

        way.lane.serve(request, told)

    def _write(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        head, says_last = [STATUS_LINE[status]], False
        for name, value in (*self.server_state.default_headers, *headers):
            head.append(b"%b: %b\r\n" % (spelled(name), value))
            says_last = says_last or (name == b"connection" and value == b"close")
        if self._is_last and not says_last:
            head.append(b"Connection: close\r\n")
        head.append(b"\r\n")
        head.append(body)
        self._plain_transport.write(b"".join(head))  # the names are spelled here
        self.server_state.total_requests += 1
        if self._is_last or says_last:
            self.transport.close()
            return
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        if self._held:
            self.flow.resume_reading()
            self.data_received(b"")


def _fields(lines: bytes) -> Mapping[bytes, bytes] | None:
    """The header fields; None if one of them asks for more than a lane does, or comes twice."""
    headers: dict[bytes, bytes] = {}
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in headers or name in _SECOND_LOOK or value.endswith(b" "):
            return None
        headers[name] = value.lstrip(b" ")
    size = headers.get(b"content-length", b"")
    if not size.isdigit() or len(size) > 6 or int(size) > _LONGEST_BODY:
        return None
    if headers.get(b"connection", b"keep-alive").lower() not in (b"keep-alive", b"close"):
        return None
    return headers
