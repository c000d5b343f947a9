"""OpenID logins over REST: bearer tokens, a device's login, a browser's login and its session."""

import dataclasses
import datetime as dt
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from asgi import Answer, call
from backstage import BY, PASSWORD, House, Skewed, build, csr_pem
from est_house import LABEL, ESTHouse, certificates, csr, open_est
from openid_provider import OpenIDProvider, provider
from test_doors_rest import basic, bearer

from certmint.app.wiring import rest_services, utc_now
from certmint.doors.rest.app import rest_app
from certmint.enrolment import oidc
from certmint.enrolment.oidc import OIDC
from certmint.validation.oidc import RemoteProvider

OWNED = "/api/v1/owner/devices/R2"
REDIRECT = "https://pki.example/api/v1/owner/callback"


@dataclasses.dataclass
class Home:
    """A house whose manufacturer `acme` has a provider; jo, who owns R2, is linked there."""

    house: House
    idp: OpenIDProvider
    rest: Any
    clock: Skewed
    est: ESTHouse

    def post(self, path: str, body: dict[str, Any] | None = None, **more: Any) -> Answer:
        return call(self.rest, "POST", path, body=body or {}, **more)

    def pass_time(self, seconds: float) -> None:
        self.clock.ahead += dt.timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    house, clock = build(tmp_path_factory.mktemp("oidc")), Skewed()
    with provider(lambda: clock().timestamp()) as idp:
        oidc.link(house.here.db, house.maker, "jo", idp.issuer, "jo-at-home", by=BY, now=utc_now())
        services = replace(
            rest_services(house.here),
            clock=clock,
            oidc=OIDC((RemoteProvider(idp.settings()),), REDIRECT),
        )
        est = open_est(house, services.oidc, clock)
        yield Home(house, idp, rest_app(services, "0"), clock, est)
    house.here.close()


def test_the_maker_s_app_certifies_a_device_of_its_user(home: Home) -> None:
    """A bearer token is as good as the password, for that owner's devices only."""
    token = bearer(home.idp.token())
    certified = home.post(f"{OWNED}/certificates", {"csr": csr_pem()}, headers=token)
    assert certified.status == 201
    foreign = home.post("/api/v1/owner/devices/R1/certificates", {"csr": csr_pem()}, headers=token)
    assert (foreign.status, foreign.code) == (403, "evidence-not-owner")


def session(home: Home) -> str:
    """The token of a session that jo has opened with a browser."""
    begun = call(home.rest, "GET", "/api/v1/owner/login/acme")
    query = home.idp.browse(begun.headers["location"], "jo-at-home")
    sent = {"cookie": begun.headers["set-cookie"].partition(";")[0]}
    opened = call(home.rest, "GET", f"/api/v1/owner/callback?{query}", headers=sent)
    return str(opened.json["token"])


def test_est_takes_the_same_token(home: Home) -> None:
    """For that owner's device, named by the label; for another one, and expired, it does not."""
    token = bearer(home.idp.token())
    (leaf,) = certificates(home.est.post("simpleenroll", csr(), f"{LABEL}~R2", headers=token))
    assert leaf.subject.rfc4514_string() == ""
    foreign = home.est.post("simpleenroll", csr(), f"{LABEL}~R1", headers=token)
    assert (foreign.status, foreign.headers["certmint-code"]) == (403, "evidence-not-owner")
    late = bearer(home.idp.token(exp=int(home.idp.seconds()) - 100))
    expired = home.est.post("simpleenroll", csr(), f"{LABEL}~R2", headers=late)
    assert (expired.status, expired.headers["certmint-code"]) == (401, "token-expired")


def test_est_takes_a_session_and_a_device_s_identity_beside_it(home: Home) -> None:
    """Both are weighed; a session that was closed opens nothing more."""
    token = session(home)
    both = {"headers": bearer(token), "peer": home.house.identity("R2")}
    assert len(certificates(home.est.post("simpleenroll", csr(), **both))) == 1
    closed = call(home.rest, "DELETE", "/api/v1/owner/session", headers=bearer(token))
    assert closed.status == 204
    refused = home.est.post("simpleenroll", csr(), **both)
    assert (refused.status, refused.headers["certmint-code"]) == (401, "session-over")


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [
        ("nonsense", 401, "token-syntax"),
        ("cms_nonsense", 401, "session-over"),
        ("cmt_an-operator-s", 401, "token-syntax"),
        ("", 401, "login-required"),
    ],
)
def test_other_tokens_open_nothing(home: Home, token: str, status: int, code: str) -> None:
    """An operator's token, or none."""
    for path in ("certificates", "claim", "release"):
        body = {"certificates": {"csr": csr_pem()}, "claim": {"code": "x"}, "release": {}}[path]
        refused = home.post(f"{OWNED}/{path}", body, headers=bearer(token))
        assert (refused.status, refused.code) == (status, code)


def test_a_token_of_a_stranger_or_of_yesterday(home: Home) -> None:
    """Who is linked with nobody is known, and may not; who is late is not known."""
    stranger = home.post(f"{OWNED}/release", headers=bearer(home.idp.token("nobody")))
    assert (stranger.status, stranger.code) == (403, "login-unlinked")
    late = home.post(f"{OWNED}/release", headers=bearer(home.idp.token(exp=1)))
    assert (late.status, late.code) == (401, "token-expired")


def test_a_router_without_a_keyboard(home: Home) -> None:
    """It shows a code, polls, and gets one certificate, for that CSR alone; and has an owner."""
    peer, body = home.house.identity("R3"), {"csr": csr_pem()}
    begun = home.post("/api/v1/device/login", body, peer=peer)
    assert begun.status == 201
    assert begun.json["user_code"] == "WDJB-MJHT"
    assert begun.json["verification_uri"].startswith(home.idp.issuer)
    login = f"/api/v1/device/login/{begun.json['id']}"
    early = home.post(login, peer=peer)
    assert (early.status, early.code) == (429, "login-too-soon")
    assert int(early.headers["retry-after"]) <= 6
    home.pass_time(6)
    waiting = home.post(login, peer=peer)
    assert (waiting.status, waiting.json["status"]) == (200, "pending")
    named = body | {"login": begun.json["id"]}
    assert home.post("/api/v1/device/certificates", named, peer=peer).code == "login-pending"
    home.idp.device["sub"] = "jo-at-home"
    home.pass_time(6)
    assert home.post(login, peer=peer).json["status"] == "granted"
    certified = home.post("/api/v1/device/certificates", named, peer=peer)
    assert certified.status == 201
    again = home.post("/api/v1/device/certificates", named, peer=peer)
    assert again.json["certificate"] == certified.json["certificate"]
    other = {"csr": csr_pem(), "login": begun.json["id"]}
    refused = home.post("/api/v1/device/certificates", other, peer=peer)
    assert (refused.status, refused.code) == (401, "login-other-request")
    elsewhere = home.post(login, peer=home.house.identity("R4"))
    assert (elsewhere.status, elsewhere.code) == (404, "login-unknown")
    released = home.post("/api/v1/owner/devices/R3/release", headers=basic("acme/jo", PASSWORD))
    assert released.json == {"serial_number": "R3", "state": "active", "claimed": False}


def test_a_spent_login_buys_no_second_certificate(home: Home) -> None:
    """Once its certificate was replaced, the same CSR comes in vain."""
    peer, body = home.house.identity("R5"), {"csr": csr_pem()}
    begun = home.post("/api/v1/device/login", body, peer=peer).json
    home.idp.device["sub"] = "jo-at-home"
    home.pass_time(6)
    home.post(f"/api/v1/device/login/{begun['id']}", peer=peer)
    named = body | {"login": begun["id"]}
    assert home.post("/api/v1/device/certificates", named, peer=peer).status == 201
    token = bearer(home.idp.token())
    replaced = home.post("/api/v1/owner/devices/R5/certificates", {"csr": csr_pem()}, headers=token)
    assert replaced.status == 201
    refused = home.post("/api/v1/device/certificates", named, peer=peer)
    assert (refused.status, refused.code) == (401, "login-spent")


def test_a_device_s_login_needs_its_identity(home: Home) -> None:
    """Without a client certificate nobody has a device log in, or uses such a login."""
    for path in ("/api/v1/device/login", "/api/v1/device/certificates"):
        refused = home.post(path, {"csr": csr_pem()} | ({"login": "x"} if "cert" in path else {}))
        assert (refused.status, refused.code) == (401, "certificate-required")
    none = call(home.rest, "GET", "/api/v1/owner/login/other")
    assert (none.status, none.code) == (404, "provider-unknown")


def test_a_person_with_a_browser(home: Home) -> None:
    """To the provider and back: a session that is good as Bearer until it is closed."""
    begun = call(home.rest, "GET", "/api/v1/owner/login/acme")
    assert begun.status == 303
    assert begun.headers["cache-control"] == "no-store"
    cookie = begun.headers["set-cookie"]
    assert cookie.startswith("__Host-certmint-login=")
    for attribute in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert attribute in cookie
    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(begun.headers["location"]).query))
    assert asked["redirect_uri"] == REDIRECT
    query = home.idp.browse(begun.headers["location"], "jo-at-home")
    back = f"/api/v1/owner/callback?{query}"
    stolen = call(home.rest, "GET", back)
    assert (stolen.status, stolen.code) == (401, "login-state")
    sent = {"cookie": cookie.partition(";")[0]}
    opened = call(home.rest, "GET", back, headers=sent)
    assert opened.status == 200
    assert opened.headers["cache-control"] == "no-store"
    token = bearer(opened.json["token"])
    certified = home.post(f"{OWNED}/certificates", {"csr": csr_pem()}, headers=token)
    assert certified.status == 201
    assert call(home.rest, "DELETE", "/api/v1/owner/session", headers=token).status == 204
    over = home.post(f"{OWNED}/release", headers=token)
    assert (over.status, over.code) == (401, "session-over")
