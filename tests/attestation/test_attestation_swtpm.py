"""Everything about TPMs once more, with a TPM: swtpm and tpm2-tools, which we did not write."""

import functools
import hashlib
import os
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.attestation import credential, structures
from certmint.attestation.attested import Format
from certmint.attestation.statement import verify
from certmint.model.errors import CertmintError
from certmint.model.hardware import PermanentIdentifier

from .makers import (
    AK_USAGE,
    NOT_CA,
    NOW,
    PROOF,
    Maker,
    attestation,
    ec_key,
    refusal,
    tpm_names,
    tpmt_public,
    usage,
)
from .swtpm import KEY, SoftwareTPM, software_tpm

pytestmark = pytest.mark.slow

Require = Callable[..., str]
ROOT = Maker("Throw-away TPM CA")
DEVICE = PermanentIdentifier("SN12345", "1.3.6.1.4.1.99999.1")
NONCE = bytes(range(32))
EXPORTABLE = "sensitivedataorigin|userwithauth|sign"
SIGNING = f"fixedtpm|fixedparent|{EXPORTABLE}"


class Device:
    """A device with a TPM in it, and what it tells about itself."""

    def __init__(self, tpm: SoftwareTPM, kind: str) -> None:
        self.tpm = tpm
        self.kind = kind
        self.ek = tpm.make_ek(kind)
        self.ak = tpm.make_ak(kind, {"rsa": "rsassa", "ecc": "ecdsa"}[kind])
        self.key = tpm.make_key({"rsa": "rsa2048", "ecc": "ecc256"}[kind], SIGNING)

    @functools.cached_property
    def activated(self) -> credential.ActivatedKey:
        """The whole first half of the protocol, with the TPM's answer."""
        secret = os.urandom(32)
        asked = self.challenge(self.ak, secret)
        answer = self.tpm.activate(asked.credential_blob, asked.encrypted_secret)
        assert answer is not None
        ak = credential.attestation_key(self.ak)
        return credential.activated(self.endorsement(), ak, secret, answer)

    def endorsement(self) -> credential.Endorsement:
        """By a certificate that the TPM's maker issued."""
        public = structures.public(self.ek).key
        certificate = ROOT.issue(public, tpm_names(DEVICE), usage("2.23.133.8.1"))
        anchors = [ROOT.anchor(Format.TPM_EK)]
        return credential.endorsed_by_certificate(self.ek, [certificate], anchors, NOW)

    def challenge(self, ak: bytes, secret: bytes) -> credential.Challenge:
        return credential.challenge(
            self.endorsement(),
            credential.attestation_key(ak),
            secret,
            random_bytes=os.urandom,
            ephemeral=ec.generate_private_key,
        )

    def certified(self, info: bytes, signature: bytes) -> str:
        """The SPKI in hex that a certification yields, or the refusal's code."""
        try:
            attested = credential.certified(
                self.activated,
                cert_info=info,
                signature=signature,
                area=self.key,
                nonce=NONCE,
            )
        except CertmintError as refused:
            return refusal(refused)
        assert attested.names(DEVICE)
        return attested.public_key.spki.hex()


@pytest.fixture(scope="module", params=["rsa", "ecc"])
def device(
    request: pytest.FixtureRequest, require: Require, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Device]:
    """One TPM for EK templates L-1 and L-2 each."""
    require("tpm2", package="tpm2-tools")
    program = require("swtpm", package="swtpm")
    with software_tpm(program, tmp_path_factory.mktemp("tpm")) as tpm:
        yield Device(tpm, request.param)


def test_our_names_are_the_tpm_s(device: Device) -> None:
    """The Name that we compute of the AK is the one that the TPM told."""
    name = (device.tpm.folder / "ak.name").read_bytes()
    assert structures.public(device.ak).name == name


def test_the_tpm_finds_the_secret(device: Device) -> None:
    """TPM2_ActivateCredential opens what `challenge` hid, of every permitted size."""
    for size in (16, 20, 32):
        secret = os.urandom(size)
        asked = device.challenge(device.ak, secret)
        assert device.tpm.activate(asked.credential_blob, asked.encrypted_secret) == secret


def test_the_tpm_finds_no_secret_for_a_key_that_it_does_not_hold(device: Device) -> None:
    """A challenge for another AK than the one it is asked with, or one torn on the way."""
    secret = os.urandom(32)
    other = device.challenge(tpmt_public(ec_key(), 0x00050072), secret)
    assert device.tpm.activate(other.credential_blob, other.encrypted_secret) is None
    good = device.challenge(device.ak, secret)
    for blob, seed in (
        (torn(good.credential_blob), good.encrypted_secret),
        (good.credential_blob, torn(good.encrypted_secret)),
    ):
        assert device.tpm.activate(blob, seed) is None
    assert device.tpm.activate(good.credential_blob, good.encrypted_secret) == secret


def torn(octets: bytes, place: int = -1, bit: int = 0) -> bytes:
    """The same with one bit flipped."""
    found = bytearray(octets)
    found[place] ^= 1 << bit
    return bytes(found)


def test_a_certified_key(device: Device) -> None:
    """TPM2_Certify by the activated AK, with the nonce as qualifying data."""
    info, signature = device.tpm.certify(NONCE)
    assert device.certified(info, signature) == structures.public(device.key).spki.hex()


def test_other_answers_of_the_tpm(device: Device) -> None:
    """A certification for another nonce, and a quote: both signed by the right AK."""
    assert device.certified(*device.tpm.certify(NONCE[:-1])) == "attestation-mismatch"
    assert device.certified(*device.tpm.quote(NONCE)) == "attestation-mismatch"


def test_every_octet_that_the_tpm_wrote(device: Device) -> None:
    """Cut or flipped anywhere, nothing of it is accepted."""
    info, signature = device.tpm.certify(NONCE)
    key = device.certified(info, signature)
    for size in range(len(info)):
        assert device.certified(info[:size], signature) != key
    for size in range(len(signature)):
        assert device.certified(info, signature[:size]) != key
    for place in range(len(info)):
        assert device.certified(torn(info, place, place % 8), signature) != key
    for place in range(len(signature)):
        assert device.certified(info, torn(signature, place, place % 8)) != key


def test_the_format_tpm(device: Device) -> None:
    """The same TPM with an AK certificate, as an ACME client presents it."""
    ak = structures.public(device.ak).key
    certificate = ROOT.issue(ak, tpm_names(DEVICE), AK_USAGE, NOT_CA)
    info, signature = device.tpm.certify(hashlib.sha256(PROOF.key_authorization).digest())
    statement = {
        "ver": "2.0",
        "alg": {"rsa": -257, "ecc": -7}[device.kind],
        "x5c": [certificate],
        "sig": signature,
        "certInfo": info,
        "pubArea": device.key,
    }
    octets = attestation("tpm", statement)
    attested = verify(octets, PROOF, [ROOT.anchor(Format.TPM)], NOW, revoked=frozenset())
    assert attested.public_key.spki == structures.public(device.key).spki
    assert attested.names(DEVICE)


def test_a_key_that_could_leave_the_tpm(device: Device) -> None:
    """The TPM certifies it as well; its attributes give it away."""
    device.tpm.forget(KEY)
    device.key = device.tpm.make_key("ecc256", EXPORTABLE)
    try:
        assert device.certified(*device.tpm.certify(NONCE)) == "attestation-key"
    finally:
        device.tpm.forget(KEY)
        device.key = device.tpm.make_key("ecc256", SIGNING)


def test_a_device_key_is_no_ak(device: Device) -> None:
    """A key that signs whatever it is given cannot take the AK's part, nor an AK the EK's."""
    for area in (device.key, device.ek):
        with pytest.raises(CertmintError) as refused:
            credential.attestation_key(area)
        assert refusal(refused.value) == "attestation-key"
    with pytest.raises(CertmintError) as refused:
        credential.endorsed_by_registry(device.ak, frozenset())
    assert refusal(refused.value) == "attestation-key"
