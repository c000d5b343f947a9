"""A key pair made for a device and delivered to it: EST's serverkeygen (RFC 7030 4.4).

- What leaves is EnvelopedData(SignedData(AsymmetricKeyPackage)) for a key that the device names:
  one of its certificates' keys, or the AES-256 key that it shares with us. PKCS#8 under TLS alone
  leaves only where the profile says so, and never through a proxy.
- A key that is named and not known refuses the request; nothing falls back to a weaker delivery.
- The private key exists in memory and in the answer, and nowhere else.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from certmint.enrolment import device_requests, renewal
from certmint.enrolment.device_requests import Wanted
from certmint.enrolment.devices import DeviceView
from certmint.enrolment.est import Asked, Channel, profile_of
from certmint.enrolment.issue import Gate
from certmint.enrolment.keygen import make_key, pkcs8_of
from certmint.model import der
from certmint.model.cms import KEY_PACKAGE, SIGNED_DATA, Signer, envelop, envelop_under, signed
from certmint.model.entities import Certificate, Device, Wish
from certmint.model.errors import Refused
from certmint.model.keys import KeyKind, KeyOrigin, public_key, public_key_of
from certmint.model.profile import Profile, Purpose
from certmint.model.request import Asker, HeldKey
from certmint.model.serial import RandomBytes
from certmint.registry import audit, reads
from certmint.registry.engine import Database


@dataclass(frozen=True)
class Delivery:
    """What the delivery of keys needs: who signs, the secret behind the shared keys, randomness.

    The signer is asked for anew each time, since the server's certificate changes while it runs.
    """

    signer: Callable[[], Signer]
    transport_secret: bytes = field(repr=False)
    random_bytes: RandomBytes


@dataclass(frozen=True)
class Delivered:
    """A certificate, and its private key: PKCS#8, or CMS EnvelopedData around it."""

    enrolled: renewal.Enrolled
    key: bytes = field(repr=False)
    is_encrypted: bool


def deliver_key(
    db: Database,
    gate: Gate,
    target: DeviceView,
    asked: Asked,
    channel: Channel,
    asker: Asker,
    delivery: Delivery,
    now: dt.datetime,
) -> Delivered:
    """Make a key pair for the device and certify it (RFC 7030 4.4); the CSR's own key is ignored.

    The key is sealed before it is certified, so that nothing is issued for a key that cannot be
    delivered; it exists nowhere else, and asking again makes another. Raises Refused
    `csr-asks-more`, `key-delivery-plain`, `key-delivery-cipher` or `decrypt-key-unknown`, and
    what `renewal.renew` raises (`key-origin` for a public profile: BR 6.1.1.3). A request that
    waits for an operator is known by the CSR's key, which is all that the device repeats.
    """
    own = [str(name) for name in target.product.names_of(target.device.label)]
    for name in asked.names:
        if name not in own:
            raise Refused(
                "csr-asks-more", f"the CSR asks for {name}, which this certificate will not carry"
            )
    wanted = Wanted(Wish.KEY, asked.key_fingerprint)
    device_requests.standing(db, target, wanted, now)  # before the work of making a key
    with db.read() as tx:
        profile = profile_of(tx, target.product)
    kind = asked.kind if asked.kind in profile.key_kinds else preferred_kind(profile)
    private = make_key(kind)
    pkcs8 = pkcs8_of(private)
    sealed = None
    # Where no key may be made at all, the gate says so, and writes it down.
    if KeyOrigin.KEY_MANAGEMENT in profile.key_origins:
        sealed = _sealed(db, target, asked, channel, profile, delivery, pkcs8)
    held = HeldKey(public_key_of(private), KeyOrigin.KEY_MANAGEMENT)
    enrolled = renewal.renew(db, gate, target, held, asker, now, wanted)
    return Delivered(enrolled, sealed or pkcs8, sealed is not None)


def preferred_kind(profile: Profile) -> KeyKind:
    """The kind of key that a device does best with, of those that the profile accepts."""
    return next(kind for kind in KeyKind if kind in profile.key_kinds)


def transport_key(secret: bytes, device: Device) -> tuple[bytes, bytes]:
    """The identifier and the AES-256 key that a device shares with us, for keys sent to it.

    Derived, so that no table of secrets exists; `secret` is the installation's, of 32 octets.
    """
    info = b"certmint transport key " + device.id.encode()
    return device.serial_number.encode(), HKDF(hashes.SHA256(), 32, None, info).derive(secret)


def hand_out(
    db: Database, secret: bytes, device: Device, *, by: str, now: dt.datetime
) -> tuple[bytes, bytes]:
    """The transport key of a device, for whoever puts it there; that it was read is written down.

    It is durable that somebody has it, before somebody has it.
    """
    event = audit.Event(now, device.tenant_id, by, "device.transport-key-read", device.id)
    db.write(lambda tx: audit.append(tx, event))
    return transport_key(secret, device)


def _sealed(
    db: Database,
    target: DeviceView,
    asked: Asked,
    channel: Channel,
    profile: Profile,
    delivery: Delivery,
    pkcs8: bytes,
) -> bytes | None:
    """EnvelopedData(SignedData(AsymmetricKeyPackage)) around a key; None if it may go plain."""
    if asked.asymmetric_key_id is None and asked.decrypt_key_id is None:
        if profile.plain_delivery and not channel.is_forwarded:
            return None
        raise Refused(
            "key-delivery-plain",
            "a private key leaves encrypted only: name the device's key in an "
            "AsymmetricDecryptKeyIdentifier or a DecryptKeyIdentifier",
        )
    if not asked.reads_aes256:
        raise Refused(
            "key-delivery-cipher",
            "keys are encrypted with AES-256-CBC, which the CSR does not list",
        )
    package = signed(der.sequence(pkcs8), KEY_PACKAGE, delivery.signer())
    if asked.asymmetric_key_id is not None:
        holder = _holder(db, target, asked.asymmetric_key_id)
        return envelop(
            package,
            holder.der,
            ephemeral=ec.generate_private_key,
            random_bytes=delivery.random_bytes,
            content_type=SIGNED_DATA,
        )
    identifier, key = transport_key(delivery.transport_secret, target.device)
    if asked.decrypt_key_id != identifier:
        raise _unknown_key(target)
    return envelop_under(
        package, identifier, key, random_bytes=delivery.random_bytes, content_type=SIGNED_DATA
    )


def _holder(db: Database, target: DeviceView, key_id: bytes) -> Certificate:
    """The device's certificate whose key has this identifier, if it was not revoked."""
    device = target.device
    with db.read() as tx:
        identity = reads.latest_certificate(tx, device.tenant_id, device.id, Purpose.IDENTITY)
    for held in (identity, target.service):
        if held is None or held.revocation is not None:
            continue
        key = x509.load_der_x509_certificate(held.der).public_key()
        # RFC 5280 4.2.1.2 (1), RFC 7093 2 (1), and the whole SubjectPublicKeyInfo's SHA-256.
        short = x509.SubjectKeyIdentifier.from_public_key(key).digest
        spki = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        if key_id in (short, public_key(spki).key_id, bytes.fromhex(held.key_fingerprint)):
            return held
    raise _unknown_key(target)


def _unknown_key(target: DeviceView) -> Refused:
    return Refused(
        "decrypt-key-unknown",
        f"device {target.device.serial_number} has no key with the identifier that the CSR names",
    )
