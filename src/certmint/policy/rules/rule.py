"""What a rule is."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from certmint.model.errors import Refused
from certmint.model.request import CertificateRequest, Facts

Check = Callable[[CertificateRequest, Facts, dt.datetime], str | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason to refuse: a stable code, its source, one sentence, and the check.

    The check returns None, or the sentence that tells the requester what is wrong.
    """

    code: str
    source: str
    sentence: str
    check: Check

    def enforce(self, request: CertificateRequest, facts: Facts, now: dt.datetime) -> None:
        """Raise Refused with this rule's code if the request breaks it."""
        detail = self.check(request, facts, now)
        if detail is not None:
            raise Refused(self.code, detail)
