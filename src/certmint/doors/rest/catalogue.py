"""Operators' routes for authorities, profiles, products."""

import datetime as dt
import json
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from certmint.doors.rest import catalogue_views as views
from certmint.doors.rest.callers import Services
from certmint.doors.rest.desk_views import ApprovalView
from certmint.doors.rest.listing import After, Limit, Page, listing
from certmint.doors.rest.people import LISTED
from certmint.doors.rest.routing import Me, linked, unless_changed
from certmint.enrolment import approvals, deeds, products, profiles
from certmint.enrolment.access import Entrance
from certmint.enrolment.authorities import authority_named, profile_named
from certmint.enrolment.wishes import AuthorityWish, new_authority
from certmint.model.errors import NotFound
from certmint.model.profile import Profile
from certmint.registry import reads

Version = Annotated[int | None, Query(ge=1, le=2**31)]


def catalogue_routes(services: Services, router: APIRouter) -> None:
    """Add the routes to `router`."""
    _authority_routes(services, router)
    _profile_routes(services, router)
    _product_routes(services, router)


def _authority_routes(services: Services, router: APIRouter) -> None:
    db = services.db

    @router.get("/authorities", dependencies=LISTED)
    def list_authorities(
        me: Me, request: Request, response: Response, after: After = None, limit: Limit = 100
    ) -> Page[views.AuthorityView]:
        """Roots, issuing CAs and SubCAs, by name."""
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: [
                each for each in reads.authorities(tx, me.tenant.id)
                if last is None or each.name > last
            ][:count],
            views.AuthorityView.of, lambda each: each.name, after, limit,
        )  # fmt: skip

    @router.post(
        "/authorities",
        status_code=202,
        responses=linked(202, "approval_id=id", "show_approval", "reject"),
    )
    def create_authority(me: Me, body: views.AuthorityBody, response: Response) -> ApprovalView:
        """Ask for an authority; a second operator has to agree before its key is made."""
        said = body.model_dump(mode="json")
        wish = AuthorityWish(**body.model_dump())
        new_authority(me.tenant, wish, services.hands.key_folder, services.hands.status_url)
        what = f"make the {body.kind} authority {body.name}"
        if body.domains:
            what += f" for {', '.join(body.domains)}"
        return _ask(services, me, what, said, response)

    @router.get("/authorities/{name}", dependencies=LISTED)
    def show_authority(me: Me, name: str) -> views.AuthorityView:
        """One authority, with its certificate."""
        with db.read() as tx:
            return views.AuthorityView.of(authority_named(tx, me.tenant.id, name))


def _ask(
    services: Services, me: Entrance, what: str, said: dict[str, object], response: Response
) -> ApprovalView:
    wanted = approvals.request(services.db, me, what, said, services.clock(), services.random_bytes)
    response.headers["Location"] = f"/api/v1/approvals/{wanted.id}"
    return ApprovalView.of(wanted)


def _profile_routes(services: Services, router: APIRouter) -> None:
    db = services.db

    @router.get("/profiles", dependencies=LISTED)
    def list_profiles(
        me: Me, request: Request, response: Response, after: After = None, limit: Limit = 100
    ) -> Page[views.ProfileView]:
        """The newest version of each profile, by name."""
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: [
                each for each in _newest(reads.profiles(tx, me.tenant.id))
                if last is None or each.name > last
            ][:count],
            views.ProfileView.of, lambda each: each.name, after, limit,
        )  # fmt: skip

    @router.get("/profiles/{name}", dependencies=LISTED)
    def show_profile(me: Me, name: str, version: Version = None) -> views.ProfileView:
        """One profile: its newest version, or the one that was asked for."""
        with db.read() as tx:
            found = reads.profile(tx, me.tenant.id, name, version)
        if found is None:
            raise NotFound("profile-unknown", f"there is no such version of profile {name!r}")
        return views.ProfileView.of(found)

    @router.patch(
        "/profiles/{name}",
        status_code=202,
        responses=linked(202, "approval_id=id", "show_approval", "reject"),
    )
    def change_profile(
        me: Me, request: Request, response: Response, name: str, body: views.ProfileBody
    ) -> ApprovalView:
        """Ask for the next version; a second operator has to agree. Wants If-Match."""
        with db.read() as tx:
            current = profile_named(tx, me.tenant.id, name)
        unless_changed(request, views.ProfileView.of(current))
        said = {
            "name": name,
            "version": current.version,
            **body.model_dump(mode="json", exclude_none=True),
        }
        _, change = deeds.change_of(json.dumps(said))
        following = profiles.next_version(current, change)
        what = f"change profile {name} to version {following.version}"
        return _ask(services, me, what, said, response)


def _newest(found: list[Profile]) -> list[Profile]:
    return list({each.name: each for each in found}.values())


def _product_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.get("/products", dependencies=LISTED)
    def list_products(
        me: Me, request: Request, response: Response, after: After = None, limit: Limit = 100
    ) -> Page[views.ProductView]:
        """Device models, by name."""
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: reads.products(tx, me.tenant.id, after=last, limit=count),
            views.ProductView.of, lambda each: each.name, after, limit,
        )  # fmt: skip

    @router.post(
        "/products",
        status_code=201,
        responses=linked(201, "name", "show_product", "change_product"),
    )
    def create_product(me: Me, body: views.ProductBody, response: Response) -> views.ProductView:
        """Add a device model."""
        made = products.add_product(
            db, me.tenant, body.name,
            identity=(body.identity_profile, body.identity_authority),
            service=(body.service_profile, body.service_authority),
            patterns=body.name_patterns, shared_names=body.shared_names, renew_at=body.renew_at,
            accepts=body.accepts, grace=_seconds(body.grace), approval=body.approval,
            channel_linking=body.channel_linking, by=me.by, now=clock(),
            random_bytes=services.random_bytes,
        )  # fmt: skip
        response.headers["Location"] = f"/api/v1/products/{made.name}"
        return views.ProductView.of(made)

    @router.get("/products/{name}", dependencies=LISTED)
    def show_product(me: Me, name: str) -> views.ProductView:
        """One device model."""
        return views.ProductView.of(products.product_named(db, me.tenant, name))

    @router.patch("/products/{name}")
    def change_product(
        me: Me, request: Request, name: str, body: views.ProductChange
    ) -> views.ProductView:
        """Change which proofs buy a certificate, and the grace. Wants If-Match."""
        found = products.product_named(db, me.tenant, name)
        unless_changed(request, views.ProductView.of(found))
        changed = products.set_policy(
            db, found, body.accepts, grace=_seconds(body.grace), approval=body.approval,
            channel_linking=body.channel_linking, by=me.by, now=clock(),
        )  # fmt: skip
        return views.ProductView.of(changed)


def _seconds(value: int | None) -> dt.timedelta | None:
    return None if value is None else dt.timedelta(seconds=value)
