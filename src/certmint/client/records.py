"""Operations on certificates, the audit log, jobs."""

import json
from collections.abc import Iterator, Sequence

from certmint.client.answers import (
    Approval,
    AuditEvent,
    Certificate,
    Issued,
    Job,
    ListedCertificate,
    build,
)
from certmint.client.calls import Calls, path, said
from certmint.client.errors import Unreachable
from certmint.client.pages import Listing
from certmint.client.transport import Request

_BREAKS = 5  # streams of a job's events that end too early, one after the other


class Records(Calls):
    def list_certificates(
        self,
        *,
        authority: str | None = None,
        profile: str | None = None,
        revoked: bool | None = None,
    ) -> Listing[ListedCertificate]:
        """Certificates in the order of their issuance; `authority` is an id."""
        return self._list(
            ListedCertificate, "/certificates", authority=authority, profile=profile,
            revoked=revoked,
        )  # fmt: skip

    def show_certificate(self, serial: str) -> Certificate:
        return self._show(Certificate, path("certificates", serial))

    def issue_certificate(
        self,
        authority: str,
        csr: str,
        names: Sequence[str],
        *,
        profile: str = "service",
        lifetime_days: int | None = None,
    ) -> Issued:
        """Certify a key for a server that is no device, on the operator's word; `csr` in PEM."""
        body = said(
            authority=authority,
            profile=profile,
            csr=csr,
            names=list(names),
            lifetime_days=lifetime_days,
        )
        return self._make(Issued, "/certificates", body)

    def revoke_certificate(self, serial: str, reason: str = "unspecified") -> Certificate:
        where = path("certificates", serial, "revocation")
        return self._make(Certificate, where, {"reason": reason})

    def revoke_certificates(self, serials: Sequence[str], reason: str = "unspecified") -> Approval:
        """Ask for up to 10,000 revocations; once a second operator agrees, they are a job."""
        body = {"serials": list(serials), "reason": reason}
        return self._make(Approval, "/certificates/revocations", body)

    def list_audit_events(self) -> Listing[AuditEvent]:
        """Oldest first; `page(after)` takes the number of an event."""
        return self._list(AuditEvent, "/audit/events")

    def verify_audit(self) -> Job:
        """Have the whole chain of hashes walked; the outcome names its head."""
        return self._make(Job, "/audit/verification")

    def list_jobs(self, *, state: str | None = None) -> Listing[Job]:
        """Newest first."""
        return self._list(Job, "/jobs", state=state)

    def show_job(self, job_id: str) -> Job:
        return self._show(Job, path("jobs", job_id))

    def follow_job(self, job_id: str) -> Iterator[Job]:
        """The job after each change, until it is over, in server-sent events.

        A stream that breaks is opened again, and the job comes as it is then. Raises Problem, and
        Unreachable where no stream of five brings anything.
        """
        where, breaks = path("jobs", job_id, "events"), 0
        while True:
            try:
                for found in self._events(where):
                    breaks = 0
                    yield found
                    if found.is_over:
                        return
                breaks += 1  # the server ends streams after an hour; none of them is empty
            except Unreachable:
                breaks += 1
                if breaks >= _BREAKS:
                    raise
            if breaks >= _BREAKS:
                raise Unreachable(f"the events of job {job_id} end before the job does")

    def wait_for(self, job: Job) -> Job:
        """The job when it is over; `outcome` says what came of it."""
        for found in self.follow_job(job.id):
            job = found
        return job

    def cancel_job(self, job_id: str) -> Job:
        """Stop between two steps; what was done stays done."""
        return self._make(Job, path("jobs", job_id, "cancellation"))

    def _events(self, where: str) -> Iterator[Job]:
        request = Request("GET", where, headers={"Accept": "text/event-stream"})
        with self._transport.stream(request) as incoming:
            for line in incoming.lines():
                if line.startswith(b"data:"):
                    yield build(Job, json.loads(line.removeprefix(b"data:")))
