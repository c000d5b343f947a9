"""State tables: everything that moves a device, a request, a batch or an authority.

The registry applies a move as one compare-and-set; if it changes no row, somebody else moved
first. Derived facts (expired, due for renewal) are computed and never stored.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from certmint.model.errors import WrongState


class DeviceState(StrEnum):
    """EXPECTED → PROVISIONED → ACTIVE ⇄ SUSPENDED → RETIRED."""

    EXPECTED = "expected"  # a manifest names it; no key yet
    PROVISIONED = "provisioned"  # it has its factory certificates
    ACTIVE = "active"  # it has been seen in the field
    SUSPENDED = "suspended"  # its requests are refused until it is resumed
    RETIRED = "retired"  # for good


class DeviceEvent(StrEnum):
    MINTED = "minted"
    SEEN = "seen"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    RETIRED = "retired"


class OwnershipState(StrEnum):
    """UNCLAIMED → OWNED ⇄ OFFERED; the owner's column and a standing offer say which it is."""

    UNCLAIMED = "unclaimed"
    OWNED = "owned"
    OFFERED = "offered"  # the owner offers it to another owner, who may accept it for a while


class OwnershipEvent(StrEnum):
    CLAIMED = "claimed"  # by the label's code, by presence, or by an operator
    OFFERED = "offered"
    WITHDRAWN = "withdrawn"  # or the offer ran out
    ACCEPTED = "accepted"
    RELEASED = "released"


class RequestState(StrEnum):
    """PENDING → APPROVED → DONE, or REJECTED: a device's request that an operator decides on."""

    PENDING = "pending"
    APPROVED = "approved"  # the device's next attempt is let through
    REJECTED = "rejected"
    DONE = "done"  # it has bought its certificate


class RequestEvent(StrEnum):
    APPROVED = "approved"
    REJECTED = "rejected"
    USED = "used"


class BatchState(StrEnum):
    DRAFT = "draft"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


class BatchEvent(StrEnum):
    STARTED = "started"
    COMPLETED = "completed"
    ABANDONED = "abandoned"


class AuthorityState(StrEnum):
    PENDING = "pending"  # has a key, no certificate yet
    ACTIVE = "active"
    RETIRED = "retired"  # signs status, no certificates


class AuthorityEvent(StrEnum):
    CERTIFIED = "certified"
    RETIRED = "retired"


_D, _E = DeviceState, DeviceEvent
DEVICE: Mapping[DeviceState, Mapping[DeviceEvent, DeviceState]] = {
    _D.EXPECTED: {_E.MINTED: _D.PROVISIONED, _E.RETIRED: _D.RETIRED},
    _D.PROVISIONED: {_E.SEEN: _D.ACTIVE, _E.SUSPENDED: _D.SUSPENDED, _E.RETIRED: _D.RETIRED},
    _D.ACTIVE: {_E.SUSPENDED: _D.SUSPENDED, _E.RETIRED: _D.RETIRED},
    _D.SUSPENDED: {_E.RESUMED: _D.ACTIVE, _E.RETIRED: _D.RETIRED},
    _D.RETIRED: {},
}
_O, _W = OwnershipState, OwnershipEvent
OWNERSHIP: Mapping[OwnershipState, Mapping[OwnershipEvent, OwnershipState]] = {
    _O.UNCLAIMED: {_W.CLAIMED: _O.OWNED},
    _O.OWNED: {_W.OFFERED: _O.OFFERED, _W.RELEASED: _O.UNCLAIMED},
    _O.OFFERED: {
        _W.OFFERED: _O.OFFERED,
        _W.WITHDRAWN: _O.OWNED,
        _W.ACCEPTED: _O.OWNED,
        _W.RELEASED: _O.UNCLAIMED,
    },
}
_R, _V = RequestState, RequestEvent
REQUEST: Mapping[RequestState, Mapping[RequestEvent, RequestState]] = {
    _R.PENDING: {_V.APPROVED: _R.APPROVED, _V.REJECTED: _R.REJECTED},
    _R.APPROVED: {_V.USED: _R.DONE, _V.REJECTED: _R.REJECTED},
    _R.REJECTED: {_V.APPROVED: _R.APPROVED},
    _R.DONE: {},
}
BATCH: Mapping[BatchState, Mapping[BatchEvent, BatchState]] = {
    BatchState.DRAFT: {BatchEvent.STARTED: BatchState.RUNNING},
    BatchState.RUNNING: {
        BatchEvent.COMPLETED: BatchState.FINISHED,
        BatchEvent.ABANDONED: BatchState.FAILED,
    },
    BatchState.FINISHED: {},
    BatchState.FAILED: {},
}
AUTHORITY: Mapping[AuthorityState, Mapping[AuthorityEvent, AuthorityState]] = {
    AuthorityState.PENDING: {AuthorityEvent.CERTIFIED: AuthorityState.ACTIVE},
    AuthorityState.ACTIVE: {AuthorityEvent.RETIRED: AuthorityState.RETIRED},
    AuthorityState.RETIRED: {},
}

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


def after(table: Mapping[S, Mapping[E, S]], state: S, event: E) -> S:
    """The state that `event` leads to. Raises WrongState `wrong-state`."""
    try:
        return table[state][event]
    except KeyError:
        noun = type(state).__name__.removesuffix("State").lower()
        raise WrongState("wrong-state", f"{noun} is {state}: it cannot be {event}") from None
