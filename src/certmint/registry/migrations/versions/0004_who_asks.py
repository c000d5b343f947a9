"""Who asks: a product's policy, why a device is suspended, secrets, hardware, owners, lock-outs.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add columns that may be NULL, and tables; no row changes."""
    op.add_column("product", sa.Column("accepts", TEXT, nullable=True))
    op.add_column("product", sa.Column("grace", sa.BigInteger(), nullable=True))
    op.add_column("device", sa.Column("suspended_for", TEXT, nullable=True))
    _label_secret()
    _device_sighting()
    _expected_hardware()
    _attestation_anchor()
    _device_transfer()
    _device_pairing()
    _lockout()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False)


def _time(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=op.f(f"pk_{table}"))


def _of(table: str, column: str, parent: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", column],
        [f"{parent}.tenant_id", f"{parent}.id"],
        name=op.f(f"fk_{table}_tenant_id_{column}"),
    )


def _label_secret() -> None:
    op.create_table(
        "label_secret",
        _text("tenant_id"),
        _text("device_id"),
        _text("kind"),
        _text("mac"),
        _time("created_at"),
        sa.Column("spent_at", sa.BigInteger(), nullable=True),
        sa.Column("spent_on", TEXT, nullable=True),
        _key("label_secret", "tenant_id", "device_id", "kind"),
        _of("label_secret", "device_id", "device"),
    )


def _device_sighting() -> None:
    op.create_table(
        "device_sighting",
        _text("tenant_id"),
        _text("device_id"),
        _text("source"),
        _text("key_fingerprint"),
        _time("at"),
        _key("device_sighting", "tenant_id", "device_id"),
        _of("device_sighting", "device_id", "device"),
    )


def _expected_hardware() -> None:
    op.create_table(
        "expected_hardware",
        _text("tenant_id"),
        _text("identifier"),
        _text("device_id"),
        _time("added_at"),
        _key("expected_hardware", "tenant_id", "identifier"),
        _of("expected_hardware", "device_id", "device"),
    )
    op.create_index(
        op.f("ix_expected_hardware_tenant_id_device_id"),
        "expected_hardware",
        ["tenant_id", "device_id"],
    )


def _attestation_anchor() -> None:
    op.create_table(
        "attestation_anchor",
        _text("tenant_id"),
        _text("product_id"),
        _text("format"),
        _text("fingerprint"),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        _time("added_at"),
        _key("attestation_anchor", "tenant_id", "product_id", "format", "fingerprint"),
        _of("attestation_anchor", "product_id", "product"),
    )


def _device_transfer() -> None:
    op.create_table(
        "device_transfer",
        _text("tenant_id"),
        _text("device_id"),
        _text("from_owner_id"),
        _text("to_owner_id"),
        _time("expires_at"),
        _key("device_transfer", "tenant_id", "device_id"),
        _of("device_transfer", "device_id", "device"),
        _of("device_transfer", "from_owner_id", "owner"),
        _of("device_transfer", "to_owner_id", "owner"),
    )


def _device_pairing() -> None:
    op.create_table(
        "device_pairing",
        _text("tenant_id"),
        _text("device_id"),
        _text("owner_id"),
        _text("mac"),
        _time("expires_at"),
        _key("device_pairing", "tenant_id", "device_id", "owner_id"),
        _of("device_pairing", "device_id", "device"),
        _of("device_pairing", "owner_id", "owner"),
    )


def _lockout() -> None:
    op.create_table(
        "lockout",
        _text("subject"),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        _time("failed_at"),
        _time("until"),
        _key("lockout", "subject"),
    )
    op.create_index(op.f("ix_lockout_failed_at"), "lockout", ["failed_at"])
