"""Writing campaigns: their states, their members piece by piece, and what becomes of those.

Laws: one call is one short transaction's work, whatever the size of the campaign; members move by
compare-and-set, and the campaign's counts move with them; a piece that was written is never done
again, so a campaign goes on after a crash where the last commit was.
"""

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from certmint.model.campaign import (
    CAMPAIGN,
    MEMBER,
    Campaign,
    CampaignEvent,
    CampaignState,
    Member,
    MemberState,
)
from certmint.model.entities import RevocationReason
from certmint.model.errors import Conflict, NotFound, WrongState
from certmint.model.states import after
from certmint.registry import campaign_rows, choice, schema
from certmint.registry.compiled import Compiled
from certmint.registry.engine import Transaction
from certmint.registry.statements import add, count, log
from certmint.registry.writes.intents import NAMED_SERIALS

_CAMPAIGN = schema.campaign.c
_MEMBER = schema.campaign_member.c
_CERTIFICATE = schema.certificate.c
_DEVICE = schema.device.c

# By their whole keys, one after the other: a list of serials beside the state makes SQLite, which
# knows nothing of how the rows are spread, walk through all members of that state.
_MOVE = Compiled(
    sa.update(schema.campaign_member)
    .where(
        _MEMBER.tenant_id == sa.bindparam("of_tenant"),
        _MEMBER.campaign_id == sa.bindparam("of_campaign"),
        _MEMBER.serial == sa.bindparam("of_serial"),
        _MEMBER.authority_id == sa.bindparam("of_authority"),
        _MEMBER.state == sa.bindparam("before"),
    )
    .values(
        state=sa.bindparam("new_state"),
        settled_at=sa.bindparam("new_settled_at"),
        successor=sa.bindparam("new_successor"),
    )
)
_REVOKE = Compiled(
    sa.update(schema.certificate)
    .where(
        _CERTIFICATE.authority_id == sa.bindparam("of_authority"),
        _CERTIFICATE.serial == sa.bindparam("of_serial"),
        _CERTIFICATE.tenant_id == sa.bindparam("of_tenant"),
        _CERTIFICATE.revoked_at.is_(None),
        _CERTIFICATE.not_after >= sa.bindparam("at"),
    )
    .values(revoked_at=sa.bindparam("at"), revocation_reason=sa.bindparam("reason"))
)


def add_campaign(tx: Transaction, campaign: Campaign, *, by: str, at: dt.datetime) -> None:
    """A new draft. Raises Conflict `campaign-exists`."""
    taken = Conflict("campaign-exists", f"there is a campaign {campaign.id!r} already")
    add(tx, schema.campaign, campaign_rows.campaign_row(campaign), taken)
    log(
        tx, "campaign.drafted", campaign.tenant_id, campaign.id,
        by=by, at=at, name=campaign.name, kind=campaign.plan.kind.value,
        deadline=campaign.plan.deadline.isoformat(), reason=campaign.plan.reason.value,
        selection=campaign_rows.selection_text(campaign.selection)[:4000],
    )  # fmt: skip


def move_campaign(
    tx: Transaction,
    tenant_id: str,
    campaign_id: str,
    state: CampaignState,
    event: CampaignEvent,
    *,
    by: str,
    at: dt.datetime,
    approved_by: str | None = None,
    told: Mapping[str, object] | None = None,
) -> None:
    """One move of its table; what leaves the desk begins `at`. The audit log is `told` the rest.

    Raises WrongState `wrong-state`, also when somebody else moved it first.
    """
    target = after(CAMPAIGN, state, event)
    values: dict[str, object] = {"state": target.value}
    if target is CampaignState.GATHERING and event is not CampaignEvent.RESUMED:
        values["begun_at"] = at
    if approved_by is not None:
        values["approved_by"] = approved_by
    moved = count(
        tx,
        sa.update(schema.campaign)
        .where(
            _CAMPAIGN.tenant_id == tenant_id,
            _CAMPAIGN.id == campaign_id,
            _CAMPAIGN.state == state.value,
        )
        .values(**values),
    )
    if not moved:
        raise WrongState("wrong-state", f"campaign {campaign_id!r} is no longer {state}")
    log(tx, f"campaign.{event}", tenant_id, campaign_id, by=by, at=at, **(told or {}))


def gather_members(
    tx: Transaction, campaign: Campaign, upto: str, serial_numbers: Sequence[str], place: str
) -> int:
    """Write down the members of one piece, and how far that was; how many there were.

    The piece is every serial in (gathered_to, upto], or all certificates of the listed devices.
    Raises WrongState `wrong-state` if the campaign is not being gathered from there any more.
    """
    begun = campaign.begun_at or campaign.created_at
    where = choice.conditions(tx.dialect.name, campaign.tenant_id, campaign.selection, begun)
    if serial_numbers:
        where.append(choice.listed(list(serial_numbers)))
    else:
        where += [_CERTIFICATE.serial > campaign.gathered_to, _CERTIFICATE.serial <= upto]
    columns = (
        _CERTIFICATE.tenant_id,
        sa.literal(campaign.id).label("campaign_id"),
        _CERTIFICATE.authority_id,
        _CERTIFICATE.serial,
        _CERTIFICATE.device_id,
        sa.literal(MemberState.PENDING.value).label("state"),
    )
    chosen = sa.select(*columns).select_from(choice.WITH_DEVICE).where(*where)
    names = [column.name for column in columns]
    made = count(tx, sa.insert(schema.campaign_member).from_select(names, chosen))
    moved = count(
        tx,
        sa.update(schema.campaign)
        .where(
            _CAMPAIGN.tenant_id == campaign.tenant_id,
            _CAMPAIGN.id == campaign.id,
            _CAMPAIGN.state == CampaignState.GATHERING.value,
            _CAMPAIGN.gathered_to == campaign.gathered_to,
        )
        .values(gathered_to=place, size=_CAMPAIGN.size + made),
    )
    if not moved:  # a pause, or another node: the transaction takes the members back
        raise WrongState("wrong-state", f"campaign {campaign.id!r} is not being gathered any more")
    return made


def set_campaign_seen(tx: Transaction, campaign: Campaign, seen_to: str) -> bool:
    """Successors up to there were looked at. False if the campaign stands elsewhere by now."""
    return bool(
        count(
            tx,
            sa.update(schema.campaign)
            .where(
                _CAMPAIGN.tenant_id == campaign.tenant_id,
                _CAMPAIGN.id == campaign.id,
                _CAMPAIGN.seen_to == campaign.seen_to,
            )
            .values(seen_to=seen_to),
        )
    )


def settle_members(
    tx: Transaction,
    campaign: Campaign,
    state: MemberState,
    outcomes: Mapping[MemberState, Sequence[Member]],
    *,
    at: dt.datetime,
) -> int:
    """Move members of `state` to their outcomes, and count them; how many moved.

    Raises WrongState `wrong-state` for a move that MEMBER does not have, or if the campaign is
    not running any more.
    """
    moved = 0
    changes: dict[str, object] = {}
    for target, members in outcomes.items():
        if target not in MEMBER[state]:
            raise WrongState("wrong-state", f"a member that is {state} cannot be {target}")
        here = _move(tx, campaign, members, state, target, at)
        changes[target.value] = _CAMPAIGN[target.value] + here
        moved += here
    if state is not MemberState.PENDING:
        changes[state.value] = _CAMPAIGN[state.value] - moved
    running = count(
        tx,
        sa.update(schema.campaign)
        .where(
            _CAMPAIGN.tenant_id == campaign.tenant_id,
            _CAMPAIGN.id == campaign.id,
            _CAMPAIGN.state == CampaignState.RUNNING.value,
        )
        .values(**changes),
    )
    if not running:
        raise WrongState("wrong-state", f"campaign {campaign.id!r} does not run any more")
    return moved


def _move(
    tx: Transaction,
    campaign: Campaign,
    members: Sequence[Member],
    state: MemberState,
    target: MemberState,
    at: dt.datetime,
) -> int:
    rows = [
        {
            "of_tenant": campaign.tenant_id,
            "of_campaign": campaign.id,
            "of_authority": each.authority_id,
            "of_serial": each.serial,
            "before": state.value,
            "new_state": target.value,
            "new_settled_at": at,
            "new_successor": each.successor,
        }
        for each in members
    ]
    return _MOVE.run(tx, rows)


def revoke_members(
    tx: Transaction,
    campaign: Campaign,
    members: Sequence[Member],
    reason: RevocationReason,
    *,
    by: str,
    at: dt.datetime,
) -> list[Member]:
    """Revoke the certificates of these members that are still live; which they were.

    One audit event tells of all of them.
    """
    done = [
        each
        for each in members
        if _REVOKE.run(
            tx,
            {
                "of_tenant": campaign.tenant_id,
                "of_authority": each.authority_id,
                "of_serial": each.serial,
                "at": at,
                "reason": reason.value,
            },
        )
    ]
    if done:
        serials = sorted(each.serial for each in done)
        detail: dict[str, object] = {
            "digest": hashlib.sha256("".join(serials).encode()).hexdigest()
        }
        if len(serials) <= NAMED_SERIALS:
            detail["serials"] = serials
        log(
            tx, "certificates.revoked", campaign.tenant_id, campaign.id,
            by=by, at=at, count=len(done), reason=reason.value, **detail,
        )  # fmt: skip
    return done


def set_device_firmware(
    tx: Transaction, tenant_id: str, device_id: str, firmware: str, *, by: str, at: dt.datetime
) -> bool:
    """What the device reports of its firmware; False, and nothing written, if that was known.

    Raises NotFound `device-unknown`.
    """
    known = tx.execute(
        sa.select(_DEVICE.firmware).where(_DEVICE.tenant_id == tenant_id, _DEVICE.id == device_id)
    ).one_or_none()
    if known is None:
        raise NotFound("device-unknown", "there is no such device")
    if known.firmware == firmware:
        return False
    tx.execute(
        sa.update(schema.device)
        .where(_DEVICE.tenant_id == tenant_id, _DEVICE.id == device_id)
        .values(firmware=firmware)
    )
    log(tx, "device.firmware", tenant_id, device_id, by=by, at=at, firmware=firmware)
    return True
