"""Operators' routes for certificates, the audit log, and jobs."""

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from certmint.doors.rest import desk_views as views
from certmint.doors.rest.callers import Services
from certmint.doors.rest.listing import After, Limit, Page, listing
from certmint.doors.rest.people import LISTED
from certmint.doors.rest.routing import Me, linked
from certmint.doors.rest.views import CertificateView, RevocationBody
from certmint.enrolment import approvals, certificates, revocation, work
from certmint.model.csr import parse_csr
from certmint.model.desk import JobKind, JobState
from certmint.model.errors import BadInput, NotFound, TooOften
from certmint.model.serial import parse_serial
from certmint.registry import reads

_POLL_S = 0.5
_FOLLOW_S = 3_600
MOST_FOLLOWED = 10  # streams of an operator at a node: each reads the database twice a second
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


def record_routes(services: Services, router: APIRouter) -> None:
    """Add the routes to `router`."""
    _certificate_routes(services, router)
    _revocation_routes(services, router)
    _audit_routes(services, router)
    _job_routes(services, router)


def _certificate_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.get("/certificates", dependencies=LISTED)
    def list_certificates(
        me: Me,
        request: Request,
        response: Response,
        authority: Annotated[str | None, Query(description="its id", max_length=64)] = None,
        profile: Annotated[str | None, Query(max_length=64)] = None,
        revoked: bool | None = None,
        after: After = None,
        limit: Limit = 100,
    ) -> Page[views.CertificateRow]:
        """Certificates in the order of their issuance."""
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: reads.certificates(
                tx, me.tenant.id, authority_id=authority, profile=profile, is_revoked=revoked,
                with_der=False, after=last, limit=count,
            ),
            views.CertificateRow.of, lambda each: each.serial, after, limit,
        )  # fmt: skip

    @router.post(
        "/certificates",
        status_code=201,
        responses=linked(201, "serial", "show_certificate", "revoke_certificate"),
    )
    def issue_certificate(me: Me, body: views.IssueBody, response: Response) -> views.IssuedView:
        """Certify a key for a server that is no device, on the operator's word."""
        lifetime = None if body.lifetime_days is None else dt.timedelta(days=body.lifetime_days)
        issued, chain = certificates.issue(
            db, services.gate, me.tenant,
            certificates.Wish(
                body.authority, body.profile, body.names, parse_csr(body.csr.encode()), lifetime
            ),
            operator_id=me.operator.id, now=clock(),
        )  # fmt: skip
        response.headers["Location"] = f"/api/v1/certificates/{issued.serial}"
        shown = CertificateView.of(issued)
        return views.IssuedView(
            serial=shown.serial, certificate=shown.certificate, chain=chain,
            not_after=shown.not_after,
        )  # fmt: skip

    @router.get("/certificates/{serial}", dependencies=LISTED)
    def show_certificate(me: Me, serial: str) -> CertificateView:
        """One certificate by its serial number in hex."""
        with db.read() as tx:
            found = reads.certificate(tx, me.tenant.id, parse_serial(serial))
        if found is None:
            raise NotFound("certificate-unknown", f"there is no certificate with serial {serial}")
        return CertificateView.of(found)


def _revocation_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.post(
        "/certificates/revocations",
        status_code=202,
        responses=linked(202, "approval_id=id", "show_approval", "reject"),
    )
    def revoke_certificates(
        me: Me, body: views.RevocationsBody, response: Response
    ) -> views.ApprovalView:
        """Ask to revoke many certificates; a second operator has to agree, then it is a job."""
        revocation.check_known(db, me.tenant.id, [parse_serial(each) for each in body.serials])
        said = body.model_dump(mode="json")
        what = f"revoke {len(body.serials)} certificates for {body.reason}"
        wanted = approvals.request(db, me, what, said, clock(), services.random_bytes)
        response.headers["Location"] = f"/api/v1/approvals/{wanted.id}"
        return views.ApprovalView.of(wanted)

    @router.post("/certificates/{serial}/revocation")
    def revoke_certificate(me: Me, serial: str, body: RevocationBody) -> CertificateView:
        """Revoke a certificate, but no authority's; CRL and OCSP say so at once."""
        revocation.refuse_authority(db, me.tenant.id, parse_serial(serial))
        revoked = revocation.revoke(
            db, services.keys, me.tenant.id, parse_serial(serial), body.parsed(),
            by=me.by, now=clock(),
        )  # fmt: skip
        return CertificateView.of(revoked)


def _audit_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.get("/audit/events", dependencies=LISTED)
    def list_audit_events(
        me: Me, request: Request, response: Response, after: After = None, limit: Limit = 100
    ) -> Page[views.AuditView]:
        """The manufacturer's part of the log, oldest first; `after` is a number."""
        if after is not None and not (after.isascii() and after.isdigit() and len(after) < 19):
            raise BadInput("after-syntax", f"after={after!r} is not the number of an event")
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: reads.audit_events(tx, me.tenant.id, int(last or 0), count),
            views.AuditView.of, lambda each: str(each.seq), after, limit,
        )  # fmt: skip

    @router.post(
        "/audit/verification",
        status_code=202,
        responses=linked(202, "job_id=id", "show_job", "cancel_job", "follow_job"),
    )
    def verify_audit(me: Me, response: Response) -> views.JobView:
        """Walk the whole chain of hashes: a job, whose outcome names the head."""
        job = work.order(
            db, me, JobKind.VERIFY_AUDIT, {}, 0, clock(), services.random_bytes
        )  # fmt: skip
        response.headers["Location"] = f"/api/v1/jobs/{job.id}"
        return views.JobView.of(job)


def _job_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.get("/jobs", dependencies=LISTED)
    def list_jobs(
        me: Me, request: Request, response: Response, state: JobState | None = None,
        after: After = None, limit: Limit = 100,
    ) -> Page[views.JobView]:  # fmt: skip
        """Long work, newest first."""
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: reads.jobs(
                tx, me.tenant.id, state=state, after=last, limit=count
            ),
            views.JobView.of, lambda each: each.id, after, limit,
        )  # fmt: skip

    @router.get("/jobs/{job_id}", dependencies=LISTED)
    def show_job(me: Me, job_id: str) -> views.JobView:
        """How far a job is, and what came of it."""
        return views.JobView.of(work.find(db, me.tenant.id, job_id))

    followers: Counter[str] = Counter()

    @router.get("/jobs/{job_id}/events", response_class=StreamingResponse, responses=_EVENTS)
    def follow_job(me: Me, job_id: str) -> StreamingResponse:
        """The job as server-sent events, one a change, until it is over."""
        work.find(db, me.tenant.id, job_id)
        if followers[me.operator.id] >= MOST_FOLLOWED:
            raise TooOften(
                "streams-full", f"you follow {MOST_FOLLOWED} jobs at this node already: end one", 60
            )
        return StreamingResponse(
            _counted(followers, me.operator.id, _events(services, me.tenant.id, job_id)),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )

    @router.post("/jobs/{job_id}/cancellation")
    def cancel_job(me: Me, job_id: str) -> views.JobView:
        """Stop a job between two steps; what was done stays done."""
        return views.JobView.of(work.cancel_for(db, me, job_id, clock()))


async def _counted(
    followers: Counter[str], operator_id: str, events: AsyncIterator[str]
) -> AsyncIterator[str]:
    followers[operator_id] += 1
    try:
        async for event in events:
            yield event
    finally:
        followers[operator_id] -= 1
        if not followers[operator_id]:
            del followers[operator_id]


async def _events(services: Services, tenant_id: str, job_id: str) -> AsyncIterator[str]:
    said = ""
    for _ in range(int(_FOLLOW_S / _POLL_S)):
        found = await services.db.run(lambda: work.find(services.db, tenant_id, job_id))
        text = views.JobView.of(found).model_dump_json()
        if text != said:
            said = text
            yield f"event: {found.state.value}\ndata: {text}\n\n"
        if found.is_over:
            return
        await asyncio.sleep(_POLL_S)
