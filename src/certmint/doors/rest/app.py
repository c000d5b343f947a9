"""Routes of the REST door. Each says who may come in; everything else is a use case."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from certmint.doors.http import BodyLimit, problem, problem_response, unexpected
from certmint.doors.rest import views
from certmint.doors.rest.callers import Services
from certmint.doors.rest.devices import device_routes
from certmint.doors.rest.logins import login_routes
from certmint.doors.rest.owners import owner_routes
from certmint.enrolment import access, devices, revocation
from certmint.model.entities import Operator
from certmint.model.errors import CertmintError, NotFound, Unauthenticated
from certmint.model.rights import Right
from certmint.model.serial import parse_serial
from certmint.model.states import DeviceEvent, DeviceState
from certmint.registry import reads

__all__ = ["Services", "rest_app"]

_MAX_PAGE = 1000


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
    app.include_router(device_routes(services), prefix="/api/v1")
    app.include_router(owner_routes(services), prefix="/api/v1")
    app.include_router(login_routes(services), prefix="/api/v1")
    app.include_router(_operator_routes(services), prefix="/api/v1")
    app.add_exception_handler(CertmintError, _certmint_problem)
    app.add_exception_handler(RequestValidationError, _invalid_problem)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(Exception, unexpected)
    app.add_middleware(BodyLimit)
    return app


def _operator_routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["operator"])
    db, keys, clock = services.db, services.keys, services.clock

    def allowed(right: Right) -> Callable[[Request], Operator]:
        def check(request: Request) -> Operator:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not token:
                raise Unauthenticated("token-required", "send 'Authorization: Bearer <API token>'")
            return access.enter(db, token.strip(), right, clock())

        return check

    @router.get("/devices")
    def list_devices(
        operator: Annotated[Operator, Depends(allowed(Right.READ_DEVICES))],
        state: DeviceState | None = None,
        batch: str | None = None,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = 100,
    ) -> views.DevicePage:
        """Devices in the order of their serial numbers."""
        with db.read() as tx:
            found = reads.devices(
                tx, operator.tenant_id, state=state, batch_id=batch, after=after, limit=limit
            )
        rows = tuple(
            views.DeviceRow(
                serial_number=each.serial_number,
                label=each.label,
                mac=each.mac,
                product_id=each.product_id,
                state=each.state.value,
                suspended_for=each.suspended_for,
                batch_id=each.batch_id,
                claimed=each.owner_id is not None,
            )
            for each in found
        )
        return views.DevicePage(
            items=rows, next=rows[-1].serial_number if len(rows) == limit else None
        )

    @router.get("/devices/{serial_number}/certificates")
    def list_device_certificates(
        operator: Annotated[Operator, Depends(allowed(Right.READ_CERTIFICATES))],
        serial_number: str,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = 100,
    ) -> views.CertificatePage:
        """A device's certificates, oldest first."""
        target = devices.view_by_serial_number(db, operator.tenant_id, serial_number)
        with db.read() as tx:
            found = reads.certificates(
                tx, operator.tenant_id, device_id=target.device.id, after=after, limit=limit
            )
        rows = tuple(map(views.CertificateView.of, found))
        return views.CertificatePage(
            items=rows, next=rows[-1].serial if len(rows) == limit else None
        )

    @router.post("/devices/{serial_number}/claim")
    def claim_device(
        operator: Annotated[Operator, Depends(allowed(Right.CHANGE_DEVICES))],
        serial_number: str,
        body: views.ClaimBody,
    ) -> views.DeviceSelfView:
        """Make an account the owner of an unclaimed device."""
        with db.read() as tx:
            tenant = reads.manufacturer(tx, operator.tenant_id)
        if tenant is None:
            raise NotFound("manufacturer-unknown", "the operator's manufacturer is gone")
        now = clock()
        devices.claim(
            db, tenant, serial_number, body.username, by=f"operator:{operator.id}", now=now
        )
        target = devices.view_by_serial_number(db, operator.tenant_id, serial_number)
        return views.DeviceSelfView.of(target, now)

    @router.post("/devices/{serial_number}/resumption")
    def resume_device(
        operator: Annotated[Operator, Depends(allowed(Right.CHANGE_DEVICES))], serial_number: str
    ) -> views.DeviceSelfView:
        """Let a suspended device in again, whatever it was suspended for."""
        now = clock()
        devices.move(
            db, operator.tenant_id, serial_number, DeviceEvent.RESUMED,
            by=f"operator:{operator.id}", now=now,
        )  # fmt: skip
        target = devices.view_by_serial_number(db, operator.tenant_id, serial_number)
        return views.DeviceSelfView.of(target, now)

    @router.get("/certificates/{serial}")
    def read_certificate(
        operator: Annotated[Operator, Depends(allowed(Right.READ_CERTIFICATES))], serial: str
    ) -> views.CertificateView:
        """One certificate by its serial number in hex."""
        with db.read() as tx:
            found = reads.certificate(tx, operator.tenant_id, parse_serial(serial))
        if found is None:
            raise NotFound("certificate-unknown", f"there is no certificate with serial {serial}")
        return views.CertificateView.of(found)

    @router.post("/certificates/{serial}/revocation")
    def revoke_certificate(
        operator: Annotated[Operator, Depends(allowed(Right.REVOKE_CERTIFICATES))],
        serial: str,
        body: views.RevocationBody,
    ) -> views.CertificateView:
        """Revoke a certificate; CRL and OCSP say so at once."""
        revoked = revocation.revoke(
            db, keys, operator.tenant_id, parse_serial(serial), body.parsed(),
            by=f"operator:{operator.id}", now=clock(),
        )  # fmt: skip
        return views.CertificateView.of(revoked)

    return router


def _operation_id(route: APIRoute) -> str:
    return route.name


def _certmint_problem(_request: Request, error: Exception) -> Response:
    if not isinstance(error, CertmintError):
        raise error
    return problem(error)


def _http_problem(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "http")
    return problem_response(
        error.status_code, "The request cannot be served", code, str(error.detail), error.headers
    )


def _invalid_problem(_request: Request, error: Exception) -> Response:
    """The first thing that is wrong with a body or a query, without echoing its value."""
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return problem_response(
        400, "The request is malformed", "request-syntax", f"{place}: {first['msg']}"
    )
