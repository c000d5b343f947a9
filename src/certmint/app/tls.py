"""TLS in process: an optional client certificate, hot reload, and limits on slow clients.

The listener proves that a client holds the key of the certificate it shows and that an authority
of ours issued it. It does not look at notAfter: a device that sat in a warehouse shows an expired
certificate, and policy decides what that is worth, now.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from certmint.app.spelling import SpellingTransport
from certmint.model.errors import Misconfigured

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: policy judges time, from the registry
MAX_HEADER_BYTES = 32 * 1024
NEVER = float("inf")


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a size for the request head, and deadlines for slow clients.

    The head of each request, and not of the first alone, has to be there in time; of a body at
    least so much in each period. One timer looks for as long as the connection lasts, which costs
    less than one for each request. Overrides only the asyncio callbacks, and calls them through.
    """

    head_deadline_s = 10.0
    body_period_s = 30.0
    body_least = 8 * 1024  # octets in each such period, if the body has not ended with it
    look_s = 2.0

    _timer: asyncio.TimerHandle | None = None
    _due: float | None = None  # when the client is too slow; None while it owes us nothing
    _received = 0  # octets of this request
    _enough = NEVER  # that many of them move the deadline on; in the head none do

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        tls = transport.get_extra_info("ssl_object")
        self.app_state = {**self.app_state, "tls": connection_facts(tls)}
        self._await_head()
        self._timer = self.loop.call_later(self.look_s, self._look)
        # EST clients that compare the names of fields letter by letter come by TLS only.
        spelled = transport if tls is None else SpellingTransport(transport)
        super().connection_made(spelled)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        if self._due is None:  # whatever this is: uvicorn's own clock for idleness has stopped
            self._await_head()
        self._received += len(data)
        super().data_received(data)
        # Looked at afterwards, since a body may have come in the same piece as its head.
        if self._enough == NEVER and self._received > MAX_HEADER_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._await_body()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._due, self._received = None, 0
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._received, self._enough = 0, NEVER
        self._due = self.loop.time() + self.head_deadline_s

    def _await_body(self) -> None:
        self._enough = self._received + self.body_least
        self._due = self.loop.time() + self.body_period_s

    def _look(self) -> None:
        if self._due is not None and self.loop.time() >= self._due:
            if self._received < self._enough:
                self.transport.abort()
                return
            self._await_body()
        self._timer = self.loop.call_later(self.look_s, self._look)


def connection_facts(tls: ssl.SSLObject | None) -> dict[str, object]:
    """What the doors know of a connection: `scope["state"]["tls"]`.

    `unique` is tls-unique (RFC 5929 3), which TLS 1.3 does not have; what replaces it there
    (RFC 9266) cannot be had from Python's ssl.
    """
    if tls is None:
        return {"peer": None, "on": False, "version": "", "unique": None}
    version = tls.version() or ""
    return {
        "peer": tls.getpeercert(binary_form=True),
        "on": True,
        "version": version,
        "unique": tls.get_channel_binding("tls-unique") if version == "TLSv1.2" else None,
    }


class TellingTLS(ssl.SSLObject):
    """A connection that sends the alert of a handshake it refuses before it ends.

    asyncio and uvloop drop the alert that OpenSSL has written, and a refused device sees a torn
    connection (CPython issue 98078). Both send what is there when a handshake waits for more; so
    the first answer is "wait", and the refusal follows with the client's next octets or its end,
    at the latest with the loop's deadline for handshakes.
    """

    _refusal: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        if self._refusal is not None:
            raise self._refusal
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as refusal:
            self._refusal = refusal
            raise ssl.SSLWantReadError("the alert goes out first") from refusal


class ReloadingContext:
    """A server context whose key, certificate and trust anchors can change while it listens."""

    def __init__(self, certificate: Path, key: Path, trusted: Sequence[str]) -> None:
        self._current = server_context(certificate, key, trusted)

    def replace(self, certificate: Path, key: Path, trusted: Sequence[str]) -> None:
        """New connections use these; open ones go on. Raises Misconfigured `tls-files`."""
        self._current = server_context(certificate, key, trusted)

    def listening(self) -> ssl.SSLContext:
        """The context to listen with: it hands every handshake to the newest one."""
        front = self._current

        def choose(connection: ssl.SSLObject, _name: str | None, _front: ssl.SSLContext) -> None:
            connection.context = self._current

        front.sni_callback = choose
        return front


def server_context(certificate: Path, key: Path, trusted: Sequence[str]) -> ssl.SSLContext:
    """TLS 1.2 or newer, a client certificate if the client has one, from the `trusted` PEMs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = TellingTLS
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A TLS 1.3 ticket holds the client's certificate and costs 0.2 ms of CPU, so that a handshake
    # without tickets (0.69 ms) is hardly dearer than a resumed one (0.55 ms); no agent resumes.
    context.num_tickets = 0
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            "tls-files", f"the server's certificate {certificate} and key {key}: {error}"
        ) from None
    if trusted:
        context.load_verify_locations(cadata="".join(trusted))
    # Without anybody to trust as well: a handshake takes these two from the context that listens,
    # and only the anchors from the newest. Each anchor is one of ours, so the chain may end there.
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= _NO_CHECK_TIME | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def context_factory(holder: ReloadingContext) -> Callable[..., ssl.SSLContext]:
    """What uvicorn calls for the context."""

    def factory(*_: Any, **__: Any) -> ssl.SSLContext:
        return holder.listening()

    return factory
