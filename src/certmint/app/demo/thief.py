"""What somebody could sign who stole the SubCA's key: the leaf that certmint refuses to issue.

This exists to show that name constraints hold against the key itself. It is the one place outside
`issuance` that signs, it knows nothing of the gate, and its certificate goes into no registry.
"""

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def forge(
    ca_key_pem: bytes, passphrase: bytes, ca_der: bytes, name: str, now: dt.datetime
) -> bytes:
    """A leaf for any name, in DER, signed with a stolen CA key."""
    stolen = serialization.load_pem_private_key(ca_key_pem, passphrase)
    issuer = x509.load_der_x509_certificate(ca_der)
    leaf = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(leaf.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
    )
    certificate = builder.sign(stolen, hashes.SHA256())  # type: ignore[arg-type]  # an EC key
    return certificate.public_bytes(serialization.Encoding.DER)
