"""Four eyes: what one operator asks for and a second one agrees to.

Laws: who asked cannot agree; what is carried out is the very document that was shown; a decision
is one compare-and-set, made durable before anything is done. If the power fails after it, the
approval stays APPROVED: whoever may decide carries it out again, and the use cases that are done
this way continue where they stopped.
"""

import datetime as dt
from collections.abc import Callable, Mapping

from certmint.enrolment.access import Entrance
from certmint.enrolment.manufacturers import new_id
from certmint.model.desk import ApprovalEvent, ApprovalState, OperatorApproval
from certmint.model.errors import CertmintError, NotFound, Refused
from certmint.model.operations import Operation
from certmint.model.serial import RandomBytes
from certmint.policy.authorization import authorize, second_pair
from certmint.registry import reads, writes
from certmint.registry.documents import canonical
from certmint.registry.engine import Database

LIFE = dt.timedelta(days=7)

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
    """Ask for a second pair of eyes on what `entrance` was let in for."""
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
    db.write(lambda tx: writes.add_approval(tx, wanted, at=now))
    return wanted


def approve(
    db: Database,
    entrance: Entrance,
    approval_id: str,
    deeds: Mapping[Operation, Deed],
    now: dt.datetime,
) -> OperatorApproval:
    """Agree, and carry it out.

    Raises NotFound `approval-unknown`; Forbidden `four-eyes`, or `role-forbids` for somebody who
    could not have asked; Refused `approval-expired`; WrongState `wrong-state`; and what the deed
    raises, which leaves the approval FAILED.
    """
    wanted = find(db, entrance.tenant.id, approval_id)
    second_pair(entrance.operator, wanted.requested_by)
    authorize(entrance.operator, entrance.scopes, wanted.operation, house=entrance.is_house)
    if wanted.state is ApprovalState.PENDING and now >= wanted.expires_at:
        raise Refused(
            "approval-expired", f"nobody agreed before {wanted.expires_at.isoformat()}: ask again"
        )
    if wanted.state is not ApprovalState.APPROVED:  # approved before: a crash cut the deed off
        wanted = _move(db, wanted, ApprovalEvent.APPROVED, entrance, now)
    try:
        outcome = deeds[wanted.operation](entrance, wanted)
    except CertmintError as refusal:
        _move(db, wanted, ApprovalEvent.FAILED, entrance, now, f"{refusal.code}: {refusal.detail}")
        raise
    return _move(db, wanted, ApprovalEvent.CARRIED_OUT, entrance, now, outcome)


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
