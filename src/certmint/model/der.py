"""Writing DER (X.690), as little of it as certmint needs.

Reading is left to pyca/cryptography; `read` exists for cutting a value that pyca has already
accepted. Every function takes and returns complete TLVs unless it says `content`.
"""

from functools import lru_cache

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = b"\x05\x00"
UTF8_STRING = 0x0C
PRINTABLE_STRING = 0x13
IA5_STRING = 0x16
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31
TRUE = b"\x01\x01\xff"


def length(size: int) -> bytes:
    """The length octets of a definite-form TLV (X.690, 8.1.3 and 10.1)."""
    if size < 0x80:
        return bytes((size,))
    body = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(body),)) + body


def tlv(tag: int, content: bytes) -> bytes:
    """One TLV with a single-octet tag."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    return bytes((tag,)) + length(size) + content


def sequence(*items: bytes) -> bytes:
    """SEQUENCE of complete TLVs."""
    return tlv(SEQUENCE, b"".join(items))


def set_of(*items: bytes) -> bytes:
    """SET OF: the members sorted by their encoding (X.690, 11.6)."""
    return tlv(SET, b"".join(sorted(items)))


def integer(value: int) -> bytes:
    """INTEGER in the fewest octets that keep its sign."""
    size = value.bit_length() // 8 + 1 if value >= 0 else (value + 1).bit_length() // 8 + 1
    return tlv(INTEGER, value.to_bytes(size, "big", signed=True))


def octet_string(content: bytes) -> bytes:
    """OCTET STRING."""
    return tlv(OCTET_STRING, content)


def bit_string(content: bytes, unused: int = 0) -> bytes:
    """BIT STRING with `unused` padding bits in its last octet."""
    return tlv(BIT_STRING, bytes((unused,)) + content)


def explicit(number: int, content: bytes) -> bytes:
    """A constructed context tag around complete TLVs."""
    return tlv(0xA0 | number, content)


@lru_cache(maxsize=512)
def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER from its dotted form."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    body = bytearray()
    for arc in (first * 40 + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        body += bytes(reversed(groups))
    return tlv(0x06, bytes(body))


def read(data: bytes, offset: int = 0) -> tuple[int, int, int]:
    """The tag, and where the content of the TLV at `offset` starts and ends.

    Raises ValueError on a truncated, indefinite or multi-octet-tag encoding.
    """
    try:
        tag, first = data[offset], data[offset + 1]
    except IndexError:
        raise ValueError("truncated DER") from None
    start = offset + 2
    if tag & 0x1F == 0x1F or first == 0x80:
        raise ValueError("not the DER that certmint reads")
    size = first
    if first & 0x80:
        width = first & 0x7F
        size = int.from_bytes(data[start : start + width], "big")
        start += width
    if start + size > len(data):
        raise ValueError("truncated DER")
    return tag, start, start + size


def children(data: bytes) -> list[bytes]:
    """The complete TLVs inside the constructed TLV `data`."""
    _, position, end = read(data)
    found = []
    while position < end:
        _, _, stop = read(data, position)
        found.append(data[position:stop])
        position = stop
    return found


def content(data: bytes) -> bytes:
    """The content octets of the TLV `data`."""
    _, start, end = read(data)
    return data[start:end]
