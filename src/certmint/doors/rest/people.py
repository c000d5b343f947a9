"""Operators' routes for manufacturers, operators, tokens, approvals."""

from fastapi import APIRouter, Depends, Request, Response

from certmint.doors.rest import desk_views as views
from certmint.doors.rest.callers import Services
from certmint.doors.rest.listing import After, Limit, Page, listing
from certmint.doors.rest.routing import Me, linked, sparse, unless_changed
from certmint.enrolment import approvals, manufacturers, operators
from certmint.model.desk import ApprovalState
from certmint.model.errors import NotFound
from certmint.model.operations import Operation
from certmint.model.subject import DistinguishedName
from certmint.registry import reads

LISTED = [Depends(sparse)]


def people_routes(services: Services, router: APIRouter) -> None:
    """Add the routes to `router`."""
    _manufacturer_routes(services, router)
    _operator_routes(services, router)
    _token_routes(services, router)
    _approval_routes(services, router)


def _manufacturer_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.get("/self", dependencies=LISTED)
    def show_self(me: Me) -> views.SelfView:
        """Whose token this is, and what it may do."""
        return views.SelfView(
            id=me.operator.id, name=me.operator.name, role=me.operator.role,
            manufacturer=me.tenant.slug,
            operations=tuple(each.value for each in Operation if me.may(each)),
        )  # fmt: skip

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    def show_metrics() -> Response:
        """This node's numbers for Prometheus; for the installation's own operators."""
        return Response(services.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/manufacturers", dependencies=LISTED)
    def list_manufacturers(
        me: Me, request: Request, response: Response, after: After = None, limit: Limit = 100
    ) -> Page[views.ManufacturerView]:
        """The operator's own manufacturer; every one for the installation's operators."""
        own = [me.tenant] if not after or me.tenant.slug > after else []
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: reads.manufacturers(tx, last, count) if me.is_house else own,
            views.ManufacturerView.of, lambda each: each.slug, after, limit,
        )  # fmt: skip

    @router.post(
        "/manufacturers", status_code=201, responses=linked(201, "slug", "show_manufacturer")
    )
    def create_manufacturer(
        me: Me, body: views.ManufacturerBody, response: Response
    ) -> views.ManufacturerView:
        """Add a tenant; for the installation's own administrators."""
        made = manufacturers.add_manufacturer(
            db, body.slug, DistinguishedName.parse(body.subject),
            by=me.by, now=clock(), random_bytes=services.random_bytes,
        )  # fmt: skip
        response.headers["Location"] = f"/api/v1/manufacturers/{made.slug}"
        return views.ManufacturerView.of(made)

    @router.get("/manufacturers/{slug}", dependencies=LISTED)
    def show_manufacturer(me: Me, slug: str) -> views.ManufacturerView:
        """One manufacturer; another one's is not there."""
        if slug != me.tenant.slug and not me.is_house:
            raise NotFound("manufacturer-unknown", f"there is no manufacturer {slug!r}")
        return views.ManufacturerView.of(manufacturers.manufacturer(db, slug))


def _operator_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.get("/operators", dependencies=LISTED)
    def list_operators(
        me: Me, request: Request, response: Response, after: After = None, limit: Limit = 100
    ) -> Page[views.OperatorView]:
        """People and machines of the manufacturer, by name."""
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: reads.operators(tx, me.tenant.id, after=last, limit=count),
            views.OperatorView.of, lambda each: each.name, after, limit,
        )  # fmt: skip

    @router.post(
        "/operators",
        status_code=201,
        responses=linked(
            201,
            "operator_id=id",
            "show_operator",
            "change_operator",
            "create_token",
            "list_tokens",
            "close_sessions",
        ),
    )
    def create_operator(me: Me, body: views.OperatorBody, response: Response) -> views.OperatorView:
        """Add an operator; give tokens with `create_token`."""
        made, _ = operators.add_operator(
            db, me.tenant, body.name, body.role,
            by=me.by, now=clock(), random_bytes=services.random_bytes,
        )  # fmt: skip
        response.headers["Location"] = f"/api/v1/operators/{made.id}"
        return views.OperatorView.of(made)

    @router.get("/operators/{operator_id}", dependencies=LISTED)
    def show_operator(me: Me, operator_id: str) -> views.OperatorView:
        """One operator."""
        return views.OperatorView.of(operators.operator_of(db, me.tenant.id, operator_id))

    @router.patch("/operators/{operator_id}")
    def change_operator(
        me: Me, request: Request, operator_id: str, body: views.OperatorChange
    ) -> views.OperatorView:
        """Give another role, or shut out; sessions end at once. Wants If-Match."""
        before = operators.operator_of(db, me.tenant.id, operator_id)
        unless_changed(request, views.OperatorView.of(before))
        changed = operators.change_operator(
            db, before,
            role=before.role if body.role is None else body.role,
            disabled=before.disabled if body.disabled is None else body.disabled,
            by=me.by, now=clock(), within=me.scopes, administrators=1,
        )  # fmt: skip
        return views.OperatorView.of(changed)

    @router.delete("/operators/{operator_id}/sessions")
    def close_sessions(me: Me, operator_id: str) -> views.Closed:
        """End every session of an operator."""
        ended = operators.close_sessions(db, me.tenant.id, operator_id, by=me.by, now=clock())
        return views.Closed(sessions=ended)


def _token_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.get("/operators/{operator_id}/tokens", dependencies=LISTED)
    def list_tokens(
        me: Me, request: Request, response: Response, operator_id: str,
        after: After = None, limit: Limit = 100,
    ) -> Page[views.TokenView]:  # fmt: skip
        """An operator's tokens, without their values."""
        found = operators.operator_of(db, me.tenant.id, operator_id)
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: reads.tokens(
                tx, me.tenant.id, found.id, after=last, limit=count
            ),
            views.TokenView.of, lambda each: each.id, after, limit,
        )  # fmt: skip

    @router.post("/operators/{operator_id}/tokens", status_code=201)
    def create_token(me: Me, operator_id: str, body: views.TokenBody) -> views.NewTokenView:
        """Add a token. Its value is in this answer and nowhere else."""
        return views.NewTokenView.made(
            operators.add_token(
                db, me.tenant.id, operator_id, body.name, body.lifetime, scopes=body.scopes,
                by=me.by, now=clock(), random_bytes=services.random_bytes, within=me.scopes,
            )
        )  # fmt: skip

    @router.delete("/operators/{operator_id}/tokens/{token_id}", status_code=204)
    def revoke_token(me: Me, operator_id: str, token_id: str) -> None:
        """Revoke a token; it is refused from the next request on."""
        operators.operator_of(db, me.tenant.id, operator_id)
        operators.revoke_token(db, me.tenant.id, token_id, by=me.by, now=clock())


def _approval_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.get("/approvals", dependencies=LISTED)
    def list_approvals(
        me: Me, request: Request, response: Response, state: ApprovalState | None = None,
        after: After = None, limit: Limit = 100,
    ) -> Page[views.ApprovalView]:  # fmt: skip
        """What waits for a second operator, and what was decided; newest first."""
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: reads.approvals(
                tx, me.tenant.id, state=state, after=last, limit=count
            ),
            views.ApprovalView.of, lambda each: each.id, after, limit,
        )  # fmt: skip

    @router.get("/approvals/{approval_id}", dependencies=LISTED)
    def show_approval(me: Me, approval_id: str) -> views.ApprovalView:
        """One approval, with the document that is to be carried out."""
        return views.ApprovalView.of(approvals.find(db, me.tenant.id, approval_id))

    @router.post("/approvals/{approval_id}/approval")
    def approve(me: Me, approval_id: str) -> views.ApprovalView:
        """Agree, and have it carried out; whoever asked cannot."""
        return views.ApprovalView.of(
            approvals.approve(db, me, approval_id, services.hands.deeds, clock())
        )

    @router.post("/approvals/{approval_id}/rejection")
    def reject(me: Me, approval_id: str) -> views.ApprovalView:
        """Say no."""
        return views.ApprovalView.of(approvals.reject(db, me, approval_id, clock()))
