"""What EST clients ask for (RFC 7030): CA certificates, a first certificate, its renewal.

A device is named by what it proved, or by its owner: in the label of the URL, or in the
serialNumber of the CSR's subject. All of them must mean the same device. A door hands on
values that it decoded; every certificate comes out of the one gate, through `renewal.renew`.

What is asked but cannot be had (another name, an unknown decryption key, a channel that cannot be
checked) is refused before anything is issued.
"""

import base64
import dataclasses
import datetime as dt
import hmac
from dataclasses import dataclass, field

from cryptography import x509

from certmint.enrolment import devices, renewal
from certmint.enrolment.asking import Caller, target_of
from certmint.enrolment.devices import DeviceView
from certmint.enrolment.facts import authority_chain
from certmint.enrolment.issue import Gate
from certmint.model.csr import CSR
from certmint.model.entities import Certificate, Product
from certmint.model.errors import (
    BadInput,
    CertmintError,
    Misconfigured,
    NotFound,
    Refused,
)
from certmint.model.keys import KeyKind
from certmint.model.profile import Profile
from certmint.model.request import Asker
from certmint.model.states import AuthorityState
from certmint.registry import reads
from certmint.registry.engine import Database, Transaction

_MANY = 100  # products that a question without authentication has us look at


@dataclass(frozen=True)
class Label:
    """The part of the URL that names a product, and perhaps one device of it."""

    maker: str
    product: str
    serial_number: str | None = None


@dataclass(frozen=True)
class Channel:
    """The TLS connection: its version, and tls-unique (RFC 5929 3) where the version has one.

    `is_forwarded`: a proxy ended the client's own connection, and vouches for its certificate.
    """

    version: str
    unique: bytes | None
    is_forwarded: bool = False


@dataclass(frozen=True)
class Asked:
    """What a CSR says besides its key: names, and the attributes that EST gives a meaning.

    `names` are the SAN's in their order, `kind` is the kind of its key if certmint certifies it.
    The key ids name a key that a generated key shall be encrypted to; `reads_aes256` is false
    when the CSR lists what the device can decrypt and AES-256-CBC is not among it.
    `key_fingerprint` is SHA-256 of its SubjectPublicKeyInfo in hex, whatever kind that is.
    """

    subject: x509.Name
    names: tuple[str, ...]
    kind: KeyKind | None
    serial_number: str | None = None
    challenge_password: str | None = field(default=None, repr=False)
    changes_names: bool = False
    decrypt_key_id: bytes | None = None
    asymmetric_key_id: bytes | None = None
    reads_aes256: bool = True
    key_fingerprint: str = ""


def device_of(db: Database, caller: Caller, label: Label | None, asked: Asked) -> DeviceView:
    """The device that this is about.

    Raises BadInput `device-unnamed`, NotFound `device-unknown` or `label-unknown`, Refused
    `device-contradiction` when certificate, label and CSR mean different devices or products.
    """
    product = _labelled(db, label) if label is not None else None
    named = [label.serial_number if label else None, asked.serial_number]
    serial_number = next((each for each in named if each), None)
    if not caller.device_ids and serial_number is None:
        raise BadInput(
            "device-unnamed",
            "a login does not say which device is meant: put its serial number at the end of the "
            "label, or as serialNumber into the CSR's subject",
        )
    target = target_of(db, caller, None if caller.device_ids else serial_number)
    if any(each and each != target.device.serial_number for each in named):
        raise Refused(
            "device-contradiction",
            f"this request is about device {target.device.serial_number}, and its label or its CSR "
            "names another one",
        )
    if product is not None and product.id != target.product.id:
        raise Refused(
            "device-contradiction",
            f"device {target.device.serial_number} is not of the product that the label names",
        )
    return target


def enrol(
    db: Database, gate: Gate, target: DeviceView, csr: CSR, asker: Asker, now: dt.datetime
) -> renewal.Enrolled:
    """Certify the device's key for the device's names (RFC 7030 4.2.1).

    The CSR's names are none, or among the device's. A common name without a dot is no host name:
    clients put all kinds of things there, and the certificate will not carry it. Raises what the
    gate refuses.
    """
    if csr.common_name is not None and "." not in csr.common_name:
        csr = dataclasses.replace(csr, common_name=None)
    return renewal.renew(db, gate, target, csr, asker, now)


def reenrol(
    db: Database,
    gate: Gate,
    target: DeviceView,
    csr: CSR,
    asked: Asked,
    caller: Caller,
    now: dt.datetime,
) -> renewal.Enrolled:
    """Renew (the same key) or rekey (a new one) the device's service certificate (4.2.2).

    The CSR repeats that certificate's subject and SAN; or those of the certificate that is shown,
    as clients do that copy what they authenticate with (libest): the names that are issued are the
    product's either way.

    Raises NotFound `certificate-missing`, Refused `renewal-changes-names`, and what the gate
    refuses.
    """
    if asked.changes_names:
        raise Refused(
            "renewal-changes-names",
            "ChangeSubjectName is not accepted: the product decides its devices' names",
        )
    old = target.service
    if old is None:
        raise NotFound(
            "certificate-missing",
            f"device {target.device.serial_number} has no certificate to renew: use simpleenroll",
        )
    if not any(_repeats(asked, each) for each in (old, caller.certificate) if each):
        subject = x509.load_der_x509_certificate(old.der).subject
        raise Refused(
            "renewal-changes-names",
            "a renewal repeats the subject and the SAN of the certificate that it replaces: "
            f"subject {subject.rfc4514_string() or 'empty'}, SAN {', '.join(old.names)}",
        )
    return enrol(db, gate, target, csr, caller.asker, now)


def _repeats(asked: Asked, certificate: Certificate) -> bool:
    subject = x509.load_der_x509_certificate(certificate.der).subject
    return asked.subject == subject and set(asked.names) == set(certificate.names)


def check_channel(product: Product, asked: Asked, channel: Channel) -> None:
    """Proof of possession, linked to this connection (RFC 7030 3.5).

    Looked at where the CSR claims it; the product may demand that it does. Raises Refused
    `channel-binding`. A challengePassword that nobody can check is refused too:
    to accept it would be to say that it was checked.
    """
    if asked.challenge_password is None:
        if not product.channel_linking:
            return
        raise Refused(
            "channel-binding",
            f"product {product.name!r} wants the CSR linked to its connection: put the tls-unique "
            "of a TLS 1.2 connection into the challengePassword (RFC 7030 3.5)",
        )
    if channel.unique is None:
        how = "by a proxy" if channel.is_forwarded else f"over {channel.version}"
        raise Refused(
            "channel-binding",
            f"the CSR's challengePassword cannot be compared with a connection made {how}: leave "
            "it out, or connect directly with TLS 1.2",
        )
    expected = base64.b64encode(channel.unique)
    if not hmac.compare_digest(expected, asked.challenge_password.encode()):
        raise Refused(
            "channel-binding",
            "the CSR's challengePassword is not the tls-unique of this connection",
        )


def anchors(db: Database, label: Label | None, shown_der: bytes | None) -> list[bytes]:
    """The CAs of a product's service certificates in DER, nearest to the devices first.

    With every other generation of each: what has the same name or the same key (RFC 7030 4.1.3,
    RFC 4210 4.4). Where nothing says which product is meant, but one CA certifies all of them, it
    does not matter. Raises NotFound `label-unknown` or `label-missing`.
    """
    product, _ = _meant(db, label, shown_der)
    product = product or _of_one_authority(db)
    if product is None:
        raise NotFound(
            "label-missing",
            "several products are made here: ask for /.well-known/est/<manufacturer>~<product>/…",
        )
    with db.read() as tx:
        chain = authority_chain(tx, product.tenant_id, product.service_authority_id)
        known = reads.authorities(tx, product.tenant_id)
    subjects = {link.subject for link in chain}
    keys = {link.key.fingerprint for link in chain}
    others = [
        each.der
        for each in known
        if each.state is not AuthorityState.PENDING
        and (each.subject in subjects or each.key.fingerprint in keys)
    ]
    return list(dict.fromkeys([link.der for link in chain] + others))


def expectations(
    db: Database, label: Label | None, shown_der: bytes | None
) -> tuple[Profile, Product, tuple[str, ...]] | None:
    """What a CSR should look like: profile, product, and the device's names if it is known.

    None when nothing says which product is meant. Raises NotFound `label-unknown`.
    """
    product, target = _meant(db, label, shown_der)
    if product is None:
        return None
    with db.read() as tx:
        profile = profile_of(tx, product)
    names = target.product.names_of(target.device.label) if target else ()
    return profile, product, tuple(map(str, names))


def profile_of(tx: Transaction, product: Product) -> Profile:
    """The profile of a product's service certificates. Raises Misconfigured `profile-unknown`."""
    found = reads.profile(tx, product.tenant_id, product.service_profile)
    if found is None:
        raise Misconfigured("profile-unknown", f"there is no profile {product.service_profile!r}")
    return found


def _labelled(db: Database, label: Label) -> Product:
    with db.read() as tx:
        tenant = reads.manufacturer_by_slug(tx, label.maker)
        product = reads.product_by_name(tx, tenant.id, label.product) if tenant else None
    if product is None:
        raise NotFound("label-unknown", "the label of this URL names no product")
    return product


def _meant(
    db: Database, label: Label | None, shown_der: bytes | None
) -> tuple[Product | None, DeviceView | None]:
    """The product by label, by certificate, or because there is only one; the device if known.

    These questions need no authentication, so a certificate that is not ours is no error here.
    """
    target = None
    if shown_der is not None:
        try:
            shown = devices.identify(db, shown_der)
            if shown.device_id is not None:
                target = devices.view(db, shown.tenant_id, shown.device_id)
        except CertmintError:
            target = None
    if label is not None:
        product = _labelled(db, label)
        return product, target if target and target.product.id == product.id else None
    if target is not None:
        return target.product, target
    found = _first_products(db, 2)
    return (found[0] if len(found) == 1 else None), None


def _of_one_authority(db: Database) -> Product | None:
    """Any product, if the same CA certifies the devices of all; None where there are too many."""
    found = _first_products(db, _MANY)
    authorities = {each.service_authority_id for each in found}
    return found[0] if len(authorities) == 1 and len(found) < _MANY else None


def _first_products(db: Database, limit: int) -> list[Product]:
    found: list[Product] = []
    after = None
    with db.read() as tx:
        while len(found) < limit and (page := reads.manufacturers(tx, after)):
            for each in page:
                found += reads.products(tx, each.id, limit=limit)
            after = page[-1].slug
    return found[:limit]
