"""The long work that operators ask for, in a thread of the server.

A job's own failures are its outcome; what nobody thought of is logged, and ends the job, too.
"""

import logging
import threading

from certmint.enrolment.work import Workshop, work_off
from certmint.model.errors import CertmintError

log = logging.getLogger("certmint.worker")

LOOK_S = 0.5  # how soon a job that was asked for begins


class Worker:
    """Works off jobs until it is stopped."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End; a job under way is taken up again by the next server."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                work_off(self._shop, self._stop.is_set)
            except CertmintError as error:
                log.error("jobs: %s: %s", error.code, error)  # noqa: TRY400
            except Exception:
                log.exception("a job failed")
