"""Logins by an OpenID provider: linked identities, logins under way, sessions.

Revision ID: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add tables; no row changes."""
    _owner_identity()
    _device_login()
    _owner_login()
    _owner_session()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False)


def _time(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=op.f(f"pk_{table}"))


def _of(table: str, column: str, parent: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", column],
        [f"{parent}.tenant_id", f"{parent}.id"],
        name=op.f(f"fk_{table}_tenant_id_{column}"),
    )


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns))


def _owner_identity() -> None:
    op.create_table(
        "owner_identity",
        _text("tenant_id"),
        _text("issuer"),
        _text("subject"),
        _text("owner_id"),
        _time("linked_at"),
        _key("owner_identity", "tenant_id", "issuer", "subject"),
        _of("owner_identity", "owner_id", "owner"),
    )
    _index("owner_identity", "tenant_id", "owner_id")


def _device_login() -> None:
    op.create_table(
        "device_login",
        _text("tenant_id"),
        _text("device_id"),
        _text("id"),
        _text("request_hash"),
        sa.Column("device_code", sa.LargeBinary(), nullable=False),
        sa.Column("interval", sa.BigInteger(), nullable=False),
        _time("begun_at"),
        _time("poll_at"),
        _time("expires_at"),
        sa.Column("owner_id", TEXT, nullable=True),
        sa.Column("granted_at", sa.BigInteger(), nullable=True),
        _key("device_login", "tenant_id", "device_id"),
        _of("device_login", "device_id", "device"),
        _of("device_login", "owner_id", "owner"),
    )


def _owner_login() -> None:
    op.create_table(
        "owner_login",
        _text("tenant_id"),
        _text("state_hash"),
        _time("begun_at"),
        _time("expires_at"),
        _key("owner_login", "tenant_id", "state_hash"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["manufacturer.id"], name=op.f("fk_owner_login_tenant_id")
        ),
    )
    _index("owner_login", "tenant_id", "begun_at")


def _owner_session() -> None:
    op.create_table(
        "owner_session",
        _text("tenant_id"),
        _text("token_hash"),
        _text("owner_id"),
        _time("begun_at"),
        _time("expires_at"),
        _key("owner_session", "token_hash"),
        _of("owner_session", "owner_id", "owner"),
    )
    _index("owner_session", "tenant_id", "owner_id", "begun_at")
