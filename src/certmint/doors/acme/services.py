"""What the routes of the ACME door call into, and the shapes of answer that they share."""

import datetime as dt
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import orjson

from certmint.doors.http import Answer
from certmint.enrolment.acme.challenges import Network
from certmint.enrolment.acme.limits import GENEROUS, Limits
from certmint.enrolment.acme.nonces import Nonces
from certmint.enrolment.issue import Gate
from certmint.enrolment.signing import SigningKeys
from certmint.enrolment.vault import Vault
from certmint.model.serial import RandomBytes
from certmint.registry import fibres
from certmint.registry.engine import Database

AT_ONCE_S = 0.05
QUICK_S = 1.5  # how long a request waits for its own validation before it says "processing"


@dataclass(frozen=True)
class Services:
    """What the routes call into. `base_url` is the configured https:// base of the server."""

    db: Database
    gate: Gate
    keys: SigningKeys
    nonces: Nonces
    vault: Vault
    network: Network
    clock: Callable[[], dt.datetime]
    random_bytes: RandomBytes
    base_url: str
    limits: Limits = GENEROUS


class Validators:
    """Work that looks at the network while clients wait, but not for long."""

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._looking: dict[str, Callable[[], None]] = {}

    def look(
        self, subject: str, work: Callable[[], None], mark: Callable[[], None] = lambda: None
    ) -> None:
        """Begin the work, and come back when it is done or `QUICK_S` have passed.

        `mark` is called if it is not over at once. A subject that is being looked at is left.
        """
        if self._looking.setdefault(subject, work) is not work:
            return

        def looked() -> None:
            try:
                work()
            finally:
                del self._looking[subject]

        begun = fibres.begin(self._threads, looked)
        fibres.patiently(begun, AT_ONCE_S)
        if not begun.done():
            mark()
            fibres.patiently(begun, QUICK_S - AT_ONCE_S)

    def is_looking(self, subject: str) -> bool:
        """Whether this node is looking at it."""
        return subject in self._looking


def json_answer(
    body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Answer:
    """An ACME object."""
    answer = Answer(orjson.dumps(body), status, "application/json")
    for name, value in (headers or {}).items():
        answer.add(name, value)
    return answer


def link(answer: Answer, url: str, relation: str) -> None:
    """Say where something that belongs to the answer is (RFC 8288)."""
    answer.add("Link", f'<{url}>;rel="{relation}"')
