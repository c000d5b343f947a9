"""The forwarder that tears connections passes the others on whole."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from certmint_fleet.faults import NotOnThisMachine, cutting

ANSWER = b"x" * 50_000


@contextmanager
def answering() -> Iterator[str]:
    """A server that answers each connection's first octets with ANSWER; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(100)
                client.sendall(ANSWER)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def ask(url: str) -> bytes:
    """Everything that comes back before the connection ends."""
    host, _, port = url.removeprefix("https://").partition(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(b"hello")
        while True:
            try:
                chunk = client.recv(65_536)
            except ConnectionResetError:
                return received
            if not chunk:
                return received
            received += chunk


def test_what_is_not_torn_comes_whole() -> None:
    """Every octet, in order, and then the end."""
    with answering() as server, cutting(server, 0.0) as url:
        assert url != server
        assert [ask(url) for _ in range(5)] == [ANSWER] * 5


def test_what_is_torn_comes_in_part() -> None:
    """A beginning of the answer, at random places."""
    with answering() as server, cutting(server, 0.999_999) as url:
        torn = [ask(url) for _ in range(10)]
    assert all(len(each) < 8_000 and ANSWER.startswith(each) for each in torn)
    assert len({len(each) for each in torn}) > 1


def test_a_server_elsewhere_is_left_alone() -> None:
    """There its name would have to be lied about."""
    with pytest.raises(NotOnThisMachine), cutting("https://192.0.2.1", 0.5):
        pass
