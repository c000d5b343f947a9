"""Long lists: one after the other, a page at a time, or as one stream."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from certmint.client.answers import build
from certmint.client.errors import Unexpected
from certmint.client.transport import NDJSON, Request, Transport

T = TypeVar("T")

LARGEST_PAGE = 1_000


@dataclass(frozen=True)
class Page(Generic[T]):
    """A part of a list; `next` is the `after` of the following part, or None."""

    items: tuple[T, ...]
    next: str | None


class Listing(Generic[T]):
    """A list on the server. Nothing is asked before it is looked at.

    Iterating follows the pages, each with attempts of its own: for lists that must come whole.
    `stream` is one request, and the fastest way to a million.
    """

    def __init__(self, transport: Transport, kind: type[T], request: Request) -> None:
        self._transport = transport
        self._kind = kind
        self._request = request

    def __iter__(self) -> Iterator[T]:
        after: str | None = None
        while True:
            found = self.page(after)
            yield from found.items
            if found.next is None:
                return
            after = found.next

    def page(self, after: str | None = None, limit: int = LARGEST_PAGE) -> Page[T]:
        """The part behind `after`, which is the `next` of the page before."""
        query = {**self._request.query, "after": after, "limit": limit}
        said = self._transport.call(replace(self._request, query=query)).json
        if not isinstance(said, dict) or not isinstance(said.get("items"), list):
            raise Unexpected("the server did not answer with a page")
        return Page(tuple(build(self._kind, each) for each in said["items"]), said.get("next"))

    def stream(self) -> Iterator[T]:
        """All of it as it comes; Unreachable in the midst means to begin again."""
        wanted = replace(self._request, headers={**self._request.headers, "Accept": NDJSON})
        with self._transport.stream(wanted) as incoming:
            for line in incoming.lines():
                yield build(self._kind, json.loads(line))
