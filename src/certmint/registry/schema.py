"""The tables, once, for SQLite and for PostgreSQL; more are in the other `*_schema`.

Laws: what `columns` says of types, names and references; JSON documents are text that nobody
searches. A change here needs a migration beside it: a test compares the two.
"""

import sqlalchemy as sa

from certmint.model.states import AuthorityState, BatchState, DeviceState
from certmint.registry.acme_schema import (
    acme_account,
    acme_anchor,
    acme_authorization,
    acme_auto_renewal,
    acme_binding,
    acme_challenge,
    acme_counter,
    acme_directory,
    acme_nonce,
    acme_order,
    acme_order_authorization,
    acme_renewed,
    acme_replacement,
)
from certmint.registry.campaign_schema import campaign, campaign_member
from certmint.registry.columns import (
    SEQUENCE_NUMBER,
    TEXT,
    index_where,
    metadata,
    microseconds,
    moment,
    number,
    octets,
    one_of,
    optional_number,
    optional_text,
    optional_time,
    tenant,
    tenant_of_parent,
    text,
    time,
    within_tenant,
)
from certmint.registry.desk_schema import (
    api_token,
    approval,
    idempotent_answer,
    job,
    operator_identity,
    operator_session,
)
from certmint.registry.domain_schema import domain_mail
from certmint.registry.login_schema import (
    device_login,
    owner_identity,
    owner_login,
    owner_session,
)
from certmint.registry.sws_schema import sws_csr, sws_order
from certmint.registry.who_schema import (
    attestation_anchor,
    device_pairing,
    device_request,
    device_sighting,
    device_transfer,
    expected_hardware,
    label_secret,
    lockout,
)

__all__ = [
    "acme_account",
    "acme_anchor",
    "acme_authorization",
    "acme_auto_renewal",
    "acme_binding",
    "acme_challenge",
    "acme_counter",
    "acme_directory",
    "acme_nonce",
    "acme_order",
    "acme_order_authorization",
    "acme_renewed",
    "acme_replacement",
    "api_token",
    "approval",
    "attestation_anchor",
    "audit_event",
    "audit_head",
    "authority",
    "batch",
    "campaign",
    "campaign_member",
    "certificate",
    "crl",
    "device",
    "device_login",
    "device_pairing",
    "device_request",
    "device_sighting",
    "device_transfer",
    "domain_mail",
    "domain_validation",
    "expected_hardware",
    "idempotent_answer",
    "intent",
    "job",
    "label_secret",
    "lease",
    "lockout",
    "manufacturer",
    "metadata",
    "microseconds",
    "moment",
    "operator",
    "operator_identity",
    "operator_session",
    "owner",
    "owner_identity",
    "owner_login",
    "owner_session",
    "product",
    "profile",
    "public_key",
    "sws_csr",
    "sws_order",
]

manufacturer = sa.Table(
    "manufacturer",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    text("slug"),
    text("subject"),
    time("created_at"),
    sa.UniqueConstraint("slug"),
)

operator = sa.Table(
    "operator",
    metadata,
    tenant(),
    text("id"),
    text("name"),
    text("role"),
    optional_time("disabled_at"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "name"),
)

domain_validation = sa.Table(
    "domain_validation",
    metadata,
    tenant(),
    text("id"),
    text("domain"),
    text("method"),
    text("random_value"),
    text("record_name"),
    time("created_at"),
    time("expires_at"),
    optional_time("verified_at"),
    text("evidence"),
    optional_time("lapse_told_at"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.Index(None, "tenant_id", "domain"),
)

authority = sa.Table(
    "authority",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    tenant(),
    text("name"),
    text("purpose"),
    text("trust"),
    optional_text("parent_id"),
    text("subject"),
    text("key_kind"),
    octets("spki"),
    text("key_id"),  # subjectKeyIdentifier in hex: what a leaf's authorityKeyIdentifier names
    text("key_uri"),
    optional_text("constraints"),
    optional_number("path_length"),
    text("state"),
    text("status_url"),
    number("crl_shards"),
    number("crl_number"),  # the last one given out; never falls (RFC 5280 5.2.3)
    time("created_at"),
    optional_text("serial"),
    octets("der"),
    optional_time("not_before"),
    optional_time("not_after"),
    sa.UniqueConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "name"),
    within_tenant("parent_id", "authority"),
    one_of("state", AuthorityState),
    sa.Index(None, "key_id"),
)

profile = sa.Table(
    "profile",
    metadata,
    tenant(),
    text("name"),
    number("version"),
    text("document"),
    text("document_hash"),
    time("created_at"),
    sa.PrimaryKeyConstraint("tenant_id", "name", "version"),
)

product = sa.Table(
    "product",
    metadata,
    tenant_of_parent(),
    text("id"),
    text("name"),
    text("identity_authority_id"),
    text("identity_profile"),
    text("service_authority_id"),
    text("service_profile"),
    text("name_patterns"),
    text("shared_names"),
    sa.Column("renew_at", sa.Double, nullable=False),
    optional_text("accepts"),
    optional_number("grace"),  # microseconds
    optional_text("approval"),
    optional_number("channel_linking"),  # 1, or NULL
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "name"),
    within_tenant("identity_authority_id", "authority"),
    within_tenant("service_authority_id", "authority"),
)

batch = sa.Table(
    "batch",
    metadata,
    tenant_of_parent(),
    text("id"),
    text("product_id"),
    text("manifest_hash"),
    number("size"),
    text("state"),
    time("created_at"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "product_id", "manifest_hash"),
    within_tenant("product_id", "product"),
    one_of("state", BatchState),
)

owner = sa.Table(
    "owner",
    metadata,
    tenant(),
    text("id"),
    text("username"),
    text("password_hash"),
    time("created_at"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "username"),
)

device = sa.Table(
    "device",
    metadata,
    tenant_of_parent(),
    text("id"),
    text("product_id"),
    text("serial_number"),
    text("label"),
    text("mac"),
    text("state"),
    optional_text("batch_id"),
    optional_number("line"),
    optional_text("owner_id"),
    time("created_at"),
    optional_text("suspended_for"),
    optional_text("firmware"),  # as the device reported it
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "serial_number"),
    sa.UniqueConstraint("tenant_id", "product_id", "label"),
    sa.UniqueConstraint("tenant_id", "batch_id", "line"),
    within_tenant("product_id", "product"),
    within_tenant("batch_id", "batch"),
    within_tenant("owner_id", "owner"),
    one_of("state", DeviceState),
    sa.Index(None, "tenant_id", "state", "serial_number"),
    sa.Index(None, "tenant_id", "product_id", "serial_number"),
    sa.Index(None, "tenant_id", "batch_id", "state"),
    index_where(
        "ix_device_owned", "owner_id IS NOT NULL", "tenant_id", "owner_id", "serial_number"
    ),
)

public_key = sa.Table(
    "public_key",
    metadata,
    sa.Column("fingerprint", TEXT, primary_key=True),
    tenant(),
    optional_text("device_id"),
    text("origin"),
    optional_time("blocked_at"),
    time("first_seen"),
    within_tenant("device_id", "device"),
)

intent = sa.Table(
    "intent",
    metadata,
    text("authority_id"),
    text("serial"),
    tenant_of_parent(),
    text("profile"),
    number("profile_version"),
    text("purpose"),
    optional_text("device_id"),
    text("subject"),
    text("names"),
    sa.Column("key_fingerprint", TEXT, sa.ForeignKey("public_key.fingerprint"), nullable=False),
    time("not_before"),
    time("not_after"),
    number("crl_shard"),
    text("requester"),
    text("evidence"),
    text("rules"),
    text("calendar"),
    octets("tbs"),
    text("call_id"),
    time("recorded_at"),
    optional_text("replaces"),
    sa.PrimaryKeyConstraint("authority_id", "serial"),
    within_tenant("authority_id", "authority"),
    within_tenant("device_id", "device"),
    sa.CheckConstraint("length(serial) = 40", name="serial"),
    sa.Index(None, "recorded_at"),
)

certificate = sa.Table(
    "certificate",
    metadata,
    text("authority_id"),
    text("serial"),
    tenant_of_parent(),
    text("profile"),
    number("profile_version"),
    text("purpose"),
    optional_text("device_id"),
    text("subject"),
    text("names"),
    text("key_fingerprint"),
    time("not_before"),
    time("not_after"),
    number("crl_shard"),
    time("issued_at"),
    octets("der"),
    optional_time("revoked_at"),
    optional_text("revocation_reason"),
    optional_text("successor"),
    sa.PrimaryKeyConstraint("authority_id", "serial"),
    sa.ForeignKeyConstraint(["authority_id", "serial"], ["intent.authority_id", "intent.serial"]),
    sa.CheckConstraint(
        "(revoked_at IS NULL) = (revocation_reason IS NULL)", name="revocation_is_whole"
    ),
    sa.CheckConstraint("length(der) > 0 OR revoked_at IS NOT NULL", name="abandoned_is_revoked"),
    sa.Index(None, "tenant_id", "serial"),
    sa.Index(None, "tenant_id", "device_id", "serial"),
    sa.Index(None, "tenant_id", "profile", "serial"),
    index_where("ix_certificate_gone", "revoked_at IS NOT NULL", "tenant_id", "serial"),
    index_where(
        "ix_certificate_in_force",
        "revoked_at IS NULL AND successor IS NULL",
        "tenant_id",
        "not_after",
        "serial",
    ),
    # None by key: keys are random, so that index would cost more than all others together, and
    # `public_key` already leads from a key to the one device whose certificates may hold it.
    index_where(
        "ix_certificate_revoked", "revoked_at IS NOT NULL", "authority_id", "crl_shard", "serial"
    ),
)

crl = sa.Table(
    "crl",
    metadata,
    text("authority_id"),
    number("shard"),
    number("number"),
    tenant_of_parent(),
    time("this_update"),
    time("next_update"),
    octets("der"),
    sa.PrimaryKeyConstraint("authority_id", "shard", "number"),
    within_tenant("authority_id", "authority"),
)

audit_event = sa.Table(
    "audit_event",
    metadata,
    sa.Column("seq", SEQUENCE_NUMBER, primary_key=True, autoincrement=False),
    time("at"),
    sa.Column("tenant_id", TEXT, sa.ForeignKey("manufacturer.id"), nullable=True),
    text("actor"),
    text("action"),
    text("subject"),
    text("detail"),
    text("previous_hash"),
    text("hash"),
    sa.Index(None, "tenant_id", "seq"),
    sa.Index(None, "tenant_id", "subject", "seq"),
)

# One row, made by the migration: the end of the chain. Whoever writes holds it.
audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("id", SEQUENCE_NUMBER, primary_key=True, autoincrement=False),
    number("seq"),
    text("hash"),
    sa.CheckConstraint("id = 1", name="one_row"),
)

lease = sa.Table(
    "lease",
    metadata,
    sa.Column("name", TEXT, primary_key=True),
    text("holder"),
    time("until"),
)
