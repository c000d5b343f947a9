"""Whole exchanges with the ACME door, from the directory to the certificate."""

import datetime as dt
import ipaddress

import pytest
from acme_client import BASE, b64, csr
from asgi import call
from backstage import ACMEHouse, refused
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa


def names_of(der: bytes) -> list[str]:
    """The names in a certificate, in its order."""
    found = x509.load_der_x509_certificate(der).extensions
    names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def test_the_directory_names_every_resource_under_the_configured_base(acme: ACMEHouse) -> None:
    """A client finds its way from one URL, whatever Host it sent."""
    found = call(
        acme.app, "GET", "/acme/acme/bound/directory", headers={"host": "evil.example"}
    ).json
    meta = found.pop("meta")
    assert set(found) == {
        "newNonce", "newAccount", "newOrder", "newAuthz", "revokeCert", "keyChange",
        "renewalInfo",
    }  # fmt: skip
    assert all(url.startswith(f"{BASE}/acme/acme/bound/") for url in found.values())
    assert meta["externalAccountRequired"] is True
    assert set(meta["profiles"]) == {"service"}
    assert call(acme.app, "GET", "/acme/acme/nowhere/directory").status == 404
    assert call(acme.app, "GET", "/acme/other/open/directory").status == 404


def test_a_name_is_certified_after_http_01(acme: ACMEHouse) -> None:
    """The flow of RFC 8555 7: account, order, authorization, challenge, finalize, certificate."""
    client = acme.client(contact=["mailto:ops@example.com"])
    order = client.order("Web.Example.com", "web.example.com")
    assert order.json["status"] == "pending"
    assert order.json["identifiers"] == [{"type": "dns", "value": "web.example.com"}]
    assert order.json["profile"] == "service"
    (authorization,) = order.json["authorizations"]
    shown = client.post(authorization)
    assert shown.headers["retry-after"]
    assert "wildcard" not in shown.json
    assert {each["type"] for each in shown.json["challenges"]} == {
        "http-01", "dns-01", "tls-alpn-01",
    }  # fmt: skip
    assert all(len(each["token"]) >= 22 for each in shown.json["challenges"])
    proved = acme.prove(client, authorization)
    assert proved.json["status"] == "valid"
    assert [each["status"] for each in proved.json["challenges"]] == ["valid"]
    assert client.post(order.headers["location"]).json["status"] == "ready"
    done = client.post(order.json["finalize"], {"csr": csr("web.example.com")})
    assert done.headers["location"] == order.headers["location"]
    chain = client.post(done.json["certificate"])
    assert chain.headers["content-type"] == "application/pem-certificate-chain"
    leaf, *above = x509.load_pem_x509_certificates(chain.body)
    assert names_of(leaf.public_bytes(serialization.Encoding.DER)) == ["web.example.com"]
    assert leaf.issuer == above[0].subject
    assert all(each.subject != each.issuer for each in above), "the root is left out"


def test_a_challenge_is_linked_to_its_authorization(acme: ACMEHouse) -> None:
    """RFC 8555 7.5.1: an `up` link; and every POST brings a nonce and the index."""
    client = acme.client()
    authorization = client.order("up.example.com").json["authorizations"][0]
    answer = client.post(client.post(authorization).json["challenges"][0]["url"])
    assert answer.json["status"] == "pending"
    assert f'<{authorization}>;rel="up"' in answer.headers["link"]
    assert 'rel="index"' in answer.headers["link"]
    assert answer.headers["replay-nonce"]
    assert answer.headers["cache-control"] == "no-store"


def test_a_challenge_of_a_valid_authorization_needs_no_answer(acme: ACMEHouse) -> None:
    """Clients that answer all that they are offered: one is enough, and the others are no error."""
    client = acme.client()
    (authorization,) = client.order("enough.example.com").json["authorizations"]
    offered = client.post(authorization).json["challenges"]
    (other,) = (each["url"] for each in offered if each["type"] == "dns-01")
    assert acme.prove(client, authorization).json["status"] == "valid"
    late = client.post(other, {})
    assert (late.status, late.json["status"]) == (200, "pending")
    assert client.post(authorization).json["status"] == "valid"


def test_a_wildcard_is_proved_in_the_dns_alone(acme: ACMEHouse) -> None:
    """RFC 8555 7.1.3: dns-01 only; the authorization names the domain and says `wildcard`."""
    client = acme.client()
    order = client.order("*.wild.example.com", "wild.example.com")
    star, plain = (client.post(each).json for each in order.json["authorizations"])
    assert star["identifier"]["value"] == plain["identifier"]["value"] == "wild.example.com"
    assert star["wildcard"] is True
    assert "wildcard" not in plain
    assert [each["type"] for each in star["challenges"]] == ["dns-01"]
    found = names_of(acme.certify(client, "*.wild.example.com", "wild.example.com"))
    assert sorted(found) == ["*.wild.example.com", "wild.example.com"]


def test_an_address_is_certified(acme: ACMEHouse) -> None:
    """RFC 8738: http-01 at the address itself, never dns-01; iPAddress in the certificate."""
    client = acme.client()
    identifiers = [{"type": "ip", "value": "127.0.0.1"}]
    order = client.post(client.url("new-order"), {"identifiers": identifiers})
    (authorization,) = order.json["authorizations"]
    shown = client.post(authorization).json
    assert shown["identifier"] == identifiers[0]
    assert {each["type"] for each in shown["challenges"]} == {"http-01", "tls-alpn-01"}
    assert acme.prove(client, authorization).json["status"] == "valid"
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    wanted = b64(signed.public_bytes(serialization.Encoding.DER))
    done = client.post(order.json["finalize"], {"csr": wanted})
    leaf = x509.load_pem_x509_certificates(client.post(done.json["certificate"]).body)[0]
    assert names_of(leaf.public_bytes(serialization.Encoding.DER)) == ["127.0.0.1"]


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["ES256", "ES384", "ES512", "EdDSA", "RS256"],
)
def test_accounts_have_keys_of_every_kind(
    acme: ACMEHouse,
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey,
) -> None:
    """RFC 8555 6.2: ES256, EdDSA; ES384, ES512 and RS256 for other clients."""
    client = acme.client(key=key)
    assert client.order("kinds.example.com").status == 201


def test_a_wrong_answer_ends_challenge_authorization_and_order(acme: ACMEHouse) -> None:
    """RFC 8555 7.1.6: invalid, with the reason at the challenge and at the order."""
    client = acme.client()
    order = client.order("wrong.example.com")
    (authorization,) = order.json["authorizations"]
    found = client.post(authorization).json["challenges"]
    (challenge,) = (each for each in found if each["type"] == "http-01")
    acme.names.hosts["wrong.example.com"] = ("127.0.0.1",)
    acme.page.content = "something else"
    answer = client.post(challenge["url"], {})
    assert answer.json["status"] == "invalid"
    assert answer.json["error"]["type"].endswith(":unauthorized")
    given_up = client.post(authorization).json
    assert given_up["status"] == "invalid"
    assert [each["type"] for each in given_up["challenges"]] == ["http-01"]  # 7.1.4
    shown = client.post(order.headers["location"]).json
    assert shown["status"] == "invalid"
    assert shown["error"]["type"].endswith(":unauthorized")
    refused(
        client.post(order.json["finalize"], {"csr": csr("wrong.example.com")}), "orderNotReady", 403
    )


def test_names_without_an_address_fail_as_dns(acme: ACMEHouse) -> None:
    """The kind of failure is told from a wrong answer."""
    client = acme.client()
    (authorization,) = client.order("void.example.com").json["authorizations"]
    found = client.post(authorization).json["challenges"]
    (challenge,) = (each for each in found if each["type"] == "http-01")
    assert client.post(challenge["url"], {}).json["error"]["type"].endswith(":dns")


def test_a_valid_authorization_serves_the_next_order(acme: ACMEHouse) -> None:
    """The second order for a proved name is ready at once, for this account only."""
    client = acme.client()
    acme.certify(client, "again.example.com")
    assert client.order("again.example.com").json["status"] == "ready"
    assert acme.client().order("again.example.com").json["status"] == "pending"


def test_names_of_a_validated_domain_are_ready_at_once(acme: ACMEHouse) -> None:
    """A maker's validation is delegated to accounts that it bound, and to no others."""
    client = acme.bound_client()
    order = client.order("any.router.lan")
    assert order.json["status"] == "ready"
    assert client.post(order.json["authorizations"][0]).json["status"] == "valid"
    assert client.order("any.example.com").json["status"] == "pending"
    done = client.post(order.json["finalize"], {"csr": csr("any.router.lan")})
    assert done.json["status"] == "valid"
    assert acme.client().order("any.router.lan").json["status"] == "pending"


def test_a_stale_validation_of_the_maker_certifies_nothing(acme: ACMEHouse) -> None:
    """Delegation is weighed again when the certificate is asked for, not when it was ordered."""
    client = acme.bound_client()
    acme.clock.ahead = dt.timedelta(days=399)
    try:
        order = client.order("late.router.lan")
        assert order.json["status"] == "ready"
        answer = client.post(order.json["finalize"], {"csr": csr("late.router.lan")})
    finally:
        acme.clock.ahead = dt.timedelta(0)
    refused(answer, "unauthorized", 403)
    assert client.post(order.headers["location"]).json["status"] == "invalid"


def test_an_expired_order_is_invalid(acme: ACMEHouse) -> None:
    """Expiry is computed: nobody has to come by and write it down."""
    client = acme.client()
    order = client.order("old.example.com")
    acme.clock.ahead = dt.timedelta(days=8)
    try:
        assert client.post(order.headers["location"]).json["status"] == "invalid"
        assert client.post(order.json["authorizations"][0]).json["status"] == "invalid"
    finally:
        acme.clock.ahead = dt.timedelta(0)
