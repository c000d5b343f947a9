"""How the names of header fields leave: `Content-Type`, as every example of HTTP spells them.

They have no case (RFC 9110 5.1), and uvicorn writes them small. EST clients in the field compare
them letter by letter nevertheless: libest finds neither a type nor a length nor a challenge in an
answer of small letters, and gives up.
"""

import asyncio
import re
from functools import lru_cache
from typing import Any

_NAME = re.compile(rb"\r\n([a-z0-9-]+)(?=: )")
_OTHERWISE = {b"www-authenticate": b"WWW-Authenticate"}


class SpellingTransport:
    """A connection that spells out the names in the heads that are written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._write = transport.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it. uvicorn writes a head in one piece, and nothing else with it."""
        if data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n"):
            data = _NAME.sub(_spelled, data)
        self._write(data)


@lru_cache(maxsize=256)
def spelled(name: bytes) -> bytes:
    """A name in small letters as every example of HTTP has it."""
    return _OTHERWISE.get(name) or name.title()


def _spelled(found: re.Match[bytes]) -> bytes:
    return b"\r\n" + spelled(found[1])
