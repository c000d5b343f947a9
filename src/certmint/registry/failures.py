"""What a database driver complains about, as certmint's errors: one sentence, the database's name.

A failure of storage is Unavailable (try again) or Misconfigured (a person must change something);
a broken uniqueness or reference is Conflict or NotFound. What is in no table here is a bug of
ours and stays the driver's exception. The driver's own text is never passed on: it may hold values.
"""

import errno
import sqlite3

import psycopg

from certmint.model.errors import (
    BadInput,
    CertmintError,
    Conflict,
    Misconfigured,
    NotFound,
    Unavailable,
)

Failure = tuple[type[CertmintError], str, str]

LOCKED: Failure = (
    Unavailable,
    "database-locked",
    "the database {name} is locked by another writer: try again, and end what holds it",
)
FULL: Failure = (
    Unavailable,
    "disk-full",
    "the disk under the database {name} is full: nothing was written, free some space",
)
UNREACHABLE: Failure = (
    Unavailable,
    "database-unreachable",
    "the database {name} cannot be reached or its storage fails: check the server and the disk",
)
BUSY: Failure = (
    Unavailable,
    "database-busy",
    "every connection to the database {name} is in use: try again, or allow more of them",
)
READ_ONLY: Failure = (
    Misconfigured,
    "database-read-only",
    "certmint may not write to the database {name}: give its account write permission",
)
CORRUPT: Failure = (
    Misconfigured,
    "database-corrupt",
    "{name} is not a database that can be read: check the path, or restore a backup",
)
SCHEMA: Failure = (
    Misconfigured,
    "database-schema",
    "the database {name} lacks certmint's tables or is of another version: run `certmint init`",
)
ABSENT: Failure = (
    Misconfigured,
    "database-schema",
    "the database {name} cannot be opened: check the path and its mode, or run `certmint init`",
)
CREDENTIALS: Failure = (
    Misconfigured,
    "database-credentials",
    "the database {name} refuses the user or the password: check the configured URL",
)
_REFERENCE: Failure = (
    NotFound,
    "reference-unknown",
    "something that this names (a product, device, account …) does not exist in its tenant",
)
_EXISTS: Failure = (Conflict, "already-exists", "a row with this id or name exists already")
_VALUE: Failure = (
    BadInput,
    "value-syntax",
    "a text has a character that no database stores, such as NUL: remove it",
)

# Primary and extended result codes of SQLite (sqlite.org/rescode.html).
_SQLITE: dict[int, Failure] = {
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_IOERR: UNREACHABLE,
    sqlite3.SQLITE_IOERR_SHMSIZE: FULL,  # no room for the index of the write-ahead log
    sqlite3.SQLITE_PROTOCOL: UNREACHABLE,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_PERM: READ_ONLY,
    sqlite3.SQLITE_AUTH: READ_ONLY,
    sqlite3.SQLITE_CORRUPT: CORRUPT,
    sqlite3.SQLITE_NOTADB: CORRUPT,
    sqlite3.SQLITE_CANTOPEN: ABSENT,
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: _REFERENCE,
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: _EXISTS,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: _EXISTS,
}

_FILE_SYSTEM: dict[int, Failure] = {
    errno.EACCES: READ_ONLY,
    errno.EPERM: READ_ONLY,
    errno.EROFS: READ_ONLY,
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
}

# SQLSTATE, whole or by its class (PostgreSQL documentation, appendix A).
_POSTGRESQL: dict[str, Failure] = {
    "08": UNREACHABLE,
    "22": _VALUE,
    "28": CREDENTIALS,
    "3D": ABSENT,
    "3F": SCHEMA,
    "42P01": SCHEMA,
    "42703": SCHEMA,
    "23503": _REFERENCE,
    "23505": _EXISTS,
    "25006": READ_ONLY,
    "25P03": UNREACHABLE,
    "40": LOCKED,
    "42501": READ_ONLY,
    "53100": FULL,
    "53300": BUSY,
    "53": UNREACHABLE,
    "55P03": LOCKED,
    "57014": LOCKED,
    "57": UNREACHABLE,
    "58": UNREACHABLE,
    "XX001": CORRUPT,
    "XX002": CORRUPT,
}


def failure(kind: Failure, name: str) -> CertmintError:
    """The error of one kind for the database called `name`."""
    error, code, sentence = kind
    return error(code, sentence.format(name=name))


def translate(error: BaseException, name: str) -> CertmintError | None:
    """The certmint error for what a driver or the file system raised; None for a bug of ours."""
    kind = None
    if isinstance(error, sqlite3.Error):
        kind = _of_sqlite(error)
    elif isinstance(error, psycopg.Error):
        kind = _of_postgresql(error)
    elif isinstance(error, OSError):
        kind = _FILE_SYSTEM.get(error.errno or 0, UNREACHABLE)
    return None if kind is None else failure(kind, name)


def _of_sqlite(error: sqlite3.Error) -> Failure | None:
    code = getattr(error, "sqlite_errorcode", None)  # absent where the module itself complains
    if code is None:
        return None
    if code == sqlite3.SQLITE_ERROR and str(error).startswith(("no such table", "no such column")):
        return SCHEMA
    return _SQLITE.get(code) or _SQLITE.get(code & 0xFF)


def _of_postgresql(error: psycopg.Error) -> Failure | None:
    state = error.sqlstate
    if state is not None:
        return _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2])
    # Without a SQLSTATE the complaint is psycopg's own: no server, or a value it cannot send.
    if isinstance(error, psycopg.OperationalError):
        return _unanswered(str(error))
    return _VALUE if isinstance(error, psycopg.DataError) else None


def _unanswered(text: str) -> Failure:
    # A refused login ends the connection before psycopg has a SQLSTATE to give.
    if "password authentication failed" in text or "no password supplied" in text:
        return CREDENTIALS
    if 'database "' in text and "does not exist" in text:
        return ABSENT
    if "too many clients" in text or "remaining connection slots" in text:
        return BUSY
    return UNREACHABLE
