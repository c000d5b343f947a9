"""Where a validator may connect to: the public Internet, and what a private lab was given by name.

The address that was checked is the address that is connected to: a name is looked up once a hop,
every address in the answer is judged, and the connection goes to one of those, by number (SSRF,
DNS rebinding: faults 18 and 19).
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from certmint.model.errors import BadInput
from certmint.model.names import IPName, Name
from certmint.validation.dns import Resolver

T = TypeVar("T")

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


# 6to4, Teredo and NAT64: an IPv4 address inside, which would have to be judged instead.
_CARRIES_IPV4 = tuple(map(ipaddress.ip_network, ("2002::/16", "2001::/32", "64:ff9b::/96")))


class Failed(Exception):
    """A validation that did not succeed. `kind` is the ACME error type (RFC 8555 6.7)."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True)
class PrivateNetwork:
    """A network that is not global, and the only ports in it that may be reached."""

    network: IPNetwork
    ports: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "PrivateNetwork":
        """From `127.0.0.0/8:5002,5001` or `[::1/128]:5002`. Raises BadInput `reach-syntax`."""
        network, _, ports = text.replace("[", "").replace("]", "").rpartition(":")
        try:
            parsed = ipaddress.ip_network(network)
            numbers = frozenset(int(port) for port in ports.split(","))
        except ValueError:
            numbers = frozenset()
        if not numbers or not all(0 < number < 65536 for number in numbers):
            raise BadInput("reach-syntax", f"{text!r} is not NETWORK:PORT,PORT")
        return cls(parsed, numbers)


@dataclass(frozen=True, slots=True)
class Reach:
    """Ports of the challenges, and the private networks that may be reached at all.

    Everything but the defaults is for private authorities only.
    """

    http_port: int = 80
    tls_port: int = 443
    private: tuple[PrivateNetwork, ...] = ()
    deadline_s: float = 10.0

    def permits(self, address: IPAddress, port: int) -> bool:
        """Whether a connection may be opened."""
        if isinstance(address, ipaddress.IPv6Address):
            if address.ipv4_mapped is not None:
                return self.permits(address.ipv4_mapped, port)
            if any(address in network for network in _CARRIES_IPV4):
                return False
        if address.is_global and not address.is_multicast:
            return port in (80, 443, self.http_port, self.tls_port)
        return any(
            address.version == each.network.version
            and address in each.network
            and port in each.ports
            for each in self.private
        )


def addresses(name: Name, port: int, resolver: Resolver, reach: Reach) -> list[IPAddress]:
    """The addresses of a name that may be reached, IPv6 first.

    One forbidden address among several is skipped; none left raises Failed `connection`, and a
    name without any address Failed `dns`.
    """
    if isinstance(name, IPName):
        found = [name.address]
    else:
        found = [ipaddress.ip_address(value) for value in resolver.addresses(name.value).values]
    if not found:
        raise Failed("dns", f"{name} has no address")
    allowed = [address for address in found if reach.permits(address, port)]
    if not allowed:
        raise Failed("connection", f"{name} has only addresses that must not be reached")
    return sorted(allowed, key=lambda address: -address.version)


class Line(Protocol):
    """An open connection to an address that was judged. OSError where the seconds pass."""

    def send(self, data: bytes, seconds: float) -> None: ...

    def receive(self, size: int, seconds: float) -> bytes:
        """At least one octet and at most `size`; none when the other side has closed."""
        ...

    def secured(self, server_name: str | None, seconds: float) -> "Line":
        """The same in TLS, whoever is at the other end."""
        ...

    def close(self) -> None: ...


Dial = Callable[[IPAddress, int, float], Line]
"""Opens a connection to an address and a port, within so many seconds. Raises OSError."""


class SocketLine:
    """A connection that a thread waits for."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream

    def send(self, data: bytes, seconds: float) -> None:
        self._stream.settimeout(seconds)
        self._stream.sendall(data)

    def receive(self, size: int, seconds: float) -> bytes:
        self._stream.settimeout(seconds)
        return self._stream.recv(size)

    def secured(self, server_name: str | None, seconds: float) -> "SocketLine":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._stream.settimeout(seconds)
        return SocketLine(context.wrap_socket(self._stream, server_hostname=server_name))

    def close(self) -> None:
        self._stream.close()


def plain_socket(address: IPAddress, port: int, seconds: float) -> socket.socket:
    """A connection for the thread that asks. Raises OSError."""
    return socket.create_connection((str(address), port), timeout=seconds)


def dial(address: IPAddress, port: int, seconds: float) -> Line:
    """The same as a line. Raises OSError."""
    return SocketLine(plain_socket(address, port, seconds))


def connected(
    targets: list[IPAddress], port: int, ends: float, dial: Callable[[IPAddress, int, float], T]
) -> T:
    """A connection to the first address that answers. Raises Failed `connection`."""
    refused = ""
    for address in targets[:4]:
        try:
            return dial(address, port, left(ends))
        except OSError as error:
            refused = f"{address} port {port}: {error.strerror or error}"
    raise Failed("connection", refused)


def left(ends: float) -> float:
    """Seconds until the monotonic time `ends`. Raises Failed `connection` when it has passed."""
    remaining = ends - time.monotonic()
    if remaining <= 0:
        raise Failed("connection", "the answer took too long")
    return remaining
