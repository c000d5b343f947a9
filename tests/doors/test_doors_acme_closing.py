"""Accounts that end: by the client, by the operator, with their key; and how bindings are shown."""

import pytest
from acme_client import Client, b64, csr, jwk_of, jws
from backstage import BY, ACMEHouse, bound, refused
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.enrolment.acme import accounts
from certmint.model.errors import WrongState
from certmint.registry import reads


def account_of(acme: ACMEHouse, client: Client) -> accounts.Account:
    return accounts.account_named(
        acme.house.here.db, acme.house.maker.id, client.kid.rsplit("/", 1)[1]
    )


def test_deactivation_ends_what_was_under_way(acme: ACMEHouse) -> None:
    """RFC 8555 7.3.6: pending authorizations and open orders; finished ones stay."""
    client = acme.client()
    acme.certify(client, "done.close.example")
    order = client.order("open.close.example").json
    ready = acme.ready(client, "ready.close.example")
    assert client.post(client.kid, {"status": "deactivated"}).json["status"] == "deactivated"
    account = account_of(acme, client)
    ids = [url.rsplit("/", 1)[1] for url in (order["authorizations"] + ready["authorizations"])]
    with acme.house.here.db.read() as tx:
        held = reads.acme_authorizations(tx, account.id, ids)
        shown = reads.acme_orders(tx, account.id, now=acme.clock())
        states = {reads.acme_order(tx, account.id, each).state.value for each in shown}
    assert [held[each].state.value for each in ids] == ["deactivated", "valid"]
    assert states == {"valid"}


def test_the_operator_revokes_an_account(acme: ACMEHouse) -> None:
    """401 from then on, and no way back; a deactivated one can be revoked too, once."""
    here = acme.house.here
    client, gone = acme.client(), acme.client()
    gone.post(gone.kid, {"status": "deactivated"})
    for each in (client, gone):
        found = account_of(acme, each)
        revoked = accounts.revoke(here.db, found, by=BY, now=acme.clock())
        assert revoked.state.value == "revoked"
        refused(each.post(each.kid), "unauthorized", 401)
        refused(each.post(each.url("new-account"), {}, kid=None, jwk=jwk_of(each.key)),
                "unauthorized", 401)  # fmt: skip
        with pytest.raises(WrongState):
            accounts.revoke(here.db, revoked, by=BY, now=acme.clock())


def test_a_compromised_key_is_no_account_s_key(acme: ACMEHouse) -> None:
    """Whoever shows a certificate's key closes the accounts that have it, and no other opens."""
    owner, stolen = acme.client(), ec.generate_private_key(ec.SECP256R1())
    der = acme.certify(owner, "stolen.close.example", key=stolen)
    careless, rolled = acme.client(key=stolen), acme.client()
    finder = Client(acme.app, key=stolen)
    answer = finder.post(finder.url("revoke-cert"), {"certificate": b64(der)})
    assert answer.status == 200
    refused(careless.post(careless.kid), "unauthorized", 401)
    assert owner.post(owner.kid).status == 200
    elsewhere = Client(acme.app, "/acme/acme/bound", key=stolen)
    inner = bound(elsewhere, *acme.binding())
    refused(elsewhere.register(externalAccountBinding=inner), "badPublicKey", 400)
    url = rolled.url("key-change")
    fresh = ec.generate_private_key(ec.SECP256R1())
    other = acme.certify(owner, "other.close.example", key=fresh)
    finder = Client(acme.app, key=fresh)
    assert finder.post(finder.url("revoke-cert"), {"certificate": b64(other)}).status == 200
    payload = {"account": rolled.kid, "oldKey": jwk_of(rolled.key)}
    change = jws(fresh, {"url": url, "jwk": jwk_of(fresh)}, payload)
    refused(rolled.post(url, change), "badPublicKey", 400)
    assert csr("rolled.close.example")


def test_a_binding_is_shown_in_its_account(acme: ACMEHouse) -> None:
    """RFC 8555 7.3.4: the very JWS; and an unbound account shows none."""
    client = Client(acme.app, "/acme/acme/bound")
    inner = bound(client, *acme.binding())
    assert client.register(externalAccountBinding=inner).json["externalAccountBinding"] == inner
    assert client.post(client.kid).json["externalAccountBinding"] == inner
    plain = acme.client()
    assert "externalAccountBinding" not in plain.post(plain.kid).json
