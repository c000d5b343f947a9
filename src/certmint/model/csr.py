"""PKCS#10 requests (RFC 2986). A `CSR` exists only if its signature and its key are good.

Some clients write a version that PKCS#10 does not have, ruby's `acme-client` among them: they took
the numbers of certificates for those of requests. Such a request is read as of version 1, and its
signature is verified over the octets that were signed.
"""

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from certmint.model import der
from certmint.model.errors import BadInput
from certmint.model.hardware import HardwareName, hardware_name
from certmint.model.keys import PublicKey, public_key
from certmint.model.names import DNSName, IPName, Name

MAX_BYTES = 16_384
_HASHES = {"sha256", "sha384", "sha512"}


@dataclass(frozen=True)
class CSR:
    """A verified request: the key, the names asked for (SAN order), the subject's CN if any.

    `hardware` are the names of the device itself among them (RFC 4043, RFC 4108).
    """

    der: bytes
    key: PublicKey
    names: tuple[Name, ...]
    common_name: str | None
    hardware: tuple[HardwareName, ...] = ()


def parse_csr(data: bytes) -> CSR:
    """A CSR from DER or PEM (CRLF tolerated).

    Raises BadInput: `csr-syntax`, `csr-signature`, `csr-names`, `hardware-syntax`, or what
    `public_key` raises.
    """
    if len(data) > MAX_BYTES:
        raise BadInput("csr-syntax", f"the CSR has {len(data)} bytes; at most {MAX_BYTES} are read")
    request = load_csr(data)
    numbered = _numbered(data)
    try:
        digest = request.signature_hash_algorithm
        if digest is not None and digest.name not in _HASHES:
            raise BadInput("csr-signature", f"the CSR is signed with {digest.name}: use SHA-256")
        if not (_is_signed(request, data) if numbered else request.is_signature_valid):
            raise BadInput(
                "csr-signature", "the CSR's signature does not verify with the key inside it"
            )
    except (UnsupportedAlgorithm, InvalidSignature, ValueError):
        raise BadInput("csr-signature", "the CSR's signature cannot be verified") from None
    # The key's own octets: another encoding of the same key is refused, not mended.
    key = public_key(der.children(request.tbs_certrequest_bytes)[2])
    names, hardware = _names(request)
    der_bytes = data if numbered else request.public_bytes(serialization.Encoding.DER)
    return CSR(der_bytes, key, names, _cn(request), hardware)


def load_csr(data: bytes) -> x509.CertificateSigningRequest:
    """A request whose signature nobody has verified. Raises BadInput `csr-syntax`."""
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_csr(data)
        return x509.load_der_x509_csr(_numbered(data) or data)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise BadInput(
            "csr-syntax", "the CSR is neither PEM nor DER of a PKCS#10 request"
        ) from None


def _numbered(data: bytes) -> bytes | None:
    """The same request as of version 1, if it is of one that there is not: v2 or v3."""
    try:
        _, info, _ = der.read(data)
        _, version, _ = der.read(data, info)
    except ValueError:
        return None
    if data[version : version + 3] not in (der.integer(1), der.integer(2)):
        return None
    return data[: version + 2] + b"\0" + data[version + 3 :]


def _is_signed(request: x509.CertificateSigningRequest, data: bytes) -> bool:
    """Whether the key signed these octets; `request` is what was read of them."""
    key, scheme = request.public_key(), request.signature_algorithm_parameters
    signed = der.children(data)[0]
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(scheme, ec.ECDSA):
        key.verify(request.signature, signed, scheme)
        return True
    digest = request.signature_hash_algorithm
    if (
        isinstance(key, rsa.RSAPublicKey)
        and isinstance(scheme, padding.PKCS1v15 | padding.PSS)
        and digest is not None
    ):
        key.verify(request.signature, signed, scheme, digest)
        return True
    return False


def _cn(request: x509.CertificateSigningRequest) -> str | None:
    found = request.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    if len(found) > 1:
        raise BadInput("csr-names", "the CSR's subject has more than one common name")
    return str(found[0].value) if found else None


def _names(
    request: x509.CertificateSigningRequest,
) -> tuple[tuple[Name, ...], tuple[HardwareName, ...]]:
    try:
        extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return (), ()
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise BadInput("csr-syntax", "the CSR's extensions cannot be read") from None
    names: list[Name] = []
    hardware: list[HardwareName] = []
    for general in extension.value:
        if isinstance(general, x509.DNSName):
            names.append(DNSName(general.value.lower()))
        elif isinstance(general, x509.IPAddress):
            names.append(IPName(str(general.value)))
        elif (of_device := _hardware(general)) is not None:
            hardware.append(of_device)
        else:
            raise BadInput(
                "csr-names", f"a {type(general).__name__} in the CSR's SAN is not accepted here"
            )
    if len({*names, *hardware}) != len(names) + len(hardware):
        raise BadInput("csr-names", "the CSR names the same identifier twice")
    return tuple(names), tuple(hardware)


def _hardware(general: x509.GeneralName) -> HardwareName | None:
    if not isinstance(general, x509.OtherName):
        return None
    kind = der.oid(general.type_id.dotted_string)
    return hardware_name(der.explicit(0, kind + der.explicit(0, general.value)))
