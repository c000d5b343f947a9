"""ACME orders, from the first identifier to the certificate (RFC 8555 7.4)."""

import dataclasses
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from certmint.enrolment.acme import authorizations, star
from certmint.enrolment.acme import limits as rates
from certmint.enrolment.acme.authorizations import Rejected, Scope, scope_of
from certmint.enrolment.acme.certifying import check_names, profile_of, request_for
from certmint.enrolment.acme.limits import GENEROUS, Limits, RateLimited
from certmint.enrolment.acme.replacing import Predecessor, predecessor
from certmint.enrolment.acme.star import Wish
from certmint.enrolment.issue import Along, Gate
from certmint.enrolment.manufacturers import new_id
from certmint.model.acme import (
    Account,
    Authorization,
    AuthorizationState,
    AutoRenewal,
    Directory,
    Identifier,
    Order,
    OrderEvent,
    OrderState,
)
from certmint.model.csr import CSR
from certmint.model.entities import Certificate, DomainValidation
from certmint.model.errors import (
    BadInput,
    CertmintError,
    Conflict,
    Refused,
    WrongState,
)
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

__all__ = ["MAX_IDENTIFIERS", "Rejected", "finalize", "new_order"]

ORDER_LIFE = dt.timedelta(days=7)
MAX_IDENTIFIERS = 100
FULL_RETRY_S = 600  # when an account with too many open orders is told to come again


@dataclass(frozen=True)
class Extras:
    """What an order may say besides names and profile.

    `ancestors` are the domains that the client can prove instead of an identifier (RFC 9444 4.3),
    `renewing` how the certificate shall renew itself (RFC 8739).
    """

    ancestors: Mapping[Identifier, Identifier] = field(default_factory=dict)
    renewing: Wish | None = None


NOTHING_ELSE = Extras()


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
    extras: Extras = NOTHING_ELSE,
    limits: Limits = GENEROUS,
) -> Order:
    """Open an order; names that the maker has validated are authorized at once.

    Raises Rejected, BadInput `profile-not-offered`, `order-size`, `replaces-unknown` or
    `auto-renewal`, Refused `terms-changed`, RateLimited, Conflict `already-replaced`.
    """
    chosen = profile or directory.profiles[0]
    if chosen not in directory.profiles:
        raise BadInput("profile-not-offered", f"profile {chosen!r} is not offered here")
    wanted = tuple(dict.fromkeys(identifiers))
    if not wanted or len(wanted) > MAX_IDENTIFIERS:
        raise BadInput("order-size", f"an order has 1 to {MAX_IDENTIFIERS} identifiers")
    authorizations.check_terms(directory, account)
    with db.read() as tx:
        scope = scope_of(tx, account)
        if reads.count_pending_acme_orders(tx, account.id, now) >= limits.open_orders:
            raise RateLimited(
                f"the account has {limits.open_orders} open orders: finish some first", FULL_RETRY_S
            )
        domains = authorizations.validated_domains(tx, directory, scope)
        authorizations.reject(tx, directory, scope, wanted, domains)
        before = predecessor(tx, account, wanted, replaces) if replaces is not None else None
        known = authorizations.held(tx, directory, account, wanted, now)
    desk = _Desk(directory, account, scope, domains, now, random_bytes)
    used, made = desk.authorize(wanted, extras.ancestors, known)
    order = desk.order(wanted, chosen, used, replaces)
    renewal = _renewal(db, directory, order, extras.renewing, now)
    who = rates.subjects(
        "orders", limits.orders, account.tenant_id, account.id,
        scope.device.id if scope.device else None,
    )  # fmt: skip
    db.write(lambda tx: _add(tx, order, made, before, renewal, who, limits))
    return order


def _add(
    tx: Transaction,
    order: Order,
    made: Sequence[Authorization],
    before: Predecessor | None,
    renewal: AutoRenewal | None,
    who: Mapping[str, int],
    limits: Limits,
) -> None:
    now = order.created_at
    rates.spend(tx, who, limits, now)
    writes.add_acme_order(tx, order, made)
    if before is not None:
        writes.claim_acme_replacement(tx, order, before.authority_id, before.serial, now)
    if renewal is not None:
        writes.add_acme_auto_renewal(tx, renewal)


def _renewal(
    db: Database, directory: Directory, order: Order, wish: Wish | None, now: dt.datetime
) -> AutoRenewal | None:
    if wish is None:
        return None
    if any(identifier.is_hardware for identifier in order.identifiers):
        raise BadInput(
            "auto-renewal", "hardware attests each certificate anew: such an order renews nothing"
        )
    with db.read() as tx:
        profile = profile_of(tx, directory, order)
    return star.accept(directory, profile, order, wish, now)


@dataclass(frozen=True)
class _Desk:
    """What the authorizations of one order are made from."""

    directory: Directory
    account: Account
    scope: Scope
    domains: Sequence[DomainValidation]
    now: dt.datetime
    random_bytes: RandomBytes

    def authorize(
        self,
        wanted: Sequence[Identifier],
        ancestors: Mapping[Identifier, Identifier],
        known: Sequence[Authorization],
    ) -> tuple[list[Authorization], list[Authorization]]:
        """An authorization for each identifier, and those among them that are new."""
        used: list[Authorization] = []
        made: list[Authorization] = []
        for identifier in wanted:
            ancestor = self._ancestor(ancestors.get(identifier))
            found = authorizations.serving([*known, *made], identifier, ancestor)
            if found is None:
                found = authorizations.make(
                    self.directory, self.account, ancestor or identifier, self.domains, self.now,
                    self.random_bytes, covers_subdomains=ancestor is not None,
                )  # fmt: skip
                made.append(found)
            used.append(found)
        return used, made

    def order(
        self,
        wanted: tuple[Identifier, ...],
        profile: str,
        used: Sequence[Authorization],
        replaces: str | None,
    ) -> Order:
        """The order for these identifiers; ready if nothing is left to prove."""
        ready = all(each.state is AuthorizationState.VALID for each in used)
        return Order(
            id=new_id("ord", self.now, self.random_bytes),
            tenant_id=self.directory.tenant_id,
            account_id=self.account.id,
            directory=self.directory.id,
            profile=profile,
            state=OrderState.READY if ready else OrderState.PENDING,
            identifiers=wanted,
            authorization_ids=tuple(dict.fromkeys(each.id for each in used)),
            expires_at=min([self.now + ORDER_LIFE, *(each.expires_at for each in used)]),
            created_at=self.now,
            replaces=replaces,
        )

    def _ancestor(self, given: Identifier | None) -> Identifier | None:
        """The domain that is proved instead, if this directory and this account may do so."""
        if given is None or not authorizations.may_cover_subdomains(
            self.directory, self.scope, given
        ):
            return None
        return given


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
    A CSR that does not fit leaves the order ready (RFC 8555 7.4). Raises BadInput `csr-names` or
    `csr-not-attested`, Refused `authorization-stale`.
    """
    if order.state is not OrderState.READY or now >= order.expires_at:
        raise WrongState("order-not-ready", f"the order is {order.state}, not ready")
    check_names(order, csr)
    with db.read() as tx:
        renewal = reads.acme_auto_renewal(tx, order.id) if directory.auto_renewal else None
        lifetime = None
        if renewal is not None:
            lifetime = star.lifetime(renewal, profile_of(tx, directory, order), now, now)
        request = request_for(tx, directory, account, order, csr, now, lifetime=lifetime)
    try:
        made = gate.issue_one(
            request, now, _issued(order, renewal, csr, now), partial(_take, order, now)
        )
    except _Taken:  # between our look and our move somebody else took it, or gave it up
        raise WrongState("order-not-ready", "another request took the order") from None
    except (BadInput, Refused, Conflict) as refusal:
        if refusal.code == _TOO_LATE:
            _move(db, order, OrderState.PROCESSING, OrderEvent.DECLINED, now)
        elif refusal.code not in _ABOUT_THE_KEY:
            error = json.dumps({"code": refusal.code, "detail": refusal.detail})
            with suppress(WrongState):  # it is not ours any more
                _move(db, order, OrderState.READY, OrderEvent.FAILED, now, error)
        raise
    except CertmintError:  # a fault of ours, not of the request: the order can be tried again
        with suppress(WrongState):  # where the registry failed, it was not even taken
            _move(db, order, OrderState.PROCESSING, OrderEvent.DECLINED, now)
        raise
    return dataclasses.replace(
        order, state=OrderState.VALID, authority_id=made.authority_id, serial=made.serial
    )


_ABOUT_THE_KEY = frozenset({"key-kind", "key-origin", "key-blocked", "key-reused", "csr-asks-more"})
_TOO_LATE = "intent-reconciled"  # it was given up while it was being signed


class _Taken(Exception):
    """The order is not ready any more."""


def _take(order: Order, now: dt.datetime, tx: Transaction) -> None:
    try:
        _moved(order, OrderState.READY, OrderEvent.FINALIZED, now, "", tx)
    except WrongState:
        raise _Taken from None


def _issued(order: Order, renewal: AutoRenewal | None, csr: CSR, now: dt.datetime) -> Along:
    def along(tx: Transaction, issued: Sequence[Certificate]) -> None:
        (made,) = issued
        writes.move_acme_order(
            tx, order.tenant_id, order.id, OrderState.PROCESSING, OrderEvent.ISSUED,
            authority_id=made.authority_id, serial=made.serial, at=now,
        )  # fmt: skip
        if renewal is not None:
            star.record(tx, renewal, made, csr, began_at=now, now=now)

    return along


def _move(
    db: Database,
    order: Order,
    state: OrderState,
    event: OrderEvent,
    now: dt.datetime,
    error: str = "",
) -> None:
    db.write(partial(_moved, order, state, event, now, error))


def _moved(
    order: Order, state: OrderState, event: OrderEvent, now: dt.datetime, error: str,
    tx: Transaction,
) -> None:  # fmt: skip
    writes.move_acme_order(tx, order.tenant_id, order.id, state, event, error=error, at=now)
