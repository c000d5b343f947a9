"""Devices with a TPM on paper, their maker's CA, and what an ACME client says for them."""

import datetime as dt
import hashlib
import os
from dataclasses import dataclass, field
from typing import Any

from acme_client import Client, b64
from asgi import Answer
from backstage import BY, ACMEHouse, bound
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from tests.attestation.makers import (
    AK_USAGE,
    CA,
    NOT_CA,
    Extension,
    Maker,
    attestation,
    common_name,
    ec_key,
    other_name,
    signed,
    tpm_name,
    tpm_names,
    tpms_attest,
    tpmt_public,
)

from certmint.app.wiring import vault
from certmint.enrolment import devices
from certmint.enrolment.acme import attesting
from certmint.enrolment.acme.accounts import new_binding
from certmint.model.acme import (
    ChallengeType,
    Directory,
)
from certmint.model.hardware import HardwareName, PermanentIdentifier

ATTEST = ChallengeType.DEVICE_ATTEST_01
OID = "1.3.6.1.4.1.99999.1"
SN1 = PermanentIdentifier("SN12345", OID)


@dataclass
class Works:
    """A hardware maker's CA, valid around the present moment."""

    now: dt.datetime
    maker: Maker = field(default_factory=lambda: Maker(certificate=b"-"))

    def __post_init__(self) -> None:
        self.maker.certificate = self.issue(self.maker.key, CA, subject=common_name("Maker Root"))

    @property
    def pem(self) -> bytes:
        root = x509.load_der_x509_certificate(self.maker.certificate)
        return root.public_bytes(serialization.Encoding.PEM)

    def issue(self, key: Any, *extensions: Extension, subject: x509.Name | None = None) -> bytes:
        day = dt.timedelta(days=1)
        return self.maker.issue(
            key, *extensions, subject=subject, start=self.now - day, end=self.now + 100 * day
        )


@dataclass
class Device:
    """A device with a TPM, as far as its messages go."""

    works: Works
    name: HardwareName = SN1
    key: Any = field(default_factory=ec_key)
    ak: Any = field(default_factory=ec_key)

    def attest(self, token: str, thumbprint: str) -> bytes:
        """The attestation object for a challenge."""
        area = tpmt_public(self.key)
        digest = hashlib.sha256(f"{token}.{thumbprint}".encode()).digest()
        info = tpms_attest(tpm_name(area), digest)
        chain = [self.works.issue(self.ak, tpm_names(self.name), AK_USAGE, NOT_CA)]
        statement = {
            "ver": "2.0", "alg": -7, "x5c": chain, "sig": signed(self.ak, info),
            "certInfo": info, "pubArea": area,
        }  # fmt: skip
        return attestation("tpm", statement)


def trusting(acme: ACMEHouse, directory: Directory, works: Works, kind: str = "tpm") -> Directory:
    attesting.add_anchors(
        acme.house.here.db, directory, kind, works.pem, by=BY, now=acme.clock()
    )  # fmt: skip
    return directory


def registered(acme: ACMEHouse, directory: Directory, serial_number: str = "") -> Client:
    """An account; bound to the manufacturer, or to one device, where that is required."""
    client = Client(acme.app, f"/acme/acme/{directory.name}")
    if not directory.requires_binding:
        assert client.register().status == 201
        return client
    here, maker = acme.house.here, acme.house.maker
    device = (
        devices.view_by_serial_number(here.db, maker.id, serial_number).device
        if serial_number
        else None
    )
    binding, secret = new_binding(
        here.db, vault(here.config), directory, product=None, device=device, is_reusable=False,
        lifetime=dt.timedelta(days=1), by=BY, now=acme.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    inner = bound(client, binding.id, secret)
    assert client.register(externalAccountBinding=inner).status == 201
    return client


def identifier(name: HardwareName | str) -> dict[str, str]:
    """As an order writes it."""
    if isinstance(name, str):
        return {"type": "dns", "value": name}
    is_permanent = isinstance(name, PermanentIdentifier)
    kind = "permanent-identifier" if is_permanent else "hardware-module"
    return {"type": kind, "value": str(name)}


def order(client: Client, *names: HardwareName | str, **more: Any) -> Answer:
    wanted = {"identifiers": [identifier(each) for each in names]} | more
    return client.post(client.url("new-order"), wanted)


def challenge_of(client: Client, made: Any) -> Any:
    """The one challenge of an order for hardware."""
    for each in made["authorizations"]:
        found = client.post(each).json
        if found["identifier"]["type"] != "dns":
            (challenge,) = found["challenges"]
            return challenge
    raise AssertionError("no hardware in this order")


def attested(client: Client, made: Any, device: Device) -> Any:
    """The challenge after the device's answer."""
    challenge = challenge_of(client, made)
    octets = device.attest(challenge["token"], client.thumbprint)
    answer = client.post(challenge["url"], {"attObj": b64(octets)})
    assert answer.status == 200, answer.body
    return answer.json


def ready(client: Client, device: Device, *names: HardwareName | str) -> Any:
    """An order whose hardware has attested itself."""
    made = order(client, *(names or (device.name,)))
    assert (made.status, made.json["status"]) == (201, "pending"), made.body
    assert attested(client, made.json, device)["status"] == "valid"
    found = client.post(made.headers["location"]).json
    assert found["status"] == "ready"
    return found


def request(key: Any, *names: HardwareName | str) -> str:
    """A CSR that names these."""
    general = [x509.DNSName(n) if isinstance(n, str) else other_name(n) for n in names]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if general:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    return b64(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))


def certified(client: Client, made: Any, key: Any, *names: HardwareName | str) -> x509.Certificate:
    """The leaf that a ready order brings."""
    done = client.post(made["finalize"], {"csr": request(key, *names)})
    assert done.status == 200, done.body
    chain = client.post(done.json["certificate"]).body
    return x509.load_pem_x509_certificates(chain)[0]


def alternative(leaf: x509.Certificate) -> list[x509.GeneralName]:
    return list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def failed(client: Client, made: Answer, device: Device, reason: str) -> None:
    """The challenge, the authorization and the order end, and the client is told why."""
    seen = attested(client, made.json, device)
    assert seen["status"] == "invalid"
    assert seen["error"]["type"] == "urn:ietf:params:acme:error:badAttestationStatement"
    assert reason in seen["error"]["detail"]
    assert client.post(made.json["authorizations"][0]).json["status"] == "invalid"
    assert client.post(made.headers["location"]).json["status"] == "invalid"
