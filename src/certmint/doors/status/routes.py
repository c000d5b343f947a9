"""Routes of the status door (RFC 5280 4.2.1.13, 4.2.2.1; RFC 6960 appendix A).

Nothing here asks who the client is, and nothing here changes anything.
"""

import base64
import binascii
import datetime as dt
import hashlib
import urllib.parse
from collections.abc import Callable
from email.utils import format_datetime

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from certmint.doors.http import BodyLimit, problem, unexpected
from certmint.doors.status.health import health_routes
from certmint.enrolment import status
from certmint.enrolment.signing import SigningKeys
from certmint.model.errors import BadInput, CertmintError, NotFound
from certmint.registry.engine import Database

MAX_OCSP = 8 * 1024
OCSP_CACHE_S = 300


def status_app(db: Database, keys: SigningKeys, clock: Callable[[], dt.datetime]) -> Starlette:
    """The ASGI application of the status door."""

    def crl(request: Request) -> Response:
        shard = request.path_params["shard"]
        found = status.crl(db, request.path_params["authority"], shard)
        return _cacheable(
            request,
            found.der,
            "application/pkix-crl",
            found.this_update,
            found.next_update,
            clock(),
        )

    def issuer(request: Request) -> Response:
        der = status.issuer(db, request.path_params["authority"])
        now = clock()
        return _cacheable(
            request, der, "application/pkix-cert", now, now + dt.timedelta(days=1), now
        )

    def answer(authority: str, body: bytes) -> Response:
        der = status.ocsp(db, keys, authority, body, clock())
        return Response(
            der,
            media_type="application/ocsp-response",
            headers={"Cache-Control": f"max-age={OCSP_CACHE_S}, public, no-transform"},
        )

    def ocsp_get(request: Request) -> Response:
        # Clients send unescaped '/' and '+', and proxies fold '//' (Let's Encrypt, May 2017).
        raw = request.scope["raw_path"].split(b"/ocsp/", 1)[1]
        authority, _, encoded = raw.partition(b"/")
        return answer(authority.decode("ascii", "replace"), _decode_get(encoded))

    async def ocsp_post(request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(answer, request.path_params["authority"], body)

    routes = [
        *health_routes(db),
        Route("/crl/{authority}/{shard:int}.crl", crl),
        Route("/aia/{authority}.cer", issuer),
        Route("/ocsp/{authority}", ocsp_post, methods=["POST"]),
        Route("/ocsp/{authority}/{request:path}", ocsp_get, methods=["GET"]),
    ]
    app = Starlette(routes=routes)
    app.add_exception_handler(CertmintError, _problem)
    app.add_exception_handler(Exception, unexpected)
    app.add_middleware(BodyLimit, limit=MAX_OCSP)
    return app


def _problem(_request: Request, error: Exception) -> Response:
    if isinstance(error, CertmintError):
        return problem(error)
    return problem(NotFound("not-found", "there is nothing here"))


def _decode_get(encoded: bytes) -> bytes:
    text = urllib.parse.unquote_to_bytes(encoded).lstrip(b"/")
    text += b"=" * (-len(text) % 4)
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise BadInput("ocsp-syntax", "the path is not a base64 OCSP request") from None


def _cacheable(
    request: Request,
    body: bytes,
    media_type: str,
    since: dt.datetime,
    until: dt.datetime,
    now: dt.datetime,
) -> Response:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    seconds = max(0, min(3600, int((until - now).total_seconds())))
    headers = {
        "ETag": tag,
        "Last-Modified": format_datetime(since.replace(microsecond=0), usegmt=True),
        "Cache-Control": f"public, max-age={seconds}",
    }
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)
