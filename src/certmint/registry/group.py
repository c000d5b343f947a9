"""Group commit: threads that write at the same time share one durable transaction.

The first thread that comes becomes the leader: it runs its own work and everything that queued
up meanwhile, each item in a savepoint, and commits once; then it hands the lead to the first
thread that still waits. No caller returns before the commit that holds its work.

A failing item rolls back itself and raises in its own caller. If storage fails, or the COMMIT,
every caller of the group gets the error. There is no thread of its own and no timer here.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

from sqlalchemy import Connection

from certmint.model.errors import CertmintError, Misconfigured, Unavailable
from certmint.registry.compiled import raw

T = TypeVar("T")

# Beyond this the latency of the last caller grows and the cost per item no longer falls.
LARGEST_GROUP = 64


class _Kept:
    """Keeps what was raised inside it, for whom it belongs to. Ctrl-C goes on to its thread."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.error = error
        return isinstance(error, Exception)


class _Turn(Generic[T]):
    """One caller's work, and later its outcome."""

    def __init__(self, work: Callable[[Connection], T]) -> None:
        self.work = work
        self.woken = threading.Event()
        self.leads = False
        self.kept = _Kept()
        self.result: T

    def run(self, tx: Connection) -> None:
        self.result = self.work(tx)

    def outcome(self) -> T:
        if self.kept.error is not None:
            raise self.kept.error
        return self.result


class GroupCommit:
    """Runs work over transactions that `begin` opens; leaving `begin` commits or rolls back."""

    def __init__(self, begin: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._begin = begin
        self._mutex = threading.Lock()
        self._queue: list[_Turn[Any]] = []
        self._has_leader = False
        self._working: int | None = None

    def run(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, once it is durable."""
        if self._working == threading.get_ident():
            raise RuntimeError("a write was called inside a write: pass the transaction on instead")
        turn = _Turn(work)
        with self._mutex:
            self._queue.append(turn)
            turn.leads = not self._has_leader
            self._has_leader = True
        if not turn.leads:
            self._wait(turn)
        if turn.leads:
            try:
                self._lead()
            finally:
                self._pass_on()
        return turn.outcome()

    def _wait(self, turn: _Turn[T]) -> None:
        woken = False
        try:
            woken = turn.woken.wait()
        finally:
            if not woken:
                self._leave(turn)

    def _leave(self, turn: _Turn[T]) -> None:
        # Ctrl-C while waiting: without this the lead could pass to a thread that has gone.
        with self._mutex:
            if turn in self._queue:
                self._queue.remove(turn)
        if turn.leads:
            self._pass_on()

    def _pass_on(self) -> None:
        with self._mutex:
            if self._queue:
                self._queue[0].leads = True
                self._queue[0].woken.set()
            else:
                self._has_leader = False

    def _lead(self) -> None:
        with self._mutex:
            group = self._queue[:LARGEST_GROUP]
            del self._queue[:LARGEST_GROUP]
        self._working = threading.get_ident()
        group_fate = _Kept()
        try:
            with group_fate:
                self._commit(group)
        finally:
            self._working = None
            for turn in group:
                turn.kept.error = turn.kept.error or for_another(group_fate.error)
                turn.woken.set()

    def _commit(self, group: list[_Turn[Any]]) -> None:
        with self._begin() as tx:
            if len(group) == 1:  # alone: the transaction itself is the savepoint
                with group[0].kept:
                    group[0].run(tx)
                if group[0].kept.error is not None:
                    raise group[0].kept.error
                return
            for turn in group:
                raw(tx, "SAVEPOINT turn")
                with turn.kept:
                    turn.run(tx)
                if isinstance(turn.kept.error, Unavailable | Misconfigured):
                    # Storage failed under us; SQLite may have rolled back the whole transaction.
                    raise turn.kept.error
                if turn.kept.error is not None:
                    raw(tx, "ROLLBACK TO SAVEPOINT turn")
                raw(tx, "RELEASE SAVEPOINT turn")


@overload
def for_another(error: CertmintError) -> CertmintError: ...
@overload
def for_another(error: BaseException | None) -> BaseException | None: ...
def for_another(error: BaseException | None) -> BaseException | None:
    """The group's failure for one more caller: two callers must not raise one object."""
    if isinstance(error, CertmintError):
        own = type(error)(error.code, error.detail)
        own.__cause__ = error
        return own
    if error is not None and not isinstance(error, Exception):
        return Unavailable(
            "write-interrupted",
            "the process was told to stop before this write was confirmed: look, then try again",
        )
    return error
