"""The signed result of a batch: which serial number got which certificates.

The signature is CMS SignedData, detached, by a key that exists for this one document: certified
through the gate as `batch-signer`, used once, and forgotten. `openssl cms -verify` checks it.
"""

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from certmint.enrolment import chains
from certmint.enrolment.authorities import profile_named
from certmint.enrolment.batches import Line, Refusal
from certmint.model.entities import Batch, Certificate, Device
from certmint.model.evidence import BatchLine
from certmint.model.keys import KeyOrigin, public_key_of
from certmint.model.profile import SIGNER, Purpose
from certmint.model.request import CertificateRequest, HeldKey, Requester, RequesterKind
from certmint.model.subject import DistinguishedName
from certmint.registry import reads

COLUMNS = (
    "line", "serial", "label", "mac", "state", "identity_serial", "identity_sha256",
    "service_serial", "service_sha256", "service_not_after", "refused",
)  # fmt: skip
PAGE = 1000


@dataclass(frozen=True)
class SignedResult:
    """The CSV document and its detached CMS signature in DER."""

    document: bytes
    signature: bytes = field(repr=False)


def signed_result(line: Line, batch: Batch, refused: Sequence[Refusal]) -> SignedResult:
    """The result manifest of a running batch, signed."""
    document = _document(line, batch, {each.serial_number: each.code for each in refused})
    private = ec.generate_private_key(ec.SECP256R1())
    now = line.clock()
    with line.db.read() as tx:
        profile = profile_named(tx, line.tenant.id, SIGNER.name)
    fields = {k: v for k, v in line.tenant.subject.attributes if k in ("C", "O")}
    request = CertificateRequest(
        tenant_id=line.tenant.id,
        authority_id=line.product.identity_authority_id,
        profile=profile,
        key=HeldKey(public_key_of(private), KeyOrigin.FACTORY),
        requester=Requester(RequesterKind.STATION, line.station),
        evidence=(BatchLine(batch.id, 0, batch.manifest_hash),),
        subject=DistinguishedName.of(**fields, CN=f"Batch {batch.id}"),
    )
    signer = line.gate.issue_one(request, now)
    with line.db.read() as tx:
        above = chains.intermediates(tx, line.tenant.id, signer.authority_id)
    builder = pkcs7.PKCS7SignatureBuilder().set_data(document)
    builder = builder.add_signer(
        x509.load_der_x509_certificate(signer.der), private, hashes.SHA256()
    )
    for link in above:
        builder = builder.add_certificate(x509.load_der_x509_certificate(link.der))
    options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
    return SignedResult(document, builder.sign(serialization.Encoding.DER, options))


def _document(line: Line, batch: Batch, refused: dict[str, str]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    after = 0
    while True:
        with line.db.read() as tx:
            devices = reads.batch_devices(
                tx, line.tenant.id, batch.id, after_line=after, limit=PAGE
            )
            held = reads.batch_certificates(tx, line.tenant.id, [each.id for each in devices])
        if not devices:
            break
        for device in devices:
            reason = refused.get(device.serial_number, "")
            table.writerow(_row(device, held.get(device.id, []), reason))
        after = devices[-1].line or after
    return text.getvalue().encode()


def _row(device: Device, certificates: Sequence[Certificate], refused: str) -> list[str]:
    good = {each.purpose: each for each in certificates if each.revocation is None}
    identity, service = good.get(Purpose.IDENTITY), good.get(Purpose.SERVICE)
    return [
        str(device.line), device.serial_number, device.label, device.mac, device.state.value,
        *_columns(identity), *_columns(service),
        service.not_after.isoformat() if service else "", refused,
    ]  # fmt: skip


def _columns(certificate: Certificate | None) -> tuple[str, str]:
    if certificate is None:
        return "", ""
    return certificate.serial, hashlib.sha256(certificate.der).hexdigest()
