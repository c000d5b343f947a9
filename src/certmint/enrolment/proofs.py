"""Looking for what an attempt was told to publish, on the network, and saying what was seen.

One function for each place to look: a random value in the DNS (BR 3.2.2.4.7), a record that stays
(3.2.2.4.22), a request token in the DNS (3.2.2.4.7) or on a web server (3.2.2.4.18).
"""

import datetime as dt
import hmac
from dataclasses import dataclass, field

from certmint.model.entities import DomainValidation, ValidationMethod
from certmint.model.errors import Refused, Unavailable
from certmint.model.names import DNSName
from certmint.policy import calendar
from certmint.validation import dns01, pkivalidation
from certmint.validation.dns import Answer, Resolver
from certmint.validation.dnsupdate import Record
from certmint.validation.reach import Failed, Reach

_M = ValidationMethod


@dataclass(frozen=True)
class World:
    """How a look reaches the network."""

    resolver: Resolver
    reach: Reach = field(default_factory=Reach)


def challenge_record(attempt: DomainValidation) -> Record:
    """The DNS record that shows control, as the zone wants it."""
    name = f"{attempt.record_name}."
    if attempt.method is _M.DNS_CNAME:
        return Record(name, "CNAME", f"{attempt.random_value}.dcv.{attempt.domain}.")
    if attempt.method is _M.CNAME_CSR_HASH:
        return Record(name, "CNAME", f"{attempt.random_value}.")
    return Record(name, "TXT", f'"{attempt.random_value}"')


def seen(attempt: DomainValidation, world: World, now: dt.datetime) -> dict[str, object]:
    """What shows control, as evidence.

    Raises Refused `validation-not-found` or `validation-awaiting`, Unavailable `dns-failed` or
    `validation-unreachable`.
    """
    if attempt.method is _M.EMAIL:
        raise Refused(
            "validation-awaiting",
            f"nobody who answers for {attempt.domain} has approved yet: the link is in their mail",
        )
    if attempt.method is _M.DNS_PERSIST:
        found = _persistent(attempt, world, now)
    elif attempt.method is _M.HTTP_CSR_HASH:
        found = _file(attempt, world)
    else:
        found = _value(attempt, world.resolver)
    known = {"requirements": calendar.REQUIREMENTS, "rules": calendar.VERSION}
    return {"adn": attempt.domain} | known | found


def _value(attempt: DomainValidation, resolver: Resolver) -> dict[str, object]:
    record = challenge_record(attempt)
    look = resolver.cname if record.kind == "CNAME" else resolver.txt
    answer = look(attempt.record_name)
    is_random = attempt.method is _M.DNS_CNAME  # then only the first label is ours
    values = [value.split(".", 1)[0] if is_random else value for value in answer.values]
    expected = attempt.random_value.encode()
    if not any(hmac.compare_digest(value.encode(), expected) for value in values):
        raise _missing(record.kind, attempt.record_name, answer)
    return {
        "method": "BR 3.2.2.4.7",
        "record": attempt.record_name,
        "type": record.kind,
        "values": list(answer.values),
        "server": answer.server,
        "dnssec": "authenticated" if answer.authenticated else "not authenticated",
    }


def _missing(kind: str, name: str, answer: Answer) -> Refused:
    return Refused(
        "validation-not-found",
        f"{answer.server} has no {kind} record at {name} with the expected value "
        f"({len(answer.values)} others): publish it and try again",
    )


def _persistent(attempt: DomainValidation, world: World, now: dt.datetime) -> dict[str, object]:
    expected = dns01.persistent_record(attempt.random_value)
    issuer, parameters = expected if expected is not None else ("", {})
    try:
        return dns01.check_persistent(
            DNSName(attempt.domain), issuer, parameters.get("accounturi", ""), world.resolver, now,
            is_wildcard=True,
        )  # fmt: skip
    except Failed as failure:
        raise _told(failure) from None


def _file(attempt: DomainValidation, world: World) -> dict[str, object]:
    file = attempt.record_name.rpartition("/")[2]
    try:
        found = pkivalidation.check(
            DNSName(attempt.domain), file, attempt.random_value, world.resolver, world.reach
        )
    except Failed as failure:
        raise _told(failure) from None
    # Private networks and other ports are for private authorities: policy reads it.
    return found if world.reach == Reach() else found | {"reach": "private"}


def _told(failure: Failed) -> Refused | Unavailable:
    if failure.kind == "dns":
        return Unavailable("dns-failed", failure.detail)
    if failure.kind == "connection":
        return Unavailable("validation-unreachable", failure.detail)
    return Refused("validation-not-found", f"{failure.detail}: publish it and try again")
