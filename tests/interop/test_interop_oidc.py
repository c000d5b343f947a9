"""Logins at a real OpenID provider, Glewlwyd: a device's, a person's, and an app's bearer token."""

import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from asgi import Answer, call
from backstage import House, build, csr_pem

from certmint.app.wiring import rest_services
from certmint.doors.rest.app import rest_app
from certmint.enrolment import oidc
from certmint.enrolment.oidc import OIDC
from certmint.validation.oidc import RemoteProvider

from .glewlwyd import Glewlwyd, Person, glewlwyd

pytestmark = pytest.mark.slow
REDIRECT = "https://pki.example/api/v1/owner/callback"
INTERVAL_S = 5.2


@dataclass
class Home:
    """A house of the manufacturer `acme`, whose customers log in at Glewlwyd."""

    house: House
    provider: Glewlwyd
    remote: RemoteProvider
    rest: Any

    def post(self, path: str, body: dict[str, Any] | None = None, **more: Any) -> Answer:
        return call(self.rest, "POST", f"/api/v1{path}", body=body or {}, **more)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, require: Callable[..., str]) -> Iterator[Home]:
    program = require("glewlwyd", package="glewlwyd")
    house = build(tmp_path_factory.mktemp("oidc-interop"))
    with glewlwyd(program, tmp_path_factory.mktemp("glewlwyd"), REDIRECT) as provider:
        remote = RemoteProvider(provider.settings(creates_owners=True))
        here = house.here
        services = replace(rest_services(here), oidc=OIDC((remote,), REDIRECT))
        yield Home(house, provider, remote, rest_app(services, "0"))
    house.here.close()


def in_service(home: Home, serial: str, **login: Any) -> Answer:
    return home.post(f"/owner/devices/{serial}/certificates", {"csr": csr_pem()}, **login)


def test_a_router_without_a_keyboard_gets_its_certificate(home: Home) -> None:
    """RFC 8628: pending; the person logs in; the device has an owner and a certificate."""
    peer, body = home.house.identity("R3"), {"csr": csr_pem()}
    begun = home.post("/device/login", body, peer=peer)
    assert begun.status == 201, begun.body
    shown = begun.json
    assert shown["user_code"] in shown["verification_uri_complete"]
    time.sleep(INTERVAL_S)
    assert home.post(f"/device/login/{shown['id']}", peer=peer).json["status"] == "pending"

    person = Person(home.provider.port)
    person.grant()
    assert "deviceComplete" in person.follow(shown["verification_uri_complete"] + "&g_continue")
    time.sleep(INTERVAL_S)
    granted = home.post(f"/device/login/{shown['id']}", peer=peer)
    assert granted.json["status"] == "granted"

    certified = home.post("/device/certificates", body | {"login": shown["id"]}, peer=peer)
    assert certified.status == 201
    (linked,) = oidc.identities(home.house.here.db, home.house.maker, None, 10)
    assert linked.issuer == home.provider.issuer
    assert linked.username == f"oidc:{linked.subject}"


def test_a_code_that_nobody_uses_stays_pending(home: Home) -> None:
    """And buys nothing."""
    peer, body = home.house.identity("R4"), {"csr": csr_pem()}
    shown = home.post("/device/login", body, peer=peer).json
    time.sleep(INTERVAL_S)
    assert home.post(f"/device/login/{shown['id']}", peer=peer).json["status"] == "pending"
    refused = home.post("/device/certificates", body | {"login": shown["id"]}, peer=peer)
    assert (refused.status, refused.code) == (401, "login-pending")


def test_a_person_logs_in_with_code_and_pkce(home: Home) -> None:
    """The session manages the person's devices; the code works once."""
    begun = call(home.rest, "GET", "/api/v1/owner/login/acme")
    assert begun.status == 303, begun.body
    person = Person(home.provider.port)
    assert "login.html" in person.follow(begun.headers["location"])
    person.grant()
    back = person.follow(begun.headers["location"] + "&g_continue")
    assert back.startswith(REDIRECT)
    query = urllib.parse.urlsplit(back).query
    cookie = {"cookie": begun.headers["set-cookie"].partition(";")[0]}
    opened = call(home.rest, "GET", f"/api/v1/owner/callback?{query}", headers=cookie)
    assert opened.status == 200, opened.body
    token = {"authorization": f"Bearer {opened.json['token']}"}
    paired = home.post("/owner/devices/R5/pairing", headers=token)
    assert paired.status == 201
    confirmed = home.post(
        "/device/pairing", {"code": paired.json["code"]}, peer=home.house.identity("R5")
    )
    assert confirmed.json["claimed"]
    assert in_service(home, "R5", headers=token).status == 201
    again = call(home.rest, "GET", f"/api/v1/owner/callback?{query}", headers=cookie)
    assert (again.status, again.code) == (401, "login-state")


def test_an_access_token_of_the_provider_is_a_bearer_token(home: Home) -> None:
    """What Glewlwyd gives to an app (RFC 9068) opens its user's devices; its ID token does not."""
    clock = home.house.here.clock
    metadata = home.remote.metadata(clock())
    form = {"scope": "openid"}
    _, begun = home.remote.post(metadata.device_authorization_endpoint, form, clock())
    person = Person(home.provider.port)
    person.grant()
    person.follow(str(begun["verification_uri_complete"]) + "&g_continue")
    asked = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": str(begun["device_code"]),
    }
    time.sleep(INTERVAL_S)
    status, given = home.remote.post(metadata.token_endpoint, asked, clock())
    assert status == 200
    access = {"authorization": f"Bearer {given['access_token']}"}
    foreign = in_service(home, "R2", headers=access)  # jo's of the house, who is somebody else
    assert (foreign.status, foreign.code) == (403, "evidence-not-owner")
    wrong = in_service(home, "R2", headers={"authorization": f"Bearer {given['id_token']}"})
    assert (wrong.status, wrong.code) == (401, "token-audience")
