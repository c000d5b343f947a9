"""ACME accounts at the door: contacts, key change, the end of one, and external bindings."""

import datetime as dt
from typing import Any

import pytest
from acme_client import Client, csr, jwk_of, jws, mac_jws
from asgi import Answer
from backstage import BY, ACMEHouse, bound, refused
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.registry import writes


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_the_same_key_finds_its_account_again(acme: ACMEHouse) -> None:
    """RFC 8555 7.3.1: 200 and the same Location; what else was sent is ignored."""
    client = acme.client(contact=["mailto:a@example.com"])
    again = Client(acme.app, key=client.key)
    answer = again.register(contact=["tel:5"])
    assert (answer.status, again.kid) == (200, client.kid)
    assert answer.json["contact"] == ["mailto:a@example.com"]
    assert answer.json["status"] == "valid"


def test_an_account_that_is_only_looked_for_is_not_made(acme: ACMEHouse) -> None:
    """RFC 8555 7.3.1: onlyReturnExisting."""
    client = Client(acme.app)
    refused(client.register(onlyReturnExisting=True), "accountDoesNotExist", 400)
    assert client.register().status == 201
    other = Client(acme.app, key=client.key)
    assert other.register(onlyReturnExisting=True).status == 200


@pytest.mark.parametrize(
    ("contact", "kind"),
    [
        ("mailto:a@example.com,b@example.com", "invalidContact"),
        ("mailto:a@example.com?subject=x", "invalidContact"),
        ("mailto:nobody", "invalidContact"),
        ("mailto:", "invalidContact"),
        ("mailto:a@b@example.com", "invalidContact"),
        ("mailto:a@example..com", "invalidContact"),
        ("mailto:a@.com", "invalidContact"),
        ("mailto:a\0@example.com", "invalidContact"),
        ("mailto:a@example.com\n", "invalidContact"),
        ("mailto:\u00e4@example.com", "invalidContact"),
        ("tel:+15551234", "unsupportedContact"),
        ("example", "unsupportedContact"),
    ],
)
def test_contacts_are_one_mail_address_each(acme: ACMEHouse, contact: str, kind: str) -> None:
    """RFC 8555 7.3, when an account is made and when it is changed."""
    refused(Client(acme.app).register(contact=[contact]), kind, 400)
    client = acme.client()
    refused(client.post(client.kid, {"contact": [contact]}), kind, 400)


@pytest.mark.parametrize("contact", ["mailto:a@example.com", [5], {"a": 1}])
def test_contacts_are_a_list_of_texts(acme: ACMEHouse, contact: Any) -> None:
    refused(Client(acme.app).register(contact=contact), "malformed", 400)


def test_contacts_are_replaced_and_unknown_fields_ignored(acme: ACMEHouse) -> None:
    """RFC 8555 7.3.2."""
    client = acme.client(contact=["mailto:a@example.com"])
    answer = client.post(client.kid, {"contact": ["mailto:b@example.com"], "color": "red"})
    assert answer.json["contact"] == ["mailto:b@example.com"]
    assert client.post(client.kid, {"color": "red"}).json["contact"] == ["mailto:b@example.com"]
    assert client.post(client.kid, {"contact": None}).json["contact"] == ["mailto:b@example.com"]
    assert client.post(client.kid, {"contact": []}).json["contact"] == []


def test_a_client_without_contacts_may_say_null(acme: ACMEHouse) -> None:
    """A field that is null is a field that is not there, as several languages write it."""
    answer = Client(acme.app).register(contact=None, externalAccountBinding=None)
    assert (answer.status, answer.json["contact"]) == (201, [])


def test_orders_are_listed_for_their_account_alone(acme: ACMEHouse) -> None:
    """RFC 8555 7.1.2.1."""
    client, stranger = acme.client(), acme.client()
    order = client.order("listed.example.com").headers["location"]
    orders = client.post(client.kid).json["orders"]
    assert client.post(orders).json == {"orders": [order]}
    refused(stranger.post(orders), "unauthorized", 403)
    refused(stranger.post(client.kid), "unauthorized", 403)


def test_a_deactivated_account_is_refused_everything(acme: ACMEHouse) -> None:
    """RFC 8555 7.3.6: 401, for good, by kid and by key."""
    client = acme.client()
    order = client.order("gone.example.com").headers["location"]
    assert client.post(client.kid, {"status": "deactivated"}).json["status"] == "deactivated"
    refused(client.post(client.kid), "unauthorized", 401)
    refused(client.post(order), "unauthorized", 401)
    refused(Client(acme.app, key=client.key).register(), "unauthorized", 401)


def change(client: Client, new: Any, inner: dict[str, Any] | None = None, **payload: Any) -> Answer:
    """keyChange, with what `inner` (header) and `payload` change (None removes)."""
    url = client.url("key-change")
    header = {"jwk": jwk_of(new), "url": url} | (inner or {})
    wanted = {"account": client.kid, "oldKey": jwk_of(client.key)} | payload
    kept = {name: value for name, value in header.items() if value is not None}
    return client.post(url, jws(new, kept, wanted))


def test_a_key_is_changed_and_the_old_one_stops(acme: ACMEHouse) -> None:
    """RFC 8555 7.3.5: orders go on under the new key."""
    client, new = acme.client(), new_key()
    order = acme.ready(client, "rolled.example.com")
    old = client.key
    assert change(client, new).status == 200
    refused(client.post(client.kid), "malformed", 400)
    client.key = new
    assert client.post(client.kid).json["status"] == "valid"
    assert acme.certify(client, "rolled.example.com")
    assert order["status"] == "ready"
    freed = Client(acme.app, key=old)
    assert freed.register().status == 201
    assert freed.kid != client.kid


def test_a_key_of_another_account_is_not_taken(acme: ACMEHouse) -> None:
    """RFC 8555 7.3.5: 409, and where that account is."""
    client, other = acme.client(), acme.client()
    answer = change(client, other.key)
    refused(answer, "malformed", 409)
    assert answer.headers["location"] == other.kid
    assert client.post(client.kid).status == 200


@pytest.mark.parametrize("inner", [{"url": "https://x.example/"}, {"nonce": "x"}, {"kid": "x"}])
def test_the_inner_header_of_a_key_change_is_exact(acme: ACMEHouse, inner: dict[str, Any]) -> None:
    """The same URL, a jwk, and no nonce."""
    refused(change(acme.client(), new_key(), inner), "malformed", 400)


def test_a_key_change_names_its_account_and_its_old_key(acme: ACMEHouse) -> None:
    """Otherwise a signed change could be carried to another account."""
    client, other = acme.client(), acme.client()
    refused(change(client, new_key(), account=other.kid), "malformed", 400)
    refused(change(client, new_key(), oldKey=jwk_of(other.key)), "malformed", 400)
    refused(change(client, new_key(), {"jwk": jwk_of(new_key())}), "malformed", 400)
    refused(client.post(client.url("key-change"), {"not": "a JWS"}), "malformed", 400)


def test_a_bound_directory_wants_a_binding(acme: ACMEHouse) -> None:
    """RFC 8555 7.3.4: externalAccountRequired."""
    client = Client(acme.app, "/acme/acme/bound")
    refused(client.register(), "externalAccountRequired", 403)


def test_a_single_use_binding_opens_one_account(acme: ACMEHouse) -> None:
    """A stolen one is worthless once it was used; its owner still finds the account."""
    kid, secret = acme.binding()
    first, second = (Client(acme.app, "/acme/acme/bound") for _ in range(2))
    assert first.register(externalAccountBinding=bound(first, kid, secret)).status == 201
    assert first.register(externalAccountBinding=bound(first, kid, secret)).status in (200, 400)
    stolen = second.register(externalAccountBinding=bound(second, kid, secret))
    refused(stolen, "unauthorized", 403)


def test_a_reusable_binding_opens_many_accounts(acme: ACMEHouse) -> None:
    """For a product whose devices share it."""
    kid, secret = acme.binding(is_reusable=True)
    for _ in range(3):
        client = Client(acme.app, "/acme/acme/bound")
        assert client.register(externalAccountBinding=bound(client, kid, secret)).status == 201


def test_a_binding_is_refused_unless_it_is_made_for_this_request(acme: ACMEHouse) -> None:
    """Wrong MAC, URL, key, kid or algorithm: nothing is told of what exists."""
    kid, secret = acme.binding()
    client = Client(acme.app, "/acme/acme/bound")

    def attempt(inner: Any, kind: str, status: int) -> None:
        refused(client.register(externalAccountBinding=inner), kind, status)

    attempt(bound(client, kid, bytes(32)), "unauthorized", 403)
    attempt(bound(client, "eab-unknown", secret), "unauthorized", 403)
    attempt(bound(client, "\u00e9", secret), "unauthorized", 403)
    attempt(bound(client, kid, secret, url=client.url("new-order")), "malformed", 400)
    attempt(bound(client, kid, secret, nonce="x"), "malformed", 400)
    attempt(bound(Client(acme.app, client.directory), kid, secret), "malformed", 400)
    header = {"kid": kid, "url": client.url("new-account")}
    nameless = mac_jws(secret, {"url": header["url"]}, jwk_of(client.key))
    attempt(nameless, "malformed", 400)
    signed = jws(client.key, header, jwk_of(client.key))
    attempt(signed, "badSignatureAlgorithm", 400)
    attempt(mac_jws(secret, header | {"alg": "none"}, jwk_of(client.key)),
            "badSignatureAlgorithm", 400)  # fmt: skip
    attempt("text", "malformed", 400)
    assert client.register(externalAccountBinding=bound(client, kid, secret)).status == 201


def test_an_expired_or_revoked_binding_opens_nothing(acme: ACMEHouse) -> None:
    """And an account whose binding was revoked orders nothing more."""
    here, tenant = acme.house.here, acme.house.maker.id
    kid, secret = acme.binding()
    late = Client(acme.app, "/acme/acme/bound")
    acme.clock.ahead = dt.timedelta(days=2)
    try:
        answer = late.register(externalAccountBinding=bound(late, kid, secret))
    finally:
        acme.clock.ahead = dt.timedelta(0)
    refused(answer, "unauthorized", 403)
    client = Client(acme.app, "/acme/acme/bound")
    assert client.register(externalAccountBinding=bound(client, kid, secret)).status == 201
    order = client.order("taken.router.lan")
    here.db.write(lambda tx: writes.revoke_acme_binding(tx, tenant, kid, by=BY, at=here.clock()))
    refused(client.order("other.router.lan"), "unauthorized", 403)
    answer = client.post(order.json["finalize"], {"csr": csr("taken.router.lan")})
    refused(answer, "unauthorized", 403)
    spare, spare_secret = acme.binding()
    here.db.write(lambda tx: writes.revoke_acme_binding(tx, tenant, spare, by=BY, at=here.clock()))
    unused = Client(acme.app, "/acme/acme/bound")
    answer = unused.register(externalAccountBinding=bound(unused, spare, spare_secret))
    refused(answer, "unauthorized", 403)


def test_a_device_s_binding_reaches_that_device_s_names(acme: ACMEHouse) -> None:
    """Whoever steals a router's binding can speak for that router alone."""
    client = acme.bound_client(device="R1")
    assert client.order("r1.router.lan").json["status"] == "ready"
    problem = refused(client.order("r2.router.lan"), "rejectedIdentifier", 403)
    assert problem["subproblems"][0]["identifier"] == {"type": "dns", "value": "r2.router.lan"}
    both = refused(client.order("r1.router.lan", "x.lan", "y.lan"), "rejectedIdentifier", 403)
    named = [each["identifier"]["value"] for each in both["subproblems"]]
    assert named == ["x.lan", "y.lan"]
