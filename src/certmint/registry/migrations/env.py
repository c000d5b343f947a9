"""What alembic runs for each command: the caller's connection, in the caller's transaction."""

from alembic import context

from certmint.registry.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    transactional_ddl=True,  # both databases roll back DDL
)
context.run_migrations()
