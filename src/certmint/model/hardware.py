"""Names of hardware: PermanentIdentifier (RFC 4043) and HardwareModuleName (RFC 4108).

Both stand in a certificate's subjectAltName as an otherName, and in an ACME order as text
(draft-ietf-acme-device-attest). They are compared octet for octet: nothing here changes case,
trims or normalises. Reading is strict: what would not be written again the same is refused.
Whether the hardware is what it calls itself, this module does not know.
"""

import re
from dataclasses import dataclass

from certmint.model import der
from certmint.model.errors import BadInput

PERMANENT_IDENTIFIER = "1.3.6.1.5.5.7.8.3"
HARDWARE_MODULE_NAME = "1.3.6.1.5.5.7.8.4"
LONGEST = 256  # octets; RFC 4043 and 4108 set no bound

_OID = re.compile(r"(?:[01]\.[1-3]?[0-9]|2\.(?:0|[1-9][0-9]{0,38}))(?:\.(?:0|[1-9][0-9]{0,38}))*\Z")


@dataclass(frozen=True, slots=True)
class PermanentIdentifier:
    """A device's name, unique under its assigner; without one, under the certificate's issuer.

    Raises BadInput `hardware-syntax`.
    """

    value: str
    assigner: str | None = None

    def __post_init__(self) -> None:
        _check_text(self.value)
        if self.assigner is not None:
            _check_oid(self.assigner)

    @classmethod
    def parse(cls, text: str) -> "PermanentIdentifier":
        """From `ID` or `ID/OID`, as an ACME order writes it."""
        value, slash, assigner = text.partition("/")
        return cls(value, assigner if slash else None)

    @property
    def other_name(self) -> bytes:
        """The GeneralName, in DER."""
        assigner = b"" if self.assigner is None else der.oid(self.assigner)
        value = der.sequence(der.tlv(der.UTF8_STRING, self.value.encode()), assigner)
        return _other_name(PERMANENT_IDENTIFIER, value)

    def __str__(self) -> str:
        return self.value if self.assigner is None else f"{self.value}/{self.assigner}"


@dataclass(frozen=True, slots=True)
class HardwareModuleName:
    """A module's serial number, unique under its type. Raises BadInput `hardware-syntax`."""

    type: str
    serial: bytes

    def __post_init__(self) -> None:
        _check_oid(self.type)
        if not 0 < len(self.serial) <= LONGEST:
            raise BadInput(
                "hardware-syntax",
                f"a hardware serial number of {len(self.serial)} octets is not accepted: "
                f"use 1 to {LONGEST}",
            )

    @classmethod
    def parse(cls, text: str) -> "HardwareModuleName":
        """From `SERIAL/OID`, as an ACME order writes it."""
        serial, _, kind = text.partition("/")
        _check_text(serial)
        return cls(kind, serial.encode())

    @property
    def other_name(self) -> bytes:
        """The GeneralName, in DER."""
        value = der.sequence(der.oid(self.type), der.octet_string(self.serial))
        return _other_name(HARDWARE_MODULE_NAME, value)

    def __str__(self) -> str:
        """As an ACME order writes it; a serial number that is no text in hex, after `0x`."""
        try:
            serial = self.serial.decode()
            _check_text(serial)
        except (UnicodeDecodeError, BadInput):
            serial = "0x" + self.serial.hex()
        return f"{serial}/{self.type}"


HardwareName = PermanentIdentifier | HardwareModuleName


def hardware_name(other_name: bytes) -> HardwareName | None:
    """The name in a GeneralName of a subjectAltName; None if it is of another kind.

    Raises BadInput `hardware-syntax` for one of the two kinds that is not DER, or that has no
    identifierValue (the draft demands it).
    """
    try:
        kind, value = _opened(other_name)
        if kind == PERMANENT_IDENTIFIER:
            name: HardwareName = _permanent_identifier(value)
        elif kind == HARDWARE_MODULE_NAME:
            name = _module_name(value)
        else:
            return None
        canonical = name.other_name == other_name
    except (ValueError, IndexError):
        canonical = False
    if not canonical:
        raise BadInput("hardware-syntax", "the otherName of a device cannot be read as DER")
    return name


def _opened(other_name: bytes) -> tuple[str | None, bytes]:
    if not other_name.startswith(b"\xa0"):
        return None, b""
    kind, value = der.children(other_name)
    return _dotted(kind), der.content(value)


def _permanent_identifier(value: bytes) -> PermanentIdentifier:
    text, *rest = der.children(value)
    return PermanentIdentifier(der.content(text).decode(), _dotted(rest[0]) if rest else None)


def _module_name(value: bytes) -> HardwareModuleName:
    kind, serial = der.children(value)
    return HardwareModuleName(_dotted(kind), der.content(serial))


def _other_name(kind: str, value: bytes) -> bytes:
    # otherName is [0] IMPLICIT in GeneralName, its value [0] EXPLICIT (RFC 5280 4.2.1.6).
    return der.explicit(0, der.oid(kind) + der.explicit(0, value))


def _dotted(oid: bytes) -> str:
    arcs, arc = [], 0
    for octet in der.content(oid)[:LONGEST]:
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def _check_text(value: str) -> None:
    octets = len(value.encode(errors="replace"))
    if not value.isprintable() or "/" in value or not 0 < octets <= LONGEST:
        raise BadInput(
            "hardware-syntax",
            f"{value!r} does not name a device: use 1 to {LONGEST} printable octets without '/'",
        )


def _check_oid(dotted: str) -> None:
    if len(dotted) > LONGEST or not _OID.match(dotted):
        raise BadInput("hardware-syntax", f"{dotted!r} is not an object identifier")
