"""What ACME's extensions keep: offers, agreements, counters, replacements, self-renewing orders.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add columns that may be NULL, and tables; no row changes."""
    op.add_column("acme_directory", sa.Column("offer", TEXT, nullable=True))
    op.add_column("acme_account", sa.Column("agreed_terms", TEXT, nullable=True))
    op.add_column("acme_account", sa.Column("external_binding", TEXT, nullable=True))
    op.add_column(
        "acme_authorization", sa.Column("covers_subdomains", sa.BigInteger(), nullable=True)
    )
    _counter()
    _replacement()
    _auto_renewal()
    _renewed()


def _counter() -> None:
    op.create_table(
        "acme_counter",
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_acme_counter")),
    )
    op.create_index(op.f("ix_acme_counter_until"), "acme_counter", ["until"])


def _replacement() -> None:
    op.create_table(
        "acme_replacement",
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("authority_id", TEXT, nullable=False),
        sa.Column("serial", TEXT, nullable=False),
        sa.Column("order_id", TEXT, nullable=False),
        _of_order("acme_replacement"),
        sa.PrimaryKeyConstraint("authority_id", "serial", name=op.f("pk_acme_replacement")),
    )


def _auto_renewal() -> None:
    op.create_table(
        "acme_auto_renewal",
        sa.Column("order_id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("lifetime", sa.BigInteger(), nullable=False),
        sa.Column("adjust", sa.BigInteger(), nullable=False),
        sa.Column("allows_get", sa.BigInteger(), nullable=False),
        sa.Column("csr", sa.LargeBinary(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=True),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.Column("authority_id", TEXT, nullable=True),
        sa.Column("serial", TEXT, nullable=True),
        sa.CheckConstraint(
            "state IN ('active', 'canceled', 'stopped')", name=op.f("ck_acme_auto_renewal_state")
        ),
        _of_order("acme_auto_renewal"),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_acme_auto_renewal")),
    )
    where = sa.text("state = 'active'")
    op.create_index(
        "ix_acme_auto_renewal_next_at", "acme_auto_renewal", ["next_at"],
        sqlite_where=where, postgresql_where=where,
    )  # fmt: skip


def _renewed() -> None:
    op.create_table(
        "acme_renewed",
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("authority_id", TEXT, nullable=False),
        sa.Column("serial", TEXT, nullable=False),
        sa.Column("order_id", TEXT, nullable=False),
        _of_order("acme_renewed"),
        sa.PrimaryKeyConstraint("authority_id", "serial", name=op.f("pk_acme_renewed")),
    )


def _of_order(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", "account_id", "order_id"],
        ["acme_order.tenant_id", "acme_order.account_id", "acme_order.id"],
        name=op.f(f"fk_{table}_order_id"),
    )
