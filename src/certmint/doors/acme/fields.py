"""What is inside a payload, field by field: contacts, identifiers, octets, ARI's identifiers.

Wire in, values out; every refusal is an ACME problem or one of our errors. Nothing is looked up.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from certmint.doors.acme import jws
from certmint.doors.acme.problems import ACMEProblem, kind_of, subproblems
from certmint.enrolment.acme import orders
from certmint.enrolment.acme.star import Wish
from certmint.model.acme import Identifier, identifier_of
from certmint.model.errors import BadInput
from certmint.model.names import DNSName
from certmint.model.serial import Serial, serial_of


def contacts(wanted: Mapping[str, Any]) -> tuple[str, ...]:
    """What the account says of itself; its syntax is judged elsewhere."""
    given = wanted.get("contact")
    if given is None:  # so a client says that it has nothing to say
        return ()
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise ACMEProblem("malformed", "contact is not a list of strings")
    return tuple(given)


def identifiers(wanted: Mapping[str, Any]) -> list[Identifier]:
    """An order's identifiers; those that nobody may have are named one by one (6.7.1).

    Raises ACMEProblem.
    """
    given = wanted.get("identifiers")
    if not isinstance(given, list) or not given or len(given) > orders.MAX_IDENTIFIERS:
        raise ACMEProblem("malformed", "identifiers is not a list of 1 to 100 objects")
    found: list[Identifier] = []
    reasons: list[tuple[str, str, BadInput]] = []
    for each in given:
        if not isinstance(each, Mapping) or not all(
            isinstance(each.get(field), str) for field in ("type", "value")
        ):
            raise ACMEProblem("malformed", "an identifier has a type and a value")
        try:
            found.append(identifier_of(each["type"], each["value"]))
        except BadInput as error:
            reasons.append((each["type"], each["value"], error))
    if reasons:
        kind, detail, extra = subproblems(reasons)
        raise ACMEProblem(kind, detail, kind_of(reasons[0][2])[1], extra)
    return found


def identifier(wanted: Mapping[str, Any]) -> tuple[Identifier, bool]:
    """newAuthz's one identifier, and whether it is for the names below too (RFC 9444 4.2).

    Raises ACMEProblem.
    """
    given = wanted.get("identifier")
    (found,) = identifiers({"identifiers": [given]})
    subdomains = given.get("subdomainAuthAllowed", False) if isinstance(given, Mapping) else False
    if not isinstance(subdomains, bool):
        raise ACMEProblem("malformed", "subdomainAuthAllowed is not a boolean")
    return found, subdomains


def ancestors(wanted: Mapping[str, Any]) -> dict[Identifier, Identifier]:
    """The domains that can be proved instead of an order's identifiers (RFC 9444 4.3).

    `identifiers` has judged the rest of the payload. Raises ACMEProblem `malformed`.
    """
    found = {}
    for each in wanted["identifiers"]:
        given = each.get("ancestorDomain")
        if given is None:
            continue
        name = identifier_of(each["type"], each["value"])
        (ancestor,) = identifiers({"identifiers": [{"type": "dns", "value": given}]})
        if (
            name.type is not ancestor.type
            or ancestor.is_wildcard
            or not DNSName(name.value).is_within(ancestor.value)
        ):
            raise ACMEProblem("malformed", "ancestorDomain is not a domain that the name is in")
        found[name] = ancestor
    return found


def auto_renewal(wanted: Mapping[str, Any]) -> Wish | None:
    """How an order shall renew itself (RFC 8739 3.1.1). Raises ACMEProblem `malformed`."""
    given = wanted.get("auto-renewal")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ACMEProblem("malformed", "auto-renewal is not a JSON object")
    if given.get("start-date") is not None:
        raise ACMEProblem("malformed", "an order begins when it is finalized: no start-date")
    allows_get = given.get("allow-certificate-get", False)
    if not isinstance(allows_get, bool):
        raise ACMEProblem("malformed", "allow-certificate-get is not a boolean")
    return Wish(
        _moment(given.get("end-date")),
        _seconds(given, "lifetime", None),
        _seconds(given, "lifetime-adjust", 0),
        allows_get,
    )


def _moment(text: object) -> dt.datetime:
    try:
        found = dt.datetime.fromisoformat(text) if isinstance(text, str) else None
        if found is not None and found.tzinfo is not None:
            return found.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        pass
    raise ACMEProblem("malformed", "end-date is not a date and time of RFC 3339")


def _seconds(wanted: Mapping[str, Any], field: str, default: int | None) -> dt.timedelta:
    given = wanted.get(field, default)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < 2**31:
        raise ACMEProblem("malformed", f"{field} is not a number of seconds")
    return dt.timedelta(seconds=given)


def optional_text(wanted: Mapping[str, Any], field: str) -> str | None:
    """A field that may be absent. Raises ACMEProblem `malformed`."""
    given = wanted.get(field)
    if given is not None and not isinstance(given, str):
        raise ACMEProblem("malformed", f"{field} is not a string")
    return given


def octets(wanted: Mapping[str, Any], field: str) -> bytes:
    """A field in base64url. Raises ACMEProblem `malformed`."""
    try:
        return jws.unb64url(wanted.get(field), field)
    except jws.Malformed as error:
        raise ACMEProblem("malformed", str(error)) from None


def cert_id(text: object) -> tuple[bytes, Serial]:
    """An ARI certificate identifier (RFC 9773 4.1): AKI and serial, base64url, with a dot."""
    try:
        key_id, dot, number = str(text).partition(".")
        aki, serial = jws.unb64url(key_id, "the AKI"), jws.unb64url(number, "the serial")
    except jws.Malformed as error:
        raise ACMEProblem("malformed", f"certificate identifier: {error}") from None
    if not dot or not aki or not 1 <= len(serial) <= 21:
        raise ACMEProblem("malformed", "the certificate identifier is not AKI.serial")
    return aki, serial_of(int.from_bytes(serial, "big"))
