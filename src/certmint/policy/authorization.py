"""Which role may do what: one table, and the only place that decides it."""

from collections.abc import Mapping

from certmint.model.entities import Operator, Role
from certmint.model.errors import Forbidden
from certmint.model.rights import Right

_READ = frozenset({Right.READ_DEVICES, Right.READ_CERTIFICATES, Right.READ_AUTHORITIES})

RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.VIEWER: _READ,
    Role.STATION: frozenset({Right.READ_DEVICES, Right.MINT_BATCHES}),
    Role.OPERATOR: _READ | {Right.CHANGE_DEVICES, Right.MINT_BATCHES},
    Role.AUDITOR: _READ | {Right.READ_AUDIT},
    Role.SECURITY_OFFICER: _READ
    | {Right.CHANGE_DEVICES, Right.REVOKE_CERTIFICATES, Right.READ_AUDIT},
    Role.ADMINISTRATOR: frozenset(Right),
}


def authorize(operator: Operator, right: Right) -> None:
    """Raises Forbidden `role-forbids` unless the operator's role has the right."""
    if right not in RIGHTS[operator.role]:
        raise Forbidden("role-forbids", f"the role {operator.role!s} does not include {right!s}")
