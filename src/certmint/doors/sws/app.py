"""The SWS door: which call is which operation, and what happens around each.

Laws: nobody comes in without policy's word, and what is refused or missing is written down, as at
the REST door; credentials are taken from `Authorization`, else from the body, else from the query,
and are neither logged nor answered. The paths of version 1.3 answer every error with 200.
"""

import base64
import binascii
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from certmint.doors.http import App, BodyLimit, RateLimit, bearer_of, too_many
from certmint.doors.sws import fields
from certmint.doors.sws.errors import answer_error, error_response, unexpected
from certmint.enrolment import access
from certmint.enrolment.access import Entrance
from certmint.enrolment.sws.fulfilling import Counter
from certmint.model.errors import CertmintError, Forbidden, NotFound, Unauthenticated
from certmint.model.operations import Operation

PREFIX = "/sws"


@dataclass(frozen=True)
class Services:
    """What the calls need. `base_url` is the https:// base of the installation."""

    counter: Counter
    clock: Callable[[], dt.datetime]
    requests_minute: int
    base_url: str

    @property
    def base(self) -> str:
        return self.base_url + PREFIX


@dataclass(frozen=True)
class Call:
    """One request of somebody who was let in. `said` has no credentials any more.

    `place` is what the path names; `secret` is for the call that answers it.
    """

    services: Services
    me: Entrance
    said: Mapping[str, Any]
    place: Mapping[str, str]
    secret: str = field(repr=False)
    now: dt.datetime

    @property
    def counter(self) -> Counter:
        return self.services.counter


@dataclass(frozen=True)
class Path:
    """One call of the API: who may make it follows from `operations`, all of them."""

    method: str
    path: str
    operations: tuple[Operation, ...]
    work: Callable[[Call], Response | object]
    status: int = 200
    is_legacy: bool = False


@dataclass(frozen=True)
class _Shown:
    """The credentials of a request; `account` is "" where only a token came."""

    account: str
    secret: str = field(repr=False)


class Desk:
    """Serves the calls, each in a thread of its own: some look at the network."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._limit = RateLimit(services.requests_minute)

    async def serve(self, path: Path, request: Request) -> Response:
        always_200 = path.is_legacy or request.query_params.get("error_style") == "200"
        body = await request.body()
        try:
            said = fields.parameters(request.url.query, body)
            always_200 = always_200 or str(said.pop("error_style", "")) == "200"
            shown = _credentials(request, said)
            return await run_in_threadpool(
                self._answer, path, dict(request.path_params), shown, said, always_200
            )
        except CertmintError as refusal:
            return answer_error(refusal, always_200=always_200)

    def _answer(
        self,
        path: Path,
        place: Mapping[str, str],
        shown: _Shown,
        said: Mapping[str, Any],
        always_200: bool,
    ) -> Response:
        services = self._services
        now = services.clock()
        me = self._enter(path, shown, place.get("username"), now)
        quota, remaining, reset = self._limit.take(me.tenant.id, now)
        if remaining < 0:
            response = answer_error(too_many(quota, reset), always_200=always_200)
        else:
            call = Call(services, me, said, place, shown.secret, now)
            response = self._done(path, call, always_200)
        self._limit.tell(response, quota, remaining, reset)
        response.headers["Cache-Control"] = "no-store"
        return response

    def _enter(self, path: Path, shown: _Shown, username: str | None, now: dt.datetime) -> Entrance:
        db = self._services.counter.db
        for operation in path.operations[1:]:
            access.enter(db, shown.secret, operation, now)
        me = access.enter(db, shown.secret, path.operations[0], now)
        accounts = {"", me.tenant.slug, me.operator.id}
        if username is not None:
            accounts.add(me.operator.name)
        if shown.account not in accounts or username not in (None, me.operator.name):
            raise Unauthenticated(
                "token-invalid", "the token is unknown, revoked or expired, or another account's"
            )
        return me

    def _done(self, path: Path, call: Call, always_200: bool) -> Response:
        try:
            made = path.work(call)
        except (Forbidden, NotFound) as refusal:
            access.note(
                call.counter.db, call.me.operator, path.operations[0], refusal,
                " ".join(call.place.values()), call.now,
            )  # fmt: skip
            return answer_error(refusal, always_200=always_200)
        except CertmintError as refusal:
            return answer_error(refusal, always_200=always_200)
        return made if isinstance(made, Response) else JSONResponse(made, path.status)


def sws_app(services: Services, paths: tuple[Path, ...]) -> App:
    """The ASGI application of the door."""
    desk = Desk(services)
    app = Starlette(
        routes=[_route(desk, path) for path in paths],
        exception_handlers={Exception: unexpected},
    )
    app.add_exception_handler(HTTPException, _http_error)
    app.router.redirect_slashes = False
    limited: App = BodyLimit(app)
    return limited


def _route(desk: Desk, path: Path) -> Route:
    async def serve(request: Request) -> Response:
        return await desk.serve(path, request)

    return Route(PREFIX + path.path, serve, methods=[path.method])


def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "http")
    detail = "there is no such call: see docs/sws.md" if code == "not-found" else error.detail
    response = error_response(error.status_code, "base", code, detail)
    if error.status_code == 405:
        response.headers["Allow"] = ", ".join(_methods(request))
    return response


def _methods(request: Request) -> list[str]:
    """Every method that some call of this path has (RFC 9110 10.2.1)."""
    routes = [each for each in request.app.routes if isinstance(each, Route)]
    here = [each for each in routes if each.path_regex.match(request.url.path)]
    return sorted({method for each in here for method in each.methods or ()})


def _credentials(request: Request, said: dict[str, Any]) -> _Shown:
    """Those of the header alone if there is one. Raises Unauthenticated `token-required`."""
    account, secret = (fields.text_of(said, name) for name in ("account_key", "secret_key"))
    password = fields.text_of(said, "password")
    for name in ("account_key", "secret_key", "password"):
        said.pop(name, None)
    header = request.headers.get("authorization", "")
    if header:
        account, secret = _header(header)
    elif "username" in request.path_params:
        account, secret = request.path_params["username"], password
    if not secret:
        raise Unauthenticated(
            "token-required",
            "send account_key and secret_key, or 'Authorization: Bearer <API token>'",
        )
    return _Shown(account, secret)


def _header(header: str) -> tuple[str, str]:
    """The account and secret in an `Authorization` field; "" for what it does not hold."""
    if token := bearer_of(header):
        return "", token
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        account, _, secret = (
            base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        )
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return account, secret
