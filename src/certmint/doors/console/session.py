"""Who looks at the console: a session in a cookie, and proof that a form is our own.

Laws: the cookie is known by its hash, ends within hours, and is sent to this host over TLS alone
(`__Host-`, Secure, HttpOnly, SameSite=Strict); a POST carries a value that only a page of the same
session can hold; every page names its operation, and policy lets people in or does not.
"""

import datetime as dt
import hashlib
import hmac
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from certmint.doors.console.pages import page
from certmint.doors.http import STATUS
from certmint.enrolment import access
from certmint.enrolment.access import Entrance
from certmint.model.errors import CertmintError, Forbidden, NotFound, Unauthenticated
from certmint.model.operations import Operation
from certmint.registry.engine import Database

COOKIE = "__Host-certmint"
HOME = "/console/"
LOGIN = "/console/login"

Clock = Callable[[], dt.datetime]


@dataclass(frozen=True)
class Visit:
    """One request of somebody who was let in. `form` holds the first value of each field."""

    request: Request
    me: Entrance
    secret: str
    form: dict[str, str]

    def show(self, template: str, /, **values: object) -> Response:
        """A page inside the frame of the console."""
        return page(
            template,
            me=self.me, csrf=csrf_of(self.secret), here=self.request.url.path,
            menu=menu_of(self.me), **values,
        )  # fmt: skip

    def query(self, name: str) -> str:
        """A parameter of the address; "" without it."""
        return self.request.query_params.get(name, "").strip()[:256]


MENU = (
    (HOME, "Overview", Operation.LIST_DEVICES),
    ("/console/devices", "Devices", Operation.LIST_DEVICES),
    ("/console/batches", "Batches", Operation.LIST_BATCHES),
    ("/console/campaigns", "Campaigns", Operation.LIST_CAMPAIGNS),
    ("/console/domains", "Domains", Operation.LIST_DOMAINS),
    ("/console/approvals", "Approvals", Operation.LIST_APPROVALS),
)


def menu_of(me: Entrance) -> list[tuple[str, str]]:
    """The pages that this operator may open."""
    return [(path, title) for path, title, operation in MENU if me.may(operation)]


def csrf_of(secret: str) -> str:
    """What forms of this session carry."""
    return hmac.new(secret.encode(), b"form", hashlib.sha256).hexdigest()[:32]


Handler = Callable[[Visit], Response]


def inside(
    db: Database, clock: Clock, operation: Operation, handler: Handler
) -> Callable[[Request], Any]:
    """A page that only an operator opens, for one operation."""

    def visit(request: Request, body: bytes) -> Response:
        secret = request.cookies.get(COOKIE, "")
        try:
            me = access.enter(db, secret, operation, clock())
        except Unauthenticated:
            return to_login(request)
        except Forbidden as refusal:
            return _no(refusal)
        form = fields(body)
        if request.method == "POST" and not hmac.compare_digest(
            form.get("csrf", "").encode(), csrf_of(secret).encode()
        ):
            return _no(Forbidden("form-foreign", "this form is not of your session: open it again"))
        try:
            return handler(Visit(request, me, secret, form))
        except CertmintError as refusal:
            if isinstance(refusal, (Forbidden, NotFound)):
                wanted = " ".join(map(str, request.path_params.values()))
                access.note(db, me.operator, operation, refusal, wanted, clock())
            return _no(refusal)

    async def receive(request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(visit, request, body)

    return receive


def fields(body: bytes) -> dict[str, str]:
    """The first value of each field of a form."""
    found = urllib.parse.parse_qs(body.decode("utf-8", "replace"), max_num_fields=50)
    return {name: values[0] for name, values in found.items()}


def to_login(request: Request) -> Response:
    """Where somebody goes who is not logged in; they come back to where they were going."""
    if request.method != "GET" or request.url.path == HOME:
        return RedirectResponse(LOGIN, 303)
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"{LOGIN}?{urllib.parse.urlencode({'next': wanted})}", 303)


def _no(refusal: CertmintError) -> Response:
    status, heading = STATUS[type(refusal)]
    return page("notice.html", status, heading=heading, detail=refusal.detail)
