"""Plain functions as fibres of the event loop: they wait without holding it, commit together."""

import asyncio
import concurrent.futures
import datetime as dt
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import uvloop

from certmint.model.errors import Conflict, NotFound, Unavailable
from certmint.registry import audit, fibres, writes
from certmint.registry.engine import Database, Transaction, open_database

MOMENT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def event(number: int) -> audit.Event:
    return audit.Event(MOMENT, None, "test", "happened", str(number))


def append(db: Database, number: int) -> int:
    return db.write(lambda tx: audit.append(tx, event(number)).seq)


def in_loop(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def at_once(db: Database, calls: list[Callable[[], Any]]) -> list[Any]:
    return await asyncio.gather(*(db.run(call) for call in calls), return_exceptions=True)


def told_to(db: Database) -> list[str]:
    """What the loop's own connection is told from now on; it has to have been used."""
    said: list[str] = []
    kept = db._embedded.loop._kept
    kept.connection.driver_connection.set_trace_callback(said.append)
    return said


def stored(path: Path) -> int:
    """How many events another process sees on the disk."""
    with sqlite3.connect(path) as other:
        return other.execute("SELECT count(*) FROM audit_event").fetchone()[0]


def test_fibres_of_one_turn_share_one_commit(sqlite_db: Database) -> None:
    """Thirty requests that came together cost one durable commit, and each gets its own result."""

    async def main() -> tuple[list[Any], list[str]]:
        await db.run(lambda: append(db, 0))
        said = told_to(db)
        return await at_once(db, [lambda n=n: append(db, n) for n in range(30)]), said

    db = sqlite_db
    results, said = in_loop(main())

    assert sorted(results) == list(range(2, 32))
    assert said.count("COMMIT") == 1
    with db.read() as tx:
        assert audit.verify(tx).events == 31


def test_a_snapshot_of_a_fibre_cannot_write(sqlite_db: Database) -> None:
    """Whoever tries hears of it, and nothing of it stays."""

    def careless() -> None:
        with sqlite_db.read() as tx:
            audit.append(tx, event(1))

    results = in_loop(at_once(sqlite_db, [careless, lambda: append(sqlite_db, 2)]))

    assert isinstance(results[0], RuntimeError)
    assert results[1] == 1
    assert stored(Path(sqlite_db.name)) == 1


def test_nothing_is_answered_before_it_is_on_the_disk(sqlite_db: Database) -> None:
    """The moment a write returns, another process can see it."""

    def work() -> list[int]:
        seen = []
        for number in range(5):
            append(sqlite_db, number)
            seen.append(stored(Path(sqlite_db.name)))
        return seen

    assert in_loop(sqlite_db.run(work)) == [1, 2, 3, 4, 5]


def test_a_failing_fibre_harms_nobody_else(sqlite_db: Database) -> None:
    """Its own work is undone and its own error raised; the others of the turn are stored."""

    def fail(tx: Transaction) -> None:
        audit.append(tx, event(99))
        raise Conflict("own-problem", "mine alone")

    calls = [lambda n=n: append(sqlite_db, n) for n in range(4)]
    calls[1:1] = [lambda: sqlite_db.write(fail), lambda: sqlite_db.write(lambda _: 1 // 0)]
    results = in_loop(at_once(sqlite_db, calls))

    assert [type(each) for each in results if isinstance(each, Exception)] == [
        Conflict,
        ZeroDivisionError,
    ]
    with sqlite_db.read() as tx:
        report = audit.verify(tx)
    assert (report.events, report.broken_at) == (4, None)


def test_the_loop_goes_on_while_another_writer_holds_the_database(sqlite_db: Database) -> None:
    """A fibre waits for the lock, and is served when it is free; meanwhile the loop ticks."""
    ticks = 0

    async def main() -> int:
        nonlocal ticks
        other = sqlite3.connect(sqlite_db.name, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(sqlite_db.run(lambda: append(sqlite_db, 1)))
        for _ in range(10):
            await asyncio.sleep(0.002)
            ticks += 1
        assert not waiting.done()
        other.execute("COMMIT")
        other.close()
        return await waiting

    assert in_loop(main()) == 1
    assert ticks == 10


def test_a_database_that_stays_locked_is_unavailable_and_works_again_after(
    sqlite_db: Database,
) -> None:
    """Everybody who waited is told, each with an error of its own; nothing is written later."""
    db = sqlite_db

    async def main() -> list[Any]:
        other = sqlite3.connect(db.name, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        refused = await at_once(db, [lambda n=n: append(db, n) for n in range(3)])
        other.execute("COMMIT")
        other.close()
        return [*refused, await db.run(lambda: append(db, 9))]

    *refused, last = in_loop(main())

    assert [(type(each), each.code) for each in refused] == [(Unavailable, "database-locked")] * 3
    assert len({id(each) for each in refused}) == 3
    assert last == 1


def test_a_full_disk_is_told_to_the_whole_turn_and_passes(sqlite_db: Database) -> None:
    """What did not fit was answered to nobody; when there is space again all is well."""
    db = sqlite_db

    def too_much(tx: Transaction) -> None:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
        audit.append(tx, audit.Event(MOMENT, None, "test", "long", "x" * 100_000))

    async def main() -> tuple[list[Any], int]:
        calls = [lambda: append(db, 1), lambda: db.write(too_much), lambda: append(db, 2)]
        return await at_once(db, calls), await db.run(lambda: append(db, 3))

    refused, last = in_loop(main())

    assert {(type(each), each.code) for each in refused} == {(Unavailable, "disk-full")}
    assert last == 1
    assert stored(Path(db.name)) == 1


def test_a_broken_reference_is_refused_in_the_usual_words(sqlite_db: Database, make_tenant) -> None:
    """The driver's own errors are translated on the short way too."""
    maker = make_tenant(sqlite_db, "alpha")
    orphan = maker.new_devices(1, product_id="no such product")
    (refusal,) = in_loop(at_once(sqlite_db, [lambda: maker.write(writes.add_devices, orphan)]))

    assert isinstance(refusal, NotFound)
    assert refusal.code == "reference-unknown"


def test_slow_work_is_done_aside(sqlite_db: Database) -> None:
    """A key store that takes its time holds up neither the loop nor the other fibres."""
    order: list[str] = []

    def slow() -> str:
        def sign() -> int:
            time.sleep(0.05)
            return threading.get_ident()

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            where = fibres.aside(pool, sign)
        order.append("slow")
        return "aside" if where != threading.get_ident() else "here"

    results = in_loop(at_once(sqlite_db, [slow, lambda: order.append("quick")]))

    assert (results[0], order) == ("aside", ["quick", "slow"])
    assert slow() == "here"  # a thread may as well wait


def test_what_slow_work_raises_is_raised_in_its_fibre(sqlite_db: Database) -> None:
    """The traceback goes through the function that asked for it."""

    def work() -> str:
        try:
            fibres.aside(None, lambda: 1 // 0)
        except ZeroDivisionError:
            return "caught"
        return "missed"

    assert in_loop(sqlite_db.run(work)) == "caught"


def test_waiting_patiently_ends_with_the_time(sqlite_db: Database) -> None:
    """A fibre waits for a thread no longer than it said, and the thread goes on."""
    let_go = threading.Event()

    def work(pool: concurrent.futures.ThreadPoolExecutor) -> tuple[bool, bool]:
        looking = fibres.begin(pool, lambda: fibres.aside(pool, lambda: let_go.wait(10)))
        fibres.patiently(looking, 0.02)
        before = looking.done()
        let_go.set()
        fibres.patiently(looking, 10)
        return before, looking.done()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert in_loop(sqlite_db.run(lambda: work(pool))) == (False, True)


def test_threads_and_fibres_write_to_one_database(sqlite_db: Database) -> None:
    """Jobs in threads and requests in fibres wait for each other, and the chain has no gap."""
    db = sqlite_db

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            threads = [loop.run_in_executor(pool, append, db, n) for n in range(40)]
            done = await at_once(db, [lambda n=n: append(db, n) for n in range(40)])
            await asyncio.gather(*threads)
        assert not [each for each in done if isinstance(each, Exception)]

    in_loop(main())

    with db.read() as tx:
        report = audit.verify(tx)
    assert (report.events, report.broken_at) == (80, None)


@pytest.mark.postgres
def test_a_server_is_waited_for_in_threads(postgresql) -> None:
    """The loop never waits for PostgreSQL's answers."""
    db = open_database(postgresql.create())
    db.migrate()

    def where() -> bool:
        append(db, 1)
        return threading.current_thread() is threading.main_thread()

    assert in_loop(db.run(where)) is False
    db.close()


def test_a_snapshot_is_not_left_open_by_an_error(sqlite_db: Database) -> None:
    """After a reader failed, the next one sees what was written since."""
    with pytest.raises(ZeroDivisionError), sqlite_db.read():
        _ = 1 // 0
    append(sqlite_db, 1)

    with sqlite_db.read() as tx:
        assert tx.execute(sa.text("SELECT count(*) FROM audit_event")).scalar_one() == 1


def test_work_that_no_coroutine_waits_for_tells_how_it_ended(db: Database) -> None:
    """As a fibre or in a thread: what it returned, or what it raised, on the loop's thread."""
    told: list[tuple[Any, Any]] = []

    async def main() -> None:
        here, over = threading.get_ident(), asyncio.Event()

        def ended(result: Any, error: BaseException | None) -> None:
            assert threading.get_ident() == here
            told.append((result, type(error)))
            if len(told) == 2:
                over.set()

        db.begin(lambda: append(db, 1), ended)
        db.begin(lambda: 1 // 0, ended)
        await asyncio.wait_for(over.wait(), 10)

    in_loop(main())

    assert sorted(told, key=str) == [(1, type(None)), (None, ZeroDivisionError)]


def test_who_is_told_of_an_end_cannot_stop_the_others(
    sqlite_db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Two requests share a commit; what follows the first one's fails, and the second goes on."""
    told: list[int] = []

    def fail(_: Any, __: BaseException | None) -> None:
        raise RuntimeError("no such connection")

    async def main() -> Any:
        sqlite_db.begin(lambda: append(sqlite_db, 1), fail)
        sqlite_db.begin(lambda: append(sqlite_db, 2), lambda seq, _: told.append(seq))
        return await sqlite_db.run(lambda: append(sqlite_db, 3))

    assert in_loop(main()) == 3
    assert told == [2]
    assert "no such connection" in caplog.text


def test_a_fibre_that_failed_serves_the_next(sqlite_db: Database) -> None:
    """Fibres are used again; nothing of one piece of work is left for another."""

    def fail() -> None:
        raise Conflict("own-problem", "mine alone")

    async def main() -> list[Any]:
        results = []
        for _ in range(5):
            results += await at_once(sqlite_db, [fail, lambda: append(sqlite_db, 1)])
        return results

    results = in_loop(main())

    assert [isinstance(each, Conflict) for each in results] == [True, False] * 5
    assert [each for each in results if isinstance(each, int)] == [1, 2, 3, 4, 5]


def test_a_fibre_waits_for_a_socket_no_longer_than_it_said(sqlite_db: Database) -> None:
    """And goes on at once when there is something to read."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def work() -> tuple[str, bytes]:
        try:
            fibres.ready(ours.fileno(), to_write=False, seconds=0.02)
        except TimeoutError:
            late = "late"
        fibres.ready(ours.fileno(), to_write=True, seconds=5)
        theirs.send(b"x")
        fibres.ready(ours.fileno(), to_write=False, seconds=5)
        return late, ours.recv(1)

    assert in_loop(sqlite_db.run(work)) == ("late", b"x")
    ours.close()
    theirs.close()
