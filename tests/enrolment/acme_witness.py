"""A witness in the database: triggers that write down every move of a state, whoever makes it."""

from collections.abc import Mapping

import sqlalchemy as sa

from certmint.registry.engine import Database, Transaction

# RFC 8555 7.1.6 as it is drawn there, and not as our tables have it; a revoked account, a declined
# order, and a challenge that is over at once without having been seen processing are ours.
DRAWN: Mapping[str, set[tuple[str, str]]] = {
    "acme_account": {
        ("valid", "deactivated"), ("valid", "revoked"), ("deactivated", "revoked"),
    },
    "acme_order": {
        ("pending", "ready"), ("pending", "invalid"), ("ready", "processing"),
        ("ready", "invalid"), ("processing", "valid"), ("processing", "ready"),
        ("processing", "invalid"),
    },
    "acme_authorization": {
        ("pending", "valid"), ("pending", "invalid"), ("pending", "deactivated"),
        ("valid", "deactivated"), ("valid", "revoked"),
    },
    "acme_challenge": {
        ("pending", "processing"), ("processing", "valid"), ("processing", "invalid"),
        ("pending", "valid"), ("pending", "invalid"),
    },
}  # fmt: skip

FUNCTION = """
CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
INSERT INTO witnessed VALUES (TG_TABLE_NAME, NEW.id, OLD.state, NEW.state); RETURN NEW; END $$
"""
ON_POSTGRESQL = """
CREATE TRIGGER witness_{table} AFTER UPDATE ON {table} FOR EACH ROW
WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION witness()
"""
ON_SQLITE = """
CREATE TRIGGER witness_{table} AFTER UPDATE ON {table} WHEN OLD.state <> NEW.state
BEGIN INSERT INTO witnessed VALUES ('{table}', NEW.id, OLD.state, NEW.state); END
"""


def watch(db: Database) -> None:
    """Let the database itself write down every move of a state."""
    with db.read() as tx:
        is_sqlite = tx.dialect.name == "sqlite"
    statements = ["CREATE TABLE witnessed (noun TEXT, id TEXT, before TEXT, after TEXT)"]
    if not is_sqlite:
        statements.append(FUNCTION)
    trigger = ON_SQLITE if is_sqlite else ON_POSTGRESQL
    statements += [trigger.format(table=table) for table in DRAWN]

    def work(tx: Transaction) -> None:
        for statement in statements:
            tx.execute(sa.text(statement))

    db.write(work)


def moves(db: Database) -> list[tuple[str, str, str]]:
    """The moves since the last look: table, state before, state after."""

    def work(tx: Transaction) -> list[tuple[str, str, str]]:
        found = tx.execute(sa.text("SELECT noun, before, after FROM witnessed")).all()
        tx.execute(sa.text("DELETE FROM witnessed"))
        return [(noun, before, after) for noun, before, after in found]

    return db.write(work)
