"""What a campaign's selection means in SQL: conditions on certificates and their devices.

A key's kind is found in the certificate itself: the fixed octets before the key stand nowhere
else in it. No index helps there, so such a selection is read through, in pieces.
"""

import datetime as dt

import sqlalchemy as sa

from certmint.model.campaign import DEVICE_PURPOSES, Selection
from certmint.model.keys import SPKI_PREFIX, KeyKind
from certmint.registry import schema

_CERTIFICATE = schema.certificate.c
_DEVICE = schema.device.c
_RSA = {
    KeyKind.RSA2048: bytes.fromhex("30820122300d06092a864886f70d010101050003"),
    KeyKind.RSA3072: bytes.fromhex("308201a2300d06092a864886f70d010101050003"),
    KeyKind.RSA4096: bytes.fromhex("30820222300d06092a864886f70d010101050003"),
}
_MARKS = {**SPKI_PREFIX, **_RSA}

WITH_DEVICE = schema.certificate.outerjoin(
    schema.device,
    sa.and_(_CERTIFICATE.tenant_id == _DEVICE.tenant_id, _CERTIFICATE.device_id == _DEVICE.id),
)


def conditions(
    dialect: str, tenant_id: str, selection: Selection, at: dt.datetime
) -> list[sa.ColumnElement[bool]]:
    """What holds for the certificates that are chosen and live at that moment.

    The serial numbers of the devices are left out: they come in pieces, by `listed`.
    """
    found: list[sa.ColumnElement[bool]] = [
        _CERTIFICATE.tenant_id == tenant_id,
        _CERTIFICATE.revoked_at.is_(None),
        _CERTIFICATE.not_after >= at,
        _CERTIFICATE.issued_at <= at,
    ]
    purposes = DEVICE_PURPOSES if selection.purpose is None else (selection.purpose,)
    found.append(_CERTIFICATE.purpose.in_([each.value for each in purposes]))
    for column, value in (
        (_DEVICE.product_id, selection.product_id),
        (_DEVICE.batch_id, selection.batch_id),
        (_DEVICE.firmware, selection.firmware),
        (_CERTIFICATE.authority_id, selection.authority_id),
        (_CERTIFICATE.profile, selection.profile),
    ):
        if value is not None:
            found.append(column == value)
    if selection.key_fingerprints:
        found.append(_CERTIFICATE.key_fingerprint.in_(selection.key_fingerprints))
    if selection.key_kind is not None:
        found.append(_holds(dialect, _MARKS[selection.key_kind]))
    return found


def listed(serial_numbers: list[str]) -> sa.ColumnElement[bool]:
    """The certificates of devices with one of these serial numbers."""
    return _DEVICE.serial_number.in_(serial_numbers)


def _holds(dialect: str, octets: bytes) -> sa.ColumnElement[bool]:
    if dialect == "sqlite":
        return sa.func.instr(_CERTIFICATE.der, octets) > 0
    return sa.func.pg_catalog.position(_CERTIFICATE.der, octets) > 0
