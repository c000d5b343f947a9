"""Reading operators, their tokens and sessions, approvals, jobs, and answers given before."""

import datetime as dt
from collections.abc import Collection

import sqlalchemy as sa

from certmint.model.desk import APIToken, ApprovalState, Job, JobState, OperatorApproval
from certmint.model.entities import Operator
from certmint.model.operations import Scope
from certmint.registry import desk_rows, rows, schema
from certmint.registry.compiled import Compiled
from certmint.registry.desk_rows import Answer
from certmint.registry.engine import Transaction

_OPERATOR = schema.operator.c
_TOKEN = schema.api_token.c
_SESSION = schema.operator_session.c
_APPROVAL = schema.approval.c
_JOB = schema.job.c
_ANSWER = schema.idempotent_answer.c

_THEIRS = (_OPERATOR.tenant_id == _TOKEN.tenant_id) & (_OPERATOR.id == _TOKEN.operator_id)
_BY_TOKEN = Compiled(
    sa.select(schema.operator, _TOKEN.scopes.label("scopes"))
    .join_from(schema.operator, schema.api_token, _THEIRS)
    .where(
        _TOKEN.token_hash == sa.bindparam("token_hash"),
        _TOKEN.revoked_at.is_(None),
        _TOKEN.expires_at > sa.bindparam("now"),
        _OPERATOR.disabled_at.is_(None),
    )
)
_BY_SESSION = Compiled(
    sa.select(schema.operator, _SESSION.scopes.label("scopes"))
    .join_from(
        schema.operator,
        schema.operator_session,
        (_OPERATOR.tenant_id == _SESSION.tenant_id) & (_OPERATOR.id == _SESSION.operator_id),
    )
    .where(
        _SESSION.token_hash == sa.bindparam("token_hash"),
        _SESSION.expires_at > sa.bindparam("now"),
        _OPERATOR.disabled_at.is_(None),
    )
)


def operator_by_token(
    tx: Transaction, token_hash: str, now: dt.datetime
) -> tuple[Operator, frozenset[Scope] | None] | None:
    """Whose good token this is, of any tenant, and the token's scopes."""
    return _entrance(_BY_TOKEN, tx, token_hash, now)


def operator_by_session(
    tx: Transaction, token_hash: str, now: dt.datetime
) -> tuple[Operator, frozenset[Scope] | None] | None:
    """Whose open session this is, of any tenant, and its scopes."""
    return _entrance(_BY_SESSION, tx, token_hash, now)


def _entrance(
    query: Compiled, tx: Transaction, token_hash: str, now: dt.datetime
) -> tuple[Operator, frozenset[Scope] | None] | None:
    row = query.first(tx, token_hash=token_hash, now=now)
    return None if row is None else (rows.operator_of(row), desk_rows.scopes_of(row.scopes))


def operator(tx: Transaction, tenant_id: str, operator_id: str) -> Operator | None:
    """An operator by the id."""
    query = sa.select(schema.operator).where(
        _OPERATOR.tenant_id == tenant_id, _OPERATOR.id == operator_id
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else rows.operator_of(row)


def operator_by_name(tx: Transaction, tenant_id: str, name: str) -> Operator | None:
    """An operator by the name that people type."""
    query = sa.select(schema.operator).where(
        _OPERATOR.tenant_id == tenant_id, _OPERATOR.name == name
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else rows.operator_of(row)


def operator_of_identity(
    tx: Transaction, tenant_id: str, issuer: str, subject: str
) -> Operator | None:
    """The operator whom a person at an OpenID provider is; the caller checks `disabled`."""
    identity = schema.operator_identity.c
    query = (
        sa.select(schema.operator)
        .join_from(
            schema.operator_identity,
            schema.operator,
            (_OPERATOR.tenant_id == identity.tenant_id) & (_OPERATOR.id == identity.operator_id),
        )
        .where(
            identity.tenant_id == tenant_id, identity.issuer == issuer, identity.subject == subject
        )
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else rows.operator_of(row)


def operators(
    tx: Transaction, tenant_id: str, *, after: str | None = None, limit: int = 1_000
) -> list[Operator]:
    """The tenant's operators by name; `after` is the last name of the page before."""
    query = sa.select(schema.operator).where(_OPERATOR.tenant_id == tenant_id)
    if after is not None:
        query = query.where(_OPERATOR.name > after)
    found = tx.execute(query.order_by(_OPERATOR.name).limit(limit))
    return [rows.operator_of(row) for row in found]


def tokens(
    tx: Transaction, tenant_id: str, operator_id: str, *, after: str | None = None, limit: int = 100
) -> list[APIToken]:
    """An operator's tokens, oldest first; nobody can read their values."""
    query = sa.select(schema.api_token).where(
        _TOKEN.tenant_id == tenant_id, _TOKEN.operator_id == operator_id
    )
    if after is not None:
        query = query.where(_TOKEN.id > after)
    return [desk_rows.token_of(row) for row in tx.execute(query.order_by(_TOKEN.id).limit(limit))]


def credential_givers(
    tx: Transaction, tenant_id: str, operator_ids: Collection[str], since: dt.datetime
) -> list[str]:
    """The actors who gave one of these operators a token or a login since then."""
    event = schema.audit_event.c
    theirs = sa.select(_TOKEN.id).where(
        _TOKEN.tenant_id == tenant_id, _TOKEN.operator_id.in_(operator_ids)
    )
    ours = (event.tenant_id == tenant_id) & (event.at >= since)
    by_token = sa.select(event.actor).where(
        ours, event.action == "token.added", event.subject.in_(theirs)
    )
    by_login = sa.select(event.actor).where(
        ours, event.action == "operator.linked", event.subject.in_(operator_ids)
    )
    return list(tx.execute(by_token.union(by_login)).scalars())


def approval(tx: Transaction, tenant_id: str, approval_id: str) -> OperatorApproval | None:
    """One approval, whatever its state."""
    query = sa.select(schema.approval).where(
        _APPROVAL.tenant_id == tenant_id, _APPROVAL.id == approval_id
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else desk_rows.approval_of(row)


def approvals(
    tx: Transaction,
    tenant_id: str,
    *,
    state: ApprovalState | None = None,
    after: str | None = None,
    limit: int = 100,
) -> list[OperatorApproval]:
    """Approvals, newest first; `after` is the last id of the page before."""
    query = sa.select(schema.approval).where(_APPROVAL.tenant_id == tenant_id)
    if state is not None:
        query = query.where(_APPROVAL.state == state.value)
    if after is not None:
        query = query.where(_APPROVAL.id < after)
    found = tx.execute(query.order_by(_APPROVAL.id.desc()).limit(limit))
    return [desk_rows.approval_of(row) for row in found]


def job(tx: Transaction, tenant_id: str, job_id: str) -> Job | None:
    """One job, whatever its state."""
    query = sa.select(schema.job).where(_JOB.tenant_id == tenant_id, _JOB.id == job_id)
    row = tx.execute(query).one_or_none()
    return None if row is None else desk_rows.job_of(row)


def jobs(
    tx: Transaction,
    tenant_id: str,
    *,
    state: JobState | None = None,
    after: str | None = None,
    limit: int = 100,
) -> list[Job]:
    """Jobs, newest first; `after` is the last id of the page before."""
    query = sa.select(schema.job).where(_JOB.tenant_id == tenant_id)
    if state is not None:
        query = query.where(_JOB.state == state.value)
    if after is not None:
        query = query.where(_JOB.id < after)
    found = tx.execute(query.order_by(_JOB.id.desc()).limit(limit))
    return [desk_rows.job_of(row) for row in found]


def count_open_jobs(tx: Transaction, tenant_id: str) -> int:
    """How many jobs of the tenant wait or run."""
    query = sa.select(sa.func.count()).where(
        _JOB.tenant_id == tenant_id,
        _JOB.state.in_((JobState.QUEUED.value, JobState.RUNNING.value)),
    )
    return tx.execute(query).scalar_one()


def count_open_approvals(tx: Transaction, tenant_id: str, now: dt.datetime) -> int:
    """How many things wait for a second operator of the tenant."""
    query = sa.select(sa.func.count()).where(
        _APPROVAL.tenant_id == tenant_id,
        _APPROVAL.state == ApprovalState.PENDING.value,
        _APPROVAL.expires_at > now,
    )
    return tx.execute(query).scalar_one()


def open_jobs(tx: Transaction, limit: int = 100) -> list[Job]:
    """Every tenant's jobs that are not over, oldest first: what the nodes work off."""
    query = (
        sa.select(schema.job)
        .where(_JOB.state.in_((JobState.QUEUED.value, JobState.RUNNING.value)))
        .order_by(_JOB.id)
        .limit(limit)
    )
    return [desk_rows.job_of(row) for row in tx.execute(query)]


def answer(tx: Transaction, tenant_id: str, operator_id: str, key: str) -> Answer | None:
    """What an operator's Idempotency-Key was answered with."""
    query = sa.select(schema.idempotent_answer).where(
        _ANSWER.tenant_id == tenant_id, _ANSWER.operator_id == operator_id, _ANSWER.key == key
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else desk_rows.answer_of(row)
