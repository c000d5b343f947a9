"""The ACME door: from an HTTP request to a route, and from what it raises to a problem document.

Plain ASGI, since every device of a fleet comes through here: a table of paths, one fibre for each
request (ADR 11), and nothing between.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from certmint.doors.acme import views
from certmint.doors.acme.accounts import Accounts
from certmint.doors.acme.authorizations import Authorizations
from certmint.doors.acme.certificates import Certificates
from certmint.doors.acme.orders import Orders
from certmint.doors.acme.problems import ACMEProblem, document, problem, rejected
from certmint.doors.acme.requests import Arrival, Call, bad_nonce, verified
from certmint.doors.acme.services import Services, Validators, json_answer, link
from certmint.doors.acme.views import URLs
from certmint.doors.http import Answer, Plain, Receive, Scope, Send, Told
from certmint.enrolment.acme import orders
from certmint.enrolment.acme.directories import directory_named
from certmint.enrolment.acme.nonces import BadNonce
from certmint.model.acme import Directory
from certmint.model.errors import CertmintError

__all__ = ["ACMEDoor", "Services"]

MAX_BODY = 64 * 1024
_LONGEST_PATH = 1024
_MOST_DIRECTORIES = 4096  # of which the URLs are kept; strangers can ask for any

log = logging.getLogger("certmint.acme")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request as it came."""

    method: str
    path: str
    query: str
    content_type: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class _Hit:
    """A request whose path is one of ours."""

    asked: _Asked
    maker: str
    name: str
    params: Mapping[str, str]
    urls: URLs


@dataclass(frozen=True)
class _Post:
    """A route of signed requests. `by_key` as in `requests.verified`."""

    handler: Callable[[Call], Answer]
    params: tuple[str, ...] = ()
    by_key: bool | None = False


@dataclass(frozen=True)
class _Get:
    """A route without a signature."""

    handler: Callable[[_Hit], Answer]
    params: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("GET", "HEAD")


class ACMEDoor:
    """The ASGI application for everything below `/acme/`."""

    def __init__(self, services: Services) -> None:
        self._on = services
        self._urls: dict[tuple[str, str], URLs] = {}
        accounts = Accounts(services)
        authorizations = Authorizations(services, Validators(services.network.threads))
        wanted = Orders(services, authorizations)
        self._certificates = certificates = Certificates(services, wanted)
        # By the word behind the directory, the number of words behind that, and the last of them.
        self._posts: Mapping[tuple[str, int], _Post] = {
            ("new-account", 0): _Post(accounts.new, by_key=True),
            ("new-authz", 0): _Post(authorizations.new),
            ("new-order", 0): _Post(wanted.new),
            ("revoke-cert", 0): _Post(certificates.revoke, by_key=None),
            ("key-change", 0): _Post(accounts.key_change),
            ("account", 1): _Post(accounts.one, ("account",)),
            ("account", 2): _Post(accounts.orders, ("account", "=orders")),
            ("order", 1): _Post(wanted.one, ("order",)),
            ("order", 2): _Post(wanted.finalize, ("order", "=finalize")),
            ("authz", 1): _Post(authorizations.one, ("authz",)),
            ("challenge", 1): _Post(authorizations.challenge, ("challenge",)),
            ("cert", 1): _Post(certificates.one, ("order",)),
            ("cert", 2): _Post(certificates.one, ("order", "number")),
            ("star", 1): _Post(certificates.renewing, ("order",)),
        }
        self._gets: Mapping[tuple[str, int], _Get] = {
            ("directory", 0): _Get(self._directory),
            ("new-nonce", 0): _Get(self._new_nonce),
            ("limits", 0): _Get(self._limits),
            ("renewal-info", 1): _Get(self._renewal_info, ("certid",)),
            ("star", 1): _Get(self._star, ("order",)),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request."""
        body = await _body(scope, receive)
        if body is None:
            answer = self._too_long(scope["path"])
        else:
            asked = _Asked(
                scope["method"], scope["path"], scope["query_string"].decode("latin-1"),
                _content_type(scope), body,
            )  # fmt: skip
            answer = await self._on.db.run(functools.partial(self._respond, asked))
        await answer(scope, receive, send)

    def takes(self, request: Plain) -> bool:
        """As `Lane` says: every plain request whose body is not too long."""
        return len(request.body) <= MAX_BODY

    def serve(self, request: Plain, told: Told) -> None:
        """As `Lane` says."""
        asked = _Asked(
            "POST", request.path, "", request.headers.get(b"content-type", b"").decode("latin-1"),
            request.body,
        )  # fmt: skip

        def ended(answer: Answer | None, _: BaseException | None) -> None:
            answer = answer or document("serverInternal", "the server failed", 500, {})
            told(answer.status, answer.headers, answer.body)

        self._on.db.begin(functools.partial(self._respond, asked), ended)

    # From HTTP to a call, and back

    def _respond(self, asked: _Asked) -> Answer:
        method, path = asked.method, asked.path
        words = path.split("/") if len(path) <= _LONGEST_PATH else []
        if len(words) < 5 or words[1] != "acme":
            return _nowhere()
        _, _, maker, name, word, *rest = words
        key = (word, len(rest))
        reading = self._gets.get(key)
        posting = self._posts.get(key)
        is_read = reading is not None and (posting is None or method in reading.methods)
        route = reading if is_read else posting
        if route is None:
            return _nowhere()
        params = _params(route.params, rest)
        if params is None:
            return _nowhere()
        hit = _Hit(asked, maker, name, params, self._urls_of(maker, name))
        if isinstance(route, _Get):
            if method not in route.methods:
                return self._unfit(hit, "this is read by GET", route.methods)
            return self._guarded(hit, route.handler)
        if method != "POST":
            detail = "ACME resources are read by POST-as-GET (RFC 8555 6.3)"
            return self._unfit(hit, detail, ("POST",))
        return self._finished(hit, self._guarded(hit, functools.partial(self._signed, route)))

    def _too_long(self, path: str) -> Answer:
        answer = document("malformed", f"the body is longer than {MAX_BODY} bytes", 413, {})
        answer.add("Connection", "close")  # the rest of the body is not read
        words = path.split("/", 5)
        if len(words) < 5 or words[1] != "acme":
            return answer
        hit = _Hit(_Asked("POST", path, "", ""), "", "", {}, self._urls_of(words[2], words[3]))
        return self._finished(hit, answer)

    def _urls_of(self, maker: str, name: str) -> URLs:
        found = self._urls.get((maker, name))
        if found is None:
            found = URLs(f"{self._on.base_url}/acme/{maker}/{name}")
            if len(self._urls) < _MOST_DIRECTORIES:
                self._urls[maker, name] = found
        return found

    def _signed(self, route: _Post, hit: _Hit) -> Answer:
        on, asked = self._on, hit.asked
        url = on.base_url + asked.path
        query: Mapping[str, str] = {}
        if asked.query:
            url, query = f"{url}?{asked.query}", dict(parse_qsl(asked.query))
        arrival = Arrival(
            self._found(hit), hit.urls, url, asked.content_type, asked.body, hit.params, query
        )
        try:
            call = verified(arrival, on.db, on.nonces, on.clock(), by_key=route.by_key)
            try:
                return route.handler(call)
            finally:
                call.spending.settle()
        except BadNonce:
            raise bad_nonce() from None

    def _guarded(self, hit: _Hit, work: Callable[[_Hit], Answer]) -> Answer:
        """What `work` answers, or the problem document of what it raised."""
        try:
            return work(hit)
        except ACMEProblem as error:
            return document(error.kind, error.detail, error.status, error.extra)
        except orders.Rejected as rejection:
            return rejected(rejection.reasons)
        except CertmintError as error:
            return self._problem(hit, error)
        except Exception:
            log.exception("unexpected error at %s", hit.asked.path)
            return document("serverInternal", "the server failed; its log says why", 500, {})

    def _problem(self, hit: _Hit, error: CertmintError) -> Answer:
        if error.code == "terms-changed":  # RFC 8555 7.3.3
            terms = self._found(hit).terms
            answer = problem(error, {"instance": terms})
            link(answer, terms, "terms-of-service")
            return answer
        answer = problem(error)
        if answer.status == 429:
            link(answer, hit.urls("limits"), "help")
        return answer

    def _unfit(self, hit: _Hit, detail: str, methods: tuple[str, ...]) -> Answer:
        """405, and what is allowed instead (RFC 9110 15.5.6)."""
        answer = document("malformed", detail, 405, {})
        answer.add("Allow", ", ".join(methods))
        return self._finished(hit, answer)

    def _finished(self, hit: _Hit, answer: Answer) -> Answer:
        nonce = self._on.nonces.make(self._on.clock(), self._on.random_bytes)
        answer.headers += (
            (b"replay-nonce", nonce.encode()),
            (b"cache-control", b"no-store"),
            (b"link", hit.urls.index),
        )
        return answer

    def _found(self, hit: _Hit) -> Directory:
        return directory_named(self._on.db, hit.maker, hit.name)

    # Without a signature

    def _directory(self, hit: _Hit) -> Answer:
        return json_answer(views.directory(self._found(hit), hit.urls))

    def _new_nonce(self, hit: _Hit) -> Answer:
        return self._finished(hit, Answer(status=200 if hit.asked.method == "HEAD" else 204))

    def _limits(self, hit: _Hit) -> Answer:
        self._found(hit)
        return Answer(views.limits(self._on.limits).encode(), 200, "text/plain; charset=utf-8")

    def _renewal_info(self, hit: _Hit) -> Answer:
        certid = hit.params["certid"]
        answer = self._guarded(hit, lambda _: self._certificates.renewal_info(certid))
        link(answer, hit.urls("directory"), "index")
        return answer

    def _star(self, hit: _Hit) -> Answer:
        order_id = hit.params["order"]
        return self._certificates.renewing_for_all(self._found(hit), order_id, hit.urls)


def _nowhere() -> Answer:
    return document("malformed", "there is no such resource", 404, {})


def _params(wanted: tuple[str, ...], given: list[str]) -> Mapping[str, str] | None:
    """The words of a path by their names; `=word` is a word that has to be there."""
    found = {}
    for name, word in zip(wanted, given, strict=True):
        if name.startswith("="):
            if word != name[1:]:
                return None
        elif not word:
            return None
        else:
            found[name] = word
    return found


def _content_type(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"content-type":
            return str(value.decode("latin-1"))
    return ""


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """The body; None for one over MAX_BODY, whatever Content-Length says."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > MAX_BODY:
            return None
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body  # the client has gone: whatever is answered, nobody reads it
        body += bytes(message.get("body", b""))
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body", False):
            return body
