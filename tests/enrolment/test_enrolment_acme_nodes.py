"""Two nodes of one installation: each with its own event loop, database handle, gate and door.

Whatever two of them do in the same moment, the database decides; the loser is told what a client
understands, and nothing is done twice.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from acme_client import URN, Client, csr, jwk_of, jws
from asgi import Answer
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.model.acme import Directory
from certmint.registry import schema
from certmint.registry.engine import open_database

from .acme_world import Zone, client, node, publish
from .house import House
from .test_enrolment_acme import directory

TIMES = 20


class Node:
    """A door that runs in a loop of its own, as in a process of its own."""

    def __init__(self, house: House, zone: Zone, url: str) -> None:
        self._db = open_database(url)
        self._door = node(house, zone, self._db)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def __call__(self, *request: Any) -> None:
        work = asyncio.run_coroutine_threadsafe(self._door(*request), self._loop)
        await asyncio.wrap_future(work)

    def stop(self) -> None:
        """End it; what it knew is gone."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._door._on.network.threads.shutdown()
        self._db.close()


Nodes = tuple[Node, Node]


@pytest.fixture
def zone() -> Zone:
    return Zone()


@pytest.fixture
def nodes(each_house: House, url: str, zone: Zone) -> Iterator[Nodes]:
    """Two nodes on one SQLite file, or on one PostgreSQL."""
    both = Node(each_house, zone, url), Node(each_house, zone, url)
    yield both
    for each in both:
        each.stop()


@pytest.fixture
def where(each_house: House) -> Directory:
    return directory(each_house)


def at_once(nodes: Nodes, work: Callable[[Node], Answer]) -> list[Answer]:
    """The same at both nodes in turn, all in one moment."""
    with ThreadPoolExecutor(TIMES) as pool:
        return list(pool.map(work, [nodes[each % 2] for each in range(TIMES)]))


def on(owner: Client, app: Any) -> Client:
    """The same account, talking to another node."""
    return Client(app, owner.directory, owner.key, owner.kid)


def ready(zone: Zone, owner: Client, name: str) -> Any:
    """An order whose name is proved."""
    made = owner.order(name)
    (part,) = made.json["authorizations"]
    owner.post(publish(zone, owner, owner.post(part).json), {})
    found = owner.post(made.headers["location"]).json
    assert found["status"] == "ready"
    return found


def count(house: House, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
    query = sa.select(sa.func.count()).select_from(table).where(*where)
    with house.db.read() as tx:
        return int(tx.execute(query).scalar_one())


def kinds(answers: list[Answer]) -> set[tuple[int, str]]:
    """Status and type of the problems among the answers."""
    return {(a.status, a.json["type"].removeprefix(URN)) for a in answers if a.status >= 400}


def test_one_order_is_finalized_once(
    each_house: House, nodes: Nodes, where: Directory, zone: Zone
) -> None:
    """Twenty clients with twenty keys at two nodes: one certificate, orderNotReady for the rest."""
    owner = client(each_house, nodes[0], where)
    made = ready(zone, owner, "race.example.net")
    before = count(each_house, schema.certificate)

    answers = at_once(
        nodes, lambda app: on(owner, app).post(made["finalize"], {"csr": csr("race.example.net")})
    )

    assert sorted(each.status for each in answers)[:2] == [200, 403]
    assert kinds(answers) == {(403, "orderNotReady")}
    assert count(each_house, schema.certificate) == before + 1


def test_one_key_has_one_account(each_house: House, nodes: Nodes, where: Directory) -> None:
    """Twenty newAccounts of one key: one is 201, the others 200, and all say the same URL."""
    key = ec.generate_private_key(ec.SECP256R1())
    path = f"/acme/example/{where.name}"

    answers = at_once(nodes, lambda app: Client(app, path, key).register())

    assert sorted(each.status for each in answers) == [200] * (TIMES - 1) + [201]
    assert len({each.headers["location"] for each in answers}) == 1
    table = schema.acme_account
    assert count(each_house, table, table.c.directory_id == where.id) == 1


def test_a_nonce_of_one_node_is_good_once_at_another(
    each_house: House, nodes: Nodes, where: Directory
) -> None:
    """Made by A, it is spent at B; by one request of twenty, wherever they arrive."""
    owner = client(each_house, nodes[0], where)
    nonce = owner.nonce()

    answers = at_once(nodes, lambda app: on(owner, app).post(owner.kid, None, nonce=nonce))

    assert [each.status for each in answers].count(200) == 1
    assert kinds(answers) == {(400, "badNonce")}
    own = on(owner, nodes[1])
    assert own.post(own.kid, None, nonce=owner.nonce()).status == 200


def test_of_many_new_keys_one_is_the_account_s(
    each_house: House, nodes: Nodes, where: Directory
) -> None:
    """Twenty key changes from one key: one new key is the account, the old key is nobody."""
    owner = client(each_house, nodes[0], where)
    new = [ec.generate_private_key(ec.SECP256R1()) for _ in range(TIMES)]
    url = owner.url("key-change")

    def work(place: int) -> Answer:
        inner = {"account": owner.kid, "oldKey": jwk_of(owner.key)}
        signed = jws(new[place], {"jwk": jwk_of(new[place]), "url": url}, inner)
        return on(owner, nodes[place % 2]).post(url, signed)

    with ThreadPoolExecutor(TIMES) as pool:
        answers = list(pool.map(work, range(TIMES)))

    assert [each.status for each in answers].count(200) == 1
    assert all(400 <= each.status < 500 for each in answers if each.status != 200)
    good = [
        key for key in (*new, owner.key)
        if Client(nodes[1], owner.directory, key, owner.kid).post(owner.kid).status == 200
    ]  # fmt: skip
    assert good == [new[[each.status for each in answers].index(200)]]


def test_accounts_do_not_take_one_key(each_house: House, nodes: Nodes, where: Directory) -> None:
    """Twenty accounts change to the same new key: one has it, the others keep their own (409)."""
    owners = [client(each_house, nodes[each % 2], where) for each in range(TIMES)]
    new = ec.generate_private_key(ec.SECP256R1())

    def work(owner: Client) -> Answer:
        url = owner.url("key-change")
        inner = {"account": owner.kid, "oldKey": jwk_of(owner.key)}
        return owner.post(url, jws(new, {"jwk": jwk_of(new), "url": url}, inner))

    with ThreadPoolExecutor(TIMES) as pool:
        answers = list(pool.map(work, owners))

    assert sorted(each.status for each in answers) == [200] + [409] * (TIMES - 1)
    winner = owners[[each.status for each in answers].index(200)]
    assert {each.headers["location"] for each in answers if each.status == 409} == {winner.kid}


def test_a_restart_of_each_node_is_not_noticed(
    each_house: House, url: str, where: Directory, zone: Zone
) -> None:
    """An order begun at A is proved at B and finalized at a new A; the nonces live on."""
    first = Node(each_house, zone, url)
    owner = client(each_house, first, where)
    made = owner.order("roll.example.net")
    nonce = owner.nonce()
    first.stop()

    second = Node(each_house, zone, url)
    there = on(owner, second)
    (part,) = made.json["authorizations"]
    shown = there.post(part, None, nonce=nonce)
    there.post(publish(zone, there, shown.json), {})
    nonce = there.nonce()
    second.stop()

    third = Node(each_house, zone, url)
    again = on(owner, third)
    done = again.post(made.json["finalize"], {"csr": csr("roll.example.net")}, nonce=nonce)
    assert done.json["status"] == "valid"
    assert again.post(done.json["certificate"]).status == 200
    third.stop()
