"""Things of a manufacturer that take a few words to make: for the tests of tenancy."""

import datetime as dt
from typing import Any

from certmint.model.campaign import (
    Campaign,
    CampaignKind,
    CampaignState,
    Member,
    MemberState,
    Plan,
    Selection,
)
from certmint.model.entities import DeviceRequest, Sighting, Wish
from certmint.model.mail import DomainMail, MailState
from certmint.model.states import RequestState
from certmint.model.sws import Order, OrderState
from certmint.registry import writes
from certmint.registry.reads.askers import Transfer
from certmint.registry.reads.logins import DeviceLogin

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(days=1)


def campaign(tenant_id: str) -> Campaign:
    plan = Plan(CampaignKind.REVOKE, NOW, LATER)
    return Campaign(
        "cmp", tenant_id, "all", Selection(profile="service"), plan, CampaignState.GATHERING, NOW,
        "eve", begun_at=LATER,
    )  # fmt: skip


def member(things: Any) -> Member:
    return Member(things.maker.authority.id, things.certificate.serial, None, MemberState.PENDING)


def campaigning(maker: Any) -> None:
    """A campaign that has the certificate as its member."""
    made = campaign(maker.id)
    maker.write(writes.add_campaign, made)
    maker.db.write(lambda tx: writes.gather_members(tx, made, "f" * 40, (), "f" * 40))


def letter(validation: Any) -> DomainMail:
    """To a contact of the validated domain."""
    return DomainMail(
        "mail-1", validation.tenant_id, validation.id, "admin@example.com", "example.com", "hash",
        b"sealed", MailState.QUEUED, NOW, LATER, NOW,
    )  # fmt: skip


def waiting(device_id: str) -> DeviceLogin:
    return DeviceLogin(device_id, "dlg", "hash", b"code", 5, NOW, NOW, LATER)


def seen(device_id: str, source: str) -> Sighting:
    return Sighting(device_id, source, "key", NOW)


def offer(device_id: str, owner: Any) -> Transfer:
    return Transfer(device_id, owner.id, owner.id, LATER)


def asked(tenant_id: str, device_id: str) -> DeviceRequest:
    return DeviceRequest(
        "req", tenant_id, device_id, Wish.CERTIFICATE, "key", b"csr", "x", (), "", "",
        RequestState.PENDING, NOW, LATER,
    )  # fmt: skip


def bought(maker: Any, operator: Any) -> Order:
    """An order of an SWS client that waits for a proof."""
    return Order(
        "co-1", maker.id, operator.id, "106", 90, maker.authority.id, OrderState.WAITING_VALIDATION,
        NOW, csr=b"csr", names=("r1.example.com",), due_at=NOW,
    )  # fmt: skip
