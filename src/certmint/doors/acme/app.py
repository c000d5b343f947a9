"""Routes of the ACME door. Each is a few lines between a verified call and a use case."""

import functools
import logging
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from certmint.doors.acme import views
from certmint.doors.acme.accounts import Accounts
from certmint.doors.acme.authorizations import Authorizations
from certmint.doors.acme.certificates import Certificates
from certmint.doors.acme.orders import Orders
from certmint.doors.acme.problems import ACMEProblem, document, problem, rejected
from certmint.doors.acme.requests import Arrival, Call, verified
from certmint.doors.acme.services import Services, Validators, json_response, link
from certmint.doors.acme.views import URLs
from certmint.enrolment.acme import orders
from certmint.enrolment.acme.directories import directory_named
from certmint.model.acme import Directory
from certmint.model.errors import CertmintError

__all__ = ["ACMEDoor", "Services"]

MAX_BODY = 64 * 1024

log = logging.getLogger("certmint.acme")

Handler = Callable[[Call], Response]


class ACMEDoor:
    """The ASGI application below `/acme`."""

    def __init__(self, services: Services) -> None:
        self._on = services
        self._validators = Validators()
        accounts = Accounts(services)
        authorizations = Authorizations(services, self._validators)
        wanted = Orders(services, authorizations)
        self._certificates = Certificates(services, wanted)
        base = "/{maker}/{name}"
        post = self._post
        self.app = Starlette(
            routes=[
                Route(f"{base}/directory", self._directory, methods=["GET"]),
                Route(f"{base}/new-nonce", self._new_nonce, methods=["GET", "HEAD"]),
                Route(f"{base}/limits", self._limits, methods=["GET"]),
                Route(f"{base}/renewal-info/{{certid}}", self._renewal_info, methods=["GET"]),
                Route(f"{base}/star/{{order}}", self._star, methods=["GET", "HEAD"]),
                post(f"{base}/new-account", accounts.new, by_key=True),
                post(f"{base}/new-authz", authorizations.new),
                post(f"{base}/new-order", wanted.new),
                post(f"{base}/revoke-cert", self._certificates.revoke, by_key=None),
                post(f"{base}/key-change", accounts.key_change),
                post(f"{base}/account/{{account}}", accounts.one),
                post(f"{base}/account/{{account}}/orders", accounts.orders),
                post(f"{base}/order/{{order}}", wanted.one),
                post(f"{base}/order/{{order}}/finalize", wanted.finalize),
                post(f"{base}/authz/{{authz}}", authorizations.one),
                post(f"{base}/challenge/{{challenge}}", authorizations.challenge),
                post(f"{base}/cert/{{order}}", self._certificates.one),
                post(f"{base}/cert/{{order}}/{{number}}", self._certificates.one),
                post(f"{base}/star/{{order}}", self._certificates.renewing),
            ]
        )

    def close(self) -> None:
        """End the validators."""
        self._validators.close()

    # From HTTP to a call, and back

    def _post(self, path: str, handler: Handler, *, by_key: bool | None = False) -> Route:
        async def endpoint(request: Request) -> Response:
            if request.method != "POST":
                detail = "ACME resources are read by POST-as-GET (RFC 8555 6.3)"
                return self._finished(request, document("malformed", detail, 405, {}))
            body = await _body(request)
            if body is None:
                detail = f"the body is longer than {MAX_BODY} bytes"
                response = self._finished(request, document("malformed", detail, 413, {}))
                response.headers["Connection"] = "close"  # the rest of the body is not read
                return response
            work = functools.partial(self._answer, request, body, handler, by_key)
            return await self._on.db.run(work)

        methods = ["POST", "GET", "HEAD", "PUT", "DELETE", "PATCH"]
        return Route(path, endpoint, methods=methods)

    def _answer(
        self, request: Request, body: bytes, handler: Handler, by_key: bool | None
    ) -> Response:
        def work() -> Response:
            query = request.scope["query_string"].decode("latin-1")
            url = self._on.base_url + request.scope["path"] + (f"?{query}" if query else "")
            arrival = Arrival(
                self._found(request), self._urls(request.path_params), url,
                request.headers.get("content-type", ""), body, request.path_params,
                dict(parse_qsl(query)),
            )  # fmt: skip
            now = self._on.clock()
            return handler(verified(arrival, self._on.db, self._on.nonces, now, by_key=by_key))

        return self._finished(request, self._guarded(request, work))

    def _guarded(self, request: Request, work: Callable[[], Response]) -> Response:
        """What `work` answers, or the problem document of what it raised."""
        try:
            return work()
        except ACMEProblem as error:
            return document(error.kind, error.detail, error.status, error.extra)
        except orders.Rejected as rejection:
            return rejected(rejection.reasons)
        except CertmintError as error:
            return self._problem(request, error)
        except Exception:
            log.exception("unexpected error at %s", request.url.path)
            return document("serverInternal", "the server failed; its log says why", 500, {})

    def _problem(self, request: Request, error: CertmintError) -> Response:
        if error.code == "terms-changed":  # RFC 8555 7.3.3
            terms = self._found(request).terms
            response = problem(error, {"instance": terms})
            link(response, terms, "terms-of-service")
            return response
        response = problem(error)
        if response.status_code == 429:
            link(response, self._urls(request.path_params)("limits"), "help")
        return response

    def _finished(self, request: Request, response: Response) -> Response:
        nonce = self._on.nonces.make(self._on.clock(), self._on.random_bytes)
        response.headers["Replay-Nonce"] = nonce
        response.headers["Cache-Control"] = "no-store"
        link(response, self._urls(request.path_params)("directory"), "index")
        return response

    def _found(self, request: Request) -> Directory:
        params = request.path_params
        return directory_named(self._on.db, params["maker"], params["name"])

    def _urls(self, params: Mapping[str, str]) -> URLs:
        return URLs(f"{self._on.base_url}/acme/{params['maker']}/{params['name']}")

    # Without a signature

    def _directory(self, request: Request) -> Response:
        def work() -> Response:
            urls = self._urls(request.path_params)
            return json_response(views.directory(self._found(request), urls))

        return self._guarded(request, work)

    def _new_nonce(self, request: Request) -> Response:
        response = Response(status_code=200 if request.method == "HEAD" else 204)
        return self._finished(request, response)

    def _limits(self, request: Request) -> Response:
        def work() -> Response:
            self._found(request)
            return Response(views.limits(self._on.limits), media_type="text/plain")

        return self._guarded(request, work)

    def _renewal_info(self, request: Request) -> Response:
        certid = request.path_params["certid"]
        response = self._guarded(request, lambda: self._certificates.renewal_info(certid))
        link(response, self._urls(request.path_params)("directory"), "index")
        return response

    def _star(self, request: Request) -> Response:
        def work() -> Response:
            directory, urls = self._found(request), self._urls(request.path_params)
            order_id = request.path_params["order"]
            return self._certificates.renewing_for_all(directory, order_id, urls)

        return self._guarded(request, work)


async def _body(request: Request) -> bytes | None:
    """The body; None for one over MAX_BODY, whatever Content-Length says."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > MAX_BODY:
        return None
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            return None
    return body
