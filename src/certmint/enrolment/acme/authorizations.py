"""Authorizations (RFC 8555 7.1.4): who may prove which identifier how, and what counts already.

They come with an order, or before one (7.4.1); one for a domain may be for the names below it as
well (RFC 9444), and is then proved in the DNS alone: a web server speaks for its own name only.
One for hardware serves one order: an attestation speaks of one key, and the next order has another.
"""

import datetime as dt
import json
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from certmint.enrolment.acme import limits as rates
from certmint.enrolment.acme.limits import GENEROUS, Limits
from certmint.enrolment.facts import authority_chain
from certmint.enrolment.manufacturers import new_id
from certmint.model.acme import (
    DELEGATED,
    IN_THE_DNS,
    Account,
    Authorization,
    AuthorizationState,
    Binding,
    Challenge,
    ChallengeState,
    ChallengeType,
    Directory,
    Identifier,
    IdentifierType,
)
from certmint.model.entities import Device, DomainValidation, Product
from certmint.model.errors import BadInput, CertmintError, Refused
from certmint.model.names import Name
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

PENDING_LIFE = dt.timedelta(days=7)
VALID_LIFE = dt.timedelta(days=30)


class Rejected(Exception):
    """Identifiers that this account may not have, each with its reason (subproblems)."""

    def __init__(self, reasons: tuple[tuple[Identifier, CertmintError], ...]) -> None:
        super().__init__(f"{len(reasons)} identifiers are refused")
        self.reasons = reasons


@dataclass(frozen=True)
class Scope:
    """What an account's binding reaches: everything of the maker, a product, or one device."""

    binding: Binding | None
    product: Product | None
    device: Device | None


def scope_of(tx: Transaction, account: Account) -> Scope:
    """Raises Refused `binding-revoked` when the operator took the binding back."""
    if account.binding_id is None:
        return Scope(None, None, None)
    binding = reads.acme_binding(tx, account.directory, account.binding_id)
    if binding is None or binding.revoked_at is not None:
        raise Refused("binding-revoked", "the account's external binding was revoked")
    device = reads.device(tx, account.tenant_id, binding.device_id) if binding.device_id else None
    product_id = device.product_id if device else binding.product_id
    product = reads.product(tx, account.tenant_id, product_id) if product_id else None
    return Scope(binding, product, device)


def check_terms(directory: Directory, account: Account) -> None:
    """Raises Refused `terms-changed` until the account agrees to the present ones (7.3.3)."""
    if directory.terms and account.agreed_terms != directory.terms:
        raise Refused(
            "terms-changed",
            f"agree to the terms of service at {directory.terms}: send newAccount again, with the "
            "same key and termsOfServiceAgreed",
        )


def validated_domains(
    tx: Transaction, directory: Directory, scope: Scope
) -> Sequence[DomainValidation]:
    """What the maker validated, for accounts that the maker has bound."""
    return reads.verified_domains(tx, directory.tenant_id) if scope.binding else ()


def reject(
    tx: Transaction,
    directory: Directory,
    scope: Scope,
    wanted: Sequence[Identifier],
    domains: Sequence[DomainValidation],
) -> None:
    """Raises Rejected for identifiers that could never be certified here, one by one."""
    chain = authority_chain(tx, directory.tenant_id, directory.authority_id)
    allowed = scope.product.names_of(scope.device.label) if scope.device and scope.product else None
    reasons: list[tuple[Identifier, CertmintError]] = []
    for identifier in wanted:
        name = identifier.name
        if name is not None and allowed is not None and name not in allowed:
            detail = f"{name} is not a name of the device that this account is bound to"
            reasons.append((identifier, Refused("name-not-of-device", detail)))
        elif name is not None and any(
            link.constraints and not link.constraints.permits(name) for link in chain
        ):
            detail = f"{name} is outside the name constraints of this directory's authority"
            reasons.append((identifier, Refused("name-outside-constraints", detail)))
        elif not challenge_types(directory, identifier, covers_subdomains=False) and (
            name is None or maker_validation(name, domains) is None
        ):
            detail = f"this directory has no challenge that could prove {identifier.value}"
            reasons.append((identifier, Refused("no-challenge", detail)))
    if reasons:
        raise Rejected(tuple(reasons))


def held(
    tx: Transaction,
    directory: Directory,
    account: Account,
    wanted: Sequence[Identifier],
    now: dt.datetime,
) -> list[Authorization]:
    """The account's live authorizations that may serve these, the best last: valid, lasting."""
    keys = dict.fromkeys((i.type.value, i.authorized.value, i.is_wildcard) for i in wanted)
    if directory.allows_subdomains:
        for identifier in wanted:
            keys |= dict.fromkeys((i.type.value, i.value, False) for i in ancestors(identifier))
    return reads.live_acme_authorizations(tx, account.id, list(keys), now)


def ancestors(identifier: Identifier) -> list[Identifier]:
    """The domains that a DNS identifier is in, itself first, down to two labels."""
    if identifier.type is not IdentifierType.DNS:
        return []
    labels = identifier.authorized.value.split(".")
    return [
        Identifier(IdentifierType.DNS, ".".join(labels[start:]))
        for start in range(max(1, len(labels) - 1))
    ]


def serving(
    known: Sequence[Authorization], identifier: Identifier, ancestor: Identifier | None
) -> Authorization | None:
    """The one of `known` that an order uses for an identifier.

    A pending one for a whole domain is used only for a client that said it can prove the domain
    (`ancestor`, RFC 9444 4.3); a valid one for hardware never, as it is about an earlier key.
    """
    for found in reversed(known):
        is_valid = found.state is AuthorizationState.VALID
        if is_valid and identifier.is_hardware:
            continue
        asked_for = found.identifier == ancestor if found.covers_subdomains else ancestor is None
        if found.covers(identifier) and (is_valid or asked_for):
            return found
    return None


def challenge_types(
    directory: Directory, identifier: Identifier, *, covers_subdomains: bool
) -> tuple[ChallengeType, ...]:
    """What may show control: of a wildcard by DNS alone, of an address never (RFC 8738 7).

    Hardware attests itself, and nothing else does.
    """
    attest = ChallengeType.DEVICE_ATTEST_01
    if identifier.is_hardware:
        return (attest,) if attest in directory.challenges else ()
    offered = tuple(kind for kind in directory.challenges if kind is not attest)
    if identifier.type is IdentifierType.IP:
        return tuple(kind for kind in offered if kind not in IN_THE_DNS)
    if identifier.is_wildcard or covers_subdomains:
        return tuple(kind for kind in offered if kind in IN_THE_DNS)
    return offered


def make(
    directory: Directory,
    account: Account,
    identifier: Identifier,
    domains: Sequence[DomainValidation],
    now: dt.datetime,
    random_bytes: RandomBytes,
    *,
    covers_subdomains: bool = False,
) -> Authorization:
    """A new authorization; valid at once where the manufacturer's own validation covers it."""
    authorization_id = new_id("azn", now, random_bytes)
    token = urlsafe_b64encode(random_bytes(32)).rstrip(b"=").decode()
    kinds = challenge_types(directory, identifier, covers_subdomains=covers_subdomains)
    challenges = tuple(
        Challenge(
            id=new_id("chl", now, random_bytes),
            authorization_id=authorization_id,
            type=kind,
            token="" if kind is ChallengeType.DNS_PERSIST_01 else token,
            state=ChallengeState.PENDING,
        )
        for kind in kinds
    )
    name, evidence = identifier.name, ""
    validated = maker_validation(name, domains) if name is not None else None
    if validated is not None:
        seen = {"method": DELEGATED, "validation": validated.id, "adn": validated.domain}
        evidence = json.dumps(seen, sort_keys=True)
    return Authorization(
        id=authorization_id,
        tenant_id=directory.tenant_id,
        account_id=account.id,
        identifier=identifier.authorized,
        is_wildcard=identifier.is_wildcard,
        state=AuthorizationState.VALID if validated else AuthorizationState.PENDING,
        expires_at=now + (VALID_LIFE if validated else PENDING_LIFE),
        created_at=now,
        challenges=challenges,
        evidence=evidence,
        covers_subdomains=covers_subdomains,
    )


def maker_validation(name: Name, domains: Sequence[DomainValidation]) -> DomainValidation | None:
    """The manufacturer's own validation that covers a name; policy weighs its age again."""
    for found in domains:
        if str(name) == found.domain or (
            hasattr(name, "is_within") and name.is_within(found.domain)
        ):
            return found
    return None


def new_authorization(
    db: Database,
    directory: Directory,
    account: Account,
    identifier: Identifier,
    *,
    subdomains: bool,
    now: dt.datetime,
    random_bytes: RandomBytes,
    limits: Limits = GENEROUS,
) -> tuple[Authorization, bool]:
    """Authorize an identifier before any order (RFC 8555 7.4.1), and whether it is new.

    `subdomains` asks for the names below too; where the directory or the account's binding does
    not allow that, the authorization is for the name alone (RFC 9444 4.2). It counts as an order.
    Raises BadInput `authorization-wildcard` or `authorization-hardware`, Rejected, Refused
    `terms-changed`, RateLimited.
    """
    if identifier.is_wildcard:
        raise BadInput("authorization-wildcard", "a wildcard is authorized by an order only")
    if identifier.is_hardware:
        raise BadInput(
            "authorization-hardware",
            "hardware is authorized by an order only: it attests the key of one certificate",
        )
    check_terms(directory, account)
    with db.read() as tx:
        scope = scope_of(tx, account)
        domains = validated_domains(tx, directory, scope)
        reject(tx, directory, scope, [identifier], domains)
        known = held(tx, directory, account, [identifier], now)
    wide = subdomains and may_cover_subdomains(directory, scope, identifier)
    for found in reversed(known):
        if found.identifier == identifier and found.covers_subdomains == wide:
            return found, False
    made = make(directory, account, identifier, domains, now, random_bytes, covers_subdomains=wide)
    who = rates.subjects(
        "orders", limits.orders, account.tenant_id, account.id,
        scope.device.id if scope.device else None,
    )  # fmt: skip

    def work(tx: Transaction) -> None:
        rates.spend(tx, who, limits, now)
        writes.add_acme_authorizations(tx, [made])

    db.write(work)
    return made, True


def may_cover_subdomains(directory: Directory, scope: Scope, identifier: Identifier) -> bool:
    """Whether an authorization may be for all names below (RFC 9444): never for one device."""
    kinds = challenge_types(directory, identifier, covers_subdomains=True)
    return (
        directory.allows_subdomains
        and scope.device is None
        and identifier.type is IdentifierType.DNS
        and bool(kinds)
    )
