"""Which role may do what: one table, and the only place that decides it.

Laws: every operation has one row; what a row does not name is refused; a token can narrow its
operator's role and never widen it. An operation with four eyes is done only after another operator,
whose role has the same operation, agreed. `docs/roles.md` is made from this table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from certmint.model.entities import Operator, Role
from certmint.model.errors import Forbidden
from certmint.model.operations import Operation, Scope

_ALL = frozenset(Role)
_ADMIN = frozenset({Role.ADMINISTRATOR})
_OFFICER = _ADMIN | {Role.SECURITY_OFFICER}
_AUDITING = _OFFICER | {Role.AUDITOR}
_RUNNING = _OFFICER | {Role.OPERATOR}
_FACTORY = frozenset({Role.ADMINISTRATOR, Role.OPERATOR, Role.STATION})
_PEOPLE = _ALL - {Role.STATION}
_LOOKING = _PEOPLE | {Role.STATION}


@dataclass(frozen=True)
class Rule:
    """Who may do an operation. `house` is for the installation's own operators alone."""

    scope: Scope
    roles: frozenset[Role]
    four_eyes: bool = False
    house: bool = False


RULES: Mapping[Operation, Rule] = {
    Operation.SHOW_SELF: Rule(Scope.READ_MANUFACTURERS, _ALL),
    Operation.SHOW_METRICS: Rule(Scope.READ_METRICS, _PEOPLE, house=True),
    Operation.LIST_MANUFACTURERS: Rule(Scope.READ_MANUFACTURERS, _ALL),
    Operation.SHOW_MANUFACTURER: Rule(Scope.READ_MANUFACTURERS, _ALL),
    Operation.CREATE_MANUFACTURER: Rule(Scope.CHANGE_MANUFACTURERS, _ADMIN, house=True),
    Operation.LIST_OPERATORS: Rule(Scope.READ_OPERATORS, _AUDITING),
    Operation.SHOW_OPERATOR: Rule(Scope.READ_OPERATORS, _AUDITING),
    Operation.CREATE_OPERATOR: Rule(Scope.CHANGE_OPERATORS, _ADMIN),
    Operation.CHANGE_OPERATOR: Rule(Scope.CHANGE_OPERATORS, _ADMIN),
    Operation.CLOSE_SESSIONS: Rule(Scope.CHANGE_OPERATORS, _OFFICER),
    Operation.LIST_TOKENS: Rule(Scope.READ_OPERATORS, _AUDITING),
    Operation.CREATE_TOKEN: Rule(Scope.CHANGE_OPERATORS, _ADMIN),
    Operation.REVOKE_TOKEN: Rule(Scope.CHANGE_OPERATORS, _OFFICER),
    Operation.LIST_DOMAINS: Rule(Scope.READ_DOMAINS, _PEOPLE),
    Operation.LIST_CONTACTS: Rule(Scope.READ_DOMAINS, _PEOPLE),
    Operation.LIST_VALIDATIONS: Rule(Scope.READ_DOMAINS, _PEOPLE),
    Operation.SHOW_VALIDATION: Rule(Scope.READ_DOMAINS, _PEOPLE),
    Operation.BEGIN_VALIDATION: Rule(Scope.CHANGE_DOMAINS, _RUNNING),
    Operation.VERIFY_VALIDATION: Rule(Scope.CHANGE_DOMAINS, _RUNNING),
    Operation.RESEND_VALIDATION: Rule(Scope.CHANGE_DOMAINS, _RUNNING),
    Operation.LIST_AUTHORITIES: Rule(Scope.READ_AUTHORITIES, _LOOKING),
    Operation.SHOW_AUTHORITY: Rule(Scope.READ_AUTHORITIES, _LOOKING),
    Operation.CREATE_AUTHORITY: Rule(Scope.CHANGE_AUTHORITIES, _OFFICER, four_eyes=True),
    Operation.LIST_PROFILES: Rule(Scope.READ_PROFILES, _PEOPLE),
    Operation.SHOW_PROFILE: Rule(Scope.READ_PROFILES, _PEOPLE),
    Operation.CHANGE_PROFILE: Rule(Scope.CHANGE_PROFILES, _OFFICER, four_eyes=True),
    Operation.LIST_PRODUCTS: Rule(Scope.READ_PRODUCTS, _LOOKING),
    Operation.SHOW_PRODUCT: Rule(Scope.READ_PRODUCTS, _LOOKING),
    Operation.CREATE_PRODUCT: Rule(Scope.CHANGE_PRODUCTS, _ADMIN),
    Operation.CHANGE_PRODUCT: Rule(Scope.CHANGE_PRODUCTS, _ADMIN),
    Operation.LIST_DEVICES: Rule(Scope.READ_DEVICES, _LOOKING),
    Operation.SHOW_DEVICE: Rule(Scope.READ_DEVICES, _LOOKING),
    Operation.CHANGE_DEVICES: Rule(Scope.CHANGE_DEVICES, _RUNNING),
    Operation.LIST_DEVICE_CERTIFICATES: Rule(Scope.READ_CERTIFICATES, _PEOPLE),
    Operation.CLAIM_DEVICE: Rule(Scope.CHANGE_DEVICES, _RUNNING),
    Operation.RELEASE_DEVICE: Rule(Scope.CHANGE_DEVICES, _RUNNING),
    Operation.TRANSFER_DEVICE: Rule(Scope.CHANGE_DEVICES, _RUNNING),
    Operation.SUSPEND_DEVICE: Rule(Scope.CHANGE_DEVICES, _RUNNING),
    Operation.RESUME_DEVICE: Rule(Scope.CHANGE_DEVICES, _RUNNING),
    Operation.RETIRE_DEVICE: Rule(Scope.REVOKE, _OFFICER),
    Operation.LIST_DEVICE_REQUESTS: Rule(Scope.READ_DEVICES, _PEOPLE),
    Operation.APPROVE_DEVICE_REQUEST: Rule(Scope.CHANGE_DEVICES, _RUNNING),
    Operation.REJECT_DEVICE_REQUEST: Rule(Scope.CHANGE_DEVICES, _RUNNING),
    Operation.LIST_OWNERS: Rule(Scope.READ_OWNERS, _RUNNING),
    Operation.SHOW_OWNER: Rule(Scope.READ_OWNERS, _RUNNING),
    Operation.CREATE_OWNER: Rule(Scope.CHANGE_OWNERS, _RUNNING),
    Operation.LIST_BATCHES: Rule(Scope.READ_BATCHES, _LOOKING),
    Operation.SHOW_BATCH: Rule(Scope.READ_BATCHES, _LOOKING),
    Operation.SUBMIT_BATCH: Rule(Scope.CHANGE_BATCHES, _FACTORY),
    Operation.MINT_BATCH: Rule(Scope.CHANGE_BATCHES, _FACTORY),
    Operation.FETCH_PACKAGES: Rule(Scope.CHANGE_BATCHES, _FACTORY),
    Operation.DROP_PACKAGES: Rule(Scope.CHANGE_BATCHES, _FACTORY),
    Operation.LIST_CERTIFICATES: Rule(Scope.READ_CERTIFICATES, _PEOPLE),
    Operation.SHOW_CERTIFICATE: Rule(Scope.READ_CERTIFICATES, _PEOPLE),
    Operation.ISSUE_CERTIFICATE: Rule(Scope.CHANGE_CERTIFICATES, _RUNNING),
    Operation.REVOKE_CERTIFICATE: Rule(Scope.REVOKE, _OFFICER),
    Operation.REVOKE_CERTIFICATES: Rule(Scope.REVOKE, _OFFICER, four_eyes=True),
    Operation.LIST_CAMPAIGNS: Rule(Scope.READ_CAMPAIGNS, _PEOPLE),
    Operation.SHOW_CAMPAIGN: Rule(Scope.READ_CAMPAIGNS, _PEOPLE),
    Operation.CREATE_CAMPAIGN: Rule(Scope.CHANGE_CAMPAIGNS, _RUNNING),
    Operation.PREVIEW_CAMPAIGN: Rule(Scope.READ_CAMPAIGNS, _PEOPLE),
    Operation.REPORT_CAMPAIGN: Rule(Scope.READ_CAMPAIGNS, _PEOPLE),
    Operation.START_CAMPAIGN: Rule(Scope.CHANGE_CAMPAIGNS, _RUNNING),
    Operation.APPROVE_CAMPAIGN: Rule(Scope.DECIDE, _OFFICER),
    Operation.PAUSE_CAMPAIGN: Rule(Scope.CHANGE_CAMPAIGNS, _RUNNING),
    Operation.RESUME_CAMPAIGN: Rule(Scope.CHANGE_CAMPAIGNS, _RUNNING),
    Operation.CANCEL_CAMPAIGN: Rule(Scope.CHANGE_CAMPAIGNS, _RUNNING),
    Operation.REPORT_FIRMWARE: Rule(Scope.CHANGE_DEVICES, _RUNNING),
    Operation.LIST_AUDIT_EVENTS: Rule(Scope.READ_AUDIT, _AUDITING),
    Operation.VERIFY_AUDIT: Rule(Scope.READ_AUDIT, _AUDITING),
    Operation.LIST_JOBS: Rule(Scope.READ_JOBS, _LOOKING),
    Operation.SHOW_JOB: Rule(Scope.READ_JOBS, _LOOKING),
    Operation.FOLLOW_JOB: Rule(Scope.READ_JOBS, _LOOKING),
    Operation.CANCEL_JOB: Rule(Scope.CHANGE_JOBS, _RUNNING),
    Operation.LIST_APPROVALS: Rule(Scope.READ_APPROVALS, _AUDITING),
    Operation.SHOW_APPROVAL: Rule(Scope.READ_APPROVALS, _AUDITING),
    Operation.APPROVE: Rule(Scope.DECIDE, _OFFICER),
    Operation.REJECT: Rule(Scope.DECIDE, _OFFICER),
}


def authorize(
    operator: Operator, scopes: frozenset[Scope] | None, operation: Operation, *, house: bool
) -> Rule:
    """The rule that lets the operator do it; `scopes` None is all that the role has.

    `house` says whether the operator belongs to the installation itself. Raises Forbidden
    `role-forbids` or `scope-forbids`.
    """
    rule = RULES[operation]
    if operator.role not in rule.roles or (rule.house and not house):
        raise Forbidden(
            "role-forbids", f"the role {operator.role!s} does not include {operation!s}"
        )
    if scopes is not None and rule.scope not in scopes:
        raise Forbidden("scope-forbids", f"this token's scopes do not include {rule.scope!s}")
    return rule


def second_pair(
    operator_id: str, requested_by: str, hands: Callable[[str], frozenset[str]]
) -> None:
    """Whether this operator may agree to what the other one asked for.

    `hands` says who could hold an operator's credentials: the operator, whoever gave them, and
    so on. Two logins that one person can have count as one pair of eyes, so an administrator
    agrees with nobody whose token they made, and two operators whose tokens one administrator made
    do not agree with each other. Raises Forbidden `four-eyes` or `four-eyes-credentials`.
    """
    if operator_id == requested_by:
        raise Forbidden("four-eyes", "nobody approves what they asked for: a second operator must")
    if hands(operator_id) & hands(requested_by):
        raise Forbidden(
            "four-eyes-credentials",
            "one person gave out the tokens or logins of both who ask and agree, and could hold "
            "them: somebody must agree whose token was made with `certmint operator token add`",
        )
