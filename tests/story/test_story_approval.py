"""A domain's contact gets mail from the maker's CA, opens the link in a browser, and presses."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page
from postoffice import PostOffice, post_office

from .browser import person
from .maker import Maker, program
from .processes import free_port, listens, running

pytestmark = pytest.mark.slow

Require = Callable[..., str]


@pytest.fixture(scope="module")
def office() -> Iterator[PostOffice]:
    with post_office() as opened:
        yield opened


@pytest.fixture(scope="module")
def young(tmp_path_factory: pytest.TempPathFactory, office: PostOffice) -> Maker:
    """A maker who has just installed certmint, and named a mail server."""
    maker = Maker(tmp_path_factory.mktemp("approval"), shutil.which("faketime") or "")
    maker.certmint(
        "init", str(maker.home), "--https", f"127.0.0.1:{free_port()}",
        "--http", f"127.0.0.1:{free_port()}", "--name", "localhost",
    )  # fmt: skip
    maker.certmint("manufacturer", "add", "example", "--subject", "C=US, O=Example Router Inc")
    text = maker.config.read_text()
    for old, new in (
        ('host = ""', 'host = "localhost"'), ("port = 587", f"port = {office.port}"),
        ('tls = "starttls"', 'tls = "none"'), ('sender = ""', 'sender = "pki@router.example"'),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    maker.config.write_text(text)
    return maker


@pytest.fixture(scope="module")
def port(young: Maker) -> Iterator[int]:
    """Of the maker's running server."""
    found = re.search(r'^https = ".*:([0-9]+)"', young.config.read_text(), re.MULTILINE)
    assert found is not None
    number = int(found[1])
    command = [program("certmint"), "serve", "--config", str(young.config)]
    with running(command, listens(number), young.folder / "server.log"):
        yield number


@pytest.fixture
def window(require: Require, young: Maker, port: int, tmp_path: Path) -> Iterator[Page]:
    """The contact's browser."""
    contact = person(
        require("chromium", package="chromium"),
        require("certutil", package="libnss3-tools"),
        tmp_path / "contact",
        young.server_root,
    )
    with contact.window({"localhost": f"127.0.0.1:{port}"}) as page:
        yield page


def asked(maker: Maker, office: PostOffice, domain: str) -> str:
    """The link in the mail to a contact."""
    made = maker.ask(
        "domain", "add", f"router.{domain}", "--method", "email", "--to", f"hostmaster@{domain}"
    )
    assert made["written_to"] == [f"hostmaster@{domain}"]
    return office.letters[-1].link


def test_a_contact_approves(young: Maker, office: PostOffice, window: Page, screens: Path) -> None:
    """The page says what it is about, on a desk and on a phone; one press proves the domain."""
    link = asked(young, office, "example.com")
    problems: list[str] = []
    window.on("console", lambda message: problems.append(message.text))
    window.goto(link)
    assert "May Example Router Inc have certificates for example.com?" in window.inner_text("h1")
    window.screenshot(path=screens / "domain-approval.png")
    window.set_viewport_size({"width": 390, "height": 844})
    assert window.evaluate("document.documentElement.scrollWidth") <= 390
    window.screenshot(path=screens / "domain-approval-phone.png", full_page=True)
    window.set_viewport_size({"width": 1280, "height": 800})
    assert "example.com" not in young.certmint("domain", "ages").stdout
    window.click("text=Approve")
    assert "is approved" in window.inner_text("h1")
    window.screenshot(path=screens / "domain-approved.png")
    assert "email" in young.certmint("domain", "ages").stdout
    window.goto(link)
    assert window.inner_text("h1") == "This was approved already"
    # A page that is no 2xx is told of in the console; nothing was blocked or missing.
    assert [each for each in problems if "status of 409" not in each] == []


def test_a_contact_declines(young: Maker, office: PostOffice, window: Page) -> None:
    """The other button proves nothing, and the link ends."""
    link = asked(young, office, "example.org")
    window.goto(link)
    window.click("text=Decline")
    assert "Nothing was allowed" in window.inner_text("h1")
    window.goto(link)
    assert "declined" in window.inner_text("h1")
    assert "example.org" not in young.certmint("domain", "ages").stdout
