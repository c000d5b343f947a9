"""Reading DER: one level at a time, definite lengths only.

It does not judge what it reads. Whatever is malformed raises ValueError or IndexError.
"""


def require(condition: bool) -> None:
    """Raise ValueError unless `condition` holds."""
    if not condition:
        raise ValueError("not what we read")


def content(tlv: bytes) -> bytes:
    """What the first TLV in `tlv` holds."""
    start, end = _read(tlv, 0)
    return tlv[start:end]


def children(tlv: bytes) -> list[bytes]:
    """The TLVs inside the first one in `tlv`, each with its tag and length."""
    position, end = _read(tlv, 0)
    found = []
    while position < end:
        _, stop = _read(tlv, position)
        found.append(tlv[position:stop])
        position = stop
    return found


def _read(data: bytes, offset: int) -> tuple[int, int]:
    """Where the content of the TLV at `offset` starts and ends."""
    size, start = data[offset + 1], offset + 2
    if size & 0x80:
        width = size & 0x7F
        require(1 <= width <= 4)
        size = int.from_bytes(data[start : start + width], "big")
        start += width
    require(start + size <= len(data))
    return start, start + size
