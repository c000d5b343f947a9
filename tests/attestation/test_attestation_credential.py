"""Credential activation on paper: which keys may take part. Real TPMs: test_attestation_swtpm."""

import hashlib
import random
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certmint.attestation import credential, structures
from certmint.attestation.attested import Attested, Format, Serial, SerialKind
from certmint.model.errors import CertmintError
from certmint.model.hardware import PermanentIdentifier

from .makers import (
    CA,
    DEVICE_KEY,
    NOW,
    Extension,
    Maker,
    PrivateKey,
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
)

ROOT = Maker("TPM EK Root")
EK, AK, KEY = ec_key(), ec_key(), ec_key()
EK_ATTRIBUTES, AK_ATTRIBUTES = 0x000300B2, 0x00050072
EK_AREA = tpmt_public(EK, EK_ATTRIBUTES, ek=True)
AK_AREA = tpmt_public(AK, AK_ATTRIBUTES)
EK_USAGE = usage("2.23.133.8.1")
DEVICE = PermanentIdentifier("SN12345", "1.3.6.1.4.1.99999.1")
NONCE = bytes(range(32))
SECRET = bytes(range(32))


def fingerprint(key: PrivateKey) -> str:
    return hashlib.sha256(spki(key)).hexdigest()


def code(action: Callable[[], object]) -> str:
    """The refusal's code, or "accepted"."""
    try:
        action()
    except CertmintError as refused:
        return refusal(refused)
    return "accepted"


def endorse(*extensions: Extension, key: PrivateKey = EK, maker: Maker = ROOT) -> str:
    certificate = maker.issue(key, *extensions)
    anchors = [ROOT.anchor(Format.TPM_EK), Maker("Other").anchor(Format.TPM)]
    return code(lambda: credential.endorsed_by_certificate(EK_AREA, [certificate], anchors, NOW))


def test_an_ek_with_a_certificate() -> None:
    """The TPM's maker says which TPM it is, and perhaps in which device."""
    certificate = ROOT.issue(EK, tpm_names(DEVICE), EK_USAGE)
    anchors = [ROOT.anchor(Format.TPM_EK)]
    endorsement = credential.endorsed_by_certificate(EK_AREA, [certificate], anchors, NOW)
    assert endorsement.identifiers == (DEVICE, Serial(SerialKind.TPM_EK, fingerprint(EK)))
    assert endorsement.claims["model"] == "Model X"


@pytest.mark.parametrize(
    ("extensions", "expected"),
    [
        ((tpm_names(), EK_USAGE), "accepted"),
        ((EK_USAGE,), "accepted"),  # some makers name nothing
        ((tpm_names(),), "attestation-certificate"),
        ((tpm_names(), usage("2.23.133.8.3")), "attestation-certificate"),
        ((tpm_names(), EK_USAGE, CA), "attestation-certificate"),
    ],
)
def test_ek_certificates(extensions: tuple[Extension, ...], expected: str) -> None:
    """The extended key usage tells an EK's certificate from all others of a TPM's maker."""
    assert endorse(*extensions) == expected


def test_the_certificate_is_this_ek_s_and_leads_to_its_maker() -> None:
    """Another TPM's certificate, another root, and a root that vouches for AKs only."""
    assert endorse(tpm_names(), EK_USAGE, key=ec_key()) == "attestation-mismatch"
    assert endorse(tpm_names(), EK_USAGE, maker=Maker("TPM EK Root")) == "attestation-untrusted"
    certificate = ROOT.issue(EK, EK_USAGE)
    wrong = [ROOT.anchor(Format.TPM)]
    assert (
        code(lambda: credential.endorsed_by_certificate(EK_AREA, [certificate], wrong, NOW))
        == "attestation-untrusted"
    )


def test_an_ek_that_the_registry_knows() -> None:
    """Recorded in the factory, by the digest of its SubjectPublicKeyInfo."""
    known = frozenset({fingerprint(EK)})
    endorsement = credential.endorsed_by_registry(EK_AREA, known)
    assert endorsement.identifiers == (Serial(SerialKind.TPM_EK, fingerprint(EK)),)
    unknown = frozenset({fingerprint(AK)})
    assert (
        code(lambda: credential.endorsed_by_registry(EK_AREA, unknown)) == "attestation-untrusted"
    )


@pytest.mark.parametrize("bit", [1, 4, 5, 7, 16, 17])
def test_an_ek_has_the_attributes_of_the_template(bit: int) -> None:
    """Each of them keeps a TPM from opening a secret for a key that is not its own."""
    area = tpmt_public(EK, EK_ATTRIBUTES ^ 1 << bit, ek=True)
    known = frozenset({fingerprint(EK)})
    assert code(lambda: credential.endorsed_by_registry(area, known)) == "attestation-key"


@pytest.mark.parametrize(
    "area",
    [
        tpmt_public(EK, EK_ATTRIBUTES),  # no policy, no cipher
        tpmt_public(EK, EK_ATTRIBUTES | 1 << 18, ek=True),
        tpmt_public(EK, EK_ATTRIBUTES, ek=True, name_algorithm=0x0C),
        EK_AREA.replace(bytes.fromhex("00060080"), bytes.fromhex("00060100")),
        EK_AREA.replace(bytes.fromhex("837197"), bytes.fromhex("837198")),
        tpmt_public(ec_key(ec.SECP384R1()), EK_ATTRIBUTES, ek=True),
        tpmt_public(rsa.generate_private_key(65537, 1024), EK_ATTRIBUTES, ek=True),  # noqa: S505
    ],
    ids=["no policy", "decrypts", "name", "cipher", "digest", "curve", "small"],
)
def test_an_ek_is_of_the_template_or_none(area: bytes) -> None:
    """Known to the registry or not: another policy, cipher, name algorithm or size."""
    digest = hashlib.sha256(structures.public(area).spki).hexdigest()
    known = frozenset({digest})
    assert code(lambda: credential.endorsed_by_registry(area, known)) == "attestation-key"


def test_an_ak_is_a_restricted_signing_key() -> None:
    """One that is not restricted would sign a forged TPMS_ATTEST."""
    assert credential.attestation_key(AK_AREA).public.name == tpm_name(AK_AREA)
    for bit in (1, 4, 5, 16, 17, 18):
        area = tpmt_public(AK, AK_ATTRIBUTES ^ 1 << bit)
        assert code(lambda: credential.attestation_key(area)) == "attestation-key"  # noqa: B023
    small = tpmt_public(rsa.generate_private_key(65537, 1024), AK_ATTRIBUTES)  # noqa: S505
    assert code(lambda: credential.attestation_key(small)) == "attestation-key"
    assert code(lambda: credential.attestation_key(tpmt_public(rsa_key(), AK_ATTRIBUTES))) == (
        "accepted"
    )


@pytest.mark.parametrize("size", [0, 15, 33, 64])
def test_a_secret_is_neither_short_nor_long(size: int) -> None:
    """Sixteen octets cannot be guessed, and more than a digest does not fit."""
    assert code(lambda: challenge(bytes(size))) == "credential-secret"
    assert code(lambda: challenge(bytes(16))) == "accepted"


def test_a_challenge_hides_its_secret() -> None:
    """It is not in the challenge, nor in the repr that a log may get; no two look the same."""
    one, two = challenge(SECRET), challenge(SECRET)
    assert SECRET not in one.credential_blob + one.encrypted_secret
    assert one.credential_blob.hex() not in repr(one)
    assert one != two


def test_activation_is_to_know_the_secret() -> None:
    """The whole of it; and an empty secret, which nobody ever sent, activates nothing."""
    assert code(lambda: activate(SECRET)) == "accepted"
    for answer in (b"", SECRET[:-1], SECRET + b"\x00", bytes(32)):
        assert code(lambda: activate(answer)) == "attestation-mismatch"  # noqa: B023
    assert code(lambda: activate(b"", secret=b"")) == "attestation-mismatch"


def activate(answer: bytes, *, secret: bytes = SECRET) -> credential.ActivatedKey:
    return credential.activated(
        credential.endorsed_by_registry(EK_AREA, frozenset({fingerprint(EK)})),
        credential.attestation_key(AK_AREA),
        secret,
        answer,
    )


def challenge(secret: bytes) -> credential.Challenge:
    return credential.challenge(
        credential.endorsed_by_registry(EK_AREA, frozenset({fingerprint(EK)})),
        credential.attestation_key(AK_AREA),
        secret,
        random_bytes=random.Random(1).randbytes,
        ephemeral=ec.generate_private_key,
    )


def certify(
    area: bytes = tpmt_public(KEY),
    *,
    signer: PrivateKey = AK,
    seal: Callable[[bytes], bytes] = tpmt_ecdsa(0x0B),  # noqa: B008 - a function without state
    nonce: bytes = NONCE,
    **attest: int,
) -> Attested:
    info = tpms_attest(tpm_name(area), nonce, **attest)
    return credential.certified(
        activate(SECRET),
        cert_info=info,
        signature=seal(signed(signer, info)),
        area=area,
        nonce=NONCE,
    )


def test_a_key_that_the_ak_certified() -> None:
    """The verdict names the key, and the device by its EK and AK."""
    attested = certify()
    assert attested.format is Format.TPM_EK
    assert attested.public_key.spki == spki(KEY)
    assert attested.identifiers == (
        Serial(SerialKind.TPM_EK, fingerprint(EK)),
        Serial(SerialKind.TPM_AK, fingerprint(AK)),
    )


def test_another_story() -> None:
    """Another signer, nonce, type, magic or key, a weak scheme, a signature that is none."""
    assert code(lambda: certify(signer=ec_key())) == "attestation-signature"
    assert code(lambda: certify(nonce=NONCE[:-1])) == "attestation-mismatch"
    assert code(lambda: certify(kind=0x8018)) == "attestation-mismatch"
    assert code(lambda: certify(magic=0)) == "attestation-mismatch"
    portable = tpmt_public(KEY, DEVICE_KEY & ~(1 << 1))
    assert code(lambda: certify(portable)) == "attestation-key"
    assert code(lambda: certify(seal=lambda s: s)) == "attestation-signature"
    assert code(lambda: certify(seal=lambda _: b"")) == "attestation-syntax"


def test_a_nonce_that_anybody_could_have_guessed() -> None:
    """Least of all the empty one, which every TPM2_Certify without qualifying data has."""
    area = tpmt_public(KEY)
    for nonce in (b"", bytes(15)):
        info = tpms_attest(tpm_name(area), nonce)
        signature = tpmt_ecdsa(0x0B)(signed(AK, info))
        with pytest.raises(CertmintError) as refused:
            credential.certified(
                activate(SECRET), cert_info=info, signature=signature, area=area, nonce=nonce
            )
        assert refusal(refused.value) == "credential-nonce"


@pytest.mark.parametrize(
    ("number", "digest", "expected"),
    [
        (0x0B, hashes.SHA256(), "accepted"),
        (0x04, hashes.SHA1(), "attestation-signature"),  # noqa: S303 - to be refused
    ],
)
def test_an_ak_that_signs_with_sha1(
    number: int, digest: hashes.HashAlgorithm, expected: str
) -> None:
    """Its signature is right, and worth nothing; the same AK with SHA-256 is fine."""
    public = structures.public(tpmt_public(rsa_key(), AK_ATTRIBUTES))
    ak = credential.ActivatedKey(public, activate(SECRET).endorsement)
    area = tpmt_public(KEY)
    info = tpms_attest(tpm_name(area), NONCE)
    signature = tpmt_rsa(number)(signed(rsa_key(), info, digest))
    found = code(
        lambda: credential.certified(
            ak, cert_info=info, signature=signature, area=area, nonce=NONCE
        )
    )
    assert found == expected
