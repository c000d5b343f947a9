"""Who stands at the operators' door, and whether they may.

Laws: every request names its operation, and `policy.authorization` decides; what is refused, and
what is asked for and is not there, is written down, since it may be somebody trying another
tenant's doors. Nobody fills the log with that: of one operator and one operation there are a few
events within minutes, the last of which says that more may follow unsaid.
"""

import datetime as dt
from dataclasses import dataclass

from certmint.enrolment.operators import authenticate
from certmint.model.entities import Manufacturer, Operator
from certmint.model.errors import CertmintError, Forbidden, Unauthenticated
from certmint.model.operations import Operation, Scope
from certmint.policy.authorization import Rule, authorize
from certmint.registry import audit, reads
from certmint.registry.engine import Database

HOUSE = "instance"  # the installation's own manufacturer
WINDOW = dt.timedelta(minutes=10)
MOST = 20  # refusals of one operator and one operation that are written down in a window
_LOOKED_AT = 10 * MOST  # of all operators: when so many are refused, the log knows enough


@dataclass(frozen=True)
class Entrance:
    """An operator who was let in for one operation."""

    operator: Operator
    tenant: Manufacturer
    scopes: frozenset[Scope] | None
    operation: Operation
    rule: Rule

    @property
    def by(self) -> str:
        """The actor, for the audit log."""
        return f"operator:{self.operator.id}"

    @property
    def is_house(self) -> bool:
        return self.tenant.slug == HOUSE

    def may(self, operation: Operation) -> bool:
        """Whether the same operator may do something else as well: for menus and buttons."""
        return _may(self.operator, self.tenant, self.scopes, operation)


def operations_of(operator: Operator, tenant: Manufacturer) -> list[Operation]:
    """What an operator may do with a token that is not narrowed."""
    return [each for each in Operation if _may(operator, tenant, None, each)]


def _may(
    operator: Operator,
    tenant: Manufacturer,
    scopes: frozenset[Scope] | None,
    operation: Operation,
) -> bool:
    try:
        authorize(operator, scopes, operation, house=tenant.slug == HOUSE)
    except Forbidden:
        return False
    return True


def enter(db: Database, token: str, operation: Operation, now: dt.datetime) -> Entrance:
    """Let the operator of this token or session in for one operation.

    Raises Unauthenticated `token-invalid`; Forbidden `role-forbids` or `scope-forbids`, which is
    written down.
    """
    operator, scopes = authenticate(db, token, now)
    with db.read() as tx:
        tenant = reads.manufacturer(tx, operator.tenant_id)
    if tenant is None:
        raise Unauthenticated("token-invalid", "the operator's manufacturer is gone")
    try:
        rule = authorize(operator, scopes, operation, house=tenant.slug == HOUSE)
    except Forbidden as refusal:
        note(db, operator, operation, refusal, "", now)
        raise
    return Entrance(operator, tenant, scopes, operation, rule)


def note(
    db: Database,
    operator: Operator,
    operation: Operation,
    refusal: CertmintError,
    wanted: str,
    now: dt.datetime,
) -> None:
    """Write down that an operator asked for what is not theirs, unless that fills the log.

    `wanted` is what a path named.
    """
    with db.read() as tx:
        newest = reads.events_of(tx, operator.tenant_id, operation.value, _LOOKED_AT)
    recent = [each for each in newest if now - each.at < WINDOW]
    said = sum(each.actor == f"operator:{operator.id}" for each in recent)
    if said >= MOST or len(recent) >= _LOOKED_AT:
        return
    detail: dict[str, object] = {
        "role": operator.role.value, "code": refusal.code, "wanted": wanted[:128]
    }  # fmt: skip
    if said == MOST - 1:
        detail["more_unsaid"] = True
    event = audit.Event(
        at=now,
        tenant_id=operator.tenant_id,
        actor=f"operator:{operator.id}",
        action="access.refused",
        subject=operation.value,
        detail=detail,
    )
    db.write(lambda tx: audit.append(tx, event))
