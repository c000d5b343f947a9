"""Challenges in the DNS: dns-01, dns-account-01 and dns-persist-01.

RFC 8555 8.4; draft-ietf-acme-dns-account-label; draft-ietf-acme-dns-persist, BR 3.2.2.4.7 and .22.
"""

import base64
import datetime as dt
import hashlib
import hmac

from certmint.model.errors import Unavailable
from certmint.model.names import DNSName
from certmint.validation.dns import Answer, Resolver
from certmint.validation.reach import Failed

PERSIST_LABEL = "_validation-persist"


def key_digest(key_authorization: str) -> str:
    """The TXT value of dns-01 and dns-account-01 (RFC 8555 8.4)."""
    digest = hashlib.sha256(key_authorization.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def account_label(account_url: str) -> str:
    """The first label of dns-account-01's record: ten octets of the account URL's hash."""
    digest = hashlib.sha256(account_url.encode()).digest()[:10]
    return "_" + base64.b32encode(digest).decode().lower()


def check(
    name: DNSName, key_authorization: str, resolver: Resolver, account_url: str | None = None
) -> dict[str, object]:
    """Look for the digest in TXT records; with an account URL, at that account's own label.

    Raises Failed with the ACME error type.
    """
    record = f"_acme-challenge.{name}"
    method = "dns-01 (BR 3.2.2.4.7)"
    if account_url is not None:
        record = f"{account_label(account_url)}.{record}"
        method = "dns-account-01 (BR 3.2.2.4.21)"
    answer = _txt(record, resolver)
    expected = key_digest(key_authorization).encode()
    if not any(hmac.compare_digest(value.encode(), expected) for value in answer.values):
        raise Failed(
            "unauthorized",
            f"{record} has no TXT record with the expected value ({len(answer.values)} others)",
        )
    return {"method": method, "record": record} | _seen(answer)


def check_persistent(
    name: DNSName,
    issuer: str,
    account_url: str,
    resolver: Resolver,
    now: dt.datetime,
    *,
    is_wildcard: bool,
) -> dict[str, object]:
    """Look for a persistent record that names this issuer and this account.

    Malformed records and records for other issuers are skipped; the first good one wins.
    """
    record = f"{PERSIST_LABEL}.{name}"
    answer = _txt(record, resolver)
    for value in answer.values:
        found = persistent_record(value)
        if found is None or found[0] != issuer or found[1].get("accounturi") != account_url:
            continue
        until = found[1].get("persistuntil")
        if until is not None and (not until.isdigit() or now.timestamp() > int(until)):
            continue
        if is_wildcard and found[1].get("policy", "").lower() != "wildcard":
            continue
        return {"method": "dns-persist-01 (BR 3.2.2.4.22)", "record": record} | _seen(answer)
    raise Failed("unauthorized", f"{record} has no record for {issuer} and this account")


def persistent_record(value: str) -> tuple[str, dict[str, str]] | None:
    """Issuer and parameters of a record (RFC 8659 4.2 issue-value), or None if malformed."""
    issuer, *rest = [part.strip(" \t") for part in value.split(";")]
    parameters: dict[str, str] = {}
    for part in rest:
        tag, equals, text = part.partition("=")
        tag = tag.strip(" \t").lower()
        text = text.strip(" \t")
        printable = all(0x21 <= ord(c) <= 0x7E for c in text)
        if not equals or not tag or tag in parameters or not printable:
            return None
        parameters[tag] = text
    return (issuer.lower(), parameters) if issuer else None


def _txt(record: str, resolver: Resolver) -> Answer:
    try:
        return resolver.txt(record)
    except Unavailable as error:
        raise Failed("dns", str(error)) from None


def _seen(answer: Answer) -> dict[str, object]:
    return {
        "values": list(answer.values),
        "server": answer.server,
        "dnssec": "authenticated" if answer.authenticated else "not authenticated",
    }
