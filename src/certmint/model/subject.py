"""Distinguished names, one attribute an RDN, in the order that BR 7.1.4.2 fixes.

The DER equals what pyca/cryptography writes for the same attributes: countryName and
serialNumber are PrintableString, everything else UTF8String (RFC 5280 appendix A.1).
"""

from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509

from certmint.model import der
from certmint.model.errors import BadInput

# Short name -> (OID, string tag, longest value in characters: RFC 5280 A.1 upper bounds).
ATTRIBUTES: dict[str, tuple[str, int, int]] = {
    "DC": ("0.9.2342.19200300.100.1.25", der.IA5_STRING, 63),
    "C": ("2.5.4.6", der.PRINTABLE_STRING, 2),
    "ST": ("2.5.4.8", der.UTF8_STRING, 128),
    "L": ("2.5.4.7", der.UTF8_STRING, 128),
    "O": ("2.5.4.10", der.UTF8_STRING, 64),
    "OU": ("2.5.4.11", der.UTF8_STRING, 64),
    "CN": ("2.5.4.3", der.UTF8_STRING, 64),
    "serialNumber": ("2.5.4.5", der.PRINTABLE_STRING, 64),
}
_ORDER = {name: place for place, name in enumerate(ATTRIBUTES)}
_PRINTABLE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?")


@dataclass(frozen=True, slots=True)
class DistinguishedName:
    """A subject or issuer. Empty is legal: then the SAN is critical (RFC 5280 4.2.1.6)."""

    attributes: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        last = -1
        for kind, value in self.attributes:
            _check_attribute(kind, value)
            place = _ORDER[kind]
            if place < last or (place == last and kind != "DC"):
                raise BadInput(
                    "subject-syntax",
                    f"attribute {kind} is repeated or out of order: write {', '.join(_ORDER)}",
                )
            last = place

    @classmethod
    def of(cls, **attributes: str) -> "DistinguishedName":
        """From keywords, in any order: `DistinguishedName.of(C="US", O="Maker", CN="Root")`."""
        unknown = attributes.keys() - _ORDER.keys()
        if unknown:
            raise BadInput("subject-syntax", f"unknown subject attribute {min(unknown)!r}")
        return cls(tuple(sorted(attributes.items(), key=lambda item: _ORDER[item[0]])))

    @classmethod
    def parse(cls, text: str) -> "DistinguishedName":
        """From `C=US, O=Example Router Inc, CN=Root`; a comma in a value is written `\\,`."""
        if "\0" in text:
            raise BadInput("subject-syntax", "a distinguished name holds no NUL")
        pairs = []
        for part in text.replace("\\,", "\0").split(","):
            kind, equals, value = part.replace("\0", ",").partition("=")
            if not equals:
                raise BadInput("subject-syntax", f"{part.strip()!r} is not ATTRIBUTE=value")
            pairs.append((kind.strip(), value.strip()))
        unknown = [kind for kind, _ in pairs if kind not in _ORDER]
        if unknown:
            raise BadInput("subject-syntax", f"unknown subject attribute {unknown[0]!r}")
        return cls(tuple(sorted(pairs, key=lambda item: _ORDER[item[0]])))

    def der(self) -> bytes:
        """The Name as DER."""
        return der.tlv(der.SEQUENCE, b"".join(_rdn(k, v) for k, v in self.attributes))

    def to_x509(self) -> x509.Name:
        """The same as a pyca Name."""
        return x509.Name(
            [
                x509.NameAttribute(x509.ObjectIdentifier(ATTRIBUTES[k][0]), v)
                for k, v in self.attributes
            ]
        )

    def get(self, kind: str) -> str | None:
        """The value of one attribute, or None."""
        return dict(self.attributes).get(kind)

    def __str__(self) -> str:
        return ", ".join(f"{k}={v.replace(',', chr(92) + ',')}" for k, v in self.attributes)


NO_SUBJECT = DistinguishedName()


def _check_attribute(kind: str, value: str) -> None:
    if kind not in ATTRIBUTES:
        raise BadInput("subject-syntax", f"unknown subject attribute {kind!r}")
    _, tag, most = ATTRIBUTES[kind]
    if not value.strip() or len(value) > most or any(ord(c) < 0x20 for c in value):
        raise BadInput("subject-syntax", f"{kind}={value!r} must have 1 to {most} characters")
    if kind == "CN" and len(value.encode()) > most:
        # RFC 5280 counts characters, verifiers count octets: what one of them refuses is no use.
        raise BadInput("subject-syntax", f"CN={value!r} has more than {most} octets in UTF-8")
    if tag == der.PRINTABLE_STRING and not _PRINTABLE.issuperset(value):
        raise BadInput("subject-syntax", f"{kind}={value!r} has characters outside PrintableString")
    if tag == der.IA5_STRING and not value.isascii():
        raise BadInput("subject-syntax", f"{kind}={value!r} has characters outside ASCII")
    if kind == "C" and (len(value) != 2 or not value.isupper()):
        raise BadInput("subject-syntax", f"C={value!r} must be two capital letters (ISO 3166)")


@lru_cache(maxsize=4096)
def _rdn(kind: str, value: str) -> bytes:
    dotted, tag, _ = ATTRIBUTES[kind]
    return der.set_of(der.sequence(der.oid(dotted), der.tlv(tag, value.encode())))
