"""The first schema.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SEQUENCE_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
START_OF_THE_CHAIN = "0" * 64


def upgrade() -> None:
    """Make every table, and the end of an empty audit chain."""
    _audit_head()
    _lease()
    _manufacturer()
    _audit_event()
    _authority()
    _domain_validation()
    _operator()
    _owner()
    _profile()
    _crl()
    _product()
    _batch()
    _device()
    _public_key()
    _intent()
    _certificate()
    head = sa.table("audit_head", sa.column("id"), sa.column("seq"), sa.column("hash"))
    op.bulk_insert(head, [{"id": 1, "seq": 0, "hash": START_OF_THE_CHAIN}])


def _audit_head() -> None:
    op.create_table(
        "audit_head",
        sa.Column("id", SEQUENCE_NUMBER, autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", TEXT, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )


def _lease() -> None:
    op.create_table(
        "lease",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("holder", TEXT, nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
    )


def _manufacturer() -> None:
    op.create_table(
        "manufacturer",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("slug", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_manufacturer")),
        sa.UniqueConstraint("slug", name=op.f("uq_manufacturer_slug")),
    )


def _audit_event() -> None:
    op.create_table(
        "audit_event",
        sa.Column("seq", SEQUENCE_NUMBER, autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", TEXT, nullable=True),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("detail", TEXT, nullable=False),
        sa.Column("previous_hash", TEXT, nullable=False),
        sa.Column("hash", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["manufacturer.id"], name=op.f("fk_audit_event_tenant_id")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_event")),
    )
    op.create_index(op.f("ix_audit_event_tenant_id_seq"), "audit_event", ["tenant_id", "seq"])


def _authority() -> None:
    op.create_table(
        "authority",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("purpose", TEXT, nullable=False),
        sa.Column("trust", TEXT, nullable=False),
        sa.Column("parent_id", TEXT, nullable=True),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("key_kind", TEXT, nullable=False),
        sa.Column("spki", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("key_uri", TEXT, nullable=False),
        sa.Column("constraints", TEXT, nullable=True),
        sa.Column("path_length", sa.BigInteger(), nullable=True),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("status_url", TEXT, nullable=False),
        sa.Column("crl_shards", sa.BigInteger(), nullable=False),
        sa.Column("crl_number", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("serial", TEXT, nullable=True),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=True),
        sa.Column("not_after", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'active', 'retired')", name=op.f("ck_authority_state")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "parent_id"],
            ["authority.tenant_id", "authority.id"],
            name=op.f("fk_authority_tenant_id_parent_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["manufacturer.id"], name=op.f("fk_authority_tenant_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authority")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_authority_tenant_id_id")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_authority_tenant_id_name")),
    )
    op.create_index(op.f("ix_authority_key_id"), "authority", ["key_id"])


def _domain_validation() -> None:
    op.create_table(
        "domain_validation",
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("domain", TEXT, nullable=False),
        sa.Column("method", TEXT, nullable=False),
        sa.Column("random_value", TEXT, nullable=False),
        sa.Column("record_name", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("verified_at", sa.BigInteger(), nullable=True),
        sa.Column("evidence", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["manufacturer.id"], name=op.f("fk_domain_validation_tenant_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_domain_validation")),
    )
    op.create_index(
        op.f("ix_domain_validation_tenant_id_domain"), "domain_validation", ["tenant_id", "domain"]
    )


def _operator() -> None:
    op.create_table(
        "operator",
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("token_hash", TEXT, nullable=False),
        sa.Column("token_expires_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["manufacturer.id"], name=op.f("fk_operator_tenant_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_operator")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_operator_token_hash")),
    )


def _owner() -> None:
    op.create_table(
        "owner",
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("username", TEXT, nullable=False),
        sa.Column("password_hash", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["manufacturer.id"], name=op.f("fk_owner_tenant_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_owner")),
        sa.UniqueConstraint("tenant_id", "username", name=op.f("uq_owner_tenant_id_username")),
    )


def _profile() -> None:
    op.create_table(
        "profile",
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("document", TEXT, nullable=False),
        sa.Column("document_hash", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["manufacturer.id"], name=op.f("fk_profile_tenant_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "name", "version", name=op.f("pk_profile")),
    )


def _crl() -> None:
    op.create_table(
        "crl",
        sa.Column("authority_id", TEXT, nullable=False),
        sa.Column("shard", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("this_update", sa.BigInteger(), nullable=False),
        sa.Column("next_update", sa.BigInteger(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "authority_id"],
            ["authority.tenant_id", "authority.id"],
            name=op.f("fk_crl_tenant_id_authority_id"),
        ),
        sa.PrimaryKeyConstraint("authority_id", "shard", "number", name=op.f("pk_crl")),
    )


def _product() -> None:
    op.create_table(
        "product",
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("identity_authority_id", TEXT, nullable=False),
        sa.Column("identity_profile", TEXT, nullable=False),
        sa.Column("service_authority_id", TEXT, nullable=False),
        sa.Column("service_profile", TEXT, nullable=False),
        sa.Column("name_patterns", TEXT, nullable=False),
        sa.Column("shared_names", TEXT, nullable=False),
        sa.Column("renew_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "identity_authority_id"],
            ["authority.tenant_id", "authority.id"],
            name=op.f("fk_product_tenant_id_identity_authority_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "service_authority_id"],
            ["authority.tenant_id", "authority.id"],
            name=op.f("fk_product_tenant_id_service_authority_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_product")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_product_tenant_id_name")),
    )


def _batch() -> None:
    op.create_table(
        "batch",
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("product_id", TEXT, nullable=False),
        sa.Column("manifest_hash", TEXT, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('draft', 'running', 'finished', 'failed')", name=op.f("ck_batch_state")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "product_id"],
            ["product.tenant_id", "product.id"],
            name=op.f("fk_batch_tenant_id_product_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_batch")),
        sa.UniqueConstraint(
            "tenant_id",
            "product_id",
            "manifest_hash",
            name=op.f("uq_batch_tenant_id_product_id_manifest_hash"),
        ),
    )


def _device() -> None:
    op.create_table(
        "device",
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("product_id", TEXT, nullable=False),
        sa.Column("serial_number", TEXT, nullable=False),
        sa.Column("label", TEXT, nullable=False),
        sa.Column("mac", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("batch_id", TEXT, nullable=True),
        sa.Column("line", sa.BigInteger(), nullable=True),
        sa.Column("owner_id", TEXT, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('expected', 'provisioned', 'active', 'suspended', 'retired')",
            name=op.f("ck_device_state"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "batch_id"],
            ["batch.tenant_id", "batch.id"],
            name=op.f("fk_device_tenant_id_batch_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "owner_id"],
            ["owner.tenant_id", "owner.id"],
            name=op.f("fk_device_tenant_id_owner_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "product_id"],
            ["product.tenant_id", "product.id"],
            name=op.f("fk_device_tenant_id_product_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_device")),
        sa.UniqueConstraint(
            "tenant_id", "batch_id", "line", name=op.f("uq_device_tenant_id_batch_id_line")
        ),
        sa.UniqueConstraint(
            "tenant_id", "product_id", "label", name=op.f("uq_device_tenant_id_product_id_label")
        ),
        sa.UniqueConstraint(
            "tenant_id", "serial_number", name=op.f("uq_device_tenant_id_serial_number")
        ),
    )
    op.create_index(
        op.f("ix_device_tenant_id_state_serial_number"),
        "device",
        ["tenant_id", "state", "serial_number"],
    )


def _public_key() -> None:
    op.create_table(
        "public_key",
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("device_id", TEXT, nullable=True),
        sa.Column("origin", TEXT, nullable=False),
        sa.Column("blocked_at", sa.BigInteger(), nullable=True),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "device_id"],
            ["device.tenant_id", "device.id"],
            name=op.f("fk_public_key_tenant_id_device_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["manufacturer.id"], name=op.f("fk_public_key_tenant_id")
        ),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_public_key")),
    )


def _intent() -> None:
    op.create_table(
        "intent",
        sa.Column("authority_id", TEXT, nullable=False),
        sa.Column("serial", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("profile", TEXT, nullable=False),
        sa.Column("profile_version", sa.BigInteger(), nullable=False),
        sa.Column("purpose", TEXT, nullable=False),
        sa.Column("device_id", TEXT, nullable=True),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("names", TEXT, nullable=False),
        sa.Column("key_fingerprint", TEXT, nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("crl_shard", sa.BigInteger(), nullable=False),
        sa.Column("requester", TEXT, nullable=False),
        sa.Column("evidence", TEXT, nullable=False),
        sa.Column("rules", TEXT, nullable=False),
        sa.Column("calendar", TEXT, nullable=False),
        sa.Column("tbs", sa.LargeBinary(), nullable=False),
        sa.Column("call_id", TEXT, nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("replaces", TEXT, nullable=True),
        sa.CheckConstraint("length(serial) = 40", name=op.f("ck_intent_serial")),
        sa.ForeignKeyConstraint(
            ["key_fingerprint"], ["public_key.fingerprint"], name=op.f("fk_intent_key_fingerprint")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "authority_id"],
            ["authority.tenant_id", "authority.id"],
            name=op.f("fk_intent_tenant_id_authority_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "device_id"],
            ["device.tenant_id", "device.id"],
            name=op.f("fk_intent_tenant_id_device_id"),
        ),
        sa.PrimaryKeyConstraint("authority_id", "serial", name=op.f("pk_intent")),
    )
    op.create_index(op.f("ix_intent_recorded_at"), "intent", ["recorded_at"])


def _certificate() -> None:
    op.create_table(
        "certificate",
        sa.Column("authority_id", TEXT, nullable=False),
        sa.Column("serial", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("profile", TEXT, nullable=False),
        sa.Column("profile_version", sa.BigInteger(), nullable=False),
        sa.Column("purpose", TEXT, nullable=False),
        sa.Column("device_id", TEXT, nullable=True),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("names", TEXT, nullable=False),
        sa.Column("key_fingerprint", TEXT, nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("crl_shard", sa.BigInteger(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revocation_reason", TEXT, nullable=True),
        sa.Column("successor", TEXT, nullable=True),
        sa.CheckConstraint(
            "(revoked_at IS NULL) = (revocation_reason IS NULL)",
            name=op.f("ck_certificate_revocation_is_whole"),
        ),
        sa.CheckConstraint(
            "length(der) > 0 OR revoked_at IS NOT NULL",
            name=op.f("ck_certificate_abandoned_is_revoked"),
        ),
        sa.ForeignKeyConstraint(
            ["authority_id", "serial"],
            ["intent.authority_id", "intent.serial"],
            name=op.f("fk_certificate_authority_id_serial"),
        ),
        sa.PrimaryKeyConstraint("authority_id", "serial", name=op.f("pk_certificate")),
    )
    op.create_index(
        "ix_certificate_revoked",
        "certificate",
        ["authority_id", "crl_shard", "serial"],
        sqlite_where=sa.text("revoked_at IS NOT NULL"),
        postgresql_where=sa.text("revoked_at IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_certificate_tenant_id_device_id_serial"),
        "certificate",
        ["tenant_id", "device_id", "serial"],
    )
    op.create_index(
        op.f("ix_certificate_tenant_id_not_after"), "certificate", ["tenant_id", "not_after"]
    )
    op.create_index(op.f("ix_certificate_tenant_id_serial"), "certificate", ["tenant_id", "serial"])
