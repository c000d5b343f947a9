"""An installation from before ACME gets the new tables and keeps everything that it had."""

import sqlalchemy as sa
from alembic import command

from certmint.registry import audit, migrations, schema
from certmint.registry.engine import Database, open_database


def columns_of(database: Database) -> dict[str, list[str]]:
    """The tables of the first schema, parents first, and their columns."""
    with database.read() as tx:
        found = sa.inspect(tx)
        names = set(found.get_table_names())
        return {
            table.name: [column["name"] for column in found.get_columns(table.name)]
            for table in schema.metadata.sorted_tables
            if table.name in names and table.name != "operator"  # see test_registry_desk
        }


def rows(database: Database, columns: dict[str, list[str]]) -> dict[str, list[tuple[object, ...]]]:
    """Everything in those columns, as the database holds it."""
    with database.read() as tx:
        return {
            table: [tuple(row) for row in tx.execute(raw(table, names).order_by(sa.text("1, 2")))]
            for table, names in columns.items()
        }


def raw(table: str, names: list[str]) -> sa.Select[tuple[object, ...]]:
    return sa.select(*(sa.column(name) for name in names)).select_from(sa.table(table))


def test_the_tables_of_acme_are_added_to_a_living_installation(
    empty_url: str, make_tenant, make_client, tmp_path
) -> None:
    """No row changes, the audit chain holds, and an ACME client can be served at once."""
    database = open_database(empty_url)
    database._create()
    with database._connect(database._writer) as tx, tx.begin():
        config = migrations._config()
        config.attributes["connection"] = tx
        command.upgrade(config, "0001")
    first_schema = columns_of(database)
    # What this version writes has more columns: the rows are made at home, and moved back in time.
    today = open_database(f"sqlite:{tmp_path / 'today.db'}")
    today.migrate()
    maker = make_tenant(today, "alpha")
    maker.issue(*maker.devices(1))
    living = rows(today, first_schema)
    today.close()
    with database._connect(database._writer) as tx, tx.begin():
        tx.execute(sa.text("DELETE FROM audit_head"))
        for table, names in first_schema.items():
            for row in living[table]:
                into = sa.table(table, *map(sa.column, names))
                tx.execute(sa.insert(into).values(dict(zip(names, row, strict=True))))
    before = rows(database, first_schema)
    assert before == living
    assert not database.is_current()

    database.migrate()

    assert database.is_current()
    assert rows(database, first_schema) == before
    maker.db = database
    client = make_client(maker)
    order = client.order()
    assert client.stored(order) == order
    with database.read() as tx:
        assert audit.verify(tx).broken_at is None
    database.close()
