"""Long lists: a page by key, or all of it as NDJSON, one page of the database at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from certmint.registry.engine import Database, Transaction

T = TypeVar("T")
V = TypeVar("V", bound=BaseModel)

NDJSON = "application/x-ndjson"
MAX_PAGE = 1_000

After = Annotated[str | None, Query(description="`next` of the page before", max_length=256)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]


class Page(BaseModel, Generic[V]):
    """One page of a listing; `next` is the `after` of the following one, or null."""

    model_config = ConfigDict(frozen=True)

    items: tuple[V, ...]
    next: str | None = Field(description="`after` of the next page")


def listing(
    db: Database,
    request: Request,
    response: Response,
    fetch: Callable[[Transaction, str | None, int], Sequence[T]],
    view: Callable[[T], V],
    cursor: Callable[[T], str],
    after: str | None,
    limit: int,
) -> Any:
    """A `Page`, with a Link to the next one; or everything from `after` on, for who accepts NDJSON.

    A stream reads each of its pages in a transaction of its own, so that a slow reader holds none.
    """
    if NDJSON in request.headers.get("accept", ""):
        return StreamingResponse(_lines(db, fetch, view, cursor, after), media_type=NDJSON)
    with db.read() as tx:
        found = fetch(tx, after, limit + 1)
    rows = found[:limit]
    following = cursor(rows[-1]) if len(found) > limit else None
    if following is not None:
        url = request.url.include_query_params(after=following)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    return Page(items=tuple(map(view, rows)), next=following)


def _lines(
    db: Database,
    fetch: Callable[[Transaction, str | None, int], Sequence[T]],
    view: Callable[[T], V],
    cursor: Callable[[T], str],
    after: str | None,
) -> Iterator[bytes]:
    while True:
        with db.read() as tx:
            found = fetch(tx, after, MAX_PAGE)
        yield b"".join(view(each).model_dump_json().encode() + b"\n" for each in found)
        if len(found) < MAX_PAGE:
            return
        after = cursor(found[-1])
