"""The tables of the operators' desk: tokens, sessions, approvals, jobs, answers given before.

The same laws as `schema`.
"""

import sqlalchemy as sa

from certmint.model.desk import ApprovalState, JobState
from certmint.registry.columns import (
    metadata,
    number,
    octets,
    one_of,
    optional_text,
    optional_time,
    tenant_of_parent,
    text,
    time,
    within_tenant,
)

api_token = sa.Table(
    "api_token",
    metadata,
    tenant_of_parent(),
    text("id"),
    text("operator_id"),
    text("name"),
    text("token_hash"),
    optional_text("scopes"),  # with spaces between; none: all that the role has
    time("created_at"),
    time("expires_at"),
    optional_time("revoked_at"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.UniqueConstraint("token_hash"),
    within_tenant("operator_id", "operator"),
    sa.Index(None, "tenant_id", "operator_id"),
)

operator_session = sa.Table(
    "operator_session",
    metadata,
    tenant_of_parent(),
    text("token_hash"),
    text("operator_id"),
    optional_text("scopes"),
    time("begun_at"),
    time("expires_at"),
    sa.PrimaryKeyConstraint("token_hash"),
    within_tenant("operator_id", "operator"),
    sa.Index(None, "tenant_id", "operator_id", "begun_at"),
)

# Who somebody is at the manufacturer's OpenID provider, and which operator that is here.
operator_identity = sa.Table(
    "operator_identity",
    metadata,
    tenant_of_parent(),
    text("issuer"),
    text("subject"),
    text("operator_id"),
    time("linked_at"),
    sa.PrimaryKeyConstraint("tenant_id", "issuer", "subject"),
    within_tenant("operator_id", "operator"),
    sa.Index(None, "tenant_id", "operator_id"),
)

approval = sa.Table(
    "approval",
    metadata,
    tenant_of_parent(),
    text("id"),
    text("operation"),
    text("summary"),
    text("document"),
    text("requested_by"),
    time("requested_at"),
    time("expires_at"),
    text("state"),
    optional_text("decided_by"),
    optional_time("decided_at"),
    text("outcome"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    within_tenant("requested_by", "operator"),
    within_tenant("decided_by", "operator"),
    one_of("state", ApprovalState),
    sa.Index(None, "tenant_id", "state", "id"),
)

job = sa.Table(
    "job",
    metadata,
    tenant_of_parent(),
    text("id"),
    text("kind"),
    text("document"),
    text("requested_by"),
    time("created_at"),
    text("state"),
    number("total"),
    number("done"),
    text("outcome"),
    optional_time("finished_at"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    within_tenant("requested_by", "operator"),
    one_of("state", JobState),
    sa.Index(None, "state", "id"),
)

# What an Idempotency-Key was answered with. No status: the work is under way, or its node died.
idempotent_answer = sa.Table(
    "idempotent_answer",
    metadata,
    tenant_of_parent(),
    text("operator_id"),
    text("key"),
    text("request_hash"),
    time("begun_at"),
    number("status"),  # 0 until there is one
    text("location"),
    octets("body"),
    sa.PrimaryKeyConstraint("tenant_id", "operator_id", "key"),
    within_tenant("operator_id", "operator"),
    sa.Index(None, "begun_at"),
)
