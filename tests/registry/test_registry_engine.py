"""Opening databases, transactions, and what a failing one says."""

import datetime as dt
import errno
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from certmint.model.errors import BadInput, CertmintError, Conflict, Misconfigured, Unavailable
from certmint.registry import audit, failures, reads, schema, writes
from certmint.registry.engine import Database, open_database

SHORT = dt.timedelta(milliseconds=50)
MOMENT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
EVENT = audit.Event(MOMENT, None, "test", "tested", "x")


def says(error: CertmintError, *words: str) -> None:
    """One sentence with those words in it."""
    text = str(error)
    assert all(word in text for word in words), text
    assert text.count("\n") == 0
    assert "[SQL" not in text


@pytest.mark.parametrize("url", ["", "sqlite:", "sqlite::memory:", "mysql://host/x", "x"])
def test_an_unknown_url_is_refused_with_what_to_write(url: str) -> None:
    """Somebody who types a wrong URL reads which two kinds there are."""
    with pytest.raises(Misconfigured) as refusal:
        open_database(url)

    assert refusal.value.code == "database-url"
    says(refusal.value, "sqlite:", "postgresql://")


def test_opening_makes_no_file_and_a_wrong_path_is_an_error(tmp_path: Path) -> None:
    """A typing error in a path never becomes a new, empty registry."""
    path = tmp_path / "typo.db"
    database = open_database(f"sqlite:{path}")

    with pytest.raises(Misconfigured) as refusal:
        database.schema_revision()

    assert refusal.value.code == "database-schema"
    says(refusal.value, str(path), "certmint init")
    assert not path.exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """`certmint init` into a folder that is not there says which one."""
    with pytest.raises(Misconfigured) as refusal:
        open_database(f"sqlite:{tmp_path / 'absent' / 'x.db'}").migrate()

    assert refusal.value.code == "database-folder"
    says(refusal.value, str(tmp_path / "absent"))


def test_a_folder_instead_of_a_file_is_said_to_be_no_database(tmp_path: Path) -> None:
    """A path that names a folder is an error with that path in it."""
    with pytest.raises(Misconfigured) as refusal:
        open_database(f"sqlite:{tmp_path}").migrate()

    assert refusal.value.code == "database-schema"
    says(refusal.value, str(tmp_path), "check the path")


def test_making_a_database_leaves_no_other_file(tmp_path: Path) -> None:
    """Nothing half-made stays beside the new database."""
    database = open_database(f"sqlite:{tmp_path / 'new.db'}")
    database.migrate()
    database.close()

    assert [path.name for path in tmp_path.iterdir()] == ["new.db"]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, "database-read-only"),
        (errno.EROFS, "database-read-only"),
        (errno.ENOSPC, "disk-full"),
        (errno.EIO, "database-unreachable"),
    ],
)
def test_what_the_file_system_refuses_is_one_sentence(number: int, code: str) -> None:
    """A full or read-only file system is named as such when the database is made."""
    error = failures.translate(OSError(number, "from the kernel"), "/var/registry.db")

    assert error is not None
    assert error.code == code
    says(error, "/var/registry.db")


def test_only_the_owner_can_read_the_files_of_sqlite(tmp_path: Path) -> None:
    """The database, its log and its index have mode 0600: they hold owners' password hashes."""
    database = open_database(f"sqlite:{tmp_path / 'private.db'}")
    database.migrate()
    database.write(lambda tx: audit.append(tx, EVENT))

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}

    assert modes == dict.fromkeys(("private.db", "private.db-wal", "private.db-shm"), 0o600)
    database.close()


def test_sqlite_writes_ahead_durably_and_checks_references(sqlite_db: Database) -> None:
    """A commit survives a power failure, and no row can name a tenant that is not there."""

    def settings(tx: reads.Transaction) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [tx.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]

    assert sqlite_db.write(settings) == ["wal", 2, 1]


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    """Pointing at the wrong file changes nothing in it."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database at all, only some notes\n" * 100)
    before = path.read_bytes()

    with pytest.raises(Misconfigured) as refusal:
        open_database(f"sqlite:{path}").migrate()

    assert refusal.value.code == "database-corrupt"
    says(refusal.value, str(path))
    assert path.read_bytes() == before


def test_a_damaged_page_is_found_by_the_integrity_check(
    sqlite_db: Database, tmp_path: Path
) -> None:
    """`certmint doctor` sees damage before a certificate is lost in it."""
    assert sqlite_db.integrity_check() == []
    sqlite_db.close()
    path = tmp_path / "registry.db"
    data = bytearray(path.read_bytes())
    data[4096 * 5 : 4096 * 5 + 200] = b"\xff" * 200
    path.write_bytes(data)

    damaged = open_database(f"sqlite:{path}")
    try:
        found = damaged.integrity_check()
    except Misconfigured as error:
        found = [str(error)]

    assert found
    assert str(path) in found[0]
    damaged.close()


def test_tables_that_are_missing_say_what_to_run(empty_url: str) -> None:
    """A database that nobody initialised says how to."""
    database = open_database(empty_url)
    if empty_url.startswith("sqlite:"):
        Path(empty_url.removeprefix("sqlite:")).touch()

    assert database.schema_revision() is None
    assert not database.is_current()
    for attempt in (
        lambda: database.write(lambda tx: writes.next_crl_number(tx, "x")),
        lambda: next(reading(database)),
    ):
        with pytest.raises(Misconfigured) as refusal:
            attempt()
        assert refusal.value.code == "database-schema"
        says(refusal.value, database.name, "certmint init")
    database.close()


def reading(database: Database) -> Iterator[object]:
    with database.read() as tx:
        yield reads.manufacturers(tx)


def test_a_fresh_schema_is_current_and_sound(db: Database) -> None:
    """After `migrate` there is nothing left to do, and nothing wrong."""
    assert db.is_current()
    assert db.schema_revision() == db.head_revision()
    assert db.integrity_check() == []


@pytest.mark.postgres
def test_a_postgresql_that_forgets_on_power_failure_is_reported(postgresql) -> None:
    """A server with synchronous_commit=off cannot keep a CA's promise."""
    url = postgresql.create()
    name = url.partition("@/")[2].partition("?")[0]
    postgresql.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    database = open_database(url)

    found = database.integrity_check()

    assert len(found) == 1
    assert "synchronous_commit=off" in found[0]
    database.close()


def test_a_read_is_one_snapshot(db: Database) -> None:
    """What another thread commits meanwhile does not appear in the middle of a read."""
    with db.read() as tx:
        before = audit.verify(tx)
        db.write(lambda tx: audit.append(tx, EVENT))
        assert audit.verify(tx) == before

    with db.read() as tx:
        assert audit.verify(tx).events == before.events + 1


def test_a_read_cannot_write(db: Database) -> None:
    """A door that reads cannot change anything by mistake."""
    with pytest.raises(Misconfigured) as refusal, db.read() as tx:
        tx.execute(sa.delete(schema.audit_head))

    assert refusal.value.code == "database-read-only"


def test_a_locked_sqlite_is_unavailable_and_works_again_after(sqlite_db: Database) -> None:
    """A writer waits for another process, says so if that takes too long, and loses nothing."""
    path = sqlite_db.name
    other_process = sqlite3.connect(path, isolation_level=None)
    other_process.execute("BEGIN IMMEDIATE")

    with pytest.raises(Unavailable) as refusal:
        sqlite_db.write(lambda tx: audit.append(tx, EVENT))

    assert refusal.value.code == "database-locked"
    says(refusal.value, path)
    other_process.execute("ROLLBACK")
    other_process.close()
    assert sqlite_db.write(lambda tx: audit.append(tx, EVENT)).seq == 1


@pytest.mark.postgres
def test_a_locked_postgresql_is_unavailable_and_works_again_after(postgresql) -> None:
    """A node that hangs in the middle of a write holds up the others no longer than allowed."""
    url = postgresql.emptied()
    hanging = open_database(url)
    waiting = open_database(url, busy_timeout=SHORT)

    def while_it_hangs(tx: reads.Transaction) -> CertmintError:
        with pytest.raises(Unavailable) as refusal:
            waiting.write(lambda tx: audit.append(tx, EVENT))
        return refusal.value

    assert hanging.write(while_it_hangs).code == "database-locked"
    assert waiting.write(lambda tx: audit.append(tx, EVENT)).seq == 1
    hanging.close()
    waiting.close()


def test_a_full_disk_loses_nothing_and_recovers(sqlite_db: Database) -> None:
    """What does not fit is refused whole, reads go on, and writing goes on once there is space."""
    sqlite_db.write(lambda tx: audit.append(tx, EVENT))

    def too_much(tx: reads.Transaction) -> None:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
        audit.append(tx, audit.Event(MOMENT, None, "test", "long", "x" * 100_000))

    with pytest.raises(Unavailable) as refusal:
        sqlite_db.write(too_much)

    assert refusal.value.code == "disk-full"
    says(refusal.value, sqlite_db.name, "free")
    with sqlite_db.read() as tx:
        assert audit.verify(tx).events == 1
    sqlite_db.write(lambda tx: tx.exec_driver_sql("PRAGMA max_page_count=1000000").close())
    assert sqlite_db.write(lambda tx: audit.append(tx, EVENT)).seq == 2
    assert sqlite_db.integrity_check() == []


@pytest.mark.postgres
def test_a_password_never_reaches_a_message() -> None:
    """An unreachable server is named by host and database, without the credentials."""
    urls = (
        "postgresql://ca:hunter2@127.0.0.1:1/registry",
        "postgresql://ca@127.0.0.1:1/registry?password=hunter2",
    )
    for url in urls:
        database = open_database(url)
        with pytest.raises(Unavailable) as refusal:
            database.write(lambda tx: audit.append(tx, EVENT))

        assert refusal.value.code == "database-unreachable"
        says(refusal.value, "127.0.0.1", "registry")
        assert "hunter2" not in str(refusal.value) + repr(database)
        database.close()


@pytest.mark.postgres
def test_a_database_that_does_not_exist_says_what_to_do(postgresql) -> None:
    """A wrong name in the URL is a matter of configuration, not of trying again."""
    database = open_database(postgresql.url("absent"))

    with pytest.raises(Misconfigured) as refusal:
        database.migrate()

    assert refusal.value.code == "database-schema"
    database.close()


@pytest.mark.postgres
def test_a_server_that_restarts_is_reached_again(postgresql) -> None:
    """Connections that the server ended are replaced without anybody noticing."""
    database = open_database(postgresql.emptied())
    database.write(lambda tx: audit.append(tx, EVENT))
    postgresql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='certmint'"
    )

    assert database.write(lambda tx: audit.append(tx, EVENT)).seq == 2
    database.close()


@pytest.mark.postgres
def test_a_text_that_postgresql_cannot_store_is_bad_input(postgresql) -> None:
    """A NUL character is refused whole, and never cut off."""
    database = open_database(postgresql.emptied())

    with pytest.raises(BadInput) as refusal:
        database.write(lambda tx: audit.append(tx, audit.Event(MOMENT, None, "", "", "nul\0nul")))

    assert refusal.value.code == "value-syntax"
    database.close()


def test_a_failed_write_leaves_nothing(db: Database) -> None:
    """What the work did before it raised is undone, and the error reaches the caller as it was."""
    problem = Conflict("something", "a sentence")

    def work(tx: reads.Transaction) -> None:
        audit.append(tx, EVENT)
        raise problem

    with pytest.raises(Conflict) as refusal:
        db.write(work)

    assert refusal.value is problem
    with db.read() as tx:
        assert audit.verify(tx).events == 0


def test_naive_times_are_refused(db: Database) -> None:
    """A time without a zone names no moment, so it is never stored."""
    with pytest.raises(ValueError, match="time zone"):
        db.write(
            lambda tx: audit.append(tx, audit.Event(dt.datetime(2026, 1, 1), None, "", "", ""))  # noqa: DTZ001
        )


@pytest.mark.parametrize(
    "moment",
    [
        dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC),
        dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC),
        dt.datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=dt.UTC),
        dt.datetime(2026, 3, 29, 2, 30, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=45))),
    ],
)
def test_times_come_back_exactly(sqlite_db: Database, moment: dt.datetime) -> None:
    """The certificate that never expires does so in the registry too, to the microsecond."""
    sqlite_db.write(lambda tx: writes.take_lease(tx, "x", "me", MOMENT, moment))

    with sqlite_db.read() as tx:
        held = tx.execute(sa.select(schema.lease.c.until)).scalar_one()

    assert held == moment
    assert held.utcoffset() == dt.timedelta(0)
