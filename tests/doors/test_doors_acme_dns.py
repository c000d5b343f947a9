"""dns-account-01 and dns-persist-01, for directories that offer them."""

import base64
import datetime as dt
import hashlib
import json

from acme_client import Client, csr
from acme_directories import opened
from asgi import Answer
from backstage import ACMEHouse, digest, refused

from certmint.model.acme import ChallengeType
from certmint.registry import reads

PERSIST = (ChallengeType.DNS_PERSIST_01,)


def member(acme: ACMEHouse, *challenges: ChallengeType, **offer: object) -> Client:
    """An account of a directory with these challenges."""
    where = opened(acme, challenges=challenges, **offer)
    client = Client(acme.app, f"/acme/acme/{where.name}")
    assert client.register().status == 201
    return client


def only(client: Client, name: str) -> tuple[str, dict[str, str]]:
    """The one authorization of an order, and its one challenge."""
    (authorization,) = client.order(name).json["authorizations"]
    (challenge,) = client.post(authorization).json["challenges"]
    return authorization, challenge


def label(url: str) -> str:
    """draft-ietf-acme-dns-account-label 3.1: ten octets of the account URL's hash, in base32."""
    return "_" + base64.b32encode(hashlib.sha256(url.encode()).digest()[:10]).decode().lower()


def test_each_account_has_a_label_of_its_own(acme: ACMEHouse) -> None:
    """dns-account-01: the record of another account, or the plain one, proves nothing."""
    client, other = (member(acme, ChallengeType.DNS_ACCOUNT_01) for _ in range(2))
    for holder, state in ((other, "invalid"), (client, "valid")):
        name = f"{state}.acc.example"
        authorization, challenge = only(client, name)
        assert challenge["type"] == "dns-account-01"
        proof = digest(f"{challenge['token']}.{client.thumbprint}")
        acme.names.records[f"_acme-challenge.{name}"] = (proof,)
        acme.names.records[f"{label(holder.kid)}._acme-challenge.{name}"] = (proof,)
        assert client.post(challenge["url"], {}).json["status"] == state
        assert client.post(authorization).json["status"] == state


def publish(acme: ACMEHouse, name: str, *texts: str) -> None:
    acme.names.records[f"_validation-persist.{name}"] = texts


def test_a_persistent_challenge_names_issuer_and_account(acme: ACMEHouse) -> None:
    """draft-ietf-acme-dns-persist: no token; the issuer is our CAA identity, or else our host."""
    client = member(acme, *PERSIST)
    _, challenge = only(client, "shape.example")
    assert challenge == {
        "type": "dns-persist-01",
        "url": challenge["url"],
        "status": "pending",
        "issuer-domain-names": ["localhost"],
        "accounturi": client.kid,
    }
    named = member(acme, *PERSIST, caa_identities=("acme.example", "acme.test"))
    assert only(named, "shape.example")[1]["issuer-domain-names"] == ["acme.example"]


def test_a_record_proves_when_the_client_says_so(acme: ACMEHouse) -> None:
    """And what was seen is kept as evidence, for ten days at the most (BR 3.2.2.4.22)."""
    client = member(acme, *PERSIST)
    authorization, challenge = only(client, "later.example")
    publish(acme, "later.example", f"localhost; accounturi={client.kid}")
    assert client.post(challenge["url"], {}).json["status"] == "valid"
    found = client.post(authorization).json
    expires = dt.datetime.fromisoformat(found["expires"])
    assert acme.clock() < expires <= acme.clock() + dt.timedelta(days=10)
    account, stored = client.kid.rsplit("/", 1)[1], authorization.rsplit("/", 1)[1]
    with acme.house.here.db.read() as tx:
        held = reads.acme_authorization(tx, account, stored)
    assert held is not None
    evidence = json.loads(held.evidence)
    assert evidence["record"] == "_validation-persist.later.example"
    assert client.kid in evidence["values"][0]


def test_a_record_that_is_there_makes_the_order_ready(acme: ACMEHouse) -> None:
    """Validated just in time: the client has nothing to wait for, and gets its certificate."""
    client = member(acme, ChallengeType.HTTP_01, *PERSIST)
    publish(acme, "now.example", "other.test; accounturi=x", f"localhost; accounturi={client.kid}")
    order = client.order("now.example").json
    assert order["status"] == "ready"
    done = client.post(order["finalize"], {"csr": csr("now.example")})
    assert done.json["status"] == "valid"
    identifier = {"type": "dns", "value": "now.example"}
    known = client.post(client.url("new-authz"), {"identifier": identifier})
    assert (known.status, known.json["status"]) == (200, "valid")


def test_a_record_that_is_not_there_costs_nothing(acme: ACMEHouse) -> None:
    """The challenge waits, and so does the other one; the record may come a little later."""
    client = member(acme, *PERSIST)
    authorization, challenge = only(client, "patience.example")
    assert client.post(authorization).json["status"] == "pending"
    publish(acme, "patience.example", f"localhost; accounturi={client.kid}")
    assert client.post(challenge["url"], {}).json["status"] == "valid"


def failed(client: Client, name: str) -> Answer:
    """A challenge answered in vain."""
    authorization, challenge = only(client, name)
    assert client.post(challenge["url"], {}).json["status"] == "invalid"
    return client.post(authorization)


def test_another_account_s_record_proves_nothing(acme: ACMEHouse) -> None:
    """Nor one for another issuer, nor one that is over."""
    client, other = (member(acme, *PERSIST) for _ in range(2))
    past = int(acme.clock().timestamp()) - 1
    for number, text in enumerate((
        f"localhost; accounturi={other.kid}",
        f"ca.example; accounturi={client.kid}",
        f"localhost; accounturi={client.kid}; persistUntil={past}",
        "localhost",
    )):  # fmt: skip
        name = f"n{number}.foreign.example"
        publish(acme, name, text)
        error = failed(client, name).json["challenges"][0]["error"]
        assert error["type"].endswith(":unauthorized")


def test_a_wildcard_needs_a_wildcard_policy(acme: ACMEHouse) -> None:
    """And so does a proof for all names below a domain."""
    client = member(acme, *PERSIST, allows_subdomains=True)
    record = f"localhost; accounturi={client.kid}"
    publish(acme, "narrow.example", record)
    publish(acme, "broad.example", f"{record}; policy=Wildcard")
    assert client.order("narrow.example").json["status"] == "ready"
    assert client.order("*.narrow.example").json["status"] == "pending"
    assert client.order("*.broad.example").json["status"] == "ready"
    identifier = {"type": "dns", "value": "broad.example", "subdomainAuthAllowed": True}
    below = client.post(client.url("new-authz"), {"identifier": identifier}).json
    assert (below["status"], below["subdomainAuthAllowed"]) == ("valid", True)


def test_ordinary_clients_see_no_challenge_without_a_token(acme: ACMEHouse) -> None:
    """Some of them fail every order that has one (uacme does)."""
    client = acme.client()
    for name in ("plain.example", "*.plain.example"):
        order = client.order(name).json
        for challenge in client.post(order["authorizations"][0]).json["challenges"]:
            assert challenge["token"]


def test_a_name_that_nothing_here_can_prove_is_rejected(acme: ACMEHouse) -> None:
    """A wildcard without a DNS challenge, an address with nothing else (RFC 8738 7)."""
    web = member(acme, ChallengeType.HTTP_01)
    refused(web.order("*.web.example"), "rejectedIdentifier", 403)
    zone = member(acme, ChallengeType.DNS_01)
    identifiers = [{"type": "ip", "value": "203.0.113.9"}]
    answer = zone.post(zone.url("new-order"), {"identifiers": identifiers})
    refused(answer, "rejectedIdentifier", 403)
