"""What the event loop's connection knows of its database without asking again.

Four things: results of statements about rows that hardly change; rows that one request reads
again and again; the values (orders, authorizations) that requests come back for; and, while a
transaction is open, the end of the audit chain. All of it is as of the last commit, and nothing of
it is older than the snapshot that is open: SQLite tells by its data version whether another
connection has written, and then everything is forgotten; what this connection writes is forgotten
or replaced where it is written.

Laws: a snapshot alone is answered from memory, a transaction that writes reads the database; what
a transaction puts here counts when it commits. Threads and PostgreSQL have no such memory.
"""

from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

T = TypeVar("T")

_MEMORY = "certmint_memory"
_MOST_RESULTS = 1024  # of one statement
_MOST_VALUES = 4096

Results = dict[tuple[object, ...], tuple[Any, ...]]


class Settled(Protocol):
    """A statement that reads from tables whose rows hardly change."""

    settled: tuple[sa.Table, ...]


class Memory:
    """Of one connection; `belongs_to` says of which."""

    def __init__(self) -> None:
        self.driver: Any = None  # of the connection
        self.head: tuple[int, str] | None = None
        self._is_open = False
        self._version: object = None
        self._results: dict[Settled, Results] = {}
        self._rows: dict[object, dict[Hashable, Any]] = {}
        self._values: dict[Hashable, Any] = {}
        self._new: dict[Hashable, Any] = {}

    def belongs_to(self, tx: sa.Connection) -> None:
        """Let `tx` have this memory, and no other connection."""
        setattr(tx, _MEMORY, self)
        self.driver = tx.connection.dbapi_connection
        sa.event.listen(tx, "before_cursor_execute", self._executing)

    # Snapshots

    def open(self, version: object) -> None:
        """A snapshot of the database in this version begins: forget what others have changed."""
        if version != self._version:
            self._forget()
            self._version = version
        self._is_open = True

    def close(self) -> None:
        """The snapshot is over, and with it whatever a careless reader wrote."""
        self._is_open = False
        self.rolled_back()

    def results(self, statement: Settled) -> Results | None:
        """What the statement gave for which values; None where nothing may be remembered."""
        if not self._is_open:
            return None
        found = self._results.get(statement)
        if found is None or len(found) >= _MOST_RESULTS:
            found = self._results[statement] = {}
        return found

    def rows(self, table: object) -> dict[Hashable, Any] | None:
        """What was read from one table, until anybody writes to it; None outside of snapshots."""
        if not self._is_open:
            return None
        found = self._rows.get(table)
        if found is None or len(found) >= _MOST_RESULTS:
            found = self._rows[table] = {}
        return found

    def value(self, key: Hashable) -> Any:
        """What is known by this key in the snapshot; None if the database is to be asked."""
        return self._values.get(key) if self._is_open else None

    # Transactions

    def changed(self, table: object) -> None:
        """Forget what was read from this table: it is written to."""
        self._rows.pop(table, None)
        for statement in [each for each in self._results if table in each.settled]:
            del self._results[statement]

    def current(self, key: Hashable) -> Any:
        """What is known by this key in the transaction; None if nothing is."""
        return self._new[key] if key in self._new else self._values.get(key)

    def keep(self, key: Hashable, value: object) -> None:
        """Know this value: at once in a snapshot, else when the transaction commits.

        None is for one that the database is to be asked for again.
        """
        if not self._is_open:
            self._new[key] = value
        elif value is not None:
            self._values[key] = value

    def savepoint(self) -> tuple[tuple[int, str] | None, dict[Hashable, Any]]:
        """What `back_to` takes."""
        return self.head, dict(self._new)

    def back_to(self, savepoint: tuple[tuple[int, str] | None, dict[Hashable, Any]]) -> None:
        """The transaction went back to there."""
        self.head, self._new = savepoint

    def rolled_back(self) -> None:
        """Nothing of the transaction stays."""
        self.head = None
        self._new.clear()

    def committed(self) -> None:
        """Everything of the transaction stays."""
        self._values.update(self._new)
        self._new.clear()
        if len(self._values) > _MOST_VALUES:
            self._values.clear()  # all of them: some lead to others

    def _executing(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("SELECT"):  # made up at run time: who knows what it changes
            self._forget()

    def _forget(self) -> None:
        self._results.clear()
        self._rows.clear()
        self._values.clear()
        self._new = dict.fromkeys(self._new)


def known(tx: sa.Connection, table: sa.Table, key: Hashable, read: Callable[[], T]) -> T:
    """What `read` reads from this table, unless it is known by this key already."""
    memory = memory_of(tx)
    rows = memory.rows(table) if memory is not None else None
    if rows is None:
        return read()
    if key not in rows:
        rows[key] = read()
    found: T = rows[key]
    return found


def memory_of(tx: sa.Connection) -> Memory | None:
    """The memory of the event loop's own connection; None for every other."""
    found: Memory | None = getattr(tx, _MEMORY, None)
    return found
