"""The format "android-key": real phones, and phones that claim too much."""

import datetime as dt
import hashlib

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from certmint.attestation import android, cbor, chain
from certmint.attestation.attested import Anchor, Attested, Format, Proof, Serial, SerialKind
from certmint.attestation.keydescription import KeyDescription, key_description
from certmint.attestation.statement import verify
from certmint.model.errors import BadInput, CertmintError, Refused
from certmint.model.hardware import PermanentIdentifier
from certmint.model.keys import public_key_of

from .makers import (
    NOT_CA,
    NOW,
    PROOF,
    Extension,
    Maker,
    PrivateKey,
    android_description,
    attestation,
    authorization,
    ec_key,
    raw,
    refusal,
    rsa_key,
    signed,
    tlv,
    vector,
    vector_certificates,
)

ROOT = Maker("Android Root")
KEY = ec_key()


def integer(value: int) -> bytes:
    return tlv(b"\x02", value.to_bytes(3, "big"))


SIGNS = authorization(1, tlv(b"\x31", integer(2)))
GENERATED = authorization(702, integer(0))
BOOT = authorization(
    704,
    tlv(b"\x30", tlv(b"\x04", bytes(32)) + b"\x01\x01\xff" + b"\x0a\x01\x00" + tlv(b"\x04", b"")),
)
SERIAL = authorization(713, tlv(b"\x04", b"SN12345"))
BRAND = authorization(710, tlv(b"\x04", b"example"))
GOOD = (SIGNS, GENERATED, BOOT, BRAND, SERIAL)


def extension(*tee: bytes, challenge: bytes = b"", **more: object) -> Extension:
    described = android_description(challenge or PROOF.key_authorization, tee or GOOD, **more)  # type: ignore[arg-type]
    return raw(android.KEY_DESCRIPTION, described)


def judge(
    leaf: bytes,
    *others: bytes,
    key: PrivateKey = KEY,
    signed_octets: bytes = PROOF.key_authorization,
    alg: int = -7,
    revoked: frozenset[str] = frozenset(),
) -> Attested:
    statement = {"alg": alg, "sig": signed(key, signed_octets), "x5c": [leaf, *others]}
    octets = attestation("android-key", statement)
    return verify(octets, PROOF, [ROOT.anchor(Format.ANDROID_KEY)], NOW, revoked=revoked)


def code(leaf: bytes, *others: bytes, **more: object) -> str:
    try:
        judge(leaf, *others, **more)  # type: ignore[arg-type]
    except CertmintError as refused:
        return refusal(refused)
    return "accepted"


def test_a_phone_s_key() -> None:
    """Its key, its serial number from the TEE, and what it runs."""
    attested = judge(ROOT.issue(KEY, extension()))
    assert attested.public_key == public_key_of(KEY)
    assert attested.identifiers == (Serial(SerialKind.ANDROID_SERIAL, "SN12345"),)
    assert attested.names(PermanentIdentifier("SN12345"))
    assert attested.claims == {
        "attestation-version": "300",
        "security-level": "trusted-environment",
        "brand": "example",
        "device-locked": "yes",
        "verified-boot": "verified",
    }


def test_an_rsa_key_below_an_intermediate() -> None:
    """The attestation key is provisioned in the factory or by RKP."""
    between = ROOT.below("Batch")
    leaf = between.issue(rsa_key(), extension(levels=(2, 2)))
    attested = judge(leaf, between.certificate, key=rsa_key(), alg=-257)
    assert attested.claims["security-level"] == "strongbox"


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (extension(challenge=b"another"), "attestation-mismatch"),
        (extension(challenge=PROOF.token), "attestation-mismatch"),
        (extension(levels=(0, 1)), "attestation-key"),
        (extension(levels=(1, 0)), "attestation-key"),
        (extension(levels=(3, 3)), "attestation-key"),
        (extension(version=2), "attestation-format"),
        (extension(version=401), "attestation-format"),
        (extension(SIGNS), "attestation-key"),
        (extension(GENERATED), "attestation-key"),
        (extension(SIGNS, authorization(702, integer(2))), "attestation-key"),  # imported
        (extension(authorization(1, tlv(b"\x31", integer(3))), GENERATED), "attestation-key"),
        (extension(SIGNS, GENERATED, GENERATED), "attestation-syntax"),
        (
            extension(SIGNS, GENERATED, authorization(713, tlv(b"\x04", b"a\n"))),
            "attestation-syntax",
        ),
        (extension(SIGNS, GENERATED, authorization(713, tlv(b"\x04", b""))), "attestation-syntax"),
        (raw(android.KEY_DESCRIPTION, b"\x30\x00"), "attestation-syntax"),
        (NOT_CA, "attestation-certificate"),
    ],
)
def test_another_story(described: Extension, expected: str) -> None:
    """Each check has its breach."""
    assert code(ROOT.issue(KEY, described)) == expected


def test_what_android_itself_says_does_not_count() -> None:
    """Origin, purpose and identifiers in softwareEnforced are not the hardware's word."""
    described = android_description(PROOF.key_authorization, ())
    software = tlv(b"\x30", SIGNS + GENERATED + SERIAL)
    swapped = tlv(b"\x30", described[2:-4] + software + tlv(b"\x30", b""))
    assert key_description(swapped).tee_enforced == {}
    assert code(ROOT.issue(KEY, raw(android.KEY_DESCRIPTION, swapped))) == "attestation-key"


def test_the_key_has_to_sign() -> None:
    """The challenge, with the attested key."""
    leaf = ROOT.issue(KEY, extension())
    assert code(leaf) == "accepted"
    assert code(leaf, key=ec_key()) == "attestation-signature"
    assert code(leaf, signed_octets=b"another") == "attestation-signature"
    assert code(leaf, alg=-65535) == "attestation-signature"


def test_an_attested_key_vouches_for_no_other() -> None:
    """Not even if its certificate, by some mistake, were a CA's."""
    ca = (x509.BasicConstraints(ca=True, path_length=None), True)
    key = ec_key()
    mistaken = Maker("Mistake", key, b"-")
    certificate = ROOT.issue(key, extension(), ca, subject=x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, "Mistake")]
    ))  # fmt: skip
    assert code(mistaken.issue(KEY, extension()), certificate) == "attestation-certificate"


def test_revoked_certificates() -> None:
    """Google's list names serial numbers in hex; every certificate of the path is looked up."""
    between = ROOT.below("Leaked batch")
    leaf = between.issue(KEY, extension())
    for der in (leaf, between.certificate, ROOT.certificate):
        serial = f"{x509.load_der_x509_certificate(der).serial_number:x}"
        assert code(leaf, between.certificate, revoked=frozenset({serial})) == "attestation-revoked"
    assert code(leaf, between.certificate, revoked=frozenset({"1"})) == "accepted"


def test_a_pixel_8a() -> None:
    """A real phone's WebAuthn attestation of January 2025 (vectors/README.md)."""
    octets = vector("android-pixel-8a.object.hex")
    opened = cbor.decode(octets)
    assert isinstance(opened, dict)
    x5c = opened["attStmt"]["x5c"]
    description = described(x5c, dt.datetime(2025, 1, 8, tzinfo=dt.UTC))
    android.check_key(description)
    client_data = vector("android-pixel-8a.client-data.hex")
    assert description.challenge == hashlib.sha256(client_data).digest()
    assert android.claims(description) == {
        "attestation-version": "300",
        "security-level": "trusted-environment",
        "os-version": "150000",
        "os-patch-level": "202501",
        "device-locked": "yes",
        "verified-boot": "verified",
    }
    # The format asks for more than WebAuthn's: there the challenge and what is signed differ.
    proof = Proof(description.challenge, b"-")
    anchors = [Anchor(x5c[-1], Format.ANDROID_KEY)]
    with pytest.raises(Refused) as refused:
        verify(octets, proof, anchors, dt.datetime(2025, 1, 8, tzinfo=dt.UTC), revoked=frozenset())
    assert refused.value.code == "attestation-signature"


@pytest.mark.parametrize(
    ("name", "level"),
    [("android-tee.pem", "trusted-environment"), ("android-strongbox.pem", "strongbox")],
)
def test_google_s_examples(name: str, level: str) -> None:
    """Keys in a TEE and in a StrongBox of unlocked phones, in 2019."""
    description = described(vector_certificates(name), dt.datetime(2019, 8, 1, tzinfo=dt.UTC))
    android.check_key(description)
    claims = android.claims(description)
    assert description.challenge == b"abc"
    assert claims["security-level"] == level
    assert (claims["device-locked"], claims["verified-boot"]) == ("no", "unverified")


def described(x5c: list[bytes], now: dt.datetime) -> KeyDescription:
    """The KeyDescription of a chain that is valid at `now`."""
    anchors = [Anchor(x5c[-1], Format.ANDROID_KEY)]
    leaf = chain.validate(x5c, anchors, Format.ANDROID_KEY, now).leaf
    value = leaf.extensions.get_extension_for_oid(android.KEY_DESCRIPTION).value
    assert isinstance(value, x509.UnrecognizedExtension)
    return key_description(value.value)


def read(data: bytes) -> None:
    """Everything that is ever asked of a KeyDescription: an answer or `attestation-syntax`."""
    try:
        description = key_description(data)
        android.check_key(description)
        android.serials(description)
        android.claims(description)
    except BadInput as refused:
        if refused.code != "attestation-syntax":
            raise
    except Refused as refused:
        refusal(refused)


def test_every_truncation_and_flip() -> None:
    """Of the extension's value: an answer or a refusal, never a traceback."""
    good = android_description(PROOF.key_authorization, GOOD)
    for size in range(len(good)):
        with pytest.raises(BadInput):
            key_description(good[:size])
    for place in range(len(good)):
        for mask in (0x01, 0x20, 0x80, 0xFF):
            torn = bytearray(good)
            torn[place] ^= mask
            read(bytes(torn))


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_noise(data: bytes) -> None:
    """Behind a good beginning, and alone."""
    read(data)
    read(android_description(b"abc", [data]))
