"""When to renew, and how long to wait after a failure.

Pure: the clock and the dice are arguments. A time that was drawn is remembered by the caller
(state.json), so that a reboot does not draw again. Nothing here looks at a certificate.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

RENEW_AT = 2 / 3  # share of the lifetime, where the server suggests no window
JITTER = 0.1  # share of the lifetime
LAST_MOMENT = dt.timedelta(minutes=10)  # before notAfter: time for a request and a reload
SHORTEST, LONGEST = dt.timedelta(minutes=1), dt.timedelta(hours=6)  # between two attempts
LONGEST_RETRY_AFTER = dt.timedelta(days=1)  # no server may send a device to sleep for longer
POLL = dt.timedelta(hours=6)  # between two looks at the server's window, at most

Random = Callable[[], float]  # uniform in [0, 1)


@dataclass(frozen=True)
class Window:
    """The server's suggestion (RFC 9773 4.2): start is before end, or it is none."""

    start: dt.datetime
    end: dt.datetime

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError("a renewal window ends after it starts")


def next_attempt(
    now: dt.datetime,
    not_before: dt.datetime,
    not_after: dt.datetime,
    window: Window | None,
    random: Random,
) -> dt.datetime:
    """When to renew a certificate: `now` at the earliest.

    Uniformly random inside the window, and at once if that moment has passed (RFC 9773 4.2). With
    no window: at two thirds of the lifetime plus up to a tenth of it. Never so late that less
    than LAST_MOMENT is left (or a tenth of a lifetime, if that is less).
    """
    lifetime = not_after - not_before
    if window is None:
        chosen = not_before + lifetime * (RENEW_AT + JITTER * random())
    else:
        chosen = window.start + (window.end - window.start) * random()
    return max(now, min(chosen, not_after - min(LAST_MOMENT, lifetime / 10)))


def retry_delay(attempt: int, retry_after: float | None, random: Random) -> dt.timedelta:
    """How long to wait after the failure number `attempt` (from 0).

    Exponential back-off with full jitter between SHORTEST and LONGEST. The server's Retry-After
    (seconds) is a floor, and is spread too, or all who were sent away come back together.
    """
    ceiling = min(LONGEST, 2 * SHORTEST * (1 << min(attempt, 16)))
    delay = SHORTEST + (ceiling - SHORTEST) * random()
    if retry_after is None or retry_after <= 0:
        return delay
    asked = min(LONGEST_RETRY_AFTER.total_seconds(), retry_after) * (1 + JITTER * random())
    return max(delay, dt.timedelta(seconds=asked))


def next_look(now: dt.datetime, renew_at: dt.datetime, random: Random) -> dt.timedelta:
    """How long to wait while all is well: until the renewal, or a spread part of POLL."""
    return max(min(renew_at - now, POLL * (0.5 + 0.5 * random())), dt.timedelta(seconds=1))
