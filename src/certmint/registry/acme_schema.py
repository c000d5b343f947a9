"""The tables of ACME (RFC 8555 section 7.1): what an account may see hangs below its row.

Laws: those of `columns`; an id names one row in the whole database, since a door has only the id
from the URL; a reference between what belongs to an account contains the account, so that the
database itself refuses an order that would use another account's authorization.
"""

import sqlalchemy as sa

from certmint.model.acme import (
    AccountState,
    AuthorizationState,
    AutoRenewalState,
    ChallengeState,
    OrderState,
)
from certmint.registry.columns import (
    TEXT,
    Constraint,
    index_where,
    metadata,
    number,
    octets,
    one_of,
    optional_number,
    optional_text,
    optional_time,
    tenant_of_parent,
    text,
    time,
    within_tenant,
)


def _id() -> sa.Column[str]:
    return sa.Column("id", TEXT, primary_key=True)


def _within_account(table: str, column: str, parent: str) -> Constraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", "account_id", column],
        [f"{parent}.tenant_id", f"{parent}.account_id", f"{parent}.id"],
        name=f"fk_{table}_{column}",  # the convention's would be cut at PostgreSQL's 63 letters
    )


acme_directory = sa.Table(
    "acme_directory",
    metadata,
    _id(),
    tenant_of_parent(),
    text("name"),
    text("authority_id"),
    text("profiles"),
    number("requires_binding"),
    time("created_at"),
    optional_text("offer"),  # what else it offers and asks for; NULL is the defaults
    sa.UniqueConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "name"),
    within_tenant("authority_id", "authority"),
)

acme_binding = sa.Table(
    "acme_binding",
    metadata,
    _id(),
    tenant_of_parent(),
    text("directory_id"),
    optional_text("product_id"),
    optional_text("device_id"),
    number("is_reusable"),
    octets("sealed_key"),
    time("expires_at"),
    time("created_at"),
    optional_text("account_id"),  # no reference: the account refers to the binding already
    optional_time("revoked_at"),
    sa.UniqueConstraint("tenant_id", "id"),
    within_tenant("directory_id", "acme_directory"),
    within_tenant("product_id", "product"),
    within_tenant("device_id", "device"),
)

acme_account = sa.Table(
    "acme_account",
    metadata,
    _id(),
    tenant_of_parent(),
    text("directory_id"),
    text("thumbprint"),
    text("jwk"),
    text("contacts"),
    text("state"),
    optional_text("binding_id"),
    time("created_at"),
    optional_text("agreed_terms"),
    optional_text("external_binding"),
    sa.UniqueConstraint("tenant_id", "id"),
    sa.UniqueConstraint("directory_id", "thumbprint"),
    within_tenant("directory_id", "acme_directory"),
    within_tenant("binding_id", "acme_binding"),
    one_of("state", AccountState),
)

acme_order = sa.Table(
    "acme_order",
    metadata,
    _id(),
    tenant_of_parent(),
    text("account_id"),
    text("directory_id"),
    text("profile"),
    text("state"),
    text("identifiers"),
    time("expires_at"),
    time("created_at"),
    time("moved_at"),
    optional_text("replaces"),
    text("error"),
    optional_text("authority_id"),
    optional_text("serial"),
    sa.UniqueConstraint("tenant_id", "account_id", "id"),
    within_tenant("account_id", "acme_account"),
    within_tenant("directory_id", "acme_directory"),
    within_tenant("authority_id", "authority"),
    one_of("state", OrderState),
    sa.Index(None, "account_id", "created_at", "id"),
    index_where("ix_acme_order_pending", "state = 'pending'", "account_id", "expires_at"),
    index_where("ix_acme_order_processing", "state = 'processing'", "moved_at"),
    index_where("ix_acme_order_serial", "serial IS NOT NULL", "tenant_id", "serial"),
)

acme_authorization = sa.Table(
    "acme_authorization",
    metadata,
    _id(),
    tenant_of_parent(),
    text("account_id"),
    text("identifier_type"),
    text("identifier"),
    number("is_wildcard"),
    text("state"),
    time("expires_at"),
    time("created_at"),
    text("evidence"),
    optional_number("covers_subdomains"),
    sa.UniqueConstraint("tenant_id", "account_id", "id"),
    within_tenant("account_id", "acme_account"),
    one_of("state", AuthorizationState),
    # The state before the expiry: those that failed, or are over, must not be walked through.
    sa.Index(None, "account_id", "identifier", "state", "expires_at"),
)

acme_order_authorization = sa.Table(
    "acme_order_authorization",
    metadata,
    tenant_of_parent(),
    text("account_id"),
    text("order_id"),
    number("position"),
    text("authorization_id"),
    sa.PrimaryKeyConstraint("order_id", "position"),
    _within_account("acme_order_authorization", "order_id", "acme_order"),
    _within_account("acme_order_authorization", "authorization_id", "acme_authorization"),
    sa.Index(None, "authorization_id"),
)

acme_challenge = sa.Table(
    "acme_challenge",
    metadata,
    _id(),
    tenant_of_parent(),
    text("account_id"),
    text("authorization_id"),
    number("position"),
    text("type"),
    text("token"),
    text("state"),
    time("moved_at"),
    optional_time("validated_at"),
    text("error"),
    sa.UniqueConstraint("authorization_id", "position"),
    _within_account("acme_challenge", "authorization_id", "acme_authorization"),
    one_of("state", ChallengeState),
    index_where("ix_acme_challenge_processing", "state = 'processing'", "moved_at"),
)

# Of no tenant: the nonces that were used, until they would have expired anyway.
acme_nonce = sa.Table(
    "acme_nonce",
    metadata,
    sa.Column("nonce", TEXT, primary_key=True),
    time("expires_at"),
    sa.Index(None, "expires_at"),
)

# Of no tenant too: how often a subject did something in its present window of time.
acme_counter = sa.Table(
    "acme_counter",
    metadata,
    sa.Column("subject", TEXT, primary_key=True),
    number("spent"),
    time("until"),
    sa.Index(None, "until"),
)

# Which order is to replace a certificate (RFC 9773 5); an order that failed makes room.
acme_replacement = sa.Table(
    "acme_replacement",
    metadata,
    tenant_of_parent(),
    text("account_id"),
    text("authority_id"),
    text("serial"),
    text("order_id"),
    sa.PrimaryKeyConstraint("authority_id", "serial"),
    _within_account("acme_replacement", "order_id", "acme_order"),
)

acme_auto_renewal = sa.Table(
    "acme_auto_renewal",
    metadata,
    sa.Column("order_id", TEXT, primary_key=True),
    tenant_of_parent(),
    text("account_id"),
    text("state"),
    time("ends_at"),
    number("lifetime"),  # seconds, like the next one
    number("adjust"),
    number("allows_get"),
    octets("csr"),
    optional_time("began_at"),
    optional_time("next_at"),
    optional_text("authority_id"),
    optional_text("serial"),
    _within_account("acme_auto_renewal", "order_id", "acme_order"),
    one_of("state", AutoRenewalState),
    index_where("ix_acme_auto_renewal_next_at", "state = 'active'", "next_at"),
)

# The CAs that vouch for hardware at a directory (draft-ietf-acme-device-attest).
acme_anchor = sa.Table(
    "acme_anchor",
    metadata,
    tenant_of_parent(),
    text("directory_id"),
    text("format"),
    text("fingerprint"),
    octets("der"),
    time("added_at"),
    sa.PrimaryKeyConstraint("tenant_id", "directory_id", "format", "fingerprint"),
    within_tenant("directory_id", "acme_directory"),
)

# Every certificate that a self-renewing order brought: none of them is revoked (RFC 8739 3.1.2).
acme_renewed = sa.Table(
    "acme_renewed",
    metadata,
    tenant_of_parent(),
    text("account_id"),
    text("authority_id"),
    text("serial"),
    text("order_id"),
    sa.PrimaryKeyConstraint("authority_id", "serial"),
    _within_account("acme_renewed", "order_id", "acme_order"),
)
