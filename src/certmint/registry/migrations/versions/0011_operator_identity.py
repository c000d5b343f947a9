"""Operators who log in at an OpenID provider.

Revision ID: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add a table; no row changes."""
    op.create_table(
        "operator_identity",
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("issuer", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("operator_id", TEXT, nullable=False),
        sa.Column("linked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "issuer", "subject", name=op.f("pk_operator_identity")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "operator_id"],
            ["operator.tenant_id", "operator.id"],
            name=op.f("fk_operator_identity_tenant_id_operator_id"),
        ),
    )
    op.create_index(
        op.f("ix_operator_identity_tenant_id_operator_id"),
        "operator_identity",
        ["tenant_id", "operator_id"],
    )
