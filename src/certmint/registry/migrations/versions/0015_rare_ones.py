"""Indexes for the few among many: certificates of a rare profile, devices of a rare product.

Revision ID: 0015
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Without them a page of ten rows would be looked for among all rows of the tenant."""
    for table, *columns in (
        ("certificate", "tenant_id", "profile", "serial"),
        ("device", "tenant_id", "product_id", "serial_number"),
    ):
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, columns)
