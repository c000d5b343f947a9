"""What a client reads page by page, by another chain, or without a signature."""

import dataclasses
import os
from typing import Any

from acme_client import Client, csr, jws, links
from acme_directories import meta, opened
from asgi import call
from backstage import BY, ACMEHouse, refused
from cryptography import x509

from certmint.doors.acme.accounts import PAGE
from certmint.doors.acme.app import MAX_BODY
from certmint.enrolment import authorities
from certmint.model.entities import Authority
from certmint.model.keys import KeyKind
from certmint.model.serial import new_serial
from certmint.model.states import AuthorityState
from certmint.model.subject import DistinguishedName
from certmint.registry import reads, writes


def test_orders_come_in_pages(acme: ACMEHouse) -> None:
    """RFC 8555 7.1.2.1: each order once, newest first, and `next` only where more follow."""
    client = acme.client()
    first = client.order("first.example.com").headers["location"]
    with acme.house.here.db.read() as tx:
        made = reads.acme_order(tx, client.kid.rsplit("/", 1)[1], first.rsplit("/", 1)[1])
    assert made is not None

    def fill(tx: Any) -> None:
        for number in range(PAGE):
            writes.add_acme_order(tx, dataclasses.replace(made, id=f"{made.id}-{number:04}"), [])

    acme.house.here.db.write(fill)
    page = client.post(client.post(client.kid).json["orders"])
    (further,) = links(page, "next")
    assert further.startswith(client.kid + "/orders?cursor=")
    last = client.post(further)
    assert links(last, "next") == []
    seen = page.json["orders"] + last.json["orders"]
    assert (len(page.json["orders"]), len(set(seen))) == (PAGE, PAGE + 1)
    assert seen[-1] == first


def test_the_query_is_part_of_what_is_signed(acme: ACMEHouse) -> None:
    """RFC 8555 6.4: a page's URL is signed whole, and another page is another URL."""
    client = acme.client()
    url = client.kid + "/orders"
    for signed, asked in ((url, url + "?cursor=x"), (url + "?cursor=x", url)):
        header = {"kid": client.kid, "nonce": client.nonce(), "url": signed}
        refused(client.send(asked, jws(client.key, header, None)), "unauthorized", 403)
    assert client.post(url + "?cursor=nothing").json["orders"] == []
    refused(client.post(url + "?cursor=%00"), "malformed", 404)


def test_the_root_comes_when_it_is_asked_for(acme: ACMEHouse) -> None:
    """RFC 8555 7.4.2: the default leaves it out, the alternate has it, each leads to the other."""
    client = acme.client()
    order = acme.ready(client, "chain.example.com")
    done = client.post(order["finalize"], {"csr": csr("chain.example.com")})
    url = done.json["certificate"]
    usual = client.post(url)
    (other,) = links(usual, "alternate")
    assert other == f"{url}/1"
    whole = client.post(other)
    assert links(whole, "alternate") == [url]
    assert whole.headers["content-type"] == "application/pem-certificate-chain"
    short = x509.load_pem_x509_certificates(usual.body)
    long = x509.load_pem_x509_certificates(whole.body)
    assert long[: len(short)] == short
    (root,) = long[len(short) :]
    assert root.issuer == root.subject
    for number in ("2", "x", "-1", "9999", "\u0661"):
        answer = client.post(f"{url}/{number}")
        assert (answer.status, answer.json["type"].rsplit(":", 1)[1]) == (404, "malformed")
    refused(acme.client().post(other), "malformed", 404)


def cross(acme: ACMEHouse) -> Authority:
    """A second certificate of the issuing CA's key, by a root of its own."""
    here, maker = acme.house.here, acme.house.maker
    wanted = authorities.NewAuthority(
        name="root-2", subject=DistinguishedName.of(C="US", O="Acme", CN="root-2"),
        profile="root", key_uri="file:keys/{id}.pem", key_kind=KeyKind.P256,
        status_url="http://status.example", parent=None,
    )  # fmt: skip
    root = authorities.create_authority(
        here.db, here.gate, here.keys, maker, wanted,
        operator_id=BY, now=here.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    with here.db.read() as tx:
        issuing = reads.authority_by_name(tx, maker.id, "issuing")
    assert issuing is not None
    pending = dataclasses.replace(
        issuing, id="ca-cross", name="issuing-cross", parent_id=root.id,
        state=AuthorityState.PENDING, serial=None, der=b"", not_before=None, not_after=None,
    )  # fmt: skip
    serial = new_serial(here.clock(), os.urandom)
    assert issuing.not_before is not None
    assert issuing.not_after is not None
    times = (issuing.not_before, issuing.not_after)

    def work(tx: Any) -> None:
        writes.add_authority(tx, pending, by=BY, at=here.clock())
        writes.certify_authority(
            tx, maker.id, "ca-cross", serial, root.der, *times, by=BY, at=here.clock()
        )

    here.db.write(work)
    return root


def test_a_cross_certificate_is_another_way_up(acme: ACMEHouse) -> None:
    """The same key under another root: a chain by each of them, with and without the root."""
    client = acme.client()
    order = acme.ready(client, "cross.example.com")
    done = client.post(order["finalize"], {"csr": csr("cross.example.com")})
    url = done.json["certificate"]
    before = client.post(url).body
    root = cross(acme)
    after = client.post(url)
    assert after.body == before
    ways = [client.post(each).body for each in links(after, "alternate")]
    assert len({before, *ways}) == 4
    anchors = [x509.load_pem_x509_certificates(each)[-1].subject for each in ways]
    names = [each.rfc4514_string() for each in anchors]
    assert any("root-2" in name for name in names)
    assert root.name == "root-2"


def test_renewal_info_leads_to_its_directory(acme: ACMEHouse) -> None:
    """RFC 8555 7.1: `index` on answers without a signature too, good and bad."""
    answer = Client(acme.app).get("renewal-info", "AAAA.AAAA")
    assert links(answer, "index") == [Client(acme.app).url("directory")]


def test_the_directory_says_what_it_is(acme: ACMEHouse) -> None:
    """RFC 8555 7.1.1: terms, website and CAA identities, where the operator gave them."""
    found = meta(acme, opened(
        acme, terms="https://acme.example/terms/1", website="https://acme.example",
        caa_identities=("acme.example",),
    ))  # fmt: skip
    assert found["termsOfService"] == "https://acme.example/terms/1"
    assert found["website"] == "https://acme.example"
    assert found["caaIdentities"] == ["acme.example"]
    bare = meta(acme, opened(acme))
    assert set(bare) == {"externalAccountRequired", "profiles"}


def test_a_body_that_is_too_long_is_an_acme_problem(acme: ACMEHouse) -> None:
    """Whether the length is declared or not; with a nonce and a link as any other."""
    client = acme.client()
    url = client.url("new-order")
    refused(client.send(url, b"x" * (MAX_BODY + 1)), "malformed", 413)
    path = url.removeprefix("https://localhost:8443")
    headers = {"content-type": "application/jose+json", "content-length": "5"}
    answer = call(acme.app, "POST", path, body=b"x" * (MAX_BODY + 1), headers=headers)
    refused(answer, "malformed", 413)
    refused(client.send(url, b"x" * MAX_BODY), "malformed", 400)
