"""The schema's history ends where `schema` says."""

import concurrent.futures
import re
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from certmint.model.errors import Misconfigured
from certmint.registry import audit, schema
from certmint.registry.engine import open_database


def test_the_migrations_make_the_schema(empty_url: str) -> None:
    """From nothing to the newest revision gives exactly the tables of `schema`."""
    database = open_database(empty_url)
    database.migrate()

    with database.read() as tx:
        context = MigrationContext.configure(tx, opts={"compare_server_default": True})
        differences = compare_metadata(context, schema.metadata)

    assert differences == []
    assert database.is_current()
    database.close()


def test_the_migrations_make_every_check_and_reference(tmp_path: Path) -> None:
    """What alembic does not compare (CHECKs, partial indexes) is the same to the letter."""
    database = open_database(f"sqlite:{tmp_path / 'migrated.db'}")
    database.migrate()
    database.close()
    created = sa.create_engine(f"sqlite:///{tmp_path / 'created.db'}")
    schema.metadata.create_all(created)
    created.dispose()

    assert statements(tmp_path / "migrated.db") == statements(tmp_path / "created.db")


def statements(path: Path) -> dict[str, set[str]]:
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'"
    ).fetchall()
    connection.close()
    # SQLite writes a column that is added later behind the one before it, on the same line.
    return {name: {piece.strip() for piece in re.split(r"[\n,]", sql)} - {""} for name, sql in rows}


def test_postgresql_compares_text_by_its_bytes(empty_url: str) -> None:
    """Paging and indexes do not depend on a locale that the operating system may change."""
    database = open_database(empty_url)
    database.migrate()
    with database.read() as tx:
        if tx.dialect.name == "postgresql":
            collations = tx.exec_driver_sql(
                "SELECT DISTINCT collation_name FROM information_schema.columns"
                " WHERE table_schema = 'public' AND data_type = 'text'"
            ).scalars()
            assert list(collations) == ["C"]
    database.close()


def test_migrating_twice_changes_nothing(empty_url: str) -> None:
    """`certmint init` on a running installation is harmless."""
    database = open_database(empty_url)
    database.migrate()
    database.write(lambda tx: audit.append(tx, EVENT))
    database.migrate()

    with database.read() as tx:
        assert audit.verify(tx).events == 1
    database.close()


EVENT = audit.Event(schema.moment(0), None, "test", "tested", "x")


def test_two_nodes_may_migrate_at_the_same_time(empty_url: str) -> None:
    """Whoever comes second waits, and finds nothing left to do."""
    nodes = [open_database(empty_url) for _ in range(3)]

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(node.migrate) for node in nodes]:
            future.result()

    assert all(node.is_current() for node in nodes)
    for node in nodes:
        node.close()


def test_the_schema_of_a_newer_version_is_left_alone(empty_url: str) -> None:
    """An old certmint on a new database says which of the two is too old."""
    database = open_database(empty_url)
    database.migrate()
    database.write(
        lambda tx: tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'").close()
    )

    with pytest.raises(Misconfigured) as refusal:
        database.migrate()

    assert refusal.value.code == "database-newer"
    assert "9999" in str(refusal.value)
    assert not database.is_current()
    database.close()
