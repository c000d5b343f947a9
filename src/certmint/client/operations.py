"""The client: every operation of the REST API, by its operationId."""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from certmint.client.campaigns import Campaigns
from certmint.client.catalogue import Catalogue
from certmint.client.fleet import Fleet
from certmint.client.people import People
from certmint.client.records import Records
from certmint.client.transport import Transport


class Client(People, Catalogue, Fleet, Campaigns, Records):
    """An operator's view of one server; for one thread at a time, and best used in a `with`.

    `ca_file` are the trust anchors in PEM, without it the system's. `timeout` is in seconds, for
    one step of one attempt; `attempts` is how often a request is made that may be made again.
    Every method raises Problem, Unreachable, Unexpected.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        ca_file: str | Path | None = None,
        *,
        timeout: float = 30.0,
        attempts: int = 5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(
            Transport(
                base_url, token, ca_file=ca_file, timeout=timeout, attempts=attempts, sleep=sleep
            )
        )

    def __repr__(self) -> str:
        return f"Client({self._transport.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._transport.close()
