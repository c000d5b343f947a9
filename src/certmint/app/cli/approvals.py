"""`certmint approval`: what waits for a second operator.

Looking needs the machine; deciding needs an operator, so it asks the running server with a token.
"""

import json
from pathlib import Path

import click

from certmint.app.cli.common import (
    config_option,
    installation,
    json_option,
    print_item,
    tenant_of,
    tenant_option,
)
from certmint.app.cli.paging import Paging, paging_options, print_pages
from certmint.app.cli.remote import client_of, server_options
from certmint.model.desk import ApprovalState, OperatorApproval


@click.group()
def approval() -> None:
    """What operators asked for and a second one has to agree to."""


@approval.command("list")
@click.option("--state", type=click.Choice([state.value for state in ApprovalState]), default=None)
@paging_options
@config_option
@tenant_option
@json_option
def list_approvals(
    config_path: Path, slug: str | None, state: str | None, paging: Paging, as_json: bool
) -> None:
    """List approvals, newest first."""
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)

        def fetch(after: str | None, limit: int) -> list[OperatorApproval]:
            with here.db.read() as tx:
                return reads.approvals(
                    tx, tenant.id, state=ApprovalState(state) if state else None, after=after,
                    limit=limit,
                )  # fmt: skip

        print_pages(
            paging, fetch, _row, lambda each: each.id, as_json=as_json, empty="no approvals"
        )


@approval.command()
@click.argument("approval_id")
@config_option
@tenant_option
@json_option
def show(config_path: Path, slug: str | None, approval_id: str, as_json: bool) -> None:
    """Show an approval, with the document that is to be carried out."""
    from certmint.enrolment import approvals

    with installation(config_path) as here:
        found = approvals.find(here.db, tenant_of(here, slug).id, approval_id)
    item = _row(found) | {
        "operation": found.operation.value,
        "document": json.loads(found.document),
        "decided_by": found.decided_by,
        "decided_at": found.decided_at,
        "outcome": found.outcome or None,
    }
    print_item(item, as_json=as_json)


@approval.command()
@click.argument("approval_id")
@server_options
@json_option
def approve(
    config_path: Path,
    approval_id: str,
    server: str,
    ca_file: Path | None,
    token_file: Path,
    as_json: bool,
) -> None:
    """Agree as the token's operator, and have it carried out; who asked cannot."""
    with client_of(config_path, server, ca_file, token_file) as client:
        done = client.approve(approval_id)
    print_item({"id": done.id, "state": done.state, "outcome": done.outcome}, as_json=as_json)


@approval.command()
@click.argument("approval_id")
@server_options
@json_option
def reject(
    config_path: Path,
    approval_id: str,
    server: str,
    ca_file: Path | None,
    token_file: Path,
    as_json: bool,
) -> None:
    """Say no as the token's operator; who asked takes it back in this way."""
    with client_of(config_path, server, ca_file, token_file) as client:
        done = client.reject(approval_id)
    print_item({"id": done.id, "state": done.state, "outcome": done.outcome}, as_json=as_json)


def _row(found: OperatorApproval) -> dict[str, object]:
    return {
        "id": found.id,
        "state": found.state.value,
        "summary": found.summary,
        "requested_by": found.requested_by,
        "requested_at": found.requested_at,
        "expires_at": found.expires_at,
    }
