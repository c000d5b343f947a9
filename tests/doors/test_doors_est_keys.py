"""EST's serverkeygen: the key comes out for its device alone, and openssl opens what we make."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backstage import House
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from est_house import (
    ASYMMETRIC_DECRYPT_KEY_ID,
    CAPABILITIES,
    DECRYPT_KEY_ID,
    ESTHouse,
    csr,
    key_part,
    names_of,
    octets,
    open_est,
)

from certmint.app.servercert import ROOT_FILE
from certmint.doors.http import ForwardedCertificate
from certmint.model import der
from certmint.model.cms import AES256_CBC, KEY_PACKAGE, SIGNED_DATA

SEALED = "application/pkcs7-mime; smime-type=server-generated-key"


@pytest.fixture(scope="module")
def est(house: House) -> ESTHouse:
    """The EST door of the house."""
    return open_est(house)


@pytest.fixture
def plain(est: ESTHouse) -> Iterator[ESTHouse]:
    """The house while its profile lets keys leave under TLS alone."""
    est.change_profile(plain_delivery=True)
    yield est
    est.change_profile(plain_delivery=False)


@pytest.fixture(autouse=True)
def needs_openssl(require: Any) -> None:
    """The other side."""
    require("openssl", package="openssl")


def openssl(*words: str | Path, given: bytes) -> bytes:
    """What openssl makes of `given`; it has to succeed."""
    command = ["openssl", *map(str, words)]
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


def key_id(est: ESTHouse, serial_number: str) -> bytes:
    """The identifier of a device's identity key, as RFC 5280 4.2.1.2 (1) makes it."""
    identity = x509.load_der_x509_certificate(est.house.identity(serial_number))
    return x509.SubjectKeyIdentifier.from_public_key(identity.public_key()).digest


def package_in(est: ESTHouse, inside: bytes, folder: Path) -> Any:
    """The private key of a SignedData, whose signature openssl has checked up to the TLS root."""
    info = der.sequence(der.oid(SIGNED_DATA), der.explicit(0, inside))
    package = openssl(
        "cms", "-verify", "-inform", "DER", "-binary", "-purpose", "sslserver",
        "-CAfile", est.house.here.config.resolve(ROOT_FILE), given=info,
    )  # fmt: skip
    parsed = openssl("cms", "-cmsout", "-print", "-noout", "-inform", "DER", given=info)
    assert KEY_PACKAGE.encode() in parsed
    (pkcs8,) = der.children(package)
    return serialization.load_der_private_key(pkcs8, None)


def opened(est: ESTHouse, envelope: bytes, serial_number: str) -> bytes:
    """What the device's identity key makes of an envelope."""
    folder = est.house.packages / serial_number
    return openssl(
        "cms", "-decrypt", "-inform", "DER", "-binary", "-inkey", folder / "key.pem",
        "-recip", folder / "identity.pem", given=envelope,
    )  # fmt: skip


def test_the_key_opens_with_the_devices_key(est: ESTHouse, tmp_path: Path) -> None:
    """KeyAgree to the identity's EC key; inside, a package signed by the server's TLS key."""
    asked = csr(attributes=octets(ASYMMETRIC_DECRYPT_KEY_ID, key_id(est, "R1")))

    answer = est.post("serverkeygen", asked, peer=est.house.identity("R1"))

    kind, envelope, leaf = key_part(answer)
    assert kind == SEALED
    assert names_of(leaf) == ["r1.router.lan"]
    key = package_in(est, opened(est, envelope, "R1"), tmp_path)
    assert key.public_key() == leaf.public_key()
    with pytest.raises(subprocess.CalledProcessError):
        opened(est, envelope, "R2")


def test_the_key_opens_with_the_shared_key(est: ESTHouse, tmp_path: Path) -> None:
    """A DecryptKeyIdentifier names the AES key that device and server share."""
    identifier, shared = est.transport_key("R3")
    asked = csr(attributes=octets(DECRYPT_KEY_ID, identifier))

    answer = est.post("serverkeygen", asked, peer=est.house.identity("R3"))

    kind, envelope, leaf = key_part(answer)
    assert kind == SEALED
    inside = openssl(
        "cms", "-decrypt", "-inform", "DER", "-binary", "-secretkey", shared.hex(),
        "-secretkeyid", identifier.hex(), given=envelope,
    )  # fmt: skip
    assert package_in(est, inside, tmp_path).public_key() == leaf.public_key()


def test_each_device_has_a_shared_key_of_its_own(est: ESTHouse) -> None:
    """Who takes one device apart reads the keys of no other."""
    keys = {est.transport_key(each) for each in ("R1", "R2", "R3")}
    assert len({key for _, key in keys}) == 3


def test_an_unknown_key_fails_and_never_falls_back(plain: ESTHouse) -> None:
    """A key id that is not the device's is refused, even where a plain key would be allowed."""
    before = plain.get("cacerts").status
    wrong = [
        octets(ASYMMETRIC_DECRYPT_KEY_ID, b"nobody's key"),
        octets(ASYMMETRIC_DECRYPT_KEY_ID, key_id(plain, "R2")),
        octets(DECRYPT_KEY_ID, plain.transport_key("R2")[0]),
    ]

    answers = [
        plain.post("serverkeygen", csr(attributes=each), peer=plain.house.identity("R1"))
        for each in wrong
    ]

    assert before == 200
    assert {(each.status, each.headers["certmint-code"]) for each in answers} == {
        (403, "decrypt-key-unknown")
    }


def test_nothing_is_issued_for_a_key_that_cannot_be_delivered(est: ESTHouse) -> None:
    """After a refusal the device's newest certificate is the one it had."""
    peer = est.house.identity("R4")
    renewal = csr(names=("r4.router.lan",))

    refused = est.post("serverkeygen", csr(), peer=peer)

    assert refused.headers["certmint-code"] == "key-delivery-plain"
    assert est.post("simplereenroll", renewal, peer=peer).status == 200


def test_a_plain_key_leaves_only_where_the_profile_says_so(plain: ESTHouse) -> None:
    """With `plain_delivery` the first part is PKCS#8, and it fits the certificate."""
    answer = plain.post("serverkeygen", csr(), peer=plain.house.identity("R1"))

    kind, pkcs8, leaf = key_part(answer)
    assert kind == "application/pkcs8"
    assert serialization.load_der_private_key(pkcs8, None).public_key() == leaf.public_key()
    assert answer.headers["cache-control"] == "no-store"


def test_a_plain_key_never_passes_a_proxy(plain: ESTHouse) -> None:
    """Whoever ends the TLS connection would read the key."""
    behind = ForwardedCertificate(plain.app, ["127.0.0.1"])
    peer = x509.load_der_x509_certificate(plain.house.identity("R1"))
    field = openssl("base64", "-A", given=peer.public_bytes(serialization.Encoding.DER)).decode()

    answer = ESTHouse(plain.house, behind).post(
        "serverkeygen", csr(), headers={"client-cert": f":{field}:"}
    )

    assert (answer.status, answer.headers["certmint-code"]) == (403, "key-delivery-plain")


def test_the_kind_of_key_follows_the_csr(plain: ESTHouse) -> None:
    """The CSR's own key shows the kind, and is not certified; its signature is not looked at."""
    wished = csr(rsa.generate_private_key(65537, 2048))
    torn = wished[:-1] + bytes([wished[-1] ^ 1])

    _, pkcs8, leaf = key_part(plain.post("serverkeygen", torn, peer=plain.house.identity("R1")))

    key = serialization.load_der_private_key(pkcs8, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 2048
    assert leaf.public_key() == key.public_key()
    assert leaf.public_key() != x509.load_der_x509_csr(wished).public_key()


def test_a_kind_that_is_not_certified_becomes_the_profiles(plain: ESTHouse) -> None:
    """A P-521 wish gets the kind that the profile prefers."""
    wish = csr(ec.generate_private_key(ec.SECP521R1()))

    _, _, leaf = key_part(plain.post("serverkeygen", wish, peer=plain.house.identity("R1")))

    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    assert leaf.public_key().curve.name == "secp256r1"


def test_a_device_that_cannot_read_aes_is_told(est: ESTHouse) -> None:
    """SMIMECapabilities without AES-256-CBC refuse; with it they do not."""
    wanted = octets(ASYMMETRIC_DECRYPT_KEY_ID, key_id(est, "R1"))
    peer = est.house.identity("R1")

    def ask(*ciphers: str) -> Any:
        listed = b"".join(der.sequence(der.oid(each)) for each in ciphers)
        # pyca writes no SEQUENCE here, so the tag is changed; the signature does not matter.
        made = csr(attributes=wanted | octets(CAPABILITIES, listed))
        asked = made.replace(der.octet_string(listed), der.tlv(der.SEQUENCE, listed))
        return est.post("serverkeygen", asked, peer=peer)

    assert ask("1.2.840.113549.3.7").headers["certmint-code"] == "key-delivery-cipher"
    assert ask("1.2.840.113549.3.7", AES256_CBC).status == 200


def test_a_public_profile_never_gets_a_key_that_we_made(est: ESTHouse) -> None:
    """BR 6.1.1.3, however the delivery is asked for."""
    pem = (est.house.packages.parent / "public" / "P1" / "identity.pem").read_bytes()
    peer = x509.load_pem_x509_certificate(pem)
    identifier = x509.SubjectKeyIdentifier.from_public_key(peer.public_key()).digest
    shown = peer.public_bytes(serialization.Encoding.DER)

    answers = [
        est.post("serverkeygen", csr(attributes=each), peer=shown)
        for each in (
            {},
            octets(ASYMMETRIC_DECRYPT_KEY_ID, identifier),
            octets(DECRYPT_KEY_ID, est.transport_key("P1")[0]),
        )
    ]

    assert {each.headers["certmint-code"] for each in answers} == {"key-origin"}


def test_names_of_others_are_refused_for_generated_keys_too(est: ESTHouse) -> None:
    """The CSR asks for nothing that the certificate will not carry."""
    answer = est.post("serverkeygen", csr(names=("r2.router.lan",)), peer=est.house.identity("R1"))
    assert answer.headers["certmint-code"] == "csr-asks-more"


def test_a_lost_key_does_not_make_a_clone(plain: ESTHouse) -> None:
    """Asked for again with a certificate that the lost answer replaced: refused, and no more.

    The key is another each time, since we make it; so it accuses nobody. The identity gets one.
    """
    peer = plain.house.service("R5").public_bytes(serialization.Encoding.DER)

    lost = plain.post("serverkeygen", csr(), peer=peer)
    again = plain.post("serverkeygen", csr(), peer=peer)
    by_identity = plain.post("serverkeygen", csr(), peer=plain.house.identity("R5"))

    assert lost.status == 200
    assert (again.status, again.headers["certmint-code"]) == (403, "evidence-superseded")
    assert by_identity.status == 200
