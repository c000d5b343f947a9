"""What takes long, each kind in a thread of the server: operators' jobs, looks at orders.

A job's own failures are its outcome; what nobody thought of is logged, and ends the job, too.
"""

import logging
import threading
from collections.abc import Callable

from certmint.model.errors import CertmintError

log = logging.getLogger("certmint.worker")


class Worker:
    """Works off what waits, every so many seconds, until it is stopped.

    `work` is told how to ask whether it shall end after the step at hand.
    """

    def __init__(
        self, name: str, every_s: float, work: Callable[[Callable[[], bool]], object]
    ) -> None:
        self._name = name
        self._every_s = every_s
        self._work = work
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End; a job under way is taken up again by the next server."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._work(self._stop.is_set)
            except CertmintError as error:
                log.error("%s: %s: %s", self._name, error.code, error)  # noqa: TRY400
            except Exception:
                log.exception("%s failed", self._name)
