"""Writing operators, their tokens and sessions, approvals, jobs, and answers given before."""

import datetime as dt
from dataclasses import replace

import sqlalchemy as sa

from certmint.model.desk import (
    APPROVAL,
    JOB,
    APIToken,
    ApprovalEvent,
    Job,
    JobEvent,
    OperatorApproval,
)
from certmint.model.entities import Operator, Role
from certmint.model.errors import Conflict, NotFound, WrongState
from certmint.model.operations import Scope
from certmint.model.states import after
from certmint.registry import desk_rows, rows, schema
from certmint.registry.desk_rows import Answer
from certmint.registry.engine import Transaction
from certmint.registry.statements import add, count, insert_if_absent, log

_OPERATOR = schema.operator.c
_TOKEN = schema.api_token.c
_SESSION = schema.operator_session.c
_APPROVAL = schema.approval.c
_JOB = schema.job.c
_ANSWER = schema.idempotent_answer.c


def add_operator(tx: Transaction, operator: Operator, *, by: str, at: dt.datetime) -> None:
    """A new operator. Raises Conflict `operator-exists`."""
    taken = Conflict("operator-exists", f"there is an operator {operator.name!r} already")
    add(tx, schema.operator, rows.operator_row(operator, at), taken)
    log(
        tx, "operator.added", operator.tenant_id, operator.id,
        by=by, at=at, role=operator.role.value,
    )  # fmt: skip


def change_operator(
    tx: Transaction,
    before: Operator,
    now_is: Operator,
    *,
    by: str,
    at: dt.datetime,
    administrators: int = 0,
) -> None:
    """Give an operator another role, shut one out or let one in again; sessions end with it.

    So many `administrators` must be left. Raises NotFound `operator-unknown`, Conflict
    `changed-meanwhile` or `last-administrator`.
    """
    column = schema.operator.c
    query = sa.select(schema.operator).where(
        column.tenant_id == before.tenant_id, column.id == before.id
    )
    found = tx.execute(query).one_or_none()
    if found is None:
        raise NotFound("operator-unknown", f"there is no operator {before.id!r}")
    if rows.operator_of(found) != before:
        raise Conflict("changed-meanwhile", f"operator {before.name!r} was changed by somebody")
    values = {
        "role": now_is.role.value,
        "disabled_at": (found.disabled_at or at) if now_is.disabled else None,
    }
    tx.execute(
        sa.update(schema.operator)
        .where(column.tenant_id == before.tenant_id, column.id == before.id)
        .values(values)
    )
    close_operator_sessions(tx, before.tenant_id, before.id, by=by, at=at)
    log(
        tx, "operator.changed", before.tenant_id, before.id,
        by=by, at=at, role=now_is.role.value, disabled=now_is.disabled,
    )  # fmt: skip
    # Counted last: the audit log's end is held by now, so two who shut each other out are two
    # turns, and the second one sees the first.
    left = sa.select(sa.func.count()).where(
        column.tenant_id == before.tenant_id,
        column.role == Role.ADMINISTRATOR.value,
        column.disabled_at.is_(None),
    )
    if tx.execute(left).scalar_one() < administrators:
        raise Conflict(
            "last-administrator",
            f"{before.name!r} is the last administrator: make another one first",
        )


def add_token(
    tx: Transaction, token: APIToken, token_hash: str, *, by: str, at: dt.datetime
) -> None:
    """A new token of an operator. Raises Conflict `token-exists`."""
    taken = Conflict("token-exists", "there is a token with that id or value already")
    add(tx, schema.api_token, desk_rows.token_row(token, token_hash), taken)
    log(
        tx, "token.added", token.tenant_id, token.id,
        by=by, at=at, operator=token.operator_id,
        scopes=sorted(token.scopes) if token.scopes is not None else "all",
    )  # fmt: skip


def revoke_token(
    tx: Transaction, tenant_id: str, token_id: str, *, by: str, at: dt.datetime
) -> None:
    """The token is good for nothing from now on, nor is any session of its operator.

    A session does not say which token it was opened with. Raises NotFound `token-unknown`.
    """
    ours = (_TOKEN.tenant_id == tenant_id) & (_TOKEN.id == token_id) & _TOKEN.revoked_at.is_(None)
    operator_id = tx.execute(sa.select(_TOKEN.operator_id).where(ours)).scalar_one_or_none()
    if operator_id is None or not count(
        tx, sa.update(schema.api_token).where(ours).values(revoked_at=at)
    ):
        raise NotFound("token-unknown", f"there is no token {token_id!r} that could be revoked")
    close_operator_sessions(tx, tenant_id, operator_id, by=by, at=at)
    log(tx, "token.revoked", tenant_id, token_id, by=by, at=at)


def open_operator_session(
    tx: Transaction,
    operator: Operator,
    token_hash: str,
    scopes: frozenset[Scope] | None,
    *,
    at: dt.datetime,
    until: dt.datetime,
    keep: int = 10,
) -> None:
    """A session; of one operator's only the `keep` newest stay, so that none can pile up."""
    theirs = (_SESSION.tenant_id == operator.tenant_id) & (_SESSION.operator_id == operator.id)
    newest = (
        sa.select(_SESSION.token_hash)
        .where(theirs, _SESSION.expires_at > at)
        .order_by(_SESSION.begun_at.desc())
        .limit(keep - 1)
    )
    tx.execute(sa.delete(schema.operator_session).where(theirs, _SESSION.token_hash.not_in(newest)))
    tx.execute(
        sa.insert(schema.operator_session),
        {
            "tenant_id": operator.tenant_id,
            "token_hash": token_hash,
            "operator_id": operator.id,
            "scopes": desk_rows.scopes_text(scopes),
            "begun_at": at,
            "expires_at": until,
        },
    )
    log(
        tx, "session.opened", operator.tenant_id, operator.id, by=f"operator:{operator.id}", at=at
    )  # fmt: skip


def close_operator_sessions(
    tx: Transaction,
    tenant_id: str,
    operator_id: str,
    *,
    by: str,
    at: dt.datetime,
    token_hash: str | None = None,
) -> int:
    """End one session of an operator, or all of them; how many there were."""
    query = sa.delete(schema.operator_session).where(
        _SESSION.tenant_id == tenant_id, _SESSION.operator_id == operator_id
    )
    if token_hash is not None:
        query = query.where(_SESSION.token_hash == token_hash)
    ended = count(tx, query)
    if ended:
        log(tx, "session.closed", tenant_id, operator_id, by=by, at=at, sessions=ended)
    return ended


def link_operator(
    tx: Transaction, operator: Operator, issuer: str, subject: str, *, by: str, at: dt.datetime
) -> None:
    """This person is this operator. Raises Conflict `identity-linked`."""
    taken = Conflict("identity-linked", "this person is linked with an operator already")
    row = {
        "tenant_id": operator.tenant_id, "issuer": issuer, "subject": subject,
        "operator_id": operator.id, "linked_at": at,
    }  # fmt: skip
    add(tx, schema.operator_identity, row, taken)
    log(tx, "operator.linked", operator.tenant_id, operator.id, by=by, at=at, issuer=issuer)


def unlink_operator(
    tx: Transaction, operator: Operator, issuer: str, subject: str, *, by: str, at: dt.datetime
) -> None:
    """This person is this operator no more, and the operator's sessions end.

    Raises NotFound `link-unknown`.
    """
    column = schema.operator_identity.c
    gone = count(
        tx,
        sa.delete(schema.operator_identity).where(
            column.tenant_id == operator.tenant_id,
            column.operator_id == operator.id,
            column.issuer == issuer,
            column.subject == subject,
        ),
    )
    if not gone:
        raise NotFound("link-unknown", f"nobody is linked as {subject!r} of {issuer}")
    close_operator_sessions(tx, operator.tenant_id, operator.id, by=by, at=at)
    log(tx, "operator.unlinked", operator.tenant_id, operator.id, by=by, at=at, issuer=issuer)


def add_approval(tx: Transaction, wanted: OperatorApproval, *, at: dt.datetime) -> None:
    """Something that waits for a second person. Raises Conflict `approval-exists`."""
    taken = Conflict("approval-exists", f"there is an approval {wanted.id!r} already")
    add(tx, schema.approval, desk_rows.approval_row(wanted), taken)
    log(
        tx, "approval.requested", wanted.tenant_id, wanted.id,
        by=f"operator:{wanted.requested_by}", at=at,
        operation=wanted.operation.value, summary=wanted.summary, document=wanted.document,
    )  # fmt: skip


def move_approval(
    tx: Transaction,
    wanted: OperatorApproval,
    event: ApprovalEvent,
    *,
    by_operator: str,
    at: dt.datetime,
    outcome: str = "",
) -> OperatorApproval:
    """Decide an approval, or write down what came of it. Raises WrongState `wrong-state`.

    One that is carried out again is claimed by its `decided_at`, so only one of two does it.
    """
    state = after(APPROVAL, wanted.state, event)
    deciding = event not in (ApprovalEvent.CARRIED_OUT, ApprovalEvent.FAILED)
    moved = replace(
        wanted,
        state=state,
        outcome=outcome,
        decided_by=by_operator if deciding else wanted.decided_by,
        decided_at=at if deciding else wanted.decided_at,
    )
    changed = count(
        tx,
        sa.update(schema.approval)
        .where(
            _APPROVAL.tenant_id == wanted.tenant_id,
            _APPROVAL.id == wanted.id,
            _APPROVAL.state == wanted.state.value,
            _APPROVAL.decided_at.is_not_distinct_from(wanted.decided_at),
        )
        .values(desk_rows.approval_row(moved)),
    )
    if not changed:
        raise WrongState("wrong-state", "somebody else decided this approval first")
    log(
        tx, f"approval.{event.value}", wanted.tenant_id, wanted.id,
        by=f"operator:{by_operator}", at=at, outcome=outcome,
    )  # fmt: skip
    return moved


def add_job(tx: Transaction, wanted: Job, *, by: str, at: dt.datetime) -> None:
    """Long work to be done. Raises Conflict `job-exists`."""
    taken = Conflict("job-exists", f"there is a job {wanted.id!r} already")
    add(tx, schema.job, desk_rows.job_row(wanted), taken)
    log(tx, "job.queued", wanted.tenant_id, wanted.id, by=by, at=at, kind=wanted.kind.value)


def move_job(
    tx: Transaction,
    found: Job,
    event: JobEvent,
    *,
    by: str,
    at: dt.datetime,
    outcome: str | None = None,
) -> Job:
    """Start, end or cancel a job. Raises WrongState `wrong-state`."""
    state = after(JOB, found.state, event)
    moved = replace(found, state=state, outcome=found.outcome if outcome is None else outcome)
    moved = replace(moved, finished_at=at if moved.is_over else None)
    changed = count(
        tx,
        sa.update(schema.job)
        .where(
            _JOB.tenant_id == found.tenant_id, _JOB.id == found.id, _JOB.state == found.state.value
        )
        .values(state=state.value, outcome=moved.outcome, finished_at=moved.finished_at),
    )
    if not changed:
        raise WrongState("wrong-state", f"job {found.id} is no longer {found.state}")
    log(tx, f"job.{event.value}", found.tenant_id, found.id, by=by, at=at, outcome=moved.outcome)
    return moved


def advance_job(tx: Transaction, tenant_id: str, job_id: str, done: int, total: int) -> bool:
    """How far a job is; False once it does not run any more. Progress is not audited."""
    changed = count(
        tx,
        sa.update(schema.job)
        .where(_JOB.tenant_id == tenant_id, _JOB.id == job_id, _JOB.state == "running")
        .values(done=done, total=total),
    )
    return changed == 1


def begin_answer(tx: Transaction, begun: Answer, stale: dt.datetime) -> bool:
    """Claim an Idempotency-Key: whether the request is to be carried out here and now.

    A claim from before `stale` without an answer is of a node that died: it is taken over.
    """
    if insert_if_absent(tx, schema.idempotent_answer, vars(begun)):
        return True
    taken = count(
        tx,
        sa.update(schema.idempotent_answer)
        .where(
            _ANSWER.tenant_id == begun.tenant_id,
            _ANSWER.operator_id == begun.operator_id,
            _ANSWER.key == begun.key,
            _ANSWER.request_hash == begun.request_hash,
            _ANSWER.status == 0,
            _ANSWER.begun_at <= stale,
        )
        .values(begun_at=begun.begun_at),
    )
    return taken == 1


def set_answer(tx: Transaction, given: Answer) -> None:
    """Keep what a key was answered with; status 0 gives the key back."""
    ours = (
        (_ANSWER.tenant_id == given.tenant_id)
        & (_ANSWER.operator_id == given.operator_id)
        & (_ANSWER.key == given.key)
    )
    if given.status == 0:
        tx.execute(sa.delete(schema.idempotent_answer).where(ours))
        return
    tx.execute(
        sa.update(schema.idempotent_answer)
        .where(ours)
        .values(status=given.status, location=given.location, body=given.body)
    )


def drop_answers(tx: Transaction, before: dt.datetime) -> int:
    """Forget the keys that were used before then; how many."""
    return count(tx, sa.delete(schema.idempotent_answer).where(_ANSWER.begun_at < before))
