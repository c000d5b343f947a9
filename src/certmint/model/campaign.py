"""Campaigns: replacing or revoking a chosen set of certificates by a deadline.

A campaign is chosen by what its certificates have in common, previewed, perhaps approved by a
second person, gathered into members, and worked off. Everything that moves it is in CAMPAIGN;
what becomes of a member is in MEMBER. Progress is counted where members move.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from certmint.model.entities import RevocationReason
from certmint.model.errors import BadInput
from certmint.model.keys import KeyKind
from certmint.model.profile import Purpose
from certmint.model.serial import Serial

MOST_LISTED = 10_000  # serial numbers in one selection
DEVICE_PURPOSES = (Purpose.SERVICE, Purpose.IDENTITY)
_LEAF_REASONS = frozenset(RevocationReason) - {RevocationReason.CA_COMPROMISE}


class CampaignKind(StrEnum):
    REPLACE = "replace"  # devices renew early, spread over the time until the deadline
    REVOKE = "revoke"  # at once


class AfterReplacing(StrEnum):
    """What becomes of a certificate whose successor exists."""

    KEEP = "keep"  # it ends by itself
    REVOKE = "revoke"  # when the grace after its successor's issuance has passed


class AtDeadline(StrEnum):
    """What becomes of a certificate that nobody replaced in time."""

    REVOKE = "revoke"
    REPORT = "report"


class CampaignState(StrEnum):
    """DRAFT → AWAITING_APPROVAL → GATHERING → RUNNING ⇄ PAUSED → DONE, or CANCELLED."""

    DRAFT = "draft"
    AWAITING_APPROVAL = "awaiting-approval"
    GATHERING = "gathering"  # its members are being written down
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"


class CampaignEvent(StrEnum):
    SUBMITTED = "submitted"  # a second person has to agree
    STARTED = "started"
    APPROVED = "approved"
    GATHERED = "gathered"
    PAUSED = "paused"
    RESUMED = "resumed"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class MemberState(StrEnum):
    """PENDING until something becomes of it; REPLACED waits for its grace, if there is one."""

    PENDING = "pending"
    REPLACED = "replaced"
    RETIRED = "retired"  # replaced, and revoked after that
    REVOKED = "revoked"  # without a successor
    MISSED = "missed"  # the deadline came first
    GONE = "gone"  # expired, or revoked by somebody else


_S, _E = CampaignState, CampaignEvent
CAMPAIGN: Mapping[CampaignState, Mapping[CampaignEvent, CampaignState]] = {
    _S.DRAFT: {
        _E.SUBMITTED: _S.AWAITING_APPROVAL,
        _E.STARTED: _S.GATHERING,
        _E.CANCELLED: _S.CANCELLED,
    },
    _S.AWAITING_APPROVAL: {_E.APPROVED: _S.GATHERING, _E.CANCELLED: _S.CANCELLED},
    _S.GATHERING: {
        _E.GATHERED: _S.RUNNING,
        _E.PAUSED: _S.PAUSED,
        _E.CANCELLED: _S.CANCELLED,
    },
    _S.RUNNING: {_E.PAUSED: _S.PAUSED, _E.FINISHED: _S.DONE, _E.CANCELLED: _S.CANCELLED},
    # Gathering goes on where it was, and ends at once if it had ended.
    _S.PAUSED: {_E.RESUMED: _S.GATHERING, _E.CANCELLED: _S.CANCELLED},
    _S.DONE: {},
    _S.CANCELLED: {},
}
ACTIVE = (CampaignState.GATHERING, CampaignState.RUNNING)

_M = MemberState
MEMBER: Mapping[MemberState, frozenset[MemberState]] = {
    _M.PENDING: frozenset({_M.REPLACED, _M.REVOKED, _M.MISSED, _M.GONE}),
    _M.REPLACED: frozenset({_M.RETIRED, _M.GONE}),
    _M.RETIRED: frozenset(),
    _M.REVOKED: frozenset(),
    _M.MISSED: frozenset(),
    _M.GONE: frozenset(),
}


@dataclass(frozen=True)
class Selection:
    """Which certificates: all that is given must hold, and they are live when it is gathered.

    `serial_numbers` are devices'; `key_fingerprints` the SHA-256 of SubjectPublicKeyInfos in hex.
    `purpose` None chooses every kind of certificate that devices have.
    """

    product_id: str | None = None
    batch_id: str | None = None
    firmware: str | None = None
    authority_id: str | None = None
    profile: str | None = None
    key_kind: KeyKind | None = None
    purpose: Purpose | None = Purpose.SERVICE
    key_fingerprints: tuple[str, ...] = ()
    serial_numbers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        chosen = (
            self.product_id, self.batch_id, self.firmware, self.authority_id, self.profile,
            self.key_kind, *self.key_fingerprints, *self.serial_numbers,
        )  # fmt: skip
        if not any(chosen):
            raise BadInput(
                "campaign-selection",
                "nothing was chosen: name a product, batch, firmware, authority, profile, key or "
                "serial numbers",
            )
        if len(self.serial_numbers) > MOST_LISTED or len(self.key_fingerprints) > 500:
            raise BadInput(
                "campaign-selection",
                f"a list has at most {MOST_LISTED} serial numbers or 500 keys: choose by what they "
                "have in common",
            )
        if self.purpose not in (None, *DEVICE_PURPOSES):
            raise BadInput("campaign-selection", f"no device has a {self.purpose} certificate")
        for each in self.key_fingerprints:
            if len(each) != 64 or not set(each) <= set("0123456789abcdef"):
                raise BadInput(
                    "campaign-selection", f"{each!r} is not a SHA-256 fingerprint of a key in hex"
                )


@dataclass(frozen=True)
class Plan:
    """What is to be done with the chosen certificates, and until when.

    `reason` is what revocations say. `explanation_url` is shown to clients that ask when to renew
    (RFC 9773 4.2).
    """

    kind: CampaignKind
    starts_at: dt.datetime
    deadline: dt.datetime
    reason: RevocationReason = RevocationReason.SUPERSEDED
    after_replacing: AfterReplacing = AfterReplacing.KEEP
    grace: dt.timedelta = dt.timedelta(0)
    at_deadline: AtDeadline = AtDeadline.REPORT
    explanation_url: str = ""

    def __post_init__(self) -> None:
        if self.deadline <= self.starts_at:
            raise BadInput(
                "campaign-plan",
                f"the deadline {self.deadline.isoformat()} is not after the start "
                f"{self.starts_at.isoformat()}",
            )
        if self.grace < dt.timedelta(0):
            raise BadInput("campaign-plan", f"a grace of {self.grace} is below nothing")
        if self.reason not in _LEAF_REASONS:
            raise BadInput(
                "campaign-plan",
                f"{self.reason} is no reason for certificates of devices (BR 7.2.2)",
            )
        url = self.explanation_url
        if url and (urlsplit(url).scheme not in ("http", "https") or not url.isprintable()):
            raise BadInput("campaign-plan", f"{url!r} is not an http or https URL")

    @property
    def revokes(self) -> bool:
        """Whether it may revoke anything."""
        return (
            self.kind is CampaignKind.REVOKE
            or self.after_replacing is AfterReplacing.REVOKE
            or self.at_deadline is AtDeadline.REVOKE
        )


@dataclass(frozen=True)
class Campaign:
    """One campaign. `gathered_to` is how far its members were written down.

    `begun_at` is when it left the desk: certificates that were issued later are never members.
    `seen_to` is the last serial that was looked at as a successor. `size` is how many members
    there are, and how many are in each state but PENDING stands beside it.
    """

    id: str
    tenant_id: str
    name: str
    selection: Selection
    plan: Plan
    state: CampaignState
    created_at: dt.datetime
    created_by: str
    approved_by: str = ""
    begun_at: dt.datetime | None = None
    gathered_to: str = ""
    seen_to: str = ""
    size: int = 0
    replaced: int = 0
    retired: int = 0
    revoked: int = 0
    missed: int = 0
    gone: int = 0

    @property
    def pending(self) -> int:
        settled = self.replaced + self.retired + self.revoked + self.missed + self.gone
        return self.size - settled


@dataclass(frozen=True)
class Member:
    """One certificate of a campaign, and what became of it."""

    authority_id: str
    serial: Serial
    device_id: str | None
    state: MemberState
    settled_at: dt.datetime | None = None
    successor: str | None = None


@dataclass(frozen=True)
class Chosen:
    """How much a selection chooses at one moment; certificates by the state of their device."""

    devices: int
    certificates: int
    by_device_state: Mapping[str, int]


@dataclass(frozen=True)
class Call:
    """That a running campaign wants a certificate replaced by its deadline, or revokes it."""

    campaign_id: str
    kind: CampaignKind
    starts_at: dt.datetime
    deadline: dt.datetime
    explanation_url: str = ""
