"""ACME through any sequence of requests, over the real door, on both databases.

Three witnesses that share nothing with the code: a trigger in the database writes down every move
of a state, which must be one that RFC 8555 draws (section 7.1.6; the drawing is copied here); the
rows as they were in the moment before a certificate must allow it; and the machine remembers
which account published which proof, and until when that counts.
"""

import base64
import contextlib
import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from acme_client import URN, Client, csr, jwk_of, jws
from asgi import Answer
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from certmint.enrolment.acme import accounts
from certmint.model import acme
from certmint.model.acme import Directory
from certmint.model.errors import WrongState
from certmint.registry import reads, schema

from .acme_witness import DRAWN, moves, watch
from .acme_world import Zone, client, node, publish
from .house import OPERATOR, House
from .test_enrolment_acme import directory

TABLES = {
    "acme_account": acme.ACCOUNT,
    "acme_order": acme.ORDER,
    "acme_authorization": acme.AUTHORIZATION,
    "acme_challenge": acme.CHALLENGE,
}
FOREIGN = ("a.example.net", "b.example.net", "*.a.example.net")  # to be proved by the account
OWN = ("x.example.com", "*.x.example.com")  # in the maker's domain: for bound accounts, ready
SETS = st.sampled_from([FOREIGN[:1], FOREIGN[:2], FOREIGN[2:], (*FOREIGN[:1], *OWN[:1])])
MOSTLY = st.sampled_from([True, True, True, False])
PROOF_LIFE = dt.timedelta(days=30)


@pytest.mark.parametrize("table", DRAWN)
def test_the_tables_are_as_drawn(table: str) -> None:
    """Nobody adds a move to the code without adding it to the drawing here."""
    ours: Mapping[Any, Mapping[Any, StrEnum]] = TABLES[table]
    edges = {(a.value, b.value) for a, after in ours.items() for b in after.values()}
    assert edges == DRAWN[table]


@dataclass
class Ordered:
    """An order, as its client knows it."""

    owner: Client
    names: tuple[str, ...]
    url: str
    parts: tuple[str, ...]
    finalize: str

    @property
    def id(self) -> str:
        return self.url.rsplit("/", 1)[1]


@dataclass
class Proofs:
    """Who proved what, until when: told by what was published, not by what the server says.

    By the authorization's URL, since an account may prove a name twice and give up one of them.
    """

    seen: dict[str, tuple[str, str, dt.datetime]] = field(default_factory=dict)

    def allow(self, order: Ordered, now: dt.datetime) -> bool:
        return all(self.counts(order.owner, name, now) for name in order.names)

    def counts(self, owner: Client, name: str, now: dt.datetime) -> bool:
        if name in OWN and owner.directory.endswith(Machine.bound.name):
            return True
        return any(
            (kid, proved) == (owner.kid, name) and now < until
            for kid, proved, until in self.seen.values()
        )


class Machine(RuleBasedStateMachine):
    """What clients can do at two directories, in any order; one of them asks for a binding."""

    house: ClassVar[House]
    open: ClassVar[Directory]
    bound: ClassVar[Directory]
    zone: ClassVar[Zone]
    door: ClassVar[Any]
    issued_in_all: ClassVar[int] = 0
    opened = Bundle("opened")
    ordered = Bundle("ordered")
    certified = Bundle("certified")

    def __init__(self) -> None:
        super().__init__()
        self.proofs = Proofs()
        self.clients: list[Client] = []
        self.orders: list[Ordered] = []
        self.said: list[tuple[str, bytes]] = []
        self.serials = self._serials()
        moves(self.house.db)

    # What the machine knows of the database, by its own SQL

    def _rows(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[Any]:
        with self.house.db.read() as tx:
            return list(tx.execute(sa.select(table).where(*where)))

    def _serials(self) -> set[str]:
        with self.house.db.read() as tx:
            return set(tx.execute(sa.select(schema.certificate.c.serial)).scalars())

    def _allowed_by_rows(self, order: Ordered, now: dt.datetime) -> bool:
        """Whether the rows, as they are now, satisfy the order."""
        (row,) = self._rows(schema.acme_order, schema.acme_order.c.id == order.id)
        (account,) = self._rows(schema.acme_account, schema.acme_account.c.id == row.account_id)
        table, link = schema.acme_authorization, schema.acme_order_authorization
        ids = [e.authorization_id for e in self._rows(link, link.c.order_id == order.id)]
        held = self._rows(table, table.c.id.in_(ids))
        good = {
            ("*." if e.is_wildcard else "") + e.identifier
            for e in held
            if e.state == "valid" and now < e.expires_at and e.account_id == account.id
        }
        return account.state == "valid" and set(order.names) <= good and now < row.expires_at

    # Accounts

    @initialize(target=opened)
    def begin(self) -> Any:
        return multiple(self._register(self.open), self._register(self.bound))

    @rule(target=opened, bound=st.booleans())
    def register(self, bound: bool) -> Client:
        return self._register(self.bound if bound else self.open)

    def _register(self, where: Directory) -> Client:
        made = client(self.house, self.door, where)
        self.clients.append(made)
        return made

    @rule(account=opened, by_operator=st.booleans(), really=st.sampled_from([True, False, False]))
    def leave(self, account: Client, by_operator: bool, really: bool) -> None:
        """Deactivated by its client or revoked by the operator; then it is nobody (7.3.6)."""
        if not really:
            return
        if by_operator:
            account_id = account.kid.rsplit("/", 1)[1]
            with self.house.db.read() as tx:
                found = reads.acme_account_by_id(tx, account_id)
            assert found is not None
            with contextlib.suppress(WrongState):  # it was revoked before
                accounts.revoke(self.house.db, found, by=OPERATOR, now=self.house.clock())
        else:
            self._post(account, account.kid, {"status": "deactivated"})
        assert self._post(account, account.kid).status == 401

    @rule(account=opened)
    def change_key(self, account: Client) -> None:
        """The new key is the account, the old one is nobody; orders and proofs stay (7.3.5)."""
        old, new = account.key, ec.generate_private_key(ec.SECP256R1())
        url = account.url("key-change")
        inner = {"account": account.kid, "oldKey": jwk_of(old)}
        answer = self._post(account, url, jws(new, {"jwk": jwk_of(new), "url": url}, inner))
        if answer.status != 200:
            assert answer.status == 401  # it had left before
            return
        assert self._post(account, account.kid).status == 400
        account.key = new
        assert self._post(account, account.kid).status == 200

    # Orders and proofs

    @rule(target=ordered, account=opened, names=SETS)
    def order(self, account: Client, names: tuple[str, ...]) -> Any:
        return self._order(account, names)

    @rule(target=ordered, account=opened, wide=st.booleans())
    def order_own(self, account: Client, wide: bool) -> Any:
        """A name of the maker: ready at once for a bound account, and for it alone."""
        return self._order(account, OWN[:1] if wide else OWN)

    def _order(self, account: Client, names: tuple[str, ...]) -> Any:
        answer = self._post(account, account.url("new-order"), {"identifiers": identifiers(names)})
        if answer.status != 201:
            assert answer.status == 401
            return multiple()
        shown = answer.json
        made = Ordered(
            account, names, answer.headers["location"], tuple(shown["authorizations"]),
            shown["finalize"],
        )  # fmt: skip
        now = self.house.clock.now
        if shown["status"] == "ready":
            assert self.proofs.allow(made, now)
        self.orders.append(made)
        return made

    @rule(account=opened, name=st.sampled_from(FOREIGN[:2]), well=MOSTLY)
    def authorize(self, account: Client, name: str, well: bool) -> None:
        """newAuthz: what is proved before serves the orders that follow."""
        wanted = {"identifier": {"type": "dns", "value": name}}
        answer = self._post(account, account.url("new-authz"), wanted)
        if answer.status == 201:
            self._prove(account, answer.headers["location"], well=well)

    @rule(order=ordered, well=MOSTLY, whole=MOSTLY)
    def answer(self, order: Ordered, well: bool, whole: bool) -> None:
        for each in order.parts if whole else order.parts[:1]:
            self._prove(order.owner, each, well=well)

    def _prove(self, owner: Client, authorization: str, *, well: bool) -> None:
        shown = self._post(owner, authorization)
        if shown.status != 200 or shown.json["status"] != "pending":
            return
        url = publish(self.zone, owner, shown.json, well=well)
        self._post(owner, url, {})
        after = self._post(owner, authorization).json["status"]
        assert after == ("valid" if well else "invalid")
        if well:
            name = shown.json["identifier"]["value"]
            proved = f"*.{name}" if shown.json.get("wildcard") else name
            until = self.house.clock.now + PROOF_LIFE
            self.proofs.seen[authorization] = (owner.kid, proved, until)

    @rule(order=ordered)
    def give_up(self, order: Ordered) -> None:
        """Deactivated authorizations serve no order any more (7.5.2)."""
        for each in order.parts:
            self._post(order.owner, each, {"status": "deactivated"})
            shown = self._post(order.owner, each)
            assert shown.status == 401 or shown.json["status"] not in ("pending", "valid")
        if self._post(order.owner, order.owner.kid).status == 200:
            for each in order.parts:
                self.proofs.seen.pop(each, None)

    # Certificates

    @rule(target=certified, order=ordered, fits=MOSTLY)
    def finalize(self, order: Ordered, fits: bool) -> Any:
        return self._finalize(order, fits=fits)

    @rule(
        target=certified,
        account=opened,
        names=SETS | st.sampled_from([OWN, OWN[:1]]),
        proved=st.sampled_from([2, 2, 1, 0]),
        days=st.sampled_from([0, 0, 0, 8, 31]),
    )
    def enrol(self, account: Client, names: tuple[str, ...], proved: int, days: int) -> Any:
        """From the order to finalize without a break; by some with less proof, or too late."""
        made = self._order(account, names)
        if not isinstance(made, Ordered):
            return multiple()
        for each in made.parts[:proved]:
            self._prove(account, each, well=True)
        self.house.clock.now += dt.timedelta(days=days)
        return self._finalize(made, fits=True)

    def _finalize(self, order: Ordered, *, fits: bool) -> Any:
        now = self.house.clock.now
        by_rows, by_proofs = self._allowed_by_rows(order, now), self.proofs.allow(order, now)
        names = order.names if fits else (*order.names, "evil.example.net")
        wanted = {"csr": csr(*names)}
        answer = self._post(order.owner, order.finalize, wanted)
        new = self._serials() - self.serials
        self.serials |= new
        if answer.status != 200:
            assert not new, "a certificate for a client that was told no"
            return multiple()
        assert fits
        assert by_rows, "the rows did not allow it"
        assert by_proofs, "nobody proved it"
        assert answer.json["status"] == "valid"
        table = schema.acme_order
        assert [e.serial for e in self._rows(table, table.c.id == order.id)] == list(new)
        type(self).issued_in_all += 1
        return order

    @rule(order=certified, other=opened)
    def revoke(self, order: Ordered, other: Client) -> None:
        """By the account that ordered it, or one that holds all of its names (7.6)."""
        table = schema.acme_order
        (row,) = self._rows(table, table.c.id == order.id)
        (held,) = self._rows(schema.certificate, schema.certificate.c.serial == row.serial)
        payload = {"certificate": encoded(held.der), "reason": 4}
        may = other is order.owner or all(
            self.proofs.counts(other, name, self.house.clock.now) for name in order.names
        )
        answer = self._post(other, other.url("revoke-cert"), payload)
        assert answer.status in ((200, 400, 401, 403, 404) if may else (401, 403, 404))

    # Strangers

    @rule(order=ordered, thief=opened)
    def trespass(self, order: Ordered, thief: Client) -> None:
        """Another account sees and moves nothing of an order, whatever it sends (6.3)."""
        if thief is order.owner:
            return
        before = self._states()
        for url, payload in (
            (order.url, None), (order.finalize, {"csr": csr(*order.names)}),
            (order.parts[0], None), (order.parts[0], {"status": "deactivated"}),
        ):  # fmt: skip
            answer = self._post(thief, url, payload)
            assert answer.status in (401, 403, 404) or (
                thief.directory != order.owner.directory
                and answer.json["type"] == f"{URN}accountDoesNotExist"
            )
        assert self._states() == before

    @rule(thief=opened, ago=st.integers(1, 20))
    def replay(self, thief: Client, ago: int) -> None:
        """A request that was served once, to the letter; and its nonce under a new signature."""
        if ago > len(self.said):
            return
        url, body = self.said[-ago]
        before = self._states()
        again = thief.send(url, body)
        assert (again.status, again.json["type"]) in (
            (400, f"{URN}badNonce"), (400, f"{URN}malformed"),
        )  # fmt: skip
        header = json.loads(decoded(json.loads(body)["protected"]))
        mine = thief.post(thief.kid, None, nonce=header["nonce"])
        assert (mine.status, mine.json["type"]) == (400, f"{URN}badNonce")
        assert self._states() == before

    @rule(days=st.sampled_from([1, 1, 8, 31]))
    def wait(self, days: int) -> None:
        """Past the life of an order, or of a proof."""
        self.house.clock.now += dt.timedelta(days=days)

    def _post(self, who: Client, url: str, payload: Any = None) -> Answer:
        """A good request; if it is served it is remembered for those who replay."""
        body = json.dumps(
            jws(who.key, {"nonce": who.nonce(), "url": url, "kid": who.kid}, payload)
        ).encode()
        answer = who.send(url, body)
        if answer.status < 300:
            self.said.append((url, body))
        return answer

    def _states(self) -> list[tuple[str, str]]:
        found = []
        for order in self.orders:
            table = schema.acme_order
            found += [(e.id, e.state) for e in self._rows(table, table.c.id == order.id)]
        return found

    # What always holds

    @invariant()
    def states_move_as_drawn(self) -> None:
        for noun, before, after in moves(self.house.db):
            assert (before, after) in DRAWN[noun], f"{noun}: {before} became {after}"

    @invariant()
    def orders_agree_with_what_they_rest_on(self) -> None:
        table, link = schema.acme_order, schema.acme_order_authorization
        ids = [each.id for each in self.orders]
        rows = self._rows(table, table.c.id.in_(ids))
        parts = self._rows(link, link.c.order_id.in_(ids))
        below = schema.acme_authorization
        held = {
            each.id: each
            for each in self._rows(below, below.c.id.in_({p.authorization_id for p in parts}))
        }
        for row in rows:
            own = [held[p.authorization_id] for p in parts if p.order_id == row.id]
            assert {each.account_id for each in own} == {row.account_id}
            assert row.state != "processing", "nothing is at work between steps"
            assert (row.serial is not None) == (row.state == "valid")
            if row.state == "ready":
                assert {each.state for each in own} == {"valid"}
        serials = [row.serial for row in rows if row.serial is not None]
        assert len(set(serials)) == len(serials), "one certificate, one order"

    @invariant()
    def nothing_is_issued_on_the_quiet(self) -> None:
        assert self._serials() == self.serials


def identifiers(names: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"type": "dns", "value": name} for name in names]


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.fixture
def machine(each_house: House) -> Iterator[type[Machine]]:
    """The machine over a house of its own, with a witness in the database."""
    watch(each_house.db)
    Machine.house, Machine.zone, Machine.issued_in_all = each_house, Zone(), 0
    Machine.door = node(each_house, Machine.zone)
    Machine.open = directory(each_house)
    Machine.bound = directory(each_house, bound=True)
    yield Machine
    Machine.door._on.network.threads.shutdown()


def run(machine: type[Machine], examples: int, steps: int, *, is_short: bool = False) -> None:
    began = machine.house.clock.now

    def fresh() -> Machine:
        machine.house.clock.now = began
        return machine()

    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis leaves it untyped
        fresh,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=is_short,  # each run of the short one walks, and issues, the same
            database=None,
            phases=(Phase.reuse, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_nothing_is_issued_off_the_tables(machine: type[Machine]) -> None:
    """Any sequence of requests; enough of them end in a certificate for this to mean something."""
    run(machine, 7, 25, is_short=True)
    assert machine.issued_in_all >= 1


@pytest.mark.slow
def test_nothing_is_issued_off_the_tables_for_long(machine: type[Machine]) -> None:
    """The same, many times and longer."""
    run(machine, 100, 40)
    assert machine.issued_in_all >= 25
