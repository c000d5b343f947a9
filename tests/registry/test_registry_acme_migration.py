"""An installation from before ACME gets the new tables and keeps everything that it had."""

import sqlalchemy as sa
from alembic import command

from certmint.registry import audit, migrations, schema
from certmint.registry.engine import Database, open_database


def rows(database: Database) -> dict[str, list[object]]:
    """Everything in the tables of the first schema."""
    with database.read() as tx:
        return {
            table.name: list(tx.execute(sa.select(table)))
            for table in schema.metadata.sorted_tables
            if not table.name.startswith("acme_")
        }


def test_the_tables_of_acme_are_added_to_a_living_installation(
    empty_url: str, make_tenant, make_client
) -> None:
    """No row changes, the audit chain holds, and an ACME client can be served at once."""
    database = open_database(empty_url)
    database._create()
    with database._connect(database._writer) as tx, tx.begin():
        config = migrations._config()
        config.attributes["connection"] = tx
        command.upgrade(config, "0001")
    maker = make_tenant(database, "alpha")
    maker.issue(*maker.devices(1))
    before = rows(database)
    assert not database.is_current()

    database.migrate()

    assert database.is_current()
    assert rows(database) == before
    client = make_client(maker)
    order = client.order()
    assert client.stored(order) == order
    with database.read() as tx:
        assert audit.verify(tx).broken_at is None
    database.close()
