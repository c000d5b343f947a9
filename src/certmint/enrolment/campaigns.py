"""Campaigns on the desk: drafting with a preview, starting, agreeing, pausing, reporting.

A preview counts and shows examples, and writes nothing but the draft. Whatever revokes, or touches
more devices than the installation says, waits for a second person. What happens after the start
is `campaigning`'s.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from certmint.enrolment.approvals import check_second
from certmint.enrolment.manufacturers import new_id
from certmint.model.campaign import (
    Campaign,
    CampaignEvent,
    CampaignState,
    Chosen,
    Member,
    Plan,
    Selection,
)
from certmint.model.entities import Certificate, Manufacturer
from certmint.model.errors import BadInput, Forbidden, NotFound
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

FOUR_EYES_ABOVE = 100  # devices, unless the installation says otherwise
SAMPLES = 5
MOST_FIRMWARE = 100  # characters
_PAGE = 1000


@dataclass(frozen=True)
class Preview:
    """A draft, how much it chooses now, some of it, and whether a second person has to agree."""

    campaign: Campaign
    chosen: Chosen
    samples: tuple[Certificate, ...]
    needs_approval: bool


def preview(
    db: Database,
    tenant: Manufacturer,
    name: str,
    selection: Selection,
    plan: Plan,
    *,
    by: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
    above: int = FOUR_EYES_ABOVE,
) -> Preview:
    """Draft a campaign and look at what it would do.

    Raises BadInput `campaign-name` or `campaign-plan`.
    """
    if not name or len(name) > 100 or not name.isprintable():
        raise BadInput("campaign-name", f"{name!r} is not a name of 1 to 100 characters")
    _check_deadline(plan, now)
    made = Campaign(
        id=new_id("cmp", now, random_bytes),
        tenant_id=tenant.id,
        name=name,
        selection=selection,
        plan=plan,
        state=CampaignState.DRAFT,
        created_at=now,
        created_by=by,
    )
    db.write(lambda tx: writes.add_campaign(tx, made, by=by, at=now))
    return look(db, tenant, made.id, now, above)


def look(
    db: Database,
    tenant: Manufacturer,
    campaign_id: str,
    now: dt.datetime,
    above: int = FOUR_EYES_ABOVE,
) -> Preview:
    """A campaign and what its selection chooses at this moment. Raises NotFound."""
    with db.read() as tx:
        found = _campaign(tx, tenant, campaign_id)
        chosen = reads.count_chosen(tx, tenant.id, found.selection, now)
        samples = reads.sample_chosen(tx, tenant.id, found.selection, now, SAMPLES)
    return Preview(found, chosen, tuple(samples), _needs_approval(found, chosen, above))


def _check_deadline(plan: Plan, now: dt.datetime) -> None:
    if plan.deadline <= now:
        raise BadInput("campaign-plan", f"the deadline {plan.deadline.isoformat()} is over")


def _needs_approval(found: Campaign, chosen: Chosen, above: int) -> bool:
    return found.plan.revokes or max(chosen.devices, chosen.certificates) > above


def start(
    db: Database,
    tenant: Manufacturer,
    campaign_id: str,
    *,
    by: str,
    now: dt.datetime,
    above: int = FOUR_EYES_ABOVE,
) -> Campaign:
    """Begin a draft, or ask for a second person's word.

    Raises NotFound `campaign-unknown`, WrongState `wrong-state`, BadInput `campaign-plan` for a
    deadline that is over.
    """
    seen = look(db, tenant, campaign_id, now, above)
    _check_deadline(seen.campaign.plan, now)
    event = CampaignEvent.SUBMITTED if seen.needs_approval else CampaignEvent.STARTED
    _move(db, seen.campaign, event, by, now, certificates=seen.chosen.certificates)
    return campaign(db, tenant, campaign_id)


def approve(
    db: Database, tenant: Manufacturer, campaign_id: str, *, by: str, now: dt.datetime
) -> Campaign:
    """The second person's word, which begins the campaign.

    Raises Forbidden `four-eyes` for whoever drafted it and `four-eyes-credentials` for whoever
    could hold their login, NotFound `campaign-unknown`, WrongState `wrong-state`, BadInput
    `campaign-plan` for a deadline that is over: nobody would have had the time to come.
    """
    found = campaign(db, tenant, campaign_id)
    if by == found.created_by:
        raise Forbidden(
            "four-eyes", f"campaign {found.name!r} was drafted by you: somebody else has to agree"
        )
    who, drafted_by = (each.removeprefix("operator:") for each in (by, found.created_by))
    check_second(db, tenant.id, who, drafted_by, now)
    if found.state is CampaignState.AWAITING_APPROVAL:
        _check_deadline(found.plan, now)
    _move(db, found, CampaignEvent.APPROVED, by, now, approved_by=by)
    return campaign(db, tenant, campaign_id)


def pause(
    db: Database, tenant: Manufacturer, campaign_id: str, *, by: str, now: dt.datetime
) -> Campaign:
    """Stop after the piece at hand; renewal windows are as planned again meanwhile."""
    return _moved(db, tenant, campaign_id, CampaignEvent.PAUSED, by, now)


def resume(
    db: Database, tenant: Manufacturer, campaign_id: str, *, by: str, now: dt.datetime
) -> Campaign:
    """Go on where it was paused."""
    return _moved(db, tenant, campaign_id, CampaignEvent.RESUMED, by, now)


def cancel(
    db: Database, tenant: Manufacturer, campaign_id: str, *, by: str, now: dt.datetime
) -> Campaign:
    """End it for good; what it has done stays done."""
    return _moved(db, tenant, campaign_id, CampaignEvent.CANCELLED, by, now)


def campaign(db: Database, tenant: Manufacturer, campaign_id: str) -> Campaign:
    """One campaign with its counts. Raises NotFound `campaign-unknown`."""
    with db.read() as tx:
        return _campaign(tx, tenant, campaign_id)


def report(db: Database, tenant: Manufacturer, campaign_id: str) -> Iterator[dict[str, object]]:
    """What became of every certificate, one after the other; reads a page at a time.

    Raises NotFound `campaign-unknown`.
    """
    campaign(db, tenant, campaign_id)
    after = ""
    while True:
        with db.read() as tx:
            page = reads.campaign_report(tx, tenant.id, campaign_id, after, _PAGE)
        for device, member in page:
            yield _line(device, member)
        if len(page) < _PAGE:
            return
        after = page[-1][1].serial


def _line(device: str | None, member: Member) -> dict[str, object]:
    return {
        "device": device,
        "serial": member.serial,
        "authority": member.authority_id,
        "outcome": member.state.value,
        "settled_at": member.settled_at.isoformat() if member.settled_at else None,
        "successor": member.successor,
    }


def report_firmware(
    db: Database,
    tenant: Manufacturer,
    serial_number: str,
    firmware: str,
    *,
    by: str,
    now: dt.datetime,
) -> bool:
    """Note what a device runs; False if that was known.

    Raises BadInput `firmware-syntax`, NotFound `device-unknown`.
    """
    if not firmware or len(firmware) > MOST_FIRMWARE or not firmware.isprintable():
        raise BadInput(
            "firmware-syntax",
            f"{firmware!r} is not a firmware version of 1 to {MOST_FIRMWARE} characters",
        )
    with db.read() as tx:
        device = reads.device_by_serial_number(tx, tenant.id, serial_number)
    if device is None:
        raise NotFound("device-unknown", f"there is no device {serial_number!r}")
    return db.write(
        lambda tx: writes.set_device_firmware(tx, tenant.id, device.id, firmware, by=by, at=now)
    )


def _campaign(tx: Transaction, tenant: Manufacturer, campaign_id: str) -> Campaign:
    found = reads.campaign(tx, tenant.id, campaign_id)
    if found is None:
        raise NotFound("campaign-unknown", f"there is no campaign {campaign_id!r}")
    return found


def _moved(
    db: Database,
    tenant: Manufacturer,
    campaign_id: str,
    event: CampaignEvent,
    by: str,
    now: dt.datetime,
) -> Campaign:
    """Raises NotFound `campaign-unknown`, WrongState `wrong-state`."""
    _move(db, campaign(db, tenant, campaign_id), event, by, now)
    return campaign(db, tenant, campaign_id)


def _move(
    db: Database,
    found: Campaign,
    event: CampaignEvent,
    by: str,
    now: dt.datetime,
    *,
    approved_by: str | None = None,
    **told: object,
) -> None:
    db.write(
        lambda tx: writes.move_campaign(
            tx, found.tenant_id, found.id, found.state, event,
            by=by, at=now, approved_by=approved_by, told=told,
        )
    )  # fmt: skip
