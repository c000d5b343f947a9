"""When a device should renew: a phase of its own, for life.

Devices of one batch are certified in the same minute; if each renewed at two thirds of its
certificate's life, they would come back in the same minute for ever. So each device gets a phase
from its id, and renews at that phase of a fixed period (`renew_at` of the lifetime). The first
renewal falls anywhere between one sixth and five sixths of the life, every later one exactly a
period after the last; the load is flat from the first cycle, whatever the factory's rhythm was.
The last sixth of the life is left for outages.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass

from certmint.model.campaign import Call, CampaignKind

LATEST = 5 / 6  # share of the lifetime after which no renewal is planned
WIDTH = 1 / 48  # share of the lifetime that the suggested window is wide

CALLED_BY = 5 / 6  # share of the time to a campaign's deadline in which its windows lie

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """When to renew: the client picks a time inside at random (RFC 9773 4.2)."""

    start: dt.datetime
    end: dt.datetime


def phase_of(device_id: str) -> float:
    """The device's place in [0, 1), uniform over a fleet and fixed for life."""
    digest = hashlib.sha256(device_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def window(
    device_id: str, not_before: dt.datetime, not_after: dt.datetime, renew_at: float
) -> Window:
    """The suggested renewal window of a certificate of this device."""
    # In seconds since 1970, which a float knows to a fraction of a microsecond.
    begins = (not_before - _EPOCH).total_seconds()
    life = (not_after - not_before).total_seconds() + 1
    period, width = life * renew_at, life * WIDTH
    latest = begins + life * LATEST - width / 2
    # The last moment up to `latest` that lies on this device's grid of period and phase.
    middle = latest - (latest - period * phase_of(device_id)) % period
    start = dt.datetime.fromtimestamp(int(middle - width / 2), dt.UTC)
    end = dt.datetime.fromtimestamp(int(middle + width / 2), dt.UTC)
    return Window(max(start, not_before), end)


def called_window(device_id: str, call: Call, now: dt.datetime) -> Window:
    """When a device should renew that a campaign calls: a place of its own before the deadline.

    The places lie evenly over the time from the start to the deadline, but for the last sixth of
    it, which is left for outages. What is to be revoked should have been replaced already: that
    window is past (RFC 9773 4.2).
    """
    if call.kind is CampaignKind.REVOKE:
        past = now.replace(microsecond=0) - dt.timedelta(hours=1)
        return Window(past - dt.timedelta(hours=1), past)
    time = call.deadline - call.starts_at
    width = time * WIDTH
    start = call.starts_at + (time * CALLED_BY - width) * phase_of(device_id)
    # Whole seconds, and never nothing: a window ends after it begins.
    first = start.replace(microsecond=0)
    last = (start + width).replace(microsecond=0)
    return Window(first, max(last, first + dt.timedelta(seconds=1)))


def earlier(planned: Window, called: Window | None) -> Window:
    """Which window holds: a campaign makes a device renew earlier, never later."""
    return called if called is not None and called.start < planned.start else planned
