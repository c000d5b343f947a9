"""A key that was signed before it was sealed: the server's own signature, and nobody else's."""

import base64
import datetime as dt
import os
from pathlib import Path

import pytest
from backstage import build
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.app.servercert import ROOT_FILE, document_signer, ensure
from certmint.model import der
from certmint.model.cms import KEY_PACKAGE, SIGNED_DATA, Signer, envelop, signed
from certmint_agent.cms import open_envelope
from certmint_agent.errors import Unacceptable
from certmint_agent.renewal import renew
from certmint_agent.signed import vouched_key

PKCS8 = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


class Signed:
    """What a real certmint signs with its TLS key, and the anchor that a device has of it."""

    def __init__(self, folder: Path):
        house = build(folder)
        ensure(house.here)
        self.signer = document_signer(house.here)
        self.anchors = x509.load_pem_x509_certificates((folder / ROOT_FILE).read_bytes())
        self.data = signed(der.sequence(PKCS8), KEY_PACKAGE, self.signer)
        self.now = dt.datetime.now(dt.UTC)
        house.here.close()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    """One server for all tests."""
    return Signed(tmp_path_factory.mktemp("house"))


def test_the_servers_signature_is_accepted(real: Signed) -> None:
    """The key comes out, bit for bit."""
    assert vouched_key(real.data, real.anchors, "localhost", real.now) == PKCS8


def test_the_signature_inside_of_an_envelope(real: Signed) -> None:
    """As EST sends it: EnvelopedData around SignedData around the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 5)
    builder = builder.not_valid_before(real.now).not_valid_after(real.now + dt.timedelta(days=1))
    identity = builder.sign(key, hashes.SHA256())
    sealed = envelop(
        real.data, identity.public_bytes(serialization.Encoding.DER),
        ephemeral=ec.generate_private_key, random_bytes=os.urandom, content_type=SIGNED_DATA,
    )  # fmt: skip

    def verify(data: bytes) -> bytes:
        return vouched_key(data, real.anchors, "localhost", real.now)

    assert open_envelope(sealed, identity, key, verify) == PKCS8


def test_nobody_else_may_sign(real: Signed) -> None:
    """Another host, another CA, another time, and a certificate that the key is not of."""
    stranger = ec.generate_private_key(ec.SECP256R1())
    forged = Signer(
        real.signer.certificates, lambda data: stranger.sign(data, ec.ECDSA(hashes.SHA256()))
    )
    other = signed(der.sequence(PKCS8), KEY_PACKAGE, forged)
    cases = [
        (real.data, real.anchors, "other.example", real.now),
        (real.data, real.anchors, "localhost", real.now + dt.timedelta(days=4000)),
        (other, real.anchors, "localhost", real.now),
        (signed(der.sequence(PKCS8), "1.2.840.113549.1.7.1", real.signer), real.anchors,
         "localhost", real.now),
    ]  # fmt: skip
    for case in cases:
        with pytest.raises(Unacceptable, match="is not signed by"):
            vouched_key(*case)


def test_no_flipped_byte_passes_for_another_key(real: Signed) -> None:
    """Whatever is torn, what comes out is the key that was signed, or nothing."""
    refused = 0
    for place in range(0, len(real.data), 3):
        torn = bytearray(real.data)
        torn[place] ^= 0x41
        try:
            assert vouched_key(bytes(torn), real.anchors, "localhost", real.now) == PKCS8
        except Unacceptable:
            refused += 1
    assert refused > len(real.data) / 3 * 0.9


def test_a_signature_by_a_stranger_stops_the_delivery(world, device, real: Signed) -> None:
    """A signed key of somebody else's server is not installed, though it opens."""
    deliver = world.deliver

    def signed_by_a_stranger(kind: str, recipient: bytes) -> dict:
        sealed = envelop(
            real.data, recipient, ephemeral=ec.generate_private_key, random_bytes=os.urandom,
            content_type=SIGNED_DATA,
        )  # fmt: skip
        return {**deliver(kind, recipient), "encrypted_key": base64.b64encode(sealed).decode()}

    world.deliver = signed_by_a_stranger
    with pytest.raises(Unacceptable, match="not signed by localhost"):
        renew(device.agent(), key_from_server=True)
    assert device.live() is None
