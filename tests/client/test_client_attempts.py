"""What the client does when a server does not answer as hoped: a scripted one, over TLS."""

import datetime as dt
import http.server
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.client import Client, Operator, Problem, Unexpected, Unreachable

TOKEN = "cmt_the-secret"
OWNER = b'{"id": "own_1", "username": "jo", "created_at": "2026-01-01T00:00:00Z", "new": [1]}'
JOB = (
    '{"id": "job_1", "kind": "verify-audit", "state": "%s", "done": 1, "total": 2, "outcome": {},'
    '"requested_by": "op_1", "created_at": "2026-01-01T00:00:00Z", "finished_at": null}'
)


@dataclass
class Script:
    """What the server answers, one after the other, and what it was asked."""

    answers: list[tuple[int, dict[str, str], bytes] | None] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def refuse(self, status: int, code: str, **headers: str) -> None:
        body = f'{{"code": "{code}", "detail": "no", "status": {status}}}'.encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((status, {"Content-Type": "application/problem+json"} | named, body))

    def keys(self) -> set[str]:
        return {headers["idempotency-key"] for _, _, headers, _ in self.asked}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([]), dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(encoding) + secret)
    return path


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def client(script: Script, certificate: Path) -> Iterator[Client]:
    """A client of a server that follows the script; None closes without an answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            if self.headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline() or b"0", 16):
                    body += self.rfile.read(size + 2)[:-2]
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            script.asked.append((self.command, self.path, headers, body))
            answer = script.answers.pop(0)
            if answer is None:
                self.close_connection = True
                return
            status, given, said = answer
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(said))} | given).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)
            self.close_connection = "Content-Length" in given

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - their names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=lambda: server.serve_forever(0.02))
    thread.start()
    base = f"https://localhost:{server.server_port}"
    with Client(base, TOKEN, certificate, timeout=5, sleep=script.pauses.append) as opened:
        yield opened
    server.shutdown()
    thread.join(5)
    server.server_close()


def test_one_key_for_all_attempts(client: Client, script: Script) -> None:
    """An owner is made once, whatever happens to the answers; the next one has another key."""
    script.refuse(503, "database-busy", Retry_After="7")
    script.answers += [None, (201, {}, OWNER)]

    made = client.create_owner("jo", "a good long password")

    assert made.username == "jo"
    assert len(script.asked) == 3
    assert len(script.keys()) == 1
    assert script.pauses[0] == 7
    assert 0.5 <= script.pauses[1] <= 1
    script.answers.append((201, {}, OWNER))
    client.create_owner("ann", "a good long password")
    assert len(script.keys()) == 2


def test_a_limit_is_waited_for_up_to_a_minute(client: Client, script: Script) -> None:
    """429 with a short Retry-After passes; one of an hour is told to the caller."""
    script.refuse(429, "rate-limit", Retry_After="60")
    script.answers.append((200, {}, OWNER))

    assert client.show_owner("own_1").id == "own_1"

    script.refuse(429, "rate-limit", Retry_After="3600")
    with pytest.raises(Problem) as refused:
        client.show_owner("own_1")
    assert (refused.value.code, refused.value.retry_after) == ("rate-limit", 3600)
    assert script.pauses == [60]


def test_a_change_that_may_have_been_made_is_not_made_again(client: Client, script: Script) -> None:
    """A PATCH whose answer is lost is told; one that was refused for now is sent again."""
    operator = Operator("op_1", "jo", "viewer", disabled=False, etag='"e"')
    script.answers.append(None)

    with pytest.raises(Unreachable):
        client.change_operator(operator, disabled=True)

    body = b'{"id": "op_1", "name": "jo", "role": "viewer", "disabled": true}'
    script.refuse(503, "database-busy")
    script.answers.append((200, {}, body))
    assert client.change_operator(operator, disabled=True).disabled
    assert [asked[0] for asked in script.asked] == ["PATCH"] * 3
    assert script.asked[0][2]["if-match"] == '"e"'


def test_a_generator_s_manifest_has_one_attempt(client: Client, script: Script) -> None:
    """What was taken from an iterator is gone; a list can be sent again."""
    batch = (
        b'{"id": "bat_1", "product_id": "p", "manifest_sha256": "", "devices": 2, '
        b'"state": "draft", "created_at": "2026-01-01T00:00:00Z"}'
    )
    devices = [{"serial": "A"}, {"serial": "B"}]
    script.refuse(503, "database-busy")
    with pytest.raises(Problem):
        client.submit_batch("router", iter(devices))
    script.answers.append(None)
    with pytest.raises(Unreachable):
        client.submit_batch("router", iter(devices))

    script.refuse(503, "database-busy")
    script.answers.append((201, {}, batch))
    assert client.submit_batch("router", devices).devices == 2
    assert [asked[3] for asked in script.asked] == [b'{"serial": "A"}\n{"serial": "B"}\n'] * 4


def test_what_was_cut_in_the_midst_spoils_nothing(client: Client, script: Script) -> None:
    """Where the caller's own devices end in an error, the next call has a connection of its own."""

    def devices() -> Iterator[dict[str, str]]:
        yield {"serial": "A"}
        raise LookupError("the line's database is gone")

    script.answers += [(200, {}, OWNER)] * 2
    with pytest.raises(LookupError):
        client.submit_batch("router", devices())

    assert client.show_owner("own_1").id == "own_1"


def test_a_stream_that_breaks_is_taken_up(client: Client, script: Script) -> None:
    """A job's events go on after a connection was lost; the job is told as it is then."""
    head = {"Content-Type": "text/event-stream", "Content-Length": "9999"}
    for state in ("queued", "running", "done"):
        data = f"event: {state}\ndata: {JOB % state}\n\n".encode()
        script.answers.append((200, head, data))

    assert [job.state for job in client.follow_job("job_1")] == ["queued", "running", "done"]


def test_packages_come_whole_or_not_at_all(client: Client, script: Script, tmp_path: Path) -> None:
    """A transfer that is cut leaves no file of that name; one that is there stays."""
    target = tmp_path / "packages.jsonl"
    script.answers.append((200, {"Content-Length": "100"}, b"half"))
    with pytest.raises(Unreachable):
        client.fetch_packages("bat_1", target)
    assert not target.exists()

    script.answers.append((200, {}, b"whole"))
    client.fetch_packages("bat_1", target)
    assert target.read_bytes() == b"whole"
    with pytest.raises(FileExistsError):
        client.fetch_packages("bat_1", target)


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind"),
    [
        (200, {}, b"<html>", Unexpected),
        (200, {}, b"[]", Unexpected),
        (200, {}, b'{"id": "own_1"}', Unexpected),
        (200, {}, OWNER.replace(b"2026-", b"yes"), Unexpected),
        (302, {"Location": "https://elsewhere.example/"}, b"", Problem),
        (502, {"Content-Type": "text/html"}, b"<html>", Problem),
        (400, {"Content-Type": "application/problem+json"}, b"[]", Problem),
    ],
)
def test_answers_of_others(
    client: Client, script: Script, status: int, headers: dict[str, str], body: bytes, kind: Any
) -> None:
    """What no certmint server says is an error of the client's own kind; nothing is followed."""
    script.answers.append((status, headers, body))

    with pytest.raises(kind) as failed:
        client.show_owner("own_1")

    assert TOKEN not in str(failed.value)
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    "base", ["http://localhost:1", "localhost:1", "https://h/api/v1", "https://a:b@h", ""]
)
def test_only_https(base: str) -> None:
    """A token is not sent in the clear, and a path is not taken for a server."""
    with pytest.raises(ValueError, match="https"):
        Client(base, TOKEN)


def test_a_token_with_a_line_break_is_no_token() -> None:
    """What was read from a file with its line's end would be another header field."""
    with pytest.raises(ValueError, match="token"):
        Client("https://localhost", TOKEN + "\n")


def test_nothing_but_the_standard_library() -> None:
    """Importing the client loads none of the server's rooms and no installed package."""
    probe = (
        "import sys; before = set(sys.modules); import certmint.client;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "rooms = {name for name in sys.modules if name.startswith('certmint.')"
        " and not name.startswith('certmint.client')};"
        "print(sorted(new - sys.stdlib_module_names), sorted(rooms))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "['certmint'] []"
