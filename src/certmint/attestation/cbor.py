"""Reading CBOR (RFC 8949), strictly, and bounded in size and depth.

Attestation objects come from strangers, and a general decoder interprets tags (dates, big
fractions, regular expressions, shared references). This one has none of that: a tag is a value
beside another value. Indefinite lengths, duplicate keys, trailing octets and reserved encodings
are refused. It does not write CBOR.
"""

import struct
from dataclasses import dataclass

from certmint.model.errors import BadInput

LARGEST = 65_536
DEEPEST = 16

_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_SIMPLE: dict[int, object] = {20: False, 21: True, 22: None, 23: None}


@dataclass(frozen=True, slots=True)
class Tagged:
    """A tag and its content, which nobody has interpreted."""

    number: int
    content: object


def decode(data: bytes) -> object:
    """The one data item that `data` is: int, bytes, str, list, dict, bool, None, float, Tagged.

    Raises BadInput `attestation-syntax`.
    """
    if len(data) > LARGEST:
        raise _malformed(f"it is longer than {LARGEST} octets")
    value, end = _item(data, 0, 0)
    if end != len(data):
        raise _malformed(f"{len(data) - end} octets follow it")
    return value


def _item(data: bytes, start: int, depth: int) -> tuple[object, int]:
    if depth > DEEPEST:
        raise _malformed(f"it is nested deeper than {DEEPEST}")
    major, minor = _octets(data, start, 1)[0] >> 5, data[start] & 0x1F
    if major == 7:
        return _simple(data, start + 1, minor)
    argument, position = _argument(data, start + 1, minor)
    if major == 0:
        return argument, position
    if major == 1:
        return -1 - argument, position
    if major == 2:
        return _octets(data, position, argument), position + argument
    if major == 3:
        return _text(_octets(data, position, argument)), position + argument
    if major == 4:
        return _array(data, position, argument, depth)
    if major == 5:
        return _map(data, position, argument, depth)
    content, end = _item(data, position, depth + 1)
    return Tagged(argument, content), end


def _argument(data: bytes, position: int, minor: int) -> tuple[int, int]:
    if minor < 24:
        return minor, position
    if minor > 27:
        raise _malformed("it has an indefinite or reserved length")
    width = 1 << minor - 24
    return int.from_bytes(_octets(data, position, width), "big"), position + width


def _simple(data: bytes, position: int, minor: int) -> tuple[object, int]:
    if minor in _SIMPLE:
        return _SIMPLE[minor], position
    if minor in _FLOATS:
        width = 1 << minor - 24
        (number,) = struct.unpack(_FLOATS[minor], _octets(data, position, width))
        return float(number), position + width
    raise _malformed(f"it has the simple value {minor}, which nobody has defined")


def _array(data: bytes, position: int, count: int, depth: int) -> tuple[list[object], int]:
    items = []
    for _ in range(count):  # ends where the data ends, whatever the count promises
        item, position = _item(data, position, depth + 1)
        items.append(item)
    return items, position


def _map(
    data: bytes, position: int, count: int, depth: int
) -> tuple[dict[int | str | bytes, object], int]:
    members: dict[int | str | bytes, object] = {}
    for _ in range(count):
        key, position = _item(data, position, depth + 1)
        if not isinstance(key, int | str | bytes) or isinstance(key, bool):
            raise _malformed("it has a map key that is neither a number nor a string")
        if key in members:
            raise _malformed("it has a map with the same key twice")
        members[key], position = _item(data, position, depth + 1)
    return members, position


def _octets(data: bytes, position: int, size: int) -> bytes:
    if size > len(data) - position:
        raise _malformed("it is truncated")
    return data[position : position + size]


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise _malformed("it has a text string that is not UTF-8") from None


def _malformed(why: str) -> BadInput:
    return BadInput("attestation-syntax", f"the attestation is not CBOR that is read here: {why}")
