"""The tables, once, for SQLite and for PostgreSQL.

Laws: text, bytes, BIGINT and UTC microseconds only; every name is made by one convention, so
that a migration can find it; a foreign key between two rows of a tenant contains the tenant id,
so that the database itself refuses a row that would cross tenants; JSON documents are text that
nobody searches. A change here needs a migration beside it: a test compares the two.
"""

import datetime as dt
from enum import StrEnum
from typing import TypeAlias

import sqlalchemy as sa

from certmint.model.states import AuthorityState, BatchState, DeviceState

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# Byte order on both: a PostgreSQL collation may change with the operating system, and then every
# index over text is silently wrong.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

# SQLite alone needs INTEGER here, for then the key is the row id and no second index exists.
SEQUENCE_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class Timestamp(sa.types.TypeDecorator[dt.datetime]):
    """An aware datetime as microseconds since 1970 in UTC; holds 99991231235959Z exactly.

    A naive datetime is refused: nobody knows which moment it means.
    """

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(
        self,
        value: dt.datetime | None,
        dialect: sa.Dialect,  # noqa: ARG002 - SQLAlchemy's signature
    ) -> int | None:
        return None if value is None else microseconds(value)

    def process_result_value(
        self,
        value: int | None,
        dialect: sa.Dialect,  # noqa: ARG002 - SQLAlchemy's signature
    ) -> dt.datetime | None:
        return None if value is None else moment(value)


def microseconds(value: dt.datetime) -> int:
    """Microseconds from 1970 to `value`. Raises ValueError for a naive datetime."""
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone, so it names no moment")
    return (value - _EPOCH) // _MICROSECOND


def moment(value: int) -> dt.datetime:
    """The UTC datetime that `microseconds` made `value` of."""
    return _EPOCH + dt.timedelta(microseconds=value)


Constraint: TypeAlias = sa.schema.SchemaItem


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False)


def _optional_text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=True)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _optional_number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=True)


def _octets(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


def _time(name: str) -> sa.Column[dt.datetime]:
    return sa.Column(name, Timestamp, nullable=False)


def _optional_time(name: str) -> sa.Column[dt.datetime]:
    return sa.Column(name, Timestamp, nullable=True)


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant_id", TEXT, sa.ForeignKey("manufacturer.id"), nullable=False)


def _tenant_of_parent() -> sa.Column[str]:
    # A key into another table of the tenant vouches for it: one look-up less for each row.
    return _text("tenant_id")


def _within_tenant(column: str, table: str) -> Constraint:
    return sa.ForeignKeyConstraint(["tenant_id", column], [f"{table}.tenant_id", f"{table}.id"])


def _one_of(column: str, states: type[StrEnum]) -> Constraint:
    names = ", ".join(f"'{state}'" for state in states)
    return sa.CheckConstraint(f"{column} IN ({names})", name=column)


manufacturer = sa.Table(
    "manufacturer",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    _text("slug"),
    _text("subject"),
    _time("created_at"),
    sa.UniqueConstraint("slug"),
)

operator = sa.Table(
    "operator",
    metadata,
    _tenant(),
    _text("id"),
    _text("name"),
    _text("role"),
    _text("token_hash"),
    _time("token_expires_at"),
    _optional_time("disabled_at"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.UniqueConstraint("token_hash"),
)

domain_validation = sa.Table(
    "domain_validation",
    metadata,
    _tenant(),
    _text("id"),
    _text("domain"),
    _text("method"),
    _text("random_value"),
    _text("record_name"),
    _time("created_at"),
    _time("expires_at"),
    _optional_time("verified_at"),
    _text("evidence"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.Index(None, "tenant_id", "domain"),
)

authority = sa.Table(
    "authority",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    _tenant(),
    _text("name"),
    _text("purpose"),
    _text("trust"),
    _optional_text("parent_id"),
    _text("subject"),
    _text("key_kind"),
    _octets("spki"),
    _text("key_id"),  # subjectKeyIdentifier in hex: what a leaf's authorityKeyIdentifier names
    _text("key_uri"),
    _optional_text("constraints"),
    _optional_number("path_length"),
    _text("state"),
    _text("status_url"),
    _number("crl_shards"),
    _number("crl_number"),  # the last one given out; never falls (RFC 5280 5.2.3)
    _time("created_at"),
    _optional_text("serial"),
    _octets("der"),
    _optional_time("not_before"),
    _optional_time("not_after"),
    sa.UniqueConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "name"),
    _within_tenant("parent_id", "authority"),
    _one_of("state", AuthorityState),
    sa.Index(None, "key_id"),
)

profile = sa.Table(
    "profile",
    metadata,
    _tenant(),
    _text("name"),
    _number("version"),
    _text("document"),
    _text("document_hash"),
    _time("created_at"),
    sa.PrimaryKeyConstraint("tenant_id", "name", "version"),
)

product = sa.Table(
    "product",
    metadata,
    _tenant_of_parent(),
    _text("id"),
    _text("name"),
    _text("identity_authority_id"),
    _text("identity_profile"),
    _text("service_authority_id"),
    _text("service_profile"),
    _text("name_patterns"),
    _text("shared_names"),
    sa.Column("renew_at", sa.Double, nullable=False),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "name"),
    _within_tenant("identity_authority_id", "authority"),
    _within_tenant("service_authority_id", "authority"),
)

batch = sa.Table(
    "batch",
    metadata,
    _tenant_of_parent(),
    _text("id"),
    _text("product_id"),
    _text("manifest_hash"),
    _number("size"),
    _text("state"),
    _time("created_at"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "product_id", "manifest_hash"),
    _within_tenant("product_id", "product"),
    _one_of("state", BatchState),
)

owner = sa.Table(
    "owner",
    metadata,
    _tenant(),
    _text("id"),
    _text("username"),
    _text("password_hash"),
    _time("created_at"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "username"),
)

device = sa.Table(
    "device",
    metadata,
    _tenant_of_parent(),
    _text("id"),
    _text("product_id"),
    _text("serial_number"),
    _text("label"),
    _text("mac"),
    _text("state"),
    _optional_text("batch_id"),
    _optional_number("line"),
    _optional_text("owner_id"),
    _time("created_at"),
    sa.PrimaryKeyConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "serial_number"),
    sa.UniqueConstraint("tenant_id", "product_id", "label"),
    sa.UniqueConstraint("tenant_id", "batch_id", "line"),
    _within_tenant("product_id", "product"),
    _within_tenant("batch_id", "batch"),
    _within_tenant("owner_id", "owner"),
    _one_of("state", DeviceState),
    sa.Index(None, "tenant_id", "state", "serial_number"),
)

public_key = sa.Table(
    "public_key",
    metadata,
    sa.Column("fingerprint", TEXT, primary_key=True),
    _tenant(),
    _optional_text("device_id"),
    _text("origin"),
    _optional_time("blocked_at"),
    _time("first_seen"),
    _within_tenant("device_id", "device"),
)

intent = sa.Table(
    "intent",
    metadata,
    _text("authority_id"),
    _text("serial"),
    _tenant_of_parent(),
    _text("profile"),
    _number("profile_version"),
    _text("purpose"),
    _optional_text("device_id"),
    _text("subject"),
    _text("names"),
    sa.Column("key_fingerprint", TEXT, sa.ForeignKey("public_key.fingerprint"), nullable=False),
    _time("not_before"),
    _time("not_after"),
    _number("crl_shard"),
    _text("requester"),
    _text("evidence"),
    _text("rules"),
    _text("calendar"),
    _octets("tbs"),
    _text("call_id"),
    _time("recorded_at"),
    _optional_text("replaces"),
    sa.PrimaryKeyConstraint("authority_id", "serial"),
    _within_tenant("authority_id", "authority"),
    _within_tenant("device_id", "device"),
    sa.CheckConstraint("length(serial) = 40", name="serial"),
    sa.Index(None, "recorded_at"),
)

certificate = sa.Table(
    "certificate",
    metadata,
    _text("authority_id"),
    _text("serial"),
    _tenant_of_parent(),
    _text("profile"),
    _number("profile_version"),
    _text("purpose"),
    _optional_text("device_id"),
    _text("subject"),
    _text("names"),
    _text("key_fingerprint"),
    _time("not_before"),
    _time("not_after"),
    _number("crl_shard"),
    _time("issued_at"),
    _octets("der"),
    _optional_time("revoked_at"),
    _optional_text("revocation_reason"),
    _optional_text("successor"),
    sa.PrimaryKeyConstraint("authority_id", "serial"),
    sa.ForeignKeyConstraint(["authority_id", "serial"], ["intent.authority_id", "intent.serial"]),
    sa.CheckConstraint(
        "(revoked_at IS NULL) = (revocation_reason IS NULL)", name="revocation_is_whole"
    ),
    sa.CheckConstraint("length(der) > 0 OR revoked_at IS NOT NULL", name="abandoned_is_revoked"),
    sa.Index(None, "tenant_id", "serial"),
    sa.Index(None, "tenant_id", "device_id", "serial"),
    sa.Index(None, "tenant_id", "not_after"),
    # None by key: keys are random, so that index would cost more than all others together, and
    # `public_key` already leads from a key to the one device whose certificates may hold it.
    sa.Index(
        "ix_certificate_revoked",
        "authority_id",
        "crl_shard",
        "serial",
        sqlite_where=sa.text("revoked_at IS NOT NULL"),
        postgresql_where=sa.text("revoked_at IS NOT NULL"),
    ),
)

crl = sa.Table(
    "crl",
    metadata,
    _text("authority_id"),
    _number("shard"),
    _number("number"),
    _tenant_of_parent(),
    _time("this_update"),
    _time("next_update"),
    _octets("der"),
    sa.PrimaryKeyConstraint("authority_id", "shard", "number"),
    _within_tenant("authority_id", "authority"),
)

audit_event = sa.Table(
    "audit_event",
    metadata,
    sa.Column("seq", SEQUENCE_NUMBER, primary_key=True, autoincrement=False),
    _time("at"),
    sa.Column("tenant_id", TEXT, sa.ForeignKey("manufacturer.id"), nullable=True),
    _text("actor"),
    _text("action"),
    _text("subject"),
    _text("detail"),
    _text("previous_hash"),
    _text("hash"),
    sa.Index(None, "tenant_id", "seq"),
)

# One row, made by the migration: the end of the chain. Whoever writes holds it.
audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("id", SEQUENCE_NUMBER, primary_key=True, autoincrement=False),
    _number("seq"),
    _text("hash"),
    sa.CheckConstraint("id = 1", name="one_row"),
)

lease = sa.Table(
    "lease",
    metadata,
    sa.Column("name", TEXT, primary_key=True),
    _text("holder"),
    _time("until"),
)
