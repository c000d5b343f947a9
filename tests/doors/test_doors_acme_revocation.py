"""Revoking at the ACME door (RFC 8555 7.6) and when to renew (RFC 9773)."""

import datetime as dt
from typing import Any

import pytest
from acme_client import Client, b64, csr, jwk_of
from asgi import Answer, call
from backstage import ACMEHouse, refused
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certmint.doors.acme.fields import cert_id
from certmint.model.entities import Certificate
from certmint.model.serial import serial_number, serial_of
from certmint.registry import reads


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def revoke(client: Client, der: bytes, **payload: Any) -> Answer:
    return client.post(client.url("revoke-cert"), {"certificate": b64(der)} | payload)


def kept(acme: ACMEHouse, der: bytes) -> Certificate:
    """What the registry says of a certificate."""
    serial = serial_of(x509.load_der_x509_certificate(der).serial_number)
    with acme.house.here.db.read() as tx:
        found = reads.certificate(tx, acme.house.maker.id, serial)
    assert found is not None
    return found


def reason(acme: ACMEHouse, der: bytes) -> str | None:
    """Why a certificate is revoked."""
    found = kept(acme, der).revocation
    return found.reason.value if found else None


def test_an_account_revokes_what_it_ordered(acme: ACMEHouse) -> None:
    """200 with nothing in it, once; then alreadyRevoked."""
    client = acme.client()
    der = acme.certify(client, "own.example.com")
    answer = revoke(client, der, reason=4)
    assert (answer.status, answer.body) == (200, b"")
    assert reason(acme, der) == "superseded"
    refused(revoke(client, der), "alreadyRevoked", 400)


def test_a_claim_of_compromise_blocks_no_key(acme: ACMEHouse) -> None:
    """Without proof of possession, reason 1 reaches this certificate and no other."""
    client, key = acme.client(), new_key()
    first = acme.certify(client, "claim.example.com", key=key)
    assert revoke(client, first, reason=1).status == 200
    assert reason(acme, first) == "key-compromise"
    assert acme.certify(client, "claim.example.com", key=key)


@pytest.mark.parametrize("code", [2, 6, 7, 8, 10, 11, -1, "1", True, 1.5])
def test_other_reasons_are_refused(acme: ACMEHouse, code: object) -> None:
    """RFC 8555 7.6: badRevocationReason; CA-only and undefined codes, and other types."""
    client = acme.client()
    refused(revoke(client, b"\x30\x00", reason=code), "badRevocationReason", 400)


def test_an_account_that_holds_all_names_revokes_for_cessation(acme: ACMEHouse) -> None:
    """The names have moved on, and that is all that it shows: the reason is 5, whatever it says."""
    client, heir, half = acme.client(), acme.client(), acme.client()
    names = ("one.example.com", "two.example.com")
    der = acme.certify(client, *names)
    acme.ready(half, names[0])
    refused(revoke(half, der), "unauthorized", 403)
    acme.ready(heir, *names)
    assert revoke(heir, der, reason=1).status == 200
    assert reason(acme, der) == "cessation-of-operation"


def test_a_wildcard_is_held_by_its_own_authorization(acme: ACMEHouse) -> None:
    """Holding the plain name is not holding everything below it."""
    client, other = acme.client(), acme.client()
    der = acme.certify(client, "*.held.example.com")
    acme.ready(other, "held.example.com")
    refused(revoke(other, der), "unauthorized", 403)
    acme.ready(other, "*.held.example.com")
    assert revoke(other, der).status == 200


def test_nobody_else_revokes(acme: ACMEHouse) -> None:
    """Neither a stranger nor a key that is not the certificate's."""
    client = acme.client()
    der = acme.certify(client, "kept.example.com")
    refused(revoke(acme.client(), der), "unauthorized", 403)
    stranger = Client(acme.app)
    refused(revoke(stranger, der), "unauthorized", 403)
    assert reason(acme, der) is None


def test_the_certificate_s_key_revokes_and_is_blocked(acme: ACMEHouse) -> None:
    """RFC 8555 7.6: signed with jwk; every certificate with the key goes, and it never returns."""
    client, key = acme.client(), new_key()
    first = acme.certify(client, "lost.example.com", key=key)
    second = acme.certify(client, "lost.example.com", key=key)
    thief = Client(acme.app, key=key)
    assert revoke(thief, first, reason=0).status == 200
    assert reason(acme, first) == reason(acme, second) == "key-compromise"
    refused(revoke(thief, first), "alreadyRevoked", 400)
    order = acme.ready(client, "lost.example.com")
    answer = client.post(order["finalize"], {"csr": csr("lost.example.com", key=key)})
    refused(answer, "badCSR", 400)


def test_proof_of_compromise_updates_a_revocation(acme: ACMEHouse) -> None:
    """Revoked for another reason before: it becomes keyCompromise."""
    client, key = acme.client(), new_key()
    der = acme.certify(client, "update.example.com", key=key)
    assert revoke(client, der, reason=4).status == 200
    assert revoke(Client(acme.app, key=key), der).status == 200
    assert reason(acme, der) == "key-compromise"


def test_what_was_not_issued_here_is_not_revoked(acme: ACMEHouse) -> None:
    """Garbage, and a certificate of nobody."""
    client = acme.client()
    for payload in ({}, {"certificate": 5}, {"certificate": "a="}):
        refused(client.post(client.url("revoke-cert"), payload), "malformed", 400)
    refused(revoke(client, b"not a certificate"), "malformed", 404)


def cert_name(der: bytes) -> str:
    """The ARI identifier of a certificate, from the certificate alone (RFC 9773 4.1)."""
    found = x509.load_der_x509_certificate(der)
    aki = found.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert aki.key_identifier is not None
    number = found.serial_number
    return f"{b64(aki.key_identifier)}.{b64(number.to_bytes(number.bit_length() // 8 + 1, 'big'))}"


def test_the_identifier_of_rfc_9773() -> None:
    """The example in its section 4.1."""
    aki, serial = cert_id("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
    assert aki.hex() == "69885b6b87464041e1b37b847ba0ae2cde01c8d4"
    assert serial_number(serial) == 0x87654321


def ask(acme: ACMEHouse, der: bytes) -> Answer:
    return call(acme.app, "GET", f"/acme/acme/open/renewal-info/{cert_name(der)}")


def window(answer: Answer) -> tuple[dt.datetime, dt.datetime]:
    found = answer.json["suggestedWindow"]
    return dt.datetime.fromisoformat(found["start"]), dt.datetime.fromisoformat(found["end"])


def test_a_good_certificate_is_renewed_inside_its_life(acme: ACMEHouse) -> None:
    """A window in the certificate's life, to be asked for again within six hours."""
    der = acme.certify(acme.client(), "ari.example.com")
    answer = ask(acme, der)
    start, end = window(answer)
    found = x509.load_der_x509_certificate(der)
    assert found.not_valid_before_utc <= start < end <= found.not_valid_after_utc
    assert 0 < int(answer.headers["retry-after"]) <= 6 * 3600
    assert answer.headers["content-type"] == "application/json"
    assert window(ask(acme, der)) == (start, end)


def test_a_factory_certificate_has_a_window_too(acme: ACMEHouse) -> None:
    """Any certificate of ours, whichever door it came out of."""
    der = acme.house.service("R3").public_bytes(Encoding.DER)
    start, end = window(ask(acme, der))
    assert start < end


def test_a_revoked_certificate_is_renewed_now(acme: ACMEHouse) -> None:
    """RFC 9773 4.2: a window in the past, and a client that looks again within the hour."""
    client = acme.client()
    der = acme.certify(client, "urgent.example.com")
    assert revoke(client, der).status == 200
    answer = ask(acme, der)
    start, end = window(answer)
    assert start < end < acme.clock()
    assert int(answer.headers["retry-after"]) <= 3600


@pytest.mark.parametrize("name", ["x", "AAAA", "AAAA.", ".AAAA", "AA=.AA", "AAAA.AAAA", "A" * 200])
def test_renewal_info_of_nothing(acme: ACMEHouse, name: str) -> None:
    """Malformed or unknown, and no certificate's business."""
    answer = call(acme.app, "GET", f"/acme/acme/open/renewal-info/{name}")
    assert answer.status in (400, 404)
    assert answer.json["type"].endswith(":malformed")


def test_a_successor_is_named_and_there_is_one(acme: ACMEHouse) -> None:
    """RFC 9773 5: `replaces` is reflected; a second order for the same one is alreadyReplaced."""
    client = acme.client()
    old = cert_name(acme.certify(client, "next.example.com"))
    order = client.order("next.example.com", replaces=old)
    assert order.json["replaces"] == old
    refused(client.order("next.example.com", replaces=old), "alreadyReplaced", 409)
    done = client.post(order.json["finalize"], {"csr": csr("next.example.com")})
    assert done.json["status"] == "valid"
    refused(client.order("next.example.com", replaces=old), "alreadyReplaced", 409)


def test_a_failed_successor_makes_room(acme: ACMEHouse) -> None:
    """RFC 9773 5: an order that became invalid, or ran out of time, replaces nothing."""
    client = acme.client()
    old = cert_name(acme.certify(client, "again.example.com"))
    first = client.order("again.example.com", replaces=old).json
    given_up = client.post(first["authorizations"][0], {"status": "deactivated"})
    assert given_up.json["status"] == "deactivated"
    second = client.order("again.example.com", replaces=old)
    assert second.status == 201
    refused(client.order("again.example.com", replaces=old), "alreadyReplaced", 409)
    acme.clock.ahead += dt.timedelta(days=8)
    assert client.order("again.example.com", replaces=old).status == 201
    acme.clock.ahead -= dt.timedelta(days=8)


def test_replaces_names_the_issuer_too(acme: ACMEHouse) -> None:
    """The serial alone is not enough: the key identifier is compared as well."""
    client = acme.client()
    old = cert_name(acme.certify(client, "aki.example.com"))
    other = f"aYhba4dGQEHhs3uEe6CuLN4ByNQ.{old.partition('.')[2]}"
    refused(client.order("aki.example.com", replaces=other), "malformed", 400)
    assert client.order("aki.example.com", replaces=old).status == 201


def test_only_a_related_certificate_is_replaced(acme: ACMEHouse) -> None:
    """Of the same account, with a name in common."""
    client, stranger = acme.client(), acme.client()
    old = cert_name(acme.certify(client, "rel.example.com"))
    refused(stranger.order("rel.example.com", replaces=old), "malformed", 400)
    refused(client.order("else.example.com", replaces=old), "malformed", 400)
    refused(client.order("rel.example.com", replaces="aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"),
            "malformed", 400)  # fmt: skip
    assert client.order("rel.example.com", "else.example.com", replaces=old).status == 201


def test_a_key_that_is_jwk_of_an_account_still_needs_the_certificate(acme: ACMEHouse) -> None:
    """A jwk in revokeCert is the certificate's key or nothing."""
    client = acme.client()
    der = acme.certify(client, "jwk.example.com")
    answer = client.post(
        client.url("revoke-cert"), {"certificate": b64(der)}, kid=None, jwk=jwk_of(client.key)
    )
    refused(answer, "unauthorized", 403)
