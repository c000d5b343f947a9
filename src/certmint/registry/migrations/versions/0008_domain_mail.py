"""E-mail to domain contacts; when the lapse of a proof was told.

Revision ID: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add a column that may be NULL, and a table; no row changes."""
    op.add_column("domain_validation", sa.Column("lapse_told_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "domain_mail",
        _text("tenant_id"),
        _text("id"),
        _text("validation_id"),
        _text("recipient"),
        _text("applied_for"),
        _text("value_hash"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        _text("state"),
        _number("created_at"),
        _number("expires_at"),
        _number("due_at"),
        _number("attempts"),
        _text("failure"),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        _text("source"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_domain_mail")),
        sa.UniqueConstraint("value_hash", name=op.f("uq_domain_mail_value_hash")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "validation_id"],
            ["domain_validation.tenant_id", "domain_validation.id"],
            name=op.f("fk_domain_mail_tenant_id_validation_id"),
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'sent', 'failed', 'approved', 'declined')",
            name=op.f("ck_domain_mail_state"),
        ),
    )
    for columns in (["tenant_id", "validation_id"], ["tenant_id", "recipient", "created_at"]):
        op.create_index(op.f(f"ix_domain_mail_{'_'.join(columns)}"), "domain_mail", columns)
    queued = sa.text("state = 'queued'")
    op.create_index(
        "ix_domain_mail_queued",
        "domain_mail",
        ["due_at"],
        sqlite_where=queued,
        postgresql_where=queued,
    )


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)
