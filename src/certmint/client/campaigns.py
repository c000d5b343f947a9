"""Operations on campaigns, and the words to draft one with."""

import dataclasses
import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from certmint.client.calls import Calls, path, said
from certmint.client.pages import Listing
from certmint.client.transport import Request


@dataclass(frozen=True)
class Selection:
    """Which certificates: all that is given must hold. Names as people know them.

    `purpose` is service, identity or any; `keys` are SHA-256 of SubjectPublicKeyInfos in hex.
    """

    product: str | None = None
    batch: str | None = None
    firmware: str | None = None
    authority: str | None = None
    profile: str | None = None
    key_kind: str | None = None
    purpose: str = "service"
    keys: tuple[str, ...] = ()
    serial_numbers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What to do, `replace` or `revoke`, and until when. Times have a zone; `grace` is in seconds.

    `starts_at` None: now. `after_replacing` is keep or revoke, `at_deadline` report or revoke.
    """

    kind: str
    deadline: dt.datetime
    starts_at: dt.datetime | None = None
    reason: str = "superseded"
    after_replacing: str = "keep"
    grace: int = 0
    at_deadline: str = "report"
    explanation_url: str = ""

    def __post_init__(self) -> None:
        for moment in (self.deadline, self.starts_at):
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{moment} has no time zone: say datetime(…, tzinfo=UTC)")


@dataclass(frozen=True)
class Campaign:
    """A campaign and its progress, counted in certificates."""

    id: str
    name: str
    kind: str
    state: str
    starts_at: dt.datetime
    deadline: dt.datetime
    reason: str
    after_replacing: str
    grace: int
    at_deadline: str
    explanation_url: str
    created_at: dt.datetime
    created_by: str
    approved_by: str
    size: int
    pending: int
    replaced: int
    retired: int
    revoked: int
    missed: int
    gone: int


@dataclass(frozen=True)
class CampaignPreview(Campaign):
    """A campaign, and what its selection chooses at this moment; `samples` are serials."""

    devices: int
    certificates: int
    by_device_state: dict[str, int]
    samples: tuple[str, ...]
    needs_approval: bool


class Campaigns(Calls):
    def list_campaigns(self) -> Listing[Campaign]:
        """Oldest first."""
        return self._list(Campaign, "/campaigns")

    def show_campaign(self, campaign_id: str) -> Campaign:
        return self._show(Campaign, path("campaigns", campaign_id))

    def create_campaign(self, name: str, selection: Selection, plan: Plan) -> CampaignPreview:
        """Draft a campaign; the answer says what it would touch. Nothing happens before `start`."""
        body = {
            "name": name,
            "selection": said(**dataclasses.asdict(selection)),
            "plan": said(
                **dataclasses.asdict(plan)
                | {
                    "deadline": plan.deadline.isoformat(),
                    "starts_at": plan.starts_at.isoformat() if plan.starts_at else None,
                }
            ),
        }
        return self._make(CampaignPreview, "/campaigns", body)

    def preview_campaign(self, campaign_id: str) -> CampaignPreview:
        """What its selection chooses at this moment."""
        return self._show(CampaignPreview, path("campaigns", campaign_id, "preview"))

    def report_campaign(self, campaign_id: str) -> Iterator[dict[str, Any]]:
        """What became of every certificate, as it comes."""
        request = Request("GET", path("campaigns", campaign_id, "report"), is_repeatable=True)
        with self._transport.stream(request) as incoming:
            for line in incoming.lines():
                yield json.loads(line)

    def start_campaign(self, campaign_id: str) -> Campaign:
        """Begin a draft; one that revokes, or is large, waits for a second operator."""
        return self._make(Campaign, path("campaigns", campaign_id, "start"))

    def approve_campaign(self, campaign_id: str) -> Campaign:
        """Agree to a campaign that somebody else drafted, which begins it."""
        return self._make(Campaign, path("campaigns", campaign_id, "approval"))

    def pause_campaign(self, campaign_id: str) -> Campaign:
        return self._make(Campaign, path("campaigns", campaign_id, "pause"))

    def resume_campaign(self, campaign_id: str) -> Campaign:
        return self._make(Campaign, path("campaigns", campaign_id, "resumption"))

    def cancel_campaign(self, campaign_id: str) -> Campaign:
        """End it for good; what is done stays done."""
        return self._make(Campaign, path("campaigns", campaign_id, "cancellation"))

    def report_firmware(self, serial_number: str, firmware: str) -> None:
        """Note what a device runs, so that campaigns can choose by it."""
        headers = {"Content-Type": "application/json"}
        body = json.dumps({"firmware": firmware}).encode()
        where = path("devices", serial_number, "firmware")
        self._transport.call(Request("PUT", where, headers=headers, body=body, is_repeatable=True))
