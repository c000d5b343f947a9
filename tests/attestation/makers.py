"""What the attestation tests build: a hardware maker's CA, a TPM on paper, and its statements."""

import datetime as dt
import hashlib
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from certmint.attestation.attested import Anchor, Format, Proof
from certmint.model.errors import CertmintError
from certmint.model.hardware import HardwareName

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
PROOF = Proof(b"token.thumbprint", b"token")
VECTORS = Path(__file__).parent / "vectors"

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
Extension = tuple[x509.ExtensionType, bool]
CA = (x509.BasicConstraints(ca=True, path_length=None), True)
NOT_CA = (x509.BasicConstraints(ca=False, path_length=None), True)


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """One for all, as making one takes long."""
    return rsa.generate_private_key(65537, 2048)


def ec_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def spki(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)] if text else [])


def raw(oid: x509.ObjectIdentifier, value: bytes, *, critical: bool = False) -> Extension:
    return x509.UnrecognizedExtension(oid, value), critical


@dataclass
class Maker:
    """A CA of a hardware maker."""

    name: str = "Maker Root"
    key: PrivateKey = field(default_factory=ec_key)
    certificate: bytes = b""

    def __post_init__(self) -> None:
        if not self.certificate:
            self.certificate = self.issue(self.key, CA, subject=common_name(self.name))

    def issue(
        self,
        key: PrivateKey | PublicKey,
        *extensions: Extension,
        subject: x509.Name | None = None,
        start: dt.datetime = NOW - DAY,
        end: dt.datetime = NOW + 365 * DAY,
        digest: hashes.HashAlgorithm | None = None,
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(common_name("") if subject is None else subject)
            .issuer_name(common_name(self.name))
            .public_key(key.public_key() if isinstance(key, PrivateKey) else key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return der(builder.sign(self.key, digest or hashes.SHA256()))

    def below(self, name: str, extension: Extension = CA) -> "Maker":
        """An intermediate CA."""
        key = ec_key()
        return Maker(name, key, self.issue(key, extension, subject=common_name(name)))

    def anchor(self, kind: Format) -> Anchor:
        return Anchor(self.certificate, kind)


def refusal(error: CertmintError) -> str:
    """The code, once its sentence is seen to be one for a person."""
    assert error.detail
    assert "\n" not in error.detail
    return error.code


def tpm_names(*names: HardwareName, parts: int = 3) -> Extension:
    """The subjectAltName of an AK or EK certificate."""
    pairs = [
        ("2.23.133.2.1", "id:494E5443"),
        ("2.23.133.2.2", "Model X"),
        ("2.23.133.2.3", "id:00020000"),
    ]
    directory = x509.Name(
        [x509.NameAttribute(x509.ObjectIdentifier(oid), text) for oid, text in pairs[:parts]]
    )
    return x509.SubjectAlternativeName([x509.DirectoryName(directory), *map(other_name, names)]), (
        True
    )


def other_name(name: HardwareName) -> x509.OtherName:
    """pyca's view of it: an otherName is its type and the DER of its value."""
    encoded = name.other_name
    kind = encoded[4 : 4 + encoded[3]]
    assert kind.startswith(bytes.fromhex("2b060105050708"))
    oid = f"1.3.6.1.5.5.7.8.{kind[-1]}"
    return x509.OtherName(x509.ObjectIdentifier(oid), encoded[4 + encoded[3] + 2 :])


def usage(*oids: str) -> Extension:
    return x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in oids]), False


AK_USAGE = usage("2.23.133.8.3")
DEVICE_KEY = 0x00040072  # fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, sign


def sized(octets: bytes) -> bytes:
    return struct.pack(">H", len(octets)) + octets


def tpmt_public(
    key: PrivateKey, attributes: int = DEVICE_KEY, *, name_algorithm: int = 0x0B, ek: bool = False
) -> bytes:
    """A TPMT_PUBLIC; with `ek` the cipher and the policy of the TCG's EK templates."""
    policy = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
    kind = 0x01 if isinstance(key, rsa.RSAPrivateKey) else 0x23
    head = struct.pack(">HHI", kind, name_algorithm, attributes) + sized(policy if ek else b"")
    head += struct.pack(">HHH", 6, 128, 0x43) if ek else struct.pack(">H", 0x10)
    head += struct.pack(">H", 0x10)
    numbers = key.public_key().public_numbers()
    if isinstance(numbers, rsa.RSAPublicNumbers):
        modulus = numbers.n.to_bytes(key.key_size // 8, "big")
        return head + struct.pack(">HI", key.key_size, 0) + sized(modulus)
    size = (key.key_size + 7) // 8
    head += struct.pack(">HH", {256: 3, 384: 4, 521: 5}[key.key_size], 0x10)
    return head + sized(numbers.x.to_bytes(size, "big")) + sized(numbers.y.to_bytes(size, "big"))


def tpm_name(area: bytes) -> bytes:
    return b"\x00\x0b" + hashlib.sha256(area).digest()


def tpms_attest(
    name: bytes, extra_data: bytes, *, magic: int = 0xFF544347, kind: int = 0x8017
) -> bytes:
    """A TPMS_ATTEST of type CERTIFY."""
    head = struct.pack(">IH", magic, kind) + sized(b"\x00\x0b" + bytes(32)) + sized(extra_data)
    return (
        head + bytes(16) + b"\x01" + bytes.fromhex("2019102300163636") + sized(name) + sized(name)
    )


def signed(key: PrivateKey, message: bytes, digest: hashes.HashAlgorithm | None = None) -> bytes:
    chosen = digest or hashes.SHA256()
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), chosen)
    return key.sign(message, ec.ECDSA(chosen))


def tpmt_ecdsa(digest: int) -> Callable[[bytes], bytes]:
    """From a DER signature to a TPMT_SIGNATURE."""

    def seal(octets: bytes) -> bytes:
        r, s = utils.decode_dss_signature(octets)
        size = 48 if digest == 0x0C else 32
        numbers = sized(r.to_bytes(size, "big")) + sized(s.to_bytes(size, "big"))
        return b"\x00\x18" + digest.to_bytes(2, "big") + numbers

    return seal


def tpmt_rsa(digest: int) -> Callable[[bytes], bytes]:
    """From a bare RSA signature to a TPMT_SIGNATURE."""
    return lambda octets: b"\x00\x14" + digest.to_bytes(2, "big") + sized(octets)


def attestation(kind: str, statement: object, **more: object) -> bytes:
    """An attestation object; a member that nobody knows does no harm."""
    return cbor2.dumps({"fmt": kind, "attStmt": statement, "authData": b"", **more})


def tlv(tag: bytes, content: bytes) -> bytes:
    size = len(content)
    length = bytes((size,)) if size < 0x80 else b"\x82" + struct.pack(">H", size)
    return tag + length + content


def authorization(number: int, content: bytes) -> bytes:
    """A field of Android's AuthorizationList, whose tags take up to three octets."""
    if number < 31:
        return tlv(bytes((0xA0 | number,)), content)
    return tlv(bytes((0xBF, 0x80 | number >> 7, number & 0x7F)), content)


def android_description(
    challenge: bytes, tee: Iterable[bytes], *, version: int = 300, levels: tuple[int, int] = (1, 1)
) -> bytes:
    """Android's KeyDescription; versions over 127 take two octets."""
    number = tlv(b"\x02", version.to_bytes(2, "big"))
    first, second = (tlv(b"\x0a", bytes((level,))) for level in levels)
    lists = tlv(b"\x30", b"") + tlv(b"\x30", b"".join(tee))
    body = number + first + number + second + tlv(b"\x04", challenge) + tlv(b"\x04", b"") + lists
    return tlv(b"\x30", body)


def vector(name: str) -> bytes:
    """A vector in hex."""
    return bytes.fromhex((VECTORS / name).read_text())


def vector_certificates(name: str) -> list[bytes]:
    """A vector in PEM."""
    return [der(c) for c in x509.load_pem_x509_certificates((VECTORS / name).read_bytes())]
