"""Whose device it is: claimed by its label or by presence, handed on, released, retired.

Laws: a device has one owner or none, and each move is one compare-and-set on that owner; after it
the login of the one before buys nothing, since policy asks who the owner is at that moment. To
claim takes the code on the label, or the device itself: it names, over TLS and by its identity, a
short code that the owner was shown minutes before. Nobody learns here which devices others own.
"""

import datetime as dt
import hmac

from certmint.enrolment import logins, secrets
from certmint.enrolment.revocation import retire_device
from certmint.enrolment.secrets import ALPHABET, LabelKind
from certmint.enrolment.signing import SigningKeys
from certmint.model.entities import Certificate, Device, Owner
from certmint.model.errors import Conflict, NotFound, Refused, Unauthenticated
from certmint.model.profile import Purpose
from certmint.model.serial import RandomBytes
from certmint.model.states import (
    OWNERSHIP,
    DeviceState,
    OwnershipEvent,
    OwnershipState,
    after,
)
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction
from certmint.registry.reads.askers import Pairing, Transfer

PAIRING_LIFE = dt.timedelta(minutes=10)
OFFER_LIFE = dt.timedelta(days=7)
_CODE_SIZE = 6


def claim_by_code(
    db: Database, owner: Owner, serial_number: str, typed: str, key: bytes, source: str,
    now: dt.datetime,
) -> Device:  # fmt: skip
    """Make the owner of the label's code the owner of its device.

    Raises Unauthenticated `secret-wrong` (also for an unknown device), TooOften `login-locked`,
    Conflict `device-claimed`, Refused `device-state`.
    """
    device = _find(db, owner.tenant_id, serial_number)
    whose = f"{owner.tenant_id}/{serial_number}"
    secrets.check(db, key, LabelKind.CLAIM, device, whose, typed, source, now)
    if device is None:
        raise NotFound("device-unknown", f"there is no device {serial_number!r}")
    return _claim(db, device, owner.id, by=f"owner:{owner.id}", now=now)


def begin_pairing(
    db: Database, owner: Owner, serial_number: str, key: bytes, now: dt.datetime,
    random_bytes: RandomBytes,
) -> tuple[str, dt.datetime]:  # fmt: skip
    """A short code for the owner to have the device name, and when it ends.

    Raises NotFound `device-unknown` for a device that is not there, in service and unclaimed.
    """
    device = _find(db, owner.tenant_id, serial_number)
    if device is None or device.owner_id is not None or not _is_in_service(device):
        raise NotFound("device-unknown", f"there is no device {serial_number!r} to be claimed")
    letters = "".join(ALPHABET[octet % 32] for octet in random_bytes(_CODE_SIZE))
    code = f"{letters[:3]}-{letters[3:]}"
    wait = Pairing(owner.id, _pairing_mac(key, device, code), now + PAIRING_LIFE)
    by = f"owner:{owner.id}"
    db.write(lambda tx: writes.set_pairing(tx, device.tenant_id, device.id, wait, by=by, at=now))
    return code, wait.expires_at


def confirm_pairing(
    db: Database, shown: Certificate, code: str, key: bytes, now: dt.datetime
) -> Device:
    """The device names the code that its owner was shown; `shown` is proved by TLS.

    Raises Unauthenticated `pairing-wrong`, TooOften `login-locked`, Conflict `device-claimed`,
    Refused `device-state`, `evidence-revoked`, `evidence-expired` or `identity-required`.
    """
    check_identity(shown, now)
    with db.read() as tx:
        device = reads.device(tx, shown.tenant_id, shown.device_id or "")
        waiting = reads.device_pairings(tx, shown.tenant_id, shown.device_id or "", now)
        # Only the device itself comes this far, so it can lock out nobody but itself.
        subject = logins.subject_of("pairing", shown.device_id or "", "")
        logins.refuse_early(tx, subject, now)
    if device is None:
        raise NotFound("device-unknown", "there is no such device")
    mac = _pairing_mac(key, device, code)
    for each in waiting:
        if hmac.compare_digest(each.mac, mac):
            logins.succeeded(db, subject)
            return _claim(db, device, each.owner_id, by=f"device:{device.id}", now=now)
    logins.failed(db, subject, now)
    raise Unauthenticated("pairing-wrong", "nobody waits for this device with that code")


def claim_by_login(db: Database, shown: Certificate, owner: Owner, now: dt.datetime) -> None:
    """The owner logged in for the very device that shows its identity: it is theirs, if nobody's.

    Raises Conflict `device-claimed` for another's device, Refused `device-state`.
    """
    with db.read() as tx:
        device = reads.device(tx, shown.tenant_id, shown.device_id or "")
    if device is None:
        raise NotFound("device-unknown", "there is no such device")
    if device.owner_id != owner.id:
        _claim(db, device, owner.id, by=f"owner:{owner.id}", now=now)


def offer(
    db: Database, owner: Owner, serial_number: str, to_username: str, now: dt.datetime
) -> dt.datetime:
    """Offer a device to another owner; until when it can be accepted.

    Raises NotFound `device-unknown` for a device that is not the owner's, or `owner-unknown`.
    """

    def work(tx: Transaction) -> dt.datetime:
        device = _owned(tx, owner, serial_number)
        _move(tx, device, OwnershipEvent.OFFERED, now)
        found = reads.owner_credentials(tx, owner.tenant_id, to_username)
        if found is None or found[0].id == owner.id:
            raise NotFound("owner-unknown", f"there is no other owner {to_username!r}")
        standing = Transfer(device.id, owner.id, found[0].id, now + OFFER_LIFE)
        writes.set_transfer(tx, owner.tenant_id, standing, by=f"owner:{owner.id}", at=now)
        return standing.expires_at

    return db.write(work)


def withdraw(db: Database, owner: Owner, serial_number: str, now: dt.datetime) -> None:
    """Take an offer back. Raises NotFound `device-unknown`, WrongState `wrong-state`."""

    def work(tx: Transaction) -> None:
        device = _owned(tx, owner, serial_number)
        _move(tx, device, OwnershipEvent.WITHDRAWN, now)
        writes.drop_offers(tx, owner.tenant_id, device.id)

    db.write(work)


def accept(db: Database, owner: Owner, serial_number: str, now: dt.datetime) -> Device:
    """Take a device that was offered; from now on the old owner's login buys nothing.

    Raises NotFound `transfer-unknown`, Conflict `device-claimed`.
    """

    def work(tx: Transaction) -> str:
        device = reads.device_by_serial_number(tx, owner.tenant_id, serial_number)
        standing = reads.device_transfer(tx, owner.tenant_id, device.id, now) if device else None
        if device is None or standing is None or standing.to_owner_id != owner.id:
            raise NotFound("transfer-unknown", f"nobody offers you a device {serial_number!r}")
        _move(tx, device, OwnershipEvent.ACCEPTED, now)
        _hand_over(tx, device, owner.id, standing.from_owner_id, f"owner:{owner.id}", now)
        return device.id

    return _again(db, owner.tenant_id, db.write(work))


def release(
    db: Database, tenant_id: str, serial_number: str, owner: Owner | None, *, by: str,
    now: dt.datetime,
) -> Device:  # fmt: skip
    """Let a device go: it has no owner then. By its owner, or by an operator (`owner` is None).

    Raises NotFound `device-unknown`, WrongState `wrong-state`.
    """

    def work(tx: Transaction) -> str:
        if owner is not None:
            device = _owned(tx, owner, serial_number)
        else:
            found = reads.device_by_serial_number(tx, tenant_id, serial_number)
            if found is None:
                raise NotFound("device-unknown", f"there is no device {serial_number!r}")
            device = found
        _move(tx, device, OwnershipEvent.RELEASED, now)
        _hand_over(tx, device, None, device.owner_id, by, now)
        return device.id

    return _again(db, tenant_id, db.write(work))


def hand_on(
    db: Database, tenant_id: str, serial_number: str, to_username: str, *, by: str,
    now: dt.datetime,
) -> Device:  # fmt: skip
    """An operator hands a device from its owner to another one, who need not accept it.

    Raises NotFound `device-unknown` or `owner-unknown`, WrongState `wrong-state`.
    """

    def work(tx: Transaction) -> str:
        device = reads.device_by_serial_number(tx, tenant_id, serial_number)
        if device is None:
            raise NotFound("device-unknown", f"there is no device {serial_number!r}")
        found = reads.owner_credentials(tx, tenant_id, to_username)
        if found is None:
            raise NotFound("owner-unknown", f"there is no owner {to_username!r}")
        _move(tx, device, OwnershipEvent.OFFERED, now)
        _hand_over(tx, device, found[0].id, device.owner_id, by, now)
        return device.id

    return _again(db, tenant_id, db.write(work))


def retire(
    db: Database, keys: SigningKeys, owner: Owner, serial_number: str, now: dt.datetime
) -> Device:
    """The owner takes a device out of service for good; its certificates are revoked.

    Raises NotFound `device-unknown`, WrongState `wrong-state`.
    """
    with db.read() as tx:
        device = _owned(tx, owner, serial_number)
    retire_device(db, keys, owner.tenant_id, serial_number, by=f"owner:{owner.id}", now=now)
    return _again(db, owner.tenant_id, device.id)


def state_of(tx: Transaction, device: Device, now: dt.datetime) -> OwnershipState:
    """Where a device's ownership stands at this moment."""
    if device.owner_id is None:
        return OwnershipState.UNCLAIMED
    standing = reads.device_transfer(tx, device.tenant_id, device.id, now)
    return OwnershipState.OFFERED if standing else OwnershipState.OWNED


def check_identity(shown: Certificate, now: dt.datetime) -> None:
    """Whether a device's identity is good now, for what it does beside asking for certificates.

    Raises Refused `identity-required`, `evidence-revoked`, `evidence-expired`.
    """
    if shown.purpose is not Purpose.IDENTITY or shown.device_id is None:
        raise Refused("identity-required", "a device confirms with its identity certificate")
    if shown.revocation is not None:
        raise Refused("evidence-revoked", "the client certificate was revoked")
    if shown.is_expired(now) or now < shown.not_before:
        raise Refused("evidence-expired", "the client certificate is not valid now")


def _claim(db: Database, device: Device, owner_id: str, *, by: str, now: dt.datetime) -> Device:
    def work(tx: Transaction) -> None:
        now_is = reads.device(tx, device.tenant_id, device.id) or device
        if not _is_in_service(now_is):
            raise Refused("device-state", f"device {device.serial_number} is {now_is.state}")
        if now_is.owner_id is not None:
            raise Conflict("device-claimed", f"device {device.serial_number} has an owner already")
        _move(tx, now_is, OwnershipEvent.CLAIMED, now)
        _hand_over(tx, now_is, owner_id, None, by, now)

    db.write(work)
    return _again(db, device.tenant_id, device.id)


def _hand_over(
    tx: Transaction, device: Device, to: str | None, before: str | None, by: str, now: dt.datetime
) -> None:
    writes.set_device_owner(tx, device.tenant_id, device.id, to, before, by=by, at=now)
    writes.drop_offers(tx, device.tenant_id, device.id)


def _move(tx: Transaction, device: Device, event: OwnershipEvent, now: dt.datetime) -> None:
    after(OWNERSHIP, state_of(tx, device, now), event)


def _owned(tx: Transaction, owner: Owner, serial_number: str) -> Device:
    device = reads.device_by_serial_number(tx, owner.tenant_id, serial_number)
    if device is None or device.owner_id != owner.id:
        raise NotFound("device-unknown", f"you own no device {serial_number!r}")
    return device


def _is_in_service(device: Device) -> bool:
    return device.state in (DeviceState.PROVISIONED, DeviceState.ACTIVE)


def _find(db: Database, tenant_id: str, serial_number: str) -> Device | None:
    with db.read() as tx:
        return reads.device_by_serial_number(tx, tenant_id, serial_number)


def _again(db: Database, tenant_id: str, device_id: str) -> Device:
    with db.read() as tx:
        found = reads.device(tx, tenant_id, device_id)
    if found is None:
        raise NotFound("device-unknown", "there is no such device")
    return found


def _pairing_mac(key: bytes, device: Device, code: str) -> str:
    return secrets.mac(key, "pairing", device.id, code)
