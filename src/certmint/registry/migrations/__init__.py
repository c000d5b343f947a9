"""The history of the schema, one revision a file, applied by certmint itself.

Laws: a published revision is never edited; within a release a revision only adds, so that the
previous version of certmint still runs on the new schema; a revision runs in one transaction.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from certmint.model.errors import Misconfigured


def upgrade(tx: Connection) -> None:
    """Apply every revision that the database lacks, inside the caller's transaction.

    Raises Misconfigured `database-newer` for a schema that this version does not know.
    """
    config = _config()
    present = revision(tx)
    known = {each.revision for each in ScriptDirectory.from_config(config).walk_revisions()}
    if present is not None and present not in known:
        raise Misconfigured(
            "database-newer",
            f"the database has revision {present} of a newer certmint: install that version",
        )
    config.attributes["connection"] = tx
    command.upgrade(config, "head")


def revision(tx: Connection) -> str | None:
    """The revision that the database has."""
    found: str | None = MigrationContext.configure(tx).get_current_revision()
    return found


def head() -> str:
    """The newest revision that this version of certmint knows."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    if newest is None:
        raise RuntimeError("the package certmint.registry.migrations has no revisions in it")
    return str(newest)


def _config() -> Config:
    config = Config()
    # A percent sign in a path would be read as an interpolation.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
