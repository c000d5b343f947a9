"""Campaigns and their members; the firmware that a device reports.

Revision ID: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
STATES = "'draft', 'awaiting-approval', 'gathering', 'running', 'paused', 'done', 'cancelled'"
MEMBERS = "'pending', 'replaced', 'retired', 'revoked', 'missed', 'gone'"


def upgrade() -> None:
    """Add a column that may be NULL, and tables; no row changes."""
    op.add_column("device", sa.Column("firmware", TEXT, nullable=True))
    _campaign()
    _member()


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _campaign() -> None:
    op.create_table(
        "campaign",
        _text("tenant_id"),
        _text("id"),
        _text("name"),
        _text("selection"),
        _text("kind"),
        _number("starts_at"),
        _number("deadline"),
        _text("reason"),
        _text("after_replacing"),
        _number("grace"),
        _text("at_deadline"),
        _text("explanation_url"),
        _text("state"),
        _number("created_at"),
        _text("created_by"),
        _text("approved_by"),
        _number("begun_at", nullable=True),
        _text("gathered_to"),
        _text("seen_to"),
        *map(_number, ("size", "replaced", "retired", "revoked", "missed", "gone")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_campaign")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["manufacturer.id"], name=op.f("fk_campaign_tenant_id")
        ),
        sa.CheckConstraint(f"state IN ({STATES})", name=op.f("ck_campaign_state")),
    )
    active = sa.text("state IN ('gathering', 'running')")
    op.create_index(
        "ix_campaign_active", "campaign", ["state"], sqlite_where=active, postgresql_where=active
    )


def _member() -> None:
    op.create_table(
        "campaign_member",
        _text("tenant_id"),
        _text("campaign_id"),
        _text("authority_id"),
        _text("serial"),
        _text("device_id", nullable=True),
        _text("state"),
        _number("settled_at", nullable=True),
        _text("successor", nullable=True),
        sa.PrimaryKeyConstraint(
            "tenant_id", "campaign_id", "serial", "authority_id", name=op.f("pk_campaign_member")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "campaign_id"],
            ["campaign.tenant_id", "campaign.id"],
            name=op.f("fk_campaign_member_tenant_id_campaign_id"),
        ),
        sa.CheckConstraint(f"state IN ({MEMBERS})", name=op.f("ck_campaign_member_state")),
    )
    for columns in (
        ["authority_id", "serial"],
        ["tenant_id", "campaign_id", "state", "settled_at"],
        ["tenant_id", "campaign_id", "device_id"],
    ):
        op.create_index(op.f(f"ix_campaign_member_{'_'.join(columns)}"), "campaign_member", columns)
