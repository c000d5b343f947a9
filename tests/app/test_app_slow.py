"""The listener and slow clients, over real sockets: who keeps it waiting is cut off."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
import uvloop

from certmint.app.tls import MAX_HEADER_BYTES, LimitedProtocol

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
WHOLE = HEAD % 2 + b"ab"
LOOPS: dict[str, Callable[[], Any]] = {
    "asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop
}  # fmt: skip


class Quick(LimitedProtocol):
    """The same, for tests without patience."""

    head_deadline_s = 0.2
    body_period_s = 0.2
    look_s = 0.02


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the length of the body, once it is whole and a while later."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await asyncio.sleep(0.5 if length == 2 else 0)
    body = str(length).encode()
    fields = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})


Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]


def meet(client: Client, loop: str = "uvloop") -> bytes:
    """What the client has read at the end, from a server with deadlines of 0.2 seconds."""

    async def both() -> bytes:
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(echo, http=Quick, ws="none", lifespan="off", log_config=None)
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        try:
            return await asyncio.wait_for(client(reader, writer), 5)
        finally:
            writer.close()
            server.should_exit = True
            await serving

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(both())


async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    """An octet every 50 milliseconds; what is read until the server has enough of it."""
    try:
        for octet in data:
            if reader.at_eof() or writer.is_closing():
                break
            writer.write(bytes([octet]))
            await asyncio.sleep(0.05)
        return await reader.read()
    except ConnectionError:
        return b"cut off"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("the head", HEAD * 2),
        ("blank lines", b"\r\n" * 40),
        ("the body", b"x" * 60),
        ("a chunked body", b"1\r\nx\r\n" * 12),
    ],
    ids=["head", "blank", "body", "chunked"],
)
def test_a_slow_client_is_cut_off(loop: str, what: str, data: bytes) -> None:
    """Nobody holds a connection by an octet now and then, in any part of a request."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if what == "the body":
            writer.write(HEAD % 1000)
        if what == "a chunked body":
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        return await trickle(reader, writer, data)

    assert meet(client, loop) in (b"", b"cut off")


@pytest.mark.parametrize(
    "first", [WHOLE, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["POST", "GET"]
)
def test_the_second_request_has_a_deadline_too(first: bytes) -> None:
    """After a good request on the same connection, the next one may not be slow either."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(first)
        assert await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(1)
        return await trickle(reader, writer, HEAD * 2)

    assert meet(client) in (b"", b"cut off")


def test_the_second_request_has_a_size_too() -> None:
    """A head without end fills no memory on a connection that is kept."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(WHOLE)
        assert await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(1)
        try:
            writer.write(b"GET / HTTP/1.1\r\nX: ")
            for _ in range(400):
                writer.write(b"a" * MAX_HEADER_BYTES)
                await writer.drain()
            return await reader.read()
        except ConnectionError:
            return b"cut off"

    assert meet(client) in (b"", b"cut off")


def test_who_is_quick_enough_is_served() -> None:
    """An answer that takes longer than the deadlines, a long body at once, and a steady one."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        got = b""
        for length in (2, 200_000, 40_000):
            body = b"a" * length
            if length == 40_000:
                writer.write(HEAD % length)
                for start in range(0, length, 4_000):
                    writer.write(body[start : start + 4_000])
                    await asyncio.sleep(0.05)
            else:
                writer.write(HEAD % length + body)
            await reader.readuntil(b"\r\n\r\n")
            got += await reader.readexactly(len(str(length))) + b" "
        return got

    assert meet(client) == b"2 200000 40000 "
