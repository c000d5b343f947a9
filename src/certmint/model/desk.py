"""What operators work with: tokens, sessions, approvals by a second person, and long jobs."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from certmint.model.operations import Operation, Scope


@dataclass(frozen=True)
class APIToken:
    """A token of an operator, known by its hash only. `scopes` None: all that the role has."""

    id: str
    tenant_id: str
    operator_id: str
    name: str
    scopes: frozenset[Scope] | None
    created_at: dt.datetime
    expires_at: dt.datetime
    revoked_at: dt.datetime | None = None

    def is_good(self, now: dt.datetime) -> bool:
        return self.revoked_at is None and now < self.expires_at


class ApprovalState(StrEnum):
    """PENDING → APPROVED → DONE, or REJECTED; one that nobody decided in time is over."""

    PENDING = "pending"
    APPROVED = "approved"  # agreed to, and not carried out yet: a crash is continued from here
    DONE = "done"
    FAILED = "failed"  # agreed to, and then refused by policy or by what had changed
    REJECTED = "rejected"


class ApprovalEvent(StrEnum):
    APPROVED = "approved"
    REJECTED = "rejected"
    RESUMED = "resumed"  # by whoever may decide, after a crash cut it off
    CARRIED_OUT = "carried-out"
    FAILED = "failed"


@dataclass(frozen=True)
class OperatorApproval:
    """Something that one operator asked for and that a second one has to agree to.

    `document` is the request's body as canonical JSON: what is carried out is what was read.
    """

    id: str
    tenant_id: str
    operation: Operation
    summary: str
    document: str
    requested_by: str
    requested_at: dt.datetime
    expires_at: dt.datetime
    state: ApprovalState = ApprovalState.PENDING
    decided_by: str | None = None
    decided_at: dt.datetime | None = None
    outcome: str = ""


class JobState(StrEnum):
    """QUEUED → RUNNING → DONE, FAILED or CANCELLED."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobEvent(StrEnum):
    STARTED = "started"
    RESUMED = "resumed"  # by another node, after the one that ran it died
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobKind(StrEnum):
    """What can take longer than a request."""

    MINT_BATCH = "mint-batch"
    CHANGE_DEVICES = "change-devices"
    REVOKE_CERTIFICATES = "revoke-certificates"
    VERIFY_AUDIT = "verify-audit"


@dataclass(frozen=True)
class Job:
    """Long work. `document` says what to do, `outcome` what came of it: JSON both."""

    id: str
    tenant_id: str
    kind: JobKind
    document: str = field(repr=False)
    requested_by: str
    created_at: dt.datetime
    state: JobState = JobState.QUEUED
    total: int = 0
    done: int = 0
    outcome: str = "{}"
    finished_at: dt.datetime | None = None

    @property
    def is_over(self) -> bool:
        return self.state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


_A, _B = ApprovalState, ApprovalEvent
APPROVAL: Mapping[ApprovalState, Mapping[ApprovalEvent, ApprovalState]] = {
    _A.PENDING: {_B.APPROVED: _A.APPROVED, _B.REJECTED: _A.REJECTED},
    _A.APPROVED: {
        _B.RESUMED: _A.APPROVED,
        _B.CARRIED_OUT: _A.DONE,
        _B.FAILED: _A.FAILED,
    },
    _A.DONE: {},
    _A.FAILED: {},
    _A.REJECTED: {},
}
_J, _K = JobState, JobEvent
JOB: Mapping[JobState, Mapping[JobEvent, JobState]] = {
    _J.QUEUED: {_K.STARTED: _J.RUNNING, _K.CANCELLED: _J.CANCELLED},
    _J.RUNNING: {
        _K.RESUMED: _J.RUNNING,
        _K.FINISHED: _J.DONE,
        _K.FAILED: _J.FAILED,
        _K.CANCELLED: _J.CANCELLED,
    },
    _J.DONE: {},
    _J.FAILED: {},
    _J.CANCELLED: {},
}
