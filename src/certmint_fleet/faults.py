"""Torn connections: a forwarder on loopback between the agents and a server on this machine.

It passes TLS on as it is, and cuts some connections after a random number of the server's octets:
in the handshake, within an answer, or just before its end. It reads nothing and changes nothing.
"""

import asyncio
import ipaddress
import random
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_MOST_OCTETS = 8_000  # about a handshake and a certificate
_CHUNK = 16_384


class NotOnThisMachine(ValueError):
    """The server is elsewhere: a forwarder would have to lie about its name."""


@contextmanager
def cutting(server: str, share: float) -> Iterator[str]:
    """The URL to use instead of `server`. Raises NotOnThisMachine."""
    url = urllib.parse.urlsplit(server)
    host, port = url.hostname or "", url.port or 443
    if not _is_here(host):
        raise NotOnThisMachine(f"{host} is not this machine: answers can be dropped there only")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="forwarder", daemon=True)
    thread.start()
    forwarder = _Forwarder(host, port, share)
    ours = asyncio.run_coroutine_threadsafe(forwarder.listen(), loop).result()
    try:
        yield urllib.parse.urlunsplit(url._replace(netloc=f"{url.hostname}:{ours}"))
    finally:
        asyncio.run_coroutine_threadsafe(forwarder.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _is_here(host: str) -> bool:
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(each).is_loopback for each in found)


class _Forwarder:
    def __init__(self, host: str, port: int, share: float) -> None:
        self._there = (host, port)
        self._share = share
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, self._there[0], 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, ours: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        with suppress(OSError):
            theirs, there = await asyncio.open_connection(*self._there)
            is_cut = random.random() < self._share  # noqa: S311 - a fault, no secret
            left = random.randrange(_MOST_OCTETS) if is_cut else None  # noqa: S311
            sending = asyncio.create_task(_pass_on(ours, there, None))
            await _pass_on(theirs, back, left)
            sending.cancel()
            there.transport.abort()
        back.transport.abort() if back.transport.get_write_buffer_size() == 0 else back.close()


async def _pass_on(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, left: int | None
) -> None:
    """Until the source ends, or `left` octets have passed."""
    with suppress(OSError):
        while (left is None or left > 0) and (chunk := await source.read(_CHUNK)):
            sink.write(chunk if left is None else chunk[:left])
            await sink.drain()
            if left is not None:
                left -= len(chunk)
        if left is None and sink.can_write_eof():
            sink.write_eof()
