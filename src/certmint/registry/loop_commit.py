"""Group commit on the event loop: what fibres write in one turn of the loop is one transaction.

Laws: those of `group`; and the loop never waits for another writer: while the database is taken
the group stays queued and tries again, until the busy timeout has passed.
"""

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from certmint.model.errors import CertmintError, Misconfigured, Unavailable
from certmint.registry import failures, fibres
from certmint.registry.compiled import raw
from certmint.registry.group import LARGEST_GROUP, for_another

T = TypeVar("T")

_RETRY_S = 0.001


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


class LoopCommit:
    """Runs work of fibres over one connection that is kept; SQLite only."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        patience: dt.timedelta,
        committed: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._committed = committed
        self._patience_s = patience.total_seconds()
        self._kept: Connection | None = None
        self._queue: list[_Turn[Any]] = []
        self._since = 0.0

    def run(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, once it is durable; inside a fibre."""
        loop = asyncio.get_running_loop()
        turn: _Turn[T] = _Turn(work, loop.create_future())
        self._queue.append(turn)
        if len(self._queue) == 1:
            self._since = loop.time()
            loop.call_soon(self._commit)
        return fibres.until(turn.done)

    def close(self) -> None:
        """Let go of the connection."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            tx = self._kept = self._kept or self._connect()
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
            self._committed()
            for turn in group:
                turn.settle()
        if self._queue:
            self._since = loop.time()
            loop.call_soon(self._commit)

    def _take(self, most: int) -> list[_Turn[Any]]:
        group = self._queue[:most]
        del self._queue[:most]
        return group

    def _give_up(self, group: list[_Turn[Any]], error: Exception) -> None:
        self.close()  # and with it whatever is left of the transaction
        for turn in group:
            turn.error = for_another(error)
            turn.settle()


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
