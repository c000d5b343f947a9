"""Names, and the constraints that they must obey: every way around them that was ever tried."""

import ipaddress
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from certmint.model.constraints import (
    EVERY_IPV4,
    EVERY_IPV6,
    NameConstraints,
    named_subordinate,
    technically_constrained,
)
from certmint.model.errors import BadInput
from certmint.model.names import DNSName, IPName, Name, is_special_use, parse_name
from certmint.model.subject import NO_SUBJECT, DistinguishedName

MAKER = DistinguishedName.of(C="US", O="Maker")
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True).filter(
    lambda label: label[2:4] != "--"
)
TREE = st.lists(LABEL, min_size=1, max_size=4).map(".".join).filter(
    lambda name: not name.rsplit(".", 1)[-1].isdigit()
)  # fmt: skip

GOOD = ["a", "a.b", "*.a.b", "xn--nxasmq6b.example", "1.example", "a-b.example", "x" * 63 + ".com"]
BAD = [
    "", ".", "a.", ".a", "a..b", "*", "*a.example", "a.*.example", "*.*.example", "A.example",
    "a_b.example", "-a.example", "a-.example", "é.example", "a b.example", "a\x00.example",
    "a\n", "example.com\n", "1.2.3.4", "a.1", "x" * 64 + ".com", ".".join(["x" * 63] * 4) + ".x",
    "ab--c.example", "a.example:443", "http://a.example", "user@example.com", "*.", "a/b.example",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_good_names(text: str) -> None:
    """DNS names as RFC 5280 and BR write them."""
    assert str(DNSName(text)) == text


@pytest.mark.parametrize("text", BAD)
def test_bad_names(text: str) -> None:
    """Everything else cannot be constructed: no odd name reaches a rule, let alone a signature."""
    with pytest.raises(BadInput) as refusal:
        DNSName(text)
    assert refusal.value.code == "name-syntax"


@given(st.text(max_size=40))
def test_any_text(text: str) -> None:
    """Any text is a name that prints as itself, or BadInput."""
    try:
        name = parse_name(text)
    except BadInput:
        return
    assert parse_name(str(name)) == name
    assert str(name).isascii()


@given(st.ip_addresses())
def test_addresses(address: Any) -> None:
    """An address has one text and the octets that a certificate carries."""
    assume(address.version == 4 or address.ipv4_mapped is None)  # refused, below
    name = parse_name(str(address))
    assert isinstance(name, IPName)
    assert name.packed == address.packed


@pytest.mark.parametrize(
    "text", ["010.0.0.1", "1.2.3", "1.2.3.4/32", "2001:DB8::1", "::ffff:192.0.2.1", "fe80::1%eth0"]
)
def test_addresses_in_another_form(text: str) -> None:
    """Another spelling of an address is none: two spellings would be two names."""
    with pytest.raises(BadInput):
        IPName(text)


@pytest.mark.parametrize(
    ("text", "special"),
    [
        ("router.lan", True), ("router", False), ("localhost", True), ("a.home.arpa", True),
        ("home.arpa", True), ("ahome.arpa", False), ("example.com", False), ("10.0.0.1", True),
        ("8.8.8.8", False), ("fd00::1", True), ("2606:4700::1", False), ("lan.example", False),
        ("169.254.1.1", True), ("100.64.0.1", True),
    ],
)  # fmt: skip
def test_names_of_private_networks(text: str, special: bool) -> None:
    """Which names nobody can prove in the DNS."""
    assert is_special_use(parse_name(text)) == special


# Each shape of bypass, against a SubCA for example.com that excludes internal.example.com.
SUB = NameConstraints(
    permitted_dns=("example.com",),
    excluded_dns=("internal.example.com",),
    excluded_ip=(EVERY_IPV4, EVERY_IPV6),
    permitted_directory=(MAKER,),
)
SHAPES: list[tuple[str, Name, bool]] = [
    ("the domain itself", DNSName("example.com"), True),
    ("below it", DNSName("a.b.example.com"), True),
    ("a wildcard below it", DNSName("*.dev.example.com"), True),
    ("a suffix without a dot", DNSName("notexample.com"), False),
    ("a prefix of the suffix", DNSName("example.com.evil.net"), False),
    ("the parent", DNSName("com"), False),
    ("a wildcard of the parent", DNSName("*.com"), False),
    ("a sibling", DNSName("example.net"), False),
    ("a look-alike in A-labels", DNSName("xn--exmple-cua.com"), False),
    ("an excluded name", DNSName("internal.example.com"), False),
    ("below an excluded name", DNSName("a.internal.example.com"), False),
    ("a wildcard of an excluded name", DNSName("*.internal.example.com"), False),
    ("a wildcard that reaches an excluded name", DNSName("*.example.com"), False),
    ("beside an excluded name", DNSName("notinternal.example.com"), True),
    ("an IPv4 address", IPName("192.0.2.1"), False),
    ("an IPv6 address", IPName("2001:db8::1"), False),
]


@pytest.mark.parametrize(
    ("name", "allowed"), [row[1:] for row in SHAPES], ids=[r[0] for r in SHAPES]
)
def test_shapes_of_bypass(name: Name, allowed: bool) -> None:
    """Fault 22: what is inside is permitted, and none of the ways around is."""
    assert SUB.permits(name) == allowed


@pytest.mark.parametrize("tree", ["*.example.com", ".example.com", "example.com.", "EXAMPLE.com"])
def test_what_is_no_subtree(tree: str) -> None:
    """A subtree that verifiers read in two ways cannot be written."""
    for field in ("permitted_dns", "excluded_dns"):
        with pytest.raises(BadInput):
            NameConstraints(**{field: (tree,)})


def test_subjects() -> None:
    """An empty subject is allowed; another one begins with the permitted directory name."""
    assert SUB.permits_subject(NO_SUBJECT)
    assert SUB.permits_subject(MAKER)
    assert SUB.permits_subject(DistinguishedName.of(C="US", O="Maker", CN="*.evil.net"))
    for other in ({"O": "Maker"}, {"C": "US", "O": "Maker2"}, {"C": "DE", "O": "Maker"}):
        assert not SUB.permits_subject(DistinguishedName.of(**other))


@given(TREE, TREE)
def test_permitted_is_within(tree: str, name: str) -> None:
    """One permitted tree permits exactly what is it or ends with a dot and it."""
    permitted = NameConstraints(permitted_dns=(tree,)).permits(DNSName(name))
    assert permitted == (name == tree or name.endswith("." + tree))


@given(TREE, LABEL, st.booleans())
def test_excluded_wins(tree: str, label: str, is_wildcard: bool) -> None:
    """What is excluded is never permitted, however it is also permitted."""
    both = NameConstraints(permitted_dns=(tree,), excluded_dns=(tree,))
    name = f"{label}.{tree}"
    assert not both.permits(DNSName(f"*.{name}" if is_wildcard else name))


@given(TREE, LABEL)
def test_a_wildcard_is_every_name_below(tree: str, label: str) -> None:
    """If a wildcard is permitted, so is each name that it stands for."""
    for constraints in (
        NameConstraints(permitted_dns=(tree,), excluded_dns=(f"{label}.{tree}",)),
        NameConstraints(excluded_dns=(f"{label}.{tree}",)),
    ):
        assert not constraints.permits(DNSName(f"*.{tree}"))


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_networks(base: Any, bits: int, address: Any) -> None:
    """A permitted range permits its addresses; an excluded one refuses them."""
    network = ipaddress.ip_network(f"{base}/{bits}", strict=False)
    name = IPName(str(address))
    assert NameConstraints(permitted_ip=(network,)).permits(name) == (address in network)
    assert NameConstraints(excluded_ip=(network,)).permits(name) == (address not in network)


def test_only_one_family_of_addresses_is_permitted() -> None:
    """iPAddress is one type of name: permitting IPv4 ranges permits no IPv6 address."""
    lan = NameConstraints(permitted_ip=(ipaddress.IPv4Network("192.168.0.0/16"),))
    assert lan.permits(IPName("192.168.1.1"))
    assert not lan.permits(IPName("fd00::1"))


@pytest.mark.parametrize(
    ("inner", "fits"),
    [
        (("example.com",), True),
        (("dev.example.com", "lab.example.com"), True),
        (("notexample.com",), False),
        (("com",), False),
        (("example.com", "example.net"), False),
        (("internal.example.com",), False),
    ],
)
def test_a_ca_below(inner: tuple[str, ...], fits: bool) -> None:
    """A CA below may be for less, and for nothing else."""
    assert SUB.contains(technically_constrained(inner, MAKER)) == fits


def test_a_ca_below_without_any_bound() -> None:
    """No domains means every domain, and that does not fit below a constrained CA."""
    assert not SUB.contains(NameConstraints(permitted_directory=(MAKER,)))
    assert SUB.contains(
        NameConstraints(permitted_dns=("example.com",), permitted_directory=(MAKER,))
    )
    other = DistinguishedName.of(C="US", O="Another")
    assert not SUB.contains(technically_constrained(("example.com",), other))


def test_both_kinds_of_sub_ca() -> None:
    """Domains and no address at all; one kind bounds the directory name too, and needs C and O."""
    for made in (
        technically_constrained(("example.com",), MAKER),
        named_subordinate(("example.com",)),
    ):
        assert made.permits(DNSName("a.example.com"))
        assert not made.permits(DNSName("a.example.net"))
        assert not made.permits(IPName("192.168.1.1"))
        assert not made.permits(IPName("::1"))
        assert not made.critical
    no_country = DistinguishedName.of(O="Maker")
    for wrong in (
        lambda: named_subordinate(()),
        lambda: technically_constrained((), MAKER),
        lambda: technically_constrained(("example.com",), no_country),
    ):
        with pytest.raises(BadInput) as refusal:
            wrong()
        assert refusal.value.code == "constraint-syntax"
