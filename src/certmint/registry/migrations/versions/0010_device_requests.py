"""Requests of devices that an operator decides on; what a product wants of them.

Revision ID: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add columns that may be NULL, and a table; no row changes."""
    op.add_column("product", sa.Column("approval", TEXT, nullable=True))
    op.add_column("product", sa.Column("channel_linking", sa.BigInteger(), nullable=True))
    op.create_table(
        "device_request",
        *(_text(name) for name in ("tenant_id", "id", "device_id", "wish", "key_fingerprint")),
        sa.Column("csr", sa.LargeBinary(), nullable=False),
        *(_text(name) for name in ("requester", "evidence", "source", "reason", "state")),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_by", TEXT, nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("serial", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_device_request")),
        sa.UniqueConstraint(
            "tenant_id", "device_id", "wish", "key_fingerprint",
            name=op.f("uq_device_request_tenant_id_device_id_wish_key_fingerprint"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "device_id"],
            ["device.tenant_id", "device.id"],
            name=op.f("fk_device_request_tenant_id_device_id"),
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'approved', 'rejected', 'done')",
            name=op.f("ck_device_request_state"),
        ),
    )  # fmt: skip
    op.create_index(
        op.f("ix_device_request_tenant_id_expires_at"),
        "device_request",
        ["tenant_id", "expires_at"],
    )


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False)
