"""A person's browser: headless Chromium with a home, and so a trust store, of its own.

Names lead where the DNS said; every other name leads nowhere, so that nothing leaves the machine.
"""

import contextlib
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Error, Page, sync_playwright

_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
_NET_ERROR = re.compile(r"net::(ERR_\w+)")


@dataclass(frozen=True)
class Seen:
    """What a person sees after opening an address; `error` is Chromium's code, or empty."""

    error: str
    heading: str
    issuer: str = ""
    protocol: str = ""


@dataclass(frozen=True)
class Browser:
    """Chromium as installed for one person."""

    program: str
    home: Path

    @contextlib.contextmanager
    def window(self, addresses: Mapping[str, str]) -> Iterator[Page]:
        """An empty page in a fresh profile; `addresses` gives HOST:PORT for each known name."""
        rules = [f"MAP {name} {address}" for name, address in addresses.items()]
        rules.append("MAP * ~NOTFOUND")
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=self.program,
                args=[*_ARGUMENTS, f"--host-resolver-rules={', '.join(rules)}"],
                env={"HOME": str(self.home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            )
            try:
                yield chromium.new_page(viewport={"width": 1280, "height": 800})
            finally:
                chromium.close()


def person(chromium: str, certutil: str, home: Path, trusted: Path | None) -> Browser:
    """The browser of somebody who imported the root in `trusted`, or none, for web sites."""
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    database = f"sql:{store}"
    _run(certutil, "-d", database, "-N", "--empty-password")
    if trusted is not None:
        _run(certutil, "-d", database, "-A", "-n", "maker", "-t", "C,,", "-i", str(trusted))
    return Browser(chromium, home)


def look(page: Page, url: str) -> Seen:
    """Open `url` and say what is there: the page, or the warning in its place."""
    try:
        response = page.goto(url)
    except Error as problem:
        found = _NET_ERROR.search(problem.message)
        if found is None:
            raise
        page.wait_for_selector("h1")
        return Seen(found[1], page.inner_text("h1"))
    details = response.security_details() if response is not None else None
    issuer, protocol = (
        (str(details.get("issuer")), str(details.get("protocol"))) if details else ("", "")
    )
    return Seen("", page.inner_text("h1"), issuer, protocol)


def _run(*command: str) -> None:
    subprocess.run(command, capture_output=True, check=True, timeout=30)
