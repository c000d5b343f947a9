"""Identifiers that a certificate can carry: DNS names, wildcards and IP addresses.

A `DNSName` is lower case, in A-labels, without a trailing dot and without underscores
(RFC 5280 4.2.1.6, RFC 5890 2.3.1, BR 7.1.2.7.12); it may start with one whole wildcard label.
Whether a name may be in a *public* certificate is policy's question, not the type's.
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

from certmint.model.errors import BadInput

_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_DNS = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*{_LABEL}\Z")
_NUMERIC_TLD = re.compile(r"(?:.*\.)?[0-9]+\Z")


@dataclass(frozen=True, slots=True, order=True)
class DNSName:
    """A DNS name or wildcard; constructing one proves its syntax."""

    value: str

    def __post_init__(self) -> None:
        value = self.value
        if len(value) > 253 or not _DNS.match(value) or _NUMERIC_TLD.match(value):
            raise BadInput(
                "name-syntax",
                f"{value!r} is not a DNS name: use lower-case letters, digits and hyphens in "
                "labels of at most 63, at most one '*.' in front, and no dot at the end",
            )
        if any(label[2:4] == "--" and not label.startswith("xn--") for label in value.split(".")):
            raise BadInput(
                "name-syntax", f"{value!r} has a label with '--' in third place that is no A-label"
            )

    @property
    def is_wildcard(self) -> bool:
        return self.value.startswith("*.")

    @property
    def base(self) -> "DNSName":
        """The name without its wildcard label."""
        return DNSName(self.value[2:]) if self.is_wildcard else self

    def is_within(self, domain: str) -> bool:
        """Whether the name (or what its wildcard stands for) is `domain` or below it."""
        base = self.value[2:] if self.is_wildcard else self.value
        return base == domain or base.endswith("." + domain)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, order=True)
class IPName:
    """An IP address as an identifier (RFC 5280 iPAddress; text as in RFC 5952)."""

    value: str

    def __post_init__(self) -> None:
        try:
            address, canonical = _address(self.value)
        except ValueError:
            raise BadInput("name-syntax", f"{self.value!r} is not an IP address") from None
        # A zone is local to one host, and an IPv4-mapped address has two texts and two names.
        if "%" in self.value or (address.version == 6 and address.ipv4_mapped is not None):
            raise BadInput("name-syntax", f"{self.value!r} is not an address that others can reach")
        if canonical != self.value:
            raise BadInput(
                "name-syntax", f"{self.value!r} is not in canonical form; write {canonical!r}"
            )

    @property
    def packed(self) -> bytes:
        """The 4 or 16 octets that the certificate carries."""
        return self.address.packed

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """The address itself."""
        return _address(self.value)[0]

    def __str__(self) -> str:
        return self.value


@lru_cache(maxsize=1024)  # a request's names are looked at by every layer that it comes through
def _address(text: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, str]:
    """An address and its canonical text. Raises ValueError."""
    address = ipaddress.ip_address(text)
    return address, str(address)


Name = DNSName | IPName


def parse_name(text: str) -> Name:
    """A name as a person or a CSR writes it: any case; an IP address becomes an IPName.

    Raises BadInput `name-syntax`.
    """
    try:
        return IPName(_address(text)[1])
    except ValueError:
        return DNSName(text.lower())


# Names that no public CA may certify and nobody can prove in the DNS: RFC 6761, 6762, 8375,
# 9476 and the ICANN reservation of .internal. Private profiles may use them on an operator's word.
SPECIAL_USE_TLDS = frozenset({"local", "localhost", "lan", "home", "internal", "test", "invalid"})
SPECIAL_USE_SUFFIXES = ("home.arpa",)


def is_special_use(name: Name) -> bool:
    """Whether a name lives only inside somebody's own network."""
    if isinstance(name, IPName):
        return not name.address.is_global
    last = name.value.rsplit(".", 1)[-1]
    return last in SPECIAL_USE_TLDS or any(name.is_within(s) for s in SPECIAL_USE_SUFFIXES)
