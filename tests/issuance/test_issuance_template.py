"""The compiled template and pyca's builder write the same bytes, whatever is asked for."""

import dataclasses
import datetime as dt
import ipaddress
from typing import Any

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certmint.issuance.template import compile_template
from certmint.model.constraints import NameConstraints, named_subordinate, technically_constrained
from certmint.model.entities import Authority
from certmint.model.hardware import HardwareModuleName, HardwareName, PermanentIdentifier
from certmint.model.keys import KeyKind
from certmint.model.names import DNSName, IPName, Name
from certmint.model.profile import BUILT_IN, IDENTITY, ROOT, SERVICE, SUBORDINATE, Profile
from certmint.model.serial import Serial, serial_of
from certmint.model.subject import DistinguishedName

SERIAL = Serial("0193" + "5a" * 18)
EDGES = [
    dt.datetime(1999, 12, 31, 23, 59, 59, tzinfo=dt.UTC),
    dt.datetime(2049, 12, 31, 23, 59, 59, tzinfo=dt.UTC),
    dt.datetime(2050, 1, 1, tzinfo=dt.UTC),
    dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC),
]

moments = st.sampled_from(EDGES) | st.datetimes(
    min_value=dt.datetime(1951, 1, 1, tzinfo=dt.UTC).replace(tzinfo=None),
).map(lambda t: t.replace(microsecond=0, tzinfo=dt.UTC))
labels = st.from_regex(r"[a-z0-9]([a-z0-9]{0,40}[a-z0-9])?", fullmatch=True)
domains = st.builds(
    lambda front, last: ".".join([*front, last]),
    st.lists(labels, max_size=5),
    st.from_regex(r"[a-z]{2,20}", fullmatch=True),
)
dns_names = st.builds(lambda d, wild: DNSName(("*." if wild else "") + d), domains, st.booleans())
ip_names = (
    st.ip_addresses()
    .filter(lambda ip: ip.version == 4 or ip.ipv4_mapped is None)
    .map(lambda ip: IPName(str(ip)))
)
names = st.lists(dns_names | ip_names, max_size=12, unique=True).map(tuple)
networks = st.builds(
    lambda ip, cut: (
        ipaddress.ip_network((int(ip), max(0, ip.max_prefixlen - cut)), strict=False)
        if ip.version == 4
        else ipaddress.ip_network((ip, max(0, ip.max_prefixlen - cut)), strict=False)
    ),
    st.ip_addresses(),
    st.integers(0, 128),
)
words = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x2FFF, exclude_categories=["Cs", "Cc", "Zs"]),
    min_size=1,
    max_size=64,
)
printable = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 '()+,./:=?-]{0,62}", fullmatch=True)


def _distinguished(parts: dict[str, str]) -> DistinguishedName:
    return DistinguishedName.of(**parts)


subjects = st.fixed_dictionaries(
    {},
    optional={
        "DC": st.from_regex(r"[a-z]{1,20}", fullmatch=True),
        "C": st.from_regex(r"[A-Z]{2}", fullmatch=True),
        "ST": words,
        "L": words,
        "O": words,
        "OU": words,
        "CN": words.filter(lambda text: len(text.encode()) <= 64),  # the model's own law
        "serialNumber": printable,
    },
).map(_distinguished)


@st.composite
def constraint_sets(draw: st.DrawFn) -> NameConstraints:
    return NameConstraints(
        permitted_dns=tuple(draw(st.lists(domains, min_size=1, max_size=3))),
        excluded_dns=tuple(draw(st.lists(domains | st.just(""), max_size=2))),
        permitted_ip=tuple(draw(st.lists(networks, max_size=2))),
        excluded_ip=tuple(draw(st.lists(networks, max_size=2))),
        permitted_directory=tuple(
            draw(st.lists(subjects.filter(lambda dn: dn.attributes), max_size=2))
        ),
        critical=draw(st.booleans()),
    )


of_devices = st.lists(
    st.builds(
        PermanentIdentifier,
        st.from_regex(r"[A-Za-z0-9-]{1,40}", fullmatch=True),
        st.none() | st.just("1.3.6.1.4.1.99999.1"),
    )
    | st.builds(
        HardwareModuleName, st.just("1.3.6.1.4.1.99999.2"), st.binary(min_size=1, max_size=40)
    ),
    max_size=2,
    unique=True,
).map(tuple)


@pytest.fixture(scope="module")
def keys(world: Any) -> dict[KeyKind, Any]:
    return {kind: world.key(kind) for kind in (KeyKind.P256, KeyKind.P384, KeyKind.RSA2048)}


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    profile=st.sampled_from(BUILT_IN),
    issuer_kind=st.sampled_from([KeyKind.P256, KeyKind.P384, KeyKind.RSA2048]),
    key_kind=st.sampled_from([KeyKind.P256, KeyKind.P384, KeyKind.RSA2048]),
    subject=subjects,
    wanted=names,
    hardware=of_devices,
    constraints=constraint_sets(),
    between=st.tuples(moments, moments).map(sorted),
    number=st.integers(1, (1 << 159) - 1),
    shards=st.integers(1, 300),
    data=st.data(),
)
def test_template_writes_what_the_builder_writes(
    world: Any,
    keys: dict[KeyKind, Any],
    profile: Profile,
    issuer_kind: KeyKind,
    key_kind: KeyKind,
    subject: DistinguishedName,
    wanted: tuple[Name, ...],
    hardware: tuple[HardwareName, ...],
    constraints: NameConstraints,
    between: list[dt.datetime],
    number: int,
    shards: int,
    data: st.DataObject,
) -> None:
    """Every built-in profile, key, name, subject and time: not one byte differs."""
    authority = world.authority(keys[issuer_kind], subject=subject if number % 2 else None)
    authority = dataclasses.replace(authority, crl_shards=shards)
    approval = world.approve(
        authority,
        profile,
        keys[key_kind],
        subject=subject,
        names=wanted,
        hardware=hardware,
        constraints=constraints if profile is SUBORDINATE else None,
        not_before=between[0],
        not_after=between[1],
    )
    shard = data.draw(st.integers(0, shards - 1))
    template = compile_template(profile, authority, key_kind)

    tbs = template.fill(approval, serial_of(number), shard)

    assert template.reference(approval, serial_of(number), shard) == tbs


def test_one_template_serves_many_lengths(world: Any, keys: dict[KeyKind, Any]) -> None:
    """A layout is kept per tuple of lengths; a longer name does not spoil a shorter one."""
    authority: Authority = world.authority(keys[KeyKind.P256])
    template = compile_template(SERVICE, authority, KeyKind.P256)
    for length in (1, 30, 60, 1, 30):
        approval = world.approve(
            authority, SERVICE, keys[KeyKind.P256], names=("a" * length + ".example.com",)
        )

        assert template.reference(approval, SERIAL, 1) == template.fill(approval, SERIAL, 1)


def test_long_alternative_names(world: Any, keys: dict[KeyKind, Any]) -> None:
    """Three hundred names need three length octets, in both."""
    authority = world.authority(keys[KeyKind.P256])
    template = compile_template(SERVICE, authority, KeyKind.P256)
    wanted = tuple(f"{'x' * 60}.{n}.example.com" for n in range(300))
    approval = world.approve(authority, SERVICE, keys[KeyKind.P256], names=wanted)

    tbs = template.fill(approval, SERIAL, 0)

    assert len(tbs) > 20_000
    assert template.reference(approval, SERIAL, 0) == tbs


def test_no_well_defined_expiration_is_the_last_second_of_9999(
    world: Any, keys: dict[KeyKind, Any]
) -> None:
    """99991231235959Z as GeneralizedTime, beside a UTCTime (RFC 5280 4.1.2.5, 802.1AR)."""
    authority = world.authority(keys[KeyKind.P256])
    subject = DistinguishedName.of(CN="Router", serialNumber="1")
    approval = world.approve(authority, IDENTITY, keys[KeyKind.P256], subject=subject)

    tbs = compile_template(IDENTITY, authority, KeyKind.P256).fill(approval, SERIAL, 0)

    assert bytes.fromhex("170d3236313132333131303030305a180f39393939313233313233353935395a") in tbs


@pytest.mark.parametrize("make", [technically_constrained, named_subordinate])
def test_constraints_of_both_kinds(world: Any, keys: dict[KeyKind, Any], make: Any) -> None:
    """Either kind of SubCA is written as pyca writes it, critical or not."""
    authority = world.authority(keys[KeyKind.P256])
    more = (world.organization,) if make is technically_constrained else ()
    template = compile_template(SUBORDINATE, authority, KeyKind.P256)
    for critical in (False, True):
        constraints = make(("router.example.com",), *more, critical=critical)
        approval = world.approve(
            authority,
            SUBORDINATE,
            keys[KeyKind.P256],
            subject=DistinguishedName.of(CN="SubCA"),
            constraints=constraints,
        )
        tbs = template.fill(approval, SERIAL, 0)

        assert template.reference(approval, SERIAL, 0) == tbs


def test_name_constraints_vector(world: Any, keys: dict[KeyKind, Any]) -> None:
    """The extension that OpenSSL, NSS, GnuTLS and Java accepted, byte for byte (BR 7.1.2.5.2)."""
    expected = bytes.fromhex(
        "307aa04630148212726f757465722e6578616d706c652e636f6d302ea42c302a310b30090603550406130255"
        "53311b3019060355040a0c124578616d706c6520526f7574657220496e63a130300a87080000000000000000"
        "302287200000000000000000000000000000000000000000000000000000000000000000"
    )
    authority = world.authority(keys[KeyKind.P256])
    approval = world.approve(
        authority,
        SUBORDINATE,
        keys[KeyKind.P256],
        constraints=technically_constrained(("router.example.com",), world.organization),
    )

    tbs = compile_template(SUBORDINATE, authority, KeyKind.P256).fill(approval, SERIAL, 0)

    assert bytes.fromhex("0603551d1e") + b"\x04\x7c" + expected in tbs


def test_root_names_itself_and_no_url(world: Any, keys: dict[KeyKind, Any]) -> None:
    """A root's AKI is its own SKI, and nobody is told where to fetch what revokes it."""
    authority = world.authority(keys[KeyKind.P384], ROOT)
    approval = world.approve(authority, ROOT, authority.key, subject=authority.subject)

    certificate = compile_template(ROOT, authority, KeyKind.P384).rehearse(approval, SERIAL, 0)

    of = certificate.extensions.get_extension_for_class
    own = of(x509.SubjectKeyIdentifier).value.digest
    assert own == of(x509.AuthorityKeyIdentifier).value.key_identifier
    assert certificate.subject == certificate.issuer
    assert {e.oid._name for e in certificate.extensions} == {
        "basicConstraints",
        "keyUsage",
        "authorityKeyIdentifier",
        "subjectKeyIdentifier",
    }


@pytest.mark.parametrize(
    ("profile", "kind", "usages"),
    [
        (IDENTITY, KeyKind.P256, "digital_signature key_agreement"),
        (IDENTITY, KeyKind.RSA2048, "digital_signature key_encipherment"),
        (SERVICE, KeyKind.P256, "digital_signature"),
        (SERVICE, KeyKind.RSA2048, "digital_signature key_encipherment"),
        (ROOT, KeyKind.P256, "digital_signature key_cert_sign crl_sign"),
    ],
)
def test_key_usage_follows_from_purpose_and_key(
    world: Any, keys: dict[KeyKind, Any], profile: Profile, kind: KeyKind, usages: str
) -> None:
    """keyEncipherment never stands in an EC certificate; an EC identity can be encrypted to."""
    authority = world.authority(keys[KeyKind.P256], profile if profile is ROOT else SUBORDINATE)
    approval = world.approve(authority, profile, keys[kind], names=("a.example.com",))

    certificate = compile_template(profile, authority, kind).rehearse(approval, SERIAL, 0)

    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    bits = [name for name in vars(x509.KeyUsage) if isinstance(vars(x509.KeyUsage)[name], property)]
    set_bits = {b for b in bits if not b.endswith("_only") and getattr(usage.value, b)}
    assert usage.critical
    assert set_bits == set(usages.split())
