"""device-attest-01 at the door: what hardware may say, and what a certificate then tells of it."""

import base64
import datetime as dt
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from acme_client import b64
from acme_directories import opened
from acme_hardware import (
    ATTEST,
    OID,
    SN1,
    Device,
    Works,
    alternative,
    attested,
    certified,
    challenge_of,
    failed,
    identifier,
    order,
    ready,
    registered,
    request,
    trusting,
)
from backstage import BY, ACMEHouse, refused
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from tests.attestation.makers import (
    AK_USAGE,
    NOT_CA,
    android_description,
    attestation,
    authorization,
    ec_key,
    other_name,
    raw,
    signed,
    tlv,
    tpm_names,
)
from tests.attestation.swtpm import SoftwareTPM, software_tpm

from certmint.attestation import android, apple, step, structures
from certmint.enrolment import attesting as inventory
from certmint.enrolment import devices
from certmint.enrolment.acme import attesting
from certmint.model import der
from certmint.model.acme import (
    DEFAULT_CHALLENGES,
    MIN_AUTO_RENEWAL,
    Directory,
    RenewalTerms,
)
from certmint.model.errors import BadInput, Conflict, NotFound
from certmint.model.hardware import HardwareModuleName, HardwareName, PermanentIdentifier
from certmint.model.states import DeviceEvent
from certmint.registry import reads

NUMBER = 0xF00F14  # of a YubiKey
ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign"


@pytest.fixture
def works(acme: ACMEHouse) -> Works:
    return Works(acme.clock())


@pytest.fixture
def directory(acme: ACMEHouse, works: Works) -> Directory:
    """One that serves hardware, and trusts the maker's TPMs."""
    return trusting(acme, opened(acme, challenges=(*DEFAULT_CHALLENGES, ATTEST)), works)


@pytest.mark.parametrize("name", [SN1, PermanentIdentifier("SN 9"), HardwareModuleName(OID, b"7")])
def test_a_device_is_certified_by_what_its_hardware_says(
    acme: ACMEHouse, works: Works, directory: Directory, name: HardwareName
) -> None:
    """The certificate carries the name that the hardware attested, octet for octet, and its key."""
    client, device = registered(acme, directory), Device(works, name)
    made = order(client, name)
    assert made.json["identifiers"] == [identifier(name)]
    challenge = challenge_of(client, made.json)
    assert set(challenge) == {"type", "url", "status", "token"}
    assert (challenge["type"], challenge["status"]) == ("device-attest-01", "pending")

    leaf = certified(client, ready(client, device), device.key, name)

    assert alternative(leaf) == [other_name(name)]
    assert leaf.public_key() == device.key.public_key()


def slot(works: Works, key: Any, token: str, proof: bytes) -> tuple[str, object]:
    serial = raw(step.SERIAL_NUMBER, tlv(b"\x02", NUMBER.to_bytes(4, "big")))
    pieces = (raw(step.FIRMWARE, b"\x05\x04\x03"), serial, raw(step.POLICIES, b"\x02\x01"))
    return "step", {"alg": -7, "sig": signed(key, proof), "x5c": [works.issue(key, *pieces)]}


def enclave(works: Works, key: Any, token: str, proof: bytes) -> tuple[str, object]:
    nonce = raw(apple.NONCE, hashlib.sha256(token.encode()).digest())
    leaf = works.issue(key, nonce, raw(apple.SERIAL_NUMBER, str(NUMBER).encode()))
    return "apple", {"x5c": [leaf]}


def keystore(works: Works, key: Any, token: str, proof: bytes) -> tuple[str, object]:
    signs, generated = (tlv(b"\x02", value.to_bytes(3, "big")) for value in (2, 0))
    boot = tlv(b"\x04", bytes(32)) + b"\x01\x01\xff" + b"\x0a\x01\x00" + tlv(b"\x04", b"")
    described = android_description(
        proof,
        (
            authorization(1, tlv(b"\x31", signs)),
            authorization(702, generated),
            authorization(704, tlv(b"\x30", boot)),
            authorization(713, tlv(b"\x04", str(NUMBER).encode())),
        ),
    )
    leaf = works.issue(key, raw(android.KEY_DESCRIPTION, described))
    return "android-key", {"alg": -7, "sig": signed(key, proof), "x5c": [leaf]}


@pytest.mark.parametrize("state", [slot, enclave, keystore])
def test_other_hardware_has_its_own_format(
    acme: ACMEHouse, works: Works, directory: Directory, state: Callable[..., tuple[str, object]]
) -> None:
    """A YubiKey, an iPhone and an Android phone; the roots of TPMs do not vouch for them."""
    client, key, name = registered(acme, directory), ec_key(), PermanentIdentifier(str(NUMBER))

    def answered() -> Any:
        made = order(client, name).json
        challenge = challenge_of(client, made)
        token = challenge["token"]
        kind, statement = state(works, key, token, f"{token}.{client.thumbprint}".encode())
        octets = attestation(kind, statement)
        return kind, made, client.post(challenge["url"], {"attObj": b64(octets)}).json

    kind, _, seen = answered()
    assert seen["status"] == "invalid"
    trusting(acme, directory, works, kind)
    _, made, seen = answered()
    assert seen["status"] == "valid", seen
    assert alternative(certified(client, made, key, name)) == [other_name(name)]


def test_another_key_is_not_certified(acme: ACMEHouse, works: Works, directory: Directory) -> None:
    """Three-way binding: attested key, CSR's key, certified key. The order stays ready."""
    client, device = registered(acme, directory), Device(works)
    made = ready(client, device)
    other = client.post(made["finalize"], {"csr": request(ec_key(), device.name)})
    assert "not the one that was attested" in refused(other, "badCSR", 400)["detail"]
    leaf = certified(client, made, device.key, device.name)
    assert leaf.public_key() == device.key.public_key()


def test_a_statement_counts_for_its_challenge_alone(
    acme: ACMEHouse, works: Works, directory: Directory
) -> None:
    """Replayed for another challenge, or by another account, it is nothing."""
    client, device = registered(acme, directory), Device(works)
    spent = challenge_of(client, first := order(client, SN1).json)
    octets = device.attest(spent["token"], client.thumbprint)
    assert client.post(spent["url"], {"attObj": b64(octets)}).json["status"] == "valid"
    again = order(client, SN1)
    assert again.json["authorizations"] != first["authorizations"]  # a new key, a new statement
    url = challenge_of(client, again.json)["url"]
    seen = client.post(url, {"attObj": b64(octets)}).json
    assert "another challenge" in seen["error"]["detail"]

    thief = registered(acme, directory)
    theirs = challenge_of(thief, order(thief, SN1).json)
    copied = device.attest(theirs["token"], client.thumbprint)
    seen = thief.post(theirs["url"], {"attObj": b64(copied)}).json
    assert "another challenge" in seen["error"]["detail"]


def test_hardware_speaks_for_itself_alone(
    acme: ACMEHouse, works: Works, directory: Directory
) -> None:
    """A TPM with another serial number than the order's, and one with another assigner."""
    client = registered(acme, directory)
    for name in (PermanentIdentifier("SN1234", OID), PermanentIdentifier("SN12345")):
        failed(client, order(client, SN1), Device(works, name), "does not attest that it is")


def test_hardware_of_an_unknown_maker_is_not_trusted(acme: ACMEHouse, directory: Directory) -> None:
    """A CA that calls itself the same, with a key of its own."""
    client, stranger = registered(acme, directory), Works(acme.clock())
    failed(client, order(client, SN1), Device(stranger), "not lead to a manufacturer")


@pytest.mark.parametrize("octets", [b"", b"\xa0", b"\x00" * 100, os.urandom(1000)])
def test_rubbish_is_no_statement(acme: ACMEHouse, directory: Directory, octets: bytes) -> None:
    """What cannot be read fails the challenge, with the reason."""
    client = registered(acme, directory)
    challenge = challenge_of(client, order(client, SN1).json)
    answer = client.post(challenge["url"], {"attObj": b64(octets)})
    if octets:
        assert answer.json["status"] == "invalid"
        assert answer.json["error"]["type"].endswith(":badAttestationStatement")
    again = client.post(challenge["url"], {"attObj": b64(octets)})
    assert again.json.get("status") != "valid"


def test_an_answer_without_a_statement_changes_nothing(
    acme: ACMEHouse, works: Works, directory: Directory
) -> None:
    """Neither `{}` nor what is no base64url; the device may still answer."""
    client, device = registered(acme, directory), Device(works)
    made = order(client, SN1).json
    challenge = challenge_of(client, made)
    for payload in ({}, {"attObj": 7}, {"attObj": "a=b"}):
        refused(client.post(challenge["url"], payload), "malformed", 400)
    assert attested(client, made, device)["status"] == "valid"


def test_names_and_hardware_in_one_order(acme: ACMEHouse, works: Works) -> None:
    """The maker's domain is ready at once; the device may tell who it is, or keep it private."""
    where = opened(acme, requires_binding=True, challenges=(ATTEST,))
    client, device = registered(acme, trusting(acme, where, works)), Device(works)
    made = ready(client, device, "r1.router.lan", SN1)
    leaf = certified(client, made, device.key, "r1.router.lan", SN1)
    assert alternative(leaf) == [x509.DNSName("r1.router.lan"), other_name(SN1)]

    made = ready(client, other := Device(works), "r1.router.lan", SN1)
    refused(client.post(made["finalize"], {"csr": request(other.key, SN1)}), "badCSR", 400)
    leaf = certified(client, made, other.key, "r1.router.lan")
    assert alternative(leaf) == [x509.DNSName("r1.router.lan")]


def test_a_csr_names_the_order_s_hardware_or_none(
    acme: ACMEHouse, works: Works, directory: Directory
) -> None:
    """Other hardware is refused, and so is a certificate that would name nothing."""
    client, device = registered(acme, directory), Device(works)
    made = ready(client, device)
    for names in ((PermanentIdentifier("SN12345"),), (SN1, PermanentIdentifier("X")), ()):
        refused(client.post(made["finalize"], {"csr": request(device.key, *names)}), "badCSR", 400)
    assert alternative(certified(client, made, device.key, SN1)) == [other_name(SN1)]


def test_an_account_of_one_device_speaks_for_its_hardware(acme: ACMEHouse, works: Works) -> None:
    """The serial number in the inventory, unless the registry expects certain hardware."""
    where = trusting(acme, opened(acme, requires_binding=True, challenges=(ATTEST,)), works)
    own, other = (Device(works, PermanentIdentifier(each, OID)) for each in ("R3", "R4"))
    client = registered(acme, where, "R3")
    failed(client, order(client, other.name), other, "not the hardware of the device")
    leaf = certified(client, ready(client, own, "R3.router.lan".lower(), own.name), own.key,
                     "r3.router.lan")  # fmt: skip
    found = acme.house.here.db
    with found.read() as tx:
        row = reads.certificate(tx, acme.house.maker.id, f"{leaf.serial_number:040x}")
    assert row is not None
    assert (
        row.device_id == devices.view_by_serial_number(found, acme.house.maker.id, "R3").device.id
    )

    text = f"permanent-identifier:{other.name}"
    inventory.expect(found, acme.house.maker, "R3", text, by=BY, now=acme.clock())
    failed(client, order(client, own.name), own, "not the hardware of the device")
    assert ready(client, other)["status"] == "ready"
    stranger = registered(acme, where, "R4")
    failed(stranger, order(stranger, other.name), other, "not the hardware of the device")


def test_the_hardware_of_a_device_that_is_gone_gets_nothing(
    acme: ACMEHouse, works: Works, directory: Directory
) -> None:
    """It attests well, and the inventory knows better: its device was suspended."""
    here, maker, name = acme.house.here, acme.house.maker, PermanentIdentifier("R6", OID)
    by = {"by": BY, "now": acme.clock()}
    inventory.expect(here.db, maker, "R6", f"permanent-identifier:{name}", **by)
    client, device = registered(acme, directory), Device(works, name)
    assert ready(client, device)["status"] == "ready"
    devices.move(here.db, maker.id, "R6", DeviceEvent.SUSPENDED, **by)
    failed(client, order(client, name), device, "gets no certificates any more")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("permanent-identifier", ""), ("permanent-identifier", "/1.2.3"),
        ("permanent-identifier", "SN/"), ("permanent-identifier", "SN/x"),
        ("permanent-identifier", "a/b/1.2.3"), ("permanent-identifier", "SN\n"),
        ("permanent-identifier", "S" * 257), ("permanent-identifier", "SN/1.02.3"),
        ("hardware-module", "SN"), ("hardware-module", "SN/"), ("hardware-module", "/1.2.3"),
    ],
)  # fmt: skip
def test_an_identifier_outside_the_grammar_is_malformed(
    acme: ACMEHouse, directory: Directory, kind: str, value: str
) -> None:
    """The draft's ABNF; nothing is mended."""
    wanted = {"identifiers": [{"type": kind, "value": value}]}
    client = registered(acme, directory)
    refused(client.post(client.url("new-order"), wanted), "malformed", 400)


def test_what_hardware_cannot_have(acme: ACMEHouse, works: Works, directory: Directory) -> None:
    """No authorization before an order, no self-renewal, nothing where it is not offered."""
    client = registered(acme, directory)
    wanted = {"identifier": identifier(SN1)}
    refused(client.post(client.url("new-authz"), wanted), "malformed", 400)
    refused(order(registered(acme, opened(acme)), SN1), "rejectedIdentifier", 403)
    names = client.order("www.example.com").json["authorizations"]
    offered = {each["type"] for each in client.post(names[0]).json["challenges"]}
    assert offered == {"http-01", "dns-01", "tls-alpn-01"}

    terms = RenewalTerms(MIN_AUTO_RENEWAL, dt.timedelta(days=1))
    renewing = registered(acme, opened(acme, challenges=(ATTEST,), auto_renewal=terms))
    ends = (acme.clock() + dt.timedelta(hours=2)).isoformat()
    wish = {"end-date": ends, "lifetime": 3600}
    refused(order(renewing, SN1, **{"auto-renewal": wish}), "malformed", 400)


def test_an_operator_says_which_hardware_is_trusted(
    acme: ACMEHouse, works: Works, directory: Directory
) -> None:
    """CA certificates, each once; one that is removed vouches for nothing more; all is audited."""
    db = acme.house.here.db
    by = {"by": BY, "now": acme.clock()}
    with pytest.raises(Conflict):
        attesting.add_anchors(db, directory, "tpm", works.pem, **by)
    leaf = x509.load_der_x509_certificate(works.issue(ec_key(), NOT_CA))
    for kind, pem in (
        ("idevid", works.pem), ("none", works.pem), ("tpm", b"x"),
        ("tpm", leaf.public_bytes(serialization.Encoding.PEM)),
    ):  # fmt: skip
        with pytest.raises(BadInput, match="CA certificates"):
            attesting.add_anchors(db, directory, kind, pem, **by)
    with db.read() as tx:
        (known,) = reads.acme_anchors(tx, directory)
    attesting.remove_anchor(db, directory, known.fingerprint, **by)
    with pytest.raises(NotFound):
        attesting.remove_anchor(db, directory, known.fingerprint, **by)
    client = registered(acme, directory)
    failed(client, order(client, SN1), Device(works), "not lead to a manufacturer")
    with db.read() as tx:
        events = reads.audit_events(tx, acme.house.maker.id, limit=10_000)
    actions = [each.action for each in events if each.subject == directory.id]
    assert actions.count("acme-anchor.added") == actions.count("acme-anchor.removed") == 1


# The same with a TPM that we did not write


@dataclass
class RealDevice(Device):
    """A device with a software TPM; the AK has a certificate of the TPM's maker."""

    tpm: SoftwareTPM | None = None

    def attest(self, token: str, thumbprint: str) -> bytes:
        assert self.tpm is not None
        digest = hashlib.sha256(f"{token}.{thumbprint}".encode()).digest()
        info, signature = self.tpm.certify(digest)
        ak = structures.public(self.tpm.public("0x81010002")).key
        chain = [self.works.issue(ak, tpm_names(self.name), AK_USAGE, NOT_CA)]
        statement = {
            "ver": "2.0", "alg": -7, "x5c": chain, "sig": signature, "certInfo": info,
            "pubArea": self.tpm.public("0x81010003"),
        }  # fmt: skip
        return attestation("tpm", statement)

    def request(self, name: HardwareName) -> str:
        """A CSR that the TPM signs."""
        assert self.tpm is not None
        template = x509.load_der_x509_csr(unpadded(request(ec_key(), name)))
        public = structures.public(self.tpm.public("0x81010003")).key
        body = template.tbs_certrequest_bytes
        old, new = (spki(key) for key in (template.public_key(), public))
        assert len(old) == len(new)
        body = body.replace(old, new)
        (self.tpm.folder / "body").write_bytes(body)
        self.tpm.tool(
            "sign", "-c", "0x81010003", "-g", "sha256", "-s", "ecdsa", "-f", "plain",
            "-o", "body.sig", "body",
        )  # fmt: skip
        signature = (self.tpm.folder / "body.sig").read_bytes()
        algorithm = bytes.fromhex("300a06082a8648ce3d040302")
        return b64(der.sequence(body, algorithm, der.tlv(0x03, b"\x00" + signature)))


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def spki(key: Any) -> bytes:
    return bytes(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


@pytest.fixture(scope="module")
def tpm(
    require: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SoftwareTPM]:
    """A TPM with EK, AK and a device key on P-256."""
    require("tpm2", package="tpm2-tools")
    program = require("swtpm", package="swtpm")
    with software_tpm(program, tmp_path_factory.mktemp("tpm")) as running:
        running.make_ek("ecc")
        running.make_ak("ecc", "ecdsa")
        running.make_key("ecc256", ATTRIBUTES)
        yield running


@pytest.mark.slow
def test_a_tpm_gets_its_certificate(
    acme: ACMEHouse, works: Works, directory: Directory, tpm: SoftwareTPM
) -> None:
    """The whole flow: the key never leaves the TPM, which signs the CSR as well."""
    client, device = registered(acme, directory), RealDevice(works, tpm=tpm)
    made = ready(client, device)
    refused(client.post(made["finalize"], {"csr": request(ec_key(), SN1)}), "badCSR", 400)
    done = client.post(made["finalize"], {"csr": device.request(SN1)})
    assert done.json["status"] == "valid", done.body
    chain = client.post(done.json["certificate"]).body
    leaf = x509.load_pem_x509_certificates(chain)[0]
    assert alternative(leaf) == [other_name(SN1)]
    assert spki(leaf.public_key()) == structures.public(tpm.public("0x81010003")).spki


@pytest.mark.slow
def test_what_a_tpm_is_refused(
    acme: ACMEHouse, works: Works, directory: Directory, tpm: SoftwareTPM
) -> None:
    """A statement for another token, of another serial number, and by an unknown maker's AK."""
    client, device = registered(acme, directory), RealDevice(works, tpm=tpm)
    first = challenge_of(client, order(client, SN1).json)
    made = order(client, PermanentIdentifier("SN9", OID))
    octets = device.attest(first["token"], client.thumbprint)
    seen = client.post(challenge_of(client, made.json)["url"], {"attObj": b64(octets)}).json
    assert "another challenge" in seen["error"]["detail"]
    failed(client, order(client, PermanentIdentifier("SN8", OID)), device, "does not attest")
    stranger = RealDevice(Works(acme.clock()), tpm=tpm)
    failed(client, order(client, SN1), stranger, "not lead to a manufacturer")
