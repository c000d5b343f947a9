"""Paths to an anchor: each rule of RFC 5280 that hardware certificates need, and its breach."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certmint.attestation.attested import Anchor, Format
from certmint.attestation.chain import validate
from certmint.model import der
from certmint.model.errors import BadInput, CertmintError

from .makers import CA, DAY, NOT_CA, NOW, Maker, common_name, ec_key, raw, refusal, rsa_key, usage

KIND = Format.STEP
ROOT = Maker()
LEAF = ec_key()
UNKNOWN = x509.ObjectIdentifier("1.3.6.1.4.1.99999.7")


def code(
    x5c: list[bytes],
    *anchors: Anchor,
    now: dt.datetime = NOW,
    explained: frozenset[x509.ObjectIdentifier] = frozenset(),
) -> str:
    """The refusal's code, or "valid"."""
    try:
        validate(x5c, anchors or (ROOT.anchor(KIND),), KIND, now, explained)
    except CertmintError as refused:
        return refusal(refused)
    return "valid"


def test_a_leaf_that_an_anchor_issued() -> None:
    """The shortest path there is."""
    path = validate([ROOT.issue(LEAF)], [ROOT.anchor(KIND)], KIND, NOW)
    assert len(path.certificates) == 2


def test_intermediates_in_order_and_nothing_behind_the_anchor_s_child() -> None:
    """The root may be sent along, even an expired copy of it; what follows is not looked at."""
    first = ROOT.below("First")
    second = first.below("Second")
    x5c = [second.issue(LEAF), second.certificate, first.certificate]
    assert code(x5c) == "valid"
    assert code([*x5c, ROOT.certificate]) == "valid"
    assert code([*x5c, Maker("Stranger").certificate]) == "valid"
    assert code([x5c[0], first.certificate, second.certificate]) == "attestation-untrusted"
    assert code([x5c[0], first.certificate]) == "attestation-untrusted"
    assert code(x5c, first.anchor(KIND)) == "valid"


def test_an_anchor_vouches_for_its_own_format_only() -> None:
    """Yubico's root says nothing about phones."""
    assert code([ROOT.issue(LEAF)], ROOT.anchor(Format.APPLE)) == "attestation-untrusted"


def test_a_root_of_the_same_name_is_another_root() -> None:
    """The key decides, not the name."""
    twin = Maker(ROOT.name)
    assert code([twin.issue(LEAF)]) == "attestation-untrusted"
    assert code([twin.issue(LEAF), twin.certificate]) == "attestation-untrusted"
    assert code([twin.issue(LEAF)], ROOT.anchor(KIND), twin.anchor(KIND)) == "valid"


@pytest.mark.parametrize("late", [False, True])
def test_every_certificate_is_valid_now(late: bool) -> None:
    """Leaf, intermediate and anchor; the very first and last second count as valid."""
    start, end = (NOW - 9 * DAY, NOW - DAY) if late else (NOW + DAY, NOW + 9 * DAY)
    assert code([ROOT.issue(LEAF, start=start, end=end)]) == "attestation-expired"
    assert code([ROOT.issue(LEAF, start=NOW, end=NOW)]) == "valid"
    key = ec_key()
    between = Maker(
        "Old", key, ROOT.issue(key, CA, subject=common_name("Old"), start=start, end=end)
    )
    assert code([between.issue(LEAF), between.certificate]) == "attestation-expired"
    root = ROOT.issue(ROOT.key, CA, subject=common_name(ROOT.name), start=start, end=end)
    assert code([ROOT.issue(LEAF)], Anchor(root, KIND)) == "attestation-expired"


def test_no_well_defined_expiration() -> None:
    """99991231235959Z lasts as long as there are dates (RFC 5280 4.1.2.5)."""
    for_ever = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    leaf = ROOT.issue(LEAF, end=for_ever)
    assert code([leaf]) == "valid"


@pytest.mark.parametrize(
    "extension",
    [
        NOT_CA,
        (x509.SubjectKeyIdentifier(b"x"), False),  # no basicConstraints at all
        raw(UNKNOWN, b"\x05\x00", critical=True),
    ],
)
def test_an_issuer_is_a_ca(extension: tuple[x509.ExtensionType, bool]) -> None:
    """A device that can sign does not become a CA by it."""
    device = ROOT.below("Device", extension)
    assert code([device.issue(LEAF), device.certificate]) == "attestation-certificate"


def test_an_issuer_s_key_may_sign_certificates() -> None:
    """keyUsage without keyCertSign is no issuer's."""
    key = ec_key()
    for cert_sign, expected in ((True, "valid"), (False, "attestation-certificate")):
        bits = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=cert_sign,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        name = common_name("Usage")
        between = Maker("Usage", key, ROOT.issue(key, CA, (bits, True), subject=name))
        assert code([between.issue(LEAF), between.certificate]) == expected


def test_path_lengths() -> None:
    """Of intermediates, and of the anchor too."""
    no_more = (x509.BasicConstraints(ca=True, path_length=0), True)
    last = ROOT.below("Last", no_more)
    assert code([last.issue(LEAF), last.certificate]) == "valid"
    beyond = last.below("Beyond")
    x5c = [beyond.issue(LEAF), beyond.certificate, last.certificate]
    assert code(x5c) == "attestation-certificate"
    assert code(x5c[:2], last.anchor(KIND)) == "attestation-certificate"


def test_a_ca_does_not_attest_itself() -> None:
    """Neither an intermediate nor the anchor is an attestation certificate."""
    assert code([ROOT.below("CA").certificate]) == "attestation-certificate"
    assert code([ROOT.certificate]) == "attestation-certificate"


def test_critical_extensions_are_understood_or_refused() -> None:
    """One that the format explains is fine; one that nobody knows is not, unless uncritical."""
    critical, plain = raw(UNKNOWN, b"\x05\x00", critical=True), raw(UNKNOWN, b"\x05\x00")
    assert code([ROOT.issue(LEAF, plain)]) == "valid"
    assert code([ROOT.issue(LEAF, critical)]) == "attestation-certificate"
    assert code([ROOT.issue(LEAF, critical)], explained=frozenset({UNKNOWN})) == "valid"
    constrained = (x509.NameConstraints([x509.DNSName("example.com")], None), True)
    root = ROOT.issue(ROOT.key, CA, constrained, subject=common_name(ROOT.name))
    assert code([ROOT.issue(LEAF)], Anchor(root, KIND)) == "attestation-certificate"
    assert code([ROOT.issue(LEAF, usage("1.2.3"))]) == "valid"


def test_weak_signatures_and_keys_do_not_count() -> None:
    """A hash that nobody chose, a short RSA key, a curve that is not NIST's."""
    old = Maker("Old RSA", rsa_key())
    assert code([old.issue(LEAF)], old.anchor(KIND)) == "valid"
    child = old.issue(LEAF, digest=hashes.SHA224())
    assert code([child], old.anchor(KIND)) == "attestation-untrusted"
    short = Maker("Short RSA", rsa.generate_private_key(65537, 1024))  # noqa: S505 - refused
    assert code([short.issue(LEAF)], short.anchor(KIND)) == "attestation-untrusted"
    odd = Maker("Odd curve", ec_key(ec.SECP256K1()))
    assert code([odd.issue(LEAF)], odd.anchor(KIND)) == "attestation-untrusted"


def test_certificates_are_of_version_3() -> None:
    """One of version 1 has no extensions that could keep it in its place."""
    issued = x509.load_der_x509_certificate(ROOT.issue(LEAF))
    version_1 = der.sequence(*der.children(issued.tbs_certificate_bytes)[1:])
    assert isinstance(ROOT.key, ec.EllipticCurvePrivateKey)
    signature = ROOT.key.sign(version_1, ec.ECDSA(hashes.SHA256()))
    algorithm = der.sequence(der.oid("1.2.840.10045.4.3.2"))
    assert code([der.sequence(version_1, algorithm, der.bit_string(signature))]) == (
        "attestation-syntax"
    )


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_serial_numbers_are_positive() -> None:
    """pyca only warns of the others (RFC 5280 4.1.2.2)."""
    leaf = bytearray(ROOT.issue(LEAF))
    serial = leaf.index(b"\xa0\x03\x02\x01\x02\x02") + 7
    leaf[serial] |= 0x80
    assert code([bytes(leaf)]) == "attestation-syntax"


def test_at_most_six_certificates() -> None:
    """Nobody makes us verify a thousand signatures."""
    x5c, maker = [], ROOT
    for depth in range(6):
        maker = maker.below(f"CA {depth}")
        x5c.insert(0, maker.certificate)
    assert code([maker.issue(LEAF), *x5c]) == "attestation-syntax"
    assert code([ROOT.issue(LEAF)] * 7) == "attestation-syntax"


def test_every_truncation_and_flip_of_a_certificate() -> None:
    """Nothing but the original is trusted, and nothing is a traceback."""
    leaf = ROOT.issue(LEAF, NOT_CA, usage("1.2.3"))
    original = x509.load_der_x509_certificate(leaf)
    # The count of unused bits in front of the signature says nothing about what was signed.
    unused_bits = len(leaf) - len(original.signature) - 1
    for size in range(len(leaf)):
        assert code([leaf[:size]]) != "valid"
    for place in set(range(len(leaf))) - {unused_bits}:
        for mask in (0x01, 0x80):
            torn = bytearray(leaf)
            torn[place] ^= mask
            assert code([bytes(torn)]) != "valid", place


def test_what_is_no_certificate() -> None:
    """In the statement, and among the anchors."""
    with pytest.raises(BadInput, match=r"X\.509"):
        validate([b"\x30\x00"], [], KIND, NOW)
    assert code([ROOT.issue(LEAF)], Anchor(b"junk", KIND)) == "attestation-anchor"
