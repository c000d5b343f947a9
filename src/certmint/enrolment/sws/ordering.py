"""What customers do with orders: place, supply, rename, look again, revoke.

Every change is written before anything is looked for or issued; what can be issued at once is, and
the job `sws` does the rest.
"""

import datetime as dt
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from certmint.enrolment import revocation
from certmint.enrolment.access import Entrance
from certmint.enrolment.manufacturers import new_id
from certmint.enrolment.sws.controls import controls_for
from certmint.enrolment.sws.fulfilling import Counter, advance, certificates_of, find
from certmint.model.csr import CSR, parse_csr
from certmint.model.entities import Authority, Manufacturer, RevocationReason
from certmint.model.errors import BadInput, Conflict, NotFound, WrongState
from certmint.model.names import parse_name
from certmint.model.profile import Purpose
from certmint.model.serial import Serial
from certmint.model.states import AuthorityState
from certmint.model.sws import (
    REF,
    REQUIRED_OF_REGISTRANT,
    Order,
    OrderEvent,
    OrderState,
    product_of,
)
from certmint.registry import reads, writes
from certmint.registry.documents import canonical

_OVER = (OrderState.REVOKED, OrderState.CANCELLED)


@dataclass(frozen=True)
class Supplied:
    """What a customer gives with an order or afterwards; None is what it does not speak of.

    `domains` are names with the `dcv` chosen for each, "" for no choice.
    """

    csr: CSR | None = None
    unique_value: str | None = None
    domains: Mapping[str, str] | None = None
    registrant: Mapping[str, str] = field(default_factory=dict)
    contacts: Mapping[str, object] | None = None
    external_order_number: str | None = None
    server_software: str | None = None


def place(
    counter: Counter,
    me: Entrance,
    product: str,
    period: int,
    given: Supplied,
    ca_certificate_id: str,
    now: dt.datetime,
) -> Order:
    """A new order, issued if nothing is missing; without a CSR it is a voucher.

    Raises BadInput `product-code`, `order-period`, `name-syntax`, `dcv-method`, NotFound
    `authority-unknown`, Conflict `authority-ambiguous` or `csr-unique-value`.
    """
    product_of(product)  # before anything is looked up
    authority = authority_for(counter, me.tenant, ca_certificate_id)
    blank = Order(
        id=REF + new_id("co", now, counter.random_bytes).partition("_")[2],
        tenant_id=me.tenant.id,
        operator_id=me.operator.id,
        product=product,
        period=period,
        authority_id=authority.id,
        state=OrderState.WAITING_CSR,
        created_at=now,
    )
    filled = _filled(blank, given)
    if filled.csr:
        event = _event(filled)
        filled = replace(_due(filled, event, now), state=_STATE_AFTER[event])
    counter.db.write(lambda tx: writes.add_sws_order(tx, filled, by=me.by, at=now))
    return advance(counter, me.tenant, filled, now) if filled.csr else filled


_STATE_AFTER = {
    OrderEvent.SUPPLIED: OrderState.WAITING_VALIDATION,
    OrderEvent.INCOMPLETE: OrderState.WAITING_REGISTRANT,
}


def supply(
    counter: Counter, me: Entrance, order_id: str, given: Supplied, now: dt.datetime
) -> Order:
    """Give an order what it waits for, or what it is to be issued again with.

    A CSR for an issued order is a rekey; what it bought before stays good until it is revoked. The
    same CSR for the same names again, as after a lost answer, buys nothing while its certificate
    has much of its life before it. Raises NotFound `order-unknown`, WrongState `wrong-state` or
    `order-issued`, BadInput `csr-missing` …, Conflict `csr-unique-value` or `order-changed`.
    """
    before = find(counter.db, me.tenant.id, order_id)
    if not before.csr and given.csr is None:
        raise BadInput("csr-missing", f"order {order_id} is a voucher: send a csr")
    changed = _filled(replace(before, operator_id=me.operator.id), given)
    is_new = changed.names != before.names
    if before.state is OrderState.ISSUED and not is_new:
        if given.csr is None:
            raise WrongState(
                "order-issued",
                f"order {order_id} is issued: send a csr or other domains to issue it again",
            )
        if given.csr.der == before.csr and _is_fresh(counter, before, now):
            return before
    return _supplied(counter, me, before, changed, now)


def _is_fresh(counter: Counter, order: Order, now: dt.datetime) -> bool:
    """Whether the newest certificate is good, with more than a third of its life left."""
    newest = certificates_of(counter.db, order)[-1]
    third = (newest.not_after - newest.not_before) / 3
    return newest.revocation is None and newest.not_after - now > third


def rename(
    counter: Counter, me: Entrance, order_id: str, domains: Mapping[str, str], now: dt.datetime
) -> Order:
    """Issue an order for exactly these names, once. Raises what `supply` raises."""
    before = find(counter.db, me.tenant.id, order_id)
    if not before.csr:
        raise BadInput("csr-missing", f"order {order_id} is a voucher: send a csr first")
    csr = parse_csr(before.csr)
    names = tuple(map(parse_name, domains))
    for asked in _asked(csr):
        if parse_name(asked) not in names:
            raise BadInput(
                "csr-names", f"the order's CSR asks for {asked}: reprocess it with another CSR"
            )
    changed = replace(
        before,
        operator_id=me.operator.id,
        names=tuple(map(str, names)),
        controls=controls_for(names, domains, before.controls),
    )
    is_same = before.state is OrderState.ISSUED and changed.names == before.names
    if is_same and _is_fresh(counter, before, now):
        return before
    return _supplied(counter, me, before, changed, now)


def look_again(counter: Counter, me: Entrance, order_id: str, now: dt.datetime) -> Order:
    """Look once more for what proves control. Raises NotFound, WrongState `order-not-waiting`."""
    found = find(counter.db, me.tenant.id, order_id)
    if found.state not in (OrderState.WAITING_VALIDATION, OrderState.VALIDATING):
        raise WrongState(
            "order-not-waiting", f"order {order_id} does not wait for a validation: {found.state}"
        )
    return advance(counter, me.tenant, found, now)


def revoke(
    counter: Counter,
    me: Entrance,
    order_id: str,
    serials: Sequence[Serial],
    reason: RevocationReason,
    now: dt.datetime,
) -> Order:
    """Revoke certificates of an order, all without `serials`; an order without any is cancelled.

    What is revoked already stays so: who repeats the call after a crash completes it. Raises
    NotFound `order-unknown` or `certificate-unknown`, WrongState `wrong-state`.
    """
    order = find(counter.db, me.tenant.id, order_id)
    if not order.serials and not serials:
        _move(counter, me, order, replace(order, due_at=None), OrderEvent.CANCELLED, now)
        return find(counter.db, me.tenant.id, order_id)
    for serial in serials:
        if serial not in order.serials:
            raise NotFound(
                "certificate-unknown", f"order {order_id} has no certificate with serial {serial}"
            )
    for serial in serials or order.serials:
        try:
            revocation.revoke(
                counter.db, counter.keys, me.tenant.id, serial, reason,
                by=me.by, now=now, publish=False,
            )  # fmt: skip
        except Conflict:
            continue
    revocation.publish_everywhere(counter.db, counter.keys, me.tenant.id, now)
    is_ended = not serials or order.state is OrderState.ISSUED  # else it is being issued again
    if is_ended and order.state not in _OVER and set(order.serials) <= _revoked(counter, order):
        _move(counter, me, order, replace(order, due_at=None), OrderEvent.REVOKED, now)
    return find(counter.db, me.tenant.id, order_id)


def authority_for(counter: Counter, tenant: Manufacturer, wanted: str) -> Authority:
    """By id or name; else the configured one; else the only one that issues for services.

    Raises NotFound `authority-unknown`, Conflict `authority-ambiguous`.
    """
    named = wanted or counter.authority
    with counter.db.read() as tx:
        known = reads.authorities(tx, tenant.id)
        serving = {each.service_authority_id for each in reads.products(tx, tenant.id)}
    able = [
        each for each in known
        if each.state is AuthorityState.ACTIVE
        and (named in (each.id, each.name) if named else _serves(each, serving))
    ]  # fmt: skip
    if len(able) == 1:
        return able[0]
    if named:
        raise NotFound("authority-unknown", f"there is no active authority {named!r}")
    if not able:
        raise NotFound(
            "authority-unknown",
            "no SubCA and no product says which authority issues for servers: send a "
            "ca_certificate_id",
        )
    choices = ", ".join(each.name for each in able)
    raise Conflict("authority-ambiguous", f"choose a ca_certificate_id among {choices}")


def _serves(authority: Authority, serving: Collection[str]) -> bool:
    """Whether products get their service certificates here; without products, whether a SubCA."""
    return authority.id in serving if serving else authority.purpose is Purpose.SUBORDINATE


def _revoked(counter: Counter, order: Order) -> set[str]:
    found = certificates_of(counter.db, order)
    return {each.serial for each in found if each.revocation is not None}


def _supplied(
    counter: Counter, me: Entrance, before: Order, changed: Order, now: dt.datetime
) -> Order:
    event = _event(changed)
    moved = _move(counter, me, before, _due(changed, event, now), event, now)
    return advance(counter, me.tenant, moved, now)


def _due(order: Order, event: OrderEvent, now: dt.datetime) -> Order:
    """The order with the time from which the job may look at it, should this process die."""
    return replace(order, due_at=now if event is OrderEvent.SUPPLIED else None, tries=0)


def _event(order: Order) -> OrderEvent:
    registrant = json.loads(order.registrant)
    is_missing = any(not registrant.get(name) for name in REQUIRED_OF_REGISTRANT)
    if product_of(order.product).wants_registrant and is_missing:
        return OrderEvent.INCOMPLETE
    return OrderEvent.SUPPLIED


def _filled(order: Order, given: Supplied) -> Order:
    """The order with what was given. A new CSR brings its names, and every proof is looked for."""
    choices = given.domains or {}
    csr = given.csr
    if csr is None and order.csr:
        csr = parse_csr(order.csr)
    names = order.names
    if given.csr is not None:
        names = tuple(dict.fromkeys((*_asked(given.csr), *_texts(choices or order.names))))
    elif given.domains is not None:
        names = tuple(dict.fromkeys((*(_asked(csr) if csr else ()), *_texts(choices))))
    if csr is not None and not names:
        raise BadInput("name-count", "the CSR names nothing: send domains with it")
    is_rekey = given.csr is not None and given.csr.der != order.csr
    unique = "" if is_rekey and order.csr else order.unique_value
    unique = unique if given.unique_value is None else given.unique_value
    # Other tokens: what was chosen stays, what was begun does not.
    is_other = is_rekey or unique != order.unique_value
    kept = {each.domain: each.dcv for each in order.controls} if is_other else {}
    known = () if is_other else order.controls
    return replace(
        order,
        csr=csr.der if csr is not None else b"",
        unique_value=unique,
        names=names,
        controls=controls_for(tuple(map(parse_name, names)), kept | dict(choices), known),
        registrant=canonical(json.loads(order.registrant) | dict(given.registrant)),
        contacts=order.contacts if given.contacts is None else canonical(dict(given.contacts)),
        external_order_number=given.external_order_number or order.external_order_number,
        server_software=given.server_software or order.server_software,
    )


def _texts(names: Sequence[str] | Mapping[str, str]) -> list[str]:
    return [str(parse_name(name)) for name in names]


def _asked(csr: CSR) -> tuple[str, ...]:
    """The names that a CSR asks for, its common name first if that is one."""
    common = (csr.common_name or "").lower()
    own = () if "." not in common else (str(parse_name(common)),)
    return tuple(dict.fromkeys((*own, *map(str, csr.names))))


def _move(
    counter: Counter,
    me: Entrance,
    before: Order,
    changed: Order,
    event: OrderEvent,
    now: dt.datetime,
) -> Order:
    return counter.db.write(
        lambda tx: writes.change_sws_order(
            tx, me.tenant.id, before, changed, event, by=me.by, at=now
        )
    )
