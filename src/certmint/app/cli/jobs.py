"""`certmint job`: long work that was asked for over the network."""

import json
import time
from pathlib import Path

import click

from certmint.app.cli.common import (
    config_option,
    console_operator,
    installation,
    json_option,
    print_item,
    tenant_of,
    tenant_option,
)
from certmint.app.cli.paging import Paging, paging_options, print_pages
from certmint.model.desk import Job, JobState

_LOOK_S = 0.5


@click.group()
def job() -> None:
    """Long work: list, show, follow, cancel. The server does it, not this command."""


@job.command("list")
@click.option("--state", type=click.Choice([state.value for state in JobState]), default=None)
@paging_options
@config_option
@tenant_option
@json_option
def list_jobs(
    config_path: Path, slug: str | None, state: str | None, paging: Paging, as_json: bool
) -> None:
    """List jobs, newest first."""
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)

        def fetch(after: str | None, limit: int) -> list[Job]:
            with here.db.read() as tx:
                return reads.jobs(
                    tx, tenant.id, state=JobState(state) if state else None, after=after,
                    limit=limit,
                )  # fmt: skip

        print_pages(paging, fetch, _row, lambda each: each.id, as_json=as_json, empty="no jobs")


@job.command()
@click.argument("job_id")
@click.option("--follow", is_flag=True, help="Print it again after each change, until it is over.")
@config_option
@tenant_option
@json_option
def show(config_path: Path, slug: str | None, job_id: str, follow: bool, as_json: bool) -> None:
    """Show how far a job is, and what came of it."""
    from certmint.enrolment import work

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        found = work.find(here.db, tenant.id, job_id)
        while follow and not found.is_over:
            click.echo(f"{found.state}: {found.done} of {found.total}", err=True)
            before = found
            while found == before:
                time.sleep(_LOOK_S)
                found = work.find(here.db, tenant.id, job_id)
    print_item(_whole(found), as_json=as_json)


@job.command()
@click.argument("job_id")
@config_option
@tenant_option
@json_option
def cancel(config_path: Path, slug: str | None, job_id: str, as_json: bool) -> None:
    """Stop a job between two steps; what was done stays done."""
    from certmint.enrolment import work

    with installation(config_path) as here:
        ended = work.cancel(
            here.db, tenant_of(here, slug).id, job_id, by=console_operator(), now=here.clock()
        )
    print_item(_whole(ended), as_json=as_json)


def _row(found: Job) -> dict[str, object]:
    return {
        "id": found.id,
        "kind": found.kind.value,
        "state": found.state.value,
        "done": found.done,
        "total": found.total,
        "created_at": found.created_at,
        "finished_at": found.finished_at,
    }


def _whole(found: Job) -> dict[str, object]:
    outcome = {"outcome": json.loads(found.outcome)}
    return _row(found) | {"requested_by": found.requested_by} | outcome
