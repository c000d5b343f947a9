"""Rows of the operators' desk from and to values."""

import datetime as dt
from dataclasses import dataclass, field

from certmint.model.desk import APIToken, ApprovalState, Job, JobKind, JobState, OperatorApproval
from certmint.model.operations import Operation, Scope
from certmint.registry.rows import Row, Values


@dataclass(frozen=True)
class Answer:
    """What an Idempotency-Key was answered with; `status` 0 while there is no answer yet."""

    tenant_id: str
    operator_id: str
    key: str
    request_hash: str
    begun_at: dt.datetime
    status: int = 0
    location: str = ""
    body: bytes = field(default=b"", repr=False)


def scopes_text(scopes: frozenset[Scope] | None) -> str | None:
    return None if scopes is None else " ".join(sorted(scopes))


def scopes_of(text: str | None) -> frozenset[Scope] | None:
    return None if text is None else frozenset(map(Scope, text.split()))


def token_row(token: APIToken, token_hash: str) -> Values:
    return {**vars(token), "scopes": scopes_text(token.scopes), "token_hash": token_hash}


def token_of(row: Row) -> APIToken:
    return APIToken(
        id=row.id,
        tenant_id=row.tenant_id,
        operator_id=row.operator_id,
        name=row.name,
        scopes=scopes_of(row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def approval_row(wanted: OperatorApproval) -> Values:
    return {**vars(wanted), "operation": wanted.operation.value, "state": wanted.state.value}


def approval_of(row: Row) -> OperatorApproval:
    return OperatorApproval(
        id=row.id,
        tenant_id=row.tenant_id,
        operation=Operation(row.operation),
        summary=row.summary,
        document=row.document,
        requested_by=row.requested_by,
        requested_at=row.requested_at,
        expires_at=row.expires_at,
        state=ApprovalState(row.state),
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        outcome=row.outcome,
    )


def job_row(wanted: Job) -> Values:
    return {**vars(wanted), "kind": wanted.kind.value, "state": wanted.state.value}


def job_of(row: Row) -> Job:
    return Job(
        id=row.id,
        tenant_id=row.tenant_id,
        kind=JobKind(row.kind),
        document=row.document,
        requested_by=row.requested_by,
        created_at=row.created_at,
        state=JobState(row.state),
        total=row.total,
        done=row.done,
        outcome=row.outcome,
        finished_at=row.finished_at,
    )


def answer_of(row: Row) -> Answer:
    return Answer(
        tenant_id=row.tenant_id,
        operator_id=row.operator_id,
        key=row.key,
        request_hash=row.request_hash,
        begun_at=row.begun_at,
        status=row.status,
        location=row.location,
        body=row.body,
    )
