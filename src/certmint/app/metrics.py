"""What a node counts, and what the registry knows at the moment of a scrape, for Prometheus.

Requests are counted where they come in; everything about fleets is read from the registry, so that
every node says the same and nothing is lost in a restart. Names follow Prometheus' conventions.
"""

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from certmint.doors.http import App, Message, Receive, Scope, Send
from certmint.enrolment import overview
from certmint.model.entities import Manufacturer
from certmint.registry import reads
from certmint.registry.engine import Database

Note = Callable[[int, float], None]
"""Takes the status of an answer, and the seconds that it took."""

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_FRESH = dt.timedelta(seconds=10)
_DAYS = ("expired", *(str(days) for days in overview.DAYS[1:]), "+Inf")


class Metrics:
    """One node's numbers."""

    def __init__(
        self,
        db: Database,
        counts: overview.Counts,
        clock: Callable[[], dt.datetime],
        version: str,
    ) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "certmint_http_requests", "Requests by door and class of status.",
            ("door", "status"), registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "certmint_http_request_seconds", "Time to the end of the answer, by door.",
            ("door",), buckets=_BUCKETS, registry=self._registry,
        )  # fmt: skip
        self._registry.register(_Fleets(db, counts, clock, version))

    def text(self) -> bytes:
        """Everything in the text format of Prometheus."""
        return generate_latest(self._registry)

    def watch(self, doors: Mapping[str, App], otherwise: App) -> tuple[dict[str, App], App]:
        """The same doors, counted; each by the first part of its prefix."""
        return (
            {prefix: self._counted(app, _name(prefix)) for prefix, app in doors.items()},
            self._counted(otherwise, "rest"),
        )

    def note(self, prefix: str) -> Note:
        """What is told of answers that go out by the lane of this prefix."""
        return self._note(_name(prefix))

    def _note(self, door: str) -> Note:
        seconds = self._seconds.labels(door)
        by_class = {kind: self._requests.labels(door, f"{kind}xx") for kind in range(1, 6)}

        def noted(status: int, passed: float) -> None:
            seconds.observe(passed)
            by_class[status // 100].inc()

        return noted

    def _counted(self, app: App, door: str) -> App:
        noted = self._note(door)

        async def count(scope: Scope, receive: Receive, send: Send) -> None:
            status = 500
            begun = time.perf_counter()

            async def note(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, note)
            finally:
                noted(status, time.perf_counter() - begun)

        return count


def _name(prefix: str) -> str:
    return {"/acme/": "acme", "/.well-known/est/": "est", "/sws/": "sws"}.get(prefix, "pages")


class _Fleets(Collector):
    """Gauges of every manufacturer, as the registry knows them."""

    def __init__(
        self,
        db: Database,
        counts: overview.Counts,
        clock: Callable[[], dt.datetime],
        version: str,
    ) -> None:
        self._db = db
        self._counts = counts
        self._clock = clock
        self._version = version
        self._known: tuple[dt.datetime, list[GaugeMetricFamily]] | None = None

    def describe(self) -> list[GaugeMetricFamily]:
        return []  # nothing is read before somebody asks

    def collect(self) -> Iterator[GaugeMetricFamily]:
        now = self._clock()
        if self._known is None or now - self._known[0] >= _FRESH:
            self._known = (now, self._read(now))
        yield from self._known[1]

    def _read(self, now: dt.datetime) -> list[GaugeMetricFamily]:
        def gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"certmint_{name}", about, labels=labels)

        build = gauge("build_info", "The version that runs.", "version")
        build.add_metric([self._version], 1)
        devices = gauge("devices", "Devices by state.", "manufacturer", "state")
        ending = gauge(
            "certificates_in_force", "Certificates neither revoked nor replaced, by days left.",
            "manufacturer", "days_left",
        )  # fmt: skip
        waiting = gauge("approvals_pending", "Requests for a second operator.", "manufacturer")
        lapse = gauge(
            "domain_lapses_timestamp_seconds", "When the proof of a domain lapses.",
            "manufacturer", "domain",
        )  # fmt: skip
        crl = gauge(
            "crl_next_update_timestamp_seconds", "nextUpdate of the newest CRL.",
            "manufacturer", "authority", "shard",
        )  # fmt: skip
        with self._db.read() as tx:
            tenants = {each.id: each for each in reads.manufacturers(tx, None, 10_000)}
        for tenant in tenants.values():
            seen = overview.look(self._db, self._counts, tenant, now)
            for state, number in seen.devices.items():
                devices.add_metric([tenant.slug, state.value], number)
            for days, number in zip(_DAYS, seen.ending, strict=True):
                ending.add_metric([tenant.slug, days], number)
            waiting.add_metric([tenant.slug], len(seen.approvals))
            for age in seen.ages:
                lapse.add_metric([tenant.slug, age.proof.domain], age.lapses_at.timestamp())
        self._add_crls(crl, tenants)
        return [build, devices, ending, waiting, lapse, crl]

    def _add_crls(self, family: GaugeMetricFamily, tenants: Mapping[str, Manufacturer]) -> None:
        with self._db.read() as tx:
            for authority in reads.all_authorities(tx):
                for shard in range(authority.crl_shards):
                    newest = reads.latest_crl(tx, authority.id, shard)
                    if newest is not None:
                        labels = [
                            tenants[authority.tenant_id].slug, authority.name, str(shard)
                        ]  # fmt: skip
                        family.add_metric(labels, newest.next_update.timestamp())
