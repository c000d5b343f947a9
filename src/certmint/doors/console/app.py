"""The ASGI application of the console door: pages for people, under the prefixes in `PREFIXES`."""

import logging

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from certmint.doors.console.approval import PREFIX, approval_routes
from certmint.doors.console.desk import Desk, desk_routes
from certmint.doors.console.login import login_routes
from certmint.doors.console.pages import STATIC, page, static_routes
from certmint.doors.http import BodyLimit

PREFIXES = (PREFIX, STATIC, "/console")
MAX_BODY = 4 * 1024

log = logging.getLogger("certmint.http")


def console_app(desk: Desk) -> Starlette:
    """Every page of this door."""
    pages = [
        *approval_routes(desk.db, desk.clock),
        *desk_routes(desk, login_routes(desk)),
        *static_routes,
    ]
    app = Starlette(routes=pages)
    app.add_exception_handler(404, _missing)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(BodyLimit, limit=MAX_BODY)
    return app


def _missing(_request: Request, _error: Exception) -> Response:
    return page("notice.html", 404, heading="There is nothing here", detail="Check the address.")


def _failed(_request: Request, error: Exception) -> Response:
    # Without the path: it may hold a random value.
    log.error("unexpected error on a page", exc_info=error)
    return page(
        "notice.html", 500, heading="That did not work",
        detail="The server failed; its log says why. Please try again later.",
    )  # fmt: skip
