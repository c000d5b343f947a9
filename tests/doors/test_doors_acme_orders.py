"""What the ACME door refuses to order or to finalize, and how it says so."""

import os
from typing import Any

import pytest
from acme_client import URN, Client, csr
from asgi import call
from backstage import ACMEHouse, refused
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certmint.doors.acme.problems import TYPES, kind_of
from certmint.enrolment.acme import orders
from certmint.enrolment.acme.directories import directory_named
from certmint.enrolment.acme.limits import GENEROUS
from certmint.model import errors
from certmint.model.acme import identifier_of
from certmint.registry import reads, writes


def order_of(client: Client, *identifiers: Any, **payload: Any) -> Any:
    """newOrder with identifiers as they are."""
    return client.post(client.url("new-order"), {"identifiers": list(identifiers)} | payload)


@pytest.mark.parametrize(
    "value",
    ["", ".", "a..b", "-a.example", "a_b.example", "x" * 64 + ".example", "a.example.",
     "*", "*.*.example.com", "a.*.example.com", "1.2.3.4", "xn--", "b\u00fccher.example",
     "a\x00.example", "a.example:80", "http://a.example", " a.example", "\u212aey.example"],
)  # fmt: skip
def test_what_is_no_dns_name_is_rejected(acme: ACMEHouse, value: str) -> None:
    """RFC 8555 6.7: rejectedIdentifier, with a subproblem that says which one."""
    problem = refused(
        order_of(acme.client(), {"type": "dns", "value": value}), "rejectedIdentifier", 400
    )
    (part,) = problem["subproblems"]
    assert part["identifier"] == {"type": "dns", "value": value}


@pytest.mark.parametrize("value", ["1.2.3", "127.0.0.01", "::ffff:1.2.3.4", "FE80::1", "fe80::1%1"])
def test_what_is_no_address_is_rejected(acme: ACMEHouse, value: str) -> None:
    """RFC 8738 3: the one text form of RFC 5952."""
    refused(order_of(acme.client(), {"type": "ip", "value": value}), "rejectedIdentifier", 400)


def test_other_identifiers_are_not_supported(acme: ACMEHouse) -> None:
    """RFC 8555 7.4: unsupportedIdentifier."""
    client = acme.client()
    refused(order_of(client, {"type": "email", "value": "a@x"}), "unsupportedIdentifier", 400)


def test_several_reasons_are_compound(acme: ACMEHouse) -> None:
    """RFC 8555 6.7.1: each identifier that is refused with its own type; the good one is not."""
    problem = refused(
        order_of(
            acme.client(),
            {"type": "dns", "value": "good.example.com"},
            {"type": "dns", "value": "a_b.example.com"},
            {"type": "email", "value": "a@example.com"},
        ),
        "compound",
        400,
    )
    assert [(each["type"], each["identifier"]["value"]) for each in problem["subproblems"]] == [
        (URN + "rejectedIdentifier", "a_b.example.com"),
        (URN + "unsupportedIdentifier", "a@example.com"),
    ]


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"identifiers": []},
        {"identifiers": "x"},
        {"identifiers": ["x"]},
        {"identifiers": [{"type": "dns"}]},
        {"identifiers": [{"type": "dns", "value": 5}]},
        {"identifiers": [{"type": "dns", "value": f"n{i}.example.com"} for i in range(101)]},
        {"identifiers": [{"type": "dns", "value": "a.example.com"}], "notAfter": "2030-01-01"},
        {"identifiers": [{"type": "dns", "value": "a.example.com"}], "profile": 5},
        {"identifiers": [{"type": "dns", "value": "a.example.com"}], "replaces": "x"},
        {"identifiers": [{"type": "dns", "value": "a.example.com"}], "replaces": 5},
    ],
)
def test_an_order_of_the_wrong_shape_is_malformed(acme: ACMEHouse, payload: dict[str, Any]) -> None:
    """notBefore and notAfter too: they are honoured exactly or not at all (RFC 8555 7.4)."""
    client = acme.client()
    refused(client.post(client.url("new-order"), payload), "malformed", 400)


@pytest.mark.parametrize("nothing", [None, ""])
def test_what_is_left_empty_is_left_out(acme: ACMEHouse, nothing: str | None) -> None:
    """Clients whose language writes every field of an order say so what they do not want."""
    fields = dict.fromkeys(("notBefore", "notAfter", "profile", "replaces"), nothing)
    order = acme.client().order("nothing.example.com", **fields)
    assert (order.status, "replaces" in order.json) == (201, False)


def test_only_the_directory_s_profiles_are_sold(acme: ACMEHouse) -> None:
    """draft-ietf-acme-profiles: invalidProfile; a known one is reflected."""
    client = acme.client()
    refused(client.order("p.example.com", profile="root"), "invalidProfile", 400)
    assert client.order("p.example.com", profile="service").json["profile"] == "service"


def test_an_order_of_another_account_is_not_there(acme: ACMEHouse) -> None:
    """Orders, authorizations, challenges and certificates belong to one account."""
    client, stranger = acme.client(), acme.client()
    order = acme.ready(client, "mine.example.com")
    done = client.post(order["finalize"], {"csr": csr("mine.example.com")})
    (authorization,) = order["authorizations"]
    challenge = client.post(authorization).json["challenges"][0]["url"]
    location = done.headers["location"]
    for url in (location, done.json["certificate"], authorization, challenge):
        refused(stranger.post(url), "malformed", 404)
    refused(stranger.post(challenge, {}), "malformed", 404)
    refused(stranger.post(authorization, {"status": "deactivated"}), "malformed", 404)
    refused(stranger.post(order["finalize"], {"csr": csr("mine.example.com")}), "malformed", 404)


def test_an_order_is_finalized_when_it_is_ready(acme: ACMEHouse) -> None:
    """RFC 8555 7.4: orderNotReady before, and after; there is no certificate before either."""
    client = acme.client()
    order = client.order("soon.example.com")
    url = order.json["finalize"]
    refused(client.post(url, {"csr": csr("soon.example.com")}), "orderNotReady", 403)
    assert "certificate" not in order.json
    refused(client.post(url.replace("/order/", "/cert/").removesuffix("/finalize")),
            "malformed", 404)  # fmt: skip
    acme.prove(client, order.json["authorizations"][0])
    assert client.post(url, {"csr": csr("soon.example.com")}).json["status"] == "valid"
    refused(client.post(url, {"csr": csr("soon.example.com")}), "orderNotReady", 403)


def test_a_csr_that_does_not_fit_leaves_the_order_ready(acme: ACMEHouse) -> None:
    """RFC 8555 7.4: badCSR, and the client may try again with a better one."""
    client = acme.client()
    order = acme.ready(client, "fit.example.com")
    url, name = order["finalize"], "fit.example.com"
    weak = ec.generate_private_key(ec.SECP521R1())
    for wrong in (
        csr("other.example.com"),
        csr(name, "other.example.com"),
        csr(),
        csr(name, common_name="other.example.com"),
        csr(name, key=client.key),
        csr(name, key=weak),
        csr(name)[:-20],
        "AAAA",
    ):
        refused(client.post(url, {"csr": wrong}), "badCSR", 400)
        (authorization,) = order["authorizations"]
        assert client.post(authorization).json["status"] == "valid"
        listed = client.post(client.post(client.kid).json["orders"]).json["orders"]
        assert client.post(listed[0]).json["status"] == "ready"
    for payload in ({}, {"csr": 5}, {"csr": "a=="}):
        refused(client.post(url, payload), "malformed", 400)
    assert client.post(url, {"csr": csr(name, common_name=name)}).json["status"] == "valid"


def test_a_common_name_alone_names_the_certificate(acme: ACMEHouse) -> None:
    """RFC 8555 7.4 lets a client put a name in the subject; the certificate has it in its SAN."""
    client = acme.client()
    order = acme.ready(client, "cn.example.com")
    done = client.post(order["finalize"], {"csr": csr(common_name="CN.example.com")})
    assert done.json["status"] == "valid"


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_an_rsa_key_is_certified(acme: ACMEHouse, bits: int) -> None:
    """Clients that use RSA get their certificate, in the sizes that they choose by themselves."""
    client = acme.client()
    key = rsa.generate_private_key(65537, bits)
    assert acme.certify(client, "rsa.example.com", key=key)


def test_a_deactivated_authorization_ends_its_orders(acme: ACMEHouse) -> None:
    """RFC 8555 7.1.6 and 7.5.2: given up, and never used again."""
    client = acme.client()
    order = acme.ready(client, "up.example.com")
    (authorization,) = order["authorizations"]
    refused(client.post(authorization, {"status": "valid"}), "malformed", 400)
    assert client.post(authorization, {"status": "deactivated"}).json["status"] == "deactivated"
    refused(client.post(order["finalize"], {"csr": csr("up.example.com")}), "orderNotReady", 403)
    again = client.order("up.example.com").json
    assert again["status"] == "pending"
    assert again["authorizations"] != [authorization]


def test_open_orders_are_bounded(acme: ACMEHouse) -> None:
    """RFC 8555 6.6: rateLimited says when to come again."""
    client = acme.client()
    db, now = acme.house.here.db, acme.clock()
    directory = directory_named(db, "acme", "open")
    with db.read() as tx:
        account = reads.acme_account(tx, directory.id, client.kid.rsplit("/", 1)[1])
        assert account is not None
    made = orders.new_order(
        db, directory, account, [identifier_of("dns", "many.example.com")], None, None,
        now=now, random_bytes=os.urandom,
    )  # fmt: skip

    def fill(tx: Any) -> None:
        for number in range(GENEROUS.open_orders):
            copy = vars(made) | {"id": f"{made.id}-{number}"}
            writes.add_acme_order(tx, type(made)(**copy), [])

    db.write(fill)
    answer = client.order("one-more.example.com")
    refused(answer, "rateLimited", 429)
    assert int(answer.headers["retry-after"]) > 0


def test_only_registered_types_go_out() -> None:
    """RFC 8555 6.7: whatever the code of an error, its type is one that clients know."""
    for kind in vars(errors).values():
        if isinstance(kind, type) and kind is not errors.CertmintError:
            if not issubclass(kind, errors.CertmintError):
                continue
            found, status = kind_of(kind("some-new-code", "some new reason"))
            assert found in TYPES
            assert 400 <= status < 600


def test_a_place_that_is_not_there_is_not_found(acme: ACMEHouse) -> None:
    """A wrong path and a wrong directory."""
    client = acme.client()
    assert call(acme.app, "POST", "/acme/acme/open/new-thing", body=b"{}").status == 404
    nowhere = Client(acme.app, "/acme/acme/nowhere", key=client.key)
    url = nowhere.url("new-account")
    refused(nowhere.post(url, {}, nonce=client.nonce()), "malformed", 404)
