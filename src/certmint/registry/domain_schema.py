"""The table behind e-mail to domain contacts; the same laws as `schema`.

A random value is known by its hash only: who reads the database cannot answer for a contact.
"""

import sqlalchemy as sa

from certmint.model.mail import MailState
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

domain_mail = sa.Table(
    "domain_mail",
    metadata,
    tenant_of_parent(),
    text("id"),
    text("validation_id"),
    text("recipient"),
    text("applied_for"),
    text("value_hash"),
    octets("sealed"),
    text("state"),
    time("created_at"),
    time("expires_at"),
    time("due_at"),
    number("attempts"),
    text("failure"),
    optional_time("sent_at"),
    optional_time("answered_at"),
    text("source"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.UniqueConstraint("value_hash"),
    within_tenant("validation_id", "domain_validation"),
    one_of("state", MailState),
    sa.Index(None, "tenant_id", "validation_id"),
    sa.Index(None, "tenant_id", "recipient", "created_at"),
    index_where("ix_domain_mail_queued", "state = 'queued'", "due_at"),
)
