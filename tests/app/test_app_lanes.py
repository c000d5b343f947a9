"""The short way of plain requests: answers as by the long way, and nothing taken wrongly."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import httptools
import pytest
import uvicorn
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from certmint.app.lanes import LaneProtocol, Way
from certmint.doors.http import Plain, Told

HEAD = b"POST /lane/x HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: %d\r\n\r\n"
PLAIN = HEAD % 2 + b"ab"
FIELDS = [(b"content-length", b"2"), (b"content-type", b"text/plain")]


class Slow:
    """A lane that answers with the body, a while later if that is `ww`; it keeps what came."""

    def __init__(self) -> None:
        self.came: list[Plain] = []
        self.noted: list[int] = []
        self.stop: Callable[[], None] = lambda: None  # ends the server

    def takes(self, request: Plain) -> bool:
        return request.path != "/lane/no"

    def serve(self, request: Plain, told: Told) -> None:
        self.came.append(request)
        answer = partial(told, 200, [*FIELDS, (b"x-way", b"short")], request.body[:2])
        if request.body == b"ww":
            asyncio.get_running_loop().call_later(0.1, answer)
        else:
            answer()

    def note(self, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.noted.append(status)


async def long_way(_scope: Any, receive: Any, send: Any) -> None:
    """The application behind: the first two octets of the body, and which way it was."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    fields = [*FIELDS, (b"x-way", b"long")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": (body + b"--")[:2]})


Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]


def meet(client: Client, lane: Slow | None = None) -> Any:
    """What the client comes to, against a real server with a lane at /lane/."""
    lane = lane or Slow()
    protocol = partial(LaneProtocol, ways=[Way("/lane/", lane, lane.note)])

    async def both() -> Any:
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(long_way, http=protocol, ws="none", lifespan="off", log_config=None)
        )
        lane.stop = partial(setattr, server, "should_exit", True)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        try:
            return await asyncio.wait_for(client(reader, writer), 5)
        finally:
            writer.close()
            lane.stop()
            await serving

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(both())


async def answer(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Which way an answer came, and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
    way = "short" if b"x-way: short" in head.lower() else "long"
    return way, await reader.readexactly(2)


def asked(*pieces: bytes) -> tuple[str, bytes]:
    """The answer to a request that is sent in these pieces."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.02)
        return await answer(reader)

    found: tuple[str, bytes] = meet(client)
    return found


def test_a_plain_request_goes_the_short_way() -> None:
    """Its lane sees path, fields and body, and is counted; the answer has a date, spelled out."""
    lane = Slow()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(PLAIN)
        return await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(2)

    answered = meet(client, lane)
    (came,) = lane.came
    assert (came.path, came.body, lane.noted) == ("/lane/x", b"ab", [200])
    assert came.headers == {b"host": b"x", b"content-type": b"a/b", b"content-length": b"2"}
    assert came.client is not None
    assert b"\r\nDate: " in answered
    assert answered.endswith(
        b"Content-Length: 2\r\nContent-Type: text/plain\r\nX-Way: short\r\n\r\nab"
    )


@pytest.mark.parametrize(
    "pieces",
    [[PLAIN[:-1], PLAIN[-1:]], [PLAIN[:-2], b"a", b"b"], [HEAD % 2, b"ab"]],
    ids=["late octet", "octet by octet", "body behind its head"],
)
def test_a_body_may_come_in_pieces(pieces: list[bytes]) -> None:
    """Many clients send the head first."""
    assert asked(*pieces) == ("short", b"ab")


@pytest.mark.parametrize(
    "request_",
    [
        PLAIN.replace(b"/lane/x", b"/other/x"),
        PLAIN.replace(b"/lane/x", b"/lane/no"),
        PLAIN.replace(b"/lane/x", b"/lane/x?a=b"),
        PLAIN.replace(b"/lane/x", b"/lane/%78"),
        PLAIN.replace(b"/lane/x", b"http://x/lane/x"),
        PLAIN.replace(b"POST", b"PUT"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nConnection: keep-alive, x"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nHost: y"),
        PLAIN.replace(b"Host: x", b"Host: \xff"),
        PLAIN.replace(b"Host: x", b"Host: x "),
        PLAIN.replace(b"Host: x", b"Host: x\r\nClient-Cert: :AA==:"),
        PLAIN.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked").replace(
            b"\r\n\r\nab", b"\r\n\r\n2\r\nab\r\n0\r\n\r\n"
        ),
        HEAD % 70_000 + b"ab" * 35_000,
    ],
)
def test_everything_else_goes_the_long_way(request_: bytes) -> None:
    """And is answered as it always was."""
    assert asked(request_) == ("long", b"ab")


def test_a_head_in_pieces_goes_the_long_way() -> None:
    """The parser is there for that."""
    assert asked(PLAIN[:9], PLAIN[9:]) == ("long", b"ab")


def test_both_ways_take_turns_on_one_connection() -> None:
    """A kept connection is not bound to the way of its first request."""
    long = PLAIN.replace(b"/lane/", b"/other/")

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[str]:
        ways = []
        for request in (PLAIN, long, PLAIN, PLAIN, long):
            writer.write(request)
            ways.append((await answer(reader))[0])
        return ways

    assert meet(client) == ["short", "long", "short", "short", "long"]


def test_pipelined_requests_are_answered_in_their_order() -> None:
    """Also if the first one takes its time, and whatever way the others go."""
    slow = HEAD % 2 + b"ww"

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[bytes]:
        writer.write(slow)
        await asyncio.sleep(0.02)
        for body in (b"11", b"22", b"33"):
            writer.write(HEAD % 2 + body)
            await asyncio.sleep(0.01)
        writer.write(PLAIN + PLAIN)
        return [(await answer(reader))[1] for _ in range(6)]

    assert meet(client) == [b"ww", b"11", b"22", b"33", b"ab", b"ab"]


def test_who_sends_without_end_meanwhile_is_not_read() -> None:
    """What comes while a lane is at work is held, but not without bound; nothing of it is lost."""
    many = PLAIN * 8_000  # 0.7 MB

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> set[bytes]:
        writer.write(HEAD % 2 + b"ww" + many)
        assert (await answer(reader))[1] == b"ww"
        return {(await answer(reader))[1] for _ in range(8_000)}

    assert meet(client) == {b"ab"}


def test_a_client_that_goes_away_harms_nobody() -> None:
    """Its answer is for nobody."""
    lane = Slow()

    async def client(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD % 2 + b"ww")
        await asyncio.sleep(0.02)
        writer.transport.abort()
        await asyncio.sleep(0.15)

    meet(client, lane)
    assert lane.noted == [200]


def test_a_client_that_wants_the_end_gets_it() -> None:
    """`Connection: close` is answered in kind, and what comes behind it is not read."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(PLAIN.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        return await reader.read()

    answered = meet(client)
    assert b"\r\nConnection: close\r\n" in answered
    assert b"X-Way: short" in answered
    assert answered.endswith(b"\r\n\r\nab")


def test_a_server_that_stops_answers_first() -> None:
    """And closes the connection behind the answer."""
    lane = Slow()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(HEAD % 2 + b"ww")
        await asyncio.sleep(0.02)
        lane.stop()
        return await reader.read()

    assert meet(client, lane).endswith(b"\r\n\r\nww")


class Parsed:
    """What the HTTP parser makes of the same octets."""

    def __init__(self, data: bytes) -> None:
        self.url, self.body, self.whole = b"", b"", 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.is_last = not self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole += 1


ODD = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0", b"Content-Length: 2\r\n", b"HTTP/1.1", b"a",
     b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"POST /lane/x HTTP/1.1\r\n",
     b"-", b"2", b"%", b"\xc3"]
)  # fmt: skip


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A plain request with a few things put in, left out or written twice."""
    data = draw(st.sampled_from([PLAIN, HEAD % 0, PLAIN.replace(b"Host: x\r\n", b"")]))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(ODD) + data[at + draw(st.integers(0, 3)) :]
    return data


@settings(max_examples=500)
@given(mangled())
def test_what_is_taken_is_what_the_parser_would_have_read(data: bytes) -> None:
    """No octet is understood in two ways: whatever goes the short way, the long way reads alike."""
    protocol = object.__new__(LaneProtocol)
    state: Mapping[str, Any] = {"tls": {}}
    protocol.app_state, protocol.client = dict(state), None
    protocol._ways = [Way("/lane/", Slow(), lambda *_: None)]
    found = protocol._plain(data)
    if not isinstance(found, tuple):
        return
    parsed = Parsed(data)
    assert parsed.whole == 1
    assert parsed.parser.get_method() == b"POST"
    is_last = found[1].headers.get(b"connection", b"").lower() == b"close"
    assert parsed.is_last is is_last
    assert (parsed.url.decode(), parsed.body) == (found[1].path, found[1].body)
    assert dict(parsed.headers) == found[1].headers
    assert len(parsed.headers) == len(found[1].headers)
