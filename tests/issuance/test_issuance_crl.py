"""CRLs: read by pyca, verified by openssl, and built fast enough."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certmint.issuance.authority import SigningAuthority
from certmint.issuance.crl import REASON_CODE, build_crl
from certmint.model import der
from certmint.model.entities import RevocationReason
from certmint.model.errors import BadInput
from certmint.model.keys import KeyKind
from certmint.model.profile import SERVICE
from certmint.model.serial import Serial, serial_number, serial_of

REASONS = {
    RevocationReason.KEY_COMPROMISE: x509.ReasonFlags.key_compromise,
    RevocationReason.CA_COMPROMISE: x509.ReasonFlags.ca_compromise,
    RevocationReason.AFFILIATION_CHANGED: x509.ReasonFlags.affiliation_changed,
    RevocationReason.SUPERSEDED: x509.ReasonFlags.superseded,
    RevocationReason.CESSATION_OF_OPERATION: x509.ReasonFlags.cessation_of_operation,
    RevocationReason.PRIVILEGE_WITHDRAWN: x509.ReasonFlags.privilege_withdrawn,
}
WEEK = dt.timedelta(days=7)


@pytest.fixture(scope="module")
def root(world: Any) -> SigningAuthority:
    return world.root()


@pytest.fixture(scope="module")
def issuing(world: Any, root: SigningAuthority) -> SigningAuthority:
    return world.below(root)


entries = st.lists(
    st.tuples(
        st.integers(1, (1 << 159) - 1).map(serial_of),
        st.integers(0, 3_000_000_000).map(lambda s: dt.datetime.fromtimestamp(s, dt.UTC)),
        st.sampled_from(RevocationReason),
    ),
    max_size=20,
    unique_by=lambda entry: entry[0],
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(entries=entries, shard=st.integers(0, 3), number=st.integers(0, (1 << 159) - 1))
def test_pyca_reads_back_what_was_revoked(
    world: Any, issuing: SigningAuthority, entries: list[Any], shard: int, number: int
) -> None:
    """Serials, dates, reasons, number, shard and authority, and a signature that verifies."""
    built = build_crl(issuing, entries, shard, number, world.now, world.now + WEEK)

    crl = x509.load_der_x509_crl(built)
    issuer = x509.load_der_x509_certificate(issuing.authority.der)
    assert crl.is_signature_valid(issuer.public_key())
    assert crl.issuer == issuer.subject
    assert (crl.last_update_utc, crl.next_update_utc) == (world.now, world.now + WEEK)
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == number
    for entry, (serial, revoked_at, reason) in zip(crl, entries, strict=True):
        assert entry.serial_number == serial_number(serial)
        assert entry.revocation_date_utc == revoked_at
        found = [e.value.reason for e in entry.extensions]
        assert found == ([REASONS[reason]] if reason in REASONS else [])
    point = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    assert point.critical
    assert [name.value for name in point.value.full_name] == [issuing.authority.crl_url(shard)]
    key_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    authority = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == key_id


def test_every_reason_has_the_code_of_the_rfc() -> None:
    """All reasons but `unspecified`, which is said by silence; never 0, never 6 (hold)."""
    assert REASON_CODE.keys() == set(RevocationReason) - {RevocationReason.UNSPECIFIED}
    assert set(REASON_CODE.values()) == {1, 2, 3, 4, 5, 9}


def test_shard_url_is_that_of_the_certificates(world: Any, issuing: SigningAuthority) -> None:
    """Byte for byte the URL in cRLDistributionPoints (BR 7.2.2.1)."""
    approval = world.approve(issuing.authority, SERVICE, world.key(), names=("a.example.com",))
    (prepared,) = issuing.prepare([approval], world.now, world.random_bytes())
    (certificate,) = map(x509.load_der_x509_certificate, issuing.sign([prepared]))

    crl = x509.load_der_x509_crl(
        build_crl(issuing, [], prepared.shard, 1, world.now, world.now + WEEK)
    )

    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    idp = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    assert points[0].full_name == idp.full_name


def test_empty_list_is_left_out(world: Any, root: SigningAuthority) -> None:
    """revokedCertificates is absent, not empty (RFC 5280 5.1.2.6)."""
    crl = x509.load_der_x509_crl(build_crl(root, [], 0, 1, world.now, world.now + WEEK))

    tags = [member[0] for member in der.children(crl.tbs_certlist_bytes)]

    assert tags == [0x02, 0x30, 0x30, 0x17, 0x17, 0xA0]


def test_single_crl_has_no_distribution_point(world: Any, root: SigningAuthority) -> None:
    """A complete CRL needs none, and then it serves for the root itself, too."""
    crl = x509.load_der_x509_crl(build_crl(root, [], 0, 1, world.now, world.now + WEEK))

    with pytest.raises(x509.ExtensionNotFound):
        crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint)


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.P384, KeyKind.RSA2048])
def test_openssl_verifies(
    world: Any, openssl: Callable[..., Any], tmp_path: Path, kind: KeyKind
) -> None:
    """`openssl crl -verify` says OK for every kind of key, with and without entries."""
    signing = world.root(kind)
    (tmp_path / "ca.der").write_bytes(signing.authority.der)
    openssl("x509", "-inform", "DER", "-in", tmp_path / "ca.der", "-out", tmp_path / "ca.pem")
    revoked = [(Serial("01" * 20), world.now, RevocationReason.KEY_COMPROMISE)]

    for listed in ([], revoked):
        crl = build_crl(signing, listed, 0, 7, world.now, world.now + WEEK)
        (tmp_path / "crl.der").write_bytes(crl)
        checked = openssl(
            "crl", "-inform", "DER", "-in", tmp_path / "crl.der", "-noout", "-text",
            "-verify", "-CAfile", tmp_path / "ca.pem",
        )  # fmt: skip

        assert "verify OK" in checked.stderr + checked.stdout
        assert ("Key Compromise" in checked.stdout) == bool(listed)


@pytest.mark.parametrize(
    ("shard", "number", "life"), [(4, 1, 7), (-1, 1, 7), (0, -1, 7), (0, 1 << 159, 7), (0, 1, 0)]
)
def test_impossible_crl_is_refused(
    world: Any, issuing: SigningAuthority, shard: int, number: int, life: int
) -> None:
    """A shard that there is not, a number that does not fit, a period without length."""
    until = world.now + dt.timedelta(days=life)

    with pytest.raises(BadInput) as refused:
        build_crl(issuing, [], shard, number, world.now, until)

    assert refused.value.code == "crl-syntax"


def test_a_crl_has_a_hundred_thousand_entries(world: Any, issuing: SigningAuthority) -> None:
    """In a fraction of a second; a quadratic builder would not come to an end here."""
    reason = RevocationReason.KEY_COMPROMISE
    listed = [
        (serial_of((1 << 150) + n), world.now + dt.timedelta(seconds=n), reason)
        for n in range(100_000)
    ]

    crl = build_crl(issuing, listed, 0, 1, world.now, world.now + WEEK)

    assert len(x509.load_der_x509_crl(crl)) == 100_000
