"""Name constraints of an authority (RFC 5280 4.2.1.10), and the check that issuing obeys.

A type of name with no permitted subtree here and no total exclusion is unconstrained, as in
the RFC. Both kinds of SubCA in DESIGN.md, section 5, are built by a function of this module.
"""

import ipaddress
from dataclasses import dataclass

from certmint.model.errors import BadInput
from certmint.model.names import DNSName, IPName, Name
from certmint.model.subject import DistinguishedName

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
EVERY_IPV4 = ipaddress.IPv4Network("0.0.0.0/0")
EVERY_IPV6 = ipaddress.IPv6Network("::/0")


@dataclass(frozen=True)
class NameConstraints:
    """Permitted and excluded subtrees. `""` as an excluded DNS tree excludes every name."""

    permitted_dns: tuple[str, ...] = ()
    excluded_dns: tuple[str, ...] = ()
    permitted_ip: tuple[IPNetwork, ...] = ()
    excluded_ip: tuple[IPNetwork, ...] = ()
    permitted_directory: tuple[DistinguishedName, ...] = ()
    critical: bool = False

    def __post_init__(self) -> None:
        for tree in (*self.permitted_dns, *filter(None, self.excluded_dns)):
            if DNSName(tree).is_wildcard:
                raise BadInput("constraint-syntax", f"{tree!r}: a subtree has no wildcard label")

    def permits(self, name: Name) -> bool:
        """Whether a certificate below these constraints may carry `name`."""
        if isinstance(name, IPName):
            return self._permits_ip(name)
        return self._permits_dns(name)

    def permits_subject(self, subject: DistinguishedName) -> bool:
        """Whether the leaf's subject is allowed; an empty subject always is (RFC 5280)."""
        if not subject.attributes or not self.permitted_directory:
            return True
        return any(
            subject.attributes[: len(tree.attributes)] == tree.attributes
            for tree in self.permitted_directory
        )

    def contains(self, inner: "NameConstraints") -> bool:
        """Whether everything that `inner` permits is permitted here too (for a CA below)."""
        dns = all(self._permits_dns(DNSName(tree)) for tree in inner.permitted_dns)
        ip = all(
            _within(network, self.permitted_ip) and not _overlaps(network, self.excluded_ip)
            for network in inner.permitted_ip
        )
        directory = not self.permitted_directory or all(
            self.permits_subject(tree) for tree in inner.permitted_directory
        )
        dns_bounded = not self.permitted_dns or bool(
            inner.permitted_dns or "" in inner.excluded_dns
        )
        return dns and ip and directory and dns_bounded

    def _permits_dns(self, name: DNSName) -> bool:
        # A wildcard stands for every name below its base, so an excluded tree below that base
        # is reached by it too (RUSTSEC-2026-0099, CVE-2025-61727).
        for tree in self.excluded_dns:
            if not tree or name.is_within(tree):
                return False
            if name.is_wildcard and DNSName(tree).is_within(name.base.value):
                return False
        return not self.permitted_dns or any(name.is_within(t) for t in self.permitted_dns)

    def _permits_ip(self, name: IPName) -> bool:
        network: IPNetwork = ipaddress.ip_network(name.value)
        if _overlaps(network, self.excluded_ip):
            return False
        return _within(network, self.permitted_ip)


def _within(network: IPNetwork, trees: tuple[IPNetwork, ...]) -> bool:
    # iPAddress is one type of name: permitting only IPv4 ranges leaves no IPv6 address permitted.
    return not trees or any(
        tree.version == network.version and network.subnet_of(tree)  # type: ignore[arg-type]
        for tree in trees
    )


def _overlaps(network: IPNetwork, trees: tuple[IPNetwork, ...]) -> bool:
    return any(tree.version == network.version and tree.overlaps(network) for tree in trees)


def technically_constrained(
    domains: tuple[str, ...], organization: DistinguishedName, *, critical: bool = False
) -> NameConstraints:
    """The SubCA of BR 7.1.2.5: domains, a directoryName, and no IP address at all."""
    _require(domains)
    if organization.get("C") is None or organization.get("O") is None:
        raise BadInput(
            "constraint-syntax",
            f"the permitted directoryName {organization} needs C and O (BR 7.1.2.5.2)",
        )
    return NameConstraints(
        permitted_dns=domains,
        excluded_ip=(EVERY_IPV4, EVERY_IPV6),
        permitted_directory=(organization,),
        critical=critical,
    )


def named_subordinate(domains: tuple[str, ...], *, critical: bool = False) -> NameConstraints:
    """The SubCA of BR 7.1.2.6 with dNSName and iPAddress constraints only."""
    _require(domains)
    return NameConstraints(
        permitted_dns=domains, excluded_ip=(EVERY_IPV4, EVERY_IPV6), critical=critical
    )


def _require(domains: tuple[str, ...]) -> None:
    if not domains:
        raise BadInput("constraint-syntax", "a constrained SubCA needs at least one domain")
