"""Keys that must not be certified, requests that do not hold, and keys under a passphrase."""

import base64
import hashlib
import ipaddress
import math
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa

from certmint.model import der
from certmint.model.csr import MAX_BYTES, load_csr, parse_csr
from certmint.model.errors import BadInput, WrongState
from certmint.model.hardware import PermanentIdentifier
from certmint.model.keys import KeyKind, public_key, public_key_of
from certmint.model.names import DNSName, IPName
from certmint.model.pbes2 import BatchCipher, batch_cipher
from certmint.model.states import AUTHORITY, BATCH, DEVICE, DeviceEvent, DeviceState, after

Private = Any


def spki_of(key: Private, form: Any = serialization.PublicFormat.SubjectPublicKeyInfo) -> bytes:
    return bytes(key.public_key().public_bytes(serialization.Encoding.DER, form))


def rsa_spki(modulus: int, exponent: int = 65537) -> bytes:
    algorithm = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.NULL)
    key = der.sequence(der.integer(modulus), der.integer(exponent))
    return der.sequence(algorithm, der.bit_string(key))


def refused(spki: bytes) -> str:
    with pytest.raises(BadInput) as refusal:
        public_key(spki)
    return refusal.value.code


KINDS: dict[KeyKind, Callable[[], Private]] = {
    KeyKind.P256: lambda: ec.generate_private_key(ec.SECP256R1()),
    KeyKind.P384: lambda: ec.generate_private_key(ec.SECP384R1()),
    KeyKind.RSA2048: lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("kind", KINDS)
def test_good_keys(kind: KeyKind) -> None:
    """They are known by their kind, and by the same fingerprint from either half."""
    private = KINDS[kind]()
    found = public_key(spki_of(private))
    assert (found.kind, found) == (kind, public_key_of(private))
    assert found.fingerprint == hashlib.sha256(found.spki).hexdigest()
    assert len(found.key_id) == 20
    assert found.fingerprint[:16] in repr(found)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP521R1()),
        lambda: ec.generate_private_key(ec.SECP256K1()),
        lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
        lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505 - to be refused
        lambda: rsa.generate_private_key(3, 2048),
        lambda: rsa.generate_private_key(65537, 2056),
        ed25519.Ed25519PrivateKey.generate,
        lambda: dsa.generate_private_key(1024),  # noqa: S505 - to be refused
    ],
    ids=["P-521", "secp256k1", "brainpool", "RSA-1024", "e=3", "RSA-2056", "Ed25519", "DSA"],
)
def test_kinds_that_are_not_certified(make: Callable[[], Private]) -> None:
    """Curves, sizes and exponents that a browser or the Baseline Requirements do not take."""
    assert refused(spki_of(make())) == "key-kind"


def test_a_compressed_point() -> None:
    """BR 7.1.3.1 admits one encoding; another one would be the same key with another hash."""
    key = KINDS[KeyKind.P256]()
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    algorithm = der.children(spki_of(key))[0]
    assert refused(der.sequence(algorithm, der.bit_string(point))) in ("key-kind", "key-syntax")


def test_a_point_that_is_not_on_its_curve() -> None:
    """A point of another curve leaks the private key of who computes with it."""
    spki = spki_of(KINDS[KeyKind.P256]())
    assert refused(spki[:-1] + bytes([spki[-1] ^ 1])) == "key-syntax"


@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"no key", bytes(100)])
def test_what_is_no_key(data: bytes) -> None:
    """Is refused as such."""
    assert refused(data) == "key-syntax"


def prime(start: int) -> int:
    number = start | 1
    while not _is_prime(number):
        number += 2
    return number


def _is_prime(number: int) -> bool:
    if any(number % small == 0 for small in (3, 5, 7, 11, 13, 17, 19, 23)):
        return False
    return all(pow(base, number - 1, number) == 1 for base in (2, 3, 5))


def test_primes_that_lie_close_together() -> None:
    """Fermat finds their product's factors at once (CVE-2022-26320)."""
    first = prime(random.Random(1).getrandbits(1024) | 3 << 1022)
    assert refused(rsa_spki(first * prime(first + 2))) == "key-weak"


def test_small_factors() -> None:
    """A modulus that a small number divides is no RSA key."""
    modulus = 251 * (random.Random(2).getrandbits(2040) | 3 << 2038 | 1)
    assert modulus.bit_length() == 2048
    assert refused(rsa_spki(modulus)) == "key-weak"


def test_roca() -> None:
    """Primes of the form k*M + 65537^a mod M were made by Infineon's library (CVE-2017-15361)."""
    chance = random.Random(3)
    product = math.prod(n for n in range(2, 702) if all(n % d for d in range(2, n)))

    def structured() -> int:
        while True:
            k = chance.getrandbits(1024 - product.bit_length()) | 3 << (1022 - product.bit_length())
            candidate = k * product + pow(65537, chance.getrandbits(60), product)
            if candidate.bit_length() == 1024 and _is_prime(candidate):
                return candidate

    modulus = structured() * structured()
    if modulus.bit_length() < 2048:
        modulus = structured() * structured()
    assert modulus.bit_length() == 2048
    assert refused(rsa_spki(modulus)) == "key-weak"


def request(key: Private, *names: x509.GeneralName, cn: str | None = None) -> bytes:
    subject = [x509.NameAttribute(x509.NameOID.COMMON_NAME, cn)] if cn else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.DNSName("a.example.com")
ADDRESS = ipaddress.ip_address("192.0.2.1")


def csr_refused(data: bytes) -> str:
    with pytest.raises(BadInput) as refusal:
        parse_csr(data)
    return refusal.value.code


def _request_with(version: int, san: bytes) -> bytes:
    """A PKCS#10 of that version, whose SAN has those octets; its signature is good."""
    key = ec.generate_private_key(ec.SECP256R1())
    extension = der.sequence(der.oid("2.5.29.17"), der.octet_string(san))
    wish = der.sequence(der.oid("1.2.840.113549.1.9.14"), der.tlv(0x31, der.sequence(extension)))
    info = der.sequence(der.integer(version), der.sequence(), spki_of(key), der.tlv(0xA0, wish))
    signature = key.sign(info, ec.ECDSA(hashes.SHA256()))
    algorithm = der.sequence(der.oid("1.2.840.10045.4.3.2"))
    return der.sequence(info, algorithm, der.bit_string(signature))


def test_odd_versions_and_names_are_bad_input() -> None:
    """What the library calls an invalid version, or a kind of name that it does not know."""
    x400 = der.sequence(der.tlv(0xA3, b""))
    for data in (_request_with(7, der.sequence()), _request_with(0, x400)):
        with pytest.raises(BadInput) as refusal:
            parse_csr(data)
        assert refusal.value.code == "csr-syntax"


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_version_that_is_none_is_read_as_the_first(number: int, kind: KeyKind) -> None:
    """RFC 2986 has version 0 alone; ruby's acme-client writes 2, as its examples of OpenSSL do."""
    key = KINDS[kind]()
    data = _renumbered(request(key, NAME, cn="x"), number, key)
    parsed = parse_csr(data)
    assert (parsed.der, parsed.key) == (data, public_key_of(key))
    assert (parsed.names, parsed.common_name) == ((DNSName("a.example.com"),), "x")
    assert load_csr(data).subject == x509.Name.from_rfc4514_string("CN=x")
    assert csr_refused(data[:-1] + bytes([data[-1] ^ 1])) == "csr-signature"
    unsigned = data.replace(der.integer(number), der.integer(3 - number), 1)
    assert csr_refused(unsigned) == "csr-signature"  # what was signed is the number that is there


def test_a_version_cannot_be_changed_under_a_signature() -> None:
    """A good request whose version somebody changed is signed no more."""
    data = request(KEY, NAME)
    assert csr_refused(data.replace(der.integer(0), der.integer(2), 1)) == "csr-signature"


def _renumbered(data: bytes, number: int, key: Private) -> bytes:
    info, algorithm, _ = der.children(data)
    _, *rest = der.children(info)
    changed = der.sequence(der.integer(number), *rest)
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(changed, padding.PKCS1v15(), hashes.SHA256())
    else:
        signature = key.sign(changed, ec.ECDSA(hashes.SHA256()))
    return der.sequence(changed, algorithm, der.bit_string(signature))


def test_hardware_names_of_a_request() -> None:
    """A device may name itself beside its DNS name (draft-ietf-acme-device-attest)."""
    name = PermanentIdentifier("SN12345", "1.3.6.1.4.1.99999.1")
    dns = der.tlv(0x82, b"r1.example.com")
    parsed = parse_csr(_request_with(0, der.sequence(dns, name.other_name)))
    assert (parsed.names, parsed.hardware) == ((DNSName("r1.example.com"),), (name,))
    assert csr_refused(_request_with(0, der.sequence(name.other_name, name.other_name))) == (
        "csr-names"
    )
    principal = der.explicit(0, der.oid("1.3.6.1.4.1.311.20.2.3") + der.explicit(0, b"\x0c\x01a"))
    assert csr_refused(_request_with(0, der.sequence(principal))) == "csr-names"


def test_a_good_request() -> None:
    """In DER or PEM, with any line ends: its key, its names in order, its common name."""
    data = request(KEY, x509.DNSName("B.example.com"), x509.IPAddress(ADDRESS), cn="x")
    pem = x509.load_der_x509_csr(data).public_bytes(serialization.Encoding.PEM)
    for form in (data, pem, pem.replace(b"\n", b"\r\n"), b"\n\n" + pem):
        parsed = parse_csr(form)
        assert parsed.key == public_key_of(KEY)
        assert parsed.names == (DNSName("b.example.com"), IPName("192.0.2.1"))
        assert (parsed.common_name, parsed.der) == ("x", data)


def test_a_bad_signature() -> None:
    """Nobody gets a certificate for a key that they do not hold."""
    data = request(KEY, NAME)
    assert csr_refused(data[:-1] + bytes([data[-1] ^ 1])) == "csr-signature"
    other = request(ec.generate_private_key(ec.SECP256R1()), NAME)
    info, *_ = der.children(data)
    _, *signature = der.children(other)
    assert csr_refused(der.sequence(info, *signature)) == "csr-signature"


def test_a_weak_hash() -> None:
    """SHA-1 signs nothing any more."""
    old = subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-sha1", "-subj", "/CN=x", "-outform", "DER", "-keyout", "/dev/null"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert csr_refused(old) == "csr-signature"


@pytest.mark.parametrize(
    "names",
    [
        (NAME, NAME),
        (NAME, x509.DNSName("A.EXAMPLE.com")),
        (x509.RFC822Name("a@example.com"),),
        (x509.UniformResourceIdentifier("https://a.example.com"),),
        (NAME, x509.DirectoryName(x509.Name([]))),
        (x509.DNSName("a_b.example.com"),),
        (x509.DNSName("a.example.com."),),
        (x509.DNSName("a.example.com\x00.evil.net"),),
        (x509.DNSName(""),),
        (x509.IPAddress(ipaddress.ip_network("10.0.0.0/8")),),
    ],
)
def test_names_that_are_not_accepted(names: tuple[x509.GeneralName, ...]) -> None:
    """Duplicates, other kinds of names and odd spellings refuse the whole request."""
    assert csr_refused(request(KEY, *names)) in ("csr-names", "name-syntax", "csr-syntax")


def test_two_common_names() -> None:
    """Which of them would be meant?"""
    pair = [x509.NameAttribute(x509.NameOID.COMMON_NAME, each) for each in "ab"]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(pair))
    data = builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    assert csr_refused(data) == "csr-names"


@pytest.mark.parametrize(
    "data",
    [b"", b"-----BEGIN CERTIFICATE REQUEST-----\n", b"\x30\x80", bytes(MAX_BYTES + 1), b"30" * 9],
)
def test_what_is_no_request(data: bytes) -> None:
    """Is refused as such, however long."""
    assert csr_refused(data) == "csr-syntax"


def test_a_request_with_a_weak_key() -> None:
    """The key's own code says what is wrong with it."""
    assert csr_refused(request(rsa.generate_private_key(65537, 1024), NAME)) == "key-kind"  # noqa: S505


def test_an_encrypted_key_opens_with_openssl(tmp_path: Path) -> None:
    """With the passphrase, and not with another one."""
    secret = b"a passphrase for the line"
    plain = KEY.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    cipher = batch_cipher(secret, bytes(range(16)))
    sealed = cipher.encrypt(plain, bytes(16))
    assert plain not in sealed
    assert cipher.decrypt(sealed) == plain
    loaded = serialization.load_der_private_key(sealed, secret)
    assert loaded.private_numbers() == KEY.private_numbers()  # type: ignore[union-attr]
    (tmp_path / "key.der").write_bytes(sealed)
    words = ["openssl", "pkcs8", "-inform", "DER", "-in", str(tmp_path / "key.der"),
             "-outform", "DER"]  # fmt: skip
    good = subprocess.run(
        [*words, "-passin", f"pass:{secret.decode()}"], capture_output=True, check=True
    )
    assert serialization.load_der_private_key(good.stdout, None) is not None
    bad = subprocess.run([*words, "-passin", "pass:another"], capture_output=True, check=False)
    assert bad.returncode != 0


def test_a_wrong_passphrase() -> None:
    """Is found out, for whichever key; and neither key nor passphrase is in a repr."""
    cipher = batch_cipher(b"a passphrase for the line", bytes(16))
    sealed = cipher.encrypt(der.octet_string(b"secret"), bytes(16))
    for number in range(50):
        wrong = BatchCipher(hashlib.sha256(bytes([number])).digest(), cipher.derivation)
        with pytest.raises(BadInput) as refusal:
            wrong.decrypt(sealed)
        assert refusal.value.code == "passphrase-wrong"
    assert cipher.key.hex() not in repr(cipher)
    assert base64.b64encode(cipher.key).decode() not in repr(cipher)
    for damaged in (b"", sealed[:-1], b"\x30\x00"):
        with pytest.raises(BadInput):
            cipher.decrypt(damaged)


def test_a_short_passphrase() -> None:
    """Would be guessed, so it is not taken."""
    with pytest.raises(BadInput) as refusal:
        batch_cipher(b"elevenchars", bytes(16))
    assert refusal.value.code == "passphrase-short"
    assert "elevenchars" not in refusal.value.detail


@pytest.mark.parametrize("table", [DEVICE, BATCH, AUTHORITY], ids=["device", "batch", "authority"])
def test_state_tables(table: Any) -> None:
    """Every state is a row; a move is in the table or WrongState; a last state leads nowhere."""
    states = type(next(iter(table)))
    assert set(table) == set(states)
    events = {event for row in table.values() for event in row}
    for state in states:
        for event in type(next(iter(events))):
            if event in table[state]:
                assert after(table, state, event) in table
            else:
                with pytest.raises(WrongState) as refusal:
                    after(table, state, event)
                assert refusal.value.code == "wrong-state"
    assert any(not row for row in table.values())


def test_retired_is_the_end() -> None:
    """No event brings a retired device back."""
    assert DEVICE[DeviceState.RETIRED] == {}
    assert all(DeviceEvent.RETIRED in row for state, row in DEVICE.items() if row)
