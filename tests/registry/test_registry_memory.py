"""What the event loop remembers is what the database holds, whoever changed it."""

import asyncio
import datetime as dt
import sqlite3
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from sqlalchemy.sql import util

from certmint.model.acme import (
    AuthorizationEvent,
    AuthorizationState,
    ChallengeEvent,
    ChallengeState,
    OrderEvent,
    OrderState,
)
from certmint.model.entities import RevocationReason
from certmint.model.errors import Conflict
from certmint.model.keys import KeyOrigin
from certmint.registry import reads, writes
from certmint.registry.compiled import Compiled
from certmint.registry.engine import Database, Transaction
from certmint.registry.memory import memory_of

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(days=1)


def in_loop(db: Database, *works: Callable[[], Any]) -> Any:
    """What the last of these gives; each is a request of its own on one event loop."""

    async def main() -> Any:
        found = None
        for work in works:
            found = await db.run(work)
            await asyncio.sleep(0)  # requests of one turn share a snapshot
        return found

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def remembered(db: Database, read: Callable[[Transaction], Any]) -> Any:
    """What a request reads."""
    with db.read() as tx:
        assert memory_of(tx) is not None
        return read(tx)


def asked(db: Database) -> list[str]:
    """The SELECTs of the event loop's connection from now on; it has to have been used."""
    said: list[str] = []
    db._embedded.loop._memory.driver.set_trace_callback(
        lambda text: said.append(text) if text.startswith("SELECT") else None
    )
    return said


def of_database(db: Database, read: Callable[[Transaction], Any]) -> Any:
    """What a thread reads, which has no memory."""
    with db.read() as tx:
        assert memory_of(tx) is None
        return read(tx)


def test_settled_statements_name_every_table_that_they_read() -> None:
    """A table that is left out could change behind the event loop's back."""
    found = [
        each
        for name, room in sys.modules.items()
        if name.startswith("certmint.registry.reads.")
        for each in vars(room).values()
        if isinstance(each, Compiled) and each.settled
    ]
    assert len(found) >= 12
    for each in found:
        tables = util.find_tables(each._statement, include_joins=False, check_columns=True)
        assert set(tables) == set(each.settled), str(each._statement)


def test_what_hardly_changes_is_read_once(sqlite_db: Database, make_tenant) -> None:
    """The second request asks the database for nothing."""
    db, maker = sqlite_db, make_tenant(sqlite_db, "alpha")

    def read() -> Any:
        return remembered(db, lambda tx: reads.product(tx, maker.id, maker.product.id))

    said: list[str] = []
    found = in_loop(db, read, lambda: said.extend(asked(db)), read)

    assert found == maker.product
    assert said == []


@pytest.mark.parametrize("who", ["thread", "fibre", "process"])
def test_a_change_is_seen_at_once(sqlite_db: Database, make_tenant, who: str) -> None:
    """By a job in a thread, a request on the loop, or another process."""
    db, maker = sqlite_db, make_tenant(sqlite_db, "alpha")
    authority = maker.authority

    def read() -> Any:
        return remembered(db, lambda tx: reads.authority(tx, maker.id, authority.id))

    def retire() -> None:
        db.write(lambda tx: writes.retire_authority(tx, maker.id, authority.id, by="ann", at=NOW))

    def by_thread() -> None:
        thread = threading.Thread(target=retire)
        thread.start()
        thread.join()

    def by_process() -> None:
        with sqlite3.connect(db.name) as other:
            other.execute("UPDATE authority SET state = 'retired'")

    change = {"thread": by_thread, "fibre": retire, "process": by_process}[who]
    states: list[str] = []
    in_loop(db, lambda: states.append(read().state), change, lambda: states.append(read().state))

    assert states == ["active", "retired"]


def test_a_revocation_is_seen_at_once(sqlite_db: Database, make_tenant) -> None:
    """Also of a certificate that a request has just read."""
    db, maker = sqlite_db, make_tenant(sqlite_db, "alpha")
    device = maker.devices(1)[0]
    held = maker.issue(device)

    def read() -> tuple[Any, ...]:
        with db.read() as tx:
            return (
                reads.presented_certificate(tx, held.authority_id, held.serial),
                reads.certificate(tx, maker.id, held.serial),
                reads.latest_certificate(tx, maker.id, device.id, held.purpose),
            )

    def revoke() -> None:
        db.write(
            lambda tx: writes.revoke_certificate(
                tx, maker.id, held.authority_id, held.serial, RevocationReason.SUPERSEDED,
                by="ann", at=NOW,
            )
        )  # fmt: skip

    seen: list[tuple[Any, ...]] = []
    in_loop(db, lambda: seen.append(read()), revoke, lambda: seen.append(read()))

    assert [each.revocation for each in seen[0]] == [None] * 3
    assert all(each.revocation is not None for each in seen[1])


def test_what_was_moved_is_remembered_as_the_database_has_it(
    sqlite_db: Database, make_tenant, make_client
) -> None:
    """An order with its authorization and challenge, through every state to its certificate."""
    db, maker = sqlite_db, make_tenant(sqlite_db, "alpha")
    client = make_client(maker, "lab")
    authorization = client.new_authorization()
    order = client.new_order(authorization)
    challenge = authorization.challenges[0]
    serial = maker.issue().serial

    def values(tx: Transaction) -> tuple[Any, ...]:
        account = client.account.id
        return (
            reads.acme_order(tx, account, order.id),
            reads.acme_authorization(tx, account, authorization.id),
            reads.acme_challenge(tx, account, challenge.id),
            reads.acme_challenge_alone(tx, account, challenge.id),
        )

    moves: list[Callable[[Transaction], object]] = [
        lambda tx: writes.add_acme_order(tx, order, [authorization]),
        lambda tx: writes.move_acme_challenge(
            tx, maker.id, challenge.id, ChallengeState.PENDING, ChallengeEvent.ANSWERED, at=NOW
        ),
        lambda tx: writes.move_acme_challenge(
            tx, maker.id, challenge.id, ChallengeState.PROCESSING, ChallengeEvent.VALIDATED,
            validated_at=NOW, at=NOW,
        ),
        lambda tx: writes.move_acme_authorization(
            tx, maker.id, authorization.id, AuthorizationState.PENDING,
            AuthorizationEvent.VALIDATED, evidence="{}", expires_at=LATER, by="test", at=NOW,
        ),
        lambda tx: writes.move_acme_order(
            tx, maker.id, order.id, OrderState.PENDING, OrderEvent.AUTHORIZED, at=NOW
        ),
        lambda tx: writes.move_acme_order(
            tx, maker.id, order.id, OrderState.READY, OrderEvent.FINALIZED, at=NOW
        ),
        lambda tx: writes.move_acme_order(
            tx, maker.id, order.id, OrderState.PROCESSING, OrderEvent.ISSUED, at=NOW,
            authority_id=maker.authority.id, serial=serial,
        ),
    ]  # fmt: skip

    def after(move: Callable[[Transaction], object]) -> tuple[Any, list[str]]:
        db.write(move)
        said = asked(db)
        return remembered(db, values), list(said)

    in_loop(db, lambda: remembered(db, values))  # the connection's first snapshot knows nothing
    for move in moves:
        known, said = in_loop(db, lambda move=move: after(move))
        assert known == of_database(db, values)
        assert said == []


def test_what_failed_is_not_remembered(sqlite_db: Database, make_tenant, make_client) -> None:
    """Neither of the turn that failed, nor at the cost of those that shared its commit."""
    db = sqlite_db
    client = make_client(make_tenant(db, "alpha"), "lab")
    good, bad = client.new_authorization(), client.new_authorization()

    def fail(tx: Transaction) -> None:
        writes.add_acme_authorizations(tx, [bad])
        raise Conflict("own-problem", "mine alone")

    async def main() -> list[Any]:
        calls = [
            lambda: db.write(fail),
            lambda: db.write(lambda tx: writes.add_acme_authorizations(tx, [good])),
        ]
        return await asyncio.gather(*(db.run(call) for call in calls), return_exceptions=True)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        failed, _ = runner.run(main())
        known = runner.run(
            db.run(
                lambda: remembered(
                    db,
                    lambda tx: reads.acme_authorizations(tx, client.account.id, [good.id, bad.id]),
                )
            )
        )

    assert isinstance(failed, Conflict)
    assert known == {good.id: good}


def test_another_account_gets_nothing_from_memory(
    sqlite_db: Database, make_tenant, make_client
) -> None:
    """What is remembered belongs to whom it belongs."""
    db, maker = sqlite_db, make_tenant(sqlite_db, "alpha")
    client, other = make_client(maker, "lab"), make_client(maker, "shop")
    authorization = client.new_authorization()
    order = client.new_order(authorization)

    def read() -> list[Any]:
        with db.read() as tx:
            return [
                reads.acme_order(tx, other.account.id, order.id),
                reads.acme_authorizations(tx, other.account.id, [authorization.id]),
                reads.acme_challenge(tx, other.account.id, authorization.challenges[0].id),
            ]

    found = in_loop(
        db, lambda: db.write(lambda tx: writes.add_acme_order(tx, order, [authorization])), read
    )

    assert not any(found)


def test_a_row_that_was_missing_is_found_once_it_is_there(
    sqlite_db: Database, make_tenant, make_client
) -> None:
    """Statements that are compiled once tell which table they write to."""
    db = sqlite_db
    client = make_client(make_tenant(db, "alpha"), "lab")
    new = client.new_account()
    seen: list[Any] = []

    def read() -> None:
        with db.read() as tx:
            seen.append(reads.acme_account(tx, client.directory.id, new.id))

    add = lambda: db.write(  # noqa: E731
        lambda tx: writes.add_acme_account(tx, new, by="test", at=NOW)
    )
    in_loop(db, read, add, read)

    assert seen == [None, new]


def test_a_successor_is_seen_at_once(sqlite_db: Database, make_tenant) -> None:
    """A renewal makes another certificate the newest, and the one before a replaced one."""
    db, maker = sqlite_db, make_tenant(sqlite_db, "alpha")
    device = maker.devices(1)[0]
    old = maker.issue(device)
    new = maker.intent(device, replaces=old.serial)
    origins = {new.key_fingerprint: KeyOrigin.SUBSCRIBER}
    seen: list[tuple[Any, Any]] = []

    def read() -> None:
        with db.read() as tx:
            newest = reads.latest_certificate(tx, maker.id, device.id, old.purpose)
            before = reads.certificate(tx, maker.id, old.serial)
        seen.append((newest.serial, before.successor))

    def renew() -> None:
        db.write(lambda tx: writes.record_intents(tx, [new], origins))
        read()
        db.write(lambda tx: writes.record_issued(tx, [(new, b"der")], NOW))

    in_loop(db, read, renew, read)

    assert seen == [(old.serial, None), (old.serial, new.serial), (new.serial, new.serial)]
