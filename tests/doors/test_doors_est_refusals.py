"""What EST says no to, and how: one exchange for each way to fail."""

import base64
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from asgi import Answer, call
from backstage import PASSWORD, House
from cryptography.x509.name import _ASN1Type
from est_house import CHALLENGE_PASSWORD, CSR_TYPE, LABEL, WELL_KNOWN, ESTHouse, csr, open_est
from starlette.responses import Response
from test_doors_rest import basic

from certmint.app import config
from certmint.doors.http import MAX_BODY, ForwardedCertificate
from certmint.model.errors import Misconfigured
from certmint.registry import reads


@pytest.fixture(scope="module")
def est(house: House) -> ESTHouse:
    """The EST door of the house."""
    return open_est(house)


def refusals(est: ESTHouse) -> list[tuple[str, int, str, Answer]]:
    """(what, status, code, answer)."""
    peer = est.house.identity("R1")
    enrol, good = "simpleenroll", csr()
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(good)
    torn = good[:-1] + bytes([good[-1] ^ 1])
    return [
        ("no credentials", 401, "login-required", est.post(enrol, good)),
        ("a bearer token that is none", 401, "token-syntax",
         est.post(enrol, good, headers={"authorization": "Bearer x"})),
        ("a wrong password", 401, "login-failed",
         est.post(enrol, good, headers=basic("acme/jo", "wrong password"))),
        ("a stranger's certificate", 401, "certificate-unknown",
         est.post(enrol, good, peer=b"\x30\x00")),
        ("an unknown operation", 404, "not-found", est.get("simplerenroll")),
        ("a path too long", 404, "not-found", est.get("cacerts/more")),
        ("a label that is none", 404, "label-unknown", est.get("cacerts", "router")),
        ("an unknown product", 404, "label-unknown", est.get("cacerts", "acme~lamp")),
        ("another maker's product", 404, "label-unknown", est.get("cacerts", "other~router")),
        ("a wrong method", 405, "method-not-allowed", est.get(enrol)),
        ("a wrong method", 405, "method-not-allowed", est.post("cacerts", good)),
        ("a wrong type", 415, "content-type",
         est.post(enrol, good, peer=peer, headers={"content-type": "text/plain"})),
        ("no base64", 400, "est-encoding", est.post(enrol, b"%%%", peer=peer)),
        ("PEM", 400, "est-encoding", est.post(enrol, pem, peer=peer)),
        ("plain DER", 400, "est-encoding",
         call(est.app, "POST", f"{WELL_KNOWN}/{enrol}", body=good, headers=CSR_TYPE, peer=peer)),
        ("no CSR", 400, "csr-syntax", est.post(enrol, b"aGVsbG8=", peer=peer)),
        ("nothing", 400, "csr-syntax", est.post(enrol, b"", peer=peer)),
        ("a bad signature", 400, "csr-signature", est.post(enrol, torn, peer=peer)),
        ("too long", 413, "body-too-long", est.post(enrol, b"A" * (MAX_BODY + 1), peer=peer)),
        ("full CMC", 501, "fullcmc-not-offered", est.post("fullcmc", b"", peer=peer)),
        ("no such device", 404, "device-unknown",
         est.post(enrol, good, f"{LABEL}~R99", headers=basic("acme/jo", PASSWORD))),
    ]  # fmt: skip


def test_every_refusal_is_one_sentence_with_a_code(est: ESTHouse) -> None:
    """text/plain for people and logs, the code in a field for programs."""
    for what, status, code, answer in refusals(est):
        assert answer.status == status, what
        if code == "body-too-long":
            assert answer.code == code
            continue
        assert answer.headers["certmint-code"] == code, what
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.body.endswith(b"\n")
        assert answer.body.count(b"\n") == 1


def test_a_client_that_reads_json_gets_a_problem_document(est: ESTHouse) -> None:
    """By its Accept field (RFC 9457), with the same code."""
    answer = est.post("simpleenroll", csr(), headers={"accept": "application/problem+json"})
    assert (answer.status, answer.code) == (401, "login-required")
    assert answer.headers["certmint-code"] == "login-required"


def test_a_wrong_method_names_the_right_one(est: ESTHouse) -> None:
    """RFC 9110 15.5.6."""
    assert est.get("simpleenroll").headers["allow"] == "POST"
    assert est.post("cacerts", b"").headers["allow"] == "GET"


def test_a_password_is_asked_for_inside_tls_only(est: ESTHouse) -> None:
    """Without TLS there is no challenge, and a good login is not looked at (RFC 7030 3.2.3)."""
    inside = est.post("simpleenroll", csr())
    outside = _without_tls(est, basic("acme/jo", PASSWORD))

    assert inside.headers["www-authenticate"].startswith("Basic ")
    assert (outside.status, outside.headers["certmint-code"]) == (403, "tls-required")
    assert "www-authenticate" not in outside.headers


def _without_tls(est: ESTHouse, headers: dict[str, str]) -> Answer:
    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await est.app({**scope, "state": {"tls": {"peer": None, "on": False}}}, receive, send)

    body = base64.b64encode(csr(subject="2.5.4.5=R2"))
    path = f"{WELL_KNOWN}/simpleenroll"
    return call(bare, "POST", path, body=body, headers={**CSR_TYPE, **headers})


# Channel binding (RFC 7030 3.5)

UNIQUE = bytes(range(12))


def over(est: ESTHouse, version: str, unique: bytes | None, password: bytes) -> Answer:
    """An enrolment with a challengePassword over a connection of that kind."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        tls = {**scope["state"]["tls"], "version": version, "unique": unique}
        await est.app({**scope, "state": {"tls": tls}}, receive, send)

    request = csr(attributes={CHALLENGE_PASSWORD: (password, _ASN1Type.PrintableString)})
    return ESTHouse(est.house, app).post("simpleenroll", request, peer=est.house.identity("R5"))


def test_a_csr_is_bound_to_its_tls_1_2_connection(est: ESTHouse) -> None:
    """The right tls-unique passes, another one does not."""
    right, wrong = base64.b64encode(UNIQUE), base64.b64encode(UNIQUE[::-1])

    assert over(est, "TLSv1.2", UNIQUE, right).status == 200
    refused = over(est, "TLSv1.2", UNIQUE, wrong)
    assert (refused.status, refused.headers["certmint-code"]) == (403, "channel-binding")


def test_a_binding_that_cannot_be_checked_is_refused(est: ESTHouse) -> None:
    """TLS 1.3 has no tls-unique; what nobody can check is not waved through."""
    answer = over(est, "TLSv1.3", None, base64.b64encode(UNIQUE))
    assert (answer.status, answer.headers["certmint-code"]) == (403, "channel-binding")
    assert b"TLSv1.3" in answer.body


# Forwarded certificates (RFC 9440)


async def who(scope: Any, receive: Any, send: Any) -> None:
    """An application that says which certificate it was shown."""
    tls = scope["state"]["tls"]
    told = {"peer": (tls["peer"] or b"").decode(), "forwarded": tls.get("is_forwarded", False)}
    await Response(json.dumps(told))(scope, receive, send)


def forwarded(value: str | None, *, proxies: list[str], peer: bytes | None = None) -> Answer:
    """What `who` sees of a request from 127.0.0.1."""
    headers = {} if value is None else {"client-cert": value}
    return call(ForwardedCertificate(who, proxies), "GET", "/", headers=headers, peer=peer)


def test_a_trusted_proxy_speaks_for_its_clients() -> None:
    """Its Client-Cert is the client's certificate; without one there is none."""
    field = f":{base64.b64encode(b'device').decode()}:"

    shown = forwarded(field, proxies=["127.0.0.1"], peer=b"the proxy's own")
    silent = forwarded(None, proxies=["127.0.0.1"], peer=b"the proxy's own")

    assert shown.json == {"peer": "device", "forwarded": True}
    assert silent.json == {"peer": "", "forwarded": True}


@pytest.mark.parametrize("proxies", [[], ["127.0.0.2"], ["::1"]])
def test_anybody_else_is_not_believed(proxies: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """The field is ignored, the connection's own certificate counts, and the log says who lied."""
    field = f":{base64.b64encode(b'device').decode()}:"

    with caplog.at_level(logging.WARNING):
        shown = forwarded(field, proxies=proxies, peer=b"own")

    assert shown.json == {"peer": "own", "forwarded": False}
    assert "Client-Cert of 127.0.0.1 was ignored" in caplog.text


@pytest.mark.parametrize("value", ["", "ZGV2aWNl", ":", "::", ":***:", ":ZGV2aWNl:, :ZGV2aWNl:"])
def test_a_garbled_field_of_a_proxy_is_refused(value: str) -> None:
    """Nobody is let in as nobody because a proxy is set up wrongly."""
    answer = forwarded(value, proxies=["127.0.0.1"])
    assert (answer.status, answer.code) == (400, "client-cert-syntax")


@pytest.mark.parametrize("proxy", ["10.0.0.0/8", "proxy.example", ""])
def test_a_proxy_is_named_by_its_address(proxy: str, tmp_path: Path) -> None:
    """A network or a name would let more in than the operator meant."""
    path = tmp_path / config.FILE_NAME
    path.write_text(config.example().replace("proxies = []", f'proxies = ["{proxy}"]'))

    with pytest.raises(Misconfigured) as refusal:
        config.load(path)

    assert "trusted_proxies" in refusal.value.detail


def test_a_refusal_before_the_gate_is_written_down(est: ESTHouse) -> None:
    """Once for a code and a network, with the code; what is malformed, not at all."""
    here, tenant, door = est.house.here, est.house.maker.id, open_est(est.house)

    def refused() -> list[str]:
        with here.db.read() as tx:
            events = reads.audit_events(tx, tenant, limit=1000)
        return [json.loads(e.detail)["code"] for e in events if e.action == "est.refused"]

    before = refused()
    for _ in range(3):
        door.post("simpleenroll", csr(), LABEL, headers=basic("acme/jo", "wrong password"))
        door.post("simpleenroll", b"%%%", LABEL, peer=est.house.identity("R1"))
    assert refused() == [*before, "login-failed"]
