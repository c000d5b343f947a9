"""What the tables are made of: the types of columns, the usual keys, and how things are named.

Laws: text, bytes, BIGINT and UTC microseconds only; every name is made by one convention, so
that a migration can find it; a foreign key between two rows of a tenant contains the tenant id,
so that the database itself refuses a row that would cross tenants.
"""

import datetime as dt
from enum import StrEnum
from typing import TypeAlias

import sqlalchemy as sa

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
        return to_number(value)

    def process_result_value(
        self,
        value: int | None,
        dialect: sa.Dialect,  # noqa: ARG002 - SQLAlchemy's signature
    ) -> dt.datetime | None:
        return None if value is None else moment(value)


def to_number(value: dt.datetime | None) -> int | None:
    """What a column of times holds."""
    return None if value is None else microseconds(value)


def microseconds(value: dt.datetime) -> int:
    """Microseconds from 1970 to `value`. Raises ValueError for a naive datetime."""
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone, so it names no moment")
    return (value - _EPOCH) // _MICROSECOND


def moment(value: int) -> dt.datetime:
    """The UTC datetime that `microseconds` made `value` of."""
    return _EPOCH + dt.timedelta(microseconds=value)


Constraint: TypeAlias = sa.schema.SchemaItem


def text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False)


def optional_text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=True)


def number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def optional_number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=True)


def octets(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


def time(name: str) -> sa.Column[dt.datetime]:
    return sa.Column(name, Timestamp, nullable=False)


def optional_time(name: str) -> sa.Column[dt.datetime]:
    return sa.Column(name, Timestamp, nullable=True)


def tenant() -> sa.Column[str]:
    return sa.Column("tenant_id", TEXT, sa.ForeignKey("manufacturer.id"), nullable=False)


def tenant_of_parent() -> sa.Column[str]:
    # A key into another table of the tenant vouches for it: one look-up less for each row.
    return text("tenant_id")


def within_tenant(column: str, table: str) -> Constraint:
    return sa.ForeignKeyConstraint(["tenant_id", column], [f"{table}.tenant_id", f"{table}.id"])


def one_of(column: str, states: type[StrEnum]) -> Constraint:
    names = ", ".join(f"'{state}'" for state in states)
    return sa.CheckConstraint(f"{column} IN ({names})", name=column)


def index_where(name: str, condition: str, *columns: str) -> sa.Index:
    """An index of the few rows that meet the condition; a query must say it in these words."""
    where = sa.text(condition)
    return sa.Index(name, *columns, sqlite_where=where, postgresql_where=where)
