"""What is printed on a device's label: its enrolment secret, and the code to claim it by.

Laws: a secret exists in the answer that made it and on the label; the registry has a MAC of it
under a key of the installation. The enrolment secret (75 bits) buys one certificate: it is spent
in the transaction that records the intent. The claim code (60 bits) makes an owner; it is not
spent, since the label outlives its owners, and works while the device has none.
"""

import datetime as dt
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from certmint.enrolment import logins
from certmint.model.entities import Device
from certmint.model.errors import Unauthenticated
from certmint.model.evidence import EnrolmentSecret
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

# Crockford's base 32: no I, L, O or U, and what people read instead of 0 and 1 is understood.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ_AS = str.maketrans("OIL", "011", " -_.\t")


class LabelKind(StrEnum):
    """What a label says."""

    ENROLMENT = "enrolment"
    CLAIM = "claim"


_GROUPS = {LabelKind.ENROLMENT: (3, 5), LabelKind.CLAIM: (3, 4)}


@dataclass(frozen=True)
class Label:
    """One device's label, for the printer."""

    serial_number: str
    enrolment_secret: str = field(repr=False)
    claim_code: str = field(repr=False)


def make_labels(
    db: Database,
    tenant_id: str,
    devices: Sequence[Device],
    key: bytes,
    *,
    by: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> list[Label]:
    """New secrets for these devices; what was on their labels before ends with the commit."""
    made = [
        Label(
            device.serial_number,
            new_secret(LabelKind.ENROLMENT, random_bytes),
            new_secret(LabelKind.CLAIM, random_bytes),
        )
        for device in devices
    ]

    def macs(kind: LabelKind) -> list[tuple[str, str]]:
        return [
            (device.id, mac(key, kind, device.id, _of(label, kind)))
            for device, label in zip(devices, made, strict=True)
        ]

    def work(tx: Transaction) -> None:
        for kind in LabelKind:
            writes.set_label_secrets(tx, tenant_id, kind.value, macs(kind), by=by, at=now)

    if devices:
        db.write(work)
    return made


def new_secret(kind: LabelKind, random_bytes: RandomBytes) -> str:
    """A fresh secret in groups, such as `7K3QF-9XW2M-BD4TC`."""
    groups, size = _GROUPS[kind]
    letters = "".join(ALPHABET[octet % 32] for octet in random_bytes(groups * size))
    return "-".join(letters[at : at + size] for at in range(0, len(letters), size))


def mac(key: bytes, kind: str, device_id: str, typed: str) -> str:
    """What the registry knows a secret by, however it was typed."""
    text = f"{kind}\0{device_id}\0{typed.upper().translate(_READ_AS)}"
    return hmac.digest(key, text.encode(), "sha256").hex()


def prove(
    db: Database, key: bytes, maker: str, serial_number: str, typed: str, source: str,
    now: dt.datetime,
) -> tuple[Device, EnrolmentSecret]:  # fmt: skip
    """The device whose enrolment secret this is, spent or not: policy weighs that.

    An unknown device is told like a wrong secret. Raises Unauthenticated `secret-wrong`, TooOften
    `login-locked`; neither touches what else the device can show.
    """
    with db.read() as tx:
        tenant = reads.manufacturer_by_slug(tx, maker)
        device = reads.device_by_serial_number(tx, tenant.id, serial_number) if tenant else None
    whose = f"{maker}/{serial_number}"
    spent_on = check(db, key, LabelKind.ENROLMENT, device, whose, typed, source, now)
    if device is None:
        raise _wrong()
    return device, EnrolmentSecret(device.serial_number, spent_on, now)


def check(
    db: Database, key: bytes, kind: LabelKind, device: Device | None, whose: str, typed: str,
    source: str, now: dt.datetime,
) -> str:  # fmt: skip
    """What the secret was spent on ("" for nothing), if it is the device's.

    Raises Unauthenticated `secret-wrong`, TooOften `login-locked`.
    """
    subject = logins.subject_of(kind.value, whose, source)
    with db.read() as tx:
        logins.refuse_early(tx, subject, now)
        stored = reads.label_secret(tx, device.tenant_id, device.id, kind.value) if device else None
    shown = mac(key, kind, device.id if device else "", typed)
    if not hmac.compare_digest(shown, stored.mac if stored else "") or stored is None:
        logins.failed(db, subject, now)
        raise _wrong()
    logins.succeeded(db, subject)
    return stored.spent_on


def _of(label: Label, kind: LabelKind) -> str:
    return label.enrolment_secret if kind is LabelKind.ENROLMENT else label.claim_code


def _wrong() -> Unauthenticated:
    return Unauthenticated("secret-wrong", "the serial number or the code of the label is wrong")
