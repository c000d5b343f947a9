"""`certmint audit`: the log that nobody can change unseen."""

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certmint.app.cli.common import (
    config_option,
    days,
    installation,
    json_option,
    print_item,
    print_rows,
    tenant_of,
    tenant_option,
)
from certmint.app.cli.paging import Paging, paging_options, print_pages
from certmint.model.errors import BadInput, Misconfigured

if TYPE_CHECKING:
    from certmint.registry.audit import Entry

_PAGE = 5_000


@click.group()
def audit() -> None:
    """The audit log: every change, each linked to the one before by hash."""


@audit.command()
@config_option
@json_option
def verify(config_path: Path, as_json: bool) -> None:
    """Walk the whole chain and say whether anything was changed."""
    from certmint.registry import audit as chain

    with installation(config_path) as here, here.db.read() as tx:
        report = chain.verify(tx)
    if report.broken_at is not None:
        raise Misconfigured(
            "audit-broken", f"the audit chain is broken at event {report.broken_at}"
        )
    print_item({"events": report.events, "head": report.head_hash}, as_json=as_json)


@audit.command("list")
@paging_options
@config_option
@tenant_option
@json_option
def list_events(config_path: Path, slug: str | None, paging: Paging, as_json: bool) -> None:
    """List audit events, oldest first; --after takes an event's number."""
    from certmint.registry import reads

    start = paging.after
    if start is not None and not (start.isascii() and start.isdigit() and len(start) < 19):
        raise BadInput("after-syntax", f"--after {start!r} is not the number of an event")

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)

        def fetch(after: str | None, limit: int) -> "list[Entry]":
            with here.db.read() as tx:
                return reads.audit_events(tx, tenant.id, int(after or 0), limit)

        print_pages(
            paging, fetch, _row, lambda each: str(each.seq), as_json=as_json, empty="no events"
        )


def _row(found: "Entry") -> dict[str, object]:
    return {
        "number": found.seq,
        "at": found.at,
        "actor": found.actor,
        "action": found.action,
        "subject": found.subject,
        "detail": found.detail,
    }


@audit.command()
@click.option("--since", default=None, help="Only what is younger, such as 90d.  [everything]")
@config_option
@tenant_option
@json_option
def report(config_path: Path, slug: str | None, since: str | None, as_json: bool) -> None:
    """Count what happened, by action: how often, by how many, first and last."""
    from certmint.registry import reads

    counted: dict[str, _Count] = {}
    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        start = here.clock() - days(since) if since else None
        last = 0
        while True:
            with here.db.read() as tx:
                found = reads.audit_events(tx, tenant.id, last, _PAGE)
            for each in found:
                if start is None or each.at >= start:
                    counted.setdefault(each.action, _Count(each.at)).add(each)
            if len(found) < _PAGE:
                break
            last = found[-1].seq
    rows = [
        {"action": action, "events": count.events, "actors": len(count.actors),
         "first": count.first, "last": count.last}
        for action, count in sorted(counted.items())
    ]  # fmt: skip
    print_rows(rows, as_json=as_json, empty="no events")


class _Count:
    """The events of one action."""

    def __init__(self, first: dt.datetime) -> None:
        self.first = self.last = first
        self.events = 0
        self.actors: set[str] = set()

    def add(self, event: "Entry") -> None:
        self.events += 1
        self.last = event.at
        self.actors.add(event.actor)
