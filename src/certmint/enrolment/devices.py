"""Devices in service: who they are, what they may ask, who owns them."""

import datetime as dt
import logging
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509

from certmint.enrolment.logins import password_hash
from certmint.enrolment.manufacturers import new_id
from certmint.model.campaign import Call
from certmint.model.entities import Certificate, Device, Manufacturer, Owner, Product
from certmint.model.errors import BadInput, Conflict, NotFound, Refused, Unauthenticated
from certmint.model.profile import Purpose
from certmint.model.serial import RandomBytes, Serial, serial_of
from certmint.model.states import DeviceEvent, DeviceState
from certmint.registry import audit, reads, writes
from certmint.registry.engine import Database, Transaction

CLONED = "cloned"  # why a device was suspended: its identity is in two places
_MIN_PASSWORD = 10

log = logging.getLogger("certmint.devices")


def identify(db: Database, der: bytes) -> Certificate:
    """The certificate that a client showed in TLS, if this registry issued these very bytes.

    The TLS layer has proved possession of the key. Raises Unauthenticated `certificate-unknown`.
    """
    stranger = Unauthenticated("certificate-unknown", "the client certificate was not issued here")
    said = _said_by(der)
    if said is None:
        raise stranger
    key_id, serial = said
    with db.read() as tx:
        issuer = reads.authority_by_key_id(tx, key_id)
        if issuer is None:
            raise stranger
        found = reads.presented_certificate(tx, issuer.id, serial)
    if found is None or found.der != der:
        raise stranger
    return found


@lru_cache(maxsize=1024)  # a connection that is kept shows the same certificate each time
def _said_by(der: bytes) -> tuple[str, Serial] | None:
    """The issuer's key identifier and the serial that a certificate names; None for nonsense."""
    try:
        shown = x509.load_der_x509_certificate(der)
        key_id = shown.extensions.get_extension_for_class(
            x509.AuthorityKeyIdentifier
        ).value.key_identifier
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return None
    return (key_id or b"").hex(), serial_of(shown.serial_number)


@dataclass(frozen=True)
class DeviceView:
    """A device, its product, its newest service certificate, and what a campaign wants of it."""

    device: Device
    product: Product
    service: Certificate | None
    call: Call | None = None


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
    call = None
    if newest is not None:
        call = reads.campaign_call(tx, device.tenant_id, newest.authority_id, newest.serial)
    return DeviceView(device, product, newest, call)


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


def quarantine(db: Database, device: Device, why: Refused, source: str, now: dt.datetime) -> None:
    """Suspend a device whose identity is in two places; an operator resumes it.

    Both the device and its clone have one row here, so both are out at once. If the process dies
    before this is durable, neither got anything, and the next request is refused the same way.
    """

    def work(tx: Transaction) -> bool:
        now_is = reads.device(tx, device.tenant_id, device.id)
        if now_is is None or now_is.state not in (DeviceState.PROVISIONED, DeviceState.ACTIVE):
            return False
        writes.move_device(
            tx, device.tenant_id, device.id, now_is.state, DeviceEvent.SUSPENDED,
            by=f"policy:{why.code}", at=now, reason=CLONED,
        )  # fmt: skip
        audit.append(
            tx,
            audit.Event(
                now, device.tenant_id, f"policy:{why.code}", "device.cloned", device.id,
                {"serial_number": device.serial_number, "source": source, "why": why.detail},
            ),
        )  # fmt: skip
        return True

    if db.write(work):
        log.error("ALERT: device %s is suspended: %s", device.serial_number, why.detail)


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
    hashed = password_hash(password)
    db.write(lambda tx: writes.add_owner(tx, made, hashed, by=by, at=now))
    return made


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
