"""Hardware as evidence: challenges, trusted roots, expected hardware, and the verdict.

Laws: a challenge is ours, for one product, used once and young; a statement counts if a root that
the product trusts for its format vouches for it, and if the registry expects that hardware in one
device. The key that it speaks of is compared with the request's at the gate. A signature by an
IDevID says which device asks, not where a key lives: it is no attestation here.
"""

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.attestation import credential, structures
from certmint.attestation.attested import Anchor, Attested, Format, Proof, Serial, SerialKind
from certmint.attestation.statement import verify
from certmint.model.entities import Device, Manufacturer, Product
from certmint.model.errors import BadInput, NotFound, Refused
from certmint.model.evidence import Attestation
from certmint.model.hardware import HardwareName, PermanentIdentifier
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction
from certmint.registry.reads.askers import AnchorRow

LIFE = dt.timedelta(minutes=5)
_RANDOM_OCTETS, _MAC_OCTETS = 16, 16
_IDENTIFIER = re.compile(r"[\x21-\x7e]{1,512}\Z")


@dataclass(frozen=True)
class Activation:
    """The second message of a TPM without an AK certificate; see `attestation.credential`.

    `ek_chain` is empty where the registry knows the EK by its digest; `secret` is what
    TPM2_ActivateCredential found; the rest is TPM2_Certify with SHA-256 of the nonce's text as
    qualifying data.
    """

    ek_public: bytes
    ek_chain: tuple[bytes, ...]
    ak_public: bytes
    secret: bytes = field(repr=False)
    cert_info: bytes
    signature: bytes
    area: bytes


@dataclass(frozen=True)
class Statement:
    """What hardware says, over a nonce of ours: an attestation object, or an activation."""

    maker: str
    product: str
    nonce: str
    said: bytes | Activation


def new_nonce(
    db: Database, maker: str, product: str, key: bytes, now: dt.datetime, random_bytes: RandomBytes
) -> tuple[str, dt.datetime]:
    """A challenge for a device of this product, and when it ends; nothing is stored.

    What hardware signs is the text as it stands. Raises NotFound `product-unknown`.
    """
    with db.read() as tx:
        found = _product(tx, maker, product)
    body = int(now.timestamp()).to_bytes(5, "big") + random_bytes(_RANDOM_OCTETS)
    text = base64.urlsafe_b64encode(body + _mac(key, found.id, body)).rstrip(b"=").decode()
    return text, now + LIFE


def hide(
    db: Database, maker: str, product: str, nonce: str, ek_public: bytes,
    ek_chain: tuple[bytes, ...], ak_public: bytes, key: bytes, now: dt.datetime,
    random_bytes: RandomBytes,
) -> credential.Challenge:  # fmt: skip
    """The first message's answer: a secret that only the TPM with this EK and AK can find.

    Nothing is stored: the secret follows from the nonce, which the second message spends. Raises
    Refused `attestation-nonce` or another `attestation-…`, BadInput `attestation-syntax`.
    """
    with db.read() as tx:
        found = _product(tx, maker, product)
        _opened(nonce, found, key, now)
        endorsement = _endorsement(tx, found, ek_public, ek_chain, now)
    ak = credential.attestation_key(ak_public)
    secret = _hidden(key, nonce, ek_public, ak_public)
    return credential.challenge(
        endorsement, ak, secret, random_bytes=random_bytes, ephemeral=ec.generate_private_key
    )


def attest(
    db: Database, statement: Statement, key: bytes, now: dt.datetime
) -> tuple[Attestation, Device]:
    """Judge a statement, and spend its nonce: evidence, and the device that it is about.

    Raises Refused `attestation-nonce`, `attestation-unexpected` …, BadInput `attestation-syntax`,
    NotFound `product-unknown`.
    """
    with db.read() as tx:
        product = _product(tx, statement.maker, statement.product)
        made, body = _opened(statement.nonce, product, key, now)
        attested = _judged(tx, product, statement, key, now)
        weighed = weigh(tx, product.tenant_id, attested, now, product_id=product.id)
    # After the verdict, so that rubbish writes nothing; of two at once, one finds it spent.
    if not db.write(lambda tx: writes.use_acme_nonce(tx, f"attestation:{body.hex()}", made + LIFE)):
        raise _stale()
    return weighed


def weigh(
    tx: Transaction,
    tenant_id: str,
    attested: Attested,
    now: dt.datetime,
    *,
    product_id: str | None = None,
) -> tuple[Attestation, Device]:
    """What a verified statement is worth to this maker: evidence, and the device it is about.

    Raises Refused: `attestation-not-hardware`, `attestation-unexpected` for hardware that no device
    (of the product) is expected to have, `attestation-ambiguous` if two devices are.
    """
    if attested.format is Format.IDEVID:
        raise Refused(
            "attestation-not-hardware",
            "an IDevID's signature says which device asks, not that hardware holds the key",
        )
    names = [identifier_text(each) for each in attested.identifiers]
    found = {
        device_id
        for name in names
        if (device_id := reads.device_id_by_hardware(tx, tenant_id, name)) is not None
    }
    if len(found) > 1:
        raise Refused(
            "attestation-ambiguous", "the hardware's identities are those of several devices"
        )
    device = reads.device(tx, tenant_id, found.pop()) if found else None
    if device is None or product_id not in (None, device.product_id):
        shown = ", ".join(names) or "hardware without an identity"
        raise Refused("attestation-unexpected", f"no device is expected to have {shown}")
    proof = Attestation(
        attested.format.value,
        attested.public_key.fingerprint,
        device.serial_number,
        attested.statement_hash,
        now,
    )
    return proof, device


def anchors(tx: Transaction, product: Product) -> tuple[Anchor, ...]:
    """The roots that vouch for the hardware of a product's devices."""
    found = reads.attestation_anchors(tx, product.tenant_id, product.id)
    return tuple(Anchor(each.der, Format(each.format)) for each in found)


def trust(
    db: Database, product: Product, kind: str, pem: bytes, *, by: str, now: dt.datetime
) -> list[str]:
    """Trust CA certificates for one format; their SHA-256 in hex.

    Raises BadInput `attestation-root`, Conflict `anchor-exists`.
    """
    rows = anchor_rows(kind, pem, tuple(Format), now)

    def work(tx: Transaction) -> None:
        for row in rows:
            writes.add_attestation_anchor(tx, product.tenant_id, product.id, row, by=by)

    db.write(work)
    return [row.fingerprint for row in rows]


def anchor_rows(kind: str, pem: bytes, formats: Sequence[str], now: dt.datetime) -> list[AnchorRow]:
    """The CA certificates of a file, to be trusted for one of these formats.

    Raises BadInput `attestation-root`.
    """
    try:
        roots = x509.load_pem_x509_certificates(pem)
        cas = [root.extensions.get_extension_for_class(x509.BasicConstraints) for root in roots]
    except (ValueError, x509.ExtensionNotFound):
        cas = []
    if kind not in formats or not cas or not all(each.value.ca for each in cas):
        raise BadInput(
            "attestation-root",
            f"a format ({', '.join(formats)}) and CA certificates in PEM are needed",
        )
    ders = [root.public_bytes(serialization.Encoding.DER) for root in roots]
    return [AnchorRow(kind, hashlib.sha256(der).hexdigest(), der, now) for der in ders]


def expect(
    db: Database, tenant: Manufacturer, serial_number: str, identifier: str, *, by: str,
    now: dt.datetime,
) -> str:  # fmt: skip
    """Register the hardware that a device has, as `parse_identifier` reads it.

    Raises NotFound `device-unknown`, BadInput `hardware-syntax`, Conflict `hardware-taken`.
    """
    name = parse_identifier(identifier)
    with db.read() as tx:
        device = reads.device_by_serial_number(tx, tenant.id, serial_number)
    if device is None:
        raise NotFound("device-unknown", f"there is no device {serial_number!r}")
    device_id = device.id
    db.write(lambda tx: writes.expect_hardware(tx, tenant.id, device_id, name, by=by, at=now))
    return name


def identifier_text(identifier: HardwareName | Serial) -> str:
    """How the registry spells a hardware identity: `tpm-ek:<hex>`, `permanent-identifier:<ID>` …"""
    if isinstance(identifier, Serial):
        return str(identifier)
    is_permanent = isinstance(identifier, PermanentIdentifier)
    return f"{'permanent-identifier' if is_permanent else 'hardware-module'}:{identifier}"


def parse_identifier(text: str) -> str:
    """`KIND:VALUE` as `identifier_text` writes it. Raises BadInput `hardware-syntax`."""
    kinds = (*SerialKind, "permanent-identifier", "hardware-module")
    kind, colon, value = text.strip().partition(":")
    if not colon or kind not in kinds or not _IDENTIFIER.match(value):
        raise BadInput(
            "hardware-syntax",
            f"{text[:80]!r} is no hardware identity: write KIND:VALUE, and as KIND one of "
            f"{', '.join(kinds)}",
        )
    digest = kind in (SerialKind.TPM_EK, SerialKind.TPM_AK)
    return f"{kind}:{value.lower() if digest else value}"


def _judged(
    tx: Transaction, product: Product, statement: Statement, key: bytes, now: dt.datetime
) -> Attested:
    nonce, said = statement.nonce.encode(), statement.said
    if isinstance(said, bytes):
        return verify(said, Proof(nonce, nonce), anchors(tx, product), now, revoked=frozenset())
    endorsement = _endorsement(tx, product, said.ek_public, said.ek_chain, now)
    secret = _hidden(key, statement.nonce, said.ek_public, said.ak_public)
    ak = credential.attestation_key(said.ak_public)
    return credential.certified(
        credential.activated(endorsement, ak, secret, said.secret),
        cert_info=said.cert_info,
        signature=said.signature,
        area=said.area,
        nonce=hashlib.sha256(nonce).digest(),  # not every TPM takes more than 34 octets
    )


def _endorsement(
    tx: Transaction, product: Product, ek_public: bytes, chain: tuple[bytes, ...], now: dt.datetime
) -> credential.Endorsement:
    if chain:
        return credential.endorsed_by_certificate(ek_public, chain, anchors(tx, product), now)
    digest = hashlib.sha256(structures.public(ek_public).spki).hexdigest()
    name = f"{SerialKind.TPM_EK}:{digest}"
    is_known = reads.device_id_by_hardware(tx, product.tenant_id, name) is not None
    return credential.endorsed_by_registry(ek_public, {digest} if is_known else frozenset())


def _product(tx: Transaction, maker: str, name: str) -> Product:
    tenant = reads.manufacturer_by_slug(tx, maker)
    found = reads.product_by_name(tx, tenant.id, name) if tenant else None
    if found is None:
        raise NotFound("product-unknown", "there is no such manufacturer or product")
    return found


def _opened(
    nonce: str, product: Product, key: bytes, now: dt.datetime
) -> tuple[dt.datetime, bytes]:
    """When a nonce was made, and its body; Refused `attestation-nonce` for one that is not good."""
    try:
        data = base64.urlsafe_b64decode(nonce.encode("ascii") + b"=" * (-len(nonce) % 4))
    except (ValueError, binascii.Error):
        raise _stale() from None
    body, seen = data[:-_MAC_OCTETS], data[-_MAC_OCTETS:]
    if len(body) != 5 + _RANDOM_OCTETS or not hmac.compare_digest(
        seen, _mac(key, product.id, body)
    ):
        raise _stale()
    made = dt.datetime.fromtimestamp(int.from_bytes(body[:5], "big"), dt.UTC)
    if not now - LIFE < made <= now:
        raise _stale()
    return made, body


def _mac(key: bytes, product_id: str, body: bytes) -> bytes:
    message = b"attestation nonce\0" + product_id.encode() + b"\0" + body
    return hmac.digest(key, message, "sha256")[:_MAC_OCTETS]


def _hidden(key: bytes, nonce: str, ek_public: bytes, ak_public: bytes) -> bytes:
    parts = [hashlib.sha256(each).digest() for each in (nonce.encode(), ek_public, ak_public)]
    return hmac.digest(key, b"attestation secret\0" + b"".join(parts), "sha256")


def _stale() -> Refused:
    return Refused(
        "attestation-nonce", "the nonce is not ours, too old, or used before: ask for another one"
    )
