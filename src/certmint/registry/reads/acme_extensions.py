"""Reading what ACME's extensions keep: counters, trusted hardware, self-renewing orders."""

import datetime as dt
from collections.abc import Iterable

import sqlalchemy as sa

from certmint.model.acme import AutoRenewal, Directory
from certmint.model.entities import Certificate
from certmint.model.serial import Serial
from certmint.registry import acme_rows, rows, schema
from certmint.registry.compiled import Among, Compiled
from certmint.registry.engine import Transaction
from certmint.registry.reads.askers import AnchorRow

_ANCHOR = schema.acme_anchor.c
_COUNTER = schema.acme_counter.c
_RENEWAL = schema.acme_auto_renewal.c
_RENEWED = schema.acme_renewed.c

_COUNTS = Among(sa.select(schema.acme_counter), _COUNTER.subject)
_BY_ORDER = Compiled(
    sa.select(schema.acme_auto_renewal).where(_RENEWAL.order_id == sa.bindparam("order_id"))
)
_BY_ISSUER_KEY = Compiled(
    sa.select(schema.certificate)
    .join(schema.authority, schema.authority.c.id == schema.certificate.c.authority_id)
    .where(
        schema.authority.c.key_id == sa.bindparam("key_id"),
        schema.certificate.c.serial == sa.bindparam("serial"),
    )
    .limit(1)
)
_IS_ACTIVE = sa.text("state = 'active'")  # in the words of the partial index


def acme_anchors(tx: Transaction, directory: Directory) -> list[AnchorRow]:
    """The CAs that vouch for hardware at a directory."""
    query = sa.select(schema.acme_anchor).where(
        _ANCHOR.tenant_id == directory.tenant_id, _ANCHOR.directory_id == directory.id
    )
    return [
        AnchorRow(row.format, row.fingerprint, row.der, row.added_at)
        for row in tx.execute(query.order_by(_ANCHOR.format, _ANCHOR.fingerprint))
    ]


def acme_count(tx: Transaction, subject: str, now: dt.datetime) -> tuple[int, dt.datetime]:
    """How often the subject did it in its present window, and when that ends; of any tenant."""
    return acme_counts(tx, [subject], now).get(subject, (0, now))


def acme_counts(
    tx: Transaction, subjects: Iterable[str], now: dt.datetime
) -> dict[str, tuple[int, dt.datetime]]:
    """The same for several subjects at once; one without an open window is left out."""
    found = _COUNTS.all(tx, subjects)
    return {row.subject: (row.spent, row.until) for row in found if now < row.until}


def acme_auto_renewal(tx: Transaction, order_id: str) -> AutoRenewal | None:
    """How an order renews itself, if it does; the caller asks for the account's orders only."""
    row = _BY_ORDER.first(tx, order_id=order_id)
    return None if row is None else acme_rows.auto_renewal_of(row)


def due_acme_auto_renewals(tx: Transaction, now: dt.datetime, limit: int) -> list[AutoRenewal]:
    """Those of every tenant whose next certificate is due, the longest-due first."""
    query = (
        sa.select(schema.acme_auto_renewal)
        .where(_RENEWAL.next_at <= now, _IS_ACTIVE)
        .order_by(_RENEWAL.next_at)
        .limit(limit)
    )
    return [acme_rows.auto_renewal_of(row) for row in tx.execute(query)]


def acme_order_renewing(tx: Transaction, authority_id: str, serial: Serial) -> str | None:
    """The id of the self-renewing order that this certificate came from, of any tenant."""
    query = sa.select(_RENEWED.order_id).where(
        _RENEWED.authority_id == authority_id, _RENEWED.serial == serial
    )
    found: str | None = tx.execute(query).scalar_one_or_none()
    return found


def certificate_by_issuer_key(
    tx: Transaction, key_id_hex: str, serial: Serial
) -> Certificate | None:
    """A certificate of any tenant by its authorityKeyIdentifier (in hex) and serial (RFC 9773).

    An authority with several certificates is one issuer here: they have one key.
    """
    row = _BY_ISSUER_KEY.first(tx, key_id=key_id_hex, serial=serial)
    return None if row is None else rows.certificate_of(row)
