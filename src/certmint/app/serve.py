"""The server: two listeners in one process, and the jobs beside them."""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial

import uvicorn
import uvloop

from certmint.app import servercert
from certmint.app.jobs import Jobs, trusted_anchors
from certmint.app.lanes import LaneProtocol, Way
from certmint.app.metrics import Metrics
from certmint.app.tls import LimitedProtocol, ReloadingContext, context_factory
from certmint.app.wiring import (
    Installation,
    acme_door,
    console_desk,
    est_door,
    rest_services,
    sws_counter,
    sws_services,
    workshop,
)
from certmint.app.worker import Worker
from certmint.doors.console.app import PREFIXES, console_app
from certmint.doors.http import App, Doorman, ForwardedCertificate
from certmint.doors.rest.app import rest_app
from certmint.doors.status.health import PATHS as HEALTH
from certmint.doors.status.routes import status_app
from certmint.doors.sws.app import sws_app
from certmint.doors.sws.calls import PATHS as SWS_PATHS
from certmint.enrolment.overview import Counts
from certmint.enrolment.sws.fulfilling import advance_due
from certmint.enrolment.work import work_off
from certmint.model.errors import Misconfigured

log = logging.getLogger("certmint")

IDLE_S = 30
JOBS_S = 0.5  # how soon a job that was asked for begins
ORDERS_S = 5.0  # how soon an order is looked at that is due
BACKLOG = 512
_EST = "/.well-known/est/"
_COLLECT_AFTER = (20_000, 20, 20)  # allocations, and how many collections a generation waits


def serve(installation: Installation, version: str) -> None:
    """Serve until SIGTERM or SIGINT. Raises Misconfigured `address-in-use`, `tls-files` …"""
    settings = installation.config.settings.server
    servercert.ensure(installation)
    anchors = trusted_anchors(installation)
    resolve = installation.config.resolve
    tls = ReloadingContext(resolve(settings.certificate), resolve(settings.key), anchors)
    status = status_app(installation.db, installation.keys, installation.clock)
    door = acme_door(installation)
    est = est_door(installation, lambda: servercert.document_signer(installation))
    counts = Counts(installation.db)
    pages = console_app(console_desk(installation, counts))
    doors: dict[str, App] = {"/acme/": door, _EST: est.app}
    doors["/sws/"] = sws_app(sws_services(installation), SWS_PATHS)
    doors |= dict.fromkeys(PREFIXES, pages)
    metrics = Metrics(installation.db, counts, installation.clock, version)
    rest = rest_app(rest_services(installation, metrics.text), version)
    counted, counted_rest = metrics.watch(doors, rest)
    counted |= dict.fromkeys(HEALTH, status)
    ways = [Way("/acme/", door, metrics.note("/acme/"))]
    if not settings.trusted_proxies:  # behind one, the client's certificate is in a header field
        ways.append(Way(_EST, est, metrics.note(_EST)))
    app = ForwardedCertificate(Doorman(counted, counted_rest), settings.trusted_proxies)
    secure = bind(settings.https)
    plain = bind(settings.http)
    servers = [
        _Server(_config(app, tls, partial(LaneProtocol, ways=ways)), secure),
        _Server(_config(status, None, LimitedProtocol), plain),
    ]
    node = f"{socket.gethostname()}:{os.getpid()}"
    jobs = Jobs(installation, tls, node)
    shop, counter = workshop(installation, node), sws_counter(installation)
    workers = (
        Worker("worker", JOBS_S, partial(work_off, shop)),
        Worker("orders", ORDERS_S, partial(advance_due, counter, installation.clock)),
    )
    jobs.start()
    for worker in workers:
        worker.start()
    # What is there now stays: without this, every full collection walks over all of it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
    log.info("serving https on %s and http on %s", settings.https, settings.http)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(servers))
    finally:
        for worker in workers:
            worker.stop()
        jobs.stop()
        log.info("stopped")


def bind(address: str) -> socket.socket:
    """A listening socket. Raises Misconfigured `address-in-use` or `address-unusable`."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, int(port)))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise Misconfigured(
                "address-in-use",
                f"{address} is in use by another process: stop it, or change [server] in "
                "certmint.toml",
            ) from None
        raise Misconfigured("address-unusable", f"cannot listen on {address}: {error}") from None
    return listener


class _Server(uvicorn.Server):
    """uvicorn on a socket of ours; signals are handled once for both servers, in `_run`."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self.listener = listener

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(
    app: object, tls: ReloadingContext | None, protocol: Callable[..., LimitedProtocol]
) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # Starlette and FastAPI are ASGI applications
        http=protocol,  # type: ignore[arg-type]  # whatever makes one is called as a class is
        loop="none",
        ws="none",
        proxy_headers=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE_S,
        ssl_context_factory=context_factory(tls) if tls is not None else None,
    )


async def _run(servers: list[_Server]) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await asyncio.gather(*(server.serve([server.listener]) for server in servers))
