"""Keys, requests and certificates of the device: making them, and judging what came back.

`accept` is the only way to a `Credential`, and what is not a Credential is never installed.
Whether a browser trusts the chain's root is not for us to know: the router may have no root store.
"""

import datetime as dt
import ipaddress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certmint_agent.errors import Misconfigured, Unacceptable

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
LONGEST_CHAIN = 8


class NotYetValid(Unacceptable):
    """The certificate is right, and starts in the future: a clock is wrong, here or there."""


@dataclass(frozen=True)
class Credential:
    """A private key with the certificates for it, leaf first; every law of `accept` holds."""

    key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]


def generate(kind: str) -> PrivateKey:
    """A new private key: "ec-p256" or "rsa-2048"."""
    if kind == "rsa-2048":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


def kind_of(key: PrivateKey) -> str:
    """The configuration's word for a key."""
    return "rsa-2048" if isinstance(key, rsa.RSAPrivateKey) else "ec-p256"


def key_pem(key: PrivateKey) -> bytes:
    """Unencrypted PKCS#8: the router's server starts with nobody there to type a passphrase."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_key(data: bytes) -> PrivateKey:
    """An EC or RSA key from unencrypted PEM or PKCS#8 DER. Raises ValueError."""
    try:
        if data.startswith(b"-----"):
            key = serialization.load_pem_private_key(data, None)
        else:
            key = serialization.load_der_private_key(data, None)
    except (TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        key = None
    if isinstance(key, PrivateKey):
        return key
    raise ValueError("not an unencrypted EC or RSA key")


def load_identity(certificate: Path, key: Path) -> tuple[x509.Certificate, PrivateKey]:
    """The device's identity, from PEM files. Raises Misconfigured, naming the file."""
    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError) as problem:
        raise Misconfigured(f"identity_certificate {certificate}: {problem}") from None
    try:
        return loaded, load_key(key.read_bytes())
    except OSError as problem:
        raise Misconfigured(f"identity_key {key}: {problem}") from None
    except ValueError:
        raise Misconfigured(f"identity_key {key} is no unencrypted EC or RSA key") from None


def make_csr(key: PrivateKey, names: tuple[str, ...]) -> x509.CertificateSigningRequest:
    """A PKCS#10 request for `names`; the subject is empty, as the certificate's will be."""
    try:
        general = x509.SubjectAlternativeName([_general_name(name) for name in names])
    except ValueError as problem:
        raise Misconfigured(f"names {', '.join(names)}: {problem}") from None
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.add_extension(general, critical=False).sign(key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def names_in(holder: x509.Certificate | x509.CertificateSigningRequest) -> tuple[str, ...]:
    """The DNS names and addresses in the SAN, as text. Raises ValueError if it is malformed."""
    try:
        san = holder.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in san if isinstance(name, x509.DNSName | x509.IPAddress))


def covers(certificate: x509.Certificate, names: tuple[str, ...]) -> bool:
    """Whether each name is in the certificate, itself or under a wildcard one label above it."""
    present = set(names_in(certificate))
    return all(n in present or "*." + n.partition(".")[2] in present for n in names)


def accept(
    key: PrivateKey,
    leaf_pem: bytes,
    chain_pem: bytes,
    names: tuple[str, ...],
    now: dt.datetime,
) -> Credential:
    """The credential that the server sent for our key, if it is one.

    It is ours (same public key), good now, signed by the next in the chain and so on to the last
    intermediate, and covers the names that we asked for. Raises Unacceptable, or NotYetValid.
    """
    try:
        leaf = x509.load_pem_x509_certificate(leaf_pem)
        above = x509.load_pem_x509_certificates(chain_pem) if chain_pem.strip() else []
        covered = covers(leaf, names)
    except (ValueError, x509.DuplicateExtension):
        raise Unacceptable("the server sent a certificate that cannot be read") from None
    chain = (leaf, *above)
    if len(chain) > LONGEST_CHAIN:
        raise Unacceptable(f"the server sent a chain of {len(chain)} certificates")
    if not matches(key.public_key(), leaf):
        raise Unacceptable("the server sent a certificate for a key that is not ours")
    if not covered:
        raise Unacceptable(
            f"the server sent a certificate for {', '.join(names_in(leaf))}, "
            f"which does not cover {', '.join(names)}"
        )
    _check_links(chain)
    _check_dates(chain, now)
    return Credential(key, chain)


def matches(public: PublicKey, leaf: x509.Certificate) -> bool:
    """Whether the certificate is for this key."""
    try:
        return leaf.public_key() == public
    except (ValueError, UnsupportedAlgorithm):
        return False


def _check_links(chain: tuple[x509.Certificate, ...]) -> None:
    for certificate, issuer in pairwise(chain):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            raise Unacceptable(
                f"the server sent a broken chain: {certificate.subject.rfc4514_string()!r} "
                f"is not signed by {issuer.subject.rfc4514_string()!r}"
            ) from None


def _check_dates(chain: tuple[x509.Certificate, ...], now: dt.datetime) -> None:
    for certificate in chain:
        if now > certificate.not_valid_after_utc:
            raise Unacceptable(
                "the server sent a certificate that expired at "
                f"{certificate.not_valid_after_utc.isoformat()}, and it is {now.isoformat()}"
            )
        if now < certificate.not_valid_before_utc:
            raise NotYetValid(
                "the server sent a certificate that starts at "
                f"{certificate.not_valid_before_utc.isoformat()}, and it is {now.isoformat()}"
            )
