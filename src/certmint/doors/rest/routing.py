"""What every operators' route does before and after its own work.

Laws: a route's name is its `Operation`, so one that policy does not know cannot be made; nobody
comes in without policy's word; whatever is refused or missing is written down. Beside that: rate
limits, Idempotency-Key, ETag and If-None-Match, sparse fields.
"""

import hashlib
import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from certmint.doors.http import RateLimit, is_upload, problem, too_many
from certmint.doors.rest.callers import Services, bearer_token
from certmint.enrolment import access, idempotency
from certmint.enrolment.access import Entrance
from certmint.enrolment.idempotency import Answer
from certmint.model.errors import (
    BadInput,
    CertmintError,
    Forbidden,
    NotFound,
    Unauthenticated,
)
from certmint.model.operations import Operation

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def entered(request: Request) -> Entrance:
    """Whom the route let in."""
    found: Entrance = request.state.entrance
    return found


Me = Annotated[Entrance, Depends(entered)]


def linked(status: int, parameter: str, *operations: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI links: the operations that take a member of this answer as their parameter.

    `parameter` is `job_id=id` for the member `id`, or the one name of both.
    """
    name, _, member = parameter.partition("=")
    given = {name: f"$response.body#/{member or name}"}
    links = {each: {"operationId": each, "parameters": given} for each in operations}
    return {status: {"links": links}}


def sparse(
    fields: Annotated[
        str | None,
        Query(description="Only these members of each item, with commas between", max_length=512),
    ] = None,
) -> None:
    """The `fields` parameter, which the route itself applies."""


def operator_route(services: Services) -> type[APIRoute]:
    """The class of the operators' routes."""
    limit = RateLimit(services.requests_minute)

    class OperatorRoute(APIRoute):
        """A route that only an operator enters, for the operation that it is named after."""

        def get_route_handler(self) -> Handler:
            operation = Operation(self.name)
            inner = super().get_route_handler()

            async def handle(request: Request) -> Response:
                return await _Visit(services, limit, operation, request).run(inner)

            return handle

    return OperatorRoute


class _Visit:
    """One request to an operators' route."""

    def __init__(
        self, services: Services, limit: RateLimit, operation: Operation, request: Request
    ) -> None:
        self._services = services
        self._limit = limit
        self._operation = operation
        self._request = request

    async def run(self, inner: Handler) -> Response:
        services, request = self._services, self._request
        token = bearer_token(request)
        if not token:
            raise Unauthenticated("token-required", "send 'Authorization: Bearer <API token>'")
        entrance = await services.db.run(
            lambda: access.enter(services.db, token, self._operation, services.clock())
        )
        request.state.entrance = entrance
        quota, remaining, reset = self._limit.take(entrance.tenant.id, services.clock())
        if remaining < 0:
            response = problem(too_many(quota, reset))
        else:
            response = await self._answer(entrance, inner)
        self._limit.tell(response, quota, remaining, reset)
        return response

    async def _answer(self, entrance: Entrance, inner: Handler) -> Response:
        try:
            if self._request.method == "GET":
                return self._read(await inner(self._request))
            key = self._request.headers.get("idempotency-key")
            # A manifest is its own key: the same one is the same batch.
            if self._request.method == "POST" and key is not None and not self._is_upload:
                return await self._once(entrance, key, inner)
            return await inner(self._request)
        except (Forbidden, NotFound) as refusal:
            await self._note(entrance, refusal)
            return problem(refusal)
        except CertmintError as refusal:
            return problem(refusal)

    @property
    def _is_upload(self) -> bool:
        return is_upload(self._request.headers.get("content-type", ""))

    async def _note(self, entrance: Entrance, refusal: CertmintError) -> None:
        services = self._services
        wanted = " ".join(map(str, self._request.path_params.values()))
        await services.db.run(
            lambda: access.note(
                services.db, entrance.operator, self._operation, refusal, wanted, services.clock()
            )
        )

    async def _once(self, entrance: Entrance, key: str, inner: Handler) -> Response:
        services, request = self._services, self._request
        digest = hashlib.sha256()
        for part in (request.method, request.url.path, request.url.query):
            digest.update(f"{part}\n".encode())
        digest.update(await request.body())
        begun, is_known = await services.db.run(
            lambda: idempotency.begin(
                services.db, services.vault, entrance, key, digest.hexdigest(), services.clock()
            )
        )
        if is_known:
            return _given_before(begun)
        try:
            response = await inner(request)
        except (CertmintError, RequestValidationError, HTTPException):
            await services.db.run(lambda: idempotency.give_back(services.db, begun))
            raise
        await services.db.run(lambda: self._keep(begun, response))
        return response

    def _keep(self, begun: Answer, response: Response) -> None:
        services = self._services
        body = getattr(response, "body", None)
        if not isinstance(body, bytes) or response.status_code >= 300:
            idempotency.give_back(services.db, begun)
            return
        idempotency.finish(
            services.db, services.vault, begun, response.status_code,
            response.headers.get("location", ""), body, services.random_bytes,
        )  # fmt: skip

    def _read(self, response: Response) -> Response:
        """A representation with its ETag, cut to the fields that were asked for."""
        body = getattr(response, "body", None)
        if not isinstance(body, bytes) or response.status_code != 200:
            return response
        tag = etag(body)
        response.headers["ETag"] = tag
        response.headers["Cache-Control"] = "private, no-cache"
        if tag in _tags(self._request, "if-none-match"):
            return Response(None, 304, {"ETag": tag})
        fields = self._request.query_params.get("fields")
        if fields:
            response = Response(
                _cut(body, fields), 200, dict(response.headers), response.media_type
            )
            response.headers["Content-Length"] = str(len(response.body))
        return response


def etag(body: bytes) -> str:
    """The strong validator of a representation (RFC 9110 8.8.3)."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def unless_changed(request: Request, current: Any) -> None:
    """Whether the client has seen what it changes; `current` is the view of the thing now.

    Raises HTTPException 428 without If-Match, 412 for another one.
    """
    given = _tags(request, "if-match")
    if not given:
        raise HTTPException(428, "send If-Match with the ETag of what you have read")
    body = json.dumps(
        current.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":")
    ).encode()
    if "*" not in given and etag(body) not in given:
        raise HTTPException(412, "it was changed since you read it: read it again")


def _tags(request: Request, name: str) -> list[str]:
    return [tag.strip() for tag in request.headers.get(name, "").split(",") if tag.strip()]


def _given_before(answer: Answer) -> Response:
    response = Response(answer.body, answer.status, media_type="application/json")
    response.headers["Idempotency-Replayed"] = "true"
    if answer.location:
        response.headers["Location"] = answer.location
    return response


def _cut(body: bytes, fields: str) -> bytes:
    wanted = [name.strip() for name in fields.split(",")]
    document = json.loads(body)
    items = document.get("items", [document])
    for item in items:
        unknown = [name for name in wanted if name not in item]
        if unknown:
            raise BadInput(
                "fields-unknown", f"there is no member {unknown[0]!r}: use {', '.join(item)}"
            )
    cut = [{name: item[name] for name in wanted} for item in items]
    result = {**document, "items": cut} if "items" in document else cut[0]
    return json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode()
