"""The path from an attestation certificate to an anchor (RFC 5280 section 6, what hardware needs).

Each certificate is issued by the next one in the list, and the path ends at the first that an
anchor has issued; what comes after is not looked at, so an old copy of a root does no harm.
Every certificate on the path, and the anchor, is valid *now*. An IDevID that ends in
99991231235959Z (no well-defined expiration, RFC 5280 4.1.2.5) needs no exception for that.

pyca's verifier wants names of servers or clients, which these certificates do not have. It does
not look at revocation, policies, extended key usage or name constraints; a *critical* extension
of which that would be a breach is refused.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtensionOID

from certmint.attestation.attested import Anchor, Format
from certmint.model.errors import BadInput, Misconfigured, Refused

LONGEST = 6
UNREADABLE = (
    ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion,
    x509.UnsupportedGeneralNameType, UserWarning,
)  # fmt: skip
"""What pyca raises for certificates that it cannot read, or warns of where warnings are errors."""

_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.CERTIFICATE_POLICIES,  # any policy will do, and none is required
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    }
)
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


@dataclass(frozen=True, slots=True)
class Path:
    """A valid path: the attestation certificate, the CAs above it, and the anchor."""

    leaf: x509.Certificate
    authorities: tuple[x509.Certificate, ...]
    anchor: x509.Certificate

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """The whole path, leaf first, anchor last."""
        return (self.leaf, *self.authorities, self.anchor)


def validate(
    x5c: Sequence[bytes],
    anchors: Sequence[Anchor],
    kind: Format,
    now: dt.datetime,
    explained: frozenset[x509.ObjectIdentifier] = frozenset(),
) -> Path:
    """The path from `x5c[0]` to one of the anchors of this format.

    `explained` are extensions of the leaf that may be critical, because the format reads them.
    Raises BadInput `attestation-syntax`; Refused `attestation-untrusted` (no anchor issued it, or
    a signature is wrong), `attestation-expired`, `attestation-certificate` (a certificate of the
    path does not have the form that its place demands); Misconfigured `attestation-anchor`.
    """
    if len(x5c) > LONGEST:
        raise BadInput(
            "attestation-syntax", f"{len(x5c)} certificates are too many: send at most {LONGEST}"
        )
    trusted = [_anchor(anchor) for anchor in anchors if anchor.format is kind]
    path = _built([_sent(der) for der in x5c], trusted)
    for certificate in path.certificates:
        _check_time(certificate, now)
    _check_leaf(path.leaf, explained)
    for below, authority in enumerate((*path.authorities, path.anchor)):
        _check_authority(authority, below)
    return path


def _sent(der: bytes) -> x509.Certificate:
    certificate = _load(der)
    if certificate is None:
        raise BadInput(
            "attestation-syntax", "a certificate of the attestation cannot be read as X.509 v3"
        )
    return certificate


def _anchor(anchor: Anchor) -> x509.Certificate:
    certificate = _load(anchor.certificate)
    if certificate is None:
        raise Misconfigured(
            "attestation-anchor",
            f"a certificate that is trusted for {anchor.format} cannot be read as X.509 v3 in DER",
        )
    return certificate


def _load(der: bytes) -> x509.Certificate | None:
    try:
        certificate = x509.load_der_x509_certificate(der)
        # pyca reads these when they are asked for; from here on they are no surprise.
        _ = certificate.public_key(), certificate.extensions, certificate.subject
    except UNREADABLE:
        return None
    proper = certificate.version is x509.Version.v3 and certificate.serial_number > 0
    return certificate if proper else None


def _built(sent: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]) -> Path:
    for place, certificate in enumerate(sent):
        for anchor in trusted:
            if _issued(certificate, anchor):
                return Path(sent[0], tuple(sent[1 : place + 1]), anchor)
        if place + 1 < len(sent) and not _issued(certificate, sent[place + 1]):
            break
    raise Refused(
        "attestation-untrusted",
        "the attestation certificate does not lead to a manufacturer that is trusted here",
    )


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the name and the key of `issuer` are the ones that signed `certificate`."""
    key = issuer.public_key()
    strong = (isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES
    )
    try:
        if not strong or not isinstance(certificate.signature_hash_algorithm, _HASHES):
            return False
        certificate.verify_directly_issued_by(issuer)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def _check_time(certificate: x509.Certificate, now: dt.datetime) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= now <= end:
        raise Refused(
            "attestation-expired",
            f"a certificate of the attestation is valid from {start:%Y-%m-%d} to {end:%Y-%m-%d} "
            f"only, and today is {now:%Y-%m-%d}",
        )


def _check_leaf(leaf: x509.Certificate, explained: frozenset[x509.ObjectIdentifier]) -> None:
    _check_critical(leaf, _UNDERSTOOD | explained)
    constraints = _basic_constraints(leaf)
    if constraints is not None and constraints.ca:
        raise _malformed("it is a CA's")


def _check_authority(authority: x509.Certificate, below: int) -> None:
    """`below` counts the CAs between it and the leaf (RFC 5280 4.2.1.9)."""
    _check_critical(authority, _UNDERSTOOD | {ExtensionOID.EXTENDED_KEY_USAGE})
    constraints = _basic_constraints(authority)
    if constraints is None or not constraints.ca:
        raise _malformed("its issuer is not a CA")
    if constraints.path_length is not None and constraints.path_length < below:
        raise _malformed("there are more CAs in its path than one of them permits")
    try:
        usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.key_cert_sign:
        raise _malformed("its issuer's key may not sign certificates")


def _check_critical(
    certificate: x509.Certificate, understood: frozenset[x509.ObjectIdentifier]
) -> None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in understood:
            raise _malformed(
                f"the critical extension {extension.oid.dotted_string} is not understood here"
            )


def _basic_constraints(certificate: x509.Certificate) -> x509.BasicConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return None


def _malformed(why: str) -> Refused:
    return Refused("attestation-certificate", f"the attestation certificate is refused: {why}")
