"""Who asks, over REST: labels, lock-outs, claiming and handing on, clones, hardware's nonces."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi import Answer, call
from backstage import BY, PASSWORD, House, add_owner, build, csr_pem
from est_house import ESTHouse, certificates, csr, open_est
from test_doors_rest import basic, bearer

from certmint.app.wiring import SECRETS, derived_key, utc_now
from certmint.doors.http import ForwardedCertificate
from certmint.enrolment import secrets
from certmint.enrolment.devices import view_by_serial_number

CERTIFICATES = "/api/v1/device/certificates"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """With a second owner, ada; jo owns R2."""
    built = build(tmp_path_factory.mktemp("askers"))
    add_owner(built.here.db, built.maker, "ada")
    yield built
    built.here.close()


def label(house: House, serial: str) -> secrets.Label:
    device = view_by_serial_number(house.here.db, house.maker.id, serial).device
    (made,) = secrets.make_labels(
        house.here.db, house.maker.id, [device], derived_key(house.here.config, SECRETS),
        by=BY, now=utc_now(), random_bytes=os.urandom,
    )  # fmt: skip
    return made


def post(house: House, path: str, body: dict[str, Any] | None = None, **more: Any) -> Answer:
    return call(house.rest, "POST", f"/api/v1{path}", body=body or {}, **more)


def proof(house: House, serial: str) -> dict[str, str]:
    made = label(house, serial)
    return {
        "manufacturer": "acme", "serial_number": serial, "secret": made.enrolment_secret,
    }  # fmt: skip


def test_the_label_s_secret_with_the_expired_or_other_proofs(house: House) -> None:
    """It counts beside a client certificate; alone it does not replace a certificate."""
    shown = proof(house, "R1")
    alone = post(house, "/device/certificates", {"csr": csr_pem(), "label": shown})
    assert (alone.status, alone.code) == (403, "evidence-not-enough")
    body = {"csr": csr_pem(), "label": shown}
    both = post(house, "/device/certificates", body, peer=house.identity("R1"))
    assert both.status == 201
    again = {"csr": csr_pem(), "label": shown}
    spent = post(house, "/device/certificates", again, peer=house.identity("R1"))
    assert (spent.status, spent.code) == (403, "evidence-secret")
    assert post(house, "/device/certificates", body, peer=house.identity("R1")).json == both.json


def test_a_first_certificate_by_the_label(house: House) -> None:
    """A device that has no service certificate yet; by Basic, with the serial as the user."""
    made = label(house, "P1")
    login = basic("acme~P1", made.enrolment_secret.lower())
    answer = post(house, "/device/certificates", {"csr": csr_pem()}, headers=login)
    # The proof was accepted: what stops a public profile here is the name, which is a private one.
    assert (answer.status, answer.code) == (403, "name-not-validated")
    wrong = basic("acme~P1", "00000-00000-00000")
    refused = post(house, "/device/certificates", {"csr": csr_pem()}, headers=wrong)
    assert (refused.status, refused.code) == (401, "secret-wrong")


def test_proofs_of_two_devices(house: House) -> None:
    """A label of one device beside the certificate of another is a contradiction."""
    body = {"csr": csr_pem(), "label": proof(house, "R3")}
    answer = post(house, "/device/certificates", body, peer=house.identity("R1"))
    assert (answer.status, answer.code) == (403, "device-contradiction")


def test_guessing_is_answered_with_a_time(house: House) -> None:
    """429 and Retry-After, over REST and EST, for the guesser's address and that name alone."""
    path = "/owner/devices/R2/certificates"
    for _ in range(6):
        wrong = post(house, path, {"csr": csr_pem()}, headers=basic("acme/jo", "wrong"))
        assert (wrong.status, wrong.code) == (401, "login-failed")
    locked = post(house, path, {"csr": csr_pem()}, headers=basic("acme/jo", PASSWORD))
    assert (locked.status, locked.code) == (429, "login-locked")
    assert 1 <= int(locked.headers["retry-after"]) <= 2
    est = open_est(house).post("simpleenroll", csr(), headers=basic("acme/jo", PASSWORD))
    assert (est.status, est.headers["certmint-code"]) == (429, "login-locked")
    assert int(est.headers["retry-after"]) >= 1
    other = post(house, "/owner/devices/R2/release", headers=basic("acme/ada", PASSWORD))
    assert (other.status, other.code) == (404, "device-unknown")


def test_behind_a_proxy_each_client_is_one(house: House) -> None:
    """The address that the proxy itself wrote counts, the last one; clients cannot forge it."""
    proxied = ForwardedCertificate(house.rest, ["127.0.0.1"])

    def guess(forwarded: str, password: str) -> int:
        told = {**basic("acme/ada", password), "x-forwarded-for": forwarded}
        path = "/api/v1/owner/devices/R99/release"
        return call(proxied, "POST", path, body={}, headers=told).status

    assert [guess(f"192.0.2.{n}, 198.51.100.7", "wrong") for n in range(7)] == [401] * 6 + [429]
    assert guess("198.51.100.7, 192.0.2.1", PASSWORD) == 404
    direct = {**basic("acme/ada", PASSWORD), "x-forwarded-for": "198.51.100.7"}
    assert post(house, "/owner/devices/R99/release", headers=direct).status == 404


@pytest.fixture
def owner(house: House) -> dict[str, str]:
    return basic("acme/ada", PASSWORD)


def test_claimed_released_and_handed_on(house: House, owner: dict[str, str]) -> None:
    """The whole life of an ownership, over the wire."""
    made = label(house, "R4")
    wrong = post(house, "/owner/devices/R4/claim", {"code": "0000-0000-0000"}, headers=owner)
    assert (wrong.status, wrong.code) == (401, "secret-wrong")
    claimed = post(house, "/owner/devices/R4/claim", {"code": made.claim_code}, headers=owner)
    assert (claimed.status, claimed.json["claimed"]) == (200, True)
    path = "/owner/devices/R4/certificates"
    assert post(house, path, {"csr": csr_pem()}, headers=owner).status == 201
    offered = post(house, "/owner/devices/R4/transfer", {"username": "jo"}, headers=owner)
    assert offered.status == 201
    back = call(house.rest, "DELETE", "/api/v1/owner/devices/R4/transfer", headers=owner)
    assert back.status == 204
    gone = post(house, "/owner/devices/R4/transfer/acceptance", headers=owner)
    assert (gone.status, gone.code) == (404, "transfer-unknown")
    released = post(house, "/owner/devices/R4/release", headers=owner)
    assert (released.status, released.json["claimed"]) == (200, False)
    refused = post(house, path, {"csr": csr_pem()}, headers=owner)
    assert (refused.status, refused.code) == (403, "evidence-not-owner")


def test_claimed_by_presence(house: House, owner: dict[str, str]) -> None:
    """The owner is shown a code, and the device names it over its own connection."""
    begun = post(house, "/owner/devices/R5/pairing", headers=owner)
    assert begun.status == 201
    code = {"code": begun.json["code"]}
    other = post(house, "/device/pairing", code, peer=house.identity("R3"))
    assert (other.status, other.code) == (401, "pairing-wrong")
    done = post(house, "/device/pairing", code, peer=house.identity("R5"))
    assert (done.status, done.json["claimed"]) == (200, True)
    nobody = post(house, "/device/pairing", code)
    assert (nobody.status, nobody.code) == (401, "certificate-required")


def test_retired_by_the_owner(house: House, owner: dict[str, str]) -> None:
    """Afterwards the device's identity opens nothing."""
    made = label(house, "R6")
    post(house, "/owner/devices/R6/claim", {"code": made.claim_code}, headers=owner)
    assert post(house, "/owner/devices/R6/retirement", headers=owner).json["state"] == "retired"
    answer = post(house, "/device/certificates", {"csr": csr_pem()}, peer=house.identity("R6"))
    assert (answer.status, answer.code) == (403, "device-state")


def from_address(house: House, address: str, serial: str) -> Answer:
    """A device's request from somewhere: a TLS connection that ended there."""

    async def moved(scope: Any, receive: Any, send: Any) -> None:
        await house.rest({**scope, "client": (address, 1)}, receive, send)

    return call(moved, "POST", CERTIFICATES, body={"csr": csr_pem()}, peer=house.identity(serial))


def test_two_devices_with_one_identity(house: House) -> None:
    """Both are out at once, the operator sees it, and lets the device in again."""
    assert from_address(house, "192.0.2.1", "R3").status == 201
    clone = from_address(house, "198.51.100.9", "R3")
    assert (clone.status, clone.code) == (403, "device-cloned")
    mine = from_address(house, "192.0.2.1", "R3")
    assert (mine.status, mine.code) == (403, "device-state")
    token = bearer(house.tokens["acme/operator"])
    listed = call(house.rest, "GET", "/api/v1/devices?state=suspended", headers=token).json
    assert [(e["serial_number"], e["suspended_for"]) for e in listed["items"]] == [("R3", "cloned")]
    resumed = post(house, "/devices/R3/resumption", headers=token)
    assert (resumed.status, resumed.json["state"]) == (200, "active")
    viewer = bearer(house.tokens["acme/viewer"])
    assert post(house, "/devices/R3/resumption", headers=viewer).code == "role-forbids"
    assert from_address(house, "192.0.2.1", "R3").status == 201


def test_nonces_and_statements(house: House) -> None:
    """A nonce for a product that exists; rubbish over it is refused in one sentence."""
    unknown = {"manufacturer": "acme", "product": "toaster"}
    assert post(house, "/device/attestation/challenge", unknown).code == "product-unknown"
    about = {"manufacturer": "acme", "product": "router"}
    asked = post(house, "/device/attestation/challenge", about)
    assert asked.status == 201
    rubbish = base64.b64encode(b"rubbish").decode()

    def attest(**said: Any) -> str:
        body = {"csr": csr_pem(), "attestation": {**about, "nonce": asked.json["nonce"], **said}}
        return post(house, "/device/certificates", body).code

    assert attest(object=rubbish) == "attestation-syntax"
    assert attest(object="*") == "request-syntax"
    assert attest() == "request-syntax"
    assert attest(object=rubbish, nonce="x") == "attestation-nonce"
    hide = {**about, "nonce": asked.json["nonce"], "ek_public": rubbish, "ak_public": rubbish}
    assert post(house, "/device/attestation/activation", hide).code == "attestation-syntax"


def test_the_time(house: House) -> None:
    """A device without a clock asks before anything else."""
    assert call(house.rest, "GET", "/api/v1/time").json["time"].startswith("20")


def test_est_takes_the_label_s_secret(house: House, tmp_path: Path) -> None:
    """HTTP Basic with the maker and the serial number; the device is the label's."""
    est: ESTHouse = open_est(house)
    made = label(house, "R1")
    login = basic("acme~R1", made.enrolment_secret)
    both = est.post("simpleenroll", csr(), headers=login, peer=house.identity("R1"))
    assert certificates(both)
    alone = est.post("simpleenroll", csr(), headers=login)
    assert (alone.status, alone.headers["certmint-code"]) == (403, "evidence-secret")
    other = est.post("simpleenroll", csr(), label="acme~router~R2", headers=login)
    assert (other.status, other.headers["certmint-code"]) == (403, "device-contradiction")
