"""The CBOR reader: it agrees with a foreign one, and refuses what could hurt."""

import math

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certmint.attestation import cbor
from certmint.model.errors import BadInput

from .makers import refusal

ITEMS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40)
    | st.text(max_size=40) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=5)
    | st.dictionaries(st.text(max_size=8) | st.integers(-99, 99), inner, max_size=5),
    max_leaves=15,
)  # fmt: skip


def decode(data: bytes) -> object:
    """What is read, or the refusal's code in a tuple."""
    try:
        return cbor.decode(data)
    except BadInput as refused:
        return (refusal(refused),)


@given(ITEMS)
def test_it_reads_what_others_write(item: object) -> None:
    """cbor2 wrote it; the value is the same."""
    assert cbor.decode(cbor2.dumps(item)) == item


@settings(deadline=None)
@given(ITEMS)
def test_it_refuses_every_part_of_it(item: object) -> None:
    """A prefix of one item is none, and nothing may follow one."""
    data = cbor2.dumps(item)
    for size in range(len(data)):
        assert isinstance(decode(data[:size]), tuple)
    assert isinstance(decode(data + b"\x00"), tuple)


@given(st.binary(max_size=200))
def test_noise(data: bytes) -> None:
    """Noise is a value or a refusal. Where it is a value, cbor2 reads it as well."""
    if not isinstance(decode(data), tuple) and not any(octet >> 5 == 6 for octet in data):
        cbor2.loads(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("a2616101616102", "the same key twice"),
        ("a1816101f6", "map key"),
        ("a1f501", "map key"),
        ("5f4101ff", "indefinite"),
        ("9fff", "indefinite"),
        ("bfff", "indefinite"),
        ("1c", "reserved"),
        ("61ff", "UTF-8"),
        ("e0", "simple value"),
        ("f8ff", "simple value"),
        ("ff", "simple value"),
        ("9bffffffffffffffff", "truncated"),
        ("bbffffffffffffffff", "truncated"),
        ("5bffffffffffffffff", "truncated"),
        ("81" * 40 + "00", "deeper"),
        ("c1" * 40 + "00", "deeper"),
        ("", "truncated"),
        ("0000", "follow"),
    ],
)
def test_what_is_refused(data: str, why: str) -> None:
    """Bombs, ambiguities and reserved encodings."""
    with pytest.raises(BadInput, match=why):
        cbor.decode(bytes.fromhex(data))


def test_a_long_object_is_not_even_looked_at() -> None:
    """64 kB is enough for six certificates."""
    assert cbor.decode(cbor2.dumps(b"x" * (cbor.LARGEST - 3)))
    with pytest.raises(BadInput, match="longer"):
        cbor.decode(cbor2.dumps(b"x" * cbor.LARGEST))


def test_a_tag_means_nothing() -> None:
    """A regular expression, a date or a huge fraction stays the bare value that it tags."""
    assert cbor.decode(bytes.fromhex("d823626128")) == cbor.Tagged(35, "a(")


def test_floats_of_every_width() -> None:
    """They are read, as members that nobody asks for may hold some."""
    assert cbor.decode(bytes.fromhex("f93c00")) == 1.0
    assert cbor.decode(bytes.fromhex("fa47c35000")) == 100000.0
    assert math.isnan(cbor.decode(bytes.fromhex("f97e00")))  # type: ignore[arg-type]
