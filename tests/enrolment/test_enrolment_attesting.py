"""Hardware as evidence: nonces that serve once, roots of the product, hardware that is expected."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.attestation.makers import (
    AK_USAGE,
    NOT_CA,
    Maker,
    attestation,
    ec_key,
    signed,
    tpm_name,
    tpm_names,
    tpms_attest,
    tpmt_public,
)
from tests.attestation.swtpm import software_tpm

from certmint.attestation import structures
from certmint.attestation.attested import Attested, Format, Serial, SerialKind
from certmint.enrolment import asking, attesting
from certmint.enrolment.asking import Shown
from certmint.enrolment.attesting import Activation, Statement
from certmint.model.entities import Certificate
from certmint.model.errors import CertmintError
from certmint.model.hardware import HardwareModuleName, PermanentIdentifier
from certmint.model.keys import public_key_of
from certmint.model.profile import Purpose

from .house import OPERATOR, House, csr

SECRET_KEY = b"the key of label secrets, for tests"
NAME = PermanentIdentifier("SN12345", "1.3.6.1.4.1.99999.1")
EXPECTED = "permanent-identifier:SN12345/1.3.6.1.4.1.99999.1"
AK, KEY, ROOT = ec_key(), ec_key(), Maker("TPM AK Root")
SOURCE = "192.0.2.1"


def answer(call: Callable[[], object]) -> str:
    try:
        call()
    except CertmintError as refusal:
        return refusal.code
    return "ok"


def trust(house: House, kind: str, maker: Maker = ROOT, product: str = "router") -> None:
    found = house.view("R1").product
    assert found.name == product
    pem = x509.load_der_x509_certificate(maker.certificate).public_bytes(serialization.Encoding.PEM)
    attesting.trust(house.db, found, kind, pem, by=OPERATOR, now=house.clock())


def expect(house: House, identifier: str = EXPECTED, serial: str = "R1") -> str:
    return answer(
        lambda: attesting.expect(
            house.db, house.tenant, serial, identifier, by=OPERATOR, now=house.clock()
        )
    )


@pytest.fixture
def ready(house: House) -> House:
    """The product trusts a maker of TPMs, and R1 is expected to have one of them."""
    trust(house, "tpm")
    assert expect(house) == "ok"
    return house


def nonce(house: House, product: str = "router") -> str:
    return attesting.new_nonce(
        house.db, "example", product, SECRET_KEY, house.clock(), house.random_bytes
    )[0]


def statement(challenge: str, key: ec.EllipticCurvePrivateKey = KEY, **changes: Any) -> Statement:
    """What a TPM on paper says about `key`."""
    area = tpmt_public(key)
    info = tpms_attest(tpm_name(area), hashlib.sha256(challenge.encode()).digest())
    said = {
        "ver": "2.0", "alg": -7, "x5c": [ROOT.issue(AK, tpm_names(NAME), AK_USAGE, NOT_CA)],
        "sig": signed(AK, info), "certInfo": info, "pubArea": area,
    }  # fmt: skip
    made = Statement("example", "router", challenge, attestation("tpm", said))
    return dataclasses.replace(made, **changes)


def enrol(house: House, said: Statement, key: Any = KEY) -> Certificate:
    """A device that has nothing but its hardware."""
    shown = Shown(statement=said, source=SOURCE)
    caller = asking.admit(house.db, shown, SECRET_KEY, house.clock())
    target = asking.target_of(house.db, caller)
    return house.renew(target.device.serial_number, csr(key=key), caller.asker).certificate


def test_hardware_buys_a_certificate_for_its_key(ready: House) -> None:
    """The TPM says which device it is; the certificate is for the key that it speaks of."""
    made = enrol(ready, statement(nonce(ready)))
    assert made.key_fingerprint == public_key_of(KEY).fingerprint
    assert made.device_id == ready.view("R1").device.id


def test_the_attested_key_is_the_certified_key(ready: House) -> None:
    """Whoever has a good statement cannot have another key certified with it."""
    assert answer(lambda: enrol(ready, statement(nonce(ready)), ec_key())) == "evidence-attestation"


def test_a_nonce_serves_once(ready: House) -> None:
    """A statement that was overheard is worth nothing, even for the same key."""
    said = statement(nonce(ready))
    enrol(ready, said)
    assert answer(lambda: enrol(ready, said)) == "attestation-nonce"


def test_a_nonce_is_young_and_ours(ready: House) -> None:
    """Old ones, altered ones, those of other products and of other keys are refused."""
    made = nonce(ready)
    altered = ("A" if made[0] != "A" else "B") + made[1:]
    others = nonce(ready, "public")
    foreign = attesting.new_nonce(
        ready.db, "example", "router", b"another key", ready.clock(), ready.random_bytes
    )[0]
    for each in (altered, others, foreign, "", "x", "é" * 20, made[:-4]):
        assert answer(lambda each=each: enrol(ready, statement(each))) == "attestation-nonce"
    ready.clock.now += attesting.LIFE
    assert answer(lambda: enrol(ready, statement(made))) == "attestation-nonce"


def test_a_statement_over_another_nonce(ready: House) -> None:
    """It is a good statement about the wrong challenge."""
    said = statement(nonce(ready))
    swapped = dataclasses.replace(said, nonce=nonce(ready))
    assert answer(lambda: enrol(ready, swapped)) == "attestation-mismatch"


def test_only_roots_of_the_product_vouch(house: House) -> None:
    """A root for another format, or none, vouches for nothing."""
    expect(house)
    assert answer(lambda: enrol(house, statement(nonce(house)))) == "attestation-untrusted"
    trust(house, "step")
    assert answer(lambda: enrol(house, statement(nonce(house)))) == "attestation-untrusted"
    trust(house, "tpm")
    enrol(house, statement(nonce(house)))


def test_only_expected_hardware_counts(house: House) -> None:
    """A genuine TPM that the registry does not expect is nobody's."""
    trust(house, "tpm")
    assert answer(lambda: enrol(house, statement(nonce(house)))) == "attestation-unexpected"


def test_one_piece_of_hardware_is_in_one_device(ready: House) -> None:
    """It cannot be registered for a second device; saying it again changes nothing."""
    assert expect(ready, EXPECTED, "R2") == "hardware-taken"
    assert expect(ready) == "ok"
    assert expect(ready, "permanent-identifier:", "R2") == "hardware-syntax"
    assert expect(ready, "soul:immortal", "R2") == "hardware-syntax"
    assert expect(ready, "tpm-ek:" + "AB" * 32, "R9") == "device-unknown"


def weigh(house: House, *identifiers: Any, kind: Format = Format.TPM) -> str:
    attested = Attested(kind, public_key_of(KEY), identifiers, {}, "00" * 32)

    def judge() -> None:
        with house.db.read() as tx:
            attesting.weigh(tx, house.tenant.id, attested, house.clock())

    return answer(judge)


def test_the_weight_of_what_hardware_says(ready: House) -> None:
    """One of its identities is enough; those of two devices at once are not believed."""
    other = Serial(SerialKind.TPM_EK, "ab" * 32)
    assert weigh(ready, NAME) == "ok"
    assert weigh(ready, NAME, other) == "ok"
    assert weigh(ready) == "attestation-unexpected"
    assert weigh(ready, HardwareModuleName("1.3.6.1.4.1.99999.1", b"SN12345")) == (
        "attestation-unexpected"
    )
    assert weigh(ready, PermanentIdentifier("SN12345")) == "attestation-unexpected"
    assert expect(ready, str(other), "R2") == "ok"
    assert weigh(ready, NAME, other) == "attestation-ambiguous"


def test_an_idevid_is_no_key_attestation(ready: House) -> None:
    """It says which device asks, and nothing of where the key lives."""
    assert expect(ready, "idevid-serial:R1") == "ok"
    found = Serial(SerialKind.IDEVID_SERIAL, "R1")
    assert weigh(ready, found, kind=Format.IDEVID) == "attestation-not-hardware"


def test_hardware_and_identity_of_two_devices(ready: House) -> None:
    """Proofs that mean different devices are refused together."""
    shown = Shown(ready.latest("R2", Purpose.IDENTITY).der, statement=statement(nonce(ready)))
    assert answer(lambda: asking.admit(ready.db, shown, SECRET_KEY, ready.clock())) == (
        "device-contradiction"
    )


# Credential activation, with a TPM


@pytest.mark.slow
def test_a_tpm_without_an_ak_certificate(
    house: House, require: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The registry knows its EK; it finds the secret hidden for it, and certifies a key."""
    require("tpm2", package="tpm2-tools")
    program = require("swtpm", package="swtpm")
    with software_tpm(program, tmp_path_factory.mktemp("tpm")) as tpm:
        ek, ak = tpm.make_ek("ecc"), tpm.make_ak("ecc", "ecdsa")
        area = tpm.make_key("ecc256", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign")
        challenge = nonce(house)
        assert answer(lambda: hide(house, challenge, ek, ak)) == "attestation-untrusted"
        digest = hashlib.sha256(structures.public(ek).spki).hexdigest()
        assert expect(house, f"tpm-ek:{digest}") == "ok"
        hidden = hide(house, challenge, ek, ak)
        secret = tpm.activate(hidden.credential_blob, hidden.encrypted_secret)
        assert secret is not None
        info, signature = tpm.certify(hashlib.sha256(challenge.encode()).digest())
        said = Activation(ek, (), ak, secret, info, signature, area)
        wrong = dataclasses.replace(said, secret=bytes(32))
        made = Statement("example", "router", challenge, wrong)
        assert answer(lambda: admit(house, made)) == "attestation-mismatch"
        proof = admit(house, dataclasses.replace(made, said=said)).evidence[0]
        key = structures.public(area).public_key
        assert (proof.key_fingerprint, proof.device_serial) == (key.fingerprint, "R1")
        assert answer(lambda: admit(house, dataclasses.replace(made, said=said))) == (
            "attestation-nonce"
        )


def hide(house: House, challenge: str, ek: bytes, ak: bytes) -> Any:
    return attesting.hide(
        house.db, "example", "router", challenge, ek, (), ak, SECRET_KEY, house.clock(),
        house.random_bytes,
    )  # fmt: skip


def admit(house: House, said: Statement) -> Any:
    return asking.admit(house.db, Shown(statement=said), SECRET_KEY, house.clock())
