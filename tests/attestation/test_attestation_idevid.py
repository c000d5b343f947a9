"""The format "idevid": the birth certificate signs the challenge."""

import datetime as dt

import pytest
from cryptography import x509

from certmint.attestation.attested import Attested, Format, Serial, SerialKind
from certmint.attestation.idevid import to_be_signed
from certmint.attestation.statement import verify
from certmint.model.errors import CertmintError
from certmint.model.hardware import HardwareModuleName, PermanentIdentifier
from certmint.model.keys import public_key_of

from .makers import (
    NOW,
    PROOF,
    Extension,
    Maker,
    attestation,
    ec_key,
    other_name,
    refusal,
    signed,
    spki,
    usage,
)

ROOT = Maker("Maker IDevID Root")
IDEVID, NEW = ec_key(), ec_key()
MODULE = HardwareModuleName("1.3.6.1.4.1.99999.1", b"SN12345")
NAMED: Extension = (x509.SubjectAlternativeName([other_name(MODULE)]), True)
SUBJECT = x509.Name(
    [
        x509.NameAttribute(x509.NameOID.COMMON_NAME, "Router"),
        x509.NameAttribute(x509.NameOID.SERIAL_NUMBER, "SN12345"),
    ]
)
FOR_EVER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
USUAL = (NAMED, usage("1.3.6.1.5.5.7.3.2"))


def judge(
    *extensions: Extension,
    key: bytes = b"",
    message: bytes | None = None,
    subject: x509.Name = SUBJECT,
    **more: object,
) -> Attested:
    what = to_be_signed(PROOF.key_authorization, key) if message is None else message
    leaf = ROOT.issue(IDEVID, *extensions, subject=subject, end=FOR_EVER)
    statement = {"alg": -7, "sig": signed(IDEVID, what), "x5c": [leaf], **more}
    if key:
        statement.setdefault("key", key)
    octets = attestation("idevid", statement)
    return verify(octets, PROOF, [ROOT.anchor(Format.IDEVID)], NOW, revoked=frozenset())


def code(*extensions: Extension, **more: object) -> str:
    try:
        judge(*extensions, **more)  # type: ignore[arg-type]
    except CertmintError as refused:
        return refusal(refused)
    return "accepted"


def test_the_idevid_s_own_key() -> None:
    """With its hardware name and its serial number; its end is 99991231235959Z."""
    attested = judge(*USUAL)
    assert attested.public_key == public_key_of(IDEVID)
    assert attested.identifiers == (MODULE, Serial(SerialKind.IDEVID_SERIAL, "SN12345"))
    assert attested.names(MODULE)
    assert attested.names(PermanentIdentifier("SN12345"))
    assert attested.claims == {"key": "idevid"}


def test_a_new_key_that_the_idevid_presents() -> None:
    """For an LDevID: the claim says that nobody saw where that key lives."""
    attested = judge(*USUAL, key=spki(NEW))
    assert attested.public_key == public_key_of(NEW)
    assert attested.claims == {"key": "presented"}


def test_what_is_signed() -> None:
    """This challenge and this key, and nothing that another protocol would sign."""
    new, old = spki(NEW), to_be_signed(b"another", spki(NEW))
    assert code(*USUAL, key=new, message=old) == "attestation-signature"
    assert code(*USUAL, message=PROOF.key_authorization) == "attestation-signature"
    # A key slipped in, left out, or exchanged on the way.
    own = to_be_signed(PROOF.key_authorization, b"")
    assert code(*USUAL, key=new, message=own) == "attestation-signature"
    assert code(*USUAL, message=to_be_signed(PROOF.key_authorization, new)) == (
        "attestation-signature"
    )
    assert code(*USUAL, key=spki(ec_key()), message=to_be_signed(PROOF.key_authorization, new)) == (
        "attestation-signature"
    )


def test_the_key_is_a_key() -> None:
    """What the device signed for still has to be one that certmint certifies."""
    assert code(*USUAL, key=b"junk") == "attestation-key"
    assert code(*USUAL, key=spki(NEW)[:-1]) == "attestation-key"
    assert code(*USUAL, key=b"x", alg="x") == "attestation-syntax"


def test_a_certificate_without_a_name_names_no_device() -> None:
    """Subject serial number, or hardware name, or both."""
    nobody = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Router")])
    assert code(subject=SUBJECT) == "accepted"
    assert code(NAMED, subject=nobody) == "accepted"
    assert code(subject=nobody) == "attestation-certificate"


@pytest.mark.parametrize("may_sign", [True, False])
def test_key_usage(may_sign: bool) -> None:
    """digitalSignature, if there is a keyUsage at all."""
    bits = x509.KeyUsage(
        digital_signature=may_sign,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    assert code((bits, True)) == ("accepted" if may_sign else "attestation-certificate")


def test_a_broken_hardware_name() -> None:
    """It is refused, not passed over."""
    broken = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.4"), b"\x30\x00")
    assert code((x509.SubjectAlternativeName([broken]), False)) == "hardware-syntax"
