"""Devices in service: who they are, what they may ask, who owns them."""

import datetime as dt
import threading
from dataclasses import dataclass

import argon2
from cryptography import x509

from certmint.enrolment.manufacturers import new_id
from certmint.model.entities import Certificate, Device, Manufacturer, Owner, Product
from certmint.model.errors import BadInput, Conflict, NotFound, Unauthenticated
from certmint.model.profile import Purpose
from certmint.model.serial import RandomBytes, serial_of
from certmint.model.states import DeviceEvent
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

_MIN_PASSWORD = 10
# Argon2id at argon2-cffi's defaults (RFC 9106, low-memory profile): 64 MiB and some 50 ms a
# check, so two at a time; more callers wait instead of exhausting memory.
_HASHER = argon2.PasswordHasher()
_HASHING = threading.Semaphore(2)
_ABSENT = _HASHER.hash("nobody has this password, but checking it takes as long")


def identify(db: Database, der: bytes) -> Certificate:
    """The certificate that a client showed in TLS, if this registry issued these very bytes.

    The TLS layer has proved possession of the key. Raises Unauthenticated `certificate-unknown`.
    """
    stranger = Unauthenticated("certificate-unknown", "the client certificate was not issued here")
    try:
        shown = x509.load_der_x509_certificate(der)
        key_id = shown.extensions.get_extension_for_class(
            x509.AuthorityKeyIdentifier
        ).value.key_identifier
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        raise stranger from None
    with db.read() as tx:
        issuer = reads.authority_by_key_id(tx, (key_id or b"").hex())
        if issuer is None:
            raise stranger
        found = reads.presented_certificate(tx, issuer.id, serial_of(shown.serial_number))
    if found is None or found.der != der:
        raise stranger
    return found


@dataclass(frozen=True)
class DeviceView:
    """A device, its product, and its newest service certificate."""

    device: Device
    product: Product
    service: Certificate | None


def view(db: Database, tenant_id: str, device_id: str) -> DeviceView:
    """Raises NotFound `device-unknown`."""
    with db.read() as tx:
        device = reads.device(tx, tenant_id, device_id)
        if device is None:
            raise NotFound("device-unknown", "there is no such device")
        return _view(tx, device)


def view_by_serial_number(db: Database, tenant_id: str, serial_number: str) -> DeviceView:
    """Raises NotFound `device-unknown`."""
    with db.read() as tx:
        device = reads.device_by_serial_number(tx, tenant_id, serial_number)
        if device is None:
            raise NotFound("device-unknown", f"there is no device {serial_number!r}")
        return _view(tx, device)


def _view(tx: Transaction, device: Device) -> DeviceView:
    product = reads.product(tx, device.tenant_id, device.product_id)
    if product is None:
        raise NotFound("product-unknown", f"device {device.serial_number} has no product")
    newest = reads.latest_certificate(tx, device.tenant_id, device.id, Purpose.SERVICE)
    return DeviceView(device, product, newest)


def move(
    db: Database, tenant_id: str, serial_number: str, event: DeviceEvent, *, by: str,
    now: dt.datetime,
) -> Device:  # fmt: skip
    """Suspend or resume a device. Raises NotFound `device-unknown`, WrongState `wrong-state`."""
    device = view_by_serial_number(db, tenant_id, serial_number).device
    db.write(
        lambda tx: writes.move_device(tx, tenant_id, device.id, device.state, event, by=by, at=now)
    )
    return view(db, tenant_id, device.id).device


def add_owner(
    db: Database,
    tenant: Manufacturer,
    username: str,
    password: str,
    *,
    by: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> Owner:
    """A customer's account. Raises BadInput `owner-syntax`, Conflict `owner-exists`."""
    if not 1 <= len(username) <= 128 or ":" in username or not username.isprintable():
        raise BadInput("owner-syntax", "a user name has 1 to 128 characters, and no colon")
    if len(password) < _MIN_PASSWORD:
        raise BadInput("owner-syntax", f"the password is shorter than {_MIN_PASSWORD} characters")
    made = Owner(new_id("own", now, random_bytes), tenant.id, username, now)
    with _HASHING:
        hashed = _HASHER.hash(password)
    db.write(lambda tx: writes.add_owner(tx, made, hashed, by=by, at=now))
    return made


def login(db: Database, tenant_slug: str, username: str, password: str) -> Owner:
    """The owner with these credentials. Raises Unauthenticated `login-failed`.

    An unknown user costs the same time as a wrong password.
    """
    with db.read() as tx:
        tenant = reads.manufacturer_by_slug(tx, tenant_slug)
        found = reads.owner_credentials(tx, tenant.id, username) if tenant else None
    hashed = found[1] if found else _ABSENT
    with _HASHING:
        try:
            _HASHER.verify(hashed, password)
            matches = True
        except argon2.exceptions.VerificationError:
            matches = False
    if found is None or not matches:
        raise Unauthenticated("login-failed", "the user name or the password is wrong")
    return found[0]


def claim(
    db: Database,
    tenant: Manufacturer,
    serial_number: str,
    username: str,
    *,
    by: str,
    now: dt.datetime,
) -> Device:
    """Make an account the owner of a device that has none.

    Raises NotFound `device-unknown` or `owner-unknown`, Conflict `device-claimed`.
    """
    with db.read() as tx:
        device = reads.device_by_serial_number(tx, tenant.id, serial_number)
        found = reads.owner_credentials(tx, tenant.id, username)
    if device is None:
        raise NotFound("device-unknown", f"there is no device {serial_number!r}")
    if found is None:
        raise NotFound("owner-unknown", f"there is no owner {username!r}")
    if device.owner_id is not None:
        raise Conflict("device-claimed", f"device {serial_number} has an owner already")
    db.write(
        lambda tx: writes.set_device_owner(
            tx, tenant.id, device.id, found[0].id, None, by=by, at=now
        )
    )
    return view(db, tenant.id, device.id).device
