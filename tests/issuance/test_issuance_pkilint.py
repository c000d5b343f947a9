"""pkilint has nothing to say against any certificate that we issue."""

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certmint.issuance import pkixlint
from certmint.issuance.pkixlint import lint_with_pkilint
from certmint.issuance.template import compile_template, throw_away_key
from certmint.model.keys import KeyKind
from certmint.model.profile import BUILT_IN, SERVICE_PUBLIC, Profile, Purpose, Trust
from certmint.model.serial import Serial

SERIAL = Serial("0193" + "5a" * 18)
PRIVATE = [profile for profile in BUILT_IN if profile.trust is Trust.PRIVATE]


def _rehearsed(world: Any, profile: Profile, kind: KeyKind) -> x509.Certificate:
    parent = profile if profile.purpose is Purpose.ROOT else BUILT_IN[2]
    authority = world.authority(world.key(KeyKind.P384), parent)
    approval = world.typical(authority, profile, world.key(kind))
    kind = approval.request.public_key.kind
    return compile_template(profile, authority, kind).rehearse(approval, SERIAL, 0)


@pytest.mark.parametrize("profile", PRIVATE, ids=lambda p: p.name)
def test_private_profiles_pass_the_pkix_rules(world: Any, profile: Profile) -> None:
    """RFC 5280, for every kind of key that the profile admits."""
    for kind in sorted(profile.key_kinds - {KeyKind.RSA3072}):
        certificate = _rehearsed(world, profile, kind).public_bytes(Encoding.DER)

        assert lint_with_pkilint(certificate) == []


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.P384, KeyKind.RSA2048])
def test_public_service_passes_the_baseline_requirements(world: Any, kind: KeyKind) -> None:
    """Wildcards included; nothing on the list of accepted findings is needed."""
    certificate = _rehearsed(world, SERVICE_PUBLIC, kind).public_bytes(Encoding.DER)

    assert lint_with_pkilint(certificate, is_public=True) == []


def test_private_address_in_a_public_certificate_is_found(world: Any) -> None:
    """The Baseline Requirements know of no certificate for 192.168.1.1."""
    authority = world.authority(world.key())
    approval = world.approve(authority, SERVICE_PUBLIC, world.key(), names=("192.168.1.1",))
    template = compile_template(SERVICE_PUBLIC, authority, KeyKind.P256)
    certificate = template.rehearse(approval, SERIAL, 0).public_bytes(Encoding.DER)

    found = lint_with_pkilint(certificate, is_public=True)

    assert [finding.code for finding in found] == ["cabf.internal_ip_address"]


def test_ca_without_key_usage_is_found(world: Any) -> None:
    """The rules are really run: a CA certificate that lacks an extension does not pass."""
    good = _rehearsed(world, BUILT_IN[2], KeyKind.P256)
    kept = [e for e in good.extensions if e.oid != x509.KeyUsage.oid]
    builder = x509.CertificateBuilder(
        good.issuer, good.subject, good.public_key(), good.serial_number,
        good.not_valid_before_utc, good.not_valid_after_utc, kept,
    )  # fmt: skip
    bad = builder.sign(throw_away_key(KeyKind.P256), hashes.SHA256())

    assert lint_with_pkilint(bad.public_bytes(Encoding.DER))


def test_every_accepted_finding_says_why() -> None:
    """Each entry of the list has a reason that a reader can judge."""
    assert all(len(reason) > 60 for reason in pkixlint.ACCEPTED.values())
