"""Routes for logins at a manufacturer's OpenID provider: a device's, and a browser's."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from certmint.doors.rest import views
from certmint.doors.rest.callers import Services, bearer_token, device_certificate
from certmint.enrolment import devicelogins, sessions
from certmint.enrolment.sessions import Returned
from certmint.model.csr import parse_csr
from certmint.model.entities import Certificate

COOKIE = "__Host-certmint-login"
_PRIVATE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def login_routes(services: Services) -> APIRouter:
    """`/device/login`, and `/owner/login` with what belongs to it."""
    router = APIRouter()
    db, oidc, key, clock = services.db, services.oidc, services.secret_key, services.clock

    def me(request: Request) -> Certificate:
        return device_certificate(services, request)

    Me = Annotated[Certificate, Depends(me)]  # noqa: N806

    @router.post("/device/login", status_code=201, tags=["device"])
    def begin_device_login(shown: Me, body: views.DeviceLoginBody) -> views.DeviceLoginView:
        """Have the owner log in elsewhere for one CSR: a code and an address (RFC 8628)."""
        csr = parse_csr(body.csr.encode())
        begun = devicelogins.begin(db, oidc, shown, csr, key, clock(), services.random_bytes)
        return views.DeviceLoginView.of(begun)

    @router.post("/device/login/{login_id}", tags=["device"])
    def poll_device_login(shown: Me, login_id: str) -> views.DeviceLoginProgress:
        """Whether the owner has logged in; then `login` goes with the CSR to `…/certificates`."""
        found = devicelogins.poll(db, oidc, shown, login_id, key, clock(), services.random_bytes)
        return views.DeviceLoginProgress(
            status="granted" if found.is_granted else "pending",
            interval=found.interval,
            expires_at=found.expires_at,
        )

    @router.get("/owner/login/{manufacturer}", status_code=303, tags=["owner"])
    def begin_owner_login(manufacturer: str) -> Response:
        """Send the browser to the manufacturer's provider (authorization code, PKCE)."""
        begun = sessions.begin(db, oidc, manufacturer, key, clock(), services.random_bytes)
        answer = Response(status_code=303, headers={"Location": begun.url, **_PRIVATE})
        answer.set_cookie(
            COOKIE, begun.cookie, max_age=int(sessions.LOGIN_LIFE.total_seconds()), path="/",
            secure=True, httponly=True, samesite="lax",
        )  # fmt: skip
        return answer

    @router.get("/owner/callback", tags=["owner"])
    def finish_owner_login(
        request: Request,
        response: Response,
        state: str = "",
        code: str = "",
        error: str = "",
        iss: str = "",
    ) -> views.SessionView:
        """Where the browser comes back to: a session's token, good as Bearer for an hour."""
        back = Returned(state, code, error, iss, request.cookies.get(COOKIE, ""))
        token, until = sessions.finish(db, oidc, back, key, clock(), services.random_bytes)
        response.headers.update(_PRIVATE)
        response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
        return views.SessionView(token=token, expires_at=until)

    @router.delete("/owner/session", status_code=204, tags=["owner"])
    def close_session(request: Request) -> None:
        """End the session of this token."""
        sessions.close(db, bearer_token(request), clock())

    return router
