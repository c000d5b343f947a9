"""Long work as a resource: asked for in one request, worked off beside them, followed by whoever
likes to.

Laws: a job is a row before anything of it is done; a node works on it under a lease that it renews
with every step, so a job whose node died is taken up by another; every kind of work can be begun
again and does nothing twice. Cancelling stops between two steps.
"""

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from certmint.enrolment import batches, devices, ownership, revocation
from certmint.enrolment.access import Entrance
from certmint.enrolment.issue import Gate
from certmint.enrolment.manufacturers import new_id
from certmint.enrolment.minting import mint_into
from certmint.enrolment.packages import PackageFormat
from certmint.enrolment.signing import SigningKeys
from certmint.enrolment.vault import Vault
from certmint.model.desk import Job, JobEvent, JobKind, JobState
from certmint.model.entities import Manufacturer, RevocationReason
from certmint.model.errors import CertmintError, Conflict, NotFound, TooOften, WrongState
from certmint.model.operations import Operation
from certmint.model.serial import RandomBytes, parse_serial
from certmint.model.states import DeviceEvent
from certmint.policy.authorization import authorize
from certmint.registry import audit, reads, writes
from certmint.registry.documents import canonical
from certmint.registry.engine import Database

LEASE = dt.timedelta(minutes=5)
PACKAGES_FILE = "packages.jsonl"
MOST_OPEN = 20  # jobs of a manufacturer that are not over
_UNEXPECTED = {"code": "internal", "detail": "the server failed; its log says why"}
_STEP = 50  # things done between two looks at whether the job was cancelled


@dataclass(frozen=True)
class Workshop:
    """What jobs need. `folder` is where batches leave their packages on this node."""

    db: Database
    gate: Gate
    keys: SigningKeys
    vault: Vault
    folder: Path
    holder: str
    clock: Callable[[], dt.datetime]
    random_bytes: RandomBytes = field(repr=False)


@dataclass(frozen=True)
class Task:
    """One job on the bench."""

    shop: Workshop
    job: Job
    tenant: Manufacturer
    wanted: Mapping[str, Any]
    stopping: Callable[[], bool]

    @property
    def by(self) -> str:
        return f"operator:{self.job.requested_by}"

    def advance(self, done: int, total: int) -> None:
        """Say how far it is, and keep the lease.

        Raises WrongState `job-over` when it was ended, or is to be left to another node.
        """
        if self.stopping():
            raise WrongState("job-over", f"the node stops: job {self.job.id} goes on later")
        now = self.shop.clock()

        def work(tx: writes.Transaction) -> bool:
            held = writes.take_lease(tx, _lease(self.job), self.shop.holder, now, now + LEASE)
            return held and writes.advance_job(tx, self.tenant.id, self.job.id, done, total)

        if not self.shop.db.write(work):
            raise WrongState("job-over", f"job {self.job.id} was cancelled or is run elsewhere")


def order(
    db: Database,
    entrance: Entrance,
    kind: JobKind,
    document: Mapping[str, object],
    total: int,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> Job:
    """Ask for long work. `total` is the number of things that it is about, 0 for unknown.

    The nodes work jobs off in the order of all tenants, so nobody may have many. Raises TooOften
    `jobs-full`.
    """
    made = Job(
        id=new_id("job", now, random_bytes),
        tenant_id=entrance.tenant.id,
        kind=kind,
        document=canonical(dict(document)),
        requested_by=entrance.operator.id,
        created_at=now,
        total=total,
    )

    def work(tx: writes.Transaction) -> None:
        if reads.count_open_jobs(tx, made.tenant_id) >= MOST_OPEN:
            raise TooOften("jobs-full", f"{MOST_OPEN} jobs wait or run already: wait for them", 60)
        writes.add_job(tx, made, by=entrance.by, at=now)

    db.write(work)
    return made


def find(db: Database, tenant_id: str, job_id: str) -> Job:
    """Raises NotFound `job-unknown`."""
    with db.read() as tx:
        found = reads.job(tx, tenant_id, job_id)
    if found is None:
        raise NotFound("job-unknown", f"there is no job {job_id!r}")
    return found


def cancel(db: Database, tenant_id: str, job_id: str, *, by: str, now: dt.datetime) -> Job:
    """Stop a job between two steps; what was done stays.

    Raises NotFound `job-unknown`, WrongState `wrong-state`.
    """
    found = find(db, tenant_id, job_id)
    return db.write(lambda tx: writes.move_job(tx, found, JobEvent.CANCELLED, by=by, at=now))


def cancel_for(db: Database, entrance: Entrance, job_id: str, now: dt.datetime) -> Job:
    """As `cancel`, for an operator who was let in.

    Revocations that two people agreed to are not stopped by somebody who may revoke nothing.
    Raises Forbidden `role-forbids`, and what `cancel` raises.
    """
    if find(db, entrance.tenant.id, job_id).kind is JobKind.REVOKE_CERTIFICATES:
        asked = Operation.REVOKE_CERTIFICATES
        authorize(entrance.operator, None, asked, house=entrance.is_house)
    return cancel(db, entrance.tenant.id, job_id, by=entrance.by, now=now)


def work_off(shop: Workshop, stopping: Callable[[], bool]) -> int:
    """Do every job that nobody else is at; how many there were.

    When it is `stopping`, the job at hand ends after its step and stays open for the next node.
    """
    with shop.db.read() as tx:
        waiting = reads.open_jobs(tx)
    return sum(_try(shop, each, stopping) for each in waiting if not stopping())


def _try(shop: Workshop, job: Job, stopping: Callable[[], bool]) -> bool:
    now = shop.clock()
    name = _lease(job)
    if not shop.db.write(lambda tx: writes.take_lease(tx, name, shop.holder, now, now + LEASE)):
        return False
    try:
        job = find(shop.db, job.tenant_id, job.id)  # another node may have ended it meanwhile
        if job.is_over:
            return False
        event = JobEvent.STARTED if job.state is JobState.QUEUED else JobEvent.RESUMED
        running = _end(shop, job, event, None)
        with shop.db.read() as tx:
            tenant = reads.manufacturer(tx, job.tenant_id)
        if tenant is None:
            raise NotFound("manufacturer-unknown", "the job's manufacturer is gone")
        task = Task(shop, running, tenant, json.loads(job.document), stopping)
        _carry_out(task)
    except WrongState:
        return True  # somebody cancelled it at this very moment, and that stands
    finally:
        over = shop.clock()
        shop.db.write(lambda tx: writes.take_lease(tx, name, shop.holder, over, over))
    return True


def _carry_out(task: Task) -> None:
    try:
        outcome = _KINDS[task.job.kind](task)
    except CertmintError as refusal:
        if refusal.code != "job-over":
            said = {"code": refusal.code, "detail": refusal.detail}
            _end(task.shop, task.job, JobEvent.FAILED, said)
        return
    except Exception:  # the border of a job: one that fails for ever must not hold up the others
        _end(task.shop, task.job, JobEvent.FAILED, _UNEXPECTED)
        raise
    _end(task.shop, task.job, JobEvent.FINISHED, outcome)


def _end(shop: Workshop, job: Job, event: JobEvent, outcome: Mapping[str, object] | None) -> Job:
    said = None if outcome is None else canonical(dict(outcome))
    return shop.db.write(
        lambda tx: writes.move_job(
            tx, job, event, by=f"node:{shop.holder}", at=shop.clock(), outcome=said
        )
    )


def _lease(job: Job) -> str:
    return f"work:{job.id}"


def _mint(task: Task) -> dict[str, object]:
    shop = task.shop
    batch = batches.batch_of(shop.db, task.tenant, task.wanted["batch"])
    sealed = bytes.fromhex(task.wanted["passphrase"])
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        task.advance(done, batch.size)

    refused = mint_into(
        shop.db, shop.gate, task.tenant, batch, package_folder(shop.folder, batch.id),
        PackageFormat.JSONL, shop.vault.unlock(sealed, batch.id),
        clock=shop.clock, random_bytes=shop.random_bytes, progress=progress,
    )  # fmt: skip
    return {
        "batch": batch.id,
        "minted": batch.size - len(refused),
        "refused": [vars(each) for each in refused[:100]],
    }


def package_folder(folder: Path, batch_id: str) -> Path:
    """Where a batch that was asked for over the network leaves its packages."""
    return folder / batch_id


def packages_file(db: Database, tenant: Manufacturer, folder: Path, batch_id: str) -> Path:
    """The packages that this node has minted of a batch.

    Raises NotFound `batch-unknown`, Conflict `packages-missing`.
    """
    found = batches.batch_of(db, tenant, batch_id)
    path = package_folder(folder, found.id) / PACKAGES_FILE
    if not path.is_file():
        raise Conflict(
            "packages-missing", f"batch {batch_id} has no packages here: mint it, or ask its node"
        )
    return path


def _revoke(task: Task) -> dict[str, object]:
    shop = task.shop
    reason = RevocationReason(task.wanted["reason"])
    serials = task.wanted["serials"]
    refused: list[dict[str, str]] = []
    for text in _steps(task, serials):
        try:
            revocation.revoke(
                shop.db, shop.keys, task.tenant.id, parse_serial(text), reason,
                by=task.by, now=shop.clock(), publish=False,
            )  # fmt: skip
        except CertmintError as refusal:
            if refusal.code != "already-revoked":  # done before a crash, or by somebody else
                refused.append({"serial": text, "code": refusal.code, "detail": refusal.detail})
    revocation.publish_everywhere(shop.db, shop.keys, task.tenant.id, shop.clock())
    return {"revoked": len(serials) - len(refused), "refused": refused[:100]}


def _change_devices(task: Task) -> dict[str, object]:
    shop, by = task.shop, task.by
    wanted = task.wanted["serial_numbers"]
    refused: list[dict[str, str]] = []
    for serial_number in _steps(task, wanted):
        now = shop.clock()
        try:
            match task.wanted["action"]:
                case "suspend":
                    devices.move(
                        shop.db, task.tenant.id, serial_number, DeviceEvent.SUSPENDED,
                        by=by, now=now,
                    )  # fmt: skip
                case "resume":
                    devices.move(
                        shop.db, task.tenant.id, serial_number, DeviceEvent.RESUMED, by=by, now=now
                    )
                case _:
                    ownership.release(shop.db, task.tenant.id, serial_number, None, by=by, now=now)
        except CertmintError as refusal:
            refused.append(
                {"serial_number": serial_number, "code": refusal.code, "detail": refusal.detail}
            )
    return {"changed": len(wanted) - len(refused), "refused": refused[:100]}


def _steps(task: Task, wanted: list[str]) -> Iterator[str]:
    for place, each in enumerate(wanted):
        if place % _STEP == 0:
            task.advance(place, len(wanted))
        yield each
    task.advance(len(wanted), len(wanted))


def _verify_audit(task: Task) -> dict[str, object]:
    with task.shop.db.read() as tx:
        report = audit.verify(tx, lambda seq: task.advance(seq, seq))
    task.advance(report.events, report.events)
    return {"events": report.events, "head": report.head_hash, "broken_at": report.broken_at}


_KINDS: Mapping[JobKind, Callable[[Task], dict[str, object]]] = {
    JobKind.MINT_BATCH: _mint,
    JobKind.REVOKE_CERTIFICATES: _revoke,
    JobKind.CHANGE_DEVICES: _change_devices,
    JobKind.VERIFY_AUDIT: _verify_audit,
}
