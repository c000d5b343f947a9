"""Operators' routes for campaigns: drafting with a preview, starting, agreeing, steering."""

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from certmint.doors.rest import campaign_views as views
from certmint.doors.rest.callers import Services
from certmint.doors.rest.listing import NDJSON, After, Limit, Page, listing
from certmint.doors.rest.people import LISTED
from certmint.doors.rest.routing import Me, linked
from certmint.enrolment import campaigns
from certmint.enrolment.access import Entrance
from certmint.enrolment.authorities import authority_named
from certmint.enrolment.products import product_named
from certmint.model.campaign import Campaign, Selection
from certmint.registry import reads

_ONE = "/campaigns/{campaign_id}"
_LINES: dict[int | str, dict[str, Any]] = {
    200: {"content": {NDJSON: {"schema": {"type": "string"}}}}
}


def campaign_routes(services: Services, router: APIRouter) -> None:
    """Add the routes to `router`."""
    _drafting_routes(services, router)
    _steering_routes(services, router)


def _drafting_routes(services: Services, router: APIRouter) -> None:
    db, clock, above = services.db, services.clock, services.four_eyes_above

    @router.get("/campaigns", dependencies=LISTED)
    def list_campaigns(
        me: Me, request: Request, response: Response, after: After = None, limit: Limit = 100
    ) -> Page[views.CampaignView]:
        """Campaigns with their progress, oldest first."""
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: reads.campaigns(
                tx, me.tenant.id, after=last or "", limit=count
            ),
            views.CampaignView.of, lambda each: each.id, after, limit,
        )  # fmt: skip

    @router.post(
        "/campaigns",
        status_code=201,
        responses=linked(
            201, "campaign_id=id", "show_campaign", "start_campaign", "cancel_campaign"
        ),
    )
    def create_campaign(me: Me, body: views.CampaignBody, response: Response) -> views.PreviewView:
        """Draft a campaign, and say what it would touch; nothing happens before it is started."""
        seen = campaigns.preview(
            db, me.tenant, body.name, _selection(services, me, body.selection),
            body.plan.planned(clock()), by=me.by, now=clock(),
            random_bytes=services.random_bytes, above=above,
        )  # fmt: skip
        response.headers["Location"] = f"/api/v1/campaigns/{seen.campaign.id}"
        return views.PreviewView.seen(seen)

    @router.get(_ONE, dependencies=LISTED)
    def show_campaign(me: Me, campaign_id: str) -> views.CampaignView:
        """One campaign: its plan, and what became of its members."""
        return views.CampaignView.of(campaigns.campaign(db, me.tenant, campaign_id))

    @router.get(_ONE + "/preview", dependencies=LISTED)
    def preview_campaign(me: Me, campaign_id: str) -> views.PreviewView:
        """What its selection chooses at this moment."""
        return views.PreviewView.seen(campaigns.look(db, me.tenant, campaign_id, clock(), above))

    @router.get(_ONE + "/report", response_class=StreamingResponse, responses=_LINES)
    def report_campaign(me: Me, campaign_id: str) -> StreamingResponse:
        """What became of every certificate, a line each."""
        campaigns.campaign(db, me.tenant, campaign_id)  # refused before the answer begins
        lines = campaigns.report(db, me.tenant, campaign_id)
        return StreamingResponse(
            (json.dumps(line).encode() + b"\n" for line in lines), media_type=NDJSON
        )


def _selection(services: Services, me: Entrance, body: views.SelectionBody) -> Selection:
    """By names as people know them. Raises NotFound, BadInput `campaign-selection`."""
    product = product_named(services.db, me.tenant, body.product).id if body.product else None
    authority = None
    if body.authority:
        with services.db.read() as tx:
            authority = authority_named(tx, me.tenant.id, body.authority).id
    return Selection(
        product_id=product,
        batch_id=body.batch,
        firmware=body.firmware,
        authority_id=authority,
        profile=body.profile,
        key_kind=body.key_kind,
        purpose=body.chosen_purpose,
        key_fingerprints=body.keys,
        serial_numbers=tuple(dict.fromkeys(body.serial_numbers)),
    )


def _steering_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    def moved(move: Callable[..., Campaign], me: Entrance, campaign_id: str) -> views.CampaignView:
        now: dt.datetime = clock()
        return views.CampaignView.of(move(db, me.tenant, campaign_id, by=me.by, now=now))

    @router.post(_ONE + "/start")
    def start_campaign(me: Me, campaign_id: str) -> views.CampaignView:
        """Begin a draft; one that revokes, or is large, waits for a second operator."""
        return views.CampaignView.of(
            campaigns.start(
                db, me.tenant, campaign_id, by=me.by, now=clock(),
                above=services.four_eyes_above,
            )
        )  # fmt: skip

    @router.post(_ONE + "/approval")
    def approve_campaign(me: Me, campaign_id: str) -> views.CampaignView:
        """Agree to a campaign that somebody else drafted, which begins it."""
        return moved(campaigns.approve, me, campaign_id)

    @router.post(_ONE + "/pause")
    def pause_campaign(me: Me, campaign_id: str) -> views.CampaignView:
        """Stop after the piece at hand; renewal windows are as planned again meanwhile."""
        return moved(campaigns.pause, me, campaign_id)

    @router.post(_ONE + "/resumption")
    def resume_campaign(me: Me, campaign_id: str) -> views.CampaignView:
        """Go on where it was paused."""
        return moved(campaigns.resume, me, campaign_id)

    @router.post(_ONE + "/cancellation")
    def cancel_campaign(me: Me, campaign_id: str) -> views.CampaignView:
        """End it for good; what is done stays done."""
        return moved(campaigns.cancel, me, campaign_id)

    @router.put("/devices/{serial_number:path}/firmware", status_code=204)
    def report_firmware(me: Me, serial_number: str, body: views.FirmwareBody) -> None:
        """Note what a device runs, so that campaigns can choose by it."""
        campaigns.report_firmware(
            db, me.tenant, serial_number, body.firmware, by=me.by, now=clock()
        )
