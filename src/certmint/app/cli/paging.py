"""Long lists on the command line: `--after`, `--limit`, `--all`, a transaction for each page."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from certmint.app.cli.common import print_rows

T = TypeVar("T")

_PAGE = 1_000


@dataclass(frozen=True)
class Paging:
    """Which part of a list: behind `after`, so many, or all of them."""

    after: str | None
    limit: int
    everything: bool


def paging_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--after`, `--limit` and `--all`, as the argument `paging`."""

    @functools.wraps(command)
    def paged(*given: Any, after: str | None, limit: int, everything: bool, **named: Any) -> Any:
        return command(*given, paging=Paging(after, limit, everything), **named)

    for option in (
        click.option(
            "--all", "everything", is_flag=True, help="To the end; with --json as it is read."
        ),
        click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True),
        click.option("--after", default=None, help="Continue after this one."),
    ):
        paged = option(paged)
    return paged


def print_pages(
    paging: Paging,
    fetch: Callable[[str | None, int], Sequence[T]],
    row: Callable[[T], Mapping[str, Any]],
    cursor: Callable[[T], str],
    *,
    as_json: bool,
    empty: str,
) -> None:
    """Print the part of a list that was asked for; JSON lines leave page by page.

    `fetch` reads the entries behind one and their greatest number; `cursor` names an entry.
    """
    size = _PAGE if paging.everything else paging.limit
    after, shown = paging.after, []
    while True:
        found = fetch(after, size + 1)
        rows = [row(each) for each in found[:size]]
        if as_json:
            print_rows(rows, as_json=True, empty="")
        else:
            shown += rows
        if len(found) <= size:
            break
        after = cursor(found[size - 1])
        if not paging.everything:
            break
    if as_json:
        return
    print_rows(shown, as_json=False, empty=empty)
    if len(found) > size:
        click.echo(f"more: --after {after}")
