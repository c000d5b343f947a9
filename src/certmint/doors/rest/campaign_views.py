"""The JSON of campaigns."""

import datetime as dt
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from certmint.doors.rest.views import RevocationBody
from certmint.enrolment.campaigns import Preview
from certmint.model.campaign import (
    AfterReplacing,
    AtDeadline,
    Campaign,
    CampaignKind,
    Plan,
)
from certmint.model.errors import BadInput
from certmint.model.keys import KeyKind
from certmint.model.profile import Purpose

_Short = Annotated[str, StringConstraints(min_length=1, max_length=100)]
_Serial = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Key = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SelectionBody(_Strict):
    """Which certificates: all that is given must hold. `keys` are SHA-256 of SPKIs in hex."""

    product: _Short | None = None
    batch: _Short | None = None
    firmware: _Short | None = None
    authority: _Short | None = None
    profile: _Short | None = None
    key_kind: KeyKind | None = None
    purpose: Literal["service", "identity", "any"] = "service"
    keys: tuple[_Key, ...] = Field(default=(), max_length=500)
    serial_numbers: tuple[_Serial, ...] = Field(default=(), max_length=10_000)

    @property
    def chosen_purpose(self) -> Purpose | None:
        return None if self.purpose == "any" else Purpose(self.purpose)


class PlanBody(RevocationBody):
    """What to do, and until when; `reason` is what revocations say. `grace` is in seconds."""

    kind: CampaignKind
    starts_at: dt.datetime | None = Field(default=None, description="now, without it")
    deadline: dt.datetime
    after_replacing: AfterReplacing = AfterReplacing.KEEP
    grace: int = Field(default=0, ge=0, le=366 * 86_400)
    at_deadline: AtDeadline = AtDeadline.REPORT
    explanation_url: str = Field(default="", max_length=512)

    def planned(self, now: dt.datetime) -> Plan:
        """Raises BadInput `campaign-plan`."""
        return Plan(
            kind=self.kind,
            starts_at=_utc(self.starts_at) if self.starts_at else now,
            deadline=_utc(self.deadline),
            reason=self.parsed(),
            after_replacing=self.after_replacing,
            grace=dt.timedelta(seconds=self.grace),
            at_deadline=self.at_deadline,
            explanation_url=self.explanation_url,
        )


def _utc(moment: dt.datetime) -> dt.datetime:
    try:
        return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
    except OverflowError:
        raise BadInput("campaign-plan", f"{moment.isoformat()} is after the year 9999") from None


class CampaignBody(_Strict):
    name: _Short
    selection: SelectionBody
    plan: PlanBody


class CampaignView(_Strict):
    """A campaign and its progress; the numbers are of certificates."""

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

    @classmethod
    def of(cls, found: Campaign) -> "CampaignView":
        plan = found.plan
        return cls(
            id=found.id, name=found.name, kind=plan.kind.value, state=found.state.value,
            starts_at=plan.starts_at, deadline=plan.deadline, reason=plan.reason.value,
            after_replacing=plan.after_replacing.value, grace=int(plan.grace.total_seconds()),
            at_deadline=plan.at_deadline.value, explanation_url=plan.explanation_url,
            created_at=found.created_at, created_by=found.created_by,
            approved_by=found.approved_by, size=found.size, pending=found.pending,
            replaced=found.replaced, retired=found.retired, revoked=found.revoked,
            missed=found.missed, gone=found.gone,
        )  # fmt: skip


class PreviewView(CampaignView):
    """A campaign, and what its selection chooses at this moment."""

    devices: int
    certificates: int
    by_device_state: dict[str, int]
    samples: tuple[str, ...] = Field(description="serials of some of the certificates")
    needs_approval: bool

    @classmethod
    def seen(cls, found: Preview) -> "PreviewView":
        return cls(
            **CampaignView.of(found.campaign).model_dump(),
            devices=found.chosen.devices, certificates=found.chosen.certificates,
            by_device_state=dict(found.chosen.by_device_state),
            samples=tuple(each.serial for each in found.samples),
            needs_approval=found.needs_approval,
        )  # fmt: skip


class FirmwareBody(_Strict):
    firmware: _Short
