"""The tables behind the question who asks: secrets, sightings, hardware, lock-outs, requests.

The same laws as `schema`; every row of a device goes with its tenant. `lockout` belongs to nobody:
its subjects are digests, so that it does not tell who tried what.
"""

import sqlalchemy as sa

from certmint.model.states import RequestState
from certmint.registry.columns import (
    TEXT,
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

# What is printed on a label, by kind: the enrolment secret, and the code to claim the device by.
label_secret = sa.Table(
    "label_secret",
    metadata,
    tenant_of_parent(),
    text("device_id"),
    text("kind"),
    text("mac"),
    time("created_at"),
    optional_time("spent_at"),
    optional_text("spent_on"),  # serial of the certificate that it bought
    sa.PrimaryKeyConstraint("tenant_id", "device_id", "kind"),
    within_tenant("device_id", "device"),
)

device_sighting = sa.Table(
    "device_sighting",
    metadata,
    tenant_of_parent(),
    text("device_id"),
    text("source"),
    text("key_fingerprint"),
    time("at"),
    sa.PrimaryKeyConstraint("tenant_id", "device_id"),
    within_tenant("device_id", "device"),
)

# A hardware identity belongs to one device of its maker; a device may have several.
expected_hardware = sa.Table(
    "expected_hardware",
    metadata,
    tenant_of_parent(),
    text("identifier"),
    text("device_id"),
    time("added_at"),
    sa.PrimaryKeyConstraint("tenant_id", "identifier"),
    within_tenant("device_id", "device"),
    sa.Index(None, "tenant_id", "device_id"),
)

attestation_anchor = sa.Table(
    "attestation_anchor",
    metadata,
    tenant_of_parent(),
    text("product_id"),
    text("format"),
    text("fingerprint"),
    octets("der"),
    time("added_at"),
    sa.PrimaryKeyConstraint("tenant_id", "product_id", "format", "fingerprint"),
    within_tenant("product_id", "product"),
)

# An owner's offer to hand the device to another one.
device_transfer = sa.Table(
    "device_transfer",
    metadata,
    tenant_of_parent(),
    text("device_id"),
    text("from_owner_id"),
    text("to_owner_id"),
    time("expires_at"),
    sa.PrimaryKeyConstraint("tenant_id", "device_id"),
    within_tenant("device_id", "device"),
    sa.ForeignKeyConstraint(["tenant_id", "from_owner_id"], ["owner.tenant_id", "owner.id"]),
    sa.ForeignKeyConstraint(["tenant_id", "to_owner_id"], ["owner.tenant_id", "owner.id"]),
)

# An owner who waits for a device to name the code that the owner was shown.
device_pairing = sa.Table(
    "device_pairing",
    metadata,
    tenant_of_parent(),
    text("device_id"),
    text("owner_id"),
    text("mac"),
    time("expires_at"),
    sa.PrimaryKeyConstraint("tenant_id", "device_id", "owner_id"),
    within_tenant("device_id", "device"),
    within_tenant("owner_id", "owner"),
)

# What a device asked for and an operator decides on: one row for each device, wish and key.
device_request = sa.Table(
    "device_request",
    metadata,
    tenant_of_parent(),
    text("id"),
    text("device_id"),
    text("wish"),
    text("key_fingerprint"),
    octets("csr"),
    text("requester"),
    text("evidence"),
    text("source"),
    text("reason"),
    text("state"),
    time("created_at"),
    time("expires_at"),
    optional_text("decided_by"),
    optional_time("decided_at"),
    optional_text("serial"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "device_id", "wish", "key_fingerprint"),
    within_tenant("device_id", "device"),
    one_of("state", RequestState),
    sa.Index(None, "tenant_id", "expires_at"),
)

lockout = sa.Table(
    "lockout",
    metadata,
    sa.Column("subject", TEXT, primary_key=True),
    number("failures"),
    time("failed_at"),
    time("until"),
    sa.Index(None, "failed_at"),
)
