"""Operators' routes for what devices asked for and a product wants an operator to decide."""

from fastapi import APIRouter, Request, Response

from certmint.doors.rest import desk_views as views
from certmint.doors.rest.callers import Services
from certmint.doors.rest.listing import After, Limit, Page, listing
from certmint.doors.rest.people import LISTED
from certmint.doors.rest.routing import Me
from certmint.enrolment import device_requests
from certmint.model.states import RequestEvent, RequestState


def waiting_routes(services: Services, router: APIRouter) -> None:
    """Add the routes to `router`."""
    db, clock = services.db, services.clock

    @router.get("/device-requests", dependencies=LISTED)
    def list_device_requests(
        me: Me, request: Request, response: Response, state: RequestState | None = None,
        after: After = None, limit: Limit = 100,
    ) -> Page[views.DeviceRequestView]:  # fmt: skip
        """What devices asked for and an operator decides, oldest first."""
        now = clock()
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda _, last, count: device_requests.requests(
                db, me.tenant.id, now, state=state, after=last or "", limit=count
            ),
            views.DeviceRequestView.of, lambda each: each.request.id, after, limit,
        )  # fmt: skip

    @router.post("/device-requests/{request_id}/approval")
    def approve_device_request(me: Me, request_id: str) -> views.DeviceRequestView:
        """Let the device have what it asked for; it gets it when it asks again."""
        return _decide(services, me, request_id, RequestEvent.APPROVED)

    @router.post("/device-requests/{request_id}/rejection")
    def reject_device_request(me: Me, request_id: str) -> views.DeviceRequestView:
        """Refuse it, for a week."""
        return _decide(services, me, request_id, RequestEvent.REJECTED)


def _decide(
    services: Services, me: Me, request_id: str, event: RequestEvent
) -> views.DeviceRequestView:
    decided = device_requests.decide(
        services.db, me.tenant.id, request_id, event, by=me.by, now=services.clock()
    )
    return views.DeviceRequestView.of(decided)
