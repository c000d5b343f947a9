"""Four eyes: what one operator asks for and a second one agrees to.

Laws: who asked cannot agree, nor can who holds or gave their credentials; what is carried out is
the very document that was shown; a decision is one compare-and-set, made durable before anything
is done. If the power fails after it, the approval stays APPROVED: after a few minutes whoever may
decide carries it out again, and the use cases that are done this way continue where they stopped.
"""

import datetime as dt
from collections.abc import Callable, Mapping

from certmint.enrolment.access import Entrance
from certmint.enrolment.manufacturers import new_id
from certmint.enrolment.operators import MOST_LIFE, operator_of
from certmint.model.desk import ApprovalEvent, ApprovalState, OperatorApproval
from certmint.model.errors import CertmintError, Conflict, Forbidden, NotFound, Refused, TooOften
from certmint.model.operations import Operation
from certmint.model.serial import RandomBytes
from certmint.policy.authorization import authorize, second_pair
from certmint.registry import reads, writes
from certmint.registry.documents import canonical
from certmint.registry.engine import Database

LIFE = dt.timedelta(days=7)
MOST_OPEN = 100  # approvals of a manufacturer that wait
AT_WORK = dt.timedelta(minutes=5)  # longer than any key store needs for what is approved

Deed = Callable[[Entrance, OperatorApproval], str]
"""Carries an approved document out; what came of it, for the person who looks at the approval."""


def request(
    db: Database,
    entrance: Entrance,
    summary: str,
    document: Mapping[str, object],
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> OperatorApproval:
    """Ask for a second pair of eyes on what `entrance` was let in for.

    Raises TooOften `approvals-full`: nobody reads hundreds of them with care.
    """
    wanted = OperatorApproval(
        id=new_id("apr", now, random_bytes),
        tenant_id=entrance.tenant.id,
        operation=entrance.operation,
        summary=summary,
        document=canonical(dict(document)),
        requested_by=entrance.operator.id,
        requested_at=now,
        expires_at=now + LIFE,
    )

    def work(tx: writes.Transaction) -> None:
        if reads.count_open_approvals(tx, wanted.tenant_id, now) >= MOST_OPEN:
            raise TooOften(
                "approvals-full", f"{MOST_OPEN} approvals wait already: decide some of them", 3600
            )
        writes.add_approval(tx, wanted, at=now)

    db.write(work)
    return wanted


def approve(
    db: Database,
    entrance: Entrance,
    approval_id: str,
    deeds: Mapping[Operation, Deed],
    now: dt.datetime,
) -> OperatorApproval:
    """Agree, and carry it out.

    Raises NotFound `approval-unknown`; Forbidden `four-eyes`, `four-eyes-credentials`, or
    `role-forbids` for somebody who could not have asked; Refused `approval-expired` or
    `approval-lapsed`; Conflict `approval-busy`; WrongState `wrong-state`; and what the deed
    raises, which leaves the approval FAILED.
    """
    wanted = find(db, entrance.tenant.id, approval_id)
    check_second(db, entrance.tenant.id, entrance.operator.id, wanted.requested_by, now)
    authorize(entrance.operator, entrance.scopes, wanted.operation, house=entrance.is_house)
    event = ApprovalEvent.APPROVED
    if wanted.state is ApprovalState.APPROVED:  # a crash cut the deed off, or it is under way
        if wanted.decided_at is not None and now < wanted.decided_at + AT_WORK:
            raise Conflict("approval-busy", f"{approval_id} is being carried out: look again later")
        event = ApprovalEvent.RESUMED
    elif wanted.state is ApprovalState.PENDING:
        _check_standing(db, entrance, wanted, now)
    wanted = _move(db, wanted, event, entrance, now)
    try:
        outcome = deeds[wanted.operation](entrance, wanted)
    except CertmintError as refusal:
        _move(db, wanted, ApprovalEvent.FAILED, entrance, now, f"{refusal.code}: {refusal.detail}")
        raise
    return _move(db, wanted, ApprovalEvent.CARRIED_OUT, entrance, now, outcome)


def check_second(
    db: Database, tenant_id: str, operator_id: str, requested_by: str, now: dt.datetime
) -> None:
    """Whether two operators are two people. Raises Forbidden `four-eyes` and the like."""
    second_pair(operator_id, requested_by, lambda each: _hands(db, tenant_id, each, now))


def _hands(db: Database, tenant_id: str, operator_id: str, now: dt.datetime) -> frozenset[str]:
    """Every operator who could hold this one's credentials: by the audit log, from hand to hand."""
    found: set[str] = set()
    new = {operator_id}
    with db.read() as tx:
        while new:
            found |= new
            givers = reads.credential_givers(tx, tenant_id, new, now - MOST_LIFE)
            new = {
                actor.removeprefix("operator:") for actor in givers if actor.startswith("operator:")
            } - found
    return frozenset(found)


def _check_standing(
    db: Database, entrance: Entrance, wanted: OperatorApproval, now: dt.datetime
) -> None:
    """Whether it can still be decided, and who asked could still ask."""
    if now >= wanted.expires_at:
        raise Refused(
            "approval-expired", f"nobody agreed before {wanted.expires_at.isoformat()}: ask again"
        )
    asker = operator_of(db, wanted.tenant_id, wanted.requested_by)
    try:
        authorize(asker, None, wanted.operation, house=entrance.is_house)
    except Forbidden:
        may = False
    else:
        may = not asker.disabled
    if not may:
        raise Refused(
            "approval-lapsed",
            f"{asker.name!r}, who asked for {wanted.id}, may not do that any more: reject it",
        )


def reject(
    db: Database, entrance: Entrance, approval_id: str, now: dt.datetime
) -> OperatorApproval:
    """Say no; whoever asked may take it back in the same way.

    Raises NotFound `approval-unknown`, WrongState `wrong-state`.
    """
    wanted = find(db, entrance.tenant.id, approval_id)
    return _move(db, wanted, ApprovalEvent.REJECTED, entrance, now)


def find(db: Database, tenant_id: str, approval_id: str) -> OperatorApproval:
    """Raises NotFound `approval-unknown`."""
    with db.read() as tx:
        found = reads.approval(tx, tenant_id, approval_id)
    if found is None:
        raise NotFound("approval-unknown", f"there is no approval {approval_id!r}")
    return found


def _move(
    db: Database,
    wanted: OperatorApproval,
    event: ApprovalEvent,
    entrance: Entrance,
    now: dt.datetime,
    outcome: str = "",
) -> OperatorApproval:
    return db.write(
        lambda tx: writes.move_approval(
            tx, wanted, event, by_operator=entrance.operator.id, at=now, outcome=outcome
        )
    )
