"""The tables of ACME.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables; nothing that was there changes."""
    _directory()
    _binding()
    _account()
    _order()
    _authorization()
    _order_authorization()
    _challenge()
    _nonce()


def _directory() -> None:
    op.create_table(
        "acme_directory",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("authority_id", TEXT, nullable=False),
        sa.Column("profiles", TEXT, nullable=False),
        sa.Column("requires_binding", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "authority_id"],
            ["authority.tenant_id", "authority.id"],
            name=op.f("fk_acme_directory_tenant_id_authority_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_acme_directory")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_acme_directory_tenant_id_id")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_acme_directory_tenant_id_name")),
    )


def _binding() -> None:
    op.create_table(
        "acme_binding",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("directory_id", TEXT, nullable=False),
        sa.Column("product_id", TEXT, nullable=True),
        sa.Column("device_id", TEXT, nullable=True),
        sa.Column("is_reusable", sa.BigInteger(), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("account_id", TEXT, nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "device_id"],
            ["device.tenant_id", "device.id"],
            name=op.f("fk_acme_binding_tenant_id_device_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "directory_id"],
            ["acme_directory.tenant_id", "acme_directory.id"],
            name=op.f("fk_acme_binding_tenant_id_directory_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "product_id"],
            ["product.tenant_id", "product.id"],
            name=op.f("fk_acme_binding_tenant_id_product_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_acme_binding")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_acme_binding_tenant_id_id")),
    )


def _account() -> None:
    op.create_table(
        "acme_account",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("directory_id", TEXT, nullable=False),
        sa.Column("thumbprint", TEXT, nullable=False),
        sa.Column("jwk", TEXT, nullable=False),
        sa.Column("contacts", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("binding_id", TEXT, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('valid', 'deactivated', 'revoked')", name=op.f("ck_acme_account_state")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "binding_id"],
            ["acme_binding.tenant_id", "acme_binding.id"],
            name=op.f("fk_acme_account_tenant_id_binding_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "directory_id"],
            ["acme_directory.tenant_id", "acme_directory.id"],
            name=op.f("fk_acme_account_tenant_id_directory_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_acme_account")),
        sa.UniqueConstraint(
            "directory_id", "thumbprint", name=op.f("uq_acme_account_directory_id_thumbprint")
        ),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_acme_account_tenant_id_id")),
    )


def _order() -> None:
    op.create_table(
        "acme_order",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("directory_id", TEXT, nullable=False),
        sa.Column("profile", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("identifiers", TEXT, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", sa.BigInteger(), nullable=False),
        sa.Column("replaces", TEXT, nullable=True),
        sa.Column("error", TEXT, nullable=False),
        sa.Column("authority_id", TEXT, nullable=True),
        sa.Column("serial", TEXT, nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'ready', 'processing', 'valid', 'invalid')",
            name=op.f("ck_acme_order_state"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"],
            ["acme_account.tenant_id", "acme_account.id"],
            name=op.f("fk_acme_order_tenant_id_account_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "authority_id"],
            ["authority.tenant_id", "authority.id"],
            name=op.f("fk_acme_order_tenant_id_authority_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "directory_id"],
            ["acme_directory.tenant_id", "acme_directory.id"],
            name=op.f("fk_acme_order_tenant_id_directory_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_acme_order")),
        sa.UniqueConstraint(
            "tenant_id", "account_id", "id", name=op.f("uq_acme_order_tenant_id_account_id_id")
        ),
    )
    op.create_index(
        op.f("ix_acme_order_account_id_created_at_id"),
        "acme_order",
        ["account_id", "created_at", "id"],
    )
    _index_where(
        "ix_acme_order_pending", "acme_order", "state = 'pending'", ["account_id", "expires_at"]
    )
    _index_where("ix_acme_order_processing", "acme_order", "state = 'processing'", ["moved_at"])
    _index_where(
        "ix_acme_order_serial", "acme_order", "serial IS NOT NULL", ["tenant_id", "serial"]
    )


def _authorization() -> None:
    op.create_table(
        "acme_authorization",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("identifier_type", TEXT, nullable=False),
        sa.Column("identifier", TEXT, nullable=False),
        sa.Column("is_wildcard", sa.BigInteger(), nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("evidence", TEXT, nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'valid', 'invalid', 'deactivated', 'revoked')",
            name=op.f("ck_acme_authorization_state"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"],
            ["acme_account.tenant_id", "acme_account.id"],
            name=op.f("fk_acme_authorization_tenant_id_account_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_acme_authorization")),
        sa.UniqueConstraint(
            "tenant_id",
            "account_id",
            "id",
            name=op.f("uq_acme_authorization_tenant_id_account_id_id"),
        ),
    )
    op.create_index(
        op.f("ix_acme_authorization_account_id_identifier_state_expires_at"),
        "acme_authorization",
        ["account_id", "identifier", "state", "expires_at"],
    )


def _order_authorization() -> None:
    op.create_table(
        "acme_order_authorization",
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("order_id", TEXT, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("authorization_id", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id", "authorization_id"],
            [
                "acme_authorization.tenant_id",
                "acme_authorization.account_id",
                "acme_authorization.id",
            ],
            name=op.f("fk_acme_order_authorization_authorization_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id", "order_id"],
            ["acme_order.tenant_id", "acme_order.account_id", "acme_order.id"],
            name=op.f("fk_acme_order_authorization_order_id"),
        ),
        sa.PrimaryKeyConstraint("order_id", "position", name=op.f("pk_acme_order_authorization")),
    )
    op.create_index(
        op.f("ix_acme_order_authorization_authorization_id"),
        "acme_order_authorization",
        ["authorization_id"],
    )


def _challenge() -> None:
    op.create_table(
        "acme_challenge",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("authorization_id", TEXT, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("token", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("moved_at", sa.BigInteger(), nullable=False),
        sa.Column("validated_at", sa.BigInteger(), nullable=True),
        sa.Column("error", TEXT, nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'processing', 'valid', 'invalid')",
            name=op.f("ck_acme_challenge_state"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id", "authorization_id"],
            [
                "acme_authorization.tenant_id",
                "acme_authorization.account_id",
                "acme_authorization.id",
            ],
            name=op.f("fk_acme_challenge_authorization_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_acme_challenge")),
        sa.UniqueConstraint(
            "authorization_id", "position", name=op.f("uq_acme_challenge_authorization_id_position")
        ),
    )
    _index_where(
        "ix_acme_challenge_processing", "acme_challenge", "state = 'processing'", ["moved_at"]
    )


def _nonce() -> None:
    op.create_table(
        "acme_nonce",
        sa.Column("nonce", TEXT, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_acme_nonce")),
    )
    op.create_index(op.f("ix_acme_nonce_expires_at"), "acme_nonce", ["expires_at"])


def _index_where(name: str, table: str, condition: str, columns: list[str]) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
