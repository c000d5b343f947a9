"""Names of hardware, octet for octet as device-attest-01 wants them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmint.model.errors import BadInput
from certmint.model.hardware import (
    HardwareModuleName,
    HardwareName,
    PermanentIdentifier,
    hardware_name,
)

# draft-ietf-acme-device-attest-09: "SN12345", assigner or type 1.3.6.1.4.1.99999.1.
PERMANENT = bytes.fromhex(
    "a02206082b06010505070803a01630140c07534e313233343506092b06010401868d1f01"
)
MODULE = bytes.fromhex("a02206082b06010505070804a016301406092b06010401868d1f010407534e3132333435")
TYPE = "1.3.6.1.4.1.99999.1"

NAMES = st.text(
    st.characters(exclude_characters="/", exclude_categories=("C", "Z")), min_size=1, max_size=40
)
OIDS = st.tuples(
    st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 2**64), max_size=6)
).map(lambda parts: ".".join(map(str, (parts[0], parts[1], *parts[2]))))


def test_the_draft_s_vectors() -> None:
    """Both kinds are written, and read, as the draft prints them."""
    assert PermanentIdentifier("SN12345", TYPE).other_name == PERMANENT
    assert HardwareModuleName(TYPE, b"SN12345").other_name == MODULE
    assert hardware_name(PERMANENT) == PermanentIdentifier("SN12345", TYPE)
    assert hardware_name(MODULE) == HardwareModuleName(TYPE, b"SN12345")


@given(NAMES, st.none() | OIDS)
def test_permanent_identifiers_survive(value: str, assigner: str | None) -> None:
    """In a certificate and in an order, and no letter is normalised."""
    name = PermanentIdentifier(value, assigner)
    assert hardware_name(name.other_name) == name
    assert PermanentIdentifier.parse(str(name)) == name


@given(OIDS, st.binary(min_size=1, max_size=40))
def test_module_names_survive_in_certificates(kind: str, serial: bytes) -> None:
    """The serial number may be any octets there."""
    name = HardwareModuleName(kind, serial)
    assert hardware_name(name.other_name) == name


@given(OIDS, NAMES)
def test_module_names_survive_in_orders(kind: str, serial: str) -> None:
    """An order writes the serial number as text."""
    name = HardwareModuleName.parse(f"{serial}/{kind}")
    assert name == HardwareModuleName(kind, serial.encode())
    assert str(name) == f"{serial}/{kind}"


def test_a_serial_number_that_is_no_text_is_shown_in_hex() -> None:
    """Nothing unprintable reaches a log."""
    assert str(HardwareModuleName(TYPE, b"\x00\x1b[2J")) == f"0x001b5b324a/{TYPE}"


@pytest.mark.parametrize(
    "text",
    ["", "/", "a/", "/1.2.3", "a/b", "a/1.2.3/4", "a/1.40.3", "a/3.1", "a/1.2.03", "a\nb", "a\x1b",
     "a/1.2.3 ", "x" * 257, "\ud800", "a/1." + "9" * 40, "a/1.2\n"],
)  # fmt: skip
def test_what_the_grammar_does_not_have(text: str) -> None:
    """Neither kind accepts it, and says so with a code."""
    for kind in (PermanentIdentifier, HardwareModuleName):
        with pytest.raises(BadInput) as refused:
            kind.parse(text)
        assert refused.value.code == "hardware-syntax"


def test_a_module_name_needs_its_type() -> None:
    """A permanent identifier may stand without an assigner; a serial number may not."""
    assert PermanentIdentifier.parse("SN12345").assigner is None
    with pytest.raises(BadInput):
        HardwareModuleName.parse("SN12345")


def test_an_empty_serial_number_is_refused() -> None:
    """It would name every module."""
    with pytest.raises(BadInput):
        HardwareModuleName(TYPE, b"")


@pytest.mark.parametrize("vector", [PERMANENT, MODULE])
def test_every_truncation_and_every_flip(vector: bytes) -> None:
    """It is another name, no name of ours, or refused; never the same name, never a traceback."""
    original = hardware_name(vector)
    for size in range(len(vector)):
        assert read(vector[:size]) is None
    for place in range(len(vector)):
        for bit in range(8):
            torn = bytearray(vector)
            torn[place] ^= 1 << bit
            found = read(bytes(torn))
            assert found is None or (found != original and found.other_name == bytes(torn))


def test_the_identifier_value_must_be_there() -> None:
    """RFC 4043 lets it be absent; then the certificate's subject would be meant."""
    assigner = PERMANENT[-11:]
    value = bytes((0x30, len(assigner))) + assigner
    with pytest.raises(BadInput):
        hardware_name(b"\xa0\x19" + PERMANENT[2:12] + bytes((0xA0, len(value))) + value)


@given(st.binary(max_size=60))
def test_noise(data: bytes) -> None:
    """Noise behind the tag of an otherName is refused or ignored."""
    read(b"\xa0" + data)
    read(data)


def read(other_name: bytes) -> HardwareName | None:
    try:
        return hardware_name(other_name)
    except BadInput as refused:
        if refused.code != "hardware-syntax":
            raise
        return None
