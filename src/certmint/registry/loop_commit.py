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
from certmint.registry import audit, failures, fibres
from certmint.registry.compiled import changes, data_version, raw
from certmint.registry.group import LARGEST_GROUP, for_another
from certmint.registry.memory import Memory

T = TypeVar("T")
First = Callable[[Connection], object]

_RETRY_S = 0.001
# A round of an idle loop takes some 15 us and a commit 500: who comes a moment later shares it.
_QUIET_ROUNDS = 8
_AT_ONCE = "PRAGMA busy_timeout=0"


class _Turn(Generic[T]):
    """One fibre's work, what precedes it, and the fibre."""

    def __init__(
        self, work: Callable[[Connection], T], first: First | None, fibre: fibres.Fibre
    ) -> None:
        self.work, self.first, self.fibre = work, first, fibre
        self.result: T
        self.error: BaseException | None = None

    def run(self, tx: Connection) -> None:
        """Everything, in the hope that nothing fails."""
        if self.first is not None:
            self.first(tx)
        self.result = self.work(tx)

    def run_carefully(self, tx: Connection, memory: Memory) -> None:
        """What fails is undone and kept for the fibre; what precedes the work stays if it can."""
        if self.first is None:
            self.error = _kept(tx, memory, self.run)
            return
        self.error = _kept(tx, memory, self.first)
        if self.error is None:
            self.first = None
            self.error = _kept(tx, memory, self.run)

    def outcome(self) -> T:
        if self.error is not None:
            raise self.error
        return self.result


class LoopConnection:
    """One connection that is kept, for the fibres of one loop; SQLite only."""

    def __init__(self, connect: Callable[[], Connection], patience: dt.timedelta) -> None:
        self._connect = connect
        self._patience_s = patience.total_seconds()
        # A reader may wait (for a recovery, for instance); the writer must not.
        self._patiently = f"PRAGMA busy_timeout={patience // dt.timedelta(milliseconds=1)}"
        self._kept: Connection | None = None
        self._memory = Memory()
        self._queue: list[_Turn[Any]] = []
        self._since = 0.0
        self._is_patient = self._is_careful = False
        self._reading: asyncio.AbstractEventLoop | None = None
        self._gathering: asyncio.AbstractEventLoop | None = None
        self._changes = 0
        self.snapshot: AbstractContextManager[Connection] = _Snapshot(self._read, self._check)
        """What all fibres of one turn of the loop read."""

    def write(self, work: Callable[[Connection], T], first: First | None = None) -> T:
        """What `work` returns, once it is durable; inside a fibre.

        `first` precedes it in the same transaction, and stays if `work` fails.
        """
        turn: _Turn[T] = _Turn(work, first, fibres.current())
        self._add(turn)
        fibres.park()
        return turn.outcome()

    def close(self) -> None:
        """Let go of the connection, and with it of whatever is left of a transaction."""
        self._is_patient, self._reading = False, None
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _add(self, turn: _Turn[Any]) -> None:
        self._queue.append(turn)
        loop = asyncio.get_running_loop()
        if self._gathering is not loop:  # or an earlier loop, which ended before its commit
            self._gather_in(loop)

    def _gather_in(self, loop: asyncio.AbstractEventLoop) -> None:
        self._gathering, self._since = loop, loop.time()
        loop.call_soon(self._gather)

    def _opened(self) -> Connection:
        if self._kept is None:
            self._kept = self._connect()
            self._memory = Memory()
            self._memory.belongs_to(self._kept)
        return self._kept

    def _read(self) -> Connection:
        kept, reading = self._kept, self._reading
        if kept is not None and reading is not None and not reading.is_closed():
            return kept
        self._end_reading()
        tx, loop = self._opened(), asyncio.get_running_loop()
        if not self._is_patient:
            raw(tx, self._patiently)
            self._is_patient = True
        raw(tx, "BEGIN")
        self._reading = loop
        self._memory.open(data_version(tx))
        self._changes = changes(tx)
        loop.call_soon(self._end_reading)
        return tx

    def _check(self) -> None:
        if self._reading is not None and self._memory.driver.total_changes != self._changes:
            raise RuntimeError("a snapshot was written to: what was written is rolled back")

    def _end_reading(self) -> None:
        if self._reading is None or self._kept is None:
            return
        self._reading = None
        self._memory.close()
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
            self._settle(self._take(len(self._queue)), error)
            return
        group = self._take(LARGEST_GROUP)
        failure: Exception | None = None
        try:
            if not self._run(tx, group):
                self._queue[:0] = group
                loop.call_soon(self._commit)
                return
            audit.advance(tx, self._memory)
            raw(tx, "COMMIT")  # durable from here, and not before: no fibre has gone on yet
            self._memory.committed()
        except Exception as error:  # noqa: BLE001 - as above
            failure = error
        self._settle(group, failure)

    def _run(self, tx: Connection, group: list[_Turn[Any]]) -> bool:
        """Everybody's work; False if it has to be done again, one by one.

        Failures are rare, and a savepoint makes SQLite keep a copy of every page that changes. So
        all of it is tried without; where somebody's work fails nothing has happened, and the same
        group comes again, with a savepoint for each.
        """
        if self._is_careful:
            self._is_careful = False
            for turn in group:
                turn.run_carefully(tx, self._memory)
            return True
        try:
            for turn in group:
                turn.run(tx)
        except (Unavailable, Misconfigured):
            raise  # storage failed under us; SQLite may have rolled back the whole transaction
        except Exception:  # noqa: BLE001 - whoever's it is meets it again
            raw(tx, "ROLLBACK")
            self._memory.rolled_back()
            self._is_careful = True
            return False
        return True

    def _settle(self, group: list[_Turn[Any]], failure: Exception | None) -> None:
        """Let the fibres go on; what they write next is the next group's."""
        if failure is not None:
            self.close()
        for turn in group:
            if failure is not None:
                turn.error = for_another(failure)
            fibres.resume(turn.fibre)
        self._gathering = None
        if self._queue:
            self._gather_in(asyncio.get_running_loop())

    def _take(self, most: int) -> list[_Turn[Any]]:
        group = self._queue[:most]
        del self._queue[:most]
        return group


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


def _kept(tx: Connection, memory: Memory, work: First) -> Exception | None:
    """Run it, and undo it if it fails: what it raised, for the fibre that it belongs to."""
    before = memory.savepoint()
    raw(tx, "SAVEPOINT turn")
    try:
        work(tx)
    except (Unavailable, Misconfigured):
        raise
    except Exception as error:  # noqa: BLE001 - as said
        raw(tx, "ROLLBACK TO turn")
        memory.back_to(before)
        return error
    raw(tx, "RELEASE turn")
    return None
