"""Talking to the server: whom the agent believes, what it reads, and how long it waits."""

import dataclasses
import datetime as dt
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certmint_agent import server
from certmint_agent.errors import Misconfigured, Refused, Unacceptable, Unreachable
from certmint_agent.schedule import Window
from certmint_agent.transport import LONGEST_BODY, Transport

PATH = "/api/v1/device"


@pytest.fixture
def transport(world) -> Transport:
    """The device's way to the server."""
    identity = (world.folder / "idevid.pem", world.folder / "idevid.key")
    return Transport(world.url, world.folder / "ca.pem", identity, 5)


def answering(status: int, content, headers=()):
    def fault(handler) -> bool:
        handler.answer(status, content, headers)
        return True

    return fault


def test_the_device_learns_who_it_is(world, transport: Transport) -> None:
    """With its identity certificate the device gets its names and the window of its certificate."""
    assert server.device(transport).names == world.names
    world.newest = {
        "serial": "00ff",
        "renewal": {"start": "2027-01-01T00:00:00Z", "end": "2027-01-02T00:00:00+00:00"},
    }
    known = server.device(transport)
    assert known.serial == 255
    first = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    assert known.window == Window(first, first + dt.timedelta(days=1))


def test_a_window_without_sense_is_none(world, transport: Transport) -> None:
    """A server's slip in the window does not keep the device from its certificate."""
    for renewal in (None, 7, {"start": "x", "end": "y"}, {"start": "2027-01-02T00:00:00"}):
        world.newest = {"serial": "1", "renewal": renewal}
        assert server.device(transport).window is None


def test_another_servers_certificate_is_not_believed(world, transport: Transport, tmp_path) -> None:
    """Only ca_file vouches for the server, and the name must be the server's."""
    (tmp_path / "other.pem").write_bytes((world.folder / "idevid.pem").read_bytes())
    with pytest.raises(Unreachable, match="ca_file"):
        dataclasses.replace(transport, ca_file=tmp_path / "other.pem").get(PATH)
    by_address = world.url.replace("localhost", "127.0.0.1")
    with pytest.raises(Unreachable, match="ca_file"):
        dataclasses.replace(transport, server=by_address).get(PATH)


def test_busy_with_retry_after(world, transport: Transport) -> None:
    """503, 429 and 202 mean later; Retry-After is understood as seconds and as a date."""
    later = world.now() + dt.timedelta(minutes=10)
    as_date = later.strftime("%a, %d %b %Y %H:%M:%S GMT")
    for status, value, seconds in (
        (503, "120", 120),
        (429, as_date, 600),
        (503, "soon", None),
        (202, "60", 60),
    ):
        problem = {"code": "busy", "detail": "come back later"}
        world.faults.append(answering(status, problem, [("Retry-After", value)]))
        with pytest.raises(Unreachable, match="come back later") as refusal:
            transport.get(PATH)
        after = refusal.value.retry_after
        assert after == pytest.approx(seconds, abs=3) if seconds else after is None


def test_a_problem_document_is_one_sentence(world, transport: Transport) -> None:
    """The server's code and detail reach the person; the status alone if there is nothing else."""
    world.faults.append(answering(403, {"code": "device-retired", "detail": "it is retired"}))
    with pytest.raises(Refused, match=r"403 device-retired: it is retired"):
        transport.get(PATH)
    world.faults.append(answering(404, b"<html>nothing here</html>"))
    with pytest.raises(Refused, match=r"refuses \(404\)"):
        transport.get(PATH)


def test_no_redirect_is_followed(world, transport: Transport) -> None:
    """A redirect is a refusal: the address is in the configuration, and nowhere else."""
    world.faults.append(answering(307, {}, [("Location", world.url + PATH)]))
    with pytest.raises(Refused, match="redirects"):
        transport.get(PATH)
    assert not world.faults


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"[1]", Unacceptable),
        (b"{", Unacceptable),
        (b"[" * 200_000, Unacceptable),
        (b" " * (LONGEST_BODY + 1), Unreachable),
    ],
)
def test_what_is_no_object_of_a_bearable_size(world, transport, content, error) -> None:
    """Neither nonsense nor an endless body brings the agent down."""
    world.faults.append(answering(200, content))
    with pytest.raises(error):
        transport.get(PATH)


@pytest.mark.parametrize(
    "content",
    [{}, {"serial_number": 7, "names": []}, {"serial_number": "x", "names": [1]}],
)
def test_a_field_of_the_wrong_type_is_named(world, transport: Transport, content) -> None:
    """An answer outside the contract is refused as a whole."""
    world.faults.append(answering(200, content))
    with pytest.raises(Unacceptable, match="answer"):
        server.device(transport)


def test_a_hanging_server_costs_its_timeout_only(world, transport: Transport) -> None:
    """A server that accepts and says nothing is left after the timeout."""
    world.faults.append(lambda _: time.sleep(1.5) or True)
    started = time.monotonic()
    with pytest.raises(Unreachable, match="no answer in time"):
        dataclasses.replace(transport, timeout_s=0.4).get(PATH)
    assert time.monotonic() - started < 1.2


def test_a_dripping_server_costs_little_more(world, transport: Transport) -> None:
    """A byte now and then does not keep the agent beyond its deadline."""

    def drip(handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(30):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.1)
        return True

    world.faults.append(drip)
    started = time.monotonic()
    with pytest.raises(Unreachable, match="no answer in time"):
        dataclasses.replace(transport, timeout_s=0.5).get(PATH)
    assert time.monotonic() - started < 1.5


def test_an_answer_that_breaks_off_is_not_used(world, transport: Transport) -> None:
    """Half a body is no body, even if it happens to be JSON."""

    def cut(handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"{}")
        handler.close_connection = True
        return True

    world.faults.append(cut)
    with pytest.raises(Unreachable):
        transport.get(PATH)


def test_nobody_is_there(world, transport: Transport) -> None:
    """A server that is down is one sentence with its address."""
    world.stop()
    with pytest.raises(Unreachable, match="localhost"):
        transport.get(PATH)
    world.server = None


def test_an_encrypted_identity_key_does_not_ask_for_a_passphrase(
    world, device, transport: Transport, tmp_path: Path
) -> None:
    """No prompt ever blocks a device that nobody watches."""
    plain = (world.folder / "idevid.key").read_bytes()
    key = serialization.load_pem_private_key(plain, None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    identity = (world.folder / "idevid.pem", locked)
    with pytest.raises(Misconfigured, match=r"locked\.key"):
        dataclasses.replace(transport, identity=identity).get(PATH)
    # On a terminal, too, where OpenSSL would ask and wait.
    on_terminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    words = ("-m", "certmint_agent", "renew", "--config", device.toml(identity_key=str(locked)))
    done = subprocess.run(
        [sys.executable, "-c", on_terminal, sys.executable, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2


def test_tls_below_1_2_is_not_spoken(transport: Transport) -> None:
    """The floor is in the context, whatever the system's default is."""
    assert transport._context().minimum_version == ssl.TLSVersion.TLSv1_2
    assert transport._context().check_hostname


def test_secrets_are_not_in_a_repr(transport: Transport) -> None:
    """The owner's password cannot slip into a log by way of a repr."""
    assert "c2VjcmV0" not in repr(dataclasses.replace(transport, authorization="Basic c2VjcmV0"))


class TestLostClock:
    """A device in 1970: the server's certificate is judged by the time that the server states."""

    @pytest.fixture
    def later(self, world):
        """A server whose certificate is good in 2040 only, and which lives then."""
        world.stop()
        start = dt.datetime(2040, 1, 1, tzinfo=dt.UTC)
        world.start(start=start, end=start + dt.timedelta(days=30))
        world.now = lambda: start + dt.timedelta(days=3)
        return world

    def transport(self, world, clock_is_right: bool) -> Transport:
        return Transport(world.url, world.folder / "ca.pem", None, 5, clock_is_right)

    def test_it_reaches_the_server_and_learns_the_time(self, later) -> None:
        """Dates are judged by the server's word, and the server's word is passed on."""
        assert server.time_of(self.transport(later, clock_is_right=False)) == later.now()

    def test_a_right_clock_is_not_overruled(self, later) -> None:
        """With a clock that can be right, OpenSSL judges the dates."""
        with pytest.raises(Unreachable, match="not yet valid"):
            server.time_of(self.transport(later, clock_is_right=True))

    @pytest.mark.parametrize("year", [2000, 2039, 2041])
    def test_the_servers_word_must_fit_its_certificate(self, later, year: int) -> None:
        """Neither the past nor a time outside the certificate is believed."""
        later.now = lambda: dt.datetime(year, 6, 1, tzinfo=dt.UTC)
        with pytest.raises(Unreachable):
            server.time_of(self.transport(later, clock_is_right=False))

    def test_no_time_before_this_program_was_built_is_believed(self, world) -> None:
        """An old recording of a server with its expired certificate leads nowhere."""
        world.stop()
        start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        world.start(start=start, end=start + dt.timedelta(days=300))
        world.now = lambda: start + dt.timedelta(days=3)
        with pytest.raises(Unreachable, match="no usable time"):
            server.time_of(self.transport(world, clock_is_right=False))

    def test_another_ca_is_not_believed_even_then(self, later, tmp_path: Path) -> None:
        """Signatures and the host name are verified whatever the clock shows."""
        (tmp_path / "other.pem").write_bytes((later.folder / "idevid.pem").read_bytes())
        assert x509.load_pem_x509_certificate((tmp_path / "other.pem").read_bytes())
        lost = self.transport(later, clock_is_right=False)
        with pytest.raises(Unreachable, match="ca_file"):
            server.time_of(dataclasses.replace(lost, ca_file=tmp_path / "other.pem"))
        by_address = later.url.replace("localhost", "127.0.0.1")
        with pytest.raises(Unreachable, match="ca_file"):
            server.time_of(dataclasses.replace(lost, server=by_address))
