"""The operators' desk: tokens of their own, sessions, approvals, jobs, idempotent answers.

A token was a part of its operator's row; now it is a row, so that one can be replaced without a
gap. Operators of one name are told apart by their id.

Revision ID: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_COLUMNS = "tenant_id, id, name, role, disabled_at"


def upgrade() -> None:
    """Every token stays good; its id is its operator's with another prefix."""
    op.execute(
        "UPDATE operator SET name = name || ' ' || id WHERE EXISTS (SELECT 1 FROM operator o "
        "WHERE o.tenant_id = operator.tenant_id AND o.name = operator.name AND o.id < operator.id)"
    )
    if op.get_bind().dialect.name == "postgresql":
        _api_token()
        _move_tokens("operator")
        op.drop_constraint("uq_operator_token_hash", "operator")
        op.drop_column("operator", "token_hash")
        op.drop_column("operator", "token_expires_at")
        op.create_unique_constraint(
            op.f("uq_operator_tenant_id_name"), "operator", ["tenant_id", "name"]
        )
    else:
        op.rename_table("operator", "operator_0006")
        _operator()
        op.execute(f"INSERT INTO operator ({_COLUMNS}) SELECT {_COLUMNS} FROM operator_0006")  # noqa: S608
        _api_token()
        _move_tokens("operator_0006")
        op.drop_table("operator_0006")
    _operator_session()
    _approval()
    _job()
    _idempotent_answer()
    owned = sa.text("owner_id IS NOT NULL")
    op.create_index(
        "ix_device_owned", "device", ["tenant_id", "owner_id", "serial_number"],
        sqlite_where=owned, postgresql_where=owned,
    )  # fmt: skip


def _move_tokens(table: str) -> None:
    created = (
        "COALESCE((SELECT MIN(e.at) FROM audit_event e WHERE e.subject = o.id "
        "AND e.action = 'operator.added'), 0)"
    )
    op.execute(
        "INSERT INTO api_token "  # noqa: S608 - constants
        "(tenant_id, id, operator_id, name, token_hash, created_at, expires_at) "
        "SELECT o.tenant_id, 'tok' || substr(o.id, 4), o.id, 'first', o.token_hash, "
        f"{created}, o.token_expires_at FROM {table} o"
    )


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=op.f(f"pk_{table}"))


def _of(table: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", column],
        ["operator.tenant_id", "operator.id"],
        name=op.f(f"fk_{table}_tenant_id_{column}"),
    )


def _states(table: str, *states: str) -> sa.CheckConstraint:
    names = ", ".join(f"'{state}'" for state in states)
    return sa.CheckConstraint(f"state IN ({names})", name=op.f(f"ck_{table}_state"))


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns))


def _operator() -> None:
    op.create_table(
        "operator",
        _text("tenant_id"),
        _text("id"),
        _text("name"),
        _text("role"),
        _number("disabled_at", nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["manufacturer.id"], name=op.f("fk_operator_tenant_id")
        ),
        _key("operator", "tenant_id", "id"),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_operator_tenant_id_name")),
    )


def _api_token() -> None:
    op.create_table(
        "api_token",
        _text("tenant_id"),
        _text("id"),
        _text("operator_id"),
        _text("name"),
        _text("token_hash"),
        _text("scopes", nullable=True),
        _number("created_at"),
        _number("expires_at"),
        _number("revoked_at", nullable=True),
        _key("api_token", "tenant_id", "id"),
        sa.UniqueConstraint("token_hash", name=op.f("uq_api_token_token_hash")),
        _of("api_token", "operator_id"),
    )
    _index("api_token", "tenant_id", "operator_id")


def _operator_session() -> None:
    op.create_table(
        "operator_session",
        _text("tenant_id"),
        _text("token_hash"),
        _text("operator_id"),
        _text("scopes", nullable=True),
        _number("begun_at"),
        _number("expires_at"),
        _key("operator_session", "token_hash"),
        _of("operator_session", "operator_id"),
    )
    _index("operator_session", "tenant_id", "operator_id", "begun_at")


def _approval() -> None:
    op.create_table(
        "approval",
        _text("tenant_id"),
        _text("id"),
        _text("operation"),
        _text("summary"),
        _text("document"),
        _text("requested_by"),
        _number("requested_at"),
        _number("expires_at"),
        _text("state"),
        _text("decided_by", nullable=True),
        _number("decided_at", nullable=True),
        _text("outcome"),
        _key("approval", "tenant_id", "id"),
        _of("approval", "requested_by"),
        _of("approval", "decided_by"),
        _states("approval", "pending", "approved", "done", "failed", "rejected"),
    )
    _index("approval", "tenant_id", "state", "id")


def _job() -> None:
    op.create_table(
        "job",
        _text("tenant_id"),
        _text("id"),
        _text("kind"),
        _text("document"),
        _text("requested_by"),
        _number("created_at"),
        _text("state"),
        _number("total"),
        _number("done"),
        _text("outcome"),
        _number("finished_at", nullable=True),
        _key("job", "tenant_id", "id"),
        _of("job", "requested_by"),
        _states("job", "queued", "running", "done", "failed", "cancelled"),
    )
    _index("job", "state", "id")


def _idempotent_answer() -> None:
    op.create_table(
        "idempotent_answer",
        _text("tenant_id"),
        _text("operator_id"),
        _text("key"),
        _text("request_hash"),
        _number("begun_at"),
        _number("status"),
        _text("location"),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        _key("idempotent_answer", "tenant_id", "operator_id", "key"),
        _of("idempotent_answer", "operator_id"),
    )
    _index("idempotent_answer", "begun_at")
