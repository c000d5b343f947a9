"""ACME's use cases where the database decides who wins, on SQLite and on PostgreSQL."""

import base64
import datetime as dt
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from certmint.enrolment.acme import accounts, challenges, orders
from certmint.enrolment.acme.accounts import Identity, Opening
from certmint.enrolment.acme.challenges import Network, Place
from certmint.enrolment.acme.directories import Offer, add_directory
from certmint.enrolment.acme.nonces import BadNonce, Nonces
from certmint.enrolment.vault import Vault
from certmint.model.acme import (
    Account,
    AuthorizationState,
    Binding,
    ChallengeType,
    Directory,
    Order,
    OrderState,
    identifier_of,
)
from certmint.model.errors import CertmintError, Conflict, WrongState
from certmint.registry import reads
from certmint.validation.dns import Answer
from certmint.validation.reach import Reach

from .house import DAY, OPERATOR, House, csr

THREADS = 8


class Zone:
    """A resolver with the TXT records that were published."""

    def __init__(self) -> None:
        self.records: dict[str, tuple[str, ...]] = {}

    def txt(self, name: str) -> Answer:
        return Answer(self.records.get(name, ()), "192.0.2.53:53", authenticated=False)

    cname = addresses = txt


def directory(
    house: House, *, authority: str = "issuing", bound: bool = False, **offer: Any
) -> Directory:
    """A directory of the house's manufacturer that offers this."""
    return add_directory(
        house.db, house.tenant, f"d-{os.urandom(4).hex()}", authority, ("service",),
        requires_binding=bound, by=OPERATOR, now=house.clock(), random_bytes=os.urandom,
        offer=Offer(**offer),
    )  # fmt: skip


def open_account(
    house: House, where: Directory, key: str = "", binding: Binding | None = None
) -> tuple[Account, bool]:
    """The account of a key; its JWK is nobody's business here."""
    identity = Identity(key or os.urandom(8).hex(), "{}")
    return accounts.new_account(
        house.db,
        where,
        identity,
        Opening(binding=binding),
        now=house.clock(),
        random_bytes=os.urandom,
    )


def new_order(house: House, where: Directory, account: Account, *names: str) -> Order:
    """An order for DNS names."""
    wanted = [identifier_of("dns", name) for name in names]
    return orders.new_order(
        house.db, where, account, wanted, None, None, now=house.clock(), random_bytes=os.urandom
    )


def prove(house: House, account: Account, authorization_id: str, *, well: bool = True) -> None:
    """Answer dns-01, well or badly."""
    with house.db.read() as tx:
        found = reads.acme_authorization(tx, account.id, authorization_id)
    assert found is not None
    (challenge,) = (each for each in found.challenges if each.type is ChallengeType.DNS_01)
    proof = hashlib.sha256(f"{challenge.token}.{account.thumbprint}".encode()).digest()
    text = base64.urlsafe_b64encode(proof).rstrip(b"=").decode()
    zone = Zone()
    zone.records[f"_acme-challenge.{found.identifier.value}"] = (text if well else "wrong",)
    taken = challenges.begin(house.db, account, challenge.id, house.clock())
    if taken is not None:
        network = Network(zone, Reach())
        place = Place("https://ca.example/account", "ca.example")
        challenges.validate(house.db, account, taken, place, network, house.clock())


def ready(house: House, where: Directory, account: Account, *names: str) -> Order:
    """An order that may be finalized."""
    order = new_order(house, where, account, *names)
    for each in order.authorization_ids:
        prove(house, account, each)
    return as_it_is(house, order)


def as_it_is(house: House, order: Order) -> Order:
    with house.db.read() as tx:
        found = reads.acme_order(tx, order.account_id, order.id)
    assert found is not None
    return found


def at_once(work: Callable[[], Any], expected: type[CertmintError]) -> list[Any]:
    """What each of several threads got; `expected` errors are results too."""

    def one(_: int) -> Any:
        try:
            return work()
        except expected as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


def certificates(house: House, name: str) -> int:
    """How many certificates for a name there are."""
    found = house.read(reads.certificates, limit=10_000)
    return sum(name in each.names for each in found)


def test_finalizing_at_once_issues_once(each_house: House) -> None:
    """Eight clients, one order: one certificate, and `order-not-ready` for the others."""
    where = directory(each_house)
    account, _ = open_account(each_house, where)
    order = ready(each_house, where, account, "race.example.com")
    assert order.state is OrderState.READY
    now, gate = each_house.clock(), each_house.gate

    def work() -> Order:
        made = csr("race.example.com")
        return orders.finalize(each_house.db, gate, where, account, order, made, now=now)

    results = at_once(work, WrongState)
    assert [each.state for each in results if isinstance(each, Order)] == [OrderState.VALID]
    assert certificates(each_house, "race.example.com") == 1
    assert as_it_is(each_house, order).state is OrderState.VALID


def test_one_key_opened_at_once_is_one_account(each_house: House) -> None:
    """Eight nodes hear of a key in the same moment: one account, told to all of them."""
    where = directory(each_house)
    results = at_once(lambda: open_account(each_house, where, "one-key"), CertmintError)
    assert len({account.id for account, _ in results}) == 1
    assert [is_new for _, is_new in results].count(True) == 1


def test_a_binding_spent_at_once_opens_one_account(each_house: House) -> None:
    """A stolen single-use binding in eight hands."""
    where = directory(each_house, bound=True)
    binding, _ = accounts.new_binding(
        each_house.db, Vault(bytes(32)), where, product=None, device=None, is_reusable=False,
        lifetime=DAY, by=OPERATOR, now=each_house.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    results = at_once(lambda: open_account(each_house, where, binding=binding), Conflict)
    assert sum(isinstance(each, tuple) for each in results) == 1
    assert {each.code for each in results if isinstance(each, Conflict)} == {"binding-spent"}


def is_spent(nonces: Nonces, nonce: str, now: dt.datetime) -> bool:
    """Whether a request with this nonce would have been accepted."""
    try:
        nonces.accept(nonce, now).settle()
    except BadNonce:
        return False
    return True


def test_a_nonce_used_at_once_is_used_once(each_house: House) -> None:
    """On two nodes, in eight threads."""
    nodes = [Nonces(each_house.db, b"one secret") for _ in range(2)]
    now = each_house.clock()
    nonce = nodes[0].make(now, os.urandom)
    with ThreadPoolExecutor(THREADS) as pool:
        spent = list(pool.map(lambda i: is_spent(nodes[i % 2], nonce, now), range(THREADS)))
    assert spent.count(True) == 1


def test_a_challenge_answered_at_once_is_looked_at_once(each_house: House) -> None:
    """Parallel answers do not validate in parallel."""
    where = directory(each_house)
    account, _ = open_account(each_house, where)
    order = new_order(each_house, where, account, "twice.example.com")
    with each_house.db.read() as tx:
        found = reads.acme_authorization(tx, account.id, order.authorization_ids[0])
    assert found is not None
    challenge, now = found.challenges[0].id, each_house.clock()
    taken = at_once(lambda: challenges.begin(each_house.db, account, challenge, now), CertmintError)
    assert len([each for each in taken if each is not None]) == 1


def test_a_nonce_lasts_a_day_and_no_longer(house: House) -> None:
    """Clients keep one over a long validation, or over our restart."""
    nonces, now = Nonces(house.db, b"secret"), house.clock()
    first, second = (nonces.make(now, os.urandom) for _ in range(2))
    assert is_spent(nonces, first, now + DAY * 0.9)
    assert not is_spent(nonces, second, now + DAY * 1.1)
    assert not is_spent(nonces, nonces.make(now + DAY, os.urandom), now)


def test_names_outside_the_authority_s_constraints_are_rejected_one_by_one(house: House) -> None:
    """The client is told at newOrder what could never be issued."""
    where = directory(house, authority="tls")
    account, _ = open_account(house, where)
    with pytest.raises(orders.Rejected) as caught:
        new_order(house, where, account, "a.example.com", "b.example.org", "c.example.net")
    named = [(identifier.value, error.code) for identifier, error in caught.value.reasons]
    assert named == [
        ("b.example.org", "name-outside-constraints"),
        ("c.example.net", "name-outside-constraints"),
    ]


def test_a_deactivated_authorization_ends_each_open_order_of_it(house: House) -> None:
    """Two orders share it; a third, that is finished, stays as it is."""
    where = directory(house)
    account, _ = open_account(house, where)
    done = ready(house, where, account, "shared.example.com")
    orders.finalize(
        house.db, house.gate, where, account, done, csr("shared.example.com"), now=house.clock()
    )
    first = new_order(house, where, account, "shared.example.com")
    second = new_order(house, where, account, "shared.example.com", "more.example.com")
    with house.db.read() as tx:
        held = reads.acme_authorization(tx, account.id, first.authorization_ids[0])
    assert held is not None
    assert held.state is AuthorizationState.VALID
    assert (first.state, second.state) == (OrderState.READY, OrderState.PENDING)
    challenges.deactivate(house.db, account, held, house.clock())
    assert as_it_is(house, first).state is OrderState.INVALID
    assert as_it_is(house, second).state is OrderState.INVALID
    assert as_it_is(house, done).state is OrderState.VALID


def test_an_order_waits_for_each_of_its_names(house: House) -> None:
    """One proof of two opens nothing."""
    where = directory(house)
    account, _ = open_account(house, where)
    order = new_order(house, where, account, "half.example.com", "other.example.com")
    prove(house, account, order.authorization_ids[0])
    assert as_it_is(house, order).state is OrderState.PENDING
    prove(house, account, order.authorization_ids[1])
    assert as_it_is(house, order).state is OrderState.READY
