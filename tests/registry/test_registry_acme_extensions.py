"""Counters, replacements, self-renewing orders, and accounts that are closed."""

import dataclasses
import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa

from certmint.model.acme import (
    AUTO_RENEWAL,
    AutoRenewal,
    AutoRenewalEvent,
    AutoRenewalState,
    ChallengeType,
    Directory,
    OrderEvent,
    OrderState,
    RenewalTerms,
)
from certmint.model.errors import CertmintError, Conflict, WrongState
from certmint.model.serial import Serial
from certmint.registry import audit, reads, writes
from certmint.registry.engine import Database

NOW = dt.datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=dt.UTC)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
SERIAL = Serial("0" * 38 + "17")


def count(db: Database, subject: str, now: dt.datetime) -> tuple[int, dt.datetime]:
    return db.write(lambda tx: writes.count_acme(tx, subject, now, now + HOUR))


def seen(db: Database, subject: str, now: dt.datetime) -> tuple[int, dt.datetime]:
    with db.read() as tx:
        return reads.acme_count(tx, subject, now)


def test_a_subject_is_counted_in_windows(db: Database) -> None:
    """The window begins with the first, lasts as it was told to, and then another one begins."""
    subject = "orders:test:windows"
    assert seen(db, subject, NOW) == (0, NOW)
    assert count(db, subject, NOW) == (1, NOW + HOUR)
    assert count(db, subject, NOW + HOUR / 2) == (2, NOW + HOUR)
    assert seen(db, subject, NOW + HOUR / 2) == (2, NOW + HOUR)
    assert seen(db, subject, NOW + HOUR) == (0, NOW + HOUR)
    assert count(db, subject, NOW + HOUR) == (1, NOW + 2 * HOUR)
    assert seen(db, "orders:test:another", NOW) == (0, NOW)


def test_a_transaction_that_fails_counts_nothing(db: Database) -> None:
    """What is refused is not spent."""

    def work(tx: Any) -> None:
        writes.count_acme(tx, "orders:test:failed", NOW, NOW + HOUR)
        raise Conflict("x", "x")

    with pytest.raises(Conflict):
        db.write(work)
    assert seen(db, "orders:test:failed", NOW) == (0, NOW)


def test_windows_that_are_over_are_forgotten(db: Database) -> None:
    """So there is a row for each subject that was active lately, and no other."""
    for number in range(3):
        count(db, f"orders:test:old-{number}", NOW - DAY)
    count(db, "orders:test:new", NOW)
    gone = 0
    while forgotten := db.write(lambda tx: writes.forget_acme_counts(tx, NOW, limit=2)):
        assert forgotten <= 2
        gone += forgotten
    assert gone >= 3
    assert seen(db, "orders:test:new", NOW)[0] == 1


def claim(client: Any, order: Any, now: dt.datetime = NOW, serial: Serial = SERIAL) -> None:
    client.tenant.db.write(
        lambda tx: writes.claim_acme_replacement(tx, order, client.tenant.authority.id, serial, now)
    )


def test_one_order_replaces_a_certificate(client) -> None:
    """Whoever is second hears of it, and changes nothing."""
    first, second = client.order(), client.order()
    claim(client, first)
    with pytest.raises(Conflict) as refusal:
        claim(client, second)
    assert refusal.value.code == "already-replaced"
    claim(client, second, serial=Serial("0" * 38 + "18"))


def test_an_order_that_failed_gives_way(client) -> None:
    """And so does one that ran out of time; one that is finished never does."""
    first, second, third = client.order(), client.order(), client.order()
    claim(client, first)

    def move(order: Any, state: OrderState, event: OrderEvent) -> None:
        client.tenant.db.write(
            lambda tx: writes.move_acme_order(tx, client.tenant.id, order.id, state, event, at=NOW)
        )

    move(first, OrderState.PENDING, OrderEvent.FAILED)
    claim(client, second)
    with pytest.raises(Conflict):
        claim(client, third)
    claim(client, third, now=second.expires_at)
    for state, event in (
        (OrderState.PENDING, OrderEvent.AUTHORIZED),
        (OrderState.READY, OrderEvent.FINALIZED),
        (OrderState.PROCESSING, OrderEvent.ISSUED),
    ):
        move(third, state, event)
    with pytest.raises(Conflict):
        claim(client, client.order(), now=third.expires_at + DAY)


def renewal(client: Any, **changes: Any) -> AutoRenewal:
    """Stored, for an order of its own."""
    order = client.order()
    made = AutoRenewal(
        order.id, client.tenant.id, client.account.id, AutoRenewalState.ACTIVE, NOW + 9 * DAY, DAY,
        HOUR, allows_get=True,
    )  # fmt: skip
    made = dataclasses.replace(made, **changes)
    client.tenant.db.write(lambda tx: writes.add_acme_auto_renewal(tx, made))
    return made


def stored(client: Any, made: AutoRenewal) -> AutoRenewal | None:
    with client.tenant.db.read() as tx:
        return reads.acme_auto_renewal(tx, made.order_id)


def record(client: Any, made: AutoRenewal, serial: Serial, next_at: dt.datetime | None) -> None:
    client.tenant.db.write(
        lambda tx: writes.record_acme_renewal(
            tx, made, client.tenant.authority.id, serial, next_at=next_at, csr=b"csr",
            began_at=NOW,
        )
    )  # fmt: skip


def test_a_self_renewing_order_comes_back_equal(client) -> None:
    """Before and after its first certificate; another order has none."""
    made = renewal(client)
    assert stored(client, made) == made
    record(client, made, SERIAL, NOW + HOUR)
    authority = client.tenant.authority.id
    assert stored(client, made) == dataclasses.replace(
        made, csr=b"csr", began_at=NOW, next_at=NOW + HOUR, authority_id=authority, serial=SERIAL
    )
    with client.tenant.db.read() as tx:
        assert reads.acme_auto_renewal(tx, client.order().id) is None
        assert reads.acme_order_renewing(tx, authority, SERIAL) == made.order_id
        assert reads.acme_order_renewing(tx, authority, Serial("0" * 40)) is None


def test_what_is_due_comes_longest_due_first(client) -> None:
    """Nothing that is given up, finished, or only due later."""
    late = renewal(client, next_at=NOW - HOUR)
    early = renewal(client, next_at=NOW - DAY)
    renewal(client, next_at=NOW + HOUR)
    renewal(client)
    gone = renewal(client, next_at=NOW - DAY)
    client.tenant.db.write(
        lambda tx: writes.move_acme_auto_renewal(
            tx, gone, AutoRenewalEvent.CANCELED, by="x", at=NOW
        )
    )
    with client.tenant.db.read() as tx:
        due = [
            each for each in reads.due_acme_auto_renewals(tx, NOW, 10_000)
            if each.account_id == client.account.id
        ]  # fmt: skip
    assert due == [early, late]


def test_a_turn_is_taken_once(client) -> None:
    """Of two nodes that saw it due, one goes on."""
    made = renewal(client, next_at=NOW)
    taken = [
        client.tenant.db.write(lambda tx: writes.postpone_acme_renewal(tx, made, NOW + HOUR))
        for _ in range(2)
    ]
    assert taken == [True, False]


@pytest.mark.parametrize("state", AutoRenewalState)
@pytest.mark.parametrize("event", AutoRenewalEvent)
def test_renewals_move_as_drawn(client, state: AutoRenewalState, event: AutoRenewalEvent) -> None:
    """One compare-and-set for each move of the table, and for no other."""
    made = renewal(client, state=state, next_at=NOW)

    def move() -> AutoRenewalState:
        return client.tenant.db.write(
            lambda tx: writes.move_acme_auto_renewal(tx, made, event, by="x", at=NOW)
        )

    if event not in AUTO_RENEWAL[state]:
        with pytest.raises(WrongState):
            move()
        assert stored(client, made) == made
        return
    assert move() is AUTO_RENEWAL[state][event]
    after = stored(client, made)
    assert after is not None
    assert (after.state, after.next_at) == (AUTO_RENEWAL[state][event], None)
    with pytest.raises(WrongState):
        move()
    with pytest.raises(WrongState):
        record(client, made, SERIAL, None)


def test_a_directory_s_offer_comes_back_equal(client) -> None:
    """And one from before there were offers has the defaults."""
    db, tenant = client.tenant.db, client.tenant
    full = Directory(
        client.id("dir"), tenant.id, "full", tenant.authority.id, ("service",), False, NOW,
        (ChallengeType.DNS_PERSIST_01, ChallengeType.HTTP_01), "https://t.example",
        "https://w.example", ("ca.example",), True, RenewalTerms(HOUR, DAY, allows_get=True),
    )  # fmt: skip
    tenant.write(writes.add_acme_directory, full)
    with db.read() as tx:
        assert reads.acme_directory(tx, tenant.slug, "full") == full
        assert reads.acme_directory_by_id(tx, full.id) == (tenant.slug, full)
        assert reads.acme_directory_by_id(tx, "dir-nothing") is None
    tenant.write(writes.set_acme_terms, full, "https://t.example/2")
    old = "UPDATE acme_directory SET offer = NULL WHERE id = :id"
    db.write(lambda tx: tx.execute(sa.text(old), {"id": client.directory.id}).close())
    with db.read() as tx:
        found = reads.acme_directory(tx, tenant.slug, "full")
        assert found == dataclasses.replace(full, terms="https://t.example/2")
        assert reads.acme_directory(tx, tenant.slug, "main") == client.directory


def test_an_agreement_is_kept(client) -> None:
    """With its URL, and in the audit log."""
    tenant = client.tenant
    tenant.write(writes.agree_acme_terms, tenant.id, client.account.id, "https://t.example")
    with tenant.db.read() as tx:
        found = reads.acme_account_by_id(tx, client.account.id)
        assert found == dataclasses.replace(client.account, agreed_terms="https://t.example")
        assert audit.verify(tx).broken_at is None


def test_accounts_are_listed_and_found_by_key(db: Database, client) -> None:
    """By id, page by page; a key may have accounts at several directories."""
    tenant = client.tenant
    other = client.new_account(thumbprint="thumb-other")
    assert tenant.write(writes.add_acme_account, other)
    with db.read() as tx:
        whole = reads.acme_accounts(tx, tenant.id)
        assert [each.id for each in whole] == sorted(each.id for each in whole)
        assert {client.account, other} <= set(whole)
        assert reads.acme_accounts(tx, tenant.id, whole[0].id, 1) == whole[1:2]
        assert reads.acme_accounts(tx, "m-stranger") == []
        assert reads.acme_accounts_with_key(tx, tenant.id, "thumb-other") == [other]
        assert reads.acme_accounts_with_key(tx, "m-stranger", "thumb-other") == []


def test_closing_an_account_touches_its_own_alone(client) -> None:
    """Pending authorizations and open orders of one account; another's go on."""
    tenant = client.tenant
    neighbour = client.new_account()
    assert tenant.write(writes.add_acme_account, neighbour)
    authorization = dataclasses.replace(client.new_authorization(), account_id=neighbour.id)
    theirs = client.new_order(authorization, account_id=neighbour.id)
    tenant.db.write(lambda tx: writes.add_acme_order(tx, theirs, [authorization]))
    mine = client.order()
    tenant.db.write(
        lambda tx: writes.close_acme_account(tx, tenant.id, client.account.id, "gone", NOW)
    )
    with tenant.db.read() as tx:
        states = {
            each.id: (each.state.value, each.error)
            for each in (
                reads.acme_order(tx, client.account.id, mine.id),
                reads.acme_order(tx, neighbour.id, theirs.id),
            )
            if each is not None
        }
        held = reads.acme_authorization(tx, client.account.id, mine.authorization_ids[0])
    assert states == {mine.id: ("invalid", "gone"), theirs.id: ("pending", "")}
    assert held is not None
    assert held.state.value == "deactivated"


def test_what_hangs_below_an_order_is_its_account_s(client) -> None:
    """The database refuses a renewal or a replacement under another account's name."""
    made = renewal(client)
    other = client.new_account()
    assert client.tenant.write(writes.add_acme_account, other)
    wrong = dataclasses.replace(client.order(), account_id=other.id)
    for work in (
        lambda tx: writes.claim_acme_replacement(tx, wrong, "ca", SERIAL, NOW),
        lambda tx: writes.add_acme_auto_renewal(
            tx, dataclasses.replace(made, order_id=wrong.id, account_id=other.id)
        ),
    ):
        with pytest.raises(CertmintError) as refusal:
            client.tenant.db.write(work)
        assert refusal.value.code == "reference-unknown"


def test_no_read_of_the_extensions_walks_through_a_table(
    sqlite_db: Database, make_tenant, make_client
) -> None:
    """With a million accounts each is still a search in an index."""
    client = make_client(make_tenant(sqlite_db, "alpha"))
    authority = client.tenant.authority
    queries = {
        "count": lambda tx: reads.acme_count(tx, "x", NOW),
        "renewal": lambda tx: reads.acme_auto_renewal(tx, "x"),
        "due": lambda tx: reads.due_acme_auto_renewals(tx, NOW, 10),
        "renewing": lambda tx: reads.acme_order_renewing(tx, authority.id, SERIAL),
        "by key": lambda tx: reads.certificate_by_issuer_key(tx, "00", SERIAL),
        "account": lambda tx: reads.acme_account_by_id(tx, "x"),
        "accounts": lambda tx: reads.acme_accounts(tx, client.tenant.id, "x"),
        "with key": lambda tx: reads.acme_accounts_with_key(tx, client.tenant.id, "x"),
        "directory": lambda tx: reads.acme_directory_by_id(tx, "x"),
    }
    walked = []
    for name, query in queries.items():
        with sqlite_db.read() as tx:
            seen_ones: list[str] = []
            driver = tx.connection.driver_connection
            driver.set_trace_callback(seen_ones.append)
            query(tx)
            driver.set_trace_callback(None)
            statements = [each for each in seen_ones if each.lstrip().startswith("SELECT")]
            assert statements, name
            for statement in statements:
                plan = driver.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
                walked += [(name, step[3]) for step in plan if step[3].startswith("SCAN ")]
    assert walked == []
