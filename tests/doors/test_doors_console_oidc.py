"""Operators who log in at their manufacturer's OpenID provider."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from asgi import Answer, call
from backstage import BY, House, build
from openid_provider import OpenIDProvider, provider

from certmint.app.wiring import console_desk, utc_now
from certmint.doors.console.app import console_app
from certmint.doors.console.session import COOKIE
from certmint.enrolment import operatorlogins, operators
from certmint.enrolment.oidc import OIDC
from certmint.model.entities import Role
from certmint.registry import reads
from certmint.validation.oidc import RemoteProvider

REDIRECT = "https://pki.example/console/callback"


@dataclass
class Home:
    house: House
    idp: OpenIDProvider
    app: Any

    def login(self, person: str) -> Answer:
        """A person's browser, to the provider and back."""
        begun = call(self.app, "GET", "/console/login/acme")
        assert begun.status == 303
        query = self.idp.browse(begun.headers["location"], person)
        state = begun.headers["set-cookie"].partition(";")[0]
        return call(self.app, "GET", f"/console/callback?{query}", headers={"cookie": state})

    def operator(self, role: Role) -> Any:
        with self.house.here.db.read() as tx:
            known = reads.operators(tx, self.house.maker.id)
        return next(each for each in known if each.role is role)

    def link(self, role: Role, person: str) -> Any:
        found = self.operator(role)
        operatorlogins.link(
            self.house.here.db, found, self.idp.issuer, person, by=BY, now=utc_now()
        )
        return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    house = build(tmp_path_factory.mktemp("console-oidc"))
    with provider(lambda: utc_now().timestamp()) as idp:
        service = OIDC((RemoteProvider(idp.settings()),), REDIRECT)
        desk = replace(console_desk(house.here), oidc=service)
        yield Home(house, idp, console_app(desk))
    house.here.close()


def session_of(answer: Answer) -> dict[str, str]:
    parts = answer.headers["set-cookie"].split(", ")
    return {"cookie": next(p for p in parts if p.startswith(f"{COOKIE}=")).partition(";")[0]}


def test_a_linked_person_is_let_in_with_the_operator_s_role(home: Home) -> None:
    """A page leads on, since a redirect would come without the strict cookie."""
    home.link(Role.AUDITOR, "ann")

    answer = home.login("ann")

    assert answer.status == 200
    assert b'http-equiv="refresh" content="0;url=/console/"' in answer.body
    shown = call(home.app, "GET", "/console/", headers=session_of(answer))
    assert shown.status == 200
    assert "auditor · acme".encode() in shown.body


def test_somebody_else_is_not_let_in(home: Home) -> None:
    """Whom nobody linked; and a linked operator who is shut out, at once."""
    stranger = home.login("mallory")
    assert stranger.status == 403
    assert b"o operator here is linked" in stranger.body
    assert f"{COOKIE}=" not in stranger.headers.get("set-cookie", "")

    viewer = home.link(Role.VIEWER, "val")
    inside = session_of(home.login("val"))
    operators.change_operator(
        home.house.here.db, viewer, role=viewer.role, disabled=True, by=BY, now=utc_now()
    )
    assert call(home.app, "GET", "/console/", headers=inside).status == 303
    assert home.login("val").status == 403


def test_a_link_that_ends_ends_the_session(home: Home) -> None:
    """And the person cannot come back."""
    officer = home.link(Role.SECURITY_OFFICER, "sam")
    inside = session_of(home.login("sam"))
    assert call(home.app, "GET", "/console/", headers=inside).status == 200
    operatorlogins.unlink(home.house.here.db, officer, home.idp.issuer, "sam", by=BY, now=utc_now())
    assert call(home.app, "GET", "/console/", headers=inside).status == 303
    assert home.login("sam").status == 403


def test_a_login_of_another_browser_is_no_login(home: Home) -> None:
    """Without the cookie of the browser that began, what came back opens nothing."""
    begun = call(home.app, "GET", "/console/login/acme")
    query = home.idp.browse(begun.headers["location"], "ann")
    stolen = call(home.app, "GET", f"/console/callback?{query}")
    assert stolen.status == 401
    assert b"was not begun here" in stolen.body
    assert call(home.app, "GET", "/console/login/other").status == 404
