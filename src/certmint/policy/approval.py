"""What policy grants. Only `certmint.policy.decide` constructs an `Approval` (a test proves it)."""

import datetime as dt
from dataclasses import dataclass

from certmint.model.entities import Authority
from certmint.model.request import CertificateRequest


@dataclass(frozen=True, slots=True)
class Approval:
    """Everything granted: sign this key, these names and subject, by this authority.

    Names, subject and constraints are the request's, which policy found acceptable; `not_before`
    and `not_after` (inclusive, whole seconds) are policy's. `rules` are the codes that were
    passed, `calendar` the version of the dated rule calendar that was in force.
    """

    request: CertificateRequest
    authority: Authority
    not_before: dt.datetime
    not_after: dt.datetime
    calendar: str
    rules: tuple[str, ...]
