"""What the ACME door takes for a signed request, and every trick that it does not."""

import base64
import json
from typing import Any

import pytest
from acme_client import Client, b64, jwk_of, jws, mac_jws, sign
from asgi import call
from backstage import ACMEHouse, refused
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.app.wiring import derived_key
from certmint.enrolment.acme.nonces import BadNonce, Nonces

ALGORITHMS = ["ES256", "ES384", "ES512", "EdDSA", "RS256"]


@pytest.fixture(scope="module")
def client(acme: ACMEHouse) -> Client:
    """An account that the tests of this file share."""
    return acme.client()


def header(client: Client, **changes: Any) -> dict[str, Any]:
    """A good protected header for newOrder, with what `changes` says (None removes)."""
    wanted = {"kid": client.kid, "url": client.url("new-order"), "nonce": client.nonce()}
    return {name: value for name, value in (wanted | changes).items() if value is not None}


def body(client: Client, **changes: Any) -> dict[str, Any]:
    """A good newOrder."""
    return jws(
        client.key,
        header(client, **changes),
        {"identifiers": [{"type": "dns", "value": "jws.example.com"}]},
    )


def send(client: Client, data: Any, **named: Any) -> Any:
    return client.send(client.url("new-order"), data, **named)


def test_a_good_request_is_taken(client: Client) -> None:
    """What the others in this file differ from."""
    assert send(client, body(client)).status == 201


def test_a_nonce_is_good_once(client: Client) -> None:
    """A replay of the very same bytes is refused, with a fresh nonce that works."""
    data = body(client)
    assert send(client, data).status == 201
    again = send(client, data)
    refused(again, "badNonce", 400)
    assert send(client, body(client, nonce=again.headers["replay-nonce"])).status == 201


@pytest.mark.parametrize("nonce", [None, "", "AAAA", "A" * 50, "A" * 5000, 7, ["x"]])
def test_a_nonce_that_is_not_ours_is_refused(client: Client, nonce: object) -> None:
    """RFC 8555 6.5: absent, forged or of any other type."""
    refused(send(client, body(client, nonce=nonce)), "badNonce", 400)


@pytest.mark.parametrize("nonce", ["no+base64/url=", "\ud800", "a b"])
def test_a_nonce_in_no_encoding_is_malformed(client: Client, nonce: str) -> None:
    """RFC 8555 6.5.2: not base64url is malformed, not merely unknown."""
    refused(send(client, body(client, nonce=nonce)), "malformed", 400)


def test_a_nonce_of_another_node_is_good(acme: ACMEHouse, client: Client) -> None:
    """After a restart, or behind a round-robin: a node is its secret and the database."""
    here = acme.house.here
    other = Nonces(here.db, derived_key(here.config, "nonces"))
    nonce = other.make(here.clock(), here.random_bytes)
    assert send(client, body(client, nonce=nonce)).status == 201
    with pytest.raises(BadNonce):
        other.accept(nonce, here.clock()).settle()
    stranger = Nonces(here.db, b"another installation's secret...")
    foreign = stranger.make(here.clock(), here.random_bytes)
    refused(send(client, body(client, nonce=foreign)), "badNonce", 400)


def test_a_refused_request_keeps_its_nonce_for_a_good_one(client: Client) -> None:
    """Whoever cannot sign cannot spend the nonces of others."""
    data = body(client)
    broken = data | {"signature": b64(bytes(64))}
    refused(send(client, broken), "malformed", 400)
    assert send(client, data).status == 201


def test_new_nonce_answers_head_and_get(acme: ACMEHouse, client: Client) -> None:
    """RFC 8555 7.2: 200 and 204, never from a cache."""
    for method, status in (("HEAD", 200), ("GET", 204)):
        answer = call(acme.app, method, f"{client.directory}/new-nonce")
        assert answer.status == status
        assert answer.headers["cache-control"] == "no-store"
        assert len(base64.urlsafe_b64decode(answer.headers["replay-nonce"] + "==")) >= 16
        assert 'rel="index"' in answer.headers["link"]
    answer = call(acme.app, "POST", f"{client.directory}/new-nonce")
    refused(answer, "malformed", 405)
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "ES256K", "RS512", "PS256", ""])
def test_other_algorithms_are_refused_with_ours(client: Client, algorithm: str) -> None:
    """RFC 8555 6.2: badSignatureAlgorithm lists what is accepted."""
    problem = refused(send(client, body(client, alg=algorithm)), "badSignatureAlgorithm", 400)
    assert problem["algorithms"] == ALGORITHMS


def test_a_mac_by_the_public_key_is_no_signature(client: Client) -> None:
    """The oldest trick: HS256, keyed with what everybody knows."""
    public = client.key.public_key()
    for encoding, form in (
        (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
    ):
        secret = public.public_bytes(encoding, form)
        payload = {"identifiers": [{"type": "dns", "value": "jws.example.com"}]}
        forged = mac_jws(secret, header(client), payload)
        refused(send(client, forged), "badSignatureAlgorithm", 400)


@pytest.mark.parametrize("algorithm", ["RS256", "ES384", "ES512", "EdDSA"])
def test_the_algorithm_fits_the_key(client: Client, algorithm: str) -> None:
    """An algorithm of ours, on a key of another kind."""
    refused(send(client, body(client, alg=algorithm)), "badSignatureAlgorithm", 400)


@pytest.mark.parametrize("signature", [b"", bytes(64), b"\xff" * 64, bytes(63), bytes(65)])
def test_a_signature_of_nothing_verifies_nothing(client: Client, signature: bytes) -> None:
    """Zeros are a signature for libraries that forget to look at r and s."""
    refused(send(client, body(client) | {"signature": b64(signature)}), "malformed", 400)


def test_a_signature_by_another_key_is_refused(client: Client) -> None:
    """The account's key, and no other, signs for the account."""
    stranger = ec.generate_private_key(ec.SECP256R1())
    payload = {"identifiers": [{"type": "dns", "value": "jws.example.com"}]}
    refused(send(client, jws(stranger, header(client), payload)), "malformed", 400)


def test_a_payload_that_was_not_signed_is_refused(client: Client) -> None:
    """One letter changed on the way."""
    other = b64(b'{"identifiers":[{"type":"dns","value":"evil.example.com"}]}')
    refused(send(client, body(client) | {"payload": other}), "malformed", 400)


def unprotected(data: dict[str, Any]) -> Any:
    return data | {"header": {"kid": "x"}}


def general(data: dict[str, Any]) -> Any:
    return {"payload": data["payload"], "signatures": [data]}


def padded(data: dict[str, Any]) -> Any:
    return data | {"payload": data["payload"] + "="}


def standard_alphabet(data: dict[str, Any]) -> Any:
    return data | {"signature": "+/" + data["signature"][2:]}


def without_payload(data: dict[str, Any]) -> Any:
    return {name: value for name, value in data.items() if name != "payload"}


def compact(data: dict[str, Any]) -> Any:
    return f"{data['protected']}.{data['payload']}.{data['signature']}".encode()


def as_list(data: dict[str, Any]) -> Any:
    return json.dumps([data]).encode()


def deep(_: dict[str, Any]) -> Any:
    return b"[" * 30000


@pytest.mark.parametrize(
    "change",
    [unprotected, general, padded, standard_alphabet, without_payload, compact, as_list, deep],
)
def test_only_the_flattened_form_is_read(client: Client, change: Any) -> None:
    """RFC 8555 6.2: one signature, no unprotected header, base64url without padding."""
    refused(send(client, change(body(client))), "malformed", 400)


@pytest.mark.parametrize(
    "changes",
    [{"crit": ["b64"]}, {"crit": []}, {"b64": False}, {"kid": None}, {"alg": 5}],
)
def test_the_protected_header_says_what_we_understand(
    client: Client, changes: dict[str, Any]
) -> None:
    """RFC 7515 4.1.11: what is critical and unknown is refused."""
    refused(send(client, body(client, **changes)), "malformed", 400)


def test_a_request_has_exactly_one_of_jwk_and_kid(client: Client) -> None:
    """And newAccount has a jwk, everything else a kid (RFC 8555 6.2)."""
    jwk = jwk_of(client.key)
    refused(send(client, body(client, jwk=jwk)), "malformed", 400)
    refused(send(client, body(client, jwk=jwk, kid=None)), "malformed", 400)
    refused(client.post(client.url("new-account"), {}), "malformed", 400)


def test_the_url_is_part_of_what_is_signed(client: Client) -> None:
    """RFC 8555 6.4: byte for byte the URL that was asked."""
    for url in (
        client.url("revoke-cert"),
        client.url("new-order") + "/",
        client.url("new-order").replace("https:", "http:"),
        None,
    ):
        refused(send(client, body(client, url=url)), "unauthorized", 403)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_resources_are_read_by_post(acme: ACMEHouse, client: Client, method: str) -> None:
    """RFC 8555 6.3: 405, for accounts and orders too."""
    for path in (
        f"{client.directory}/new-order",
        client.kid.removeprefix("https://localhost:8443"),
    ):
        answer = call(acme.app, method, path)
        refused(answer, "malformed", 405)
        assert answer.headers["allow"] == "POST"  # RFC 9110 15.5.6


def test_the_content_type_is_jose(client: Client) -> None:
    """RFC 8555 6.2: 415 for anything else; parameters do not matter."""
    refused(send(client, body(client), content_type="application/json"), "malformed", 415)
    good = "Application/JOSE+json; charset=utf-8"
    assert send(client, body(client), content_type=good).status == 201


def test_a_long_body_is_not_read(client: Client) -> None:
    """64 KiB are enough for every request of ACME."""
    assert send(client, b" " * 70_000).status == 413


def test_reading_has_an_empty_payload(client: Client) -> None:
    """RFC 8555 6.3: POST-as-GET carries the empty string, and not an empty object."""
    location = send(client, body(client)).headers["location"]
    assert client.post(location).status == 200
    refused(client.post(location, {}), "malformed", 400)


@pytest.mark.parametrize(
    "tail", ["", "/acc-1", "/acc-1/", "/\u00e9", "/a\x00b", "/../account/acc-1"]
)
def test_an_account_that_is_not_there_does_not_exist(client: Client, tail: str) -> None:
    """RFC 8555 6.2: accountDoesNotExist, whatever stands in kid."""
    answer = send(client, body(client, kid=client.url("account") + tail))
    refused(answer, "accountDoesNotExist", 400)


def test_half_a_character_is_malformed(client: Client) -> None:
    """RFC 7493 2.1: no lone surrogates, wherever they stand."""
    refused(send(client, body(client, kid=client.url("account") + "/\ud800")), "malformed", 400)
    refused(client.register(contact=["mailto:\ud800@example.com"]), "malformed", 400)


def test_an_account_of_another_directory_does_not_exist_here(acme: ACMEHouse) -> None:
    """A directory is a server of its own."""
    stranger = acme.bound_client()
    local = Client(acme.app, key=stranger.key, kid=stranger.kid)
    refused(local.order("x.example.com"), "accountDoesNotExist", 400)
    local.kid = local.url("account", stranger.kid.rsplit("/", 1)[1])
    refused(local.order("x.example.com"), "accountDoesNotExist", 400)


POINT = jwk_of(ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "RSA", "n": b64(b"\xff" * 128), "e": "AQAB"},
        POINT | {"crv": "P-521"},
        POINT | {"crv": "P-384"},
        POINT | {"crv": "secp256k1"},
        POINT | {"crv": ["P-256"]},
        {"kty": ["EC"]},
        POINT | {"y": POINT["x"]},
        POINT | {"x": "", "y": ""},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "OKP", "crv": "Ed448", "x": b64(bytes(57))},
        {"kty": "OKP", "crv": "Ed25519", "x": b64(bytes(31))},
        {"kty": "RSA", "n": b64(b"\xff" * 256), "e": "AQ"},
        {},
    ],
)
def test_keys_that_are_weak_or_unknown_are_refused(acme: ACMEHouse, jwk: dict[str, str]) -> None:
    """RFC 8555 6.2: badPublicKey."""
    stranger = Client(acme.app)
    answer = stranger.post(stranger.url("new-account"), {}, jwk=jwk)
    refused(answer, "badPublicKey", 400)


@pytest.mark.parametrize("jwk", ["text", [], POINT | {"x": "="}, POINT | {"x": 5}])
def test_keys_that_are_no_jwk_are_malformed(acme: ACMEHouse, jwk: object) -> None:
    """Of the wrong shape altogether."""
    stranger = Client(acme.app)
    refused(stranger.post(stranger.url("new-account"), {}, jwk=jwk), "malformed", 400)


def test_a_payload_that_is_no_object_is_malformed(client: Client) -> None:
    """Signed nonsense is nonsense."""
    for text in (b"[]", b"5", b"{", b"\xff", b"null"):
        protected = b64(json.dumps({"alg": "ES256"} | header(client)).encode())
        payload = b64(text)
        signature = sign(client.key, f"{protected}.{payload}".encode())
        data = {"protected": protected, "payload": payload, "signature": b64(signature)}
        refused(send(client, data), "malformed", 400)
