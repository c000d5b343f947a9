"""How often a manufacturer may ask: requests in each minute, counted by each node for itself.

A count in the database would make every read a write. The header fields are those of
draft-ietf-httpapi-ratelimit-headers.
"""

import datetime as dt
import threading

WINDOW_S = 60


class RateLimit:
    """Fixed windows of a minute; `quota` requests of each manufacturer in each of them."""

    def __init__(self, quota: int) -> None:
        self._quota = quota
        self._window = 0
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()

    def take(self, tenant_id: str, now: dt.datetime) -> tuple[int, int, int]:
        """Count a request: the quota, what remains of it (below zero: refused), seconds to wait."""
        seconds = int(now.timestamp())
        with self._lock:
            if seconds // WINDOW_S != self._window:
                self._window = seconds // WINDOW_S
                self._used.clear()  # bounded by the tenants that ask within a minute
            used = self._used[tenant_id] = self._used.get(tenant_id, 0) + 1
        return self._quota, self._quota - used, WINDOW_S - seconds % WINDOW_S
