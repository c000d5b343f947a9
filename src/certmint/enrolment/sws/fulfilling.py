"""From an order that has everything to its certificate: prove what is not proved, then issue.

Laws: a node claims an order before it works on it; the order becomes issued in the very
transaction that stores the certificate, by a compare-and-set that only the claim's holder wins. If
the power fails before that, the order is claimed again when the claim has run out, and
`reconcile` revokes the serial of what was signed meanwhile. So an order buys one certificate for
each CSR, and never two.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from certmint.enrolment import certificates
from certmint.enrolment.access import HOUSE
from certmint.enrolment.authorities import profile_named
from certmint.enrolment.issue import Gate
from certmint.enrolment.proving import Proofs
from certmint.enrolment.signing import SigningKeys
from certmint.enrolment.sws import controls
from certmint.model.csr import parse_csr
from certmint.model.entities import Certificate, Manufacturer
from certmint.model.errors import (
    CertmintError,
    Conflict,
    Forbidden,
    Misconfigured,
    NotFound,
    Refused,
    Unavailable,
)
from certmint.model.operations import Operation
from certmint.model.serial import RandomBytes
from certmint.model.sws import Order, OrderEvent, OrderState
from certmint.policy.authorization import authorize
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

CLAIM = dt.timedelta(minutes=5)  # longer than all the looks of an order take
_FIRST_PAUSE = dt.timedelta(seconds=10)
_LONGEST_PAUSE = dt.timedelta(hours=1)
_MOST_LOOKS = 720  # a month of looks: then the job gives up, and customers may still ask for one
_AT_ONCE = 50  # orders of one round of the job
_INWARD = (Unavailable, Misconfigured)  # what customers are not told the details of


@dataclass(frozen=True)
class Counter:
    """What serving SWS clients takes. `authority` "" is a manufacturer's only one."""

    db: Database
    gate: Gate
    keys: SigningKeys
    proofs: Proofs
    authority: str
    profile: str
    random_bytes: RandomBytes = field(repr=False)


def advance(counter: Counter, tenant: Manufacturer, order: Order, now: dt.datetime) -> Order:
    """Take an order as far as it goes now: the order as it is then.

    An order that waits for something else, or that another node is at, stays as it is.
    """
    try:
        mine = _claim(counter, order, now)
    except CertmintError:
        return find(counter.db, tenant.id, order.id)
    try:
        mine = replace(mine, controls=controls.look(counter.proofs, tenant, mine, now))
        missing = controls.unproved(counter.proofs, mine, now)
        if missing:
            raise Refused("validation-awaiting", f"control of {missing[0]} has not been shown yet")
        _issue(counter, tenant, mine, now)
    except CertmintError as refusal:
        _postpone(counter, mine, refusal, now)
    return find(counter.db, tenant.id, order.id)


def find(db: Database, tenant_id: str, order_id: str) -> Order:
    """Raises NotFound `order-unknown`."""
    with db.read() as tx:
        found = reads.sws_order(tx, tenant_id, order_id)
    if found is None:
        raise NotFound("order-unknown", f"there is no order {order_id!r}")
    return found


def certificates_of(db: Database, order: Order) -> list[Certificate]:
    """What an order bought, oldest first."""
    with db.read() as tx:
        found = [reads.certificate(tx, order.tenant_id, each) for each in order.serials]
    return [each for each in found if each is not None]


def advance_due(
    counter: Counter,
    clock: Callable[[], dt.datetime],
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Look again at every order whose time has come; how many were issued.

    Every node does so: orders are claimed one by one. When it is `stopping`, the others are left.
    """
    now = clock()
    with counter.db.read() as tx:
        due = reads.due_sws_orders(tx, now, _AT_ONCE)
        tenants = {each.tenant_id: reads.manufacturer(tx, each.tenant_id) for each in due}
    issued = 0
    for order in due:
        tenant = tenants[order.tenant_id]
        if tenant is not None and not stopping():
            issued += advance(counter, tenant, order, clock()).state is OrderState.ISSUED
    return issued


def _claim(counter: Counter, order: Order, now: dt.datetime) -> Order:
    """Raises WrongState `wrong-state`, Conflict `order-changed` or `order-busy`."""
    if order.state is OrderState.VALIDATING and order.due_at is not None and now < order.due_at:
        raise Conflict("order-busy", f"order {order.id} is looked at by another node just now")
    mine = replace(order, due_at=now + CLAIM, tries=order.tries + 1)
    return _move(counter, order, mine, OrderEvent.CLAIMED, now)


def _postpone(counter: Counter, mine: Order, refusal: CertmintError, now: dt.datetime) -> None:
    pause = pause_after(mine.tries)
    said = "the server cannot do this right now" if isinstance(refusal, _INWARD) else refusal.detail
    later = replace(
        mine,
        due_at=None if pause is None else now + pause,
        failure=f"{said} [{refusal.code}]",
    )
    try:
        _move(counter, mine, later, OrderEvent.POSTPONED, now)
    except Conflict:
        return  # the claim ran out, and another node has it


def pause_after(looks: int) -> dt.timedelta | None:
    """How long the job waits after so many looks at one order; None: it gives up."""
    if looks >= _MOST_LOOKS:
        return None
    return min(_FIRST_PAUSE * (1 << min(looks - 1, 10)), _LONGEST_PAUSE)


def _issue(counter: Counter, tenant: Manufacturer, mine: Order, now: dt.datetime) -> None:
    """Raises what the gate refuses, Forbidden `role-forbids`, Refused `order-over`."""
    _check_grantor(counter.db, tenant, mine.operator_id)
    with counter.db.read() as tx:
        authority = reads.authority(tx, tenant.id, mine.authority_id)
        profile = profile_named(tx, tenant.id, counter.profile)
    if authority is None:
        raise NotFound("authority-unknown", f"the authority of order {mine.id} is gone")
    left = (mine.ends_at or now + dt.timedelta(days=mine.period)) - now
    left = dt.timedelta(seconds=left // dt.timedelta(seconds=1))
    if left < dt.timedelta(hours=1):
        raise Refused("order-over", f"the period of order {mine.id} is over: place another order")
    lifetime = min(left, profile.lifetime or left)
    wish = certificates.Wish(
        authority.name, profile.name, mine.names, parse_csr(mine.csr), lifetime
    )

    def along(tx: Transaction, issued: Sequence[Certificate]) -> None:
        done = replace(
            mine,
            serials=(*mine.serials, issued[0].serial),
            begun_at=mine.begun_at or now,
            due_at=None,
            tries=0,
            failure="",
        )
        by = f"operator:{mine.operator_id}"
        writes.change_sws_order(tx, tenant.id, mine, done, OrderEvent.ISSUED, by=by, at=now)

    certificates.issue(
        counter.db, counter.gate, tenant, wish,
        operator_id=mine.operator_id, now=now, along=along,
    )  # fmt: skip


def _check_grantor(db: Database, tenant: Manufacturer, operator_id: str) -> None:
    """Whether the operator on whose word it is issued still may. Raises Forbidden."""
    with db.read() as tx:
        operator = reads.operator(tx, tenant.id, operator_id)
    if operator is None or operator.disabled:
        raise Forbidden("role-forbids", "the operator who placed the order was shut out since")
    authorize(operator, None, Operation.ISSUE_CERTIFICATE, house=tenant.slug == HOUSE)


def _move(
    counter: Counter, before: Order, changed: Order, event: OrderEvent, now: dt.datetime
) -> Order:
    by = f"operator:{before.operator_id}"
    return counter.db.write(
        lambda tx: writes.change_sws_order(
            tx, before.tenant_id, before, changed, event, by=by, at=now
        )
    )
