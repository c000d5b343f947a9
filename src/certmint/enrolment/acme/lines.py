"""How a fibre looks at the network: without a thread for an http-01 that is over in a moment.

Names are looked up, and TLS is spoken, in threads: those libraries block. What may be reached is
judged in `validation`, here as there.
"""

import errno
import ipaddress
import os
import socket
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from certmint.registry import fibres
from certmint.validation.dns import Answer, Resolver
from certmint.validation.reach import Dial, IPAddress, Line, SocketLine


@dataclass(frozen=True)
class ResolverBeside:
    """A resolver that is asked in a thread while the fibre steps aside."""

    resolver: Resolver
    threads: Executor

    def txt(self, name: str) -> Answer:
        return fibres.aside(self.threads, partial(self.resolver.txt, name))

    def cname(self, name: str) -> Answer:
        return fibres.aside(self.threads, partial(self.resolver.cname, name))

    def addresses(self, name: str) -> Answer:
        return fibres.aside(self.threads, partial(self.resolver.addresses, name))


class FibreLine:
    """A connection that is waited for by the event loop."""

    def __init__(self, plain: socket.socket, threads: Executor) -> None:
        self._plain, self._threads = plain, threads

    def send(self, data: bytes, seconds: float) -> None:
        try:
            sent = self._plain.send(data)  # a request fits into the socket's buffer
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            fibres.ready(self._plain.fileno(), to_write=True, seconds=seconds)
            self.send(data[sent:], seconds)

    def receive(self, size: int, seconds: float) -> bytes:
        try:
            return self._plain.recv(size)
        except BlockingIOError:
            fibres.ready(self._plain.fileno(), to_write=False, seconds=seconds)
            return self.receive(size, seconds)

    def secured(self, server_name: str | None, seconds: float) -> Line:
        secure = partial(SocketLine(self._plain).secured, server_name, seconds)
        return _LineBeside(fibres.aside(self._threads, secure), self._threads)

    def close(self) -> None:
        self._plain.close()


@dataclass(frozen=True)
class _LineBeside:
    line: Line
    threads: Executor

    def send(self, data: bytes, seconds: float) -> None:
        fibres.aside(self.threads, partial(self.line.send, data, seconds))

    def receive(self, size: int, seconds: float) -> bytes:
        return fibres.aside(self.threads, partial(self.line.receive, size, seconds))

    def secured(self, server_name: str | None, seconds: float) -> Line:
        return fibres.aside(self.threads, partial(self.line.secured, server_name, seconds))

    def close(self) -> None:
        self.line.close()


def dialing(threads: Executor) -> Dial:
    """Opens connections for the fibre that asks."""

    def dial(address: IPAddress, port: int, seconds: float) -> Line:
        is_new = isinstance(address, ipaddress.IPv6Address)
        plain = socket.socket(socket.AF_INET6 if is_new else socket.AF_INET, socket.SOCK_STREAM)
        plain.setblocking(False)
        try:
            _connect(plain, (str(address), port), seconds)
        except BaseException:
            plain.close()
            raise
        return FibreLine(plain, threads)

    return dial


def _connect(plain: socket.socket, address: tuple[str, int], seconds: float) -> None:
    refused = plain.connect_ex(address)
    if refused == errno.EINPROGRESS:
        fibres.ready(plain.fileno(), to_write=True, seconds=seconds)
        refused = plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if refused:
        raise OSError(refused, os.strerror(refused))
