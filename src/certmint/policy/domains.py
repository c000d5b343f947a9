"""Domains: which one may stand for a name, and for how long a proof of control counts.

The registered domain is found with the ICANN part of the public suffix list (BR 3.2.2.6). A proof
counts while it was *begun* within the calendar's window (BR 4.2.1), for public and for private
hierarchies of its own; what counts today may lapse on the day on which a window shrinks.
"""

import datetime as dt
import json
from functools import cache

from publicsuffixlist import PublicSuffixList

from certmint.model.entities import DomainValidation, ValidationMethod
from certmint.model.names import DNSName, IPName, Name
from certmint.model.profile import Trust
from certmint.policy import calendar
from certmint.policy.calendar import Entry


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=False, only_icann=True)


def registered_domain(name: DNSName) -> str | None:
    """The domain that somebody registered for this name; None if it is or has no public suffix."""
    found: str | None = _suffixes().privatesuffix(name.value)
    return found


def authorization_domains(name: DNSName) -> tuple[str, ...]:
    """What may be validated instead of `name`: itself, and its parents up to the registered domain.

    None for a name that is a public suffix or under no known one.
    """
    registered = registered_domain(name)
    if registered is None:
        return ()
    labels = name.value.split(".")
    most = len(labels) - registered.count(".")
    return tuple(".".join(labels[start:]) for start in range(most))


def covers(found: DomainValidation, name: Name) -> bool:
    """Whether this proof of control is about `name`, however old it is."""
    if isinstance(name, IPName):
        return found.method is ValidationMethod.OPERATOR and found.domain == name.value
    if found.method is ValidationMethod.HTTP_CSR_HASH:
        return found.domain == name.value  # no wildcards, nothing below (BR 3.2.2.4.18)
    return name.is_within(found.domain)


def is_fresh(found: DomainValidation, trust: Trust, now: dt.datetime) -> bool:
    """Whether this proof of control counts at `now` in hierarchies of this trust."""
    until = usable_until(found, trust)
    return until is not None and found.created_at <= now <= until


def usable_until(
    found: DomainValidation, trust: Trust, verified_at: dt.datetime | None = None
) -> dt.datetime | None:
    """The last moment at which this proof counts; None if it never does, or is none yet.

    `verified_at` is when control shall be assumed to be shown of an attempt that is still open.
    """
    if found.verified_at is None and verified_at is None:
        return None
    public = trust is Trust.PUBLIC
    if public and (found.method is ValidationMethod.OPERATOR or _is_of_a_lab(found)):
        return None
    windows = calendar.PUBLIC_VALIDATION_REUSE if public else calendar.PRIVATE_VALIDATION_REUSE
    until = _end(windows, found.created_at)
    if public and found.method is ValidationMethod.DNS_PERSIST:
        until = min(until, _end(calendar.PERSISTENT_REUSE, found.created_at))
    if public and found.method is ValidationMethod.EMAIL:
        until = min(until, _midnight(calendar.PUBLIC_EMAIL.ends) - _INSTANT)
    return until


def _is_of_a_lab(found: DomainValidation) -> bool:
    """Whether it was looked for with the reach that only private authorities may have."""
    return bool(found.evidence) and json.loads(found.evidence).get("reach") == "private"


_INSTANT = dt.timedelta(microseconds=1)


def _end(entries: tuple[Entry, ...], begun: dt.datetime) -> dt.datetime:
    """Until when something begun then is young enough, through every change of the window."""
    until = begun
    for entry, following in zip(entries, (*entries[1:], None), strict=True):
        until = begun + entry.limit
        if following is None or until < _midnight(following.since):
            return until
        if begun + following.limit < _midnight(following.since):
            return _midnight(following.since) - _INSTANT  # too old from the day of the new window
    return until


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)
