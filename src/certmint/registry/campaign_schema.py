"""The tables of campaigns and their members; the same laws as `schema`."""

import sqlalchemy as sa

from certmint.model.campaign import CampaignState, MemberState
from certmint.registry.columns import (
    index_where,
    metadata,
    number,
    one_of,
    optional_text,
    optional_time,
    tenant,
    tenant_of_parent,
    text,
    time,
    within_tenant,
)

campaign = sa.Table(
    "campaign",
    metadata,
    tenant(),
    text("id"),
    text("name"),
    text("selection"),
    text("kind"),
    time("starts_at"),
    time("deadline"),
    text("reason"),
    text("after_replacing"),
    number("grace"),  # microseconds
    text("at_deadline"),
    text("explanation_url"),
    text("state"),
    time("created_at"),
    text("created_by"),
    text("approved_by"),
    optional_time("begun_at"),
    text("gathered_to"),
    text("seen_to"),
    number("size"),
    number("replaced"),
    number("retired"),
    number("revoked"),
    number("missed"),
    number("gone"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    one_of("state", CampaignState),
    index_where("ix_campaign_active", "state IN ('gathering', 'running')", "state"),
)

campaign_member = sa.Table(
    "campaign_member",
    metadata,
    tenant_of_parent(),
    text("campaign_id"),
    text("authority_id"),
    text("serial"),
    optional_text("device_id"),
    text("state"),
    optional_time("settled_at"),
    optional_text("successor"),
    sa.PrimaryKeyConstraint("tenant_id", "campaign_id", "serial", "authority_id"),
    within_tenant("campaign_id", "campaign"),
    one_of("state", MemberState),
    sa.Index(None, "authority_id", "serial"),
    sa.Index(None, "tenant_id", "campaign_id", "state", "settled_at"),
    sa.Index(None, "tenant_id", "campaign_id", "device_id"),
)
