"""What a rule is."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

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
