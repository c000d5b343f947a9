"""Manifests: what a factory sends, and what it sends by mistake."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmint.model.errors import BadInput
from certmint.model.manifest import parse_manifest


def parse(*lines: str) -> list[tuple[int, str, str, str]]:
    parsed = parse_manifest("\n".join(lines).encode())
    return [(each.line, each.serial_number, each.mac, each.label) for each in parsed.lines]


def test_a_manifest() -> None:
    """Columns in any order and case, MACs in any notation, labels made from serial numbers."""
    assert parse("MAC, Serial ,label", "02-00-00-00-00-0A,SN.1,", "", ",sn/2,kitchen", " , , ") == [
        (2, "SN.1", "02:00:00:00:00:0a", "sn-1"),
        (4, "sn/2", "", "kitchen"),
    ]


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"", "manifest-syntax", "no device"),
        (b"serial\n", "manifest-syntax", "no device"),
        (b"serial\n\xff\n", "manifest-syntax", "UTF-8"),
        (b"\xff\xfes\0e\0", "manifest-syntax", "UTF-8"),
        (b"mac\n02:00:00:00:00:01\n", "manifest-syntax", "header"),
        (b"serial,serial\na,b\n", "manifest-syntax", "header"),
        (b"serial,color\na,b\n", "manifest-syntax", "header"),
        (b"A1\nA2\n", "manifest-syntax", "header"),
        (b"serial,mac\nA1\n", "manifest-syntax", "line 2 has 1 fields"),
        (b"serial\nA1,02:00:00:00:00:01\n", "manifest-syntax", "line 2 has 2 fields"),
        (b"serial,mac\n,02:00:00:00:00:01\n", "manifest-syntax", "line 2: serial ''"),
        (b"serial\n-A1\n", "manifest-syntax", "line 2: serial"),
        (b"serial\n=1+1\n", "manifest-syntax", "line 2: serial"),
        (b"serial\n../../etc\n", "manifest-syntax", "line 2: serial"),
        (b"serial\nA 1\n", "manifest-syntax", "line 2: serial"),
        (b"serial\nA<script>\n", "manifest-syntax", "line 2: serial"),
        (b"serial\n" + b"A" * 65 + b"\n", "manifest-syntax", "line 2: serial"),
        (b"serial\n\xc3\xa9\n", "manifest-syntax", "line 2: serial"),
        (b"serial,mac\nA1,02:00:00:00:00\n", "manifest-syntax", "line 2: '02:00:00:00:00' is not"),
        (b"serial,mac\nA1,gg:00:00:00:00:01\n", "manifest-syntax", "MAC"),
        (b"serial,label\nA1,two words\n", "manifest-syntax", "label"),
        (b"serial,label\nA1,-a\n", "manifest-syntax", "label"),
        (b"serial,label\nA1,a.b\n", "manifest-syntax", "label"),
        (b"serial,label\nA1," + b"a" * 64 + b"\n", "manifest-syntax", "label"),
        (b"serial\n" + b"A" * 64 + b"\n", "manifest-syntax", "label"),
        (b'serial\nA1\n"A2\n', "manifest-syntax", "line 3"),
        (b'serial\n"A"1\n', "manifest-syntax", "line 2"),
        (b"serial\nA1\nA2\nA1\n", "manifest-duplicate", "line 4: serial number 'A1'"),
        (b"serial\nA1\na1\n", "manifest-duplicate", "line 3: label 'a1'"),
        (b"serial\nA.1\nA-1\n", "manifest-duplicate", "line 3: label 'a-1'"),
        (b"serial,mac\nA1,02:00:00:00:00:01\nA2,02-00-00-00-00-01\n", "manifest-duplicate", "mac"),
    ],
)
def test_mistakes(data: bytes, code: str, says: str) -> None:
    """One bad line refuses the whole file and is named."""
    with pytest.raises(BadInput) as refusal:
        parse_manifest(data)
    assert refusal.value.code == code
    assert says in refusal.value.detail


def test_the_hash_is_of_the_file() -> None:
    """So that the same file is the same batch, and a changed one is another."""
    for data in (b"serial\nA1\n", b"serial\r\nA1\r\n", b"\xef\xbb\xbfserial\nA1\n"):
        parsed = parse_manifest(data)
        assert parsed.hash == hashlib.sha256(data).hexdigest()
        assert [each.serial_number for each in parsed.lines] == ["A1"]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes(data: bytes) -> None:
    """Whatever a file holds, it is a manifest or BadInput; never a traceback."""
    for content in (data, b"serial,mac,label\n" + data):
        try:
            parsed = parse_manifest(content)
        except BadInput as refusal:
            assert refusal.code.startswith("manifest-")  # noqa: PT017 - both ways are fine
            continue
        assert len({each.label for each in parsed.lines}) == len(parsed.lines) > 0
