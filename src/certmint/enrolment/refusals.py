"""Refusals before the gate, in the audit log: wrong credentials, contradictions, torn proofs.

The gate writes down what policy refuses. What is refused before that is written down here, but an
attacker must not be able to fill the log: in each window one event for a code and a network, and
no more than a few dozen in all; the next event says how many went unsaid. Counted in memory, by
each node for itself: if the power fails, a number is lost, and nobody was let in by that.
"""

import datetime as dt
import threading
from dataclasses import dataclass

from certmint.enrolment import devices, logins
from certmint.model.errors import CertmintError, Forbidden, Refused, TooOften, Unauthenticated
from certmint.policy.rules import RULES
from certmint.registry import audit, reads
from certmint.registry.engine import Database

WINDOW = dt.timedelta(minutes=10)
MOST = 50  # events in a window
_KINDS = (Unauthenticated, Forbidden, Refused, TooOften)
_CHALLENGE = "login-required"  # many clients ask without credentials first: that is no attempt
_NOT_HERE = frozenset([_CHALLENGE, *(rule.code for rule in RULES)])


@dataclass(frozen=True)
class Attempt:
    """What a refused request said of itself: "" and None for what it did not."""

    door: str
    source: str
    maker: str = ""
    certificate: bytes | None = None


class RefusalLog:
    """Writes down refusals, within its bounds. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = dt.datetime.min.replace(tzinfo=dt.UTC)
        self._seen: set[tuple[str, str]] = set()
        self._unsaid = 0

    def note(
        self, db: Database, refusal: CertmintError, attempt: Attempt, now: dt.datetime
    ) -> None:
        """Write a refusal down, unless the gate has, or one like it was a moment ago.

        Raises Unavailable if the registry fails.
        """
        if not isinstance(refusal, _KINDS) or refusal.code in _NOT_HERE:
            return
        unsaid = self._turn((refusal.code, logins.network(attempt.source)), now)
        if unsaid is None:
            return
        tenant_id, actor = _whose(db, attempt)
        detail = {"code": refusal.code, "source": attempt.source, "unsaid_before": unsaid}
        event = audit.Event(now, tenant_id, actor, f"{attempt.door}.refused", actor, detail)
        db.write(lambda tx: audit.append(tx, event))

    def _turn(self, kind: tuple[str, str], now: dt.datetime) -> int | None:
        """How many went unsaid since the last event; None if this one does, too."""
        with self._lock:
            if now - self._since >= WINDOW:
                self._since, self._seen = now, set()
            if kind in self._seen or len(self._seen) >= MOST:
                self._unsaid += 1
                return None
            self._seen.add(kind)
            unsaid, self._unsaid = self._unsaid, 0
            return unsaid


def _whose(db: Database, attempt: Attempt) -> tuple[str | None, str]:
    """The tenant that it concerns, as far as that is known, and who asked."""
    if attempt.certificate is not None:
        try:
            shown = devices.identify(db, attempt.certificate)
        except CertmintError:
            pass
        else:
            return shown.tenant_id, f"device:{shown.device_id}"
    with db.read() as tx:
        tenant = reads.manufacturer_by_slug(tx, attempt.maker) if attempt.maker else None
    return tenant.id if tenant else None, f"{attempt.door}:unknown"
