"""Every way to prove control of a domain, behind one use case: begin, look again, send again.

Which modules do it (`domains`, `emailing`, `csrhash`) follows from the method; what somebody has to
do next is said in one shape.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field

from certmint.enrolment import csrhash, domains, emailing
from certmint.enrolment.domains import Account, World
from certmint.enrolment.emailing import Post
from certmint.model.csr import CSR
from certmint.model.entities import DomainValidation, Manufacturer, ValidationMethod
from certmint.model.errors import BadInput, CertmintError, Refused
from certmint.model.serial import RandomBytes
from certmint.registry.engine import Database


@dataclass(frozen=True)
class Proofs:
    """What proving takes in an installation; `post` is None where it sends no mail."""

    db: Database
    world: World
    account_of: Callable[[str], Account]
    ca_domain: str
    post: Post | None
    random_bytes: RandomBytes = field(repr=False)


@dataclass(frozen=True)
class Wanted:
    """What somebody wants proved, and how. `recipients` are for e-mail, `csr` for its hash."""

    domain: str
    method: ValidationMethod
    recipients: tuple[str, ...] = ()
    csr: CSR | None = None
    unique_value: str = ""


@dataclass(frozen=True)
class Todo:
    """What has to be published: a DNS record, or a file at an URL; or an answer to a mail."""

    kind: str = ""
    place: str = ""
    value: str = ""


def begin(
    proofs: Proofs, tenant: Manufacturer, wanted: Wanted, *, by: str, now: dt.datetime
) -> DomainValidation:
    """Open one attempt. A mail that cannot be sent now stays for the job.

    Raises BadInput `validation-method`, `csr-missing`, `mail-recipient` …; Refused `mail-domain` or
    `mail-missing`; TooOften `mail-too-often`.
    """
    method = wanted.method
    if method is ValidationMethod.EMAIL:
        return _write(proofs, tenant, wanted, by, now)
    if method in domains.REQUEST_TOKENS:
        if wanted.csr is None:
            raise BadInput("csr-missing", f"the method {method} needs a CSR")
        return csrhash.begin_csr_hash(
            proofs.db, tenant, wanted.csr, wanted.domain, method,
            ca_domain=proofs.ca_domain, unique_value=wanted.unique_value,
            by=by, now=now, random_bytes=proofs.random_bytes,
        )  # fmt: skip
    return domains.begin_validation(
        proofs.db, tenant, wanted.domain, method, by=by, now=now,
        random_bytes=proofs.random_bytes, account=proofs.account_of(tenant.slug),
    )  # fmt: skip


def _write(
    proofs: Proofs, tenant: Manufacturer, wanted: Wanted, by: str, now: dt.datetime
) -> DomainValidation:
    outlet = outlet_of(proofs)
    made, mails = emailing.begin(
        proofs.db, tenant, outlet, wanted.domain, wanted.recipients,
        by=by, now=now, random_bytes=proofs.random_bytes,
    )  # fmt: skip
    for mail in mails:
        try:
            emailing.deliver(proofs.db, outlet, mail, now)
        except CertmintError:
            continue  # its row says why, and the job tries again
    return made


def look(
    proofs: Proofs, tenant: Manufacturer, attempt_id: str, *, by: str, now: dt.datetime
) -> DomainValidation:
    """Look whether it is published. Raises what `domains.verify_domain` raises."""
    return domains.verify_domain(proofs.db, tenant, attempt_id, proofs.world, by=by, now=now)


def send_again(
    proofs: Proofs, tenant: Manufacturer, attempt_id: str, *, by: str, now: dt.datetime
) -> int:
    """Send the messages of an attempt again; how many. Raises what `emailing.resend` raises."""
    domains.validation(proofs.db, tenant, attempt_id)
    outlet = outlet_of(proofs)
    return len(emailing.resend(proofs.db, tenant, outlet, attempt_id, by=by, now=now))


def outlet_of(proofs: Proofs) -> Post:
    """Raises Refused `mail-missing`."""
    if proofs.post is None:
        raise Refused(
            "mail-missing", "this installation sends no mail: prove the domain in another way"
        )
    return proofs.post


def todo(attempt: DomainValidation) -> Todo:
    """What the applicant has to publish."""
    if attempt.method is ValidationMethod.HTTP_CSR_HASH:
        return Todo("FILE", attempt.record_name, attempt.random_value)
    if not attempt.record_name:
        return Todo()
    record = domains.challenge_record(attempt)
    return Todo(record.kind, attempt.record_name, record.value)
