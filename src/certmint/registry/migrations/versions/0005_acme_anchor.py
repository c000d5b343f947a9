"""The CAs that vouch for hardware at an ACME directory (device-attest-01).

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add a table; no row changes."""
    op.create_table(
        "acme_anchor",
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("directory_id", TEXT, nullable=False),
        sa.Column("format", TEXT, nullable=False),
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "directory_id", "format", "fingerprint", name=op.f("pk_acme_anchor")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "directory_id"],
            ["acme_directory.tenant_id", "acme_directory.id"],
            name=op.f("fk_acme_anchor_tenant_id_directory_id"),
        ),
    )
