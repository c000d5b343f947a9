"""Reading campaigns: what they choose, what they call for, and what became of their members."""

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa

from certmint.model.campaign import (
    Call,
    Campaign,
    Chosen,
    Member,
    MemberState,
    Selection,
)
from certmint.model.entities import Certificate
from certmint.registry import campaign_rows, choice, rows, schema
from certmint.registry.compiled import CHUNK, Compiled
from certmint.registry.engine import Transaction
from certmint.registry.statements import chunks

_CAMPAIGN = schema.campaign.c
_MEMBER = schema.campaign_member.c
_CERTIFICATE = schema.certificate.c
_DEVICE = schema.device.c
_ACTIVE = sa.text("campaign.state IN ('gathering', 'running')")

_OF_CAMPAIGN = sa.and_(
    _MEMBER.tenant_id == _CAMPAIGN.tenant_id, _MEMBER.campaign_id == _CAMPAIGN.id
)
_CALL = Compiled(
    sa.select(
        _CAMPAIGN.id,
        _CAMPAIGN.kind,
        _CAMPAIGN.starts_at,
        _CAMPAIGN.deadline,
        _CAMPAIGN.explanation_url,
    )
    .select_from(schema.campaign_member.join(schema.campaign, _OF_CAMPAIGN))
    .where(
        _MEMBER.authority_id == sa.bindparam("authority_id"),
        _MEMBER.serial == sa.bindparam("serial"),
        _MEMBER.tenant_id == sa.bindparam("tenant_id"),
        _ACTIVE,
    )
    .order_by(_CAMPAIGN.deadline)
    .limit(1),
    settled=(schema.campaign, schema.campaign_member),
)


_LIVE = Compiled(
    sa.select(_CERTIFICATE.serial).where(
        _CERTIFICATE.authority_id == sa.bindparam("authority_id"),
        _CERTIFICATE.serial == sa.bindparam("serial"),
        _CERTIFICATE.tenant_id == sa.bindparam("tenant_id"),
        _CERTIFICATE.revoked_at.is_(None),
        _CERTIFICATE.not_after >= sa.bindparam("at"),
    )
)


# What was issued is read by its serials, and each member is found by its whole key: a join would
# leave it to SQLite, which knows nothing of how rows are spread, and then walks through them.
_ISSUED = Compiled(
    sa.select(
        _CERTIFICATE.authority_id,
        _CERTIFICATE.serial,
        _CERTIFICATE.device_id,
        _CERTIFICATE.purpose,
        schema.intent.c.replaces,
    )
    .select_from(
        schema.certificate.join(
            schema.intent,
            sa.and_(
                schema.intent.c.authority_id == _CERTIFICATE.authority_id,
                schema.intent.c.serial == _CERTIFICATE.serial,
            ),
        )
    )
    .where(
        _CERTIFICATE.tenant_id == sa.bindparam("tenant_id"),
        _CERTIFICATE.serial > sa.bindparam("after"),
        _CERTIFICATE.serial <= sa.bindparam("upto"),
        _CERTIFICATE.revoked_at.is_(None),
    )
    .order_by(_CERTIFICATE.serial)
)
_MEMBERS = (
    sa.select(schema.campaign_member, _CERTIFICATE.purpose)
    .select_from(
        schema.campaign_member.join(
            schema.certificate,
            sa.and_(
                _CERTIFICATE.authority_id == _MEMBER.authority_id,
                _CERTIFICATE.serial == _MEMBER.serial,
            ),
        )
    )
    .where(
        _MEMBER.tenant_id == sa.bindparam("tenant_id"),
        _MEMBER.campaign_id == sa.bindparam("campaign_id"),
    )
)
_OF_DEVICE = Compiled(_MEMBERS.where(_MEMBER.device_id == sa.bindparam("device_id")))
_OF_SERIAL = Compiled(_MEMBERS.where(_MEMBER.serial == sa.bindparam("serial")))


def campaign(tx: Transaction, tenant_id: str, campaign_id: str) -> Campaign | None:
    """One campaign."""
    query = sa.select(schema.campaign).where(
        _CAMPAIGN.tenant_id == tenant_id, _CAMPAIGN.id == campaign_id
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else campaign_rows.campaign_of(row)


def campaigns(
    tx: Transaction, tenant_id: str, after: str | None = None, limit: int = 100
) -> list[Campaign]:
    """The tenant's campaigns, oldest first; `after` is the last id of the page before."""
    query = sa.select(schema.campaign).where(_CAMPAIGN.tenant_id == tenant_id)
    if after is not None:
        query = query.where(_CAMPAIGN.id > after)
    found = tx.execute(query.order_by(_CAMPAIGN.id).limit(limit))
    return [campaign_rows.campaign_of(row) for row in found]


def active_campaigns(tx: Transaction) -> list[Campaign]:
    """Every tenant's campaigns that are gathered or worked off, by deadline."""
    query = sa.select(schema.campaign).where(_ACTIVE).order_by(_CAMPAIGN.deadline)
    return [campaign_rows.campaign_of(row) for row in tx.execute(query)]


def campaign_call(tx: Transaction, tenant_id: str, authority_id: str, serial: str) -> Call | None:
    """What a running campaign wants of this certificate; of several, the one that ends first."""
    row = _CALL.first(tx, tenant_id=tenant_id, authority_id=authority_id, serial=serial)
    return None if row is None else campaign_rows.call_of(row)


def count_chosen(tx: Transaction, tenant_id: str, selection: Selection, at: dt.datetime) -> Chosen:
    """How much is chosen at this moment."""
    columns = (
        _DEVICE.state,
        sa.func.count(sa.distinct(_DEVICE.id)),
        sa.func.count(),
    )
    devices, by_state = 0, dict[str, int]()
    for where in _pieces(tx, tenant_id, selection, at):
        query = sa.select(*columns).select_from(choice.WITH_DEVICE).where(*where)
        for state, different, certificates in tx.execute(query.group_by(_DEVICE.state)):
            devices += different
            name = state or "no device"
            by_state[name] = by_state.get(name, 0) + certificates
    return Chosen(devices, sum(by_state.values()), by_state)


def sample_chosen(
    tx: Transaction, tenant_id: str, selection: Selection, at: dt.datetime, limit: int = 5
) -> list[Certificate]:
    """Some of the chosen certificates, oldest first."""
    found: list[Certificate] = []
    for where in _pieces(tx, tenant_id, selection, at):
        query = (
            sa.select(schema.certificate)
            .select_from(choice.WITH_DEVICE)
            .where(*where)
            .order_by(_CERTIFICATE.serial)
            .limit(limit - len(found))
        )
        found += [rows.certificate_of(row) for row in tx.execute(query)]
        if len(found) >= limit:
            break
    return found


def _pieces(
    tx: Transaction, tenant_id: str, selection: Selection, at: dt.datetime
) -> list[list[sa.ColumnElement[bool]]]:
    where = choice.conditions(tx.dialect.name, tenant_id, selection, at)
    if not selection.serial_numbers:
        return [where]
    return [[*where, choice.listed(piece)] for piece in chunks(selection.serial_numbers)]


def campaign_members(
    tx: Transaction,
    tenant_id: str,
    campaign_id: str,
    *,
    state: MemberState | None = None,
    settled_before: dt.datetime | None = None,
    limit: int = CHUNK,
) -> list[Member]:
    """Some members in one state, those that were settled first; or before a moment."""
    query = sa.select(schema.campaign_member).where(
        _MEMBER.tenant_id == tenant_id, _MEMBER.campaign_id == campaign_id
    )
    if state is not None:
        query = query.where(_MEMBER.state == state.value)
    if settled_before is not None:
        query = query.where(_MEMBER.settled_at <= settled_before)
    found = tx.execute(query.order_by(_MEMBER.settled_at).limit(limit))
    return [campaign_rows.member_of(row) for row in found]


def campaign_report(
    tx: Transaction, tenant_id: str, campaign_id: str, after: str = "", limit: int = 1000
) -> list[tuple[str | None, Member]]:
    """Members with their devices' serial numbers, by serial; `after` is the last one seen."""
    of_device = sa.and_(_DEVICE.tenant_id == _MEMBER.tenant_id, _DEVICE.id == _MEMBER.device_id)
    query = (
        sa.select(schema.campaign_member, _DEVICE.serial_number)
        .select_from(schema.campaign_member.outerjoin(schema.device, of_device))
        .where(
            _MEMBER.tenant_id == tenant_id,
            _MEMBER.campaign_id == campaign_id,
            _MEMBER.serial > after,
        )
        .order_by(_MEMBER.serial)
        .limit(limit)
    )
    return [(row.serial_number, campaign_rows.member_of(row)) for row in tx.execute(query)]


def live_members(
    tx: Transaction, campaign: Campaign, members: Sequence[Member], at: dt.datetime
) -> set[str]:
    """The serials of those members whose certificates are neither revoked nor expired."""
    return {
        each.serial
        for each in members
        if _LIVE.first(
            tx,
            tenant_id=campaign.tenant_id,
            authority_id=each.authority_id,
            serial=each.serial,
            at=at,
        )
    }


def successors(
    tx: Transaction, campaign: Campaign, after: str, upto: str
) -> list[tuple[Member, str]]:
    """Pending members that were replaced by a certificate in (after, upto], and its serial.

    The successor is the same device's and for the same purpose, or names the member in its
    intent; it is live, and no member itself.
    """
    own = {"tenant_id": campaign.tenant_id, "campaign_id": campaign.id}
    found: dict[str, tuple[Member, str]] = {}
    for new in _ISSUED.all(tx, tenant_id=campaign.tenant_id, after=after, upto=upto):
        members: list[rows.Row] = []
        if new.device_id is not None:
            same = _OF_DEVICE.all(tx, **own, device_id=new.device_id)
            members += [each for each in same if each.purpose == new.purpose]
        if new.replaces is not None:
            members += _OF_SERIAL.all(tx, **own, serial=new.replaces)
        pending = [
            each
            for each in members
            if each.state == MemberState.PENDING and each.serial < new.serial
        ]
        if pending and not any(
            each.authority_id == new.authority_id
            for each in _OF_SERIAL.all(tx, **own, serial=new.serial)
        ):
            for each in pending:
                found.setdefault(each.serial, (campaign_rows.member_of(each), new.serial))
    return list(found.values())


def serial_after(tx: Transaction, tenant_id: str, after: str, count: int) -> str | None:
    """The serial `count` places behind `after`, or the tenant's last one; None if there is none."""
    beyond = (
        sa.select(_CERTIFICATE.serial)
        .where(_CERTIFICATE.tenant_id == tenant_id, _CERTIFICATE.serial > after)
        .order_by(_CERTIFICATE.serial)
    )
    found: str | None = tx.execute(beyond.offset(count - 1).limit(1)).scalar()
    if found is None:
        last = sa.select(sa.func.max(_CERTIFICATE.serial)).where(
            _CERTIFICATE.tenant_id == tenant_id, _CERTIFICATE.serial > after
        )
        found = tx.execute(last).scalar()
    return found
