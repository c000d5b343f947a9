"""`certmint device requests`, `approve` and `reject`: what devices ask an operator for."""

from pathlib import Path
from typing import TYPE_CHECKING

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
from certmint.model.states import RequestEvent, RequestState

if TYPE_CHECKING:
    from certmint.enrolment.device_requests import Waiting

_ANY = "any"


@click.command()
@click.option(
    "--state", type=click.Choice([_ANY, *(state.value for state in RequestState)]),
    default=RequestState.PENDING.value, show_default=True,
)  # fmt: skip
@paging_options
@config_option
@tenant_option
@json_option
def requests(
    config_path: Path, slug: str | None, state: str, paging: Paging, as_json: bool
) -> None:
    """List what devices asked for and an operator decides on, oldest first."""
    from certmint.enrolment import device_requests

    with installation(config_path) as here:
        tenant, now = tenant_of(here, slug), here.clock()

        def fetch(after: str | None, limit: int) -> "list[Waiting]":
            return device_requests.requests(
                here.db, tenant.id, now, state=None if state == _ANY else RequestState(state),
                after=after or "", limit=limit,
            )  # fmt: skip

        print_pages(
            paging, fetch, _row, lambda each: each.request.id, as_json=as_json, empty="no requests"
        )


def _deciding(name: str, event: RequestEvent, about: str) -> click.Command:
    @click.command(name, help=about)
    @click.argument("request_id")
    @config_option
    @tenant_option
    @json_option
    def command(config_path: Path, slug: str | None, request_id: str, as_json: bool) -> None:
        from certmint.enrolment import device_requests

        with installation(config_path) as here:
            decided = device_requests.decide(
                here.db, tenant_of(here, slug).id, request_id, event,
                by=console_operator(), now=here.clock(),
            )  # fmt: skip
        print_item(_row(decided), as_json=as_json)

    return command


approve = _deciding(
    "approve", RequestEvent.APPROVED,
    "Let a device's request through: its next attempt, with the same key, within a week.",
)  # fmt: skip
reject = _deciding(
    "reject", RequestEvent.REJECTED,
    "Refuse a device's request for a week, also if it was approved and not used yet.",
)  # fmt: skip


def _row(found: "Waiting") -> dict[str, object]:
    request = found.request
    return {
        "request": request.id,
        "serial": found.serial_number,
        "wish": request.wish.value,
        "state": request.state.value,
        "shown": request.evidence,
        "from": request.source or None,
        "key": request.key_fingerprint[:16] or None,
        "made_at": request.created_at,
        "ends_at": request.expires_at,
        "decided_by": request.decided_by,
        "certificate": request.serial,
    }
