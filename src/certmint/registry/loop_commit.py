"""The event loop's own connection: one snapshot for each turn of the loop, and group commit.

What fibres write in one turn, or in a few that follow at once, is one transaction. Laws: those of
`group`; the loop never waits for another writer: while the database is taken the group stays queued
and tries again, until the busy timeout has passed; a snapshot cannot write, and ends before those
who wait for a commit are told of it.

Reads and writes share a connection because SQLite throws a connection's cached pages away when
another one has written: apart, every read after a commit would begin with an empty cache.
"""

import asyncio
import datetime as dt
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from certmint.model.errors import CertmintError, Misconfigured, Unavailable
from certmint.registry import failures, fibres
from certmint.registry.compiled import changes, raw
from certmint.registry.group import LARGEST_GROUP, for_another

T = TypeVar("T")

_RETRY_S = 0.001
# A round of an idle loop takes some 15 us and a commit 500: who comes a moment later shares it.
_QUIET_ROUNDS = 8
_AT_ONCE = "PRAGMA busy_timeout=0"


class _Turn(Generic[T]):
    """One fibre's work, and the future that it waits for."""

    def __init__(self, work: Callable[[Connection], T], done: "asyncio.Future[T]") -> None:
        self.work = work
        self.done = done
        self.result: T
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Let the fibre go on; one that was cancelled meanwhile is left."""
        if self.done.done():
            return
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.result)


class LoopConnection:
    """One connection that is kept, for the fibres of one loop; SQLite only."""

    def __init__(self, connect: Callable[[], Connection], patience: dt.timedelta) -> None:
        self._connect = connect
        self._patience_s = patience.total_seconds()
        # A reader may wait (for a recovery, for instance); the writer must not.
        self._patiently = f"PRAGMA busy_timeout={patience // dt.timedelta(milliseconds=1)}"
        self._kept: Connection | None = None
        self._queue: list[_Turn[Any]] = []
        self._since = 0.0
        self._is_reading = self._is_patient = False
        self._changes = 0
        self._snapshot = _Snapshot(self._read, self._check)

    def snapshot(self) -> AbstractContextManager[Connection]:
        """What all fibres of one turn of the loop read."""
        return self._snapshot

    def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, once it is durable; inside a fibre."""
        loop = asyncio.get_running_loop()
        turn: _Turn[T] = _Turn(work, loop.create_future())
        self._queue.append(turn)
        if len(self._queue) == 1:
            self._since = loop.time()
            loop.call_soon(self._gather)
        return fibres.until(turn.done)

    def close(self) -> None:
        """Let go of the connection, and with it of whatever is left of a transaction."""
        self._is_reading = self._is_patient = False
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _opened(self) -> Connection:
        if self._kept is None:
            self._kept = self._connect()
        return self._kept

    def _read(self) -> Connection:
        tx = self._opened()
        if not self._is_reading:
            if not self._is_patient:
                raw(tx, self._patiently)
                self._is_patient = True
            raw(tx, "BEGIN")
            self._is_reading = True
            self._changes = changes(tx)
            asyncio.get_running_loop().call_soon(self._end_reading)
        return tx

    def _check(self) -> None:
        if self._is_reading and self._kept is not None and changes(self._kept) != self._changes:
            raise RuntimeError("a snapshot was written to: what was written is rolled back")

    def _end_reading(self) -> None:
        if not self._is_reading or self._kept is None:
            return
        self._is_reading = False
        try:
            raw(self._kept, "ROLLBACK")  # so that nothing written in a snapshot could ever stay
        except CertmintError:
            self.close()

    def _gather(self, seen: int = 0, quiet: int = 0) -> None:
        """Commit once a few rounds of the loop have brought nothing more to write."""
        waiting = len(self._queue)
        quiet = 0 if waiting > seen else quiet + 1
        if quiet < _QUIET_ROUNDS and waiting < LARGEST_GROUP:
            asyncio.get_running_loop().call_soon(self._gather, waiting, quiet)
        else:
            self._commit()

    def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        self._end_reading()
        try:
            tx = self._opened()
            self._is_patient = False
            raw(tx, _AT_ONCE)
            raw(tx, "BEGIN IMMEDIATE")
        except Exception as error:  # noqa: BLE001 - the fibres of the turn must hear of it
            if _is_locked(error) and loop.time() - self._since < self._patience_s:
                loop.call_later(_RETRY_S, self._commit)
                return
            self._give_up(self._take(len(self._queue)), error)
            return
        group = self._take(LARGEST_GROUP)
        try:
            _run_all(tx, group)
            raw(tx, "COMMIT")  # durable from here, and not before: no fibre has gone on yet
        except Exception as error:  # noqa: BLE001 - as above
            self._give_up(group, error)
        else:
            for turn in group:
                turn.settle()
        if self._queue:
            self._since = loop.time()
            loop.call_soon(self._gather)

    def _take(self, most: int) -> list[_Turn[Any]]:
        group = self._queue[:most]
        del self._queue[:most]
        return group

    def _give_up(self, group: list[_Turn[Any]], error: Exception) -> None:
        self.close()
        for turn in group:
            turn.error = for_another(error)
            turn.settle()


class _Snapshot(AbstractContextManager[Connection]):
    """What `with db.read()` enters in a fibre, again and again: the turn ends it, not its exit."""

    def __init__(self, read: Callable[[], Connection], check: Callable[[], None]) -> None:
        self._read, self._check = read, check

    def __enter__(self) -> Connection:
        return self._read()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._check()


def _is_locked(error: Exception) -> bool:
    return isinstance(error, CertmintError) and error.code == failures.LOCKED[1]


def _run_all(tx: Connection, group: list[_Turn[Any]]) -> None:
    for turn in group:
        raw(tx, "SAVEPOINT turn")
        try:
            turn.result = turn.work(tx)
        except (Unavailable, Misconfigured):
            raise  # storage failed under us; SQLite may have rolled back the whole transaction
        except Exception as error:  # noqa: BLE001 - it is raised in the fibre that it belongs to
            turn.error = error
            raw(tx, "ROLLBACK TO turn")
        raw(tx, "RELEASE turn")
