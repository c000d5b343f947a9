"""Operators' routes for domains: what is proved, how old that is, and proving it."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from certmint.doors.rest import catalogue_views as views
from certmint.doors.rest.callers import Services
from certmint.doors.rest.listing import After, Limit, Page, listing
from certmint.doors.rest.people import LISTED
from certmint.doors.rest.routing import Me, linked
from certmint.enrolment import domains, emailing, proving
from certmint.model.csr import parse_csr
from certmint.model.entities import DomainValidation, ValidationMethod
from certmint.registry import reads


def domain_routes(services: Services, router: APIRouter) -> None:
    """Add the routes to `router`."""
    _listing_routes(services, router)
    _proving_routes(services, router)


def _listing_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.get("/domains", dependencies=LISTED)
    def list_domains(
        me: Me, request: Request, response: Response, after: After = None, limit: Limit = 100
    ) -> Page[views.DomainView]:
        """Domains that are proved, by name, and until when the newest proof counts."""
        now, ages = clock(), domains.ages(db, me.tenant)
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda _, last, count: [
                each for each in ages if last is None or each.proof.domain > last
            ][:count],
            lambda each: views.DomainView.of(each, now), lambda each: each.proof.domain,
            after, limit,
        )  # fmt: skip

    @router.get("/domains/contacts")
    def list_contacts(
        domain: Annotated[str, Query(min_length=1, max_length=253)],
    ) -> views.ContactsView:
        """Who may be asked by e-mail: five contacts of the domain and of each parent."""
        return views.ContactsView(domain=domain, addresses=emailing.accepted_addresses(domain))

    @router.get("/domains/validations", dependencies=LISTED)
    def list_validations(
        me: Me, request: Request, response: Response, domain: str | None = None,
        after: After = None, limit: Limit = 100,
    ) -> Page[views.ValidationView]:  # fmt: skip
        """Attempts to show control of a domain, oldest first, with their evidence."""
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: reads.domain_validations(
                tx, me.tenant.id, domain, after=last, limit=count
            ),
            _shown, lambda each: each.id, after, limit,
        )  # fmt: skip


def _proving_routes(services: Services, router: APIRouter) -> None:
    db, clock, proofs = services.db, services.clock, services.proofs

    @router.post(
        "/domains/validations",
        status_code=201,
        responses=linked(201, "validation_id=id", "show_validation", "resend_validation"),
    )
    def begin_validation(
        me: Me, body: views.ValidationBody, response: Response
    ) -> views.ValidationView:
        """Open an attempt; the answer says what to publish, or that contacts were written to."""
        wanted = proving.Wanted(
            body.domain, ValidationMethod(body.method), body.recipients,
            parse_csr(body.csr.encode()) if body.csr else None, body.unique_value,
        )  # fmt: skip
        made = proving.begin(proofs, me.tenant, wanted, by=me.by, now=clock())
        response.headers["Location"] = f"/api/v1/domains/validations/{made.id}"
        return _shown(made)

    @router.get("/domains/validations/{validation_id}", dependencies=LISTED)
    def show_validation(me: Me, validation_id: str) -> views.ValidationView:
        """One attempt."""
        return _shown(domains.validation(db, me.tenant, validation_id))

    @router.post("/domains/validations/{validation_id}/verification")
    def verify_validation(me: Me, validation_id: str) -> views.ValidationView:
        """Look for what was to be published, and keep what was seen."""
        return _shown(proving.look(proofs, me.tenant, validation_id, by=me.by, now=clock()))

    @router.post("/domains/validations/{validation_id}/messages")
    def resend_validation(me: Me, validation_id: str) -> views.SentView:
        """Send the messages of an attempt by e-mail again; at most once an hour."""
        sent = proving.send_again(proofs, me.tenant, validation_id, by=me.by, now=clock())
        return views.SentView(messages=sent)


def _shown(found: DomainValidation) -> views.ValidationView:
    return views.ValidationView.of(found, proving.todo(found))
