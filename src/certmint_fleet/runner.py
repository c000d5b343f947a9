"""Running a fleet: who renews when, how many at once, which attempts are cut, and how it ends.

Every device gets a first certificate, and then its renewals at random moments of the given time. A
device does one thing at a time. An attempt that was killed, or that failed while connections are
torn on purpose, is repeated until it succeeds; without faults a failure is a finding.
"""

import datetime as dt
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from certmint_fleet.agents import DONE, KILLED, Attempt, Device
from certmint_fleet.report import Summary, Tally

_REPEATS = 20  # with half of everything cut, one in a million attempts fails so often
_KILL_WITHIN_S = {"python": 1.5, "shell": 1.0}  # about as long as an attempt takes


@dataclass(frozen=True)
class Plan:
    """`renewals` of each device over `seconds`; at most `at_once`; shares of 0 to 1."""

    renewals: int = 1
    seconds: float = 0.0
    at_once: int = 8
    killed: float = 0.0
    torn: float = 0.0


class Fleet:
    """One run. `progress` hears how many attempts of how many are over, and how many failed."""

    def __init__(
        self,
        devices: Sequence[Device],
        plan: Plan,
        dice: random.Random,
        progress: Callable[[int, int, int], None],
    ) -> None:
        self._devices, self._plan, self._dice, self._progress = devices, plan, dice, progress
        self._lock = threading.Lock()
        self._busy = {device.name: threading.Lock() for device in devices}
        self._stop = threading.Event()
        self._tallies = {"python": Tally(), "shell": Tally()}
        self._unfinished: dict[str, str] = {}
        self._over = 0

    def run(self) -> Summary:
        """Until everything is done, or until KeyboardInterrupt: then what has begun is finished."""
        began, interrupted = time.monotonic(), False
        for device in self._devices:
            self._tallies[device.kind].agents += 1
        with ThreadPoolExecutor(self._plan.at_once) as pool:
            try:
                self._work(pool, began)
            except KeyboardInterrupt:
                interrupted = True
                self._stop.set()
                pool.shutdown(cancel_futures=True)
        seconds, now = time.monotonic() - began, dt.datetime.now(dt.UTC)
        without = [each.name for each in self._devices if not each.has_valid_pair(now)]
        return Summary(self._tallies, seconds, without, self._unfinished, interrupted)

    def _work(self, pool: ThreadPoolExecutor, began: float) -> None:
        running: list[Future[None]] = []
        agenda = self._agenda()
        for due, _, device in agenda:
            while (wait := began + due - time.monotonic()) > 0:
                time.sleep(min(wait, 0.5))
            running.append(pool.submit(self._turn, device, len(agenda)))
        for each in running:
            each.result()

    def _agenda(self) -> list[tuple[float, int, Device]]:
        """(seconds from the beginning, how many certificates before, device), in order."""
        agenda = [(0.0, 0, device) for device in self._devices]
        for device in self._devices:
            moments = sorted(
                self._dice.uniform(0, self._plan.seconds) for _ in range(self._plan.renewals)
            )
            agenda += [(due, turn, device) for turn, due in enumerate(moments, 1)]
        return sorted(agenda, key=lambda each: each[:2])

    def _turn(self, device: Device, of: int) -> None:
        with self._busy[device.name]:
            last = self._until_done(device)
        with self._lock:
            self._over += 1
            if last.outcome != DONE:
                self._unfinished[device.name] = last.detail or last.outcome
            else:
                self._unfinished.pop(device.name, None)
            self._progress(self._over, of, len(self._unfinished))

    def _until_done(self, device: Device) -> Attempt:
        for repeat in range(_REPEATS):
            is_first = not (device.service / "live").exists()
            attempt = device.attempt(self._cut(device) if repeat == 0 else None)
            with self._lock:
                self._tallies[device.kind].count(attempt, is_first=is_first)
            may_repeat = attempt.outcome == KILLED or self._plan.torn > 0
            if attempt.outcome == DONE or not may_repeat or self._stop.is_set():
                break
        return attempt

    def _cut(self, device: Device) -> float | None:
        with self._lock:
            if self._dice.random() >= self._plan.killed:
                return None
            return self._dice.uniform(0.01, _KILL_WITHIN_S[device.kind])
