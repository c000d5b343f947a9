"""Reading Android's KeyDescription, the certificate extension 1.3.6.1.4.1.11129.2.1.17.

Its schema has grown (attestation versions 1 to 400), always by new context tags in its two
AuthorizationLists; tags that are not known here are passed over. What `teeEnforced` (later called
hardwareEnforced) says, the secure hardware enforces. What `softwareEnforced` says, Android says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from certmint.model import der
from certmint.model.errors import BadInput

OLDEST, NEWEST = 3, 400

_ENUMERATED = 0x0A


class Tag(IntEnum):
    """Context tags of an AuthorizationList that certmint reads."""

    PURPOSE = 1
    ORIGIN = 702
    ROOT_OF_TRUST = 704
    OS_VERSION = 705
    OS_PATCH_LEVEL = 706
    ID_BRAND = 710
    ID_DEVICE = 711
    ID_PRODUCT = 712
    ID_SERIAL = 713
    ID_IMEI = 714
    ID_MEID = 715
    ID_MANUFACTURER = 716
    ID_MODEL = 717


@dataclass(frozen=True, slots=True)
class KeyDescription:
    """The extension; `tee_enforced` maps a context tag to the TLV inside it."""

    version: int
    security_level: int
    keymint_security_level: int
    challenge: bytes
    tee_enforced: Mapping[int, bytes]

    def number(self, tag: Tag) -> int | None:
        """A number that the hardware enforces, or None."""
        found = self.tee_enforced.get(tag)
        return None if found is None else _number(found, der.INTEGER)

    def numbers(self, tag: Tag) -> frozenset[int]:
        """A set of numbers that the hardware enforces."""
        found = self.tee_enforced.get(tag)
        if found is None:
            return frozenset()
        return frozenset(_number(item, der.INTEGER) for item in _members(found, der.SET))

    def octets(self, tag: Tag) -> bytes | None:
        """A string that the hardware enforces, or None."""
        found = self.tee_enforced.get(tag)
        return None if found is None else _content(found, der.OCTET_STRING)

    def root_of_trust(self) -> tuple[bool, int] | None:
        """Whether the boot loader is locked, and the VerifiedBootState; None if it is absent."""
        found = self.tee_enforced.get(Tag.ROOT_OF_TRUST)
        if found is None:
            return None
        _, locked, state, *_ = _fields(found, 3)
        return _content(locked, der.BOOLEAN) != b"\x00", _number(state, _ENUMERATED)


def key_description(extension: bytes) -> KeyDescription:
    """Read the extension's value. Raises BadInput `attestation-syntax`."""
    version, level, _, keymint, challenge, _, _, tee, *_ = _fields(extension, 8)
    return KeyDescription(
        _number(version, der.INTEGER),
        _number(level, _ENUMERATED),
        _number(keymint, _ENUMERATED),
        _content(challenge, der.OCTET_STRING),
        _authorizations(tee),
    )


def _fields(data: bytes, least: int) -> list[bytes]:
    found = _members(data, der.SEQUENCE)
    if len(found) < least:
        raise _malformed()
    return found


def _members(data: bytes, tag: int) -> list[bytes]:
    try:
        actual, _, end = der.read(data)
        if actual != tag or end != len(data):
            raise _malformed()
        return der.children(data)
    except ValueError:
        raise _malformed() from None


def _content(data: bytes, tag: int) -> bytes:
    try:
        actual, start, end = der.read(data)
    except ValueError:
        raise _malformed() from None
    if actual != tag or end != len(data):
        raise _malformed()
    return data[start:end]


def _number(data: bytes, tag: int) -> int:
    octets = _content(data, tag)
    if not 0 < len(octets) <= 9:
        raise _malformed()
    return int.from_bytes(octets, "big", signed=True)


def _authorizations(data: bytes) -> Mapping[int, bytes]:
    """The fields of an AuthorizationList. Their tags have several octets, unlike all else here."""
    octets, position = _content(data, der.SEQUENCE), 0
    found: dict[int, bytes] = {}
    while position < len(octets):
        number, size = _context_tag(octets[position : position + 4])
        # The tag is replaced by one of a single octet, so that `der` reads length and content.
        field = bytes((der.SEQUENCE,)) + octets[position + size :]
        try:
            _, start, end = der.read(field)
        except ValueError:
            raise _malformed() from None
        if number in found:
            raise _malformed()
        found[number] = field[start:end]
        position += size + end - 1
    return found


def _context_tag(data: bytes) -> tuple[int, int]:
    """The number of the explicit context tag in front, and the octets it takes (X.690, 8.1.2)."""
    first = data[0]
    if first & 0xE0 != 0xA0:
        raise _malformed()
    if first & 0x1F != 0x1F:
        return first & 0x1F, 1
    number = 0
    for size, octet in enumerate(data[1:], start=2):
        number = number << 7 | octet & 0x7F
        if not octet & 0x80:
            return number, size
    raise _malformed()


def _malformed() -> BadInput:
    return BadInput("attestation-syntax", "Android's KeyDescription cannot be read as DER")
