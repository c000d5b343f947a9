"""newAuthz (RFC 8555 7.4.1), and one proof for a whole domain (RFC 9444)."""

from typing import Any

import pytest
from acme_client import Client, csr
from acme_directories import meta, opened
from asgi import Answer
from backstage import ACMEHouse, digest, refused


def ask(client: Client, value: str, kind: str = "dns", **identifier: Any) -> Answer:
    """newAuthz."""
    wanted = {"type": kind, "value": value} | identifier
    return client.post(client.url("new-authz"), {"identifier": wanted})


def prove_by_dns(acme: ACMEHouse, client: Client, url: str) -> Answer:
    """Answer dns-01, and show the authorization as it is then."""
    found = client.post(url).json
    (challenge,) = (each for each in found["challenges"] if each["type"] == "dns-01")
    name = found["identifier"]["value"]
    proof = digest(f"{challenge['token']}.{client.thumbprint}")
    acme.names.records[f"_acme-challenge.{name}"] = (proof,)
    assert client.post(challenge["url"], {}).status == 200
    return client.post(url)


def test_a_name_is_authorized_before_any_order(acme: ACMEHouse) -> None:
    """Proved once, it makes a later order ready; asking again finds the same one."""
    client = acme.client()
    made = ask(client, "Before.example.com")
    assert (made.status, made.json["status"]) == (201, "pending")
    assert made.json["identifier"] == {"type": "dns", "value": "before.example.com"}
    url = made.headers["location"]
    assert acme.prove(client, url).json["status"] == "valid"
    again = ask(client, "before.example.com")
    assert (again.status, again.headers["location"]) == (200, url)
    order = client.order("before.example.com").json
    assert (order["status"], order["authorizations"]) == ("ready", [url])


def test_the_maker_s_domain_is_valid_at_once(acme: ACMEHouse) -> None:
    """A bound account proves nothing itself; the evidence is weighed again at finalize."""
    client = acme.bound_client(device="R4")
    made = ask(client, "r4.router.lan")
    assert (made.status, made.json["status"]) == (201, "valid")
    order = client.order("r4.router.lan").json
    assert order["status"] == "ready"
    done = client.post(order["finalize"], {"csr": csr("r4.router.lan")})
    assert done.json["status"] == "valid"
    refused(ask(client, "r3.router.lan"), "rejectedIdentifier", 403)


def test_an_address_is_authorized_too(acme: ACMEHouse) -> None:
    """RFC 8738: and never by DNS."""
    made = ask(acme.client(), "203.0.113.7", "ip").json
    assert {each["type"] for each in made["challenges"]} == {"http-01", "tls-alpn-01"}


def test_a_wildcard_is_not_authorized_beforehand(acme: ACMEHouse) -> None:
    """RFC 8555 7.4.1: it comes with an order."""
    refused(ask(acme.client(), "*.example.com"), "malformed", 400)


@pytest.mark.parametrize(
    "payload",
    [{}, {"identifier": []}, {"identifier": "x"}, {"identifier": {"type": "dns"}},
     {"identifier": {"type": "dns", "value": "a.b", "subdomainAuthAllowed": 1}}],
)  # fmt: skip
def test_newauthz_of_the_wrong_shape(acme: ACMEHouse, payload: dict[str, Any]) -> None:
    """One identifier, as an object."""
    client = acme.client()
    refused(client.post(client.url("new-authz"), payload), "malformed", 400)


def test_what_is_no_name_is_rejected(acme: ACMEHouse) -> None:
    """As in newOrder."""
    refused(ask(acme.client(), "a_b.example.com"), "rejectedIdentifier", 400)
    refused(ask(acme.client(), "a@example.com", "email"), "unsupportedIdentifier", 400)


def wide(acme: ACMEHouse) -> Client:
    """An account where a domain may be proved for all names below it."""
    client = Client(acme.app, f"/acme/acme/{opened(acme, allows_subdomains=True).name}")
    assert client.register().status == 201
    return client


def test_one_proof_serves_the_names_below(acme: ACMEHouse) -> None:
    """RFC 9444 4.2: orders for names below are ready, deep ones and wild ones."""
    client = wide(acme)
    made = ask(client, "tree.example", subdomainAuthAllowed=True)
    assert made.json["subdomainAuthAllowed"] is True
    assert {each["type"] for each in made.json["challenges"]} == {"dns-01"}
    url = made.headers["location"]
    assert prove_by_dns(acme, client, url).json["status"] == "valid"
    for names in (("a.tree.example",), ("b.a.tree.example", "*.c.tree.example"), ("tree.example",)):
        order = client.order(*names).json
        assert (order["status"], order["authorizations"]) == ("ready", [url])
        done = client.post(order["finalize"], {"csr": csr(*names)})
        assert done.json["status"] == "valid", done.body
    for stranger in ("a.tree.example.org", "other.example", "notree.example"):
        assert client.order(stranger).json["status"] == "pending"
    assert wide(acme).order("a.tree.example").json["status"] == "pending"


def test_an_order_names_the_domain_that_can_be_proved(acme: ACMEHouse) -> None:
    """RFC 9444 4.3: `ancestorDomain` moves the challenge up; names of one domain share one."""
    client = wide(acme)
    identifiers = [
        {"type": "dns", "value": f"{label}.up.example", "ancestorDomain": "up.example"}
        for label in ("a", "b.c")
    ]
    made = client.post(client.url("new-order"), {"identifiers": identifiers})
    (authorization,) = made.json["authorizations"]
    found = client.post(authorization).json
    assert found["identifier"] == {"type": "dns", "value": "up.example"}
    assert found["subdomainAuthAllowed"] is True
    assert prove_by_dns(acme, client, authorization).json["status"] == "valid"
    ready = client.post(made.headers["location"]).json
    assert ready["status"] == "ready"
    done = client.post(ready["finalize"], {"csr": csr("a.up.example", "b.c.up.example")})
    assert done.json["status"] == "valid"


def test_a_pending_domain_is_nobody_s_surprise(acme: ACMEHouse) -> None:
    """An order that names no ancestor has a challenge that a web server can answer."""
    client = wide(acme)
    domain = ask(client, "later.example", subdomainAuthAllowed=True).headers["location"]
    for name in ("later.example", "a.later.example"):
        (authorization,) = client.order(name).json["authorizations"]
        assert authorization != domain
        kinds = {each["type"] for each in client.post(authorization).json["challenges"]}
        assert "http-01" in kinds


@pytest.mark.parametrize("ancestor", ["other.example", "x.a.up.example", "*.up.example", 5, ""])
def test_an_ancestor_is_a_domain_above(acme: ACMEHouse, ancestor: object) -> None:
    """Anything else is malformed, or no name at all."""
    identifier = {"type": "dns", "value": "a.up.example", "ancestorDomain": ancestor}
    client = wide(acme)
    answer = client.post(client.url("new-order"), {"identifiers": [identifier]})
    assert answer.status == 400
    assert answer.json["type"].rsplit(":", 1)[1] in ("malformed", "rejectedIdentifier")


def test_sub_domains_are_the_operator_s_choice(acme: ACMEHouse) -> None:
    """A directory without them says so, and authorizes the names one by one (RFC 9444 4.4)."""
    assert meta(acme, opened(acme, allows_subdomains=True))["subdomainAuthAllowed"] is True
    client = acme.client()
    made = ask(client, "plain.example", subdomainAuthAllowed=True).json
    assert "subdomainAuthAllowed" not in made
    identifier = {"type": "dns", "value": "a.plain.example", "ancestorDomain": "plain.example"}
    order = client.post(client.url("new-order"), {"identifiers": [identifier]}).json
    found = client.post(order["authorizations"][0]).json
    assert found["identifier"]["value"] == "a.plain.example"
