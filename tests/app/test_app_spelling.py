"""The names of header fields as they leave over TLS."""

import asyncio
from typing import Any

from certmint.app.spelling import SpellingTransport


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written: list[Any] = []

    def write(self, data: Any) -> None:
        self.written.append(data)


def sent(data: bytes) -> Any:
    """What goes out for one write."""
    wire = Wire()
    SpellingTransport(wire).write(data)
    return wire.written.pop()


def test_the_names_of_a_head_are_spelled_out() -> None:
    """libest compares them letter by letter; the values stay as they are."""
    head = (
        b"HTTP/1.1 401 Unauthorized\r\ndate: now\r\ncontent-type: text/plain; charset=utf-8\r\n"
        b'www-authenticate: Basic realm="a-b: c"\r\ncontent-length: 3\r\nretry-after: 30\r\n\r\n'
    )

    assert sent(head) == (
        b"HTTP/1.1 401 Unauthorized\r\nDate: now\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b'WWW-Authenticate: Basic realm="a-b: c"\r\nContent-Length: 3\r\nRetry-After: 30\r\n\r\n'
    )


def test_everything_else_passes_as_it_is() -> None:
    """Bodies, pieces of bodies, and the interim answer to Expect."""
    for data in (
        b"content-type: x\r\n\r\n", b"HTTP/1.1 is spoken\r\ncontent-type: x", b"",
        b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\ncontent-type: x\r\n",
    ):  # fmt: skip
        assert sent(data) == data


def test_the_rest_is_the_connections() -> None:
    """What else a protocol asks of its transport."""
    assert SpellingTransport(Wire()).get_extra_info("peername") == ("127.0.0.1", 1)
