"""Routes of the REST door. Each says who may come in; everything else is a use case."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from certmint.doors.http import BodyLimit, problem, problem_response, unexpected
from certmint.doors.rest import desk_views
from certmint.doors.rest.callers import Services
from certmint.doors.rest.campaigns import campaign_routes
from certmint.doors.rest.catalogue import catalogue_routes
from certmint.doors.rest.devices import device_routes
from certmint.doors.rest.domains import domain_routes
from certmint.doors.rest.fleet import fleet_routes
from certmint.doors.rest.logins import login_routes
from certmint.doors.rest.owners import owner_routes
from certmint.doors.rest.people import people_routes
from certmint.doors.rest.records import record_routes
from certmint.doors.rest.routing import operator_route
from certmint.doors.rest.waiting import waiting_routes
from certmint.model.errors import CertmintError

__all__ = ["Services", "operator_routes", "rest_app"]

_PREFIX = "/api/v1"
_LONG_BODIES = tuple(
    _PREFIX + path for path in ("/devices/changes", "/certificates/revocations", "/campaigns")
)
_UPLOADS = (f"{_PREFIX}/batches",)
_PROBLEM = {
    "model": desk_views.Problem,
    "description": "a problem document (RFC 9457)",
    "content": {"application/problem+json": {}},
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {"4XX": _PROBLEM, "5XX": _PROBLEM}


def rest_app(services: Services, version: str) -> FastAPI:
    """The ASGI application of the REST door."""
    app = FastAPI(
        title="certmint",
        version=version,
        description="Certificates for connected devices, for life.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    routers = (
        device_routes(services),
        owner_routes(services),
        login_routes(services),
        operator_routes(services),
    )
    for router in routers:
        app.include_router(router, prefix=_PREFIX)
    app.add_exception_handler(CertmintError, _certmint_problem)
    app.add_exception_handler(RequestValidationError, _invalid_problem)
    app.add_exception_handler(HTTPException, partial(_http_problem, routers))
    app.add_exception_handler(Exception, unexpected)
    app.add_middleware(BodyLimit, long=_LONG_BODIES, uploads=_UPLOADS)
    return app


def operator_routes(services: Services) -> APIRouter:
    """Every route that an operator enters; `routing` lets nobody else in."""
    router = APIRouter(
        tags=["operator"],
        route_class=operator_route(services),
        dependencies=[Depends(HTTPBearer(auto_error=False, description="an API token"))],
        responses=_PROBLEMS,
    )
    people_routes(services, router)
    catalogue_routes(services, router)
    domain_routes(services, router)
    campaign_routes(services, router)
    fleet_routes(services, router)
    record_routes(services, router)
    waiting_routes(services, router)
    return router


def _operation_id(route: APIRoute) -> str:
    return route.name


def _certmint_problem(_request: Request, error: Exception) -> Response:
    if not isinstance(error, CertmintError):
        raise error
    return problem(error)


def _http_problem(routers: Sequence[APIRouter], request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_methods(routers, request.url.path)))
    code = {
        404: "not-found",
        405: "method-not-allowed",
        412: "changed-meanwhile",
        428: "if-match-required",
    }.get(error.status_code, "http")
    return problem_response(
        error.status_code, "The request cannot be served", code, str(error.detail), headers
    )


def _methods(routers: Sequence[APIRouter], path: str) -> set[str]:
    """Every method that some route of this path has (RFC 9110 10.2.1)."""
    found: set[str] = set()
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.path_regex.match(path.removeprefix(_PREFIX)):
                found |= route.methods or set()
    return found


def _invalid_problem(_request: Request, error: Exception) -> Response:
    """The first thing that is wrong with a body or a query, without echoing its value."""
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return problem_response(
        400, "The request is malformed", "request-syntax", f"{place}: {first['msg']}"
    )
