"""A caller of ASGI applications, in process: what a client sends, and what it gets."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """An HTTP response. `code` is the problem document's."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        return str(self.json["code"])


async def ask(
    app: Any,
    method: str,
    path: str,
    *,
    body: bytes | dict[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    peer: bytes | None = None,
) -> Answer:
    """One request on this event loop; `peer` is the client certificate that TLS has verified."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body or b""
    sent = {"content-length": str(len(data)), **(headers or {})}
    if isinstance(body, dict):
        sent["content-type"] = "application/json"
    target, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": target,
        "raw_path": target.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode()) for k, v in sent.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {"tls": {"peer": peer, "on": True}},
    }
    received: list[dict[str, Any]] = []

    pieces = [{"type": "http.request", "body": data, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not pieces:
            await asyncio.Event().wait()  # the client stays until it has its answer
        return pieces.pop(0)

    async def send(message: dict[str, Any]) -> None:
        received.append(message)

    await app(scope, receive, send)
    start = received[0]
    found: dict[str, str] = {}
    for raw, value in start["headers"]:
        name = raw.decode().lower()  # a field that comes twice is one list (RFC 9110 5.3)
        found[name] = f"{found[name]}, {value.decode()}" if name in found else value.decode()
    return Answer(
        start["status"],
        found,
        b"".join(message.get("body", b"") for message in received[1:]),
    )


def call(app: Any, method: str, path: str, **given: Any) -> Answer:
    """`ask`, on an event loop of its own."""
    return asyncio.run(ask(app, method, path, **given))
