"""Certificate serial numbers: 48 bits of time, then 112 random bits (ADR 0008).

Twenty octets, positive, never all zero, ≥ 64 random bits (BR 7.1), unique per authority by the
registry's index. The leading time keeps that index in insertion order, and makes a serial the
natural key to page by. As text: 40 lower-case hex digits.
"""

import datetime as dt
from collections.abc import Callable
from typing import NewType

from certmint.model.errors import BadInput

Serial = NewType("Serial", str)
RandomBytes = Callable[[int], bytes]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def new_serial(now: dt.datetime, random_bytes: RandomBytes) -> Serial:
    """A fresh serial number. `random_bytes` must be a CSPRNG such as `os.urandom`."""
    milliseconds = int((now - _EPOCH) / dt.timedelta(milliseconds=1))
    if not 0 < milliseconds < 1 << 47:
        raise BadInput("clock", f"the clock says {now.isoformat()}, which no certificate can carry")
    return Serial((milliseconds.to_bytes(6, "big") + random_bytes(14)).hex())


def first_serial(at: dt.datetime) -> Serial:
    """What sorts before every serial that was given out from then on (ADR 8)."""
    return new_serial(at, bytes)


def parse_serial(text: str) -> Serial:
    """A serial as people write it (hex, any case, with or without colons and leading zeros).

    Raises BadInput `serial-syntax`.
    """
    digits = text.replace(":", "").lower()
    if not digits or len(digits) > 40 or any(c not in "0123456789abcdef" for c in digits):
        raise BadInput("serial-syntax", f"{text!r} is not a serial number of at most 40 hex digits")
    return Serial(digits.rjust(40, "0"))


def serial_number(serial: Serial) -> int:
    """The integer that the certificate carries."""
    return int(serial, 16)


def serial_of(number: int) -> Serial:
    """The registry's text of a certificate's serial number."""
    return Serial(f"{number:040x}")
