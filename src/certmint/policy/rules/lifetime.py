"""Rules about time: how long a certificate may live."""

import datetime as dt

from certmint.model.profile import Trust
from certmint.model.request import CertificateRequest, Facts
from certmint.policy import calendar
from certmint.policy.rules.rule import Rule

SHORTEST = dt.timedelta(minutes=5)
NO_EXPIRY = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


def _asked(request: CertificateRequest, _facts: Facts, _: dt.datetime) -> str | None:
    asked, allowed = request.lifetime, request.profile.lifetime
    if asked is None:
        return None
    if asked < SHORTEST or asked % dt.timedelta(seconds=1):
        return f"a lifetime of {asked} is not a whole number of seconds of at least five minutes"
    if allowed is not None and asked > allowed:
        return f"a lifetime of {asked} is longer than the {allowed} of the profile"
    return None


def _calendar(request: CertificateRequest, _facts: Facts, now: dt.datetime) -> str | None:
    if request.profile.trust is not Trust.PUBLIC:
        return None
    longest = calendar.limit_on(calendar.PUBLIC_VALIDITY, now)
    asked = request.lifetime
    if asked is not None and asked > longest:
        return f"{now.date()}: a public certificate lives {longest.days} days at the most"
    return None


def _issuer(request: CertificateRequest, facts: Facts, now: dt.datetime) -> str | None:
    end = facts.authority.not_after
    if end is None:
        return None
    if end - now < SHORTEST:
        return f"authority {facts.authority.name!r} ends at {end.isoformat()}: roll it over"
    if (
        request.profile.lifetime is None
        and not request.profile.purpose.is_authority
        and end < NO_EXPIRY
    ):
        return (
            f"profile {request.profile.name!r} never expires, but authority "
            f"{facts.authority.name!r} does at {end.isoformat()}"
        )
    return None


def validity(
    request: CertificateRequest, facts: Facts, now: dt.datetime
) -> tuple[dt.datetime, dt.datetime]:
    """notBefore and notAfter, both included, of a request that the rules accept.

    The lifetime is the shortest of what was asked, the profile's, and (public) the calendar's;
    a certificate never outlives its issuer, so near the issuer's end it is cut short.
    """
    limits = [wanted for wanted in (request.lifetime, request.profile.lifetime) if wanted]
    if request.profile.trust is Trust.PUBLIC:
        limits.append(calendar.limit_on(calendar.PUBLIC_VALIDITY, now) - calendar.DAY)
    backdate = request.profile.backdate
    if limits:
        backdate = min(backdate, min(limits) / 10)  # a short life must not be over at birth
    not_before = (now - backdate).replace(microsecond=0)
    end = facts.authority.not_after
    start = facts.authority.not_before
    if start is not None:
        not_before = max(not_before, start)
    not_after = calendar.last_second(not_before, min(limits)) if limits else NO_EXPIRY
    return not_before, min(not_after, end) if end is not None else not_after


RULES = (
    Rule("lifetime-asked", "ours: the profile's `lifetime`",
         "The lifetime asked for is within the profile's.", _asked),
    Rule("lifetime-calendar", "BR 6.3.2",
         "A public lifetime is within the calendar's at the day of issuance.", _calendar),
    Rule("lifetime-issuer", "RFC 5280 6.1, Roku May 2020",
         "A certificate does not outlive its issuer.", _issuer),
)  # fmt: skip
