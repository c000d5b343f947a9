"""What a manufacturer wants to see first, and the life of one device: looking only."""

import datetime as dt
import json
from dataclasses import dataclass

from certmint.enrolment import domains
from certmint.enrolment.devices import DeviceView, view_by_serial_number
from certmint.enrolment.domains import Age
from certmint.model.desk import ApprovalState, Job, JobState, OperatorApproval
from certmint.model.entities import Certificate, Manufacturer
from certmint.model.states import DeviceState
from certmint.registry import reads
from certmint.registry.audit import Entry
from certmint.registry.engine import Database

DAYS = (0, 7, 30, 60, 90, 200)  # where the bars of certificates by days left begin and end
FRESH = dt.timedelta(seconds=30)
_REFUSALS = 8


@dataclass(frozen=True)
class Refusal:
    """A request that policy said no to; `serial_number` "" where no device asked."""

    at: dt.datetime
    code: str
    detail: str
    serial_number: str


@dataclass(frozen=True)
class Overview:
    """The state of a fleet at one moment.

    `ending` counts certificates in force by the days that they have left: expired, then up to each
    of `DAYS`, then beyond.
    """

    at: dt.datetime
    counted_at: dt.datetime
    devices: dict[DeviceState, int]
    ending: tuple[int, ...]
    refusals: tuple[Refusal, ...]
    ages: tuple[Age, ...]
    approvals: tuple[OperatorApproval, ...]
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class _Counted:
    at: dt.datetime
    devices: dict[DeviceState, int]
    ending: tuple[int, ...]


class Counts:
    """The numbers of fleets, counted again when they are older than `FRESH`.

    A million devices take half a second to count, so pages and scrapes share what one of them
    counted; it is kept by the process, for as many tenants as there are.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[str, _Counted] = {}

    def of(self, tenant: Manufacturer, now: dt.datetime) -> _Counted:
        known = self._known.get(tenant.id)
        if known is None or not known.at <= now < known.at + FRESH:
            known = self._known[tenant.id] = self._count(tenant, now)
        return known

    def _count(self, tenant: Manufacturer, now: dt.datetime) -> _Counted:
        bounds = [now + dt.timedelta(days=days) for days in DAYS]
        bounds.append(dt.datetime.max.replace(tzinfo=dt.UTC))  # identities have no end
        with self._db.read() as tx:
            counted = reads.count_devices_by_state(tx, tenant.id)
            ending = reads.count_ending(tx, tenant.id, bounds)
        states = {state: counted.get(state, 0) for state in DeviceState}
        return _Counted(now, states, tuple(ending))


def look(db: Database, counts: Counts, tenant: Manufacturer, now: dt.datetime) -> Overview:
    """Everything that the first page shows; `counted_at` says how old its numbers are."""
    counted = counts.of(tenant, now)
    with db.read() as tx:
        refused = reads.latest_events(tx, tenant.id, "certificate.refused", limit=_REFUSALS)
        asked = reads.devices_by_id(tx, tenant.id, {each.subject for each in refused})
        waiting = reads.approvals(tx, tenant.id, state=ApprovalState.PENDING, limit=20)
        running = reads.jobs(tx, tenant.id, state=JobState.RUNNING, limit=20)
    names = {each.id: each.serial_number for each in asked.values()}
    return Overview(
        at=now,
        counted_at=counted.at,
        devices=counted.devices,
        ending=counted.ending,
        refusals=tuple(_refusal(each, names) for each in refused),
        ages=tuple(domains.ages(db, tenant)),
        approvals=tuple(each for each in waiting if now < each.expires_at),
        jobs=tuple(running),
    )


def _refusal(event: Entry, names: dict[str, str]) -> Refusal:
    detail = json.loads(event.detail)
    code = next(iter(detail.get("codes", {})), "")
    return Refusal(event.at, code, str(detail.get("first", "")), names.get(event.subject, ""))


@dataclass(frozen=True)
class Moment:
    """Something in a device's life. `good` is None for what is neither good nor bad."""

    at: dt.datetime
    title: str
    detail: str
    good: bool | None = None
    serial: str = ""


@dataclass(frozen=True)
class Life:
    """A device, its certificates, and what happened to it, newest first."""

    found: DeviceView
    batch_id: str | None
    owner: str
    certificates: tuple[Certificate, ...]
    moments: tuple[Moment, ...]


_TITLES = {
    "device.seen": ("Seen in the field", True),
    "device.suspended": ("Suspended", False),
    "device.resumed": ("Let in again", True),
    "device.retired": ("Retired", None),
    "device.cloned": ("Its identity was in two places", False),
    "device.owner-changed": ("Owner changed", None),
    "device.transfer-offered": ("Offered to another owner", None),
    "device.secret-made": ("Label secret made", None),
    "device.hardware-expected": ("Hardware expected", None),
    "certificate.refused": ("A request was refused", False),
    "device.request-approved": ("A request was approved", True),
    "device.request-rejected": ("A request was rejected", False),
}


def life(db: Database, tenant: Manufacturer, serial_number: str) -> Life:
    """The timeline of one device. Raises NotFound `device-unknown`."""
    found = view_by_serial_number(db, tenant.id, serial_number)
    device = found.device
    with db.read() as tx:
        held = reads.certificates(tx, tenant.id, device_id=device.id, limit=500)
        events = reads.events_of(tx, tenant.id, device.id)
        owner = reads.owner(tx, tenant.id, device.owner_id) if device.owner_id else None
    moments = [Moment(device.created_at, "Named in a manifest", "", None)]
    moments += [moment for each in held for moment in _of_certificate(each)]
    moments += [_of_event(each) for each in events]
    moments.sort(key=lambda each: each.at, reverse=True)
    newest = tuple(reversed(held))
    return Life(found, device.batch_id, owner.username if owner else "", newest, tuple(moments))


def _of_certificate(held: Certificate) -> list[Moment]:
    kind = "Identity" if held.purpose.value == "identity" else "Service"
    until = "without end" if held.not_after.year == 9999 else f"until {held.not_after:%Y-%m-%d}"
    what = f"{', '.join(held.names) or held.subject} · {until}"
    moments = [Moment(held.issued_at, f"{kind} certificate issued", what, True, held.serial)]
    if held.revocation is not None:
        gone = held.revocation
        title = f"{kind} certificate revoked"
        moments.append(Moment(gone.revoked_at, title, gone.reason.value, False, held.serial))
    return moments


def _of_event(event: Entry) -> Moment:
    detail = json.loads(event.detail)
    title, good = _TITLES.get(
        event.action, (event.action.partition(".")[2].replace("-", " ").capitalize(), None)
    )
    said = detail.get("first") or detail.get("why") or detail.get("reason") or ""
    return Moment(event.at, title, str(said) or f"by {event.actor.partition(':')[0]}", good)
