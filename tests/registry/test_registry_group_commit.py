"""Threads that write at one moment share one durable commit."""

import concurrent.futures
import datetime as dt
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import sqlalchemy as sa

from certmint.model.errors import Conflict, Unavailable
from certmint.registry import audit, reads, writes
from certmint.registry.engine import Database, open_database
from certmint.registry.group import LARGEST_GROUP

MOMENT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)


def count_commits(db: Database) -> list[int]:
    """A list that grows with each COMMIT of the writer."""
    commits: list[int] = []
    sa.event.listen(db._writer, "commit", lambda _: commits.append(1))
    return commits


def while_held_up(
    db: Database, calls: list[Callable[[], object]]
) -> list[concurrent.futures.Future[object]]:
    """Make the calls from as many threads while another write is under way; their outcomes."""
    entered, go_on = threading.Event(), threading.Event()

    def hold_up(tx: reads.Transaction) -> None:
        entered.set()
        assert go_on.wait(10)

    with concurrent.futures.ThreadPoolExecutor(len(calls) + 1) as pool:
        first = pool.submit(db.write, hold_up)
        assert entered.wait(10)
        waiting = [pool.submit(call) for call in calls]
        while len(db._group._queue) < len(calls):
            time.sleep(0.001)
        go_on.set()
    first.result()
    return waiting


def add_operator(tx: reads.Transaction, tenant, number: int) -> int:
    operator = tenant.new_operator(f"n{number}")
    writes.add_operator(tx, operator, by="test", at=NOW)
    return number


def test_many_threads_need_few_commits(db: Database, maker) -> None:
    """Thirty callers pay for two commits, and each gets its own result."""
    commits = count_commits(db)

    done = while_held_up(
        db,
        [lambda n=n: db.write(lambda tx: add_operator(tx, maker, n)) for n in range(30)],
    )

    assert sorted(each.result() for each in done) == list(range(30))
    assert len(commits) == 2  # the one that held them up, and theirs
    with db.read() as tx:
        assert len(reads.operators(tx, maker.id)) == 30
        assert audit.verify(tx).broken_at is None


def test_a_group_has_a_largest_size(db: Database, maker) -> None:
    """The last of very many callers does not wait for all the others' work."""
    commits = count_commits(db)
    callers = LARGEST_GROUP + 6

    while_held_up(
        db, [lambda n=n: db.write(lambda tx: add_operator(tx, maker, n)) for n in range(callers)]
    )

    assert len(commits) == 3
    with db.read() as tx:
        assert len(reads.operators(tx, maker.id)) == callers


def test_a_single_caller_pays_for_no_savepoint(sqlite_db: Database, make_tenant) -> None:
    """Whoever writes alone has one transaction and nothing inside it."""
    maker, told = make_tenant(sqlite_db, "alpha"), []

    def listen(tx: reads.Transaction) -> None:
        tx.connection.driver_connection.set_trace_callback(told.append)

    sqlite_db.write(listen)
    told.clear()
    sqlite_db.write(lambda tx: add_operator(tx, maker, 1))

    assert told.count("COMMIT") == 1
    assert not [each for each in told if "SAVEPOINT" in each]


def test_one_failing_item_harms_only_its_own_caller(db: Database, maker) -> None:
    """Nine of ten are stored; the tenth raises where it was called, and leaves nothing."""

    def fail(tx: reads.Transaction) -> None:
        add_operator(tx, maker, 99)
        raise Conflict("own-problem", "mine alone")

    calls = [lambda n=n: db.write(lambda tx: add_operator(tx, maker, n)) for n in range(9)]
    calls.insert(4, lambda: db.write(fail))
    done = while_held_up(db, calls)

    failures = [each.exception() for each in done if each.exception()]
    assert [failure.code for failure in failures] == ["own-problem"]
    with db.read() as tx:
        names = {operator.name for operator in reads.operators(tx, maker.id)}
        assert audit.verify(tx).broken_at is None
    assert names == {f"n{n}" for n in range(9)}


def test_a_constraint_that_one_item_breaks_harms_only_its_own_caller(db: Database, maker) -> None:
    """An error of the database itself rolls back to before that item, on PostgreSQL too."""
    orphan = maker.new_devices(1, product_id="no such product")
    calls = [lambda n=n: db.write(lambda tx: add_operator(tx, maker, n)) for n in range(5)]
    calls.insert(2, lambda: maker.write(writes.add_devices, orphan))
    done = while_held_up(db, calls)

    failures = [each.exception() for each in done if each.exception()]
    assert [failure.code for failure in failures] == ["reference-unknown"]
    with db.read() as tx:
        assert len(reads.operators(tx, maker.id)) == 5


def test_a_bug_in_one_item_harms_only_its_own_caller(db: Database, maker) -> None:
    """Even an exception that is not ours is delivered to the caller that caused it."""
    calls = [lambda n=n: db.write(lambda tx: add_operator(tx, maker, n)) for n in range(3)]
    calls.append(lambda: db.write(lambda _: 1 // 0))
    done = while_held_up(db, calls)

    assert [type(each.exception()) for each in done if each.exception()] == [ZeroDivisionError]


def test_a_commit_that_fails_is_everybodys_error(db: Database, maker) -> None:
    """Nobody is told that something is stored which is not; each caller gets an own error."""

    def fail(connection: sa.Connection) -> None:
        raise Unavailable("disk-full", "no space left for the commit")

    calls = [lambda n=n: db.write(lambda tx: add_operator(tx, maker, n)) for n in range(5)]
    armed = itertools.count()
    sa.event.listen(
        db._writer, "commit", lambda connection: fail(connection) if next(armed) == 1 else None
    )
    done = while_held_up(db, calls)

    errors = [each.exception() for each in done]
    assert [error.code for error in errors] == ["disk-full"] * 5
    assert len({id(error) for error in errors}) == 5
    with db.read() as tx:
        assert reads.operators(tx, maker.id) == []
    db.write(lambda tx: add_operator(tx, maker, 7))


def test_storage_that_fails_under_one_item_fails_the_group(sqlite_db: Database) -> None:
    """SQLite may roll back everything when the disk is full: then nobody is told "stored"."""
    event = audit.Event(MOMENT, None, "test", "tested", "x")

    def fill(tx: reads.Transaction) -> None:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        audit.append(tx, audit.Event(MOMENT, None, "test", "long", "x" * 500_000))

    calls = [lambda: sqlite_db.write(lambda tx: audit.append(tx, event)) for _ in range(4)]
    calls.insert(2, lambda: sqlite_db.write(fill))
    done = while_held_up(sqlite_db, calls)

    assert [each.exception().code for each in done] == ["disk-full"] * 5
    with sqlite_db.read() as tx:
        assert audit.verify(tx) == audit.AuditReport(0, audit.START, None)
    sqlite_db.close()  # new connections: the limit on pages is gone
    assert sqlite_db.write(lambda tx: audit.append(tx, event)).seq == 1


def test_writing_inside_a_write_is_a_clear_error(db: Database, maker) -> None:
    """A use case that nests two writes would wait for itself; it is told so instead."""
    with pytest.raises(RuntimeError, match="inside a write"):
        db.write(lambda _: db.write(lambda tx: add_operator(tx, maker, 1)))

    assert db.write(lambda tx: add_operator(tx, maker, 2)) == 2


def test_ctrl_c_reaches_its_thread_and_the_others_go_on(db: Database, maker) -> None:
    """An interrupted leader leaves no half transaction and no thread that waits for ever."""

    def interrupted(tx: reads.Transaction) -> None:
        add_operator(tx, maker, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        db.write(interrupted)

    assert db.write(lambda tx: add_operator(tx, maker, 2)) == 2
    with db.read() as tx:
        assert [each.name for each in reads.operators(tx, maker.id)] == ["n2"]


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """Ctrl-C as the main thread gets it, even where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    yield lambda: signal.pthread_kill(main, signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_waiting_leaves_the_queue(db: Database, maker, ctrl_c) -> None:
    """Whoever gives up before its turn writes nothing, and the lead passes to somebody else."""
    entered, go_on = threading.Event(), threading.Event()

    def hold_up(tx: reads.Transaction) -> None:
        entered.set()
        assert go_on.wait(10)

    def interrupt() -> None:
        while len(db._group._queue) < 1:
            time.sleep(0.001)
        time.sleep(0.02)  # until the main thread sleeps in its wait
        ctrl_c()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(db.write, hold_up)
        assert entered.wait(10)
        pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            db.write(lambda tx: add_operator(tx, maker, 1))
        go_on.set()
        first.result()

    assert db.write(lambda tx: add_operator(tx, maker, 2)) == 2
    with db.read() as tx:
        assert [each.name for each in reads.operators(tx, maker.id)] == ["n2"]


def test_threads_that_hammer_the_database_lose_nothing(db: Database, maker) -> None:
    """Under real contention every confirmed write is there, once, and the chain holds."""
    commits = count_commits(db)
    numbers = itertools.count()

    def hammer() -> int:
        stored = 0
        for _ in range(15):
            number = next(numbers)
            with suppress(Conflict):
                db.write(lambda tx, n=number: add_operator(tx, maker, n if n % 5 else 0))
                stored += 1
        return stored

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        stored = sum(future.result() for future in [pool.submit(hammer) for _ in range(8)])

    with db.read() as tx:
        assert len(reads.operators(tx, maker.id)) == stored == 8 * 15 * 4 // 5 + 1
        assert audit.verify(tx).broken_at is None
    assert len(commits) < 120


def test_two_nodes_take_turns(url: str) -> None:
    """Two processes' databases on one file or server never break the chain between them."""
    nodes = [open_database(url), open_database(url)]
    event = audit.Event(MOMENT, None, "test", "tested", "x")

    def work(node: Database) -> None:
        for _ in range(20):
            node.write(lambda tx: audit.append(tx, event))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, node) for node in nodes * 2]:
            future.result()

    with nodes[0].read() as tx:
        report = audit.verify(tx)
    assert (report.events, report.broken_at) == (80, None)
    for node in nodes:
        node.close()
