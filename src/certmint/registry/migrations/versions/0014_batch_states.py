"""An index for how many devices of a batch are in each state.

Revision ID: 0014
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Without it every count of a batch walks through the devices of all batches."""
    op.create_index(
        op.f("ix_device_tenant_id_batch_id_state"), "device", ["tenant_id", "batch_id", "state"]
    )
