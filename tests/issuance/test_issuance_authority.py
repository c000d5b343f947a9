"""What leaves the authority is what was approved: once, verified, and by the right key."""

import dataclasses
import datetime as dt
import os
import threading
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from certmint.issuance.authority import SAMPLE, SigningAuthority
from certmint.issuance.crl import build_crl
from certmint.model.constraints import NameConstraints
from certmint.model.errors import Misconfigured, Refused, Unavailable, WrongState
from certmint.model.keys import KeyKind, public_key_of
from certmint.model.names import DNSName
from certmint.model.profile import ISSUING, ROOT, SERVICE, SERVICE_PUBLIC, SUBORDINATE
from certmint.model.subject import DistinguishedName


class HardwareKey(ec.EllipticCurvePrivateKey):
    """A key behind pyca's class, as hardware would be: it counts, and can lie."""

    def __init__(self, wrong_at: int | None = None) -> None:
        self._real = ec.generate_private_key(ec.SECP256R1())
        self._other = ec.generate_private_key(ec.SECP256R1())
        self.signed = 0
        self.wrong_at = wrong_at

    def sign(self, data: Any, signature_algorithm: Any) -> bytes:
        self.signed += 1
        key = self._other if self.signed == self.wrong_at else self._real
        return key.sign(data, signature_algorithm)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._real.public_key()

    curve = property(lambda self: self._real.curve)
    key_size = property(lambda self: self._real.key_size)
    exchange = private_numbers = private_bytes = __copy__ = __deepcopy__ = lambda *_: None


class LyingKey(HardwareKey):
    """A key that passes for one of pyca's own."""

    __module__ = "cryptography.fake"


def _root_with(world: Any, key: HardwareKey) -> SigningAuthority:
    authority = world.authority(public_key_of(key), ROOT)
    approval = world.approve(authority, ROOT, authority.key, subject=authority.subject)
    (der,) = world.issue(SigningAuthority(authority, key), approval)
    active = dataclasses.replace(
        authority, der=der, not_before=approval.not_before, not_after=approval.not_after
    )
    return SigningAuthority(active, key)


@pytest.fixture(scope="module")
def issuing(world: Any) -> SigningAuthority:
    return world.below(world.root())


def _approvals(world: Any, signing: SigningAuthority, count: int) -> list[Any]:
    key = world.key()
    return [
        world.approve(signing.authority, SERVICE, key, names=(f"r{n:04}.example.com",))
        for n in range(count)
    ]


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.P384, KeyKind.RSA2048])
def test_certificates_verify_with_the_authoritys_key(world: Any, kind: KeyKind) -> None:
    """Every signature of a batch, checked by pyca, in the order asked for."""
    signing = world.root(kind)
    public = x509.load_der_x509_certificate(signing.authority.der).public_key()

    issued = world.issue(signing, *_approvals(world, signing, 2 * SAMPLE))

    for place, certificate in enumerate(map(x509.load_der_x509_certificate, issued)):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names.value.get_values_for_type(x509.DNSName) == [f"r{place:04}.example.com"]
        digest = certificate.signature_hash_algorithm
        content, signature = certificate.tbs_certificate_bytes, certificate.signature
        if isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, content, padding.PKCS1v15(), hashes.SHA256())
        else:
            assert isinstance(digest, hashes.SHA384 if kind is KeyKind.P384 else hashes.SHA256)
            public.verify(signature, content, ec.ECDSA(digest))


def test_serials_are_unique_and_shards_are_spread(world: Any, issuing: SigningAuthority) -> None:
    """Each certificate has a serial of its own; its CRL URL is that of the shard on record."""
    approvals = _approvals(world, issuing, 200)

    prepared = issuing.prepare(approvals, world.now, os.urandom)

    assert len({item.serial for item in prepared}) == 200
    assert {item.shard for item in prepared} == {0, 1, 2, 3}
    for item in prepared:
        assert issuing.authority.crl_url(item.shard).encode() in item.tbs
        assert bytes.fromhex(item.serial) in item.tbs


def test_the_signed_bytes_are_the_prepared_bytes(world: Any, issuing: SigningAuthority) -> None:
    """What went on record before the signature is what was signed."""
    prepared = issuing.prepare(_approvals(world, issuing, 3), world.now, os.urandom)

    issued = issuing.sign(prepared)

    for item, certificate in zip(prepared, issued, strict=True):
        parsed = x509.load_der_x509_certificate(certificate)
        assert parsed.tbs_certificate_bytes == item.tbs
        assert f"{parsed.serial_number:040x}" == item.serial
        assert item.approval.request.public_key.spki == parsed.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def test_nothing_is_asked_nothing_is_signed(world: Any, issuing: SigningAuthority) -> None:
    """An empty sequence is a sequence."""
    assert world.issue(issuing) == []


def test_prepared_is_signed_once(world: Any, issuing: SigningAuthority) -> None:
    """A second signature over the same serial never exists, not even from another thread."""
    prepared = issuing.prepare(_approvals(world, issuing, 1), world.now, os.urandom)
    outcomes: list[object] = []
    start = threading.Barrier(4)

    def attempt() -> None:
        start.wait()
        try:
            outcomes.append(issuing.sign(prepared))
        except WrongState as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes.count("already-signed") == 3


def test_prepared_twice_in_one_call_is_refused(world: Any, issuing: SigningAuthority) -> None:
    """Naming a Prepared twice in one call is signing it twice."""
    (prepared,) = issuing.prepare(_approvals(world, issuing, 1), world.now, os.urandom)

    with pytest.raises(WrongState) as refused:
        issuing.sign([prepared, prepared])

    assert refused.value.code == "already-signed"


def test_foreign_key_is_refused(world: Any, issuing: SigningAuthority) -> None:
    """An authority cannot be opened with a key that is not its own."""
    for kind in (KeyKind.P256, KeyKind.P384, KeyKind.RSA2048):
        with pytest.raises(Misconfigured) as refused:
            SigningAuthority(issuing.authority, world.private_key(kind))

        assert refused.value.code == "key-mismatch"


def test_approval_for_another_authority_is_refused(world: Any, issuing: SigningAuthority) -> None:
    """Neither prepared nor signed: not even by one with the same id and another key."""
    other = world.below(world.root())
    (approval,) = _approvals(world, other, 1)
    twin = dataclasses.replace(
        approval, authority=dataclasses.replace(other.authority, id=issuing.authority.id)
    )
    prepared = other.prepare([approval], world.now, os.urandom)

    for attempt in (
        lambda: issuing.prepare([approval], world.now, os.urandom),
        lambda: issuing.prepare([twin], world.now, os.urandom),
        lambda: issuing.sign(prepared),
    ):
        with pytest.raises(Misconfigured) as refused:
            attempt()
        assert refused.value.code == "authority-mismatch"
    assert len(other.sign(prepared)) == 1


def test_equal_authority_read_again_is_the_same(world: Any, issuing: SigningAuthority) -> None:
    """Values from the registry need not be the very object that the key was opened with."""
    (approval,) = _approvals(world, issuing, 1)
    again = dataclasses.replace(approval, authority=dataclasses.replace(approval.authority))

    assert len(world.issue(issuing, again)) == 1


def test_public_certificate_needs_transparency(world: Any, issuing: SigningAuthority) -> None:
    """The second lock: policy refuses it too, as long as there are no CT logs to submit to."""
    approval = world.approve(
        issuing.authority, SERVICE_PUBLIC, world.key(), names=("a.example.com",)
    )

    with pytest.raises(Refused) as refused:
        issuing.prepare([approval], world.now, os.urandom)

    assert refused.value.code == "ct-required"


@pytest.mark.parametrize(
    ("profile", "changed"),
    [
        (SERVICE, {"names": ()}),
        (SERVICE, {"subject": DistinguishedName.of(CN="not.in.the.san")}),
        (SUBORDINATE, {"subject": DistinguishedName.of(CN="CA"), "constraints": None}),
        (SUBORDINATE, {"subject": DistinguishedName.of(CN="CA"), "constraints": NameConstraints()}),
        (ISSUING, {"subject": DistinguishedName.of(CN="CA"),
                   "constraints": NameConstraints(permitted_dns=("example.com",))}),
        (ROOT, {"subject": DistinguishedName.of(CN="Not the authority")}),
    ],
)  # fmt: skip
def test_lint_stops_what_policy_let_through(
    world: Any, issuing: SigningAuthority, profile: Any, changed: Any
) -> None:
    """An approval that no certificate should have is refused before anything is signed."""
    approval = world.approve(issuing.authority, profile, world.key(), names=("a.example.com",))
    if profile.purpose.is_authority:
        changed = {"names": ()} | changed
    approval = dataclasses.replace(
        approval, request=dataclasses.replace(approval.request, **changed)
    )

    for _ in range(2):  # a layout that was refused is not taken for rehearsed
        with pytest.raises(Refused) as refused:
            issuing.prepare([approval], world.now, os.urandom)
        assert refused.value.code == "lint"


def test_authority_without_a_certificate_issues_only_its_own(world: Any) -> None:
    """A pending authority signs its own root certificate, and nothing below."""
    private = world.private_key(KeyKind.P256)
    pending = world.authority(public_key_of(private), ROOT)
    signing = SigningAuthority(pending, private)

    with pytest.raises(Refused) as refused:
        world.issue(signing, *_approvals(world, signing, 1))

    assert refused.value.code == "lint"


def test_every_hardware_signature_is_verified(world: Any) -> None:
    """One wrong signature in the middle of a batch stops the whole batch."""
    key = HardwareKey()
    signing = _root_with(world, key)
    prepared = signing.prepare(_approvals(world, signing, 40), world.now, os.urandom)
    key.wrong_at = key.signed + 17

    with pytest.raises(Unavailable) as failed:
        signing.sign(prepared)

    assert failed.value.code == "signature-invalid"
    with pytest.raises(WrongState):
        signing.sign(prepared[30:])  # never signed, but spent: their intents will be revoked


@pytest.mark.parametrize("place", [1, SAMPLE + 1, SAMPLE + 6])
def test_first_last_and_some_software_signatures_are_verified(world: Any, place: int) -> None:
    """So a single request is always verified, and a key gone wrong is noticed within a batch."""
    key = LyingKey()
    signing = _root_with(world, key)
    prepared = signing.prepare(_approvals(world, signing, SAMPLE + 6), world.now, os.urandom)
    key.wrong_at = key.signed + place

    with pytest.raises(Unavailable) as failed:
        signing.sign(prepared)

    assert failed.value.code == "signature-invalid"


def test_wrong_crl_signature_is_not_released(world: Any) -> None:
    """Status is verified before it is handed out (eMudhra, bug 1970728)."""
    key = LyingKey()
    signing = _root_with(world, key)
    key.wrong_at = key.signed + 1

    with pytest.raises(Unavailable):
        build_crl(signing, [], 0, 1, world.now, world.now + dt.timedelta(days=7))


def test_certificate_cannot_be_sealed(world: Any, issuing: SigningAuthority) -> None:
    """`seal` is for CRLs and OCSP; the way to a certificate is `prepare` and `sign`."""
    (prepared,) = issuing.prepare(_approvals(world, issuing, 1), world.now, os.urandom)

    with pytest.raises(WrongState) as refused:
        issuing.seal(prepared.tbs)

    assert refused.value.code == "not-status"


def test_no_secret_shows_in_a_repr(world: Any, issuing: SigningAuthority) -> None:
    """A Prepared that lands in a log names its serial, not its bytes."""
    (prepared,) = issuing.prepare(_approvals(world, issuing, 1), world.now, os.urandom)

    assert prepared.serial in repr(prepared)
    assert "tbs" not in repr(prepared)


def test_many_layouts_in_one_batch(world: Any, issuing: SigningAuthority) -> None:
    """Names of every length, keys of two kinds: each certificate is the one asked for."""
    keys = [world.key(KeyKind.P256), world.key(KeyKind.P384)]
    approvals = [
        world.approve(issuing.authority, SERVICE, keys[n % 2], names=(f"{'a' * n}.example.com",))
        for n in range(1, 40)
    ]

    issued = world.issue(issuing, *approvals)

    for approval, der in zip(approvals, issued, strict=True):
        certificate = x509.load_der_x509_certificate(der)
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert (DNSName(san[0].value),) == approval.request.names
