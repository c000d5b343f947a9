"""The tables of logins by an OpenID provider: linked identities, logins under way, sessions.

The same laws as `schema`. What is under way is bounded and ends by itself, so that it is no change
of anything and not audited: an attacker would fill the log.
"""

import sqlalchemy as sa

from certmint.registry.columns import (
    metadata,
    number,
    octets,
    optional_text,
    optional_time,
    tenant,
    tenant_of_parent,
    text,
    time,
    within_tenant,
)

# Who somebody is at a provider, and which owner that is here.
owner_identity = sa.Table(
    "owner_identity",
    metadata,
    tenant_of_parent(),
    text("issuer"),
    text("subject"),
    text("owner_id"),
    time("linked_at"),
    sa.PrimaryKeyConstraint("tenant_id", "issuer", "subject"),
    within_tenant("owner_id", "owner"),
    sa.Index(None, "tenant_id", "owner_id"),
)

# A device that waits for its owner's login elsewhere (RFC 8628): one for each device.
device_login = sa.Table(
    "device_login",
    metadata,
    tenant_of_parent(),
    text("device_id"),
    text("id"),
    text("request_hash"),
    octets("device_code"),  # encrypted
    number("interval"),  # seconds
    time("begun_at"),
    time("poll_at"),
    time("expires_at"),
    optional_text("owner_id"),
    optional_time("granted_at"),
    sa.PrimaryKeyConstraint("tenant_id", "device_id"),
    within_tenant("device_id", "device"),
    sa.ForeignKeyConstraint(["tenant_id", "owner_id"], ["owner.tenant_id", "owner.id"]),
)

# A browser that was sent to the provider. The state is known by its hash.
owner_login = sa.Table(
    "owner_login",
    metadata,
    tenant(),
    text("state_hash"),
    time("begun_at"),
    time("expires_at"),
    sa.PrimaryKeyConstraint("tenant_id", "state_hash"),
    sa.Index(None, "tenant_id", "begun_at"),
)

owner_session = sa.Table(
    "owner_session",
    metadata,
    tenant_of_parent(),
    text("token_hash"),
    text("owner_id"),
    time("begun_at"),
    time("expires_at"),
    sa.PrimaryKeyConstraint("token_hash"),
    within_tenant("owner_id", "owner"),
    sa.Index(None, "tenant_id", "owner_id", "begun_at"),
)
