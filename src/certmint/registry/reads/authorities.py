"""Reading authorities and their CRLs."""

from collections.abc import Sequence

import sqlalchemy as sa

from certmint.model.entities import Authority
from certmint.model.states import AuthorityState
from certmint.registry import rows, schema
from certmint.registry.compiled import Compiled
from certmint.registry.engine import Transaction

_AUTHORITY = schema.authority.c
_CRL = schema.crl.c

_BY_ID = Compiled(
    sa.select(schema.authority).where(
        _AUTHORITY.tenant_id == sa.bindparam("tenant_id"), _AUTHORITY.id == sa.bindparam("id")
    ),
    of=rows.authority_of,
    settled=(schema.authority,),
)
_BY_NAME = Compiled(
    sa.select(schema.authority).where(
        _AUTHORITY.tenant_id == sa.bindparam("tenant_id"), _AUTHORITY.name == sa.bindparam("name")
    ),
    of=rows.authority_of,
    settled=(schema.authority,),
)
_OF_TENANT = Compiled(
    sa.select(schema.authority)
    .where(_AUTHORITY.tenant_id == sa.bindparam("tenant_id"))
    .order_by(_AUTHORITY.name),
    of=rows.authority_of,
    settled=(schema.authority,),
)
_OF_ANY_TENANT = Compiled(
    sa.select(schema.authority).where(_AUTHORITY.id == sa.bindparam("id")),
    of=rows.authority_of,
    settled=(schema.authority,),
)
_BY_KEY_ID = Compiled(
    sa.select(schema.authority)
    .where(_AUTHORITY.key_id == sa.bindparam("key_id"))
    .order_by(
        (_AUTHORITY.state != sa.bindparam("active", AuthorityState.ACTIVE.value)),
        _AUTHORITY.created_at.desc(),
    )
    .limit(1),
    of=rows.authority_of,
    settled=(schema.authority,),
)
_LATEST_CRL = Compiled(
    sa.select(schema.crl)
    .where(_CRL.authority_id == sa.bindparam("authority_id"), _CRL.shard == sa.bindparam("shard"))
    .order_by(_CRL.number.desc())
    .limit(1)
)


def authority(tx: Transaction, tenant_id: str, authority_id: str) -> Authority | None:
    """An authority of the tenant by its id."""
    found: Authority | None = _BY_ID.first(tx, tenant_id=tenant_id, id=authority_id)
    return found


def authority_by_name(tx: Transaction, tenant_id: str, name: str) -> Authority | None:
    """An authority of the tenant by the name that people type."""
    found: Authority | None = _BY_NAME.first(tx, tenant_id=tenant_id, name=name)
    return found


def authority_for_status(tx: Transaction, authority_id: str) -> Authority | None:
    """An authority of any tenant: relying parties ask without saying who they are."""
    found: Authority | None = _OF_ANY_TENANT.first(tx, id=authority_id)
    return found


def authority_by_key_id(tx: Transaction, key_id_hex: str) -> Authority | None:
    """The authority of any tenant whose subjectKeyIdentifier this is, in lower-case hex.

    Of several with one key (a cross-certified one), an active one, the newest first.
    """
    found: Authority | None = _BY_KEY_ID.first(tx, key_id=key_id_hex)
    return found


def authorities(tx: Transaction, tenant_id: str) -> list[Authority]:
    """Every authority of the tenant, by name."""
    return list(known_authorities(tx, tenant_id))


def known_authorities(tx: Transaction, tenant_id: str) -> Sequence[Authority]:
    """The same; the very same object while the event loop knows that nothing has changed."""
    found: Sequence[Authority] = _OF_TENANT.all(tx, tenant_id=tenant_id)
    return found


def all_authorities(tx: Transaction) -> list[Authority]:
    """Every authority of every tenant, for the jobs that keep their status fresh."""
    query = sa.select(schema.authority).order_by(_AUTHORITY.tenant_id, _AUTHORITY.name)
    return [rows.authority_of(row) for row in tx.execute(query)]


def latest_crl(tx: Transaction, authority_id: str, shard: int) -> rows.CRLRow | None:
    """The CRL with the highest number of one shard, of any tenant."""
    row = _LATEST_CRL.first(tx, authority_id=authority_id, shard=shard)
    return None if row is None else rows.crl_of(row)
