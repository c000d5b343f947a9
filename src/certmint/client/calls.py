"""How every method calls: paths, bodies, a fresh Idempotency-Key for each POST, If-Match."""

import json
import secrets
import urllib.parse
from typing import Any, TypeVar

from certmint.client.answers import build
from certmint.client.pages import Listing
from certmint.client.transport import Answer, Query, Request, Transport

T = TypeVar("T")


def path(*parts: str) -> str:
    """A path of the API; what a part holds is escaped, slashes too."""
    return "".join("/" + urllib.parse.quote(part, safe="") for part in parts)


class Calls:
    """What the groups of operations share."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _list(self, kind: type[T], where: str, **query: str | bool | None) -> Listing[T]:
        return Listing(self._transport, kind, Request("GET", where, query, is_repeatable=True))

    def _show(self, kind: type[T], where: str, query: Query | None = None) -> T:
        answer = self._transport.call(Request("GET", where, query or {}, is_repeatable=True))
        return build(kind, answer.json, answer.headers.get("etag", ""))

    def _post(self, where: str, body: object = None) -> Answer:
        """One key for all attempts: whichever of them arrived first is the only one carried out."""
        headers = {"Idempotency-Key": secrets.token_urlsafe(24)}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        return self._transport.call(
            Request("POST", where, headers=headers, body=data, is_repeatable=True)
        )

    def _make(self, kind: type[T], where: str, body: object = None) -> T:
        return build(kind, self._post(where, body).json)

    def _change(self, kind: type[T], where: str, etag: str, body: dict[str, Any]) -> T:
        if not etag:
            raise ValueError("this was not read by a show_… method: only that knows its ETag")
        headers = {"If-Match": etag, "Content-Type": "application/json"}
        data = json.dumps(body).encode()
        return build(
            kind, self._transport.call(Request("PATCH", where, headers=headers, body=data)).json
        )


def said(**members: Any) -> dict[str, Any]:
    """A body without the members that were left out."""
    return {name: value for name, value in members.items() if value is not None}
