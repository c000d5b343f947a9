"""202 and Retry-After, on EST and REST: what waits for an operator, and how it ends."""

import base64
from collections.abc import Iterator

import pytest
from asgi import Answer, call
from backstage import BY, House, csr_pem
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from est_house import CHALLENGE_PASSWORD, LABEL, ESTHouse, certificates, csr, key_part, open_est

from certmint.app.wiring import utc_now
from certmint.enrolment import device_requests
from certmint.enrolment.products import product_named, set_policy
from certmint.model.states import RequestEvent, RequestState
from certmint.registry import reads


@pytest.fixture(scope="module")
def est(house: House) -> ESTHouse:
    """The EST door of the house."""
    return open_est(house)


@pytest.fixture
def careful(est: ESTHouse) -> Iterator[ESTHouse]:
    """The product `router` wants an operator's approval, always, for as long as a test runs."""
    change(est, approval=("always",))
    yield est
    change(est, approval=("none",))


def change(est: ESTHouse, **changes: object) -> None:
    here = est.house.here
    product = product_named(here.db, est.house.maker, "router")
    set_policy(here.db, product, (), grace=None, by=BY, now=utc_now(), **changes)  # type: ignore[arg-type]


def decide(est: ESTHouse, event: RequestEvent) -> None:
    """About the newest request."""
    here, tenant = est.house.here, est.house.maker.id
    newest = device_requests.requests(here.db, tenant, utc_now(), state=RequestState.PENDING)[-1]
    device_requests.decide(here.db, tenant, newest.request.id, event, by=BY, now=utc_now())


def waits(answer: Answer) -> None:
    assert answer.status == 202
    assert answer.headers["retry-after"] == "60"
    assert answer.headers["certmint-code"] == "request-pending"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.body.endswith(b"send it again, with the same key\n")


@pytest.mark.parametrize("operation", ["simpleenroll", "simplereenroll"])
def test_a_certificate_that_an_operator_approves(careful: ESTHouse, operation: str) -> None:
    """202 until then, and 200 to the same request afterwards (RFC 7030 4.2.3)."""
    device = "R1" if operation == "simpleenroll" else "R3"
    key, peer = ec.generate_private_key(ec.SECP256R1()), careful.house.identity(device)
    names = (f"{device.lower()}.router.lan",) if operation == "simplereenroll" else ()
    waits(careful.post(operation, csr(key, names=names), peer=peer))
    waits(careful.post(operation, csr(key, names=names), peer=peer))
    decide(careful, RequestEvent.APPROVED)
    (issued,) = certificates(careful.post(operation, csr(key, names=names), peer=peer))
    assert issued.public_key() == key.public_key()


def test_who_reads_nothing_gets_no_sentence(careful: ESTHouse) -> None:
    """Bouncy Castle sends no Accept, and fails at a 202 or 401 with a body: it reads none."""
    peer, mute = careful.house.identity("R2"), {"accept": ""}
    answer = careful.post("simpleenroll", csr(), peer=peer, headers=mute)
    login = careful.post("simpleenroll", csr(), headers=mute)
    assert (answer.status, answer.headers["retry-after"]) == (202, "60")
    assert answer.headers["certmint-code"] == "request-pending"
    assert (answer.headers["content-length"], answer.body) == ("0", b"")
    assert (login.status, login.headers["certmint-code"]) == (401, "login-required")
    assert login.headers["www-authenticate"].startswith("Basic ")
    assert (login.headers["content-length"], login.body) == ("0", b"")


def test_a_key_that_an_operator_approves(careful: ESTHouse) -> None:
    """serverkeygen waits as well, known by the key of the CSR that asks for it."""
    careful.change_profile(plain_delivery=True)
    request, peer = csr(), careful.house.identity("R4")
    waits(careful.post("serverkeygen", request, peer=peer))
    decide(careful, RequestEvent.APPROVED)
    _, key, issued = key_part(careful.post("serverkeygen", request, peer=peer))
    assert key
    assert issued.public_key() is not None
    waits(careful.post("serverkeygen", request, peer=peer))
    careful.change_profile(plain_delivery=False)


def test_a_request_that_an_operator_rejects(careful: ESTHouse) -> None:
    """403 with a sentence, to the same request."""
    request, peer = csr(), careful.house.identity("R5")
    waits(careful.post("simpleenroll", request, peer=peer))
    decide(careful, RequestEvent.REJECTED)
    answer = careful.post("simpleenroll", request, peer=peer)
    assert (answer.status, answer.headers["certmint-code"]) == (403, "request-rejected")
    assert answer.body.startswith(b"an operator rejected request req_")


def test_who_proves_nothing_waits_for_nobody(careful: ESTHouse) -> None:
    """A serial number alone gets nobody into the table."""
    here, tenant = careful.house.here, careful.house.maker.id
    with here.db.read() as tx:
        before = reads.count_device_requests(tx, tenant, utc_now())
    assert careful.post("simpleenroll", csr(subject="2.5.4.5=R6")).status == 401
    assert careful.post("simpleenroll", csr(), f"{LABEL}~R6").status == 401
    other = careful.post("simpleenroll", csr(), f"{LABEL}~R6", peer=careful.house.identity("R5"))
    assert other.status == 403
    with here.db.read() as tx:
        assert reads.count_device_requests(tx, tenant, utc_now()) == before


def test_rest_says_202_too(careful: ESTHouse) -> None:
    """With JSON for programs, and the certificate to the same request afterwards."""
    house = careful.house
    body, peer = {"csr": csr_pem()}, house.identity("R6")
    answer = call(house.rest, "POST", "/api/v1/device/certificates", body=body, peer=peer)
    assert (answer.status, answer.headers["retry-after"]) == (202, "60")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["code"] == "request-pending"
    decide(careful, RequestEvent.APPROVED)
    answer = call(house.rest, "POST", "/api/v1/device/certificates", body=body, peer=peer)
    assert answer.status == 201


def test_a_product_may_demand_that_a_csr_names_its_connection(est: ESTHouse) -> None:
    """RFC 7030 3.5: csrattrs asks for it, and a CSR without it is refused; over REST nothing is."""
    challenge = bytes.fromhex("06092a864886f70d010907")
    peer = est.house.identity("R2")
    assert challenge not in attributes(est)
    change(est, channel_linking=True)
    try:
        assert challenge in attributes(est)
        answer = est.post("simpleenroll", csr(), peer=peer)
        assert (answer.status, answer.headers["certmint-code"]) == (403, "channel-binding")
        assert b"wants the CSR linked to its connection" in answer.body
        claimed = csr(attributes={CHALLENGE_PASSWORD: (b"eHg=", _ASN1Type.UTF8String)})
        assert b"cannot be compared" in est.post("simpleenroll", claimed, peer=peer).body
    finally:
        change(est, channel_linking=False)
    assert est.post("simpleenroll", csr(), peer=peer).status == 200


def attributes(est: ESTHouse) -> bytes:
    return base64.b64decode(est.get("csrattrs").body)
