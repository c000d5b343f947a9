"""The decision: may this requester have this certificate, now?"""

import datetime as dt

from certmint.model.errors import Refused
from certmint.model.request import CertificateRequest, Facts
from certmint.policy import calendar
from certmint.policy.approval import Approval
from certmint.policy.rules import RULES
from certmint.policy.rules.lifetime import validity

_CODES = tuple(rule.code for rule in RULES)


def decide(request: CertificateRequest, facts: Facts, now: dt.datetime) -> Approval:
    """Grant `request`, or raise Refused with the code of the first rule that it breaks."""
    for rule in RULES:
        detail = rule.check(request, facts, now)
        if detail is not None:
            raise Refused(rule.code, detail)
    not_before, not_after = validity(request, facts, now)
    return Approval(request, facts.authority, not_before, not_after, calendar.VERSION, _CODES)
