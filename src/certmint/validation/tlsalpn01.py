"""The tls-alpn-01 challenge (RFC 8737, RFC 8738 6, BR 3.2.2.4.20)."""

import hashlib
import hmac
import ipaddress
import ssl
import time

from cryptography import x509

from certmint.model import der
from certmint.model.names import IPName, Name
from certmint.validation.dns import Resolver
from certmint.validation.reach import (
    Failed,
    IPAddress,
    Reach,
    addresses,
    connected,
    left,
    plain_socket,
)

PROTOCOL = "acme-tls/1"
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")


def check(
    name: Name, key_authorization: str, resolver: Resolver, reach: Reach
) -> dict[str, object]:
    """Connect with ALPN `acme-tls/1` and read the challenge certificate; what was seen.

    Raises Failed with the ACME error type.
    """
    ends = time.monotonic() + reach.deadline_s
    targets = addresses(name, reach.tls_port, resolver, reach)
    shown = _handshake(name, targets, reach.tls_port, ends)
    digest = hashlib.sha256(key_authorization.encode()).digest()
    try:
        _judge(name, shown, digest)
    except Failed as refusal:
        try:
            shown = _handshake(name, targets, reach.tls_port, ends, for_rsa=True)
            _judge(name, shown, digest)
        except Failed:
            raise refusal from None
    return {"method": "tls-alpn-01 (BR 3.2.2.4.20)", "address": str(targets[0])}


def _handshake(
    name: Name, targets: list[IPAddress], port: int, ends: float, *, for_rsa: bool = False
) -> bytes:
    """The certificate that is shown.

    A server with keys of two kinds may have the challenge's certificate for RSA alone: Apache's
    mod_md has. Validators in Go ask for RSA first; OpenSSL does not, and so asks once more.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is self-signed; `_judge` reads it
    context.set_alpn_protocols([PROTOCOL])
    if for_rsa:
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # where ciphers name the kind of key
        context.set_ciphers("aRSA")
    plain = connected(targets, port, ends, plain_socket)
    try:
        plain.settimeout(left(ends))
        with context.wrap_socket(plain, server_hostname=server_name(name)) as secure:
            if secure.selected_alpn_protocol() != PROTOCOL:
                raise Failed("unauthorized", f"{name} does not speak {PROTOCOL}")
            return secure.getpeercert(binary_form=True) or b""
    except (OSError, ssl.SSLError) as error:
        raise Failed("tls", f"{name}: the handshake failed ({type(error).__name__})") from None
    finally:
        plain.close()


def server_name(name: Name) -> str:
    """The SNI: the name itself, or an address as its reverse name (RFC 8738 6)."""
    if isinstance(name, IPName):
        return ipaddress.ip_address(name.value).reverse_pointer
    return name.value


def _judge(name: Name, shown: bytes, digest: bytes) -> None:
    refusal = Failed("unauthorized", f"{name} showed another certificate than the challenge asks")
    try:
        certificate = x509.load_der_x509_certificate(shown)
        extensions = certificate.extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        proof = extensions.get_extension_for_oid(ACME_IDENTIFIER)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        raise refusal from None
    (*rest, last) = list(names) or [None]
    if rest or last is None or not _is_only(name, last):
        raise refusal
    value = proof.value
    if not proof.critical or not isinstance(value, x509.UnrecognizedExtension):
        raise refusal
    if not hmac.compare_digest(value.value, der.octet_string(digest)):
        raise refusal


def _is_only(name: Name, shown: x509.GeneralName) -> bool:
    if isinstance(name, IPName):
        return isinstance(shown, x509.IPAddress) and str(shown.value) == name.value
    return isinstance(shown, x509.DNSName) and shown.value.lower() == name.value
