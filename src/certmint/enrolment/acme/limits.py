"""Rate limits (RFC 8555 6.6): how often accounts, devices and manufacturers may do what.

They are counted in the database, in windows of one length, so that all nodes share them and each
subject has one row at most. What is refused is not counted: a client that comes back when it was
told to is served.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from certmint.model.acme import Account
from certmint.model.errors import Refused
from certmint.registry import reads, writes
from certmint.registry.engine import Transaction


class RateLimited(Refused):
    """Too often; `retry_after` is the number of seconds after which it works again."""

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__("rate-limited", detail)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Limit:
    """How often in one window. A device is one by its external account binding."""

    account: int
    device: int
    manufacturer: int


@dataclass(frozen=True)
class Limits:
    """What an installation allows; the defaults are far above what a fleet needs.

    `open_orders` and `wrong_macs` are for an account and for a binding.
    """

    window: dt.timedelta = dt.timedelta(hours=1)
    orders: Limit = field(default=Limit(account=100_000, device=100, manufacturer=1_000_000))
    failures: Limit = field(default=Limit(account=1_000, device=50, manufacturer=100_000))
    accounts: Limit = field(default=Limit(account=1, device=20, manufacturer=1_000_000))
    open_orders: int = 300
    wrong_macs: int = 20


GENEROUS = Limits()


def subjects(
    kind: str, limit: Limit, tenant_id: str, account_id: str | None, device_id: str | None
) -> dict[str, int]:
    """Whom something is counted for, by the name of the counter."""
    found = {f"{kind}:manufacturer:{tenant_id}": limit.manufacturer}
    if account_id is not None:
        found[f"{kind}:account:{account_id}"] = limit.account
    if device_id is not None:
        found[f"{kind}:device:{device_id}"] = limit.device
    return found


def spend(tx: Transaction, who: Mapping[str, int], limits: Limits, now: dt.datetime) -> None:
    """Count once more for each. Raises RateLimited; then the transaction is rolled back."""
    for subject, most in who.items():
        spent, until = writes.count_acme(tx, subject, now, now + limits.window)
        if spent > most:
            raise _exceeded(subject, most, until, now)


def check(tx: Transaction, who: Mapping[str, int], now: dt.datetime) -> None:
    """Raises RateLimited if one of them reached its limit; nothing is counted."""
    counted = reads.acme_counts(tx, who, now)
    for subject, most in who.items():
        spent, until = counted.get(subject, (0, now))
        if spent >= most:
            raise _exceeded(subject, most, until, now)


def count(tx: Transaction, who: Mapping[str, int], limits: Limits, now: dt.datetime) -> None:
    """Count what happened, whether or not it may happen again."""
    for subject in who:
        writes.count_acme(tx, subject, now, now + limits.window)


def failures(tx: Transaction, account: Account, limits: Limits) -> dict[str, int]:
    """Whom a failed validation is counted for."""
    device_id = None
    if account.binding_id is not None:
        binding = reads.acme_binding(tx, account.directory, account.binding_id)
        device_id = binding.device_id if binding else None
    return subjects("failures", limits.failures, account.tenant_id, account.id, device_id)


def _exceeded(subject: str, most: int, until: dt.datetime, now: dt.datetime) -> RateLimited:
    what, whose, _ = subject.split(":", 2)
    again = max(1, int((until - now).total_seconds()) + 1)
    detail = (
        f"this {whose} has reached its limit of {most} {what} in a window of time: come again in "
        f"{again} seconds"
    )
    return RateLimited(detail, again)
