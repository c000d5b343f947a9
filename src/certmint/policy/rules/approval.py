"""The last rule: a person decides, where the product wants that (RFC 7030 4.2.3).

It stands behind every other rule, so that only a request that would be granted waits for anybody.
"""

import datetime as dt

from certmint.model.evidence import ApprovedRequest
from certmint.model.request import CertificateRequest, Facts
from certmint.policy.rules.rule import Rule
from certmint.policy.situation import is_in_the_field, is_repeated, situation_of


def _required(request: CertificateRequest, facts: Facts, now: dt.datetime) -> str | None:
    product = facts.product
    if product is None or not product.approval or not is_in_the_field(request):
        return None
    situation = situation_of(request, facts, now)
    if situation not in product.approval or is_repeated(request, facts, now):
        return None
    if any(isinstance(piece, ApprovedRequest) for piece in request.evidence):
        return None
    return f"product {product.name!r} wants an operator's approval for a device that is {situation}"


REQUIRED = Rule(
    "approval-required",
    "ours: the product's policy",
    "An operator has approved the request, in the situations where the product wants that.",
    _required,
)
