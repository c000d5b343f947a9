"""The format "tpm": a TPM's attestation key (AK), known by its certificate, certified a key.

WebAuthn section 8.3, as device-attest-01 uses it: extraData is the digest of the key
authorization. The signature may be a TPMT_SIGNATURE, as WebAuthn writes, or the bare signature
that Windows sends. Where the AK certificate names the device (RFC 4043, RFC 4108), that is its
identity; the AK itself always is one. A device without an AK certificate: see `credential`.
"""

import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from certmint.attestation import chain, members, signatures, structures
from certmint.attestation.attested import (
    Anchor,
    Format,
    Proof,
    Serial,
    SerialKind,
    Vouched,
)
from certmint.attestation.members import Members
from certmint.attestation.signatures import Algorithm
from certmint.model.errors import Refused

AK_CERTIFICATE = x509.ObjectIdentifier("2.23.133.8.3")
_MANUFACTURER = x509.ObjectIdentifier("2.23.133.2.1")
_MODEL = x509.ObjectIdentifier("2.23.133.2.2")
_VERSION = x509.ObjectIdentifier("2.23.133.2.3")
_EXPLAINED = frozenset({x509.OID_SUBJECT_ALTERNATIVE_NAME, x509.OID_EXTENDED_KEY_USAGE})


def verify(
    statement: Members, proof: Proof, anchors: Sequence[Anchor], now: dt.datetime
) -> Vouched:
    """Judge `{ver, alg, x5c, sig, certInfo, pubArea}`.

    Raises BadInput `attestation-syntax`; Refused with an `attestation-…` code.
    """
    if members.text(statement, "ver") != "2.0":
        raise Refused("attestation-format", "only TPMs of version 2.0 are accepted")
    admitted = signatures.USUAL | {Algorithm.RS1}
    algorithm = signatures.algorithm(members.number(statement, "alg"), admitted)
    path = chain.validate(members.certificates(statement), anchors, Format.TPM, now, _EXPLAINED)
    hardware = _attestation_certificate(path.leaf)
    ak = path.leaf.public_key()
    cert_info = members.octets(statement, "certInfo")
    sent, signature = _signature(members.octets(statement, "sig"), ak, algorithm)
    if sent is not algorithm:
        raise Refused("attestation-signature", "the signature is not of the algorithm in `alg`")
    signatures.check(ak, algorithm, signature, cert_info)
    # step-ca's clients write SHA-256 whatever the AK signs with; WebAuthn wants the AK's hash.
    expected = (_digest(algorithm, proof), hashlib.sha256(proof.key_authorization).digest())
    public, claims = certified_key(cert_info, members.octets(statement, "pubArea"), expected)
    ak_serial = Serial(SerialKind.TPM_AK, hashlib.sha256(members.spki(path.leaf)).hexdigest())
    identifiers = (*members.hardware_names(path.leaf), ak_serial)
    return Vouched(public.public_key, identifiers, {**hardware, **claims})


def certified_key(
    cert_info: bytes, area: bytes, expected: Sequence[bytes]
) -> tuple[structures.Public, Mapping[str, str]]:
    """The signing key in `area`, which the signed `cert_info` is about, and claims of the TPM.

    The caller has checked the signature over `cert_info`. `expected` are the values that
    extraData may have. Raises Refused `attestation-mismatch`, `attestation-key`.
    """
    attest = structures.certified(cert_info)
    if not any(hmac.compare_digest(attest.extra_data, value) for value in expected):
        raise Refused(
            "attestation-mismatch", "the TPM certified the key for another challenge than this one"
        )
    public = structures.public(area)
    if not hmac.compare_digest(attest.name, public.name):
        raise Refused("attestation-mismatch", "the TPM certified another key than the one sent")
    required = structures.BORN_HERE | structures.Attributes.SIGN
    missing = required & ~public.attributes
    if missing:
        raise Refused(
            "attestation-key",
            f"the key lacks the TPM attributes {missing.name}: create it in the TPM, as a signing "
            "key that cannot leave it",
        )
    claims = {"firmware": f"{attest.firmware:016x}", "attributes": f"{public.attributes:08x}"}
    return public, claims


def hardware_claims(name: x509.SubjectAlternativeName) -> dict[str, str]:
    """Manufacturer, model and version of a TPM from its certificate (TCG EK profile 3.2.9)."""
    found = {}
    for directory in name.get_values_for_type(x509.DirectoryName):
        for claim, oid in (
            ("manufacturer", _MANUFACTURER),
            ("model", _MODEL),
            ("version", _VERSION),
        ):
            for attribute in directory.get_attributes_for_oid(oid):
                value = attribute.value
                octets = value if isinstance(value, bytes) else value.encode()
                found[claim] = members.printable(octets, f"TPM's {claim}")
    return found


def _attestation_certificate(certificate: x509.Certificate) -> dict[str, str]:
    """WebAuthn 8.3.1; `chain` has seen that it is no CA's and of version 3."""
    if len(certificate.subject):
        raise _unfit("its subject is not empty")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        raise _unfit("it has no extended key usage or no subjectAltName") from None
    if AK_CERTIFICATE not in usage:
        raise _unfit(f"its extended key usage lacks {AK_CERTIFICATE.dotted_string}")
    hardware = hardware_claims(alternative.value)
    if len(hardware) != 3:
        raise _unfit("it does not name the TPM's manufacturer, model and version")
    return hardware


def _signature(
    octets: bytes, key: CertificatePublicKeyTypes, algorithm: Algorithm
) -> tuple[Algorithm, bytes]:
    """A TPMT_SIGNATURE starts with 0x00, a DER signature with 0x30, and RSA's has a fixed size."""
    bare = (
        len(octets) == key.key_size // 8
        if isinstance(key, rsa.RSAPublicKey)
        else octets[:1] == b"\x30"
    )
    return (algorithm, octets) if bare else structures.signature(octets)


def _digest(algorithm: Algorithm, proof: Proof) -> bytes:
    digest = hashes.Hash(signatures.hash_of(algorithm))
    digest.update(proof.key_authorization)
    return digest.finalize()


def _unfit(why: str) -> Refused:
    return Refused("attestation-certificate", f"the TPM's AK certificate is refused: {why}")
