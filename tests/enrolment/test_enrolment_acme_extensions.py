"""ACME's extensions where the database decides who wins, and what a crash leaves of them."""

import base64
import dataclasses
import datetime as dt
import hashlib
import os

import pytest

from certmint.enrolment.acme import accounts, challenges, orders, star, upkeep
from certmint.enrolment.acme.accounts import Identity, Opening
from certmint.enrolment.acme.authorizations import new_authorization
from certmint.enrolment.acme.challenges import Network, Place
from certmint.enrolment.acme.limits import Limit, Limits, RateLimited
from certmint.enrolment.acme.orders import Extras
from certmint.enrolment.acme.star import Wish
from certmint.model.acme import (
    Account,
    AuthorizationState,
    Challenge,
    ChallengeType,
    Directory,
    Order,
    OrderState,
    RenewalTerms,
    identifier_of,
)
from certmint.model.errors import CertmintError, Conflict, WrongState
from certmint.model.serial import serial_number
from certmint.registry import reads, writes
from certmint.validation.reach import Reach

from .house import DAY, House, csr
from .test_enrolment_acme import (
    Zone,
    as_it_is,
    at_once,
    certificates,
    directory,
    new_order,
    open_account,
    ready,
)

HOUR = dt.timedelta(hours=1)
URL = "https://ca.example/acme/maker/{}/account/{}"


def place_of(_: str, where: Directory, account: Account) -> Place:
    return Place(URL.format(where.name, account.id), "ca.example")


@pytest.mark.parametrize("kind", [ChallengeType.DNS_ACCOUNT_01, ChallengeType.DNS_PERSIST_01])
def test_a_challenge_that_a_crash_left_is_looked_at_with_its_account(
    house: House, kind: ChallengeType
) -> None:
    """The records of both name the account, so the job has to know its true URL."""
    where = directory(house, challenges=(kind,))
    account, _ = open_account(house, where)
    order = orders.new_order(
        house.db, where, account, [identifier_of("dns", "crash.example.com")], None, None,
        now=house.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    with house.db.read() as tx:
        held = reads.acme_authorization(tx, account.id, order.authorization_ids[0])
    assert held is not None
    (challenge,) = held.challenges
    url = URL.format(where.name, account.id)
    zone = Zone()
    label = base64.b32encode(hashlib.sha256(url.encode()).digest()[:10]).decode().lower()
    proof = hashlib.sha256(f"{challenge.token}.{account.thumbprint}".encode()).digest()
    digest = base64.urlsafe_b64encode(proof).rstrip(b"=").decode()
    zone.records[f"_{label}._acme-challenge.crash.example.com"] = (digest,)
    zone.records["_validation-persist.crash.example.com"] = (f"ca.example; accounturi={url}",)
    assert challenges.begin(house.db, account, challenge.id, house.clock())
    house.clock.now += upkeep.CHALLENGE_PATIENCE * 2
    taken_up = upkeep.tidy(house.db, Network(zone, Reach()), place_of, house.clock())
    assert taken_up == (1, 0)
    assert as_it_is(house, order).state is OrderState.READY


def test_a_challenge_without_an_order_is_taken_up_too(house: House) -> None:
    """One that newAuthz made: its account leads to its directory."""
    where = directory(house, challenges=(ChallengeType.DNS_01,))
    account, _ = open_account(house, where)
    made, _ = new_authorization(
        house.db, where, account, identifier_of("dns", "alone.example.com"), subdomains=False,
        now=house.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    assert challenges.begin(house.db, account, made.challenges[0].id, house.clock())
    house.clock.now += upkeep.CHALLENGE_PATIENCE * 2
    upkeep.tidy(house.db, Network(Zone(), Reach()), place_of, house.clock())
    with house.db.read() as tx:
        found = reads.acme_authorization(tx, account.id, made.id)
    assert found is not None
    assert found.state is AuthorizationState.INVALID


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_a_second_challenge_of_an_authorization_ends_as_it_was_seen(
    house: House, first: bool, second: bool
) -> None:
    """A client that answers two at once: what came first decides, and the other waits for nobody.

    One that stayed `processing` stopped the job that looks after it: at each turn, for everybody.
    """
    kinds = (ChallengeType.DNS_01, ChallengeType.DNS_ACCOUNT_01)
    where = directory(house, challenges=kinds)
    account, _ = open_account(house, where)
    made = new_order(house, where, account, "both.example.com")
    place, zone = place_of("", where, account), Zone()
    with house.db.read() as tx:
        held = reads.acme_authorization(tx, account.id, made.authorization_ids[0])
    assert held is not None
    taken = [
        challenges.begin(house.db, account, each.id, house.clock()) for each in held.challenges
    ]
    for each, well in zip(taken, (first, second), strict=True):
        assert each is not None
        network = Network(zone if well else Zone(), Reach())
        publish(zone, account, each.challenge, place.account_url)
        challenges.validate(house.db, account, each, place, network, house.clock())
    with house.db.read() as tx:
        done = reads.acme_authorization(tx, account.id, held.id)
    assert done is not None
    assert done.state.value == ("valid" if first else "invalid")
    assert [each.state.value for each in done.challenges] == [
        "valid" if well else "invalid" for well in (first, second)
    ]


def test_a_challenge_whose_authorization_was_given_up_is_put_right(house: House) -> None:
    """Given up while it was being looked at: the job ends it, and goes on with the others."""
    where = directory(house, challenges=(ChallengeType.DNS_01,))
    account, _ = open_account(house, where)
    for name in ("given-up.example.com", "kept.example.com"):
        order = new_order(house, where, account, name)
        with house.db.read() as tx:
            held = reads.acme_authorization(tx, account.id, order.authorization_ids[0])
        assert held is not None
        assert challenges.begin(house.db, account, held.challenges[0].id, house.clock())
        if name == "given-up.example.com":
            challenges.deactivate(house.db, account, held, house.clock())
        house.clock.now += dt.timedelta(seconds=1)
    house.clock.now += upkeep.CHALLENGE_PATIENCE * 2
    network = Network(Zone(), Reach())
    assert upkeep.tidy(house.db, network, place_of, house.clock()) == (2, 0)
    assert upkeep.tidy(house.db, network, place_of, house.clock()) == (0, 0)
    assert as_it_is(house, order).state is OrderState.INVALID


def publish(zone: Zone, account: Account, challenge: Challenge, url: str) -> None:
    """The record that a challenge asks for: dns-01's, or that at the account's own label."""
    label = "_acme-challenge.both.example.com"
    if challenge.type is ChallengeType.DNS_ACCOUNT_01:
        own = base64.b32encode(hashlib.sha256(url.encode()).digest()[:10]).decode().lower()
        label = f"_{own}.{label}"
    proof = hashlib.sha256(f"{challenge.token}.{account.thumbprint}".encode()).digest()
    zone.records[label] = (base64.urlsafe_b64encode(proof).rstrip(b"=").decode(),)


def cert_id(house: House, order: Order) -> str:
    """The ARI identifier of an order's certificate (RFC 9773 4.1)."""
    assert order.serial is not None
    assert order.authority_id is not None
    with house.db.read() as tx:
        issuer = reads.authority(tx, order.tenant_id, order.authority_id)
    assert issuer is not None
    number = serial_number(order.serial)
    octets = number.to_bytes(number.bit_length() // 8 + 1, "big")
    parts = (base64.urlsafe_b64encode(each).rstrip(b"=") for each in (issuer.key.key_id, octets))
    return b".".join(parts).decode()


def test_one_of_many_orders_replaces_a_certificate(each_house: House) -> None:
    """Eight at once: one has the certificate, the others are alreadyReplaced."""
    house, where = each_house, directory(each_house)
    account, _ = open_account(house, where)
    first = ready(house, where, account, "twin.example.com")
    done = orders.finalize(
        house.db, house.gate, where, account, first, csr("twin.example.com"), now=house.clock()
    )
    name = cert_id(house, done)

    def work() -> Order:
        return orders.new_order(
            house.db, where, account, [identifier_of("dns", "twin.example.com")], None, name,
            now=house.clock(), random_bytes=os.urandom,
        )  # fmt: skip

    results = at_once(work, Conflict)
    assert sum(isinstance(each, Order) for each in results) == 1
    assert {each.code for each in results if isinstance(each, Conflict)} == {"already-replaced"}


def test_a_limit_holds_for_many_at_once(each_house: House) -> None:
    """Eight nodes count in one place: five orders get through, and not one more."""
    house, where = each_house, directory(each_house)
    account, _ = open_account(house, where)
    limits = Limits(orders=Limit(5, 100, 10_000))

    def work() -> Order:
        name = f"n{os.urandom(4).hex()}.example.com"
        return orders.new_order(
            house.db, where, account, [identifier_of("dns", name)], None, None,
            now=house.clock(), random_bytes=os.urandom, limits=limits,
        )  # fmt: skip

    results = at_once(work, RateLimited)
    assert sum(isinstance(each, Order) for each in results) == 5
    assert all(each.retry_after > 0 for each in results if isinstance(each, RateLimited))


def renewing(house: House, where: Directory, account: Account, name: str) -> Order:
    """An order that renews itself, with its first certificate."""
    wish = Wish(house.clock() + 9 * DAY, DAY, dt.timedelta(0), allows_get=False)
    ready(house, where, account, name)
    order = orders.new_order(
        house.db, where, account, [identifier_of("dns", name)], None, None,
        now=house.clock(), random_bytes=os.urandom, extras=Extras(renewing=wish),
    )  # fmt: skip
    return orders.finalize(
        house.db, house.gate, where, account, order, csr(name), now=house.clock()
    )


def test_many_nodes_renew_an_order_once(each_house: House) -> None:
    """The job runs on all of them in the same moment: one certificate more."""
    house = each_house
    where = directory(house, auto_renewal=RenewalTerms(HOUR, 30 * DAY))
    account, _ = open_account(house, where)
    renewing(house, where, account, "nodes.example.com")
    before = certificates(house, "nodes.example.com")
    house.clock.now += 9 * HOUR
    now = house.clock()
    at_once(lambda: star.renew_due(house.db, house.gate, now), CertmintError)
    assert certificates(house, "nodes.example.com") == before + 1


def test_a_node_that_dies_renewing_is_followed_by_another(house: House) -> None:
    """The turn was taken and nothing came of it: it comes again when the lease is over."""
    where = directory(house, auto_renewal=RenewalTerms(HOUR, 30 * DAY))
    account, _ = open_account(house, where)
    order = renewing(house, where, account, "dies.example.com")
    house.clock.now += 9 * HOUR
    with house.db.read() as tx:
        due = reads.acme_auto_renewal(tx, order.id)
    assert due is not None
    until = house.clock() + dt.timedelta(minutes=5)
    assert house.db.write(lambda tx: writes.postpone_acme_renewal(tx, due, until))
    assert star.renew_due(house.db, house.gate, house.clock()) == []
    house.clock.now += dt.timedelta(minutes=6)
    assert star.renew_due(house.db, house.gate, house.clock()) == [(order.id, None)]


def test_canceled_while_it_was_being_signed(house: House) -> None:
    """The certificate is not stored, so it is not released; `reconcile` revokes its serial."""
    where = directory(house, auto_renewal=RenewalTerms(HOUR, 30 * DAY))
    account, _ = open_account(house, where)
    order = renewing(house, where, account, "late.example.com")
    with house.db.read() as tx:
        renewal = reads.acme_auto_renewal(tx, order.id)
        found = reads.certificate(tx, order.tenant_id, order.serial or "", order.authority_id)
    assert renewal is not None
    assert found is not None
    star.cancel(house.db, renewal, house.clock())
    now, request = house.clock(), csr("late.example.com")
    with pytest.raises(WrongState):
        house.db.write(lambda tx: star.record(tx, renewal, found, request, began_at=now, now=now))


def test_closing_an_account_at_once_closes_it_once(each_house: House) -> None:
    """By its client, in eight hands: one of them did it."""
    house, where = each_house, directory(each_house)
    account, _ = open_account(house, where)
    results = at_once(lambda: accounts.deactivate(house.db, account, house.clock()), WrongState)
    assert sum(isinstance(each, Account) for each in results) == 1


def test_a_refused_account_counts_nothing(house: House) -> None:
    """A limit that is reached leaves no account behind, and no trace in the counters."""
    where = directory(house)
    limits = Limits(accounts=Limit(1, 1, 1))
    house.clock.now += DAY
    now = house.clock()

    def work(key: str) -> Account:
        made, _ = accounts.new_account(
            house.db, where, Identity(key, "{}"), Opening(), now=now, random_bytes=os.urandom,
            limits=limits,
        )  # fmt: skip
        return made

    work("the-first")
    for _ in range(3):
        with pytest.raises(RateLimited):
            work("the-second")
    with house.db.read() as tx:
        assert reads.acme_account_by_key(tx, where.id, "the-second") is None
        assert reads.acme_count(tx, f"accounts:manufacturer:{house.tenant.id}", now)[0] == 1


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("tree.example", True), ("a.tree.example", True), ("b.a.tree.example", True),
        ("*.tree.example", True), ("*.a.tree.example", True), ("nottree.example", False),
        ("tree.example.org", False), ("example", False),
    ],
)  # fmt: skip
def test_a_domain_covers_the_names_below_it_and_no_other(
    house: House, name: str, covered: bool
) -> None:
    """Label by label (RFC 9444); without the flag it is for itself alone."""
    where = directory(house, allows_subdomains=True)
    account, _ = open_account(house, where)
    made, _ = new_authorization(
        house.db, where, account, identifier_of("dns", "tree.example"), subdomains=True,
        now=house.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    wanted = identifier_of("dns", name)
    assert made.covers(wanted) is covered
    narrow = dataclasses.replace(made, covers_subdomains=False)
    assert narrow.covers(wanted) is (name == "tree.example")
    assert not made.covers(identifier_of("ip", "203.0.113.1"))
