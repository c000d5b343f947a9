"""The operators' console: who comes in, what they see, and what a foreign page cannot do."""

import datetime as dt
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from asgi import Answer, call
from backstage import BY, House, build

from certmint.app.wiring import console_desk
from certmint.doors.console.app import console_app
from certmint.doors.console.session import COOKIE
from certmint.enrolment import devices, operators
from certmint.model.states import DeviceEvent
from certmint.registry import reads

FORM = {"content-type": "application/x-www-form-urlencoded"}
PAGES = ("", "devices", "devices/R1", "batches", "campaigns", "domains", "approvals")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house of its own: these tests change it."""
    made = build(tmp_path_factory.mktemp("console"))
    yield made
    made.here.close()


@pytest.fixture(scope="module")
def app(shop: House) -> Any:
    return console_app(console_desk(shop.here))


def login(shop: House, app: Any, who: str, wanted: str = "") -> Answer:
    body = f"token={shop.tokens[who]}&next={quote(wanted)}".encode()
    return call(app, "POST", "/console/login", body=body, headers=FORM)


def cookie_of(shop: House, app: Any, who: str) -> dict[str, str]:
    return {"cookie": login(shop, app, who).headers["set-cookie"].partition(";")[0]}


def csrf_in(answer: Answer) -> str:
    return re.findall(rb'name="csrf" value="([0-9a-f]{32})"', answer.body)[0].decode()


def test_a_session_is_a_cookie_for_this_host_and_tls_alone(shop: House, app: Any) -> None:
    """And the registry knows it by its hash."""
    answer = login(shop, app, "acme/viewer")
    assert answer.status == 303
    said = answer.headers["set-cookie"]
    secret = said.partition("=")[2].partition(";")[0]
    for part in (f"{COOKIE}=cmo_", "Secure", "HttpOnly", "samesite=strict", "Path=/"):
        assert part.lower() in said.lower()
    with shop.here.db.read() as tx:
        rows = tx.exec_driver_sql("SELECT token_hash FROM operator_session").scalars().all()
    assert rows
    assert secret not in rows


def test_nobody_sees_a_page_without_a_login(app: Any) -> None:
    """They are sent to the login, and from there to where they were going, inside the console."""
    for path in PAGES:
        answer = call(app, "GET", f"/console/{path}")
        assert answer.status == 303
        assert answer.headers["location"].startswith("/console/login")
    wrong = call(app, "POST", "/console/login", body=b"token=cmt_wrong", headers=FORM)
    assert (wrong.status, b"unknown, revoked or expired" in wrong.body) == (403, True)


@pytest.mark.parametrize(
    "wanted", ["//evil.example/", "https://evil.example/", "/console/\\evil", "/approve/", "x"]
)
def test_a_login_leads_nowhere_else(shop: House, app: Any, wanted: str) -> None:
    """No open redirect."""
    assert login(shop, app, "acme/viewer", wanted).headers["location"] == "/console/"
    inner = "/console/devices?q=R"
    assert login(shop, app, "acme/viewer", inner).headers["location"] == inner


def test_the_pages_tell_what_is_so(shop: House, app: Any) -> None:
    """Numbers, devices, and a device's life with what was done to it."""
    devices.move(
        shop.here.db, shop.maker.id, "R1", DeviceEvent.SUSPENDED, by="x", now=shop.here.clock()
    )
    cookie = cookie_of(shop, app, "acme/administrator")

    def read(path: str) -> str:
        answer = call(app, "GET", f"/console/{path}", headers=cookie)
        assert answer.status == 200, answer.body
        assert "script" not in answer.headers["content-security-policy"]
        return answer.body.decode()

    with shop.here.db.read() as tx:
        number = sum(reads.count_devices_by_state(tx, shop.maker.id).values())
    assert f"<h1>{number} devices</h1>" in read("")
    assert "suspended 1" in read("")
    assert re.findall(r">(R\d)</a>", read("devices?q=R")) == ["R1", "R2", "R3", "R4", "R5", "R6"]
    assert re.findall(r">([RP]\d)</a>", read("devices?state=suspended")) == ["R1"]
    life = read("devices/R1")
    for title in ("Suspended", "Service certificate issued", "Named in a manifest"):
        assert f"<strong>{title}</strong>" in life
    assert "r1.router.lan" in life
    assert "finished" in read("batches")
    assert "<td>lan</td>" in read("domains")


def test_a_second_operator_approves_in_the_browser(shop: House, app: Any) -> None:
    """Who asked has no such button, and cannot press it either."""
    headers = {"authorization": f"Bearer {shop.tokens['acme/administrator']}"}
    body = {"name": "second-root", "kind": "root"}
    asked = call(shop.rest, "POST", "/api/v1/authorities", body=body, headers=headers).json["id"]
    path = "/console/approvals"

    def press(who: str, csrf: str | None = None) -> Answer:
        cookie = cookie_of(shop, app, who)
        shown = call(app, "GET", path, headers=cookie)
        form = f"id={asked}&csrf={csrf_in(shown) if csrf is None else csrf}".encode()
        return call(app, "POST", f"{path}/approve", body=form, headers=FORM | cookie)

    own = call(app, "GET", path, headers=cookie_of(shop, app, "acme/administrator"))
    assert b"Somebody else has to agree" in own.body
    assert b"approvals/approve" not in own.body
    assert press("acme/administrator").status == 403
    assert press("acme/auditor").status == 403
    assert press("acme/security-officer", csrf="0" * 32).status == 403
    assert press("other/administrator").status == 404
    done = press("acme/security-officer")
    assert (done.status, done.headers["location"]) == (303, path)
    with shop.here.db.read() as tx:
        assert reads.authority_by_name(tx, shop.maker.id, "second-root") is not None


def test_another_maker_s_device_is_not_there(shop: House, app: Any) -> None:
    """404, without a byte of it, and the attempt is in the log of who tried."""
    cookie = cookie_of(shop, app, "other/administrator")
    answer = call(app, "GET", "/console/devices/R1", headers=cookie)
    assert answer.status == 404
    assert b"r1.router" not in answer.body
    assert b"R1" not in call(app, "GET", "/console/devices", headers=cookie).body
    with shop.here.db.read() as tx:
        other = reads.manufacturer_by_slug(tx, "other")
        assert other is not None
        last = reads.audit_events(tx, other.id, 0, 10_000)[-1]
    assert (last.action, last.subject) == ("access.refused", "show_device")


def test_a_role_sees_its_own_menu(shop: House, app: Any) -> None:
    """A factory station has no domains and no approvals; their pages are refused."""
    cookie = cookie_of(shop, app, "acme/station")
    shown = call(app, "GET", "/console/", headers=cookie).body
    assert b"/console/batches" in shown
    assert b"/console/domains" not in shown
    assert call(app, "GET", "/console/domains", headers=cookie).status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_no_other_site_logs_a_visitor_in(shop: House, app: Any, site: str) -> None:
    """A foreign form with the attacker's own token opens no session in the visitor's browser."""
    body = f"token={shop.tokens['other/administrator']}".encode()
    answer = call(app, "POST", "/console/login", body=body, headers=FORM | {"sec-fetch-site": site})
    assert answer.status == 403
    assert "set-cookie" not in answer.headers
    own = call(
        app, "POST", "/console/login", body=body, headers=FORM | {"sec-fetch-site": "same-origin"}
    )
    assert own.status == 303


def test_who_logs_out_is_out(shop: House, app: Any) -> None:
    """The session ends in the registry, not only in the browser."""
    cookie = cookie_of(shop, app, "acme/operator")
    shown = call(app, "GET", "/console/", headers=cookie)
    body = f"csrf={csrf_in(shown)}".encode()
    assert call(app, "POST", "/console/logout", body=body, headers=FORM | cookie).status == 303
    assert call(app, "GET", "/console/", headers=cookie).status == 303


def test_a_revoked_token_ends_its_sessions(shop: House, app: Any) -> None:
    """Who logged in with a stolen token is out when it is revoked, and not hours later."""
    here = shop.here
    with here.db.read() as tx:
        who = reads.operator_by_name(tx, shop.maker.id, "viewer")
    assert who is not None
    given = operators.add_token(
        here.db, shop.maker.id, who.id, "stolen", dt.timedelta(days=1),
        by=BY, now=here.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    body = f"token={given.secret}".encode()
    cookie = call(app, "POST", "/console/login", body=body, headers=FORM).headers["set-cookie"]
    held = {"cookie": cookie.partition(";")[0]}
    assert call(app, "GET", "/console/", headers=held).status == 200
    operators.revoke_token(here.db, shop.maker.id, given.token.id, by=BY, now=here.clock())
    assert call(app, "GET", "/console/", headers=held).status == 303


def test_what_a_maker_writes_is_shown_and_not_run(shop: House, app: Any) -> None:
    """Text of others is escaped, in pages and in charts."""
    cookie = cookie_of(shop, app, "acme/viewer")
    query = quote('"><script>alert(1)</script>')
    shown = call(app, "GET", f"/console/devices?q={query}", headers=cookie).body
    assert b"<script" not in shown
    assert b"&lt;script" in shown
    assert call(app, "GET", "/console/devices?state=nonsense", headers=cookie).status == 400


def test_a_campaign_is_agreed_to_in_the_browser(shop: House, app: Any) -> None:
    """One that revokes waits for somebody who did not draft it, and then begins."""
    headers = {"authorization": f"Bearer {shop.tokens['acme/administrator']}"}
    body = {
        "name": "leaked firmware",
        "selection": {"product": "router"},
        "plan": {"kind": "revoke", "deadline": "2099-01-01T00:00:00Z", "reason": "superseded"},
    }
    made = call(shop.rest, "POST", "/api/v1/campaigns", body=body, headers=headers)
    assert (made.status, made.json["needs_approval"]) == (201, True)
    path = f"/api/v1/campaigns/{made.json['id']}"
    started = call(shop.rest, "POST", f"{path}/start", body={}, headers=headers)
    assert started.json["state"] == "awaiting-approval"
    assert call(shop.rest, "POST", f"{path}/approval", headers=headers).code == "four-eyes"

    own = call(app, "GET", "/console/campaigns", headers=cookie_of(shop, app, "acme/administrator"))
    assert b"leaked firmware" in own.body
    assert b"campaigns/approve" not in own.body
    cookie = cookie_of(shop, app, "acme/security-officer")
    shown = call(app, "GET", "/console/campaigns", headers=cookie)
    form = f"id={made.json['id']}&csrf={csrf_in(shown)}".encode()
    agreed = call(app, "POST", "/console/campaigns/approve", body=form, headers=FORM | cookie)
    assert (agreed.status, agreed.headers["location"]) == (303, "/console/campaigns")
    now_is = call(shop.rest, "GET", path, headers=headers).json
    assert now_is["state"] == "gathering"
    assert now_is["approved_by"] != now_is["created_by"]
