"""Logging in at the console: with an API token, or at the manufacturer's OpenID provider."""

import urllib.parse

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from certmint.doors.console.desk import Desk
from certmint.doors.console.pages import page
from certmint.doors.console.session import COOKIE, HOME, LOGIN, fields
from certmint.doors.http import STATUS
from certmint.enrolment import operatorlogins, operators, sessions
from certmint.enrolment.sessions import Returned
from certmint.model.errors import CertmintError

CALLBACK = "/console/callback"
_STATE_COOKIE = "__Host-certmint-console-login"


def login_routes(desk: Desk) -> list[Route]:
    """The pages that nobody needs a session for."""
    pages = _Logins(desk)

    async def by_token(request: Request) -> Response:
        if request.method == "GET":
            return pages.show(200, inner(request.query_params.get("next", "")))
        # A form of another site would log its visitor in as somebody else. Browsers say where a
        # form stands; what says nothing is no browser, and has no visitor to be fooled.
        if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return pages.show(403, HOME, "this form is not ours: enter the token here")
        body = await request.body()
        return await run_in_threadpool(pages.enter, body)

    return [
        Route(LOGIN, by_token, methods=["GET", "POST"]),
        Route(LOGIN + "/{manufacturer}", pages.begin),
        Route(CALLBACK, pages.finish),
    ]


def inner(wanted: str) -> str:
    """Where somebody goes after the login: a page of the console, and nothing else."""
    parts = urllib.parse.urlsplit(wanted)
    is_inner = not parts.scheme and not parts.netloc and wanted.startswith(HOME)
    return wanted if is_inner and "\\" not in wanted and wanted.isprintable() else HOME


class _Logins:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._makers = [each.provider.manufacturer for each in desk.oidc.providers]

    def show(self, status: int, wanted: str, problem: str = "") -> Response:
        return page("login.html", status, wanted=wanted, problem=problem, makers=self._makers)

    def enter(self, body: bytes) -> Response:
        """With a token: a session that has the token's scopes."""
        desk, form = self._desk, fields(body)
        wanted = inner(form.get("next", ""))
        now = desk.clock()
        try:
            operator, scopes = operators.authenticate(desk.db, form.get("token", "").strip(), now)
        except CertmintError as refusal:
            return self.show(403, wanted, refusal.detail)
        secret, until = operators.open_session(desk.db, operator, scopes, now, desk.random_bytes)
        response = RedirectResponse(wanted, 303)
        _remember(response, secret, int((until - now).total_seconds()))
        return response

    def begin(self, request: Request) -> Response:
        """Send the browser to the provider."""
        desk = self._desk
        try:
            begun = sessions.begin(
                desk.db, desk.oidc, request.path_params["manufacturer"], desk.login_key,
                desk.clock(), desk.random_bytes,
            )  # fmt: skip
        except CertmintError as refusal:
            return self.show(STATUS[type(refusal)][0], HOME, refusal.detail)
        response = RedirectResponse(begun.url, 303)
        response.set_cookie(
            _STATE_COOKIE, begun.cookie, max_age=int(sessions.LOGIN_LIFE.total_seconds()),
            path="/", secure=True, httponly=True, samesite="lax",
        )  # fmt: skip
        return response

    def finish(self, request: Request) -> Response:
        """Where the browser comes back to.

        A redirect from here would still be the provider's, and browsers send a strict cookie with
        none of those: the page that is answered leads on by itself.
        """
        desk, given = self._desk, request.query_params
        back = Returned(
            given.get("state", ""), given.get("code", ""), given.get("error", ""),
            given.get("iss", ""), request.cookies.get(_STATE_COOKIE, ""),
        )  # fmt: skip
        now = desk.clock()
        try:
            secret, until = operatorlogins.finish(
                desk.db, desk.oidc, back, desk.login_key, now, desk.random_bytes
            )
        except CertmintError as refusal:
            return self.show(STATUS[type(refusal)][0], HOME, refusal.detail)
        response = page("entered.html", home=HOME)
        _remember(response, secret, int((until - now).total_seconds()))
        response.delete_cookie(_STATE_COOKIE, path="/", secure=True, httponly=True, samesite="lax")
        return response


def _remember(response: Response, secret: str, seconds: int) -> None:
    response.set_cookie(
        COOKIE, secret, max_age=seconds, path="/", secure=True, httponly=True, samesite="strict"
    )
