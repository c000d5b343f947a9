"""The few shapes of statement that the writes and reads are made of.

The only place where the two databases' dialects of INSERT differ, and where a long list of values
is cut into pieces that both accept.
"""

import datetime as dt
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from certmint.model.errors import CertmintError
from certmint.registry import audit
from certmint.registry.compiled import CHUNK, Compiled

T = TypeVar("T")


def insert_if_absent(
    tx: sa.Connection, table: sa.Table, rows: dict[str, Any] | Sequence[Mapping[str, Any]]
) -> int:
    """How many of the rows were new; what conflicts with a key or a UNIQUE is left as it is.

    Unlike an error, a conflict leaves a PostgreSQL transaction usable.
    """
    return _insert_if_absent(tx.dialect.name, table).run(tx, rows)


def copy_if_absent(
    tx: sa.Connection,
    table: sa.Table,
    columns: tuple[sa.ColumnElement[Any], ...],
    source: sa.ColumnElement[bool],
    rows: Sequence[Mapping[str, Any]],
) -> int:
    """Like `insert_if_absent`, with every row made by the database from another table's row.

    `columns` and `source` are constants of a module: the statement is kept.
    """
    return _copy_if_absent(tx.dialect.name, table, columns, source).run(tx, rows)


def count(
    tx: sa.Connection,
    statement: sa.UpdateBase,
    rows: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
) -> int:
    """Execute, and say how many rows were changed in all."""
    result = tx.execute(statement, rows, execution_options={"preserve_rowcount": True})
    return int(result.rowcount)


def add(tx: sa.Connection, table: sa.Table, row: dict[str, Any], taken: CertmintError) -> None:
    """Insert one row, or raise `taken`."""
    if insert_if_absent(tx, table, row) != 1:
        raise taken


def log(
    tx: sa.Connection,
    action: str,
    tenant_id: str | None,
    subject: str,
    *,
    by: str,
    at: dt.datetime,
    **detail: object,
) -> None:
    """Append the audit event of a change."""
    audit.append(tx, audit.Event(at, tenant_id, by, action, subject, detail))


def chunks(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """The values in lists of at most `size`."""
    remaining = iter(values)
    while piece := list(islice(remaining, size)):
        yield piece


def _insert(dialect: str, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


@functools.cache
def _insert_if_absent(dialect: str, table: sa.Table) -> Compiled:
    return Compiled(_insert(dialect, table).on_conflict_do_nothing())


@functools.cache
def _copy_if_absent(
    dialect: str,
    table: sa.Table,
    columns: tuple[sa.ColumnElement[Any], ...],
    source: sa.ColumnElement[bool],
) -> Compiled:
    names = [column.name for column in columns]
    rows = sa.select(*columns).where(source)
    return Compiled(_insert(dialect, table).from_select(names, rows).on_conflict_do_nothing())
