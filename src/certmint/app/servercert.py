"""The server's own certificate: issued by this installation to itself, through the one gate.

It belongs to a manufacturer of its own, `instance`, so that it shares nothing with any tenant.
Its names exist only in private networks (localhost, loopback, .lan …); a server with a public
name brings a certificate from elsewhere.
"""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from certmint.app.wiring import Installation
from certmint.enrolment import chains
from certmint.enrolment.authorities import NewAuthority, authority_named, create_authority
from certmint.enrolment.domains import assert_domain
from certmint.enrolment.manufacturers import add_manufacturer
from certmint.enrolment.packages import replace_file
from certmint.model.cms import Signer
from certmint.model.csr import parse_csr
from certmint.model.entities import Manufacturer
from certmint.model.errors import Misconfigured
from certmint.model.evidence import OperatorGrant
from certmint.model.keys import KeyKind
from certmint.model.names import IPName, parse_name
from certmint.model.profile import SERVICE
from certmint.model.request import CertificateRequest, Requester, RequesterKind
from certmint.model.subject import DistinguishedName
from certmint.registry import reads

SLUG = "instance"
OPERATOR = "certmint"  # the installation acting for itself
_ROOT, _ISSUING = "instance-root", "instance-issuing"
ROOT_FILE = "tls/root.pem"


def ensure(installation: Installation, *, force: bool = False) -> bool:
    """Issue the server's certificate if it is missing or past two thirds of its life.

    Returns whether the files changed. A certificate that certmint did not issue is left alone.
    """
    settings = installation.config.settings.server
    certificate = installation.config.resolve(settings.certificate)
    key = installation.config.resolve(settings.key)
    now = installation.clock()
    if not force and not _is_due(certificate, key, now):
        return False
    tenant = _tenant(installation, now)
    _certify(installation, tenant, certificate, key, now)
    return True


def document_signer(installation: Installation) -> Signer:
    """The server's TLS key, as the signer of key packages that a device receives.

    A client that reached the server over TLS has its trust anchor already. Raises Misconfigured
    `tls-files`.
    """
    settings = installation.config.settings.server
    certificate = installation.config.resolve(settings.certificate)
    key = installation.config.resolve(settings.key)
    try:
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        raise Misconfigured("tls-files", f"{certificate} or {key} cannot be read") from None

    def sign(data: bytes) -> bytes:
        if isinstance(private, ec.EllipticCurvePrivateKey):
            return private.sign(data, ec.ECDSA(hashes.SHA256()))
        if isinstance(private, rsa.RSAPrivateKey):
            return private.sign(data, padding.PKCS1v15(), hashes.SHA256())
        raise Misconfigured("tls-files", f"the key in {key} is neither EC nor RSA")

    return Signer(tuple(each.public_bytes(serialization.Encoding.DER) for each in chain), sign)


def _is_due(certificate: Path, key: Path, now: dt.datetime) -> bool:
    if not certificate.exists() or not key.exists():
        return True
    try:
        shown = x509.load_pem_x509_certificate(certificate.read_bytes())
    except ValueError:
        raise Misconfigured("tls-files", f"{certificate} is not a PEM certificate") from None
    ours = shown.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    if not ours or ours[0].value != "certmint instance issuing CA":
        return False
    if not _belongs(key, shown):
        return True
    life = shown.not_valid_after_utc - shown.not_valid_before_utc
    return now >= shown.not_valid_before_utc + life * 2 / 3


def _belongs(key: Path, shown: x509.Certificate) -> bool:
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except (ValueError, TypeError):
        return False
    return private.public_key() == shown.public_key()


def _tenant(installation: Installation, now: dt.datetime) -> Manufacturer:
    db = installation.db
    with db.read() as tx:
        found = reads.manufacturer_by_slug(tx, SLUG)
    if found is None:
        subject = DistinguishedName.of(O="certmint instance")
        found = add_manufacturer(
            db, SLUG, subject, by=OPERATOR, now=now, random_bytes=installation.random_bytes
        )
    for name, common_name, profile, parent in (
        (_ROOT, "certmint instance root", "root", None),
        (_ISSUING, "certmint instance issuing CA", "issuing", _ROOT),
    ):
        with db.read() as tx:
            exists = reads.authority_by_name(tx, found.id, name)
        if exists is not None and exists.der:
            continue
        wanted = NewAuthority(
            name=name,
            subject=DistinguishedName.of(O="certmint instance", CN=common_name),
            profile=profile,
            key_uri=f"file:{installation.config.settings.keys.folder}/{{id}}.pem",
            key_kind=KeyKind.P256,
            status_url=installation.config.settings.status.url,
            parent=parent,
        )
        create_authority(
            db, installation.gate, installation.keys, found, wanted,
            operator_id=OPERATOR, now=now, random_bytes=installation.random_bytes,
        )  # fmt: skip
    return found


def _certify(
    installation: Installation,
    tenant: Manufacturer,
    certificate: Path,
    key: Path,
    now: dt.datetime,
) -> None:
    names = tuple(map(parse_name, installation.config.settings.server.names))
    db = installation.db
    with db.read() as tx:
        validated = {found.domain for found in reads.verified_domains(tx, tenant.id)}
        issuing = authority_named(tx, tenant.id, _ISSUING)
        root = chains.root(tx, tenant.id, issuing.id)
        above = chains.intermediates_pem(tx, tenant.id, issuing.id)
    for name in names:
        if str(name) not in validated:
            assert_domain(
                db, tenant, str(name), by=OPERATOR, now=now, random_bytes=installation.random_bytes
            )
    private = ec.generate_private_key(ec.SECP256R1())
    general = [
        x509.IPAddress(ipaddress.ip_address(name.value))
        if isinstance(name, IPName)
        else x509.DNSName(str(name))
        for name in names
    ]
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName(general), critical=True)
        .sign(private, hashes.SHA256())
    )
    issued = installation.gate.issue_one(
        CertificateRequest(
            tenant_id=tenant.id,
            authority_id=issuing.id,
            profile=SERVICE,
            key=parse_csr(csr.public_bytes(serialization.Encoding.DER)),
            requester=Requester(RequesterKind.OPERATOR, OPERATOR),
            evidence=(OperatorGrant(OPERATOR, now),),
            names=names,
        ),
        now,
    )
    certificate.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem_key = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    replace_file(installation.config.resolve(ROOT_FILE), chains.pem(root.der).encode())
    # Key and certificate are two files; a crash between them leaves a pair that does not match,
    # which the next start notices and makes anew.
    replace_file(key, pem_key)
    replace_file(certificate, (chains.pem(issued.der) + above).encode())
