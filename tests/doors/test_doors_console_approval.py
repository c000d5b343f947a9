"""The page that a domain's contact opens: careful, and undecided until a button is pressed."""

import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from asgi import Answer, call
from backstage import BY, House

from certmint.app.wiring import console_desk, utc_now
from certmint.doors.console.app import console_app
from certmint.doors.console.pages import STYLE
from certmint.enrolment import emailing
from certmint.enrolment.emailing import Post
from certmint.enrolment.vault import Vault
from certmint.registry import reads

FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def app(house: House) -> Any:
    return console_app(console_desk(house.here))


@pytest.fixture
def asked(house: House) -> Callable[[str], str]:
    """Asks the contact of a domain, and returns the value in the message."""

    def ask(domain: str) -> str:
        sent: list[bytes] = []
        post = Post(
            lambda _from, _to, message: sent.append(message), "pki@pki.example",
            "https://pki.example", Vault(b"k" * 32),
        )  # fmt: skip
        _, (mail,) = emailing.begin(
            house.here.db, house.maker, post, domain, (f"admin@{domain}",),
            by=BY, now=utc_now(), random_bytes=os.urandom,
        )  # fmt: skip
        emailing.deliver(house.here.db, post, mail, utc_now())
        (value,) = re.findall(rb"/approve/([a-z2-7]{32})", sent[0])
        return value.decode()

    return ask


def press(app: Any, value: str, answer: str) -> Answer:
    body = f"value={value}&answer={answer}".encode()
    return call(app, "POST", "/approve/", body=body, headers=FORM)


def proved(house: House) -> set[str]:
    with house.here.db.read() as tx:
        return {each.domain for each in reads.verified_domains(tx, house.maker.id)}


def test_the_page_says_what_is_asked(house: House, app: Any, asked: Callable[[str], str]) -> None:
    """Who, for what and until when; and nothing that runs, loads, remembers or leaks."""
    value = asked("said.example.com")
    shown = call(app, "GET", f"/approve/{value}")
    page = shown.body.decode()
    assert shown.status == 200
    for text in ("Acme", "said.example.com", "*.said.example.com", "Approve", "Decline"):
        assert text in page
    assert "<script" not in page
    assert shown.headers["referrer-policy"] == "no-referrer"
    assert shown.headers["cache-control"] == "no-store"
    policy = shown.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "set-cookie" not in shown.headers


def test_a_scanner_opens_every_link(house: House, app: Any, asked: Callable[[str], str]) -> None:
    """GET and HEAD approve nothing, whatever they ask for."""
    value = asked("scanned.example.com")
    for path in (value, f"{value}?answer=approve", f"?value={value}&answer=approve"):
        for method in ("GET", "HEAD"):
            call(app, method, f"/approve/{path}")
    assert "scanned.example.com" not in proved(house)
    assert press(app, value, "approve").status == 200


def test_approved_once(house: House, app: Any, asked: Callable[[str], str]) -> None:
    """The button proves the domain; the second time the page says that it is done."""
    value = asked("approved.example.com")
    done = press(app, value, "approve")
    assert b"is approved" in done.body
    assert value.encode() not in done.body
    assert "approved.example.com" in proved(house)
    assert press(app, value, "approve").status == 409
    assert call(app, "GET", f"/approve/{value}").status == 409


def test_declined(house: House, app: Any, asked: Callable[[str], str]) -> None:
    """The other button ends the link."""
    value = asked("declined.example.com")
    assert b"Nothing was allowed" in press(app, value, "decline").body
    assert call(app, "GET", f"/approve/{value}").status == 410
    assert "declined.example.com" not in proved(house)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/approve/", b"", 404),
        ("GET", "/approve/unknown", b"", 404),
        ("GET", "/approve/a/b", b"", 404),
        ("GET", "/approve/<script>", b"", 404),
        ("POST", "/approve/", b"", 400),
        ("POST", "/approve/", b"value=x&answer=maybe", 400),
        ("POST", "/approve/", b"value=x&value=y&answer=approve", 400),
        ("POST", "/approve/", b"value=x&answer=approve", 404),
        ("POST", "/approve/", b"\xff" * 100, 400),
        ("POST", "/approve/", b"a=" * 4000, 413),
        ("POST", "/approve/", b"a&b&c&d&e&f", 400),
        ("PUT", "/approve/x", b"", 405),
    ],
)
def test_what_is_no_answer(app: Any, method: str, path: str, body: bytes, status: int) -> None:
    """Malformed input is a page or a problem, and never a 500."""
    answer = call(app, method, path, body=body, headers=FORM)
    assert answer.status == status
    assert b"<script>" not in answer.body


def test_the_style_sheet_stays(app: Any) -> None:
    """Its address holds its hash, so it may be kept for a year."""
    sheet = call(app, "GET", STYLE.url)
    assert sheet.status == 200
    assert "immutable" in sheet.headers["cache-control"]
    assert sheet.headers["content-type"].startswith("text/css")
    assert call(app, "GET", "/static/certmint.0000.css").status == 404
