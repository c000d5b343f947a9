"""SQLite's own: how a file is made and opened, and its connections, which cost next to nothing.

Laws: a database file comes into being complete, with mode 0600; what is committed is on the disk
(synchronous=FULL); a snapshot cannot write.
"""

import datetime as dt
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from certmint.model.errors import CertmintError, Misconfigured
from certmint.registry import failures
from certmint.registry.compiled import raw

_MOST_IDLE = 16
_PATIENCE = dt.timedelta(seconds=5)  # for other processes, while a file is made


class Snapshots:
    """Read transactions of threads, over connections that are kept open."""

    def __init__(self, connect: Callable[[], sa.Connection]) -> None:
        self._connect = connect
        self._idle: list[sa.Connection] = []  # append and pop are one step for the interpreter

    @contextmanager
    def open(self) -> Iterator[sa.Connection]:
        """One consistent snapshot."""
        try:
            tx = self._idle.pop()
        except IndexError:
            tx = self._connect()
        try:
            raw(tx, "BEGIN")
            yield tx
        except BaseException:
            with suppress(CertmintError):
                raw(tx, "ROLLBACK")
            tx.close()  # whatever was wrong, the next caller does not inherit it
            raise
        raw(tx, "COMMIT")
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(tx)
        else:
            tx.close()

    def close(self) -> None:
        """Close what is not in use."""
        while self._idle:
            self._idle.pop().close()


def connect(path: Path, busy_timeout: dt.timedelta, *pragmas: str) -> sqlite3.Connection:
    # mode=rw: a wrong path is an error and never a new, empty registry.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=busy_timeout.total_seconds(),
        isolation_level=None,  # BEGIN is ours
        check_same_thread=False,
    )
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", *pragmas):
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def create_private(path: Path) -> None:
    """Make an empty database with mode 0600 and a write-ahead log, unless there is a file."""
    if path.exists():
        return
    if not path.parent.is_dir():
        raise Misconfigured(
            "database-folder", f"the folder {path.parent} of the database does not exist: make it"
        )
    try:
        _link_into_place(path)
    except FileExistsError:
        return  # another process was first
    except (OSError, sqlite3.Error) as error:
        known = failures.translate(error, str(path))
        if known is None:
            raise
        raise known from error


def _link_into_place(path: Path) -> None:
    # Complete before it has its name: two processes that switch one new file to a write-ahead
    # log at the same moment do not wait for each other, so one of them would fail.
    handle, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        connect(Path(made), _PATIENCE).close()
        os.link(made, path)
    finally:
        Path(made).unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # else a power failure may lose the name, and all certificates with it
    finally:
        os.close(folder)
