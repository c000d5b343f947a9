"""The REST door: who comes in, what they get, and one problem document for each way to fail."""

import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest
from asgi import Answer, call
from backstage import PASSWORD, House, csr_pem
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.doors.http import MAX_BODY, STATUS
from certmint.model import errors
from certmint.model.entities import Role

CERTIFICATES = "/api/v1/device/certificates"


def basic(user: str, password: str) -> dict[str, str]:
    """HTTP Basic."""
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    """An API token."""
    return {"authorization": f"Bearer {token}"}


def test_device_reads_its_own_record(house: House) -> None:
    """A device learns its names, its certificate, when to renew, and what time it is."""
    answer = call(house.rest, "GET", "/api/v1/device", peer=house.identity("R1"))

    assert answer.status == 200
    record = answer.json
    assert (record["serial_number"], record["names"]) == ("R1", ["r1.router.lan"])
    current = record["certificate"]
    assert current["not_before"] < current["renewal"]["start"] < current["renewal"]["end"]
    assert current["renewal"]["end"] < current["not_after"]
    assert current["not_before"] < record["time"] < current["not_after"]


def test_device_gets_a_certificate_for_its_new_key(house: House) -> None:
    """The certificate carries the device's names and the key of the CSR; the chain has no root."""
    key = ec.generate_private_key(ec.SECP256R1())
    body = {"csr": csr_pem(key)}

    answer = call(house.rest, "POST", CERTIFICATES, body=body, peer=house.identity("R1"))

    assert answer.status == 201
    leaf = x509.load_pem_x509_certificate(answer.json["certificate"].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["r1.router.lan"]
    assert leaf.public_key() == key.public_key()
    chain = x509.load_pem_x509_certificates(answer.json["chain"].encode())
    assert [link.subject for link in chain] == [leaf.issuer]
    assert all(link.subject != link.issuer for link in chain)


def test_lost_answer_is_given_again(house: House) -> None:
    """The same CSR asked for twice is answered with the same certificate."""
    body = {"csr": csr_pem()}

    answers = [
        call(house.rest, "POST", CERTIFICATES, body=body, peer=house.identity("R3"))
        for _ in range(2)
    ]

    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].json == answers[1].json


def test_delivered_key_opens_with_the_identity_alone(house: House, tmp_path: Path) -> None:
    """openssl opens the delivered key with the device's identity key; it fits the certificate."""
    answer = call(house.rest, "POST", "/api/v1/device/keys", body={}, peer=house.identity("R4"))

    assert answer.status == 201
    (tmp_path / "key.cms").write_bytes(base64.b64decode(answer.json["encrypted_key"]))
    opened = {
        serial: subprocess.run(
            ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", str(tmp_path / "key.cms"),
             "-inkey", str(house.packages / serial / "key.pem"),
             "-recip", str(house.packages / "R4" / "identity.pem")],
            capture_output=True, check=False,
        )
        for serial in ("R4", "R1")
    }  # fmt: skip
    assert opened["R1"].returncode != 0
    key = serialization.load_der_private_key(opened["R4"].stdout, None)
    leaf = x509.load_pem_x509_certificate(answer.json["certificate"].encode())
    assert key.public_key() == leaf.public_key()


def test_owner_certifies_the_owned_device(house: House) -> None:
    """The owner's login is evidence for the device that the owner claimed."""
    path = "/api/v1/owner/devices/R2/certificates"

    answer = call(
        house.rest, "POST", path, body={"csr": csr_pem()}, headers=basic("acme/jo", PASSWORD)
    )

    assert answer.status == 201


def bad_signature() -> str:
    """A CSR whose signature was damaged."""
    der = bytearray(x509.load_pem_x509_csr(csr_pem().encode()).public_bytes(
        serialization.Encoding.DER))  # fmt: skip
    der[-1] ^= 1
    text = base64.encodebytes(bytes(der)).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


def refusals(house: House) -> list[tuple[str, int, str, Answer]]:
    """One exchange for each way to be refused: (what, status, code, answer)."""
    r1 = house.identity("R1")
    forged = bytearray(r1)
    forged[-1] ^= 1
    other_key = serialization.load_pem_private_key(
        (house.packages / "R6" / "key.pem").read_bytes(), None
    )
    public = x509.load_pem_x509_certificate(
        (house.packages.parent / "public" / "P1" / "identity.pem").read_bytes()
    ).public_bytes(serialization.Encoding.DER)
    owner = "/api/v1/owner/devices/{}/certificates"

    def post(path: str, body: Any, **more: Any) -> Answer:
        return call(house.rest, "POST", path, body=body, **more)

    return [
        ("no certificate", 401, "certificate-required", post(CERTIFICATES, {"csr": csr_pem()})),
        ("altered certificate", 401, "certificate-unknown",
         post(CERTIFICATES, {"csr": csr_pem()}, peer=bytes(forged))),
        ("garbage for a certificate", 401, "certificate-unknown",
         post(CERTIFICATES, {"csr": csr_pem()}, peer=b"0\x03\x02\x01\x00")),
        ("no CSR", 400, "csr-syntax", post(CERTIFICATES, {"csr": "hello"}, peer=r1)),
        ("bad self-signature", 400, "csr-signature",
         post(CERTIFICATES, {"csr": bad_signature()}, peer=r1)),
        ("another device's key", 403, "key-reused",
         post(CERTIFICATES, {"csr": csr_pem(other_key)}, peer=r1)),  # type: ignore[arg-type]
        ("unknown field", 400, "request-syntax",
         post(CERTIFICATES, {"csr": csr_pem(), "names": ["x"]}, peer=r1)),
        ("no JSON", 400, "request-syntax", post(CERTIFICATES, b"{", peer=r1)),
        ("too long", 413, "body-too-long", post(CERTIFICATES, b"x" * (MAX_BODY + 1), peer=r1)),
        ("too long, said to be a list", 413, "body-too-long",
         post(CERTIFICATES, b"x" * (MAX_BODY + 1), peer=r1, headers={"content-type": "text/csv"})),
        ("lying about the length", 413, "body-too-long",
         post(CERTIFICATES, b"x" * (MAX_BODY + 1), headers={"content-length": "1"}, peer=r1)),
        ("a key for a public profile", 403, "key-origin",
         post("/api/v1/device/keys", {}, peer=public)),
        ("no login", 401, "login-required", post(owner.format("R2"), {"csr": csr_pem()})),
        ("wrong password", 401, "login-failed",
         post(owner.format("R2"), {"csr": csr_pem()}, headers=basic("acme/jo", "wrong password"))),
        ("unknown user", 401, "login-failed",
         post(owner.format("R2"), {"csr": csr_pem()}, headers=basic("acme/eve", PASSWORD))),
        ("another maker's user", 401, "login-failed",
         post(owner.format("R2"), {"csr": csr_pem()}, headers=basic("other/jo", PASSWORD))),
        ("somebody else's device", 403, "evidence-not-owner",
         post(owner.format("R1"), {"csr": csr_pem()}, headers=basic("acme/jo", PASSWORD))),
        ("no device", 404, "device-unknown",
         post(owner.format("R99"), {"csr": csr_pem()}, headers=basic("acme/jo", PASSWORD))),
        ("no token", 401, "token-required", call(house.rest, "GET", "/api/v1/devices")),
        ("unknown token", 401, "token-invalid",
         call(house.rest, "GET", "/api/v1/devices", headers=bearer("cmt_nonsense"))),
        ("no path", 404, "not-found", call(house.rest, "GET", "/api/v1/nothing")),
        ("no method", 405, "method-not-allowed", call(house.rest, "DELETE", "/api/v1/devices")),
        ("a serial that is none", 400, "serial-syntax",
         call(house.rest, "GET", "/api/v1/certificates/zz",
              headers=bearer(house.tokens["acme/viewer"]))),
    ]  # fmt: skip


def test_every_refusal_is_a_problem_document(house: House) -> None:
    """Each way to fail has its status, its stable code, and one sentence (RFC 9457)."""
    for what, status, code, answer in refusals(house):
        assert (answer.status, answer.code) == (status, code), what
        problem = answer.json
        assert problem["status"] == status
        assert problem["type"] == f"urn:certmint:problem:{code}"
        assert problem["title"]
        assert problem["detail"]
        assert "\n" not in problem["detail"]


def test_every_kind_of_error_has_a_status() -> None:
    """No error can fall through the table of this door."""
    kinds = {
        each for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.CertmintError)
    }  # fmt: skip

    assert set(STATUS) == kinds - {errors.CertmintError}


# Which roles each operation lets in; everything else is 403 (policy.authorization).
OPERATIONS = {
    ("GET", "/api/v1/devices"): set(Role),
    ("GET", "/api/v1/devices/R1/certificates"): set(Role) - {Role.STATION},
    ("GET", "/api/v1/certificates/01"): set(Role) - {Role.STATION},
    ("POST", "/api/v1/devices/R5/claim"): {
        Role.OPERATOR, Role.SECURITY_OFFICER, Role.ADMINISTRATOR,
    },
    ("POST", "/api/v1/certificates/01/revocation"): {Role.SECURITY_OFFICER, Role.ADMINISTRATOR},
}  # fmt: skip


@pytest.mark.parametrize("role", list(Role))
def test_roles(house: House, role: Role) -> None:
    """Each role may do what the table says, and nothing else."""
    bodies = {"/api/v1/devices/R5/claim": {"username": "nobody"}}
    for (method, path), roles in OPERATIONS.items():
        body = bodies.get(path, {}) if method == "POST" else None
        answer = call(
            house.rest, method, path, body=body, headers=bearer(house.tokens[f"acme/{role}"])
        )
        if role in roles:
            assert answer.status in (200, 404), (path, answer.body)
        else:
            assert (answer.status, answer.code) == (403, "role-forbids"), path


def test_other_tenant_sees_nothing(house: House) -> None:
    """Another maker's administrator gets 404, an empty list, and no byte of ours."""
    token = bearer(house.tokens["other/administrator"])
    serial = f"{house.service('R1').serial_number:040x}"

    listed = call(house.rest, "GET", "/api/v1/devices", headers=token)
    answers = [
        call(house.rest, "GET", f"/api/v1/certificates/{serial}", headers=token),
        call(
            house.rest, "POST", f"/api/v1/certificates/{serial}/revocation", body={}, headers=token
        ),
        call(house.rest, "GET", "/api/v1/devices/R1/certificates", headers=token),
        call(
            house.rest, "POST", "/api/v1/devices/R5/claim", body={"username": "jo"}, headers=token
        ),
    ]

    assert listed.json == {"items": [], "next": None}
    assert [answer.status for answer in answers] == [404] * 4
    assert all(b"router.lan" not in answer.body for answer in answers)


def test_devices_are_listed_in_pages(house: House) -> None:
    """Following `next` visits every device once."""
    token = bearer(house.tokens["acme/viewer"])
    seen: list[str] = []
    after = ""
    while True:
        page = call(house.rest, "GET", f"/api/v1/devices?limit=3{after}", headers=token).json
        seen += [each["serial_number"] for each in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"

    assert seen == sorted(seen)
    assert {"R1", "R6", "P1"} <= set(seen)
    assert len(seen) == len(set(seen))


def test_revoked_device_is_refused_at_once(house: House) -> None:
    """After a revocation by API the device's identity opens nothing any more."""
    token = bearer(house.tokens["acme/security-officer"])
    identity = x509.load_der_x509_certificate(house.identity("R6"))
    path = f"/api/v1/certificates/{identity.serial_number:040x}/revocation"

    revoked = call(house.rest, "POST", path, body={"reason": "key-compromise"}, headers=token)
    again = call(house.rest, "POST", path, body={"reason": "superseded"}, headers=token)
    renewal = call(
        house.rest, "POST", CERTIFICATES, body={"csr": csr_pem()}, peer=house.identity("R6")
    )

    service = f"/api/v1/certificates/{house.service('R6').serial_number:040x}"
    same_key = call(house.rest, "GET", service, headers=token)
    assert revoked.json["revocation_reason"] == "key-compromise"
    assert same_key.json["revocation_reason"] == "key-compromise"
    assert (again.status, again.code) == (409, "already-revoked")
    assert (renewal.status, renewal.code) == (403, "evidence-revoked")


def test_openapi_names_every_operation_once(house: House) -> None:
    """The API describes itself; operation ids are what a generated client's methods are called."""
    document = call(house.rest, "GET", "/api/v1/openapi.json").json
    ids = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]

    assert document["openapi"].startswith("3.1")
    assert len(ids) == len(set(ids)) >= 9
