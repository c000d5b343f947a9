"""Whether this node lives, and whether it can serve: for load balancers and process managers.

`/healthz` answers as long as the process does. `/readyz` is 200 when the registry answers and has
this version's schema, else 503. Neither says anything that an attacker could use.
"""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from certmint.model.errors import CertmintError
from certmint.registry.engine import Database

PATHS = ("/healthz", "/readyz")


def health_routes(db: Database) -> list[Route]:
    """The two routes."""

    def look() -> bool:
        try:
            return db.is_current()
        except CertmintError:
            return False

    async def live(_request: Request) -> Response:
        return PlainTextResponse("ok\n", headers={"Cache-Control": "no-store"})

    async def ready(_request: Request) -> Response:
        is_ready = await run_in_threadpool(look)
        return PlainTextResponse(
            "ready\n" if is_ready else "the registry does not answer\n",
            200 if is_ready else 503,
            {"Cache-Control": "no-store"},
        )

    return [Route(path, handler) for path, handler in zip(PATHS, (live, ready), strict=True)]
