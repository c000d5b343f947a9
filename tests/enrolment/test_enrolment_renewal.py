"""Renewal for life: who may, with what, how late; and keys that are made for a device."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certmint.enrolment import devices, domains, revocation
from certmint.enrolment.devices import claim, identify
from certmint.enrolment.issue import Step
from certmint.enrolment.logins import login
from certmint.enrolment.renewal import Asker, deliver_key
from certmint.model import der
from certmint.model.entities import Owner, RevocationReason, ValidationMethod
from certmint.model.errors import (
    BadInput,
    CertmintError,
    Conflict,
    NotFound,
    Refused,
    Unauthenticated,
    WrongState,
)
from certmint.model.evidence import OwnerLogin
from certmint.model.keys import KeyKind, public_key_of
from certmint.model.profile import SERVICE, Purpose
from certmint.model.request import Requester, RequesterKind
from certmint.model.serial import Serial
from certmint.model.states import DeviceEvent, DeviceState
from certmint.registry import reads

from .house import DAY, OPERATOR, House, Published, csr

HOUR = DAY / 24
PASSWORD = "correct horse battery"


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(CertmintError) as error:
        call()
    return error.value.code


def test_a_renewal(each_house: House) -> None:
    """The new certificate carries the device's names and its new key, and replaces the old one."""
    house, old = each_house, each_house.view("R1").service
    assert old is not None
    key = ec.generate_private_key(ec.SECP256R1())
    enrolled = house.renew("R1", csr("r1.dev.example.com", key=key))
    leaf = x509.load_der_x509_certificate(enrolled.certificate.der)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["r1.dev.example.com", "router.example.com"]
    assert leaf.public_key() == key.public_key()
    assert house.read(reads.certificate, old.serial).successor == enrolled.certificate.serial
    assert house.view("R1").device.state is DeviceState.ACTIVE
    window = enrolled.renewal
    assert leaf.not_valid_before_utc < window.start < window.end < leaf.not_valid_after_utc
    chain = x509.load_pem_x509_certificates(enrolled.chain.encode())
    assert len(chain) == 2
    leaf.verify_directly_issued_by(chain[0])
    chain[0].verify_directly_issued_by(chain[1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-384", "RSA-2048"],
)
def test_other_kinds_of_keys(house: House, make: Callable[[], Any]) -> None:
    """A device may bring what its hardware makes."""
    key = make()
    leaf = x509.load_der_x509_certificate(house.renew("R1", csr(key=key)).certificate.der)
    assert leaf.public_key() == key.public_key()


def test_asking_again_within_an_hour(house: House) -> None:
    """A lost answer costs nothing: the same key gets the same certificate, and no second one."""
    request = csr()
    first = house.renew("R1", request).certificate
    house.clock.now += HOUR * 0.9
    assert house.renew("R1", request).certificate.serial == first.serial
    assert len(house.held("R1")) == 3
    house.clock.now += HOUR
    later = house.renew("R1", request).certificate
    assert later.serial != first.serial
    assert later.key_fingerprint == first.key_fingerprint


def test_asking_again_is_weighed_again(house: House) -> None:
    """Who was suspended meanwhile does not even get the certificate of a minute ago."""
    request = csr()
    house.renew("R1", request)
    move(house, DeviceEvent.SUSPENDED)
    assert refused(lambda: house.renew("R1", request)) == "device-state"


def test_a_revoked_certificate_is_not_given_again(house: House) -> None:
    """Asking with the key of a certificate that was revoked gets another certificate."""
    request = csr()
    first = house.renew("R1", request).certificate
    revoke(house, first.serial)
    assert house.renew("R1", request).certificate.serial != first.serial


def revoke(house: House, serial: str) -> None:
    revocation.revoke(
        house.db, house.keys, house.tenant.id, Serial(serial), RevocationReason.SUPERSEDED,
        by=OPERATOR, now=house.clock(),
    )  # fmt: skip


def move(house: House, event: DeviceEvent) -> None:
    devices.move(house.db, house.tenant.id, "R1", event, by=OPERATOR, now=house.clock())


def test_a_revoked_identity_renews_nothing(house: House) -> None:
    """From the moment of the revocation, whichever way the device asks."""
    asker = house.asker("R1")
    revoke(house, house.latest("R1", Purpose.IDENTITY).serial)
    assert refused(lambda: house.renew("R1", csr(), asker)) == "evidence-revoked"
    assert refused(lambda: deliver(house, "R1", asker)) == "identity-unknown"


def test_suspended_and_resumed(house: House) -> None:
    """A suspended device gets nothing until it is resumed."""
    move(house, DeviceEvent.SUSPENDED)
    assert refused(lambda: house.renew("R1", csr())) == "device-state"
    move(house, DeviceEvent.RESUMED)
    house.renew("R1", csr())


def test_retired_is_for_good(house: House) -> None:
    """A retired device gets nothing, and cannot be resumed."""
    asker = house.asker("R1")
    retire(house)
    assert refused(lambda: house.renew("R1", csr(), asker)) == "device-state"
    with pytest.raises(WrongState):
        move(house, DeviceEvent.RESUMED)


def retire(house: House) -> None:
    revocation.retire_device(
        house.db, house.keys, house.tenant.id, "R1", by=OPERATOR, now=house.clock()
    )


@pytest.mark.parametrize("way", ["retired", "suspended"])
def test_out_of_service_while_the_key_store_works(each_house: House, way: str) -> None:
    """A certificate that was being signed when its device went out of service never leaves."""
    house = each_house

    def go_out_of_service(step: Step) -> None:
        if step is Step.SIGNED:
            retire(house) if way == "retired" else move(house, DeviceEvent.SUSPENDED)

    house.reached = go_out_of_service
    before = {each.serial for each in house.held("R1")}
    assert refused(lambda: house.renew("R1", csr())) == "wrong-state"
    assert {each.serial for each in house.held("R1")} <= before


def test_names_of_another_device(house: House) -> None:
    """A CSR may ask for less than the device's names, and for nothing else."""
    house.renew("R1", csr("router.example.com"))
    code = refused(lambda: house.renew("R1", csr("r2.dev.example.com")))
    assert code == "csr-asks-more"


def test_another_device_s_certificate(house: House) -> None:
    """An identity speaks for its own device only."""
    other = house.asker("R2")
    assert refused(lambda: house.renew("R1", csr(), other)) == "evidence-other-device"


@pytest.mark.parametrize(
    ("late", "code"), [(SERVICE.grace - DAY, None), (SERVICE.grace + DAY, "evidence-expired")]
)
def test_an_expired_service_certificate(
    house: House, owner: Owner, late: dt.timedelta, code: str | None
) -> None:
    """With the owner's login it renews a router from the shelf, for as long as the grace lasts."""
    expired = house.asker("R1", Purpose.SERVICE)
    service = house.view("R1").service
    assert service is not None
    refresh_domain(house, service.not_after + late)
    both = Asker(
        expired.requester, (*expired.evidence, *by_owner(house, "grace", PASSWORD).evidence)
    )
    if code is None:
        assert refused(lambda: house.renew("R1", csr(), expired)) == "evidence-not-enough"
        house.renew("R1", csr(), both)
    else:
        assert refused(lambda: house.renew("R1", csr(), both)) == code


def refresh_domain(house: House, until: dt.datetime) -> None:
    """Time passes, and the maker keeps its proof of control fresh."""
    house.clock.now = until
    attempt = domains.begin_validation(
        house.db, house.tenant, "example.com", ValidationMethod.DNS_TXT,
        by=OPERATOR, now=house.clock(), random_bytes=house.random_bytes,
    )  # fmt: skip
    resolver = Published(**{attempt.record_name: (attempt.random_value,)})
    domains.verify_domain(
        house.db, house.tenant, attempt.id, domains.World(resolver), by=OPERATOR, now=house.clock()
    )


def test_a_lost_answer_to_a_service_certificate(house: House) -> None:
    """The certificate was replaced, but the device never saw it: the same key asks again."""
    asker, request = house.asker("R1", Purpose.SERVICE), csr()
    first = house.renew("R1", request, asker).certificate
    house.clock.now += HOUR / 2
    assert house.renew("R1", request, asker).certificate.serial == first.serial


def test_a_superseded_service_certificate(house: House) -> None:
    """A certificate that was replaced renews nothing, and with another key it is a clone's."""
    asker = house.asker("R1", Purpose.SERVICE)
    house.renew("R1", csr(), asker)
    house.clock.now += 2 * HOUR
    assert refused(lambda: house.renew("R1", csr(), asker)) == "device-cloned"
    assert house.view("R1").device.suspended_for == "cloned"


@pytest.fixture
def owner(house: House) -> Owner:
    """Grace owns R1."""
    made = devices.add_owner(
        house.db, house.tenant, "grace", PASSWORD,
        by=OPERATOR, now=house.clock(), random_bytes=house.random_bytes,
    )  # fmt: skip
    claim(house.db, house.tenant, "R1", "grace", by=OPERATOR, now=house.clock())
    return made


def by_owner(house: House, username: str, password: str) -> Asker:
    known = login(house.db, "example", username, password, "192.0.2.7", house.clock())
    requester = Requester(RequesterKind.OWNER, known.id)
    return Asker(requester, (OwnerLogin(known.id, house.clock.now),))


def test_the_owner_s_login(house: House, owner: Owner) -> None:
    """It buys a certificate for the owner's device, and for no other."""
    asker = by_owner(house, "grace", PASSWORD)
    house.renew("R1", csr(), asker)
    assert refused(lambda: house.renew("R2", csr(), asker)) == "evidence-not-owner"


@pytest.mark.parametrize(
    ("slug", "username", "password"),
    [
        ("example", "grace", "correct horse batterx"),
        ("example", "nobody", PASSWORD),
        ("nobody", "grace", PASSWORD),
        ("example", "grace", ""),
    ],
)
def test_a_wrong_login(house: House, owner: Owner, slug: str, username: str, password: str) -> None:
    """It says the same, whatever of it was wrong."""
    with pytest.raises(Unauthenticated) as refusal:
        login(house.db, slug, username, password, "192.0.2.7", house.clock())
    assert (refusal.value.code, str(refusal.value)) == (
        "login-failed",
        "the user name or the password is wrong",
    )


def test_a_device_has_one_owner(house: House, owner: Owner) -> None:
    """Claiming what is claimed, unknown or by somebody unknown is refused."""

    def claims(device: str, username: str) -> Callable[[], object]:
        return lambda: claim(
            house.db, house.tenant, device, username, by=OPERATOR, now=house.clock()
        )

    assert refused(claims("R1", "grace")) == "device-claimed"
    assert refused(claims("R9", "grace")) == "device-unknown"
    assert refused(claims("R2", "nobody")) == "owner-unknown"


@pytest.mark.parametrize(("name", "password"), [("a:b", PASSWORD), ("", PASSWORD), ("a", "short")])
def test_a_bad_account(house: House, name: str, password: str) -> None:
    """HTTP's basic scheme cannot carry a colon in a name; short passwords are guessed."""
    with pytest.raises(BadInput) as refusal:
        devices.add_owner(
            house.db, house.tenant, name, password,
            by=OPERATOR, now=house.clock(), random_bytes=house.random_bytes,
        )  # fmt: skip
    assert refusal.value.code == "owner-syntax"


def deliver(
    house: House, name: str, asker: Asker | None = None, kind: KeyKind = KeyKind.P256
) -> Any:
    return deliver_key(
        house.db, house.gate, house.view(name), kind, asker or house.asker(name), house.clock(),
        house.random_bytes,
    )  # fmt: skip


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.P384, KeyKind.RSA2048])
def test_a_delivered_key(house: House, openssl: Any, kind: KeyKind) -> None:
    """Only the device's identity key opens it, and it is the key of the certificate."""
    enrolled = deliver(house, "R1", kind=kind)
    folder = house.folder
    (folder / "key.cms").write_bytes(enrolled.encrypted_key)

    def opened_by(name: str) -> Any:
        own, out = house.home / "stock" / name, folder / f"{name}.der"
        return openssl(
            "cms", "-decrypt", "-inform", "DER", "-in", folder / "key.cms",
            "-inkey", own / "key.pem", "-recip", own / "identity.pem", "-out", out,
        ), out  # fmt: skip

    done, out = opened_by("R1")
    assert done.returncode == 0, done.stderr
    private = serialization.load_der_private_key(out.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    key = public_key_of(private)
    assert key.kind is kind
    assert key.fingerprint == enrolled.certificate.key_fingerprint
    assert opened_by("R2")[0].returncode != 0
    assert out.read_bytes() not in (house.folder / "registry.db").read_bytes()


def test_a_public_profile_never_gets_a_key_of_ours(house: House) -> None:
    """It is refused before a key or an intent is on record (BR 6.1.1.3)."""
    assert house.mint(house.submit("P1", product="public")) == []
    before = house.read(reads.count_certificates)
    with pytest.raises(Refused) as refusal:
        deliver(house, "P1")
    assert refusal.value.code == "key-origin"
    assert house.read(reads.count_certificates) == before
    assert len(house.held("P1")) == 1


def test_a_delivered_key_is_not_certified_for_anybody_else(house: House) -> None:
    """Keys that were made here are remembered: no other device can bring one as its own."""
    enrolled = deliver(house, "R1")
    with house.db.read() as tx:
        known = reads.key_records(tx, [enrolled.certificate.key_fingerprint])
    assert known[enrolled.certificate.key_fingerprint].device_id == house.view("R1").device.id


def test_who_showed_a_certificate(house: House) -> None:
    """The registry's own bytes identify a device; a changed or a foreign certificate does not."""
    mine = house.latest("R1", Purpose.IDENTITY)
    assert identify(house.db, mine.der).serial == mine.serial
    for stranger in (
        mine.der[:-1] + bytes([mine.der[-1] ^ 1]),
        b"",
        b"no certificate",
        twice(mine.der),
    ):
        with pytest.raises(Unauthenticated) as refusal:
            identify(house.db, stranger)
        assert refusal.value.code == "certificate-unknown"


def twice(certificate: bytes) -> bytes:
    """The same with each of its extensions twice, which X.509 forbids and parsers must survive."""
    tbs, *rest = der.children(certificate)
    *fields, extensions = der.children(tbs)
    (listed,) = der.children(extensions)
    doubled = der.explicit(3, der.sequence(*der.children(listed), *der.children(listed)))
    return der.sequence(der.sequence(*fields, doubled), *rest)


def test_unknown_devices(house: House) -> None:
    """Neither an unknown id nor an unknown serial number is anything but not found."""
    for call in (
        lambda: devices.view(house.db, house.tenant.id, "dev_unknown"),
        lambda: house.view("R9"),
        lambda: devices.move(
            house.db, house.tenant.id, "R9", DeviceEvent.SUSPENDED, by=OPERATOR, now=house.clock()
        ),
    ):
        with pytest.raises(NotFound) as refusal:
            call()
        assert refusal.value.code == "device-unknown"


def test_a_stolen_state(house: House) -> None:
    """Of two people who suspend one device at once, the second learns that it was moved."""
    move(house, DeviceEvent.SUSPENDED)
    with pytest.raises((WrongState, Conflict)) as refusal:
        move(house, DeviceEvent.SUSPENDED)
    assert refusal.value.code == "wrong-state"
