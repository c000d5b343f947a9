"""What a running server does by itself: tidy up after crashes, sign fresh CRLs, keep its own TLS.

Each job takes a lease first, so that of several nodes one does the work. A job that fails is
logged and tried again at the next round; it never takes the server down.
"""

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from certmint.app import servercert
from certmint.app.tls import ReloadingContext
from certmint.app.wiring import Installation, acme_limits, acme_network, means, post
from certmint.doors.acme.views import URLs
from certmint.enrolment import chains, idempotency
from certmint.enrolment.acme.star import renew_due
from certmint.enrolment.acme.upkeep import tidy
from certmint.enrolment.campaigning import work_campaigns
from certmint.enrolment.emailing import deliver_due
from certmint.enrolment.reconcile import reconcile
from certmint.enrolment.revalidation import renew_proofs
from certmint.enrolment.status import refresh_crls
from certmint.model.errors import CertmintError
from certmint.model.states import AuthorityState
from certmint.registry import reads, writes

log = logging.getLogger("certmint.jobs")

ONE_HOUR = dt.timedelta(hours=1)
FIVE_MINUTES = dt.timedelta(minutes=5)
ONE_MINUTE = dt.timedelta(minutes=1)
CAMPAIGNS_S = 30.0  # how long campaigns may keep the other jobs waiting
ROUND_S = 5.0  # how soon a new authority's devices are trusted by a running server


@dataclass(frozen=True)
class Job:
    """Something to do every so often, by one node at a time if it is `exclusive`."""

    name: str
    every: dt.timedelta
    work: Callable[[], object]
    exclusive: bool


def trusted_anchors(installation: Installation) -> list[str]:
    """Every authority's certificate in PEM: what client certificates are checked against."""
    with installation.db.read() as tx:
        known = reads.all_authorities(tx)
    return [chains.pem(each.der) for each in known if each.state is not AuthorityState.PENDING]


class Jobs:
    """The rounds, in one thread of the server."""

    def __init__(self, installation: Installation, tls: ReloadingContext, holder: str) -> None:
        self._installation = installation
        self._tls = tls
        self._holder = holder
        self._anchors = trusted_anchors(installation)
        self._due: dict[str, dt.datetime] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the job at hand and end."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _jobs(self) -> tuple[Job, ...]:
        here = self._installation
        return (
            Job("trust", dt.timedelta(seconds=ROUND_S), self._follow_authorities, exclusive=False),
            Job("server-certificate", dt.timedelta(hours=1), self._renew_own, exclusive=False),
            Job(
                "reconcile", FIVE_MINUTES, lambda: reconcile(here.db, here.keys, here.clock()), True
            ),
            Job("acme", ONE_MINUTE, self._tidy_acme, exclusive=True),
            Job("acme-star", ONE_MINUTE, self._renew_orders, exclusive=True),
            Job("answers", ONE_HOUR, lambda: idempotency.forget(here.db, here.clock()), True),
            Job("campaigns", ONE_MINUTE, self._work_campaigns, exclusive=True),
            Job("mail", ONE_MINUTE, self._send_mail, exclusive=True),
            Job("domains", dt.timedelta(hours=1), self._renew_proofs, exclusive=True),
            Job("crl", FIVE_MINUTES, lambda: refresh_crls(here.db, here.keys, here.clock()), True),
        )

    def _run(self) -> None:
        jobs = self._jobs()
        while not self._stop.is_set():
            for job in jobs:
                self._try(job)
            self._stop.wait(ROUND_S)

    def _try(self, job: Job) -> None:
        now = self._installation.clock()
        if self._stop.is_set() or now < self._due.get(job.name, now):
            return
        self._due[job.name] = now + job.every
        try:
            if not job.exclusive or self._take(job, now):
                job.work()
        except CertmintError as error:
            log.error("job %s: %s: %s", job.name, error.code, error)  # noqa: TRY400
        except Exception:
            log.exception("job %s failed", job.name)

    def _take(self, job: Job, now: dt.datetime) -> bool:
        return self._installation.db.write(
            lambda tx: writes.take_lease(
                tx, f"job:{job.name}", self._holder, now, now + job.every * 2
            )
        )

    def _tidy_acme(self) -> None:
        here = self._installation
        base = here.config.base_url
        tidy(
            here.db, acme_network(here),
            lambda slug, directory, account: URLs(f"{base}/acme/{slug}/{directory.name}").place(
                directory, account
            ),
            here.clock(), acme_limits(here),
        )  # fmt: skip

    def _renew_orders(self) -> None:
        here = self._installation
        for order_id, error in renew_due(here.db, here.gate, here.clock()):
            if error is not None:
                log.warning("order %s does not renew: %s: %s", order_id, error.code, error)

    def _work_campaigns(self) -> None:
        here, ends = self._installation, time.monotonic() + CAMPAIGNS_S
        work_campaigns(
            here.db, here.keys, here.clock,
            lambda: time.monotonic() < ends and not self._stop.is_set(),
        )  # fmt: skip

    def _send_mail(self) -> None:
        here = self._installation
        outlet = post(here.config)
        if outlet is not None:
            for mail, error in deliver_due(here.db, outlet, here.clock()):
                log.warning("message %s stays: %s: %s", mail.id, error.code, error)

    def _renew_proofs(self) -> None:
        here = self._installation
        for age, error in renew_proofs(here.db, means(here), here.clock()):
            log.warning(
                "the proof of %s lapses on %s: %s: %s",
                age.proof.domain, age.lapses_at.date(), error.code, error,
            )  # fmt: skip

    def _follow_authorities(self) -> None:
        anchors = trusted_anchors(self._installation)
        if anchors != self._anchors:
            self._reload(anchors)

    def _renew_own(self) -> None:
        if servercert.ensure(self._installation):
            self._reload(self._anchors)

    def _reload(self, anchors: list[str]) -> None:
        settings = self._installation.config.settings.server
        resolve = self._installation.config.resolve
        self._tls.replace(resolve(settings.certificate), resolve(settings.key), anchors)
        self._anchors = anchors
        log.info("TLS reloaded: %d authorities trusted", len(anchors))
