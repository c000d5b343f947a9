"""DER, distinguished names and serial numbers, compared with what pyca and Python make of them."""

import datetime as dt

import pytest
from cryptography import x509
from hypothesis import assume, given
from hypothesis import strategies as st

from certmint.model import der
from certmint.model.errors import BadInput
from certmint.model.serial import new_serial, parse_serial, serial_number, serial_of
from certmint.model.subject import NO_SUBJECT, DistinguishedName

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)


@given(st.integers(-(2**200), 2**200))
def test_integers(value: int) -> None:
    """Read back as a signed number they are the same, and no shorter encoding would be."""
    content = der.content(der.integer(value))
    assert int.from_bytes(content, "big", signed=True) == value
    if len(content) > 1:
        assert int.from_bytes(content[1:], "big", signed=True) != value


@given(st.integers(0, 70_000))
def test_lengths(size: int) -> None:
    """`read` finds the content that `tlv` wrapped, whatever its length."""
    tag, start, end = der.read(der.tlv(der.OCTET_STRING, bytes(size)))
    assert (tag, end - start) == (der.OCTET_STRING, size)
    shortest = 1 if size < 0x80 else 2 if size < 0x100 else 3 if size < 0x10000 else 4
    assert start == 1 + shortest


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_children(parts: list[bytes]) -> None:
    """A SEQUENCE gives back the members that it was made of; a SET OF sorts them."""
    items = [der.octet_string(part) for part in parts]
    assert der.children(der.sequence(*items)) == items
    assert der.children(der.set_of(*items)) == sorted(items)


@given(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 2**64), max_size=6))
def test_object_identifiers(first: int, second: int, rest: list[int]) -> None:
    """The arcs come out again, the first two of them in one number."""
    dotted = ".".join(map(str, (first, second, *rest)))
    arcs = _arcs(der.content(der.oid(dotted)))
    assert arcs == (first * 40 + second, *rest)


@pytest.mark.parametrize("oid", [x509.NameOID.COMMON_NAME, x509.NameOID.DOMAIN_COMPONENT])
def test_an_identifier_as_pyca_writes_it(oid: x509.ObjectIdentifier) -> None:
    """It stands, byte for byte, in a name that pyca encoded."""
    written = x509.Name([x509.NameAttribute(oid, "x")]).public_bytes()
    assert der.oid(oid.dotted_string) in written


def _arcs(content: bytes) -> tuple[int, ...]:
    arcs, value = [], 0
    for octet in content:
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(value)
            value = 0
    return tuple(arcs)


@given(st.binary(max_size=40))
def test_reading_anything(data: bytes) -> None:
    """Whatever the bytes are, `read` and `children` answer or raise ValueError."""
    for function in (der.read, der.children, der.content):
        try:
            function(data)
        except ValueError:
            continue


@pytest.mark.parametrize("data", ["", "30", "3005", "3080", "1f0100", "30820100", "308200"])
def test_what_is_no_der(data: str) -> None:
    """Truncated, indefinite and multi-octet-tag encodings are refused."""
    with pytest.raises(ValueError, match="DER"):
        der.read(bytes.fromhex(data))


TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FFF), min_size=1, max_size=64)
PRINTABLE = st.text(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?",
    min_size=1, max_size=64,
)  # fmt: skip
NAMES = st.fixed_dictionaries(
    {},
    optional={
        "C": st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=2, max_size=2),
        "ST": TEXT, "L": TEXT, "O": TEXT, "OU": TEXT,
        "CN": TEXT.filter(lambda text: len(text.encode()) <= 64),
        "serialNumber": PRINTABLE,
    },
)  # fmt: skip


@given(NAMES)
def test_names_equal_pyca_s(attributes: dict[str, str]) -> None:
    """The DER is pyca's, byte for byte."""
    assume(all(value.strip() for value in attributes.values()))
    name = DistinguishedName.of(**attributes)
    assert name.der() == name.to_x509().public_bytes()


@given(NAMES)
def test_names_as_people_write_them(attributes: dict[str, str]) -> None:
    """What `str` prints is read back, commas and all."""
    values = attributes.values()
    assume(all(v == v.strip() != "" and "\\" not in v for v in values))
    name = DistinguishedName.of(**attributes)
    assert DistinguishedName.parse(str(name)) == name if attributes else name == NO_SUBJECT


@pytest.mark.parametrize(
    "text",
    [
        "C=us", "C=USA", "C=U", "CN=", "CN= ", f"CN={'x' * 65}", "CN=a\nb", "X=1", "CN",
        "CN=a, CN=b", "serialNumber=a_b", "serialNumber=é", "serialNumber=a*b", "DC=é",
        f"O={'x' * 65}", f"CN={'é' * 33}", "", "CN=a,",
    ],
)  # fmt: skip
def test_bad_names(text: str) -> None:
    """Each breaks a bound of RFC 5280 or our order, and is refused with one code."""
    with pytest.raises(BadInput) as refusal:
        DistinguishedName.parse(text)
    assert refusal.value.code == "subject-syntax"


def test_the_order_of_attributes() -> None:
    """Built by hand in another order, or with one twice, a name is refused (BR 7.1.4.2)."""
    for pairs in ((("CN", "a"), ("C", "US")), (("O", "a"), ("O", "b"))):
        with pytest.raises(BadInput):
            DistinguishedName(pairs)
    assert DistinguishedName((("DC", "example"), ("DC", "com"))).get("DC")


@given(
    st.timedeltas(dt.timedelta(days=-9000), dt.timedelta(days=90_000)),
    st.binary(min_size=14, max_size=14),
)
def test_serials(later: dt.timedelta, chance: bytes) -> None:
    """Positive, of 20 octets at most, with all the random bits, and the same in every form."""
    serial = new_serial(NOW + later, lambda size: chance[:size])
    number = serial_number(serial)
    assert 0 < number < 2**159
    assert len(der.content(der.integer(number))) <= 20
    assert number.to_bytes(20, "big").endswith(chance)
    assert serial_of(number) == parse_serial(f"{number:x}") == serial
    pairs = [serial[i : i + 2] for i in range(0, 40, 2)]
    assert parse_serial(":".join(pairs).upper()) == serial


@given(
    st.integers(1, 10**6), st.binary(min_size=14, max_size=14), st.binary(min_size=14, max_size=14)
)
def test_later_serials_are_greater(later: int, one: bytes, two: bytes) -> None:
    """They sort by time, whatever their random part: the index grows at its end."""
    first = new_serial(NOW, lambda _: one)
    second = new_serial(NOW + dt.timedelta(milliseconds=later), lambda _: two)
    assert first < second


@pytest.mark.parametrize("text", ["", "x", "0x12", "12 34", "1" * 41, "é", "-1"])
def test_bad_serials(text: str) -> None:
    """What is no hexadecimal number of 160 bits is refused."""
    with pytest.raises(BadInput) as refusal:
        parse_serial(text)
    assert refusal.value.code == "serial-syntax"


@pytest.mark.parametrize("year", [1960, 1970, 9000])
def test_a_clock_that_is_wrong(year: int) -> None:
    """A time that makes a serial zero, negative or too long is refused."""
    with pytest.raises(BadInput) as refusal:
        new_serial(dt.datetime(year, 1, 1, tzinfo=dt.UTC), bytes)
    assert refusal.value.code == "clock"
