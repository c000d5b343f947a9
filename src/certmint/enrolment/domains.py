"""Domains: address records for a router's name, proof of control by DNS, and how old proofs are.

BR 3.2.2.4.7: a random value of 160 bits, unique to one attempt, that dies after 30 days, found in
a TXT record at `_certmint-challenge.<domain>` or as the target of a CNAME there. BR 3.2.2.4.22: a
record at `_validation-persist.<domain>` that stays, and is looked at again and again. What was
seen is kept as evidence. E-mail begins in `emailing`, the hash of a CSR in `csrhash`; the evidence
of all stands in the same table.
"""

import base64
import datetime as dt
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass

from certmint.enrolment.manufacturers import new_id
from certmint.enrolment.proofs import World, challenge_record, seen
from certmint.model.entities import DomainValidation, Manufacturer, ValidationMethod
from certmint.model.errors import BadInput, Conflict, NotFound, Refused, WrongState
from certmint.model.names import DNSName, IPName, is_special_use, parse_name
from certmint.model.profile import Trust
from certmint.model.serial import RandomBytes
from certmint.policy.domains import usable_until
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction
from certmint.validation.dns import Nameserver, NetworkResolver
from certmint.validation.dns01 import PERSIST_LABEL
from certmint.validation.dnsupdate import Record, TSIGKey, replace_records

__all__ = [
    "REQUEST_TOKENS",
    "Account",
    "Age",
    "World",
    "address_records",
    "ages",
    "apply_records",
    "assert_domain",
    "begin_validation",
    "challenge_record",
    "domain_of",
    "evidence_of",
    "refuse_used_token",
    "validation",
    "verify_domain",
]

VALUE_LIFE = dt.timedelta(days=30)
LABEL = "_certmint-challenge"
REQUEST_TOKENS = (ValidationMethod.CNAME_CSR_HASH, ValidationMethod.HTTP_CSR_HASH)
_WITH_VALUE = (ValidationMethod.DNS_TXT, ValidationMethod.DNS_CNAME)


@dataclass(frozen=True)
class Account:
    """What a record that stays says: the issuer's domain name, and the applicant's account."""

    issuer: str
    uri: str


def begin_validation(
    db: Database,
    tenant: Manufacturer,
    domain: str,
    method: ValidationMethod,
    *,
    by: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
    account: Account | None = None,
) -> DomainValidation:
    """Open one attempt by DNS; the answer says which record to publish.

    A record that stays names the manufacturer's `account`. Raises BadInput `name-syntax` or
    `validation-method`.
    """
    name = domain_of(domain)
    record_name = f"{LABEL}.{name}"
    if method in _WITH_VALUE:
        value = base64.b32encode(random_bytes(20)).decode().lower()
    elif method is ValidationMethod.DNS_PERSIST and account is not None:
        record_name = f"{PERSIST_LABEL}.{name}"
        value = f"{account.issuer}; accounturi={account.uri}; policy=wildcard"
    else:
        raise BadInput(
            "validation-method",
            f"{method} does not begin with a DNS record: choose dns-txt, dns-cname or dns-persist",
        )
    attempt = DomainValidation(
        id=new_id("val", now, random_bytes),
        tenant_id=tenant.id,
        domain=name,
        method=method,
        random_value=value,
        record_name=record_name,
        created_at=now,
        expires_at=now + VALUE_LIFE,
    )
    db.write(lambda tx: writes.add_domain_validation(tx, attempt, by=by, at=now))
    return attempt


def domain_of(text: str) -> str:
    """A domain as people write it. Raises BadInput `name-syntax` for an address or a wildcard."""
    name = parse_name(text)
    if isinstance(name, IPName) or name.is_wildcard:
        raise BadInput("name-syntax", f"{text!r}: give the domain itself, without a wildcard")
    return name.value


def verify_domain(
    db: Database,
    tenant: Manufacturer,
    attempt_id: str,
    world: World,
    *,
    by: str,
    now: dt.datetime,
) -> DomainValidation:
    """Look for what was to be published and keep what was seen as evidence.

    Raises NotFound `validation-unknown`, WrongState `validation-done`, Refused
    `validation-expired`, `validation-not-found` or `validation-awaiting`, Unavailable `dns-failed`
    or `validation-unreachable`.
    """
    attempt = validation(db, tenant, attempt_id)
    if attempt.verified_at is not None:
        raise WrongState("validation-done", f"validation {attempt_id} was completed already")
    if now >= attempt.expires_at:
        raise Refused(
            "validation-expired",
            f"what was to prove {attempt.domain} expired at {attempt.expires_at.isoformat()}: "
            "begin again",
        )
    evidence = evidence_of(db, tenant, attempt, world, now)

    def work(tx: writes.Transaction) -> None:
        refuse_used_token(tx, attempt)
        writes.mark_domain_verified(tx, tenant.id, attempt_id, now, evidence, by=by)

    db.write(work)
    return validation(db, tenant, attempt_id)


def evidence_of(
    db: Database, tenant: Manufacturer, attempt: DomainValidation, world: World, now: dt.datetime
) -> str:
    """What is seen of an attempt now, as canonical JSON; raises what `verify_domain` does."""
    if _is_public(db, tenant):
        world = World(world.resolver)  # a lab's ports and networks are for private hierarchies
    return json.dumps(seen(attempt, world, now), sort_keys=True)


def refuse_used_token(tx: Transaction, attempt: DomainValidation) -> None:
    """A request token without a time counts once (BR 1.6.1). Raises Conflict `token-used`."""
    if attempt.method not in REQUEST_TOKENS:
        return
    for each in reads.domain_validations(tx, attempt.tenant_id, attempt.domain):
        if each.verified_at is not None and each.random_value == attempt.random_value:
            raise Conflict(
                "token-used",
                f"this CSR has proved {attempt.domain} before: use another unique value, or "
                "another CSR",
            )


def _is_public(db: Database, tenant: Manufacturer) -> bool:
    with db.read() as tx:
        return any(each.trust is Trust.PUBLIC for each in reads.authorities(tx, tenant.id))


@dataclass(frozen=True)
class Age:
    """The newest proof of one domain by one method, and how long it counts.

    `public_until` and `private_until` are the last moments at which it counts for such
    certificates; None if it never does. `lapses_at` is the one that matters to this manufacturer:
    the public one, if it has a public authority.
    """

    proof: DomainValidation
    verified_at: dt.datetime
    public_until: dt.datetime | None
    private_until: dt.datetime | None
    lapses_at: dt.datetime

    def days_left(self, now: dt.datetime) -> int:
        """Whole days until it lapses; 0 on the last day and ever after."""
        return max(0, (self.lapses_at - now).days)


def ages(db: Database, tenant: Manufacturer) -> list[Age]:
    """The newest proof of every domain, by domain; of two that lapse together, the later."""
    with db.read() as tx:
        proofs = reads.verified_domains(tx, tenant.id)
    is_public = _is_public(db, tenant)
    found: dict[str, Age] = {}
    for proof in proofs:
        age = _age(proof, is_public)
        best = found.get(proof.domain)
        if best is None or age.lapses_at >= best.lapses_at:
            found[proof.domain] = age
    return [found[domain] for domain in sorted(found)]


def _age(proof: DomainValidation, is_public: bool) -> Age:
    public = usable_until(proof, Trust.PUBLIC)
    private = usable_until(proof, Trust.PRIVATE)
    matters = public if is_public and public is not None else private
    return Age(
        proof, proof.verified_at or proof.created_at, public, private, matters or proof.created_at
    )


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
