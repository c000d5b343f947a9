"""Indexes for looking at a fleet: certificates in force by their end, and the life of one thing.

Revision ID: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The index over every notAfter gives way to one over those that are still in force."""
    op.drop_index(op.f("ix_certificate_tenant_id_not_after"), table_name="certificate")
    in_force = sa.text("revoked_at IS NULL AND successor IS NULL")
    op.create_index(
        "ix_certificate_in_force", "certificate", ["tenant_id", "not_after", "serial"],
        sqlite_where=in_force, postgresql_where=in_force,
    )  # fmt: skip
    gone = sa.text("revoked_at IS NOT NULL")
    op.create_index(
        "ix_certificate_gone", "certificate", ["tenant_id", "serial"],
        sqlite_where=gone, postgresql_where=gone,
    )  # fmt: skip
    op.create_index(
        op.f("ix_audit_event_tenant_id_subject_seq"), "audit_event", ["tenant_id", "subject", "seq"]
    )
