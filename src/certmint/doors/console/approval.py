"""The page behind the link in a message to a domain's contact (BR 3.2.2.4.4).

GET shows what is asked and decides nothing: mail scanners open links. POST takes the answer; the
random value in its body is the credential, so there is no cookie, and nothing that another site
could forge without knowing the value.
"""

import datetime as dt
import urllib.parse
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from certmint.doors.console.pages import page
from certmint.doors.http import STATUS, source_of
from certmint.enrolment import approving
from certmint.model.errors import BadInput, CertmintError, NotFound
from certmint.registry.engine import Database

PREFIX = "/approve/"
_HEADINGS = {
    "mail-unknown": "We do not know this link",
    "mail-declined": "This request was declined",
    "validation-done": "This was approved already",
    "validation-expired": "This link has expired",
}


def approval_routes(db: Database, clock: Callable[[], dt.datetime]) -> list[Route]:
    """`GET /approve/<value>` and `POST /approve/`."""

    def show(request: Request) -> Response:
        value = request.path_params["value"]
        try:
            asked = approving.look(db, value, clock())
        except CertmintError as error:
            return _no(error)
        return page("approval.html", asked=asked, value=value, action=PREFIX)

    def decide(request: Request, body: bytes) -> Response:
        try:
            value, approves = _answer(body)
            done = approving.answer(
                db, value, approves=approves, source=source_of(request.scope), now=clock()
            )
        except CertmintError as error:
            return _no(error)
        return page("answered.html", asked=done, approved=approves)

    async def receive(request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(decide, request, body)

    def nothing(_request: Request) -> Response:
        return _no(NotFound("mail-unknown", "the link in the message is longer: open it whole"))

    return [
        Route(PREFIX, receive, methods=["POST"]),
        Route(PREFIX, nothing, methods=["GET"]),
        Route(PREFIX + "{value}", show, methods=["GET"]),
    ]


def _answer(body: bytes) -> tuple[str, bool]:
    """The value, and whether the contact approves. Raises BadInput `answer-syntax`."""
    fields = urllib.parse.parse_qs(body.decode("ascii", "replace"))
    value, answer = fields.get("value", []), fields.get("answer", [])
    if len(value) != 1 or answer not in (["approve"], ["decline"]):
        raise BadInput("answer-syntax", "the answer is not one of the two buttons")
    return value[0], answer == ["approve"]


def _no(error: CertmintError) -> Response:
    status = (
        410 if error.code in ("mail-declined", "validation-expired") else STATUS[type(error)][0]
    )
    heading = _HEADINGS.get(error.code, "That did not work")
    return page("notice.html", status, heading=heading, detail=error.detail)
