"""Statements of the hot paths: compiled once for each kind of database, run by its driver.

A `Compiled` is a Core statement whose values are all bind parameters; what SQLAlchemy does for
each execution (building it, finding it in a cache, wrapping cursor and rows) costs more than the
statement itself. Types are converted as the columns say, rows are named tuples, failures are
translated as everywhere. Lists in IN and statements made up at run time stay with `execute`.
"""

import functools
import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from certmint.registry import failures
from certmint.registry.columns import Timestamp, microseconds, moment
from certmint.registry.memory import Memory, memory_of

Values = Mapping[str, Any]
FEW = 4
_REMEMBERED = 1024
CHUNK = 500  # values in one IN (…): older SQLites take 999 parameters in all
DATABASE_NAME = "database_name"  # the engine's execution option that failures are told with


class Compiled:
    """One statement. Its rows have the names of its columns.

    With `of` they are what that makes of them, remembered by the row's contents: for rows that
    hardly change and are read with every request, understanding costs more than reading. `settled`
    are all the tables that it reads, if their rows hardly change: then the event loop does not
    even read while nobody has written to them.
    """

    def __init__(
        self,
        statement: sa.ClauseElement,
        of: Callable[[Any], object] | None = None,
        settled: tuple[sa.Table, ...] = (),
    ) -> None:
        self._statement = statement
        self._of = of
        self.settled = settled
        self._target = statement.table if isinstance(statement, sa.UpdateBase) else None
        self._compiled: dict[str, _InDialect] = {}

    def first(self, tx: sa.Connection, **values: Any) -> Any:
        """The first row, or None."""
        if self.settled and (memory := memory_of(tx)) is not None:
            found = self._remembered(memory, tx, values)
            return found[0] if found else None
        ready = self._for(tx)
        row = ready.execute(tx, values).fetchone()
        return None if row is None else ready.row(row)

    def all(self, tx: sa.Connection, **values: Any) -> Sequence[Any]:
        """Every row."""
        if self.settled and (memory := memory_of(tx)) is not None:
            return self._remembered(memory, tx, values)
        return self._every(tx, values)

    def _every(self, tx: sa.Connection, values: Values) -> tuple[Any, ...]:
        ready = self._for(tx)
        return tuple(map(ready.row, ready.execute(tx, values).fetchall()))

    def _remembered(self, memory: Memory, tx: sa.Connection, values: Values) -> tuple[Any, ...]:
        results = memory.results(self)
        if results is None:
            return self._every(tx, values)
        key = tuple(values.values())
        found = results.get(key)
        if found is None:
            found = results[key] = self._every(tx, values)
        return found

    def run(self, tx: sa.Connection, values: dict[str, Any] | Sequence[Values]) -> int:
        """Execute, once for each of several `values`; how many rows were changed in all."""
        if self._target is not None and (memory := memory_of(tx)) is not None:
            memory.changed(self._target)
        ready = self._for(tx)
        if isinstance(values, dict):
            return int(ready.execute(tx, values).rowcount)
        if len(values) == 1:
            return int(ready.execute(tx, values[0]).rowcount)
        if not values:
            return 0
        return int(ready.execute_many(tx, values).rowcount)

    def _for(self, tx: sa.Connection) -> "_InDialect":
        dialect = tx.dialect
        ready = self._compiled.get(dialect.name)
        if ready is None:
            ready = self._compiled[dialect.name] = _InDialect(self._statement, dialect, self._of)
        return ready


class Among:
    """Rows of `query` whose `column` is one of several values; a few go the short way.

    `more` are the query's bind parameters.
    """

    def __init__(self, query: sa.Select[Any], column: sa.ColumnElement[Any]) -> None:
        self._few: list[Compiled] = []
        for count in range(1, FEW + 1):
            places: list[sa.BindParameter[Any]] = [
                sa.bindparam(f"among_{place}") for place in range(count)
            ]
            self._few.append(Compiled(query.where(column.in_(places))))
        self._query, self._column = query, column

    def all(self, tx: sa.Connection, values: Iterable[object], **more: Any) -> Sequence[Any]:
        """The rows, as the query orders them; in no order for more than CHUNK values."""
        wanted = list(values)
        if not wanted:
            return []
        if len(wanted) <= FEW:
            given = {f"among_{place}": value for place, value in enumerate(wanted)}
            return self._few[len(wanted) - 1].all(tx, **given, **more)
        found: list[Any] = []
        for start in range(0, len(wanted), CHUNK):
            piece = self._query.where(self._column.in_(wanted[start : start + CHUNK]))
            found += tx.execute(piece, more).all()
        return found


class _InDialect:
    """A statement in the words of one driver."""

    def __init__(
        self,
        statement: sa.ClauseElement,
        dialect: sa.Dialect,
        of: Callable[[Any], object] | None,
    ) -> None:
        # Inserts take every column of their table, as `execute` does for a row that has them all.
        compiled = cast("SQLCompiler", statement.compile(dialect=dialect))
        self._sql = str(compiled)
        self._is_positional = bool(compiled.positional)
        self._names: tuple[str, ...] = tuple(
            (self._is_positional and compiled.positiontup) or compiled.binds
        )
        self._pick = _picker(self._names)
        self._times = [
            place
            for place, name in enumerate(self._names)
            if isinstance(compiled.binds[name].type, Timestamp)
        ]
        self._fixed = {
            name: bound.value
            for name, bound in compiled.binds.items()
            if not bound.required and bound.value is not None
        }
        self.row = _row_maker(compiled)
        if of is not None:
            self.row = _remembering(self.row, of)

    def execute(self, tx: sa.Connection, values: Values) -> Any:
        """The driver's cursor."""
        driver = _driver(tx)
        try:
            if self._is_positional:
                return driver.execute(self._sql, self._bound(values))
            return driver.execute(self._sql, self._named(values), prepare=True)
        except (sqlite3.Error, psycopg.Error) as error:
            raise _explained(tx, error) from error

    def execute_many(self, tx: sa.Connection, several: Sequence[Values]) -> Any:
        driver = _driver(tx)
        try:
            if self._is_positional:
                return driver.executemany(self._sql, [self._bound(each) for each in several])
            cursor = driver.cursor()
            cursor.executemany(self._sql, [self._named(each) for each in several])
        except (sqlite3.Error, psycopg.Error) as error:
            raise _explained(tx, error) from error
        return cursor

    def _bound(self, values: Values) -> Sequence[Any]:
        if self._fixed:
            values = {**self._fixed, **values}
        picked = self._pick(values)
        if not self._times:
            return picked
        bound = list(picked)
        for place in self._times:
            value = bound[place]
            bound[place] = None if value is None else microseconds(value)
        return bound

    def _named(self, values: Values) -> dict[str, Any]:
        return dict(zip(self._names, self._bound(values), strict=True))


def _picker(names: tuple[str, ...]) -> Callable[[Values], Sequence[Any]]:
    """The values of these names, in this order."""
    if not names:
        return lambda _: ()
    if len(names) == 1:
        (name,) = names
        return lambda values: (values[name],)
    pick: Callable[[Values], Sequence[Any]] = itemgetter(*names)
    return pick


def raw(tx: sa.Connection, sql: str) -> None:
    """Tell the driver something that has neither values nor rows, such as SAVEPOINT."""
    try:
        _driver(tx).execute(sql)
    except (sqlite3.Error, psycopg.Error) as error:
        raise _explained(tx, error) from error


def data_version(tx: sa.Connection) -> object:
    """What an SQLite connection sees change when another one has written."""
    return _driver(tx).execute("PRAGMA data_version").fetchone()


def changes(tx: sa.Connection) -> int:
    """How many rows an SQLite connection has changed since it was opened."""
    return int(_driver(tx).total_changes)


def _driver(tx: sa.Connection) -> Any:
    """For both drivers the very object that speaks."""
    memory = memory_of(tx)
    return tx.connection.dbapi_connection if memory is None else memory.driver


def _explained(tx: sa.Connection, error: Exception) -> Exception:
    name = str(tx.get_execution_options().get(DATABASE_NAME, "database"))
    return failures.translate(error, name) or error


def _remembering(
    row: Callable[[Sequence[Any]], Any], of: Callable[[Any], object]
) -> Callable[[Sequence[Any]], Any]:
    @functools.lru_cache(maxsize=_REMEMBERED)
    def made(values: Sequence[Any]) -> object:
        return of(row(values))

    return made


def _row_maker(compiled: SQLCompiler) -> Callable[[Sequence[Any]], Any]:
    columns = compiled._result_columns  # noqa: SLF001 - what the cursor's columns are made of
    if not columns:
        return tuple
    named = namedtuple("Row", [column.keyname for column in columns])  # type: ignore[misc]  # noqa: PYI024
    # Times are the only values that the drivers do not bring as Python's own.
    times = [place for place, column in enumerate(columns) if isinstance(column.type, Timestamp)]
    if not times:
        return named._make
    return functools.partial(_with_times, named._make, times)


def _with_times(make: Callable[[Sequence[Any]], Any], places: list[int], row: Sequence[Any]) -> Any:
    values = list(row)
    for place in places:
        if values[place] is not None:
            values[place] = moment(values[place])
    return make(values)
