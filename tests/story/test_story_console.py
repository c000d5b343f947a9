"""The first console, opened by an operator in a real browser; its pictures are in docs/screens."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backstage import BY, House, build
from playwright.sync_api import Page

from certmint.app.wiring import utc_now
from certmint.enrolment import batches, devices, products
from certmint.model.manifest import parse_manifest
from certmint.model.states import DeviceEvent

from .browser import person
from .processes import free_port, listens, running

Require = Callable[..., str]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A small fleet with something to see: a batch under way, a suspended device, refusals."""
    made = build(tmp_path_factory.mktemp("console-story"))
    here, maker = made.here, made.maker
    devices.move(here.db, maker.id, "R3", DeviceEvent.SUSPENDED, by=BY, now=utc_now())
    lines = "".join(f"N{number:03}\n" for number in range(40))
    batches.submit(
        here.db, maker, products.product_named(here.db, maker, "router"),
        parse_manifest(f"serial\n{lines}".encode()),
        by=BY, now=utc_now(), random_bytes=here.random_bytes,
    )  # fmt: skip
    yield made
    here.close()


@pytest.fixture(scope="module")
def address(shop: House) -> Iterator[int]:
    """The port of the house's server, as a process."""
    folder = shop.here.config.folder
    https, http = free_port(), free_port()
    file = folder / "certmint.toml"
    text = file.read_text().replace('"127.0.0.1:8443"', f'"127.0.0.1:{https}"')
    file.write_text(text.replace('http = "127.0.0.1:8080"', f'http = "127.0.0.1:{http}"'))
    program = str(Path(sys.executable).with_name("certmint"))
    command = [program, "serve", "--config", str(file)]
    with running(command, listens(https), folder / "serve.log"):
        yield https


@pytest.fixture
def window(require: Require, shop: House, address: int, tmp_path: Path) -> Iterator[Page]:
    """The operator's browser, which trusts the installation's root."""
    operator = person(
        require("chromium", package="chromium"),
        require("certutil", package="libnss3-tools"),
        tmp_path / "operator",
        shop.here.config.folder / "tls" / "root.pem",
    )
    with operator.window({"localhost": f"127.0.0.1:{address}"}) as page:
        yield page


def test_an_operator_looks_after_the_fleet(shop: House, window: Page, screens: Path) -> None:
    """Login, overview, search, a device's life, approval by a second person, logout; no script."""
    problems: list[str] = []
    window.on("console", lambda message: problems.append(message.text))
    window.goto("https://localhost/console/devices?q=R3")
    assert window.inner_text("h1") == "Log in"
    window.screenshot(path=screens / "console-login.png")
    window.fill("#token", shop.tokens["acme/administrator"])
    window.click("button")
    assert window.inner_text("h1") == "Devices"  # where they were going
    assert window.locator("tbody tr").count() == 1

    window.click("text=R3")
    assert window.inner_text("h1").split() == ["R3", "suspended"]
    assert window.locator(".timeline li").count() >= 4
    window.screenshot(path=screens / "console-device.png", full_page=True)
    for page in ("batches", "campaigns", "domains", "approvals", "devices"):
        window.click(f"nav >> text={page.title()}")
        assert window.inner_text("h1") == page.title()
        window.screenshot(path=screens / f"console-{page}.png")
    window.click("nav >> text=Overview")
    assert window.inner_text("h1") == "47 devices"
    window.screenshot(path=screens / "console-overview.png", full_page=True)
    window.set_viewport_size({"width": 390, "height": 844})
    assert window.evaluate("document.documentElement.scrollWidth") <= 390
    window.screenshot(path=screens / "console-phone.png")
    window.set_viewport_size({"width": 1280, "height": 800})
    window.click("text=Log out")
    assert window.inner_text("h1") == "Log in"
    window.goto("https://localhost/console/")
    assert window.inner_text("h1") == "Log in"
    # A hint about password managers is no problem; a token has no user name.
    assert [each for each in problems if "[DOM]" not in each] == []
