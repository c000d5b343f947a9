"""The EST door: one ASGI application below `/.well-known/est`, without a framework.

Each operation is a few lines between decoded values and a use case. Passwords and key generation
take tens of milliseconds, so they run in threads; everything else runs as the database likes it.
"""

import datetime as dt
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from certmint.doors.est import answers
from certmint.doors.est.csrattrs import csr_attributes
from certmint.doors.est.requests import read_csr, split_path, unbase64
from certmint.doors.http import (
    MAX_BODY,
    BodyLimit,
    Plain,
    Receive,
    Scope,
    Send,
    Told,
    basic_login,
    bearer_of,
    source_of,
)
from certmint.enrolment import asking, delivery, est
from certmint.enrolment.asking import (
    Caller,
    LabelSecret,
    Login,
    OwnerPassword,
    ProvedOwner,
    Shown,
)
from certmint.enrolment.delivery import Delivery
from certmint.enrolment.est import Channel, Label
from certmint.enrolment.issue import Gate
from certmint.enrolment.oidc import OIDC
from certmint.enrolment.refusals import Attempt, RefusalLog
from certmint.model.cms import certificates_only
from certmint.model.csr import parse_csr
from certmint.model.errors import CertmintError, Forbidden, NotFound, Unavailable
from certmint.registry.engine import Database

CSR_TYPE = "application/pkcs10"

log = logging.getLogger("certmint.est")


@dataclass(frozen=True)
class Services:
    """What the operations call into."""

    db: Database
    gate: Gate
    clock: Callable[[], dt.datetime]
    delivery: Delivery
    secret_key: bytes = field(repr=False)  # of label secrets
    oidc: OIDC = field(default_factory=OIDC)


@dataclass(frozen=True)
class Call:
    """A request as it came; `peer` is the client's certificate in DER, proved by TLS."""

    method: str
    raw_path: bytes
    accept: str
    user_agent: str
    content_type: str
    authorization: str = field(repr=False)
    body: bytes
    peer: bytes | None
    is_tls: bool
    channel: Channel
    source: str


Operation = Callable[[Call, Label | None], Response]


class ESTDoor:
    """`app` is the ASGI application."""

    def __init__(self, services: Services) -> None:
        self._on = services
        self._refusals = RefusalLog()
        self.app = BodyLimit(self._serve)
        self._operations: dict[str, tuple[str, Operation]] = {
            "cacerts": ("GET", self._ca_certificates),
            "csrattrs": ("GET", self._csr_attributes),
            "simpleenroll": ("POST", partial(self._enrol, is_renewal=False)),
            "simplereenroll": ("POST", partial(self._enrol, is_renewal=True)),
            "serverkeygen": ("POST", self._generate),
            "fullcmc": ("POST", self._refuse_cmc),
        }

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive()).get("body", b"")  # whole: BodyLimit has collected it
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        tls = scope.get("state", {}).get("tls", {})
        call = _call(scope["method"], scope["raw_path"], headers, body, tls, source_of(scope))
        work = partial(self._answer, call)
        if call.authorization or call.raw_path.endswith(b"/serverkeygen"):
            response = await run_in_threadpool(work)
        else:
            response = await self._on.db.run(work)
        await response(scope, receive, send)

    def takes(self, request: Plain) -> bool:
        """As `Lane` says: nothing that has to be done in a thread of its own."""
        return (
            b"authorization" not in request.headers
            and not request.path.endswith("/serverkeygen")
            and len(request.body) <= MAX_BODY
        )

    def serve(self, request: Plain, told: Told) -> None:
        """As `Lane` says."""
        headers = {name: value.decode("ascii") for name, value in request.headers.items()}
        source = request.client[0] if request.client else ""
        call = _call("POST", request.path.encode(), headers, request.body, request.tls, source)

        def ended(response: Response | None, error: BaseException | None) -> None:
            if response is None:
                log.error("unexpected error at %s", request.path, exc_info=error)
                response = Response(status_code=500)
            told(response.status_code, response.raw_headers, bytes(response.body))

        self._on.db.begin(partial(self._answer, call), ended)

    def _answer(self, call: Call) -> Response:
        response = self._operated(call)
        return answers.in_lines(response) if answers.wants_lines(call.user_agent) else response

    def _operated(self, call: Call) -> Response:
        try:
            label, name = split_path(call.raw_path)
            if name not in self._operations:
                raise NotFound("not-found", "there is no such EST operation")
            method, operation = self._operations[name]
            if call.method != method and (call.method, method) != ("HEAD", "GET"):
                detail = f"{name} is asked for by {method}"
                return answers.said(
                    405, "The method is another one", "method-not-allowed", detail, call.accept,
                    {"Allow": method},
                )  # fmt: skip
            if not call.is_tls:
                raise Forbidden("tls-required", "EST is spoken over TLS only")
            return operation(call, label)
        except CertmintError as error:
            self._note(call, error)
            return answers.refusal(error, call.accept)

    def _note(self, call: Call, error: CertmintError) -> None:
        """Into the audit log, within its bounds; the client is answered in any case."""
        try:
            label = split_path(call.raw_path)[0]
        except CertmintError:
            label = None
        attempt = Attempt("est", call.source, label.maker if label else "", call.peer)
        try:
            self._refusals.note(self._on.db, error, attempt, self._on.clock())
        except Unavailable as failure:
            log.warning("a refusal (%s) was not written down: %s", error.code, failure.detail)

    def _ca_certificates(self, call: Call, label: Label | None) -> Response:
        found = est.anchors(self._on.db, label, call.peer)
        return answers.base64_body(certificates_only(found), answers.CERTIFICATES)

    def _csr_attributes(self, call: Call, label: Label | None) -> Response:
        expected = est.expectations(self._on.db, label, call.peer)
        if expected is None:
            return Response(status_code=204)
        profile, product, names = expected
        wish = csr_attributes(
            delivery.preferred_kind(profile), names, is_linked=product.channel_linking
        )
        return answers.base64_body(wish, "application/csrattrs")

    def _enrol(self, call: Call, label: Label | None, *, is_renewal: bool) -> Response:
        if not _is_csr(call):
            return _unsupported(call, CSR_TYPE)
        db, gate, now = self._on.db, self._on.gate, self._on.clock()
        caller = self._admitted(call, now)
        data = unbase64(call.body)
        asked, csr = read_csr(data), parse_csr(data)
        target = est.device_of(db, caller, label, asked)
        est.check_channel(target.product, asked, call.channel)
        if is_renewal:
            enrolled = est.reenrol(db, gate, target, csr, asked, caller, now)
        else:
            enrolled = est.enrol(db, gate, target, csr, caller.asker, now)
        return answers.certificate(enrolled, now)

    def _generate(self, call: Call, label: Label | None) -> Response:
        if not _is_csr(call):
            return _unsupported(call, CSR_TYPE)
        now = self._on.clock()
        caller = self._admitted(call, now)
        asked = read_csr(unbase64(call.body), wants_kind=True)
        target = est.device_of(self._on.db, caller, label, asked)
        est.check_channel(target.product, asked, call.channel)
        delivered = delivery.deliver_key(
            self._on.db, self._on.gate, target, asked, call.channel, caller.asker,
            self._on.delivery, now,
        )  # fmt: skip
        return answers.key_and_certificate(delivered, now)

    def _admitted(self, call: Call, now: dt.datetime) -> Caller:
        """Whoever asks, with every proof that came: a certificate, and one login beside it."""
        on, logins = self._on, list[Login]()
        if token := bearer_of(call.authorization):
            owner = asking.owner_by_token(on.db, on.oidc, token, now, on.delivery.random_bytes)
            logins.append(ProvedOwner(owner, now))
        elif call.authorization:
            maker, separator, name, password = basic_login(call.authorization)
            kind = OwnerPassword if separator == "/" else LabelSecret
            logins.append(kind(maker, name, password))
        shown = Shown(call.peer, tuple(logins), source=call.source)
        return asking.admit(on.db, shown, on.secret_key, now)

    def _refuse_cmc(self, call: Call, _: Label | None) -> Response:
        """RFC 7030 4.3 is optional; 501 says that no retry will help."""
        detail = "full CMC is not offered here: use simpleenroll or simplereenroll"
        return answers.said(501, "Not offered", "fullcmc-not-offered", detail, call.accept)


def _call(
    method: str,
    raw_path: bytes,
    headers: Mapping[bytes, str],
    body: bytes,
    tls: Mapping[str, Any],
    source: str,
) -> Call:
    channel = Channel(
        tls.get("version", ""), tls.get("unique"), is_forwarded=tls.get("is_forwarded", False)
    )
    return Call(
        method=method,
        raw_path=raw_path,
        accept=headers.get(b"accept", ""),
        user_agent=headers.get(b"user-agent", ""),
        content_type=headers.get(b"content-type", ""),
        authorization=headers.get(b"authorization", ""),
        body=body,
        peer=tls.get("peer"),
        is_tls=tls.get("on", False),
        channel=channel,
        source=source,
    )


def _is_csr(call: Call) -> bool:
    return call.content_type.partition(";")[0].strip().lower() == CSR_TYPE


def _unsupported(call: Call, wanted: str) -> Response:
    return answers.said(
        415, "The content type is another one", "content-type",
        f"the Content-Type is not {wanted}", call.accept,
    )  # fmt: skip
