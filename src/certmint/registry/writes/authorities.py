"""Writing authorities and their CRLs."""

import datetime as dt
import hashlib

import sqlalchemy as sa

from certmint.model.entities import Authority
from certmint.model.errors import Conflict, NotFound, WrongState
from certmint.model.serial import Serial
from certmint.model.states import AUTHORITY, AuthorityEvent, AuthorityState, after
from certmint.registry import rows, schema
from certmint.registry.engine import Transaction
from certmint.registry.statements import add, count, log

KEPT_CRLS = 3  # of each shard: the newest, and those that caches may still compare with

_AUTHORITY = schema.authority.c
_CRL = schema.crl.c


def add_authority(tx: Transaction, authority: Authority, *, by: str, at: dt.datetime) -> None:
    """A new authority that waits for its certificate.

    Raises Conflict `authority-exists`, WrongState `wrong-state` unless it is pending.
    """
    if authority.state is not AuthorityState.PENDING:
        raise WrongState(
            "wrong-state", f"authority {authority.name!r} is {authority.state}: add it pending"
        )
    taken = Conflict("authority-exists", f"there is an authority {authority.name!r} already")
    add(tx, schema.authority, rows.authority_row(authority), taken)
    log(
        tx, "authority.added", authority.tenant_id, authority.id,
        by=by, at=at, name=authority.name, purpose=authority.purpose.value,
        trust=authority.trust.value, parent=authority.parent_id, key=authority.key.fingerprint,
    )  # fmt: skip


def certify_authority(
    tx: Transaction,
    tenant_id: str,
    authority_id: str,
    serial: Serial,
    der: bytes,
    not_before: dt.datetime,
    not_after: dt.datetime,
    *,
    by: str,
    at: dt.datetime,
) -> None:
    """A pending authority got its certificate. Raises WrongState, NotFound."""
    _move(
        tx,
        tenant_id,
        authority_id,
        AuthorityState.PENDING,
        AuthorityEvent.CERTIFIED,
        {"serial": serial, "der": der, "not_before": not_before, "not_after": not_after},
    )
    log(
        tx, "authority.certified", tenant_id, authority_id,
        by=by, at=at, serial=serial, sha256=hashlib.sha256(der).hexdigest(),
    )  # fmt: skip


def retire_authority(
    tx: Transaction, tenant_id: str, authority_id: str, *, by: str, at: dt.datetime
) -> None:
    """It signs no certificate any more, but status. Raises WrongState, NotFound."""
    _move(tx, tenant_id, authority_id, AuthorityState.ACTIVE, AuthorityEvent.RETIRED, {})
    log(tx, "authority.retired", tenant_id, authority_id, by=by, at=at)


def next_crl_number(tx: Transaction, authority_id: str) -> int:
    """A number that no CRL of this authority ever had (RFC 5280 5.2.3).

    Raises NotFound `authority-unknown`. A crash before the CRL leaves a gap, which is allowed.
    """
    number = tx.execute(
        sa.update(schema.authority)
        .where(_AUTHORITY.id == authority_id)
        .values(crl_number=_AUTHORITY.crl_number + 1)
        .returning(_AUTHORITY.crl_number)
    ).scalar_one_or_none()
    if number is None:
        raise NotFound("authority-unknown", f"there is no authority {authority_id!r}")
    return int(number)


def add_crl(
    tx: Transaction,
    authority_id: str,
    shard: int,
    number: int,
    this_update: dt.datetime,
    next_update: dt.datetime,
    der: bytes,
    *,
    by: str = "job:crl",
) -> None:
    """Publish a CRL; of each shard the last few are kept.

    Raises NotFound `authority-unknown`, Conflict `crl-exists`.
    """
    tenant_id = tx.execute(
        sa.select(_AUTHORITY.tenant_id).where(_AUTHORITY.id == authority_id)
    ).scalar_one_or_none()
    if tenant_id is None:
        raise NotFound("authority-unknown", f"there is no authority {authority_id!r}")
    row = {
        "authority_id": authority_id,
        "shard": shard,
        "number": number,
        "tenant_id": tenant_id,
        "this_update": this_update,
        "next_update": next_update,
        "der": der,
    }
    add(tx, schema.crl, row, Conflict("crl-exists", f"CRL {number} of shard {shard} exists"))
    of_shard = (_CRL.authority_id == authority_id, _CRL.shard == shard)
    newest = sa.select(_CRL.number).where(*of_shard).order_by(_CRL.number.desc()).limit(KEPT_CRLS)
    tx.execute(sa.delete(schema.crl).where(*of_shard, _CRL.number.not_in(newest)))
    log(
        tx, "crl.published", tenant_id, authority_id,
        by=by, at=this_update, shard=shard, number=number, sha256=hashlib.sha256(der).hexdigest(),
    )  # fmt: skip


def _move(
    tx: Transaction,
    tenant_id: str,
    authority_id: str,
    state: AuthorityState,
    event: AuthorityEvent,
    values: dict[str, object],
) -> None:
    of_id = (_AUTHORITY.tenant_id == tenant_id, _AUTHORITY.id == authority_id)
    moved = count(
        tx,
        sa.update(schema.authority)
        .where(*of_id, _AUTHORITY.state == state.value)
        .values(state=after(AUTHORITY, state, event).value, **values),
    )
    if moved:
        return
    if tx.execute(sa.select(_AUTHORITY.id).where(*of_id)).first() is None:
        raise NotFound("authority-unknown", f"there is no authority {authority_id!r}")
    raise WrongState(
        "wrong-state", f"authority {authority_id!r} is not {state}: it cannot be {event}"
    )
