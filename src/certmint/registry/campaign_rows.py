"""Campaigns' rows and values: one function there and one back."""

import datetime as dt
import json

from certmint.model.campaign import (
    AfterReplacing,
    AtDeadline,
    Call,
    Campaign,
    CampaignKind,
    CampaignState,
    Member,
    MemberState,
    Plan,
    Selection,
)
from certmint.model.entities import RevocationReason
from certmint.model.keys import KeyKind
from certmint.model.profile import Purpose
from certmint.model.serial import Serial
from certmint.registry.documents import canonical
from certmint.registry.rows import Row, Values

_MICROSECOND = dt.timedelta(microseconds=1)


def selection_text(selection: Selection) -> str:
    """A selection as canonical JSON; nobody searches in it."""
    return canonical({name: value for name, value in vars(selection).items() if value})


def selection_of(text: str) -> Selection:
    """The selection that `selection_text` wrote."""
    said = json.loads(text)
    return Selection(
        product_id=said.get("product_id"),
        batch_id=said.get("batch_id"),
        firmware=said.get("firmware"),
        authority_id=said.get("authority_id"),
        profile=said.get("profile"),
        key_kind=KeyKind(said["key_kind"]) if "key_kind" in said else None,
        purpose=Purpose(said["purpose"]) if "purpose" in said else None,
        key_fingerprints=tuple(said.get("key_fingerprints", ())),
        serial_numbers=tuple(said.get("serial_numbers", ())),
    )


def campaign_row(campaign: Campaign) -> Values:
    plan = vars(campaign.plan) | {
        "kind": campaign.plan.kind.value,
        "reason": campaign.plan.reason.value,
        "after_replacing": campaign.plan.after_replacing.value,
        "at_deadline": campaign.plan.at_deadline.value,
        "grace": campaign.plan.grace // _MICROSECOND,
    }
    own = {name: value for name, value in vars(campaign).items() if name != "plan"}
    changed = {"selection": selection_text(campaign.selection), "state": campaign.state.value}
    return own | plan | changed


def campaign_of(row: Row) -> Campaign:
    plan = Plan(
        kind=CampaignKind(row.kind),
        starts_at=row.starts_at,
        deadline=row.deadline,
        reason=RevocationReason(row.reason),
        after_replacing=AfterReplacing(row.after_replacing),
        grace=row.grace * _MICROSECOND,
        at_deadline=AtDeadline(row.at_deadline),
        explanation_url=row.explanation_url,
    )
    return Campaign(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        selection=selection_of(row.selection),
        plan=plan,
        state=CampaignState(row.state),
        created_at=row.created_at,
        created_by=row.created_by,
        approved_by=row.approved_by,
        begun_at=row.begun_at,
        gathered_to=row.gathered_to,
        seen_to=row.seen_to,
        size=row.size,
        replaced=row.replaced,
        retired=row.retired,
        revoked=row.revoked,
        missed=row.missed,
        gone=row.gone,
    )


def member_of(row: Row) -> Member:
    return Member(
        authority_id=row.authority_id,
        serial=Serial(row.serial),
        device_id=row.device_id,
        state=MemberState(row.state),
        settled_at=row.settled_at,
        successor=row.successor,
    )


def call_of(row: Row) -> Call:
    return Call(row.id, CampaignKind(row.kind), row.starts_at, row.deadline, row.explanation_url)
