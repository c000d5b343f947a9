"""A tiny CA that signs whatever it is told."""

import dataclasses
import datetime as dt
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)
PEM = serialization.Encoding.PEM


def key_bytes(key) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


@dataclasses.dataclass
class CA:
    """A root or an intermediate; `issue` signs whatever it is told."""

    name: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def issue(self, public, names=(), *, subject="", start=NOW - DAY, end=NOW + 90 * DAY, ca=False):
        builder = (
            x509.CertificateBuilder()
            .subject_name(common_name(subject) if subject else x509.Name([]))
            .issuer_name(common_name(self.name))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([general_name(n) for n in names]), critical=not subject
            )
        return builder.sign(self.key, hashes.SHA256())

    def below(self, name: str) -> "CA":
        key = ec.generate_private_key(ec.SECP256R1())
        return CA(
            name, key, self.issue(key.public_key(), subject=name, ca=True, end=NOW + 999 * DAY)
        )


def general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def make_root(name: str = "Test Root") -> CA:
    key = ec.generate_private_key(ec.SECP256R1())
    root = CA(name, key, None)
    root.certificate = root.issue(key.public_key(), subject=name, ca=True, end=NOW + 9999 * DAY)
    return root
