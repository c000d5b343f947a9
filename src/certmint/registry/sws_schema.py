"""The tables behind orders of SWS clients; the same laws as `schema`."""

import sqlalchemy as sa

from certmint.model.sws import OrderState
from certmint.registry.columns import (
    index_where,
    metadata,
    number,
    octets,
    one_of,
    optional_time,
    tenant_of_parent,
    text,
    time,
    within_tenant,
)

sws_order = sa.Table(
    "sws_order",
    metadata,
    tenant_of_parent(),
    text("id"),
    text("operator_id"),
    text("product"),
    number("period"),
    text("authority_id"),
    text("state"),
    time("created_at"),
    number("version"),
    octets("csr"),
    text("unique_value"),
    text("names"),
    text("controls"),
    text("registrant"),
    text("contacts"),
    text("external_order_number"),
    text("server_software"),
    text("serials"),
    optional_time("begun_at"),
    optional_time("due_at"),
    number("tries"),
    text("failure"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    within_tenant("operator_id", "operator"),
    within_tenant("authority_id", "authority"),
    one_of("state", OrderState),
    sa.Index(None, "tenant_id", "created_at"),
    index_where("ix_sws_order_due", "due_at IS NOT NULL", "due_at"),
)

# A CSR with a unique value belongs to one order, for its hash is a request token (BR 1.6.1).
sws_csr = sa.Table(
    "sws_csr",
    metadata,
    tenant_of_parent(),
    text("fingerprint"),
    text("unique_value"),
    text("order_id"),
    sa.PrimaryKeyConstraint("tenant_id", "fingerprint", "unique_value"),
    within_tenant("order_id", "sws_order"),
)
