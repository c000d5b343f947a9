"""Asking the DNS: what TXT or CNAME records stand at a name, through a given resolver.

A missing record, a failing server and a bogus zone are three different answers: the first is a
fact about the domain, the others are no facts at all (BR 3.2.2.4, DNSSEC: never permission).
"""

import ipaddress
from dataclasses import dataclass
from typing import Protocol

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype

from certmint.model.errors import BadInput, Unavailable

TIMEOUT_S = 5.0
MAX_RECORDS = 100
MAX_ALIASES = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """The records at a name, as text; who said so, and whether DNSSEC vouches for it (AD)."""

    values: tuple[str, ...]
    server: str
    authenticated: bool


class Resolver(Protocol):
    """What domain validation needs of the network."""

    def txt(self, name: str) -> Answer:
        """TXT strings at `name`, aliases followed; each record's strings joined."""

    def cname(self, name: str) -> Answer:
        """The alias target at `name`, lower case, without the final dot."""

    def addresses(self, name: str) -> Answer:
        """IPv4 and IPv6 addresses at `name`, aliases followed."""


@dataclass(frozen=True, slots=True)
class Nameserver:
    """A resolver or an authoritative server: address and port."""

    address: str
    port: int = 53

    @classmethod
    def parse(cls, text: str) -> "Nameserver":
        """From `192.0.2.1`, `192.0.2.1:5353` or `[2001:db8::1]:53`.

        Raises BadInput `nameserver-syntax`.
        """
        host, port = text, 53
        if text.startswith("["):
            host, closed, rest = text[1:].partition("]")
            port = 53 if closed and not rest else 0
            if rest[:1] == ":" and rest[1:].isdigit():
                port = int(rest[1:])
        elif text.count(":") == 1:
            host, _, number = text.partition(":")
            port = int(number) if number.isdigit() else 0
        try:
            ipaddress.ip_address(host)
        except ValueError:
            port = 0
        if not 0 < port < 65536:
            raise BadInput(
                "nameserver-syntax", f"{text!r} is not an IP address with an optional port"
            )
        return cls(host, port)

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else (
            f"{self.address}:{self.port}"
        )  # fmt: skip


class NetworkResolver:
    """A `Resolver` over UDP, falling back to TCP for long answers."""

    def __init__(self, servers: tuple[Nameserver, ...], timeout_s: float = TIMEOUT_S) -> None:
        if not servers:
            raise BadInput("nameserver-syntax", "at least one resolver must be configured")
        self._servers = servers
        self._timeout = timeout_s

    def txt(self, name: str) -> Answer:
        return self._lookup(name, dns.rdatatype.TXT)

    def cname(self, name: str) -> Answer:
        return self._lookup(name, dns.rdatatype.CNAME)

    def addresses(self, name: str) -> Answer:
        v4, v6 = self._lookup(name, dns.rdatatype.A), self._lookup(name, dns.rdatatype.AAAA)
        return Answer(v4.values + v6.values, v4.server, v4.authenticated and v6.authenticated)

    def _lookup(self, name: str, kind: dns.rdatatype.RdataType) -> Answer:
        target = dns.name.from_text(name)
        for _ in range(MAX_ALIASES):
            response, server = self._ask(target, kind)
            values = _values(response, target, kind)
            # A recursive resolver returns the whole alias chain; an authoritative server for
            # one zone may return only the first link, which we follow ourselves.
            alias = _last_alias(response, target)
            if values or alias is None or kind == dns.rdatatype.CNAME:
                return Answer(values, str(server), bool(response.flags & dns.flags.AD))
            target = alias
        raise Unavailable("dns-aliases", f"{name}: more than {MAX_ALIASES} aliases in a row")

    def _ask(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType
    ) -> tuple[dns.message.Message, Nameserver]:
        query = dns.message.make_query(name, kind, want_dnssec=True)
        query.flags |= dns.flags.AD
        failures = []
        for server in self._servers:
            try:
                response, _ = dns.query.udp_with_fallback(
                    query, server.address, port=server.port, timeout=self._timeout
                )
            except (dns.exception.DNSException, OSError) as error:
                failures.append(f"{server}: {str(error) or type(error).__name__}")
                continue
            if response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return response, server
            failures.append(f"{server}: {dns.rcode.to_text(response.rcode())}")
        raise Unavailable("dns-failed", f"{name}: no resolver answers ({'; '.join(failures)})")


def _values(
    response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType
) -> tuple[str, ...]:
    owner = name if kind == dns.rdatatype.CNAME else (_last_alias(response, name) or name)
    values: list[str] = []
    for rrset in response.answer:
        if rrset.rdtype == kind and rrset.name == owner:
            values += [_text(record, kind) for record in rrset]
    return tuple(values[:MAX_RECORDS])


def _last_alias(response: dns.message.Message, name: dns.name.Name) -> dns.name.Name | None:
    aliases = {
        rrset.name: rrset[0].target
        for rrset in response.answer
        if rrset.rdtype == dns.rdatatype.CNAME
    }
    target = None
    for _ in range(MAX_ALIASES):
        if name not in aliases:
            return target
        name = target = aliases[name]
    return target


def _text(record: object, kind: dns.rdatatype.RdataType) -> str:
    if kind == dns.rdatatype.TXT:
        return b"".join(record.strings).decode("utf-8", "replace")  # type: ignore[attr-defined]
    if kind == dns.rdatatype.CNAME:
        return str(record.target).lower().rstrip(".")  # type: ignore[attr-defined]
    return str(record)
