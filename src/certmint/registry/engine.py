"""Opening a database, and running transactions on it: SQLite by default, PostgreSQL to scale out.

Laws: what `write` returned is on stable storage; every writer holds the end of the audit chain
from its first statement on, so there is one writer at a time and none can deadlock; `read` is one
snapshot and cannot write; every failure of the driver is one sentence (see `failures`).

It creates nothing but in `migrate`, and knows no table but the chain's head.
"""

import asyncio
import datetime as dt
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine, make_url

from certmint.model.errors import Misconfigured, Unavailable
from certmint.registry import failures, fibres, migrations, sqlite
from certmint.registry.compiled import DATABASE_NAME, raw
from certmint.registry.group import GroupCommit
from certmint.registry.loop_commit import LoopConnection
from certmint.registry.schema import audit_head
from certmint.registry.sqlite import Snapshots

Transaction: TypeAlias = sa.Connection
"""An open transaction: what every function of `reads` and `writes` takes first."""

T = TypeVar("T")

BUSY_TIMEOUT = dt.timedelta(seconds=5)
_STATEMENT_TIMEOUT = dt.timedelta(seconds=30)
_MIGRATION_LOCK = 0x63657274  # "cert": any number that nobody else uses
_READERS = 40  # as many as the thread pool of a server has threads
_WRITER_CACHE_KIB = 65_536  # for batches
_LOOP_CACHE_KIB = 12_288  # a server writes little at a time, and its memory shall stay flat
_CHECKPOINT_PAGES = 8_000  # 32 MB of write-ahead log: a batch of 1,000 fills 4 MB


class Database:
    """One database. Threads share it; `close` it at the end."""

    def __init__(
        self,
        name: str,
        writer: Engine,
        reader: Engine,
        create: Callable[[], None],
        embedded: "_Embedded | None" = None,
    ):
        self.name = name
        self._writer = writer
        self._reader = reader
        self._create = create
        self._embedded = embedded
        self._first: Callable[[Transaction], object] | None = None
        self._group = GroupCommit(self._begin)
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="database")
        for engine in (writer, reader, *(embedded.engines if embedded else ())):
            sa.event.listen(engine, "handle_error", self._explain)

    def __repr__(self) -> str:
        return f"Database({self.name!r})"

    def write(self, work: Callable[[Transaction], T]) -> T:
        """What `work` returns, once everything it wrote is durable.

        Calls of several threads or fibres at one moment share a transaction (see `group`,
        `loop_commit`); `work` runs in any of these, and must neither call `write` nor wait for
        anything slow.
        """
        first, self._first = self._first, None
        if self._embedded is not None and fibres.inside():
            return self._embedded.loop.write(work, first)
        if first is None:
            return self._group.run(work)
        second = _Second(first, work)
        self._group.run(second.run)
        return second.outcome()

    def preceded_by(self, first: Callable[[Transaction], object]) -> "Database":
        """The same database for one request, whose first write begins with `first`.

        Both are one transaction, but `first` stays if the work behind it fails; what `first`
        raises, the write raises, and nothing of it happened. `settle` at the end.
        """
        one = object.__new__(Database)
        one.__dict__.update(self.__dict__, _first=first)
        return one

    @property
    def in_fibre(self) -> bool:
        """Whether the caller is a fibre: then the database is embedded, and this node's alone."""
        return self._embedded is not None and fibres.inside()

    def settle(self) -> None:
        """Write what was to precede the first write, if there was none. Raises what it raises."""
        first, self._first = self._first, None
        if first is not None:
            self.write(first)

    def read(self) -> AbstractContextManager[Transaction]:
        """One consistent snapshot that cannot be written to."""
        if self._embedded is None:
            return self._read()
        if fibres.inside():
            return self._embedded.loop.snapshot
        return self._embedded.snapshots.open()

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, off the event loop or in turns with it (ADR 11).

        An embedded database answers in microseconds, so a thread would cost more than it saves;
        a server's answers are waited for in a thread.
        """
        if self._embedded is not None:
            return await fibres.run(work)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def begin(self, work: Callable[[], object], ended: fibres.Ended) -> None:
        """Like `run`, for a caller on the event loop that is no coroutine: `ended` is told."""
        if self._embedded is not None:
            fibres.start(work, ended)
            return
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        future.add_done_callback(functools.partial(_tell, ended))

    @contextmanager
    def _read(self) -> Iterator[Transaction]:
        with self._connect(self._reader) as tx, tx.begin():
            yield tx

    def migrate(self) -> None:
        """Bring the schema to `head_revision`, creating an SQLite file (0600) if there is none.

        All or nothing: a power failure leaves the schema as it was.
        """
        self._create()
        with self._connect(self._writer) as tx, tx.begin():
            if tx.dialect.name == "postgresql":
                # Two nodes that start together: the second one waits, then finds nothing to do.
                tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                tx.exec_driver_sql("SET LOCAL statement_timeout = 0")  # large tables take long
            migrations.upgrade(tx)

    def schema_revision(self) -> str | None:
        """The revision of the schema that the database has; None without certmint's tables."""
        with self.read() as tx:
            return migrations.revision(tx)

    def head_revision(self) -> str:
        """The revision that this version of certmint needs."""
        return migrations.head()

    def is_current(self) -> bool:
        """Whether the schema is the one that this version needs."""
        return self.schema_revision() == self.head_revision()

    def integrity_check(self) -> list[str]:
        """What is wrong with the storage itself, a sentence each; empty when all is well."""
        with self.read() as tx:
            if tx.dialect.name == "sqlite":
                found = tx.exec_driver_sql("PRAGMA quick_check").scalars().all()
                return [f"the database {self.name}: {text}" for text in found if text != "ok"]
            settings = {
                name: tx.exec_driver_sql(f"SHOW {name}").scalar_one()
                for name in ("fsync", "full_page_writes", "synchronous_commit")
            }
        return [
            f"the PostgreSQL server of {self.name} runs with {name}=off, so a power failure loses "
            "certificates: switch it on"
            for name, value in settings.items()
            if value == "off"
        ]

    def close(self) -> None:
        """Close every connection. A closed database opens new ones if it is used again."""
        if self._embedded is not None:
            self._embedded.close()
        self._writer.dispose()
        self._reader.dispose()

    @contextmanager
    def _begin(self) -> Iterator[Transaction]:
        with self._connect(self._writer) as tx, tx.begin():
            if tx.dialect.name == "postgresql":  # SQLite did it with BEGIN IMMEDIATE
                tx.execute(sa.select(audit_head.c.id).with_for_update())
            yield tx

    def _connect(self, engine: Engine) -> sa.Connection:
        return _connected(engine, self.name)

    def _explain(self, context: sa.engine.ExceptionContext) -> None:
        if context.is_pre_ping:
            return  # the pool replaces a connection that the server has ended
        error = failures.translate(context.original_exception, self.name)
        if error is not None:
            raise error  # SQLAlchemy lets it replace its own wrapper, whose text has the statement


class _Second(Generic[T]):
    """A request's first write, behind what precedes it."""

    def __init__(
        self, first: Callable[[Transaction], object], work: Callable[[Transaction], T]
    ) -> None:
        self._first, self._work = first, work
        self._error: Exception | None = None
        self._result: T

    def run(self, tx: Transaction) -> None:
        self._first(tx)
        raw(tx, "SAVEPOINT second")
        try:
            self._result = self._work(tx)
        except (Unavailable, Misconfigured):
            raise  # storage failed under us: nothing of the transaction can be kept
        except Exception as error:  # noqa: BLE001 - raised by `outcome`, once `first` is durable
            self._error = error
            raw(tx, "ROLLBACK TO SAVEPOINT second")
        raw(tx, "RELEASE SAVEPOINT second")

    def outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result


@dataclass(frozen=True)
class _Embedded:
    """What SQLite alone has: reads and commits that the event loop can make itself."""

    snapshots: Snapshots
    loop: LoopConnection
    engines: tuple[Engine, ...]

    def close(self) -> None:
        self.snapshots.close()
        self.loop.close()
        for engine in self.engines:
            engine.dispose()


def _tell(ended: fibres.Ended, future: "asyncio.Future[object]") -> None:
    error = future.exception()
    ended(None if error is not None else future.result(), error)


def _connected(engine: Engine, name: str) -> sa.Connection:
    try:
        return engine.connect()
    except sa.exc.TimeoutError as error:
        raise failures.failure(failures.BUSY, name) from error


def open_database(url: str, *, busy_timeout: dt.timedelta = BUSY_TIMEOUT) -> Database:
    """The database at `sqlite:<path>` or `postgresql://…`; no connection is made yet.

    `busy_timeout` is how long a writer waits for another one. Raises Misconfigured
    `database-url`; later failures come from the calls that meet them.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest and rest != ":memory:":
        return _open_sqlite(Path(rest), busy_timeout)
    if scheme in ("postgresql", "postgres"):
        return _open_postgresql(_postgresql_url(url), busy_timeout)
    raise Misconfigured(
        "database-url",
        f"a database URL that starts with {scheme!r} is not known: write sqlite:<path of a file> "
        "or postgresql://user@host/database",
    )


def _open_sqlite(path: Path, busy_timeout: dt.timedelta) -> Database:
    name = str(path)

    def engine(kind: type[sa.Pool], timeout: dt.timedelta, *pragmas: str) -> Engine:
        return sa.create_engine(
            "sqlite://",
            creator=functools.partial(sqlite.connect, path, timeout, *pragmas),
            poolclass=kind,
            **({"pool_size": 1} if kind is sa.QueuePool else {}),
            hide_parameters=True,
            execution_options={DATABASE_NAME: name},
        )

    writing = f"cache_size=-{_WRITER_CACHE_KIB}", f"wal_autocheckpoint={_CHECKPOINT_PAGES}"
    serving = f"cache_size=-{_LOOP_CACHE_KIB}", writing[1]
    writer = engine(sa.QueuePool, busy_timeout, *writing)
    # IMMEDIATE takes the write lock at once: a later upgrade of a read lock could only fail.
    sa.event.listen(writer, "begin", functools.partial(_execute, "BEGIN IMMEDIATE"))
    reader = engine(sa.NullPool, busy_timeout, "query_only=ON")
    own = engine(sa.NullPool, busy_timeout, *serving)
    snapshots = Snapshots(lambda: _connected(reader, name))
    loop = LoopConnection(lambda: _connected(own, name), busy_timeout)
    embedded = _Embedded(snapshots, loop, (own,))
    return Database(name, writer, reader, functools.partial(sqlite.create_private, path), embedded)


def _execute(statement: str, connection: sa.Connection) -> None:
    connection.exec_driver_sql(statement)


def _postgresql_url(url: str) -> URL:
    try:
        return make_url(url).set(drivername="postgresql+psycopg")
    except (sa.exc.ArgumentError, ValueError):
        raise Misconfigured(
            "database-url",
            "the PostgreSQL URL cannot be read: write postgresql://user@host/database",
        ) from None


def _open_postgresql(url: URL, busy_timeout: dt.timedelta) -> Database:
    host = url.host or url.query.get("host") or "localhost"
    name = f"postgresql://{host}/{url.database or ''}"
    settings = {
        "statement_timeout": _STATEMENT_TIMEOUT,
        "lock_timeout": busy_timeout,
        # A node that stops in the middle of a write must not hold the chain for ever.
        "idle_in_transaction_session_timeout": _STATEMENT_TIMEOUT,
    }
    options = " ".join(
        f"-c {key}={value // dt.timedelta(milliseconds=1)}" for key, value in settings.items()
    )

    def engine(isolation: str, size: int, overflow: int) -> Engine:
        return sa.create_engine(
            url,
            isolation_level=isolation,
            pool_size=size,
            max_overflow=overflow,
            pool_timeout=busy_timeout.total_seconds(),
            pool_pre_ping=True,
            connect_args={
                "options": options,
                "connect_timeout": max(2, round(busy_timeout.total_seconds())),
                "application_name": "certmint",
            },
            hide_parameters=True,
            execution_options={DATABASE_NAME: name},
        )

    writer = engine("READ COMMITTED", 1, 0)
    reader = engine("REPEATABLE READ", 5, 10).execution_options(postgresql_readonly=True)
    return Database(name, writer, reader, lambda: None)
