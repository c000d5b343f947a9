"""What precedes a request's first write: one transaction with it, and never lost behind it."""

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
import uvloop

from certmint.model.errors import Conflict
from certmint.registry import audit
from certmint.registry.engine import Database, Transaction
from certmint.registry.schema import audit_event

MOMENT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def note(tx: Transaction, subject: str) -> None:
    audit.append(tx, audit.Event(MOMENT, None, "test", "happened", subject))


def noted(db: Database) -> list[str]:
    with db.read() as tx:
        return list(
            tx.execute(sa.select(audit_event.c.subject).order_by(audit_event.c.seq)).scalars()
        )


def spent(_: Transaction) -> None:
    raise Conflict("spent", "it was spent before")


def failing(tx: Transaction) -> None:
    note(tx, "lost")
    raise Conflict("late", "another request was first")


@pytest.fixture(params=["fibre", "thread"])
def run(request: pytest.FixtureRequest, db: Database) -> Callable[[Callable[[], Any]], Any]:
    """Runs a function as a request does on an embedded database, and as a job does."""

    def as_fibre(work: Callable[[], Any]) -> Any:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(db.run(work))

    return as_fibre if request.param == "fibre" else lambda work: work()


def test_the_first_write_alone_is_preceded(
    db: Database, run: Callable[[Callable[[], Any]], Any]
) -> None:
    """Later writes of the request are writes like any other, and so is the end."""

    def request() -> None:
        one = db.preceded_by(lambda tx: note(tx, "nonce"))
        one.write(lambda tx: note(tx, "first"))
        one.write(lambda tx: note(tx, "second"))
        one.settle()

    run(request)
    assert noted(db) == ["nonce", "first", "second"]


def test_what_precedes_is_written_by_a_request_that_writes_nothing(
    db: Database, run: Callable[[Callable[[], Any]], Any]
) -> None:
    """Reading spends a nonce too."""
    run(lambda: db.preceded_by(lambda tx: note(tx, "nonce")).settle())
    assert noted(db) == ["nonce"]


def test_what_precedes_stays_when_the_write_fails(
    db: Database, run: Callable[[Callable[[], Any]], Any]
) -> None:
    """A request that was refused cannot be sent again."""

    def request() -> None:
        one = db.preceded_by(lambda tx: note(tx, "nonce"))
        with pytest.raises(Conflict, match="another request"):
            one.write(failing)
        one.settle()

    run(request)
    assert noted(db) == ["nonce"]


def test_nothing_is_written_behind_what_was_refused(
    db: Database, run: Callable[[Callable[[], Any]], Any]
) -> None:
    """A replayed request changes nothing."""

    def request() -> None:
        with pytest.raises(Conflict, match="spent before"):
            db.preceded_by(spent).write(lambda tx: note(tx, "lost"))

    run(request)
    assert noted(db) == []
