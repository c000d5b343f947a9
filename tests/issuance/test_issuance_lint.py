"""Lint sees what is wrong with the bytes, whoever wrote them."""

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.issuance.authority import SigningAuthority
from certmint.issuance.lint import lint
from certmint.issuance.template import compile_template, throw_away_key
from certmint.model.constraints import named_subordinate, technically_constrained
from certmint.model.hardware import HardwareModuleName, PermanentIdentifier
from certmint.model.keys import KeyKind
from certmint.model.profile import (
    BUILT_IN,
    IDENTITY,
    IDENTITY_ISSUING,
    IDENTITY_ROOT,
    ISSUING,
    SERVICE,
    SERVICE_PUBLIC,
    SUBORDINATE,
    Profile,
    Purpose,
)
from certmint.model.serial import Serial, serial_number
from certmint.model.subject import DistinguishedName
from certmint.policy.approval import Approval

SERIAL = Serial("0193" + "5a" * 18)
Extensions = list[tuple[x509.ExtensionType, bool]]


@pytest.fixture(scope="module")
def issuing(world: Any) -> SigningAuthority:
    return world.below(world.root())


@pytest.fixture(scope="module")
def service(world: Any, issuing: SigningAuthority) -> Approval:
    names = ("r1.example.com", "192.168.1.1")
    return world.approve(issuing.authority, SERVICE, world.key(), names=names)


def _codes(tbs: bytes, approval: Approval) -> set[str]:
    return {finding.code for finding in lint(tbs, approval, approval.authority.der)}


def _fill(approval: Approval, profile: Profile | None = None) -> bytes:
    profile = profile or approval.request.profile
    kind = approval.request.public_key.kind
    return compile_template(profile, approval.authority, kind).fill(approval, SERIAL, 0)


def _with(approval: Approval, **changed: Any) -> Approval:
    """The approval of a request in which something else was asked."""
    return dataclasses.replace(approval, request=dataclasses.replace(approval.request, **changed))


def _rebuilt(approval: Approval, change: Callable[[Extensions], Extensions]) -> bytes:
    """The approved certificate with other extensions."""
    kind = approval.request.public_key.kind
    template = compile_template(approval.request.profile, approval.authority, kind)
    good = template.rehearse(approval, SERIAL, 1)
    builder = (
        x509.CertificateBuilder()
        .serial_number(good.serial_number)
        .issuer_name(good.issuer)
        .subject_name(good.subject)
        .not_valid_before(good.not_valid_before_utc)
        .not_valid_after(good.not_valid_after_utc)
        .public_key(good.public_key())
    )
    for value, critical in change([(e.value, e.critical) for e in good.extensions]):
        builder = builder.add_extension(value, critical)
    return builder.sign(throw_away_key(KeyKind.P256), hashes.SHA256()).tbs_certificate_bytes


def _replace(new: x509.ExtensionType, critical: bool = False) -> Callable[[Extensions], Extensions]:
    return lambda old: [
        (new, critical) if value.oid == new.oid else (value, crit) for value, crit in old
    ]


@pytest.mark.parametrize("profile", BUILT_IN, ids=lambda p: p.name)
@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.RSA2048])
def test_what_the_template_writes_is_clean(world: Any, profile: Profile, kind: KeyKind) -> None:
    """Nothing is found in a typical certificate of any built-in profile."""
    root = world.root(KeyKind.P384, profile if profile.purpose is Purpose.ROOT else IDENTITY_ROOT)
    if profile.purpose is Purpose.ROOT:
        authority, issuer = root.authority, None
    elif profile.purpose.is_authority:
        authority, issuer = root.authority, root.authority.der
    else:
        authority = world.below(root, IDENTITY_ISSUING).authority
        issuer = authority.der
    approval = world.typical(authority, profile, world.key(kind))

    assert lint(_fill(approval), approval, issuer) == []


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("names", {"names": ()}),
        ("names", {"hardware": (PermanentIdentifier("SN1"),)}),
        ("subject", {"subject": DistinguishedName.of(CN="Somebody else")}),
    ],
)
def test_what_was_not_approved_is_found(service: Approval, code: str, changed: Any) -> None:
    """A certificate for another request than the approved one."""
    assert code in _codes(_fill(service), _with(service, **changed))


def test_hardware_names_are_compared_octet_for_octet(world: Any, issuing: SigningAuthority) -> None:
    """What was attested stands in the SAN as it was, after the names; pkilint agrees."""
    device = (PermanentIdentifier("SN1", "1.3.6.1.4.1.99999.1"), HardwareModuleName("1.2.3", b"7"))
    approval = world.approve(
        issuing.authority, SERVICE, world.key(), names=("r1.example.com",), hardware=device
    )

    assert _codes(_fill(approval), approval) == set()
    assert _codes(_fill(approval), _with(approval, hardware=device[:1])) == {"names"}
    (certificate,) = world.issue(issuing, approval)  # rehearsed: pyca's builder and pkilint
    assert all(each.other_name in certificate for each in device)


def test_another_key_is_found(world: Any, service: Approval) -> None:
    """The key is the approved one, bit by bit."""
    other = dataclasses.replace(service.request.key, key=world.key())

    assert {"key", "subject-key-identifier"} == _codes(_fill(service), _with(service, key=other))


def test_another_validity_is_found(service: Approval) -> None:
    """One second more than approved, and than the profile's ninety days, is too much."""
    longer = dataclasses.replace(service, not_after=service.not_after + dt.timedelta(seconds=1))

    assert _codes(_fill(longer), service) == {"validity", "lifetime"}
    assert _codes(_fill(longer), longer) == {"lifetime"}


def test_outliving_the_issuer_is_found(world: Any, issuing: SigningAuthority) -> None:
    """No certificate ends after the CA that signed it (RFC 5280 6.1)."""
    end = issuing.authority.not_after + dt.timedelta(seconds=1)
    approval = world.approve(
        issuing.authority,
        IDENTITY,
        world.key(),
        subject=DistinguishedName.of(CN="x", serialNumber="1"),
        not_after=end,
    )

    assert _codes(_fill(approval), approval) == {"lifetime"}


def test_serial_of_one_hundred_and_sixty_bits_is_found(service: Approval) -> None:
    """Twenty octets hold 159 bits and a sign (RFC 5280 4.1.2.2)."""
    kind = service.request.public_key.kind
    template = compile_template(SERVICE, service.authority, kind)

    tbs = template.fill(service, Serial("80" + "11" * 19), 0)

    assert serial_number(Serial("80" + "11" * 19)).bit_length() == 160
    assert _codes(tbs, service) == {"serial"}


def test_signature_algorithm_belongs_to_the_key(world: Any, service: Approval) -> None:
    """A P-256 CA signs with SHA-256 and nothing else (BR 7.1.3.2.2)."""
    sha256, sha384 = (
        bytes.fromhex("300a06082a8648ce3d040302"),
        bytes.fromhex("300a06082a8648ce3d040303"),
    )

    assert _codes(_fill(service).replace(sha256, sha384), service) == {"signature-algorithm"}


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("extension-missing", lambda old: old[:-1]),
        ("extension-unexpected", lambda old: [*old, (x509.OCSPNoCheck(), False)]),
        ("criticality", lambda old: [(value, not critical) for value, critical in old]),
        ("basic-constraints", _replace(x509.BasicConstraints(ca=True, path_length=0), True)),
        (
            "key-usage",
            _replace(
                x509.KeyUsage(True, False, True, False, False, False, False, False, False), True
            ),
        ),
        (
            "extended-key-usage",
            _replace(
                x509.ExtendedKeyUsage(
                    [x509.ExtendedKeyUsageOID.SERVER_AUTH, x509.ExtendedKeyUsageOID.CLIENT_AUTH]
                )
            ),
        ),
        (
            "authority-key-identifier",
            _replace(x509.AuthorityKeyIdentifier(b"12345678901234567890", None, None)),
        ),
        ("subject-key-identifier", _replace(x509.SubjectKeyIdentifier(b"12345678901234567890"))),
        (
            "distribution-point",
            _replace(
                x509.CRLDistributionPoints(
                    [
                        x509.DistributionPoint(
                            [x509.UniformResourceIdentifier("https://status.example.com/1.crl")],
                            None,
                            None,
                            None,
                        )
                    ]
                )
            ),
        ),
        (
            "information-access",
            _replace(
                x509.AuthorityInformationAccess(
                    [
                        x509.AccessDescription(
                            x509.AuthorityInformationAccessOID.OCSP,
                            x509.UniformResourceIdentifier("http://elsewhere.example"),
                        )
                    ]
                )
            ),
        ),
        ("names", _replace(x509.SubjectAlternativeName([x509.RFC822Name("a@example.com")]), True)),
    ],
)  # fmt: skip
def test_wrong_extension_is_found(
    service: Approval, code: str, change: Callable[[Extensions], Extensions]
) -> None:
    """Each extension is compared with what the profile and the approval call for."""
    assert code in _codes(_rebuilt(service, change), service)


def test_common_name_outside_the_san_is_found(world: Any, issuing: SigningAuthority) -> None:
    """A CN that is not in the SAN escapes name constraints (openssl#30346)."""
    approval = world.approve(
        issuing.authority,
        SERVICE,
        world.key(),
        names=("a.example.com",),
        subject=DistinguishedName.of(CN="bank.example.net"),
    )

    assert _codes(_fill(approval), approval) == {"names"}


def test_service_without_names_is_found(world: Any, issuing: SigningAuthority) -> None:
    """A service certificate always has a SAN."""
    subject = DistinguishedName.of(CN="a.example.com")
    approval = world.approve(issuing.authority, SERVICE, world.key(), subject=subject)

    assert "names" in _codes(_fill(approval), approval)


def test_public_leaf_with_a_subject_is_found(world: Any, issuing: SigningAuthority) -> None:
    """The subject of a domain-validated public leaf is empty."""
    approval = world.approve(
        issuing.authority,
        SERVICE_PUBLIC,
        world.key(),
        names=("a.example.com",),
        subject=DistinguishedName.of(CN="a.example.com"),
    )

    assert _codes(_fill(approval), approval) == {"subject"}


def test_identity_without_serial_number_is_found(world: Any, issuing: SigningAuthority) -> None:
    """IEEE 802.1AR: the device's serial number stands in the subject."""
    subject = DistinguishedName.of(CN="Router")
    approval = world.approve(
        issuing.authority, IDENTITY, world.key(), subject=subject,
        not_after=issuing.authority.not_after,
    )  # fmt: skip

    assert _codes(_fill(approval), approval) == {"subject"}


def test_ca_below_path_length_zero_is_found(world: Any, issuing: SigningAuthority) -> None:
    """A SubCA with path length 0 signs no CA."""
    constraints = named_subordinate(("example.com",))
    subordinate = world.below(issuing, SUBORDINATE, constraints=constraints)
    approval = world.approve(
        subordinate.authority, ISSUING, world.key(), subject=DistinguishedName.of(CN="CA")
    )

    assert "path-length" in _codes(_fill(approval), approval)


def test_other_constraints_are_found(world: Any, issuing: SigningAuthority) -> None:
    """A SubCA is constrained as approved: not otherwise, and not without."""
    wanted = technically_constrained(("example.com",), world.organization)
    approval = world.approve(
        issuing.authority,
        SUBORDINATE,
        world.key(),
        subject=DistinguishedName.of(CN="CA"),
        constraints=wanted,
    )
    wider = _with(approval, constraints=named_subordinate(("example.com", "example.net")))
    none = _with(approval, constraints=None)

    assert _codes(_fill(approval), approval) == set()
    assert _codes(_fill(wider), approval) == {"name-constraints"}
    assert _codes(_fill(none), approval) == {"name-constraints", "extension-missing"}
    assert "name-constraints" in _codes(_fill(approval), none)


def test_issuer_of_another_name_or_key_is_found(world: Any, service: Approval) -> None:
    """The issuing certificate has the authority's subject and its key."""
    other = world.below(world.root())
    found = {f.code for f in lint(_fill(service), service, other.authority.der)}
    same_name = dataclasses.replace(
        service, authority=dataclasses.replace(service.authority, key=world.key())
    )

    assert {"issuer", "authority-key-identifier"} <= found
    assert "issuer" in _codes(_fill(service), same_name)
    assert "issuer" in {f.code for f in lint(_fill(service), service, None)}


@pytest.mark.parametrize("cut", [0, 1, 40, 200])
def test_damaged_bytes_are_a_finding(service: Approval, cut: int) -> None:
    """Whatever pyca cannot read is reported, not raised."""
    assert _codes(_fill(service)[:cut], service) == {"syntax"}


def test_weird_curve_is_a_finding(service: Approval) -> None:
    """A key of another kind than the approved one does not pass as it."""
    kind = service.request.public_key.kind
    good = compile_template(SERVICE, service.authority, kind).rehearse(service, SERIAL, 0)
    other = ec.generate_private_key(ec.SECP521R1()).public_key()
    builder = x509.CertificateBuilder(
        good.issuer, good.subject, other, good.serial_number,
        good.not_valid_before_utc, good.not_valid_after_utc, list(good.extensions),
    )  # fmt: skip
    tbs = builder.sign(throw_away_key(KeyKind.P256), hashes.SHA256()).tbs_certificate_bytes

    assert _codes(tbs, service) == {"key"}
