"""Orders of SWS clients: they buy one certificate for each CSR, whatever dies or races."""

import datetime as dt
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from postoffice import post_office

from certmint.enrolment import access, approving, operators
from certmint.enrolment.access import Entrance
from certmint.enrolment.domains import Account, World
from certmint.enrolment.emailing import Post
from certmint.enrolment.issue import Step
from certmint.enrolment.proving import Proofs
from certmint.enrolment.reconcile import reconcile
from certmint.enrolment.sws import controls, ordering
from certmint.enrolment.sws.fulfilling import (
    Counter,
    advance,
    advance_due,
    certificates_of,
    find,
    pause_after,
)
from certmint.enrolment.sws.ordering import Supplied
from certmint.enrolment.vault import Vault
from certmint.model.entities import RevocationReason, Role
from certmint.model.errors import CertmintError
from certmint.model.operations import Operation
from certmint.model.sws import Order, OrderState
from certmint.registry import reads
from certmint.registry.engine import open_database
from certmint.validation.email import SMTPServer

from .house import DAY, OPERATOR, House, Published, csr, status_of

PROVED = "www.example.com"  # the house has proved example.com
MINUTES = dt.timedelta(minutes=1)


def counter_of(house: House, post: Post | None = None, **records: tuple[str, ...]) -> Counter:
    """A node's counter, in a world in which these records exist."""
    account = Account("pki.example", "https://pki.example/acme")
    world = World(Published(**records))
    proofs = Proofs(house.db, world, lambda _: account, "pki.example", post, os.urandom)
    return Counter(house.db, house.gate, house.keys, proofs, "tls", "service", os.urandom)


def enter(house: House, role: Role = Role.ADMINISTRATOR) -> Entrance:
    """A new operator, let in with a token."""
    _, token = operators.add_operator(
        house.db, house.tenant, os.urandom(4).hex(), role, lifetime=DAY,
        by=OPERATOR, now=house.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    assert token is not None
    return access.enter(house.db, token.secret, Operation.ISSUE_CERTIFICATE, house.clock())


def place(
    house: House, counter: Counter, me: Entrance, *names: str, dcv: str = "", period: int = 90,
    authority: str = "",
) -> Order:  # fmt: skip
    given = Supplied(csr(*names), domains=dict.fromkeys(names, dcv))
    return ordering.place(counter, me, "106", period, given, authority, house.clock())


def refused(work: Callable[..., object], *args: object) -> str:
    with pytest.raises(CertmintError) as refusal:
        work(*args)
    return refusal.value.code


def good(house: House, order: Order) -> list[str]:
    """Serials of the certificates with the order's names that are not revoked, in the registry."""
    found = house.read(reads.certificates, limit=10_000)
    return [each.serial for each in found if each.names == order.names and each.revocation is None]


def test_an_order_is_issued_when_control_is_shown(each_house: House) -> None:
    """What is published after the order is found by the next look, and is evidence from then on."""
    house = each_house
    me, counter = enter(house), counter_of(house)
    order = place(house, counter, me, "a.example.net", dcv="CNAME_CSR_HASH", authority="issuing")
    assert order.state is OrderState.WAITING_VALIDATION
    assert order.controls[0].said == "validation-not-found"
    (attempt,) = controls.attempts(counter.proofs, order).values()
    assert advance_due(counter, house.clock) == 0  # too early to look again

    seeing = counter_of(house, **{attempt.record_name: (attempt.random_value,)})
    assert advance_due(seeing, lambda: house.clock() + MINUTES) == 1

    order = find(house.db, house.tenant.id, order.id)
    assert order.state is OrderState.ISSUED
    assert good(house, order) == list(order.serials)
    assert house.is_chained()


def test_a_contact_may_answer_for_the_domain(house: House) -> None:
    """A `dcv` that is an address writes to it; the answer on the page lets the order through."""
    with post_office() as office:
        server = SMTPServer("localhost", office.port, "none", "pki.test")
        post = Post(server.send, "pki@pki.example", "https://pki", Vault(b"k" * 32))
        me, counter = enter(house), counter_of(house, post)
        order = place(
            house, counter, me, "b.example.net", dcv="admin@example.net", authority="issuing"
        )
        assert order.controls[0].said == "validation-awaiting"
        (letter,) = office.letters
    found = re.search(r"/approve/(\w+)", letter.content.decode())
    assert found is not None
    approving.answer(house.db, found[1], approves=True, source="192.0.2.1", now=house.clock())

    assert ordering.look_again(counter, me, order.id, house.clock()).state is OrderState.ISSUED


def test_a_looks_pause_grows(house: House) -> None:
    """Seconds at first, an hour at the most, and the job gives up in the end."""
    me, counter = enter(house), counter_of(house)
    order = place(house, counter, me, "c.example.net", authority="issuing")
    assert order.controls[0].said == "dcv-missing"
    for _ in range(3):
        assert order.due_at is not None
        before, house.clock.now = order.due_at, order.due_at
        advance_due(counter, lambda at=before: at)
        order = find(house.db, house.tenant.id, order.id)
        assert order.due_at == before + (pause_after(order.tries) or DAY)
    assert len(house.audit("certificate.refused")) == 0  # the gate is not asked for nothing

    pauses = [pause_after(looks) for looks in range(1, 720)]
    assert pauses[0] == dt.timedelta(seconds=10)
    assert max(filter(None, pauses)) == dt.timedelta(hours=1)
    assert sum(filter(None, pauses), dt.timedelta()) > 25 * DAY
    assert pause_after(720) is None


@pytest.mark.parametrize("step", list(Step)[:-1])
def test_a_death_at_any_step_loses_no_order(house: House, step: Step) -> None:
    """Another node takes the order up later; it buys one certificate, and no serial is lost."""
    me, counter = enter(house), counter_of(house)

    def die(reached: Step) -> None:
        if reached is step:
            raise KeyboardInterrupt

    house.reached = die
    with pytest.raises(KeyboardInterrupt):
        place(house, counter, me, PROVED)
    house.reached = lambda _: None
    with house.db.read() as tx:
        (order,) = reads.sws_orders(tx, house.tenant.id, reads.OrderFilter())
    is_stored = step is Step.STORED
    assert order.state is (OrderState.ISSUED if is_stored else OrderState.VALIDATING)
    assert advance_due(counter, house.clock) == 0
    assert advance(counter, house.tenant, order, house.clock()) == order  # the claim still holds

    later = house.clock() + 6 * MINUTES
    assert advance_due(counter, lambda: later) == (not is_stored)
    order = find(house.db, house.tenant.id, order.id)
    house.clock.now = later + DAY
    reconcile(house.db, house.keys, house.clock())
    assert (order.state, len(order.serials)) == (OrderState.ISSUED, 1)
    assert good(house, order) == list(order.serials)
    for each in house.read(reads.certificates, limit=10_000):
        if each.names == order.names and each.serial not in order.serials:
            assert status_of(house, each)[0] == "revoked"


def test_a_node_that_comes_back_too_late_releases_nothing(house: House) -> None:
    """Its claim has run out and another node issued: what it signed is abandoned and revoked."""
    me, counter = enter(house), counter_of(house)
    overtaken = []

    def overtake(reached: Step) -> None:
        if reached is Step.SIGNED and not overtaken:
            overtaken.append(True)
            assert advance_due(counter, lambda: house.clock() + 6 * MINUTES) == 1

    house.reached = overtake
    order = place(house, counter, me, PROVED)

    assert order.state is OrderState.ISSUED
    assert good(house, order) == list(order.serials)
    house.clock.now += DAY
    reconcile(house.db, house.keys, house.clock())
    found = house.read(reads.certificates, limit=10_000)
    mine = [each for each in found if each.names == order.names]
    assert len(mine) == 2
    assert [each.serial for each in mine if each.revocation is None] == list(order.serials)


def test_two_nodes_at_once_issue_once(each_house: House, url: str) -> None:
    """Both look at the same order in the same moment, again and again: one certificate each."""
    house = each_house
    me = enter(house)
    blind = counter_of(house)
    orders = [
        place(house, blind, me, f"n{i}.example.net", dcv="CNAME_CSR_HASH", authority="issuing")
        for i in range(8)
    ]
    records = {}
    for each in orders:
        (attempt,) = controls.attempts(blind.proofs, each).values()
        records[attempt.record_name] = (attempt.random_value,)
    other = replace(house, db=open_database(url))
    nodes = [counter_of(house, **records), counter_of(other, **records)]
    start = threading.Barrier(len(nodes))

    def work(node: Counter) -> None:
        for each in orders:
            start.wait()
            advance(node, house.tenant, each, house.clock())

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, nodes))
    other.db.close()
    for each in orders:
        order = find(house.db, house.tenant.id, each.id)
        assert order.state is OrderState.ISSUED
        assert len(order.serials) == 1
        assert good(house, order) == list(order.serials)


def test_the_operator_who_ordered_must_still_be_one(house: House) -> None:
    """An order of somebody who was shut out since waits until another operator takes it over."""
    me, counter = enter(house), counter_of(house)
    order = place(house, counter, me, "d.example.net", dcv="CNAME_CSR_HASH", authority="issuing")
    operators.change_operator(
        house.db, me.operator, role=me.operator.role, disabled=True, by=OPERATOR, now=house.clock()
    )
    (attempt,) = controls.attempts(counter.proofs, order).values()
    seeing = counter_of(house, **{attempt.record_name: (attempt.random_value,)})
    assert advance_due(seeing, lambda: house.clock() + MINUTES) == 0
    order = find(house.db, house.tenant.id, order.id)
    assert order.failure.endswith("[role-forbids]")

    issued = ordering.supply(seeing, enter(house), order.id, Supplied(), house.clock())
    assert issued.state is OrderState.ISSUED


def test_a_reissue_ends_with_the_subscription(house: House) -> None:
    """A rekey in the last days of the period lives for those days; after them there is none."""
    me, counter = enter(house), counter_of(house)
    order = place(house, counter, me, PROVED, period=30)
    house.clock.now += 28 * DAY
    again = ordering.supply(counter, me, order.id, Supplied(csr(PROVED)), house.clock())
    newest = certificates_of(house.db, again)[-1]
    assert order.ends_at is not None
    assert abs(newest.not_after - order.ends_at) < dt.timedelta(hours=2)
    house.clock.now += 3 * DAY
    late = ordering.supply(counter, me, order.id, Supplied(csr(PROVED)), house.clock())
    assert late.failure.endswith("[order-over]")


def test_a_repeated_call_buys_nothing(house: House) -> None:
    """The same CSR again is answered with its certificate, until that is old or revoked."""
    me, counter = enter(house), counter_of(house)
    given = Supplied(csr(PROVED))
    order = ordering.place(counter, me, "106", 90, given, "", house.clock())
    assert ordering.supply(counter, me, order.id, given, house.clock()) == order
    nothing = Supplied(contacts={})
    assert refused(ordering.supply, counter, me, order.id, nothing, house.clock()) == "order-issued"

    house.clock.now += 65 * DAY
    again = ordering.supply(counter, me, order.id, given, house.clock())
    assert len(again.serials) == 2
    reason = RevocationReason.SUPERSEDED
    ordering.revoke(counter, me, order.id, again.serials[1:], reason, house.clock())
    third = ordering.supply(counter, me, order.id, given, house.clock())
    assert len(third.serials) == 3


def test_revoking_an_order_that_a_node_is_issuing(house: House) -> None:
    """The revocation wins: the node that signs at this moment releases nothing."""
    me, counter = enter(house), counter_of(house)
    order = place(house, counter, me, PROVED)

    def revoke(reached: Step) -> None:
        if reached is Step.SIGNED:
            house.reached = lambda _: None
            reason = RevocationReason.KEY_COMPROMISE
            ordering.revoke(counter, me, order.id, (), reason, house.clock())

    house.reached = revoke
    ended = ordering.supply(counter, me, order.id, Supplied(csr(PROVED)), house.clock())
    assert ended.state is OrderState.REVOKED
    assert good(house, ended) == []


def test_revoking_twice_completes_what_was_begun(house: House) -> None:
    """A call that died half-way is repeated; CRL and OCSP say so of every certificate."""
    me, counter = enter(house), counter_of(house)
    order = place(house, counter, me, PROVED)
    order = ordering.supply(counter, me, order.id, Supplied(csr(PROVED)), house.clock())
    reason = RevocationReason.SUPERSEDED
    ordering.revoke(counter, me, order.id, order.serials[:1], reason, house.clock())
    ended = ordering.revoke(counter, me, order.id, (), reason, house.clock())

    assert ended.state is OrderState.REVOKED
    for each in certificates_of(house.db, ended):
        assert status_of(house, each) == ("revoked", True)
    again = ordering.revoke(counter, me, order.id, (), reason, house.clock())
    assert again.version == ended.version


def test_which_authority_issues(house: House) -> None:
    """By name or id; without one the configured; else the only one; else one clear sentence."""
    counter = counter_of(house)
    tls = house.authority("tls")
    for wanted in ("tls", tls.id, ""):
        assert ordering.authority_for(counter, house.tenant, wanted).id == tls.id
    plain = replace(counter, authority="")
    assert ordering.authority_for(plain, house.tenant, "").id == tls.id
    house.add_product("second", "service", "{id}.second.example.com", issuer="issuing")
    assert refused(ordering.authority_for, plain, house.tenant, "") == "authority-ambiguous"
    assert refused(ordering.authority_for, plain, house.tenant, "none") == "authority-unknown"
