"""The format "tpm": what a TPM has to say about a key, and every way to say something else."""

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from certmint.attestation import cbor, structures
from certmint.attestation.attested import Anchor, Attested, Format, Proof, Serial, SerialKind
from certmint.attestation.statement import verify
from certmint.model.errors import CertmintError
from certmint.model.hardware import HardwareModuleName, PermanentIdentifier
from certmint.model.keys import public_key_of

from .makers import (
    AK_USAGE,
    CA,
    DAY,
    DEVICE_KEY,
    NOT_CA,
    NOW,
    PROOF,
    Extension,
    Maker,
    PrivateKey,
    attestation,
    common_name,
    ec_key,
    refusal,
    rsa_key,
    signed,
    spki,
    tpm_name,
    tpm_names,
    tpms_attest,
    tpmt_ecdsa,
    tpmt_public,
    tpmt_rsa,
    usage,
    vector,
)

ROOT = Maker("TPM AK Root")
DEVICE = PermanentIdentifier("SN12345", "1.3.6.1.4.1.99999.1")
DIGEST = hashlib.sha256(PROOF.key_authorization).digest()
AK = ec_key()
KEY = ec_key()
AK_EXTENSIONS = (tpm_names(DEVICE), AK_USAGE, NOT_CA)


@dataclass(frozen=True)
class Device:
    """A TPM on paper: change one thing, and it tells another story."""

    ak: PrivateKey = AK
    area: bytes = field(default_factory=lambda: tpmt_public(KEY))
    extra_data: bytes = DIGEST
    name: bytes = b""
    magic: int = 0xFF544347
    kind: int = 0x8017
    alg: object = -7
    ver: object = "2.0"
    digest: hashes.HashAlgorithm = field(default_factory=hashes.SHA256)
    certificate: bytes = b""
    others: tuple[bytes, ...] = ()
    tail: bytes = b""
    seal: Callable[[bytes], bytes] = bytes

    @property
    def statement(self) -> dict[str, object]:
        name = self.name or tpm_name(self.area)
        cert_info = tpms_attest(name, self.extra_data, magic=self.magic, kind=self.kind) + self.tail
        leaf = self.certificate or ROOT.issue(self.ak, *AK_EXTENSIONS)
        return {
            "ver": self.ver,
            "alg": self.alg,
            "x5c": [leaf, *self.others],
            "sig": self.seal(signed(self.ak, cert_info, self.digest)),
            "certInfo": cert_info,
            "pubArea": self.area,
        }

    def attest(self, **members: object) -> Attested:
        return judge({**self.statement, **members})

    def code(self, **members: object) -> str:
        return code({**self.statement, **members})


def judge(statement: object, proof: Proof = PROOF, now: dt.datetime = NOW) -> Attested:
    anchors = [ROOT.anchor(Format.TPM)]
    return verify(attestation("tpm", statement), proof, anchors, now, revoked=frozenset())


def code(statement: object, proof: Proof = PROOF, now: dt.datetime = NOW) -> str:
    """The refusal's code, or "accepted"."""
    try:
        judge(statement, proof, now)
    except CertmintError as refused:
        return refusal(refused)
    return "accepted"


def test_a_key_in_a_tpm() -> None:
    """The key that comes out is the one in the public area, the device the AK certificate's."""
    attested = Device().attest()
    assert attested.format is Format.TPM
    assert attested.public_key == public_key_of(KEY)
    ak = Serial(SerialKind.TPM_AK, hashlib.sha256(spki(AK)).hexdigest())
    assert attested.identifiers == (DEVICE, ak)
    assert attested.names(DEVICE)
    assert not attested.names(PermanentIdentifier("SN12345"))
    assert not attested.names(HardwareModuleName("1.3.6.1.4.1.99999.1", b"SN12345"))
    assert attested.claims == {
        "manufacturer": "id:494E5443",
        "model": "Model X",
        "version": "id:00020000",
        "firmware": "2019102300163636",
        "attributes": "00040072",
    }


def test_the_whole_statement_is_hashed() -> None:
    """For the audit: the hash is that of the octets that came."""
    octets = attestation("tpm", Device().statement)
    attested = verify(octets, PROOF, [ROOT.anchor(Format.TPM)], NOW, revoked=frozenset())
    assert attested.statement_hash == hashlib.sha256(octets).hexdigest()


# One bit of the point is another one: a last octet of zero would be right once in 256 times.
OFF_THE_CURVE = tpmt_public(KEY)[:-1] + bytes([tpmt_public(KEY)[-1] ^ 1])
WRONG_SIZE = tpmt_public(rsa_key()).replace(
    b"\x08\x00\x00\x00\x00\x00", b"\x0c\x00\x00\x00\x00\x00"
)
PADDED = tpmt_public(KEY).replace(b"\x00\x10\x00\x20", b"\x00\x10\x00\x21\x00")
P384 = ec_key(ec.SECP384R1())


@pytest.mark.parametrize(
    "device",
    [
        Device(),
        Device(seal=tpmt_ecdsa(0x0B)),
        Device(ak=rsa_key(), alg=-257),
        Device(ak=rsa_key(), alg=-257, seal=tpmt_rsa(0x0B)),
        Device(ak=P384, alg=-35, digest=hashes.SHA384()),
        Device(ak=P384, alg=-35, digest=hashes.SHA384(), seal=tpmt_ecdsa(0x0C)),
        Device(
            ak=P384,
            alg=-35,
            digest=hashes.SHA384(),
            extra_data=hashlib.sha384(PROOF.key_authorization).digest(),
        ),
        Device(area=tpmt_public(rsa_key())),
        Device(area=tpmt_public(P384)),
        Device(area=tpmt_public(KEY, DEVICE_KEY | 1 << 17)),  # Windows' keys decrypt as well
    ],
)
def test_keys_and_signatures_of_every_kind(device: Device) -> None:
    """Bare or as TPMT_SIGNATURE, by an RSA or EC attestation key, about RSA and EC keys."""
    assert device.code() == "accepted"


def test_a_windows_laptop_s_tpm() -> None:
    """What a real Intel TPM said in 2021 (vectors/README.md), signed with RSA and SHA-1."""
    octets = vector("tpm-windows-rs1.object.hex")
    opened = cbor.decode(octets)
    assert isinstance(opened, dict)
    client_data = hashlib.sha256(vector("tpm-windows-rs1.client-data.hex")).digest()
    proof = Proof(opened["authData"] + client_data, b"-")
    anchor = Anchor(opened["attStmt"]["x5c"][1], Format.TPM)
    now = dt.datetime(2022, 1, 1, tzinfo=dt.UTC)
    attested = verify(octets, proof, [anchor], now, revoked=frozenset())
    assert attested.claims["manufacturer"] == "id:494E5443"
    assert attested.public_key.kind == "rsa-2048"
    # The key of the WebAuthn credential is in authData too: the same modulus.
    assert attested.public_key.spki[-261:-5] in opened["authData"]


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (Device(extra_data=hashlib.sha256(b"another").digest()), "attestation-mismatch"),
        (Device(extra_data=b""), "attestation-mismatch"),
        (Device(extra_data=PROOF.key_authorization), "attestation-mismatch"),
        (Device(extra_data=hashlib.sha256(PROOF.token).digest()), "attestation-mismatch"),
        (Device(magic=0xFF544348), "attestation-mismatch"),
        (Device(kind=0x8018), "attestation-mismatch"),  # a quote
        (Device(name=tpm_name(tpmt_public(ec_key()))), "attestation-mismatch"),
        (Device(name=hashlib.sha256(tpmt_public(KEY)).digest()), "attestation-mismatch"),
        (Device(tail=b"\x00"), "attestation-syntax"),
        (Device(area=tpmt_public(KEY, DEVICE_KEY & ~(1 << 1))), "attestation-key"),
        (Device(area=tpmt_public(KEY, DEVICE_KEY & ~(1 << 4))), "attestation-key"),
        (Device(area=tpmt_public(KEY, DEVICE_KEY & ~(1 << 5))), "attestation-key"),
        (Device(area=tpmt_public(KEY, DEVICE_KEY & ~(1 << 18))), "attestation-key"),
        (Device(area=tpmt_public(KEY, DEVICE_KEY | 1)), "attestation-syntax"),
        (Device(area=tpmt_public(KEY) + b"\x00"), "attestation-syntax"),
        (Device(area=tpmt_public(KEY, name_algorithm=0x04)), "attestation-key"),  # SHA-1
        (Device(area=tpmt_public(ec_key(ec.SECP521R1()))), "attestation-key"),
        (Device(area=b"\x00\x08" + tpmt_public(KEY)[2:]), "attestation-key"),  # a keyed hash
        (Device(area=OFF_THE_CURVE), "attestation-key"),
        (Device(alg=-257), "attestation-signature"),
        (Device(alg=-35), "attestation-signature"),
        (Device(alg=-8), "attestation-signature"),
        (Device(alg=-65535), "attestation-signature"),
        (Device(alg="-7"), "attestation-syntax"),
        (Device(ver="1.2"), "attestation-format"),
        (Device(ver=2), "attestation-syntax"),
        (Device(seal=lambda _: b"\x00\x1a\x00\x0b"), "attestation-signature"),
        (Device(seal=lambda s: s[:-1]), "attestation-signature"),
        (Device(ak=rsa_key(), alg=-257, seal=tpmt_rsa(0x04)), "attestation-signature"),
        (Device(ak=rsa_key(), alg=-257, digest=hashes.SHA512()), "attestation-signature"),
        (Device(ak=rsa_key(), alg=-257, seal=lambda s: s[1:]), "attestation-signature"),
        (Device(ak=rsa_key(), alg=-7), "attestation-signature"),
        (Device(ak=P384, alg=-7), "attestation-signature"),
        (Device(seal=lambda s: tpmt_ecdsa(0x0B)(s) + b"\x00"), "attestation-syntax"),
        (Device(area=WRONG_SIZE), "attestation-syntax"),
        (Device(area=PADDED), "attestation-syntax"),
    ],
)
def test_another_story(device: Device, expected: str) -> None:
    """Each check has its breach; the statement is otherwise perfect and correctly signed."""
    assert device.code() == expected


def test_a_small_rsa_key_is_not_worth_a_certificate() -> None:
    """As attested key, and as attestation key."""
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
    assert Device(area=tpmt_public(small)).code() == "attestation-key"
    leaf = ROOT.issue(small, *AK_EXTENSIONS)
    assert Device(ak=small, alg=-257, certificate=leaf).code() == "attestation-signature"


def test_another_key_signed() -> None:
    """The certificate is one AK's, the signature another's."""
    device = Device(certificate=ROOT.issue(ec_key(), *AK_EXTENSIONS))
    assert device.code() == "attestation-signature"


@pytest.mark.parametrize(
    ("extensions", "subject", "expected"),
    [
        (AK_EXTENSIONS, "", "accepted"),
        ((tpm_names(), usage("1.3.6.1.5.5.7.3.2", "2.23.133.8.3")), "", "accepted"),
        (AK_EXTENSIONS, "Not empty", "attestation-certificate"),
        ((tpm_names(), AK_USAGE, CA), "", "attestation-certificate"),
        ((tpm_names(),), "", "attestation-certificate"),
        ((AK_USAGE,), "", "attestation-certificate"),
        ((tpm_names(), usage("2.23.133.8.1")), "", "attestation-certificate"),
        ((tpm_names(parts=2), AK_USAGE), "", "attestation-certificate"),
        (((x509.SubjectAlternativeName([]), False), AK_USAGE), "", "attestation-certificate"),
    ],
)
def test_the_ak_certificate(extensions: tuple[Extension, ...], subject: str, expected: str) -> None:
    """WebAuthn 8.3.1, rule by rule."""
    leaf = ROOT.issue(AK, *extensions, subject=common_name(subject))
    assert Device(certificate=leaf).code() == expected


def test_the_chain_is_judged() -> None:
    """An intermediate leads to the root; a stranger's does not, and an expired one no more."""
    between = ROOT.below("AK CA")
    leaf = between.issue(AK, *AK_EXTENSIONS)
    device = Device(certificate=leaf, others=(between.certificate,))
    assert device.code() == "accepted"
    assert replace(device, others=()).code() == "attestation-untrusted"
    stranger = Maker("Stranger")
    assert Device(certificate=stranger.issue(AK, *AK_EXTENSIONS)).code() == "attestation-untrusted"
    assert code(device.statement, now=NOW + 400 * DAY) == "attestation-expired"
    assert code(device.statement, now=NOW - 400 * DAY) == "attestation-expired"


@pytest.mark.parametrize("member", ["ver", "alg", "x5c", "sig", "certInfo", "pubArea"])
def test_every_member_has_to_be_there(member: str) -> None:
    """Absent, empty or of another type."""
    for wrong in (None, [], {}, True, 1.5, [1], b""):
        assert Device().code(**{member: wrong}) != "accepted"
    statement = Device().statement
    del statement[member]
    assert code(statement) == "attestation-syntax"


@pytest.mark.parametrize("member", ["certInfo", "sig", "pubArea"])
def test_every_octet_counts(member: str) -> None:
    """Cut at every octet, or with any bit of it flipped: refused, and never a traceback."""
    statement = Device(seal=tpmt_ecdsa(0x0B)).statement
    octets = statement[member]
    assert isinstance(octets, bytes)
    for size in range(len(octets)):
        assert code({**statement, member: octets[:size]}) != "accepted"
    for place in range(len(octets)):
        for bit in range(0, 8, 3):
            torn = bytearray(octets)
            torn[place] ^= 1 << bit
            assert code({**statement, member: bytes(torn)}) != "accepted", place


def test_a_resigned_flip_is_never_accepted_as_the_same() -> None:
    """A TPM that signs torn certInfo: in every field that is judged, it is refused."""
    good = tpms_attest(tpm_name(tpmt_public(KEY)), DIGEST)
    judged = range(4 + 2 + 2 + 34, 4 + 2 + 2 + 34 + 2 + 32)  # extraData
    safe = len(good) - 2 * (2 + 34) - 8 - 1  # neither yes nor no
    for place in [*range(6), *judged, safe]:
        torn = bytearray(good)
        torn[place] ^= 3
        members = {"certInfo": bytes(torn), "sig": signed(AK, bytes(torn))}
        assert Device().code(**members) != "accepted", place


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_noise_in_the_tpm_s_structures(data: bytes) -> None:
    """Whatever comes, it is read or refused."""
    for head in (b"", b"\x00\x01\x00\x0b", b"\x00\x23\x00\x0b\x00\x04\x00\x72", b"\xffTCG\x80\x17"):
        for reader in (structures.public, structures.certified, structures.signature):
            try:
                reader(head + data)
            except CertmintError as refused:
                refusal(refused)


@settings(deadline=None)
@given(st.data())
def test_noise_in_the_statement(data: st.DataObject) -> None:
    """Flips anywhere in a whole attestation object: the original, or a refusal."""
    original = bytearray(STATEMENT)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(original) - 1))
        original[place] = data.draw(st.integers(0, 255))
    anchors = [ROOT.anchor(Format.TPM)]
    try:
        attested = verify(bytes(original), PROOF, anchors, NOW, revoked=frozenset())
    except CertmintError as refused:
        refusal(refused)
    else:
        assert attested.public_key == public_key_of(KEY)


STATEMENT = attestation("tpm", Device().statement)
