"""Accounts, orders and authorizations through any sequence of moves (RFC 8555 7.1.6).

A state only moves as the tables of `model.acme` say, and no order becomes valid unless every
authorization of it was valid in the moment before.
"""

import contextlib
import datetime as dt
import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from certmint.enrolment.acme import accounts, authorizations, challenges, orders
from certmint.model import acme
from certmint.model.acme import Account, AuthorizationState, Directory, Order, OrderState
from certmint.model.errors import BadInput, NotFound, Refused, WrongState
from certmint.registry import reads

from .house import House, csr
from .test_enrolment_acme import as_it_is, certificates, directory, new_order, open_account, prove

MOSTLY = st.sampled_from([True, True, True, False])
NAMES = ("a.example.com", "b.example.com", "*.a.example.com")
SETS = st.sampled_from([NAMES[:1], NAMES[2:], NAMES[:2], NAMES[1:]])


def reachable(table: Mapping[Any, Mapping[Any, Any]], start: StrEnum) -> set[StrEnum]:
    """Where a state can go in any number of moves."""
    found, ahead = {start}, [start]
    while ahead:
        for after in table[ahead.pop()].values():
            if after not in found:
                found.add(after)
                ahead.append(after)
    return found


class Machine(RuleBasedStateMachine):
    """What the clients of one directory can do to it, in any order."""

    house: House
    where: Directory
    opened = Bundle("opened")
    ordered = Bundle("ordered")

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, tuple[Mapping[Any, Mapping[Any, Any]], StrEnum]] = {}
        self.accounts: dict[str, Account] = {}
        self.orders: dict[str, Order] = {}
        self.issued = 0
        self.before = self._count()

    def _count(self) -> int:
        return sum(certificates(self.house, name) for name in NAMES)

    @initialize(target=ordered, names=SETS)
    def begin(self, names: tuple[str, ...]) -> Order:
        return self._order(self._register(), names)

    @rule(target=opened)
    def register(self) -> Account:
        return self._register()

    def _register(self) -> Account:
        account, is_new = open_account(self.house, self.where)
        assert is_new
        self.accounts[account.id] = account
        return account

    @rule(account=opened)
    def leave(self, account: Account) -> None:
        with self.house.db.read() as tx:
            now_ = reads.acme_account(tx, self.where.id, account.id)
        assert now_ is not None
        if now_.state is acme.AccountState.VALID:
            left = accounts.deactivate(self.house.db, now_, self.house.clock())
            assert left.state is acme.AccountState.DEACTIVATED

    @rule(target=ordered, account=opened, names=SETS)
    def order(self, account: Account, names: tuple[str, ...]) -> Order:
        return self._order(account, names)

    def _order(self, account: Account, names: tuple[str, ...]) -> Order:
        made = new_order(self.house, self.where, account, *names)
        self.orders[made.id] = made
        return made

    @rule(account=opened, name=st.sampled_from(NAMES[:2]), wide=st.booleans())
    def authorize(self, account: Account, name: str, wide: bool) -> None:
        """newAuthz: what it makes serves the orders that follow."""
        made, is_new = authorizations.new_authorization(
            self.house.db, self.where, account, acme.identifier_of("dns", name), subdomains=wide,
            now=self.house.clock(), random_bytes=os.urandom,
        )  # fmt: skip
        assert made.state is AuthorizationState.PENDING or not is_new
        with contextlib.suppress(WrongState):
            prove(self.house, account, made.id)

    @rule(order=ordered, well=MOSTLY)
    def answer(self, order: Order, well: bool) -> None:
        self._answer(order, well=well)

    def _answer(self, order: Order, *, well: bool, names: int = 1) -> None:
        account = self.accounts[order.account_id]
        for each in order.authorization_ids[:names]:
            with contextlib.suppress(WrongState):  # it is over: given up, or out of time
                prove(self.house, account, each, well=well)

    @rule(order=ordered, knows=MOSTLY, whole=st.booleans())
    def hurry(self, order: Order, knows: bool, whole: bool) -> None:
        """What a client does that proves all of its names, or only the first, and goes on."""
        self._answer(order, well=True, names=len(NAMES) if whole else 1)
        self.states_move_as_drawn()
        self._finalize(order, fits=True, knows=knows)

    @rule(order=ordered)
    def give_up(self, order: Order) -> None:
        account = self.accounts[order.account_id]
        for held in self._authorizations(order).values():
            try:
                challenges.deactivate(self.house.db, account, held, self.house.clock())
            except WrongState:
                assert held.state not in (AuthorizationState.PENDING, AuthorizationState.VALID)

    @rule(order=ordered, fits=MOSTLY, knows=MOSTLY)
    def finalize(self, order: Order, fits: bool, knows: bool) -> None:
        self._finalize(order, fits=fits, knows=knows)

    def _finalize(self, order: Order, *, fits: bool, knows: bool) -> None:
        """By a client whose order is as it is, or as it was in a request that overtook another."""
        now = self.house.clock()
        current = as_it_is(self.house, order) if knows else order
        held = self._authorizations(order).values()
        good = all(e.state is AuthorizationState.VALID and now < e.expires_at for e in held)
        names = [each.value for each in order.identifiers]
        wanted = names if fits else [*names, "evil.example.com"]
        try:
            done = orders.finalize(
                self.house.db, self.house.gate, self.where, self.accounts[order.account_id],
                current, csr(*wanted), now=now,
            )  # fmt: skip
        except (WrongState, BadInput, Refused, NotFound):
            return
        assert good
        assert fits
        assert done.state is OrderState.VALID
        self.issued += len(names)

    @rule(days=st.sampled_from([1, 8, 31]))
    def wait(self, days: int) -> None:
        self.house.clock.now += dt.timedelta(days=days)

    def _authorizations(self, order: Order) -> dict[str, acme.Authorization]:
        with self.house.db.read() as tx:
            return reads.acme_authorizations(tx, order.account_id, order.authorization_ids)

    def _moved(self, what: str, table: Mapping[Any, Mapping[Any, Any]], state: StrEnum) -> None:
        known = self.seen.get(what)
        if known is not None:
            assert state in reachable(*known), f"{what}: {known[1]} became {state}"
        self.seen[what] = (table, state)

    @invariant()
    def states_move_as_drawn(self) -> None:
        with self.house.db.read() as tx:
            for each in self.accounts:
                account = reads.acme_account(tx, self.where.id, each)
                assert account is not None
                self._moved(each, acme.ACCOUNT, account.state)
        for order in self.orders.values():
            current = as_it_is(self.house, order)
            self._moved(order.id, acme.ORDER, current.state)
            assert current.state is not OrderState.PROCESSING, "nothing is at work between steps"
            assert (current.serial is not None) == (current.state is OrderState.VALID)
            parts = self._authorizations(order)
            if current.state is OrderState.READY:
                assert {each.state for each in parts.values()} == {AuthorizationState.VALID}
            for held in parts.values():
                self._moved(held.id, acme.AUTHORIZATION, held.state)
                for challenge in held.challenges:
                    self._moved(challenge.id, acme.CHALLENGE, challenge.state)

    @invariant()
    def every_certificate_has_its_order(self) -> None:
        assert self._count() - self.before == self.issued


def test_nothing_is_issued_off_the_tables(each_house: House) -> None:
    """On both databases: any sequence of requests, some of them from a stale view."""
    where = directory(each_house, allows_subdomains=True)
    began = each_house.clock.now

    def fresh() -> Machine:
        each_house.clock.now = began
        return Machine()

    Machine.house, Machine.where = each_house, where
    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis leaves it untyped
        fresh,
        settings=settings(
            max_examples=15,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
