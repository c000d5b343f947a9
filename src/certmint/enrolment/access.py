"""Who stands at the operators' door, and whether they may."""

import datetime as dt

from certmint.enrolment.manufacturers import authenticate
from certmint.model.entities import Operator
from certmint.model.errors import Forbidden
from certmint.model.rights import Right
from certmint.policy.authorization import authorize
from certmint.registry import audit
from certmint.registry.engine import Database


def enter(db: Database, token: str, right: Right, now: dt.datetime) -> Operator:
    """The operator of this token, if the role has the right.

    Raises Unauthenticated `token-invalid`, Forbidden `role-forbids`; the latter is written down.
    """
    operator = authenticate(db, token, now)
    try:
        authorize(operator, right)
    except Forbidden as refusal:
        event = audit.Event(
            at=now,
            tenant_id=operator.tenant_id,
            actor=f"operator:{operator.id}",
            action="access.refused",
            subject=right.value,
            detail={"role": operator.role.value, "code": refusal.code},
        )
        db.write(lambda tx: audit.append(tx, event))
        raise
    return operator
