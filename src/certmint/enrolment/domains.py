"""Domains: address records for a router's name, and proof of control by DNS.

Validation is BR 3.2.2.4.7: a random value of 160 bits, unique to one attempt, that dies after 30
days, found in a TXT record at `_certmint-challenge.<domain>` or as the target of a CNAME there.
What was seen is kept as evidence.
"""

import base64
import datetime as dt
import hmac
import ipaddress
import json
from collections.abc import Sequence

from certmint.enrolment.manufacturers import new_id
from certmint.model.entities import DomainValidation, Manufacturer, ValidationMethod
from certmint.model.errors import BadInput, NotFound, Refused, WrongState
from certmint.model.names import DNSName, IPName, is_special_use, parse_name
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction
from certmint.validation.dns import Nameserver, NetworkResolver, Resolver
from certmint.validation.dnsupdate import Record, TSIGKey, replace_records

VALUE_LIFE = dt.timedelta(days=30)
LABEL = "_certmint-challenge"


def begin_validation(
    db: Database,
    tenant: Manufacturer,
    domain: str,
    method: ValidationMethod,
    *,
    by: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> DomainValidation:
    """Open one attempt; the answer says which record to publish. Raises BadInput `name-syntax`."""
    name = parse_name(domain)
    if isinstance(name, IPName) or name.is_wildcard:
        raise BadInput("name-syntax", f"{domain!r}: give the domain itself, without a wildcard")
    if method is ValidationMethod.OPERATOR:
        raise BadInput("validation-method", "an operator's word needs no record: use `--assert`")
    attempt = DomainValidation(
        id=new_id("val", now, random_bytes),
        tenant_id=tenant.id,
        domain=name.value,
        method=method,
        random_value=base64.b32encode(random_bytes(20)).decode().lower(),
        record_name=f"{LABEL}.{name.value}",
        created_at=now,
        expires_at=now + VALUE_LIFE,
    )
    db.write(lambda tx: writes.add_domain_validation(tx, attempt, by=by, at=now))
    return attempt


def challenge_record(attempt: DomainValidation) -> Record:
    """The record that shows control, as the zone wants it."""
    if attempt.method is ValidationMethod.DNS_CNAME:
        value = f"{attempt.random_value}.dcv.{attempt.domain}."
        return Record(f"{attempt.record_name}.", "CNAME", value)
    return Record(f"{attempt.record_name}.", "TXT", f'"{attempt.random_value}"')


def verify_domain(
    db: Database,
    tenant: Manufacturer,
    attempt_id: str,
    resolver: Resolver,
    *,
    by: str,
    now: dt.datetime,
) -> DomainValidation:
    """Look for the random value in the DNS and keep what was seen as evidence.

    Raises NotFound `validation-unknown`, WrongState `validation-done`, Refused
    `validation-expired` or `validation-not-found`, Unavailable `dns-failed`.
    """
    attempt = validation(db, tenant, attempt_id)
    if attempt.verified_at is not None:
        raise WrongState("validation-done", f"validation {attempt_id} was completed already")
    if now >= attempt.expires_at:
        raise Refused(
            "validation-expired",
            f"the random value for {attempt.domain} expired at {attempt.expires_at.isoformat()}: "
            "begin again",
        )
    wants_alias = attempt.method is ValidationMethod.DNS_CNAME
    answer = resolver.cname(attempt.record_name) if wants_alias else resolver.txt(
        attempt.record_name
    )  # fmt: skip
    expected = attempt.random_value.encode()
    seen = [value.split(".", 1)[0] if wants_alias else value for value in answer.values]
    if not any(hmac.compare_digest(value.encode(), expected) for value in seen):
        record = challenge_record(attempt)
        raise Refused(
            "validation-not-found",
            f"{answer.server} has no {record.kind} record at {attempt.record_name} with the "
            f"expected value ({len(answer.values)} others): publish it and try again",
        )
    evidence = json.dumps(
        {
            "adn": attempt.domain,
            "method": "BR 3.2.2.4.7",
            "record": attempt.record_name,
            "type": "CNAME" if wants_alias else "TXT",
            "values": list(answer.values),
            "server": answer.server,
            "dnssec": "authenticated" if answer.authenticated else "not authenticated",
        },
        sort_keys=True,
    )
    db.write(
        lambda tx: writes.mark_domain_verified(tx, tenant.id, attempt_id, now, evidence, by=by)
    )
    return validation(db, tenant, attempt_id)


def assert_domain(
    db: Database,
    tenant: Manufacturer,
    name: str,
    *,
    by: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> DomainValidation:
    """Take an operator's word for a name that only exists in private networks.

    It counts for private profiles. Raises Refused `validation-not-private` for any other name.
    """
    parsed = parse_name(name)
    if not is_special_use(parsed) or (isinstance(parsed, DNSName) and parsed.is_wildcard):
        raise Refused(
            "validation-not-private",
            f"{name} can be proved in the DNS, so nobody's word is taken for it: use a dns method",
        )
    made = DomainValidation(
        id=new_id("val", now, random_bytes),
        tenant_id=tenant.id,
        domain=str(parsed),
        method=ValidationMethod.OPERATOR,
        random_value="",
        record_name="",
        created_at=now,
        expires_at=now,
    )
    evidence = json.dumps({"adn": str(parsed), "method": "operator", "operator": by})

    def work(tx: writes.Transaction) -> None:
        writes.add_domain_validation(tx, made, by=by, at=now)
        writes.mark_domain_verified(tx, tenant.id, made.id, now, evidence, by=by)

    db.write(work)
    return validation(db, tenant, made.id)


def newest_evidence(tx: Transaction, tenant_id: str) -> list[DomainValidation]:
    """The newest successful validation of each domain, by domain."""
    newest = {each.domain: each for each in reads.verified_domains(tx, tenant_id)}
    return [newest[domain] for domain in sorted(newest)]


def validation(db: Database, tenant: Manufacturer, attempt_id: str) -> DomainValidation:
    """One attempt. Raises NotFound `validation-unknown`."""
    with db.read() as tx:
        found = reads.domain_validation(tx, tenant.id, attempt_id)
    if found is None:
        raise NotFound("validation-unknown", f"there is no validation {attempt_id!r}")
    return found


def address_records(name: str, address: str) -> tuple[Record, ...]:
    """The A or AAAA records that tie a name and its wildcard to a router's LAN address."""
    base = parse_name(name)
    if isinstance(base, IPName) or base.is_wildcard:
        raise BadInput("name-syntax", f"{name!r}: give the name itself, without a wildcard")
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise BadInput("name-syntax", f"{address!r} is not an IP address") from None
    kind = "AAAA" if parsed.version == 6 else "A"
    return (
        Record(f"{base.value}.", kind, str(parsed)),  # as the server will answer it
        Record(f"*.{base.value}.", kind, str(parsed)),
    )


def apply_records(
    server: Nameserver, zone: str, records: Sequence[Record], key: TSIGKey
) -> list[str]:
    """Write records by RFC 2136 and ask the same server whether they are there.

    Returns one line of proof a record. Raises Refused `dns-update-refused` or
    `dns-update-missing`, Unavailable `dns-failed`.
    """
    replace_records(server, zone, records, key)
    resolver = NetworkResolver((server,))
    proof = []
    for record in records:
        asked = record.name.rstrip(".").replace("*.", "any-device.")
        lookup = {"TXT": resolver.txt, "CNAME": resolver.cname}.get(record.kind, resolver.addresses)
        found = lookup(asked)
        if record.value.strip('"').rstrip(".") not in found.values:
            raise Refused(
                "dns-update-missing",
                f"{server} took the update, but does not answer {record.value} for {asked}",
            )
        proof.append(f"{asked} {record.kind} {', '.join(found.values)} (from {server})")
    return proof
