"""Orders of SWS clients.

Revision ID: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add two tables; no row changes."""
    op.create_table(
        "sws_order",
        *_texts("tenant_id", "id", "operator_id", "product"),
        _number("period"),
        *_texts("authority_id", "state"),
        _number("created_at"),
        _number("version"),
        sa.Column("csr", sa.LargeBinary(), nullable=False),
        *_texts("unique_value", "names", "controls", "registrant", "contacts"),
        *_texts("external_order_number", "server_software", "serials"),
        sa.Column("begun_at", sa.BigInteger(), nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        _number("tries"),
        *_texts("failure"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_sws_order")),
        _within("sws_order", "operator"),
        _within("sws_order", "authority"),
        sa.CheckConstraint(
            "state IN ('waiting-for-csr', 'waiting-for-registrant', 'waiting-for-validation', "
            "'validating', 'issued', 'revoked', 'cancelled')",
            name=op.f("ck_sws_order_state"),
        ),
    )
    op.create_index(
        op.f("ix_sws_order_tenant_id_created_at"), "sws_order", ["tenant_id", "created_at"]
    )
    due = sa.text("due_at IS NOT NULL")
    op.create_index(
        "ix_sws_order_due", "sws_order", ["due_at"], sqlite_where=due, postgresql_where=due
    )
    op.create_table(
        "sws_csr",
        *_texts("tenant_id", "fingerprint", "unique_value", "order_id"),
        sa.PrimaryKeyConstraint(
            "tenant_id", "fingerprint", "unique_value", name=op.f("pk_sws_csr")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "order_id"],
            ["sws_order.tenant_id", "sws_order.id"],
            name=op.f("fk_sws_csr_tenant_id_order_id"),
        ),
    )


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, TEXT, nullable=False) for name in names]


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _within(table: str, parent: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", f"{parent}_id"],
        [f"{parent}.tenant_id", f"{parent}.id"],
        name=op.f(f"fk_{table}_tenant_id_{parent}_id"),
    )
