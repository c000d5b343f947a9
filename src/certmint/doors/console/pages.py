"""What every page for people shares: templates, the one style sheet, and careful header fields.

Laws: text is escaped wherever it is put into a page (`autoescape`), and a name that a template
misspells is an error; no page runs a script, loads from elsewhere, or stands in a frame. The style
sheet's address holds its own hash, so that browsers may keep it for a year.
"""

import datetime as dt
import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

STATIC = "/static/"


@dataclass(frozen=True)
class Asset:
    """A file that pages refer to; its address changes with its content."""

    name: str
    media_type: str
    content: bytes

    @property
    def url(self) -> str:
        stem, _, ending = self.name.partition(".")
        return f"{STATIC}{stem}.{hashlib.sha256(self.content).hexdigest()[:16]}.{ending}"

    def answer(self, _request: Request) -> Response:
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(self.content, media_type=self.media_type, headers=headers)


def _asset(name: str, media_type: str) -> Asset:
    return Asset(name, media_type, (files(__package__) / "static" / name).read_bytes())


STYLE = _asset("certmint.css", "text/css")
ICON = _asset("mint.svg", "image/svg+xml")
static_routes = [Route(each.url, each.answer) for each in (STYLE, ICON)]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",  # an address may hold a credential
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def _day(moment: dt.datetime) -> str:
    """`3 June 2027`."""
    return f"{moment.day} {moment:%B %Y}"


def _moment(moment: dt.datetime) -> str:
    """`2027-06-03 14:05 UTC`."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _pretty(document: str) -> str:
    """JSON for people."""
    return json.dumps(json.loads(document), indent=2, ensure_ascii=False)


def environment() -> Environment:
    """The templates of this door."""
    made = Environment(
        loader=PackageLoader("certmint.doors.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {"day": _day, "moment": _moment, "pretty": _pretty}
    made.globals |= {"style_url": STYLE.url, "icon_url": ICON.url}
    return made


_TEMPLATES = environment()


def page(template: str, status: int = 200, /, **values: object) -> HTMLResponse:
    """A page of a template. Raises jinja2's errors for what the template misses."""
    return HTMLResponse(_TEMPLATES.get_template(template).render(values), status, HEADERS)
