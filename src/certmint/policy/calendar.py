"""The dated rule calendar: what the Baseline Requirements allow on which day.

Data, not code: each entry holds from its date (00:00:00 UTC, BR 1.6.4) until a later one of the
same kind. Looked up at the day of issuance, never at notBefore (BR 6.3.2).
"""

import datetime as dt
from dataclasses import dataclass

VERSION = "2026-11-23"  # the day on which the entries below were last compared with their sources
REQUIREMENTS = "2.2.7"  # of the TLS Baseline Requirements, as they were read then

DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Entry:
    """From `since`, `limit` is the longest time allowed."""

    since: dt.date
    limit: dt.timedelta
    source: str


PUBLIC_VALIDITY = (
    Entry(dt.date(2020, 9, 1), 398 * DAY, "BR 6.3.2"),
    Entry(dt.date(2026, 3, 15), 200 * DAY, "BR 6.3.2, ballot SC-081"),
    Entry(dt.date(2027, 3, 15), 100 * DAY, "BR 6.3.2, ballot SC-081"),
    Entry(dt.date(2029, 3, 15), 47 * DAY, "BR 6.3.2, ballot SC-081"),
)
PUBLIC_VALIDATION_REUSE = (
    Entry(dt.date(2020, 9, 1), 398 * DAY, "BR 4.2.1"),
    Entry(dt.date(2026, 3, 15), 200 * DAY, "BR 4.2.1, ballot SC-081"),
    Entry(dt.date(2027, 3, 15), 100 * DAY, "BR 4.2.1, ballot SC-081"),
    Entry(dt.date(2029, 3, 15), 10 * DAY, "BR 4.2.1, ballot SC-081"),
)
# Ours: a private hierarchy trusts a proof of control for as long as public ones used to.
PRIVATE_VALIDATION_REUSE = (Entry(dt.date(1970, 1, 1), 398 * DAY, "ours"),)
# A record that stays is looked at again instead of being remembered.
PERSISTENT_REUSE = (Entry(dt.date(2025, 11, 10), 10 * DAY, "BR 3.2.2.4.22, ballot SC-088"),)


@dataclass(frozen=True, slots=True)
class Sunset:
    """A method that public CAs should leave from one day on, and must from another.

    From `ends` on, what was proved by it before counts no more either.
    """

    discouraged: dt.date
    ends: dt.date
    source: str


PUBLIC_EMAIL = Sunset(dt.date(2026, 3, 15), dt.date(2028, 3, 15), "BR 3.2.2.4.4")


def limit_on(entries: tuple[Entry, ...], now: dt.datetime) -> dt.timedelta:
    """The limit in force at `now`."""
    today = now.astimezone(dt.UTC).date()
    return [entry.limit for entry in entries if entry.since <= today][-1]


def last_second(not_before: dt.datetime, lifetime: dt.timedelta) -> dt.datetime:
    """The notAfter of a certificate of this lifetime; both ends count (RFC 5280 4.1.2.5)."""
    return not_before + lifetime - dt.timedelta(seconds=1)
