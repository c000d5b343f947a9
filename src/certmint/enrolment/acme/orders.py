"""ACME orders, from the first identifier to the certificate (RFC 8555 7.4, 7.5)."""

import datetime as dt
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from certmint.enrolment.authorities import profile_named
from certmint.enrolment.facts import authority_chain
from certmint.enrolment.issue import Along, Gate
from certmint.enrolment.manufacturers import new_id
from certmint.model.acme import (
    DELEGATED,
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
    Order,
    OrderEvent,
    OrderState,
)
from certmint.model.csr import CSR
from certmint.model.entities import Certificate, Device, DomainValidation, Product
from certmint.model.errors import (
    BadInput,
    CertmintError,
    Conflict,
    NotFound,
    Refused,
    WrongState,
)
from certmint.model.evidence import ControlsNames
from certmint.model.names import Name
from certmint.model.request import CertificateRequest, Requester, RequesterKind
from certmint.model.serial import RandomBytes, Serial, serial_of
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

ORDER_LIFE = dt.timedelta(days=7)
PENDING_LIFE = dt.timedelta(days=7)
VALID_LIFE = dt.timedelta(days=30)
MAX_PENDING = 300
MAX_IDENTIFIERS = 100


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


def new_order(
    db: Database,
    directory: Directory,
    account: Account,
    identifiers: Sequence[Identifier],
    profile: str | None,
    replaces: str | None,
    *,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> Order:
    """Open an order; names that the maker has validated are authorized at once.

    Raises Rejected, Refused `rate-limited` or `profile-unknown`, Conflict `already-replaced`.
    """
    chosen = profile or directory.profiles[0]
    if chosen not in directory.profiles:
        raise BadInput("profile-not-offered", f"profile {chosen!r} is not offered here")
    wanted = tuple(dict.fromkeys(identifiers))
    if not wanted or len(wanted) > MAX_IDENTIFIERS:
        raise BadInput("order-size", f"an order has 1 to {MAX_IDENTIFIERS} identifiers")
    with db.read() as tx:
        scope = scope_of(tx, account)
        if reads.count_pending_acme_orders(tx, account.id, now) >= MAX_PENDING:
            raise Refused(
                "rate-limited", f"the account has {MAX_PENDING} open orders: finish some first"
            )
        _reject(tx, directory, scope, wanted)
        _check_replaces(tx, account, wanted, replaces)
        domains = reads.verified_domains(tx, directory.tenant_id) if scope.binding else ()
        known = _reusable(tx, account, wanted, now)
    order_id = new_id("ord", now, random_bytes)
    made: list[Authorization] = []
    used: list[Authorization] = []
    for identifier in wanted:
        held = known.get((identifier.authorized, identifier.is_wildcard))
        if held is None:
            held = _authorization(directory, account, identifier, domains, now, random_bytes)
            made.append(held)
        used.append(held)
    ready = all(each.state is AuthorizationState.VALID for each in used)
    order = Order(
        id=order_id,
        tenant_id=directory.tenant_id,
        account_id=account.id,
        directory=directory.id,
        profile=chosen,
        state=OrderState.READY if ready else OrderState.PENDING,
        identifiers=wanted,
        authorization_ids=tuple(each.id for each in used),
        expires_at=min([now + ORDER_LIFE, *(each.expires_at for each in used)]),
        created_at=now,
        replaces=replaces,
    )
    db.write(lambda tx: writes.add_acme_order(tx, order, made))
    return order


def _reject(
    tx: Transaction, directory: Directory, scope: Scope, wanted: Sequence[Identifier]
) -> None:
    chain = authority_chain(tx, directory.tenant_id, directory.authority_id)
    allowed = scope.product.names_of(scope.device.label) if scope.device and scope.product else None
    reasons: list[tuple[Identifier, CertmintError]] = []
    for identifier in wanted:
        name = identifier.name
        if allowed is not None and name not in allowed:
            detail = f"{name} is not a name of the device that this account is bound to"
            reasons.append((identifier, Refused("name-not-of-device", detail)))
        elif any(link.constraints and not link.constraints.permits(name) for link in chain):
            detail = f"{name} is outside the name constraints of this directory's authority"
            reasons.append((identifier, Refused("name-outside-constraints", detail)))
    if reasons:
        raise Rejected(tuple(reasons))


def _check_replaces(
    tx: Transaction, account: Account, wanted: Sequence[Identifier], replaces: str | None
) -> None:
    """RFC 9773 5: of the same account, with a name in common, and without a successor."""
    if replaces is None:
        return
    serial = replaced_serial(replaces)
    found = reads.certificate(tx, account.tenant_id, serial)
    earlier = reads.acme_order_of_serial(tx, account.tenant_id, serial)
    if found is None or earlier is None or earlier.account_id != account.id:
        raise BadInput("replaces-unknown", "replaces names no certificate of this account")
    if not set(earlier.identifiers) & set(wanted):
        raise BadInput("replaces-unknown", "the replaced certificate shares no name with the order")
    if found.successor is not None:
        raise Conflict("already-replaced", "the certificate was replaced by another order")


def replaced_serial(cert_id: str) -> Serial:
    """The serial in an ARI certificate identifier (RFC 9773 4.1), which the door has checked."""
    number = cert_id.partition(".")[2]
    return serial_of(int.from_bytes(urlsafe_b64decode(number + "=" * (-len(number) % 4)), "big"))


def _reusable(
    tx: Transaction, account: Account, wanted: Sequence[Identifier], now: dt.datetime
) -> dict[tuple[Identifier, bool], Authorization]:
    keys = [(i.type.value, i.authorized.value, i.is_wildcard) for i in wanted]
    found = {}
    for held in (
        *reads.pending_acme_authorizations(tx, account.id, keys, now),
        *reads.valid_acme_authorizations(tx, account.id, keys, now),
    ):
        found[held.identifier, held.is_wildcard] = held
    return found


def challenge_types(identifier: Identifier) -> tuple[ChallengeType, ...]:
    """What may show control: a wildcard by DNS alone, an address never by DNS (RFC 8738 7)."""
    if identifier.type is IdentifierType.IP:
        return (ChallengeType.HTTP_01, ChallengeType.TLS_ALPN_01)
    if identifier.is_wildcard:
        return (ChallengeType.DNS_01,)
    return (ChallengeType.HTTP_01, ChallengeType.DNS_01, ChallengeType.TLS_ALPN_01)


def _authorization(
    directory: Directory,
    account: Account,
    identifier: Identifier,
    domains: Sequence[DomainValidation],
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> Authorization:
    authorization_id = new_id("azn", now, random_bytes)
    token = random_bytes(32)

    challenges = tuple(
        Challenge(
            id=new_id("chl", now, random_bytes),
            authorization_id=authorization_id,
            type=kind,
            token=urlsafe_b64encode(token).rstrip(b"=").decode(),
            state=ChallengeState.PENDING,
        )
        for kind in challenge_types(identifier)
    )
    validated = maker_validation(identifier.name, domains)
    evidence = ""
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
    )


def maker_validation(name: Name, domains: Sequence[DomainValidation]) -> DomainValidation | None:
    """The manufacturer's own validation that covers a name; policy weighs its age again."""
    for found in domains:
        if str(name) == found.domain or (
            hasattr(name, "is_within") and name.is_within(found.domain)
        ):
            return found
    return None


def finalize(
    db: Database,
    gate: Gate,
    directory: Directory,
    account: Account,
    order: Order,
    csr: CSR,
    *,
    now: dt.datetime,
) -> Order:
    """Certify a ready order's names for the CSR's key, through the gate.

    One of several calls at once takes the order; the others raise WrongState `order-not-ready`.
    A CSR that does not fit leaves the order ready (RFC 8555 7.4). Raises BadInput `csr-names`.
    """
    if order.state is not OrderState.READY or now >= order.expires_at:
        raise WrongState("order-not-ready", f"the order is {order.state}, not ready")
    wanted = {identifier.name for identifier in order.identifiers}
    asked = set(csr.names)
    if csr.common_name is not None:
        asked |= {name for name in wanted if str(name) == csr.common_name.lower()}
    if asked != wanted or not _cn_fits(csr, wanted):
        raise BadInput("csr-names", "the CSR's names are not exactly those of the order")
    request = _request(db, directory, account, order, csr, now)
    _move(db, order, OrderState.READY, OrderEvent.FINALIZED, now)
    try:
        gate.issue_one(request, now, _issued(order, now))
    except (BadInput, Refused, Conflict) as refusal:
        if refusal.code in _ABOUT_THE_KEY:
            _move(db, order, OrderState.PROCESSING, OrderEvent.DECLINED, now)
        else:
            error = json.dumps({"code": refusal.code, "detail": refusal.detail})
            _move(db, order, OrderState.PROCESSING, OrderEvent.FAILED, now, error)
        raise
    except CertmintError:  # a fault of ours, not of the request: the order can be tried again
        _move(db, order, OrderState.PROCESSING, OrderEvent.DECLINED, now)
        raise
    with db.read() as tx:
        done = reads.acme_order(tx, account.id, order.id)
    if done is None:
        raise NotFound("order-unknown", "there is no such order")
    return done


_ABOUT_THE_KEY = frozenset({"key-kind", "key-origin", "key-blocked", "key-reused", "csr-asks-more"})


def _cn_fits(csr: CSR, wanted: set[Name]) -> bool:
    return csr.common_name is None or csr.common_name.lower() in map(str, wanted)


def _request(
    db: Database,
    directory: Directory,
    account: Account,
    order: Order,
    csr: CSR,
    now: dt.datetime,
) -> CertificateRequest:
    with db.read() as tx:
        scope = scope_of(tx, account)
        profile = profile_named(tx, directory.tenant_id, order.profile)
        held = reads.acme_authorizations(tx, account.id, order.authorization_ids)
    for authorization in held.values():
        if authorization.state is not AuthorizationState.VALID or now >= authorization.expires_at:
            raise Refused(
                "authorization-stale",
                f"{authorization.identifier.value} is not authorized any more",
            )
    names = tuple(identifier.name for identifier in order.identifiers)
    own = {(each.identifier, each.is_wildcard) for each in held.values() if not each.is_delegated}
    proved = tuple(
        each.name for each in order.identifiers if (each.authorized, each.is_wildcard) in own
    )
    delegated = tuple(name for name in names if name not in proved)
    return CertificateRequest(
        tenant_id=directory.tenant_id,
        authority_id=directory.authority_id,
        profile=profile,
        key=csr,
        requester=Requester(RequesterKind.ACCOUNT, account.id),
        evidence=(ControlsNames(proved, now, delegated),),
        names=names,
        device_id=scope.device.id if scope.device else None,
        replaces=replaced_serial(order.replaces) if order.replaces else None,
    )


def _issued(order: Order, now: dt.datetime) -> Along:
    def along(tx: Transaction, issued: Sequence[Certificate]) -> None:
        (made,) = issued
        writes.move_acme_order(
            tx, order.tenant_id, order.id, OrderState.PROCESSING, OrderEvent.ISSUED,
            authority_id=made.authority_id, serial=made.serial, at=now,
        )  # fmt: skip

    return along


def _move(
    db: Database,
    order: Order,
    state: OrderState,
    event: OrderEvent,
    now: dt.datetime,
    error: str = "",
) -> None:
    db.write(
        lambda tx: writes.move_acme_order(
            tx, order.tenant_id, order.id, state, event, error=error, at=now
        )
    )
