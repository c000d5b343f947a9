"""Rate limits (RFC 8555 6.6), and what wrong MACs of a binding bring."""

import datetime as dt
import itertools

from acme_client import Client, links
from acme_directories import limited
from asgi import Answer
from backstage import ACMEHouse, bound, refused

from certmint.enrolment.acme.limits import Limit
from certmint.registry import reads

MANY = Limit(10_000, 10_000, 10_000)
HOUR = dt.timedelta(hours=1)
names = (f"n{number}.rate.example" for number in itertools.count())


def too_often(acme: ACMEHouse, answer: Answer) -> None:
    """rateLimited; Retry-After is true, and `help` leads to a page with the limits."""
    refused(answer, "rateLimited", 429)
    seconds = int(answer.headers["retry-after"])
    assert 0 < seconds <= HOUR.total_seconds() + 1
    (page,) = links(answer, "help")
    assert page.endswith("/limits")


def later(acme: ACMEHouse, answer: Answer) -> None:
    """Come again when one was told to."""
    acme.clock.ahead += dt.timedelta(seconds=int(answer.headers["retry-after"]))


def test_an_account_orders_so_often_and_no_more(acme: ACMEHouse) -> None:
    """What is refused is not counted: after Retry-After it works, however often one tried."""
    with limited(acme, orders=Limit(3, 10_000, 10_000)) as tight:
        client, neighbour = tight.client(), tight.client()
        assert [client.order(next(names)).status for _ in range(4)] == [201, 201, 201, 429]
        identifier = {"type": "dns", "value": "more.rate.example"}
        too_often(tight, client.post(client.url("new-authz"), {"identifier": identifier}))
        answer = client.order(next(names))
        too_often(tight, answer)
        assert neighbour.order(next(names)).status == 201
        later(tight, answer)
        assert client.order(next(names)).status == 201


def test_a_device_orders_so_often_by_all_its_accounts(acme: ACMEHouse) -> None:
    """A re-imaged device has another account and the same limit."""
    with limited(acme, orders=Limit(10_000, 2, 10_000)) as tight:
        first, second = (tight.bound_client(device="R5") for _ in range(2))
        assert first.order("r5.router.lan").status == 201
        assert second.order("r5.router.lan").status == 201
        too_often(tight, first.order("r5.router.lan"))
        too_often(tight, second.order("r5.router.lan"))
        assert tight.bound_client(device="R6").order("r6.router.lan").status == 201


def test_a_manufacturer_orders_so_often(acme: ACMEHouse) -> None:
    """Of all its accounts; the window that other tests opened may be in use already."""
    with limited(acme, orders=Limit(10_000, 10_000, 1)) as tight:
        tight.clock.ahead += 2 * HOUR
        client, other = tight.client(), tight.client()
        assert client.order(next(names)).status == 201
        too_often(tight, other.order(next(names)))


def test_failures_are_counted(acme: ACMEHouse) -> None:
    """Then no challenge is looked at; it stays as it is, and works when the time has passed."""
    with limited(acme, failures=Limit(2, 10_000, 10_000)) as tight:
        client = tight.client()
        tight.page.content = "nothing"
        for _ in range(2):
            name = next(names)
            tight.names.hosts[name] = ("127.0.0.1",)
            authorization = client.order(name).json["authorizations"][0]
            challenge = client.post(authorization).json["challenges"][0]
            assert client.post(challenge["url"], {}).json["status"] == "invalid"
        authorization = client.order(next(names)).json["authorizations"][0]
        challenge = client.post(authorization).json["challenges"][0]
        answer = client.post(challenge["url"], {})
        too_often(tight, answer)
        assert client.post(challenge["url"]).json["status"] == "pending"
        later(tight, answer)
        assert tight.prove(client, authorization).json["status"] == "valid"


def test_accounts_are_counted_for_device_and_manufacturer(acme: ACMEHouse) -> None:
    """One that exists is found all the same."""
    with limited(acme, accounts=Limit(1, 1, 10_000)) as tight:
        first = tight.bound_client(device="R1")
        second = Client(tight.app, "/acme/acme/bound")
        kid, secret = tight.binding(device="R1")
        too_often(tight, second.register(externalAccountBinding=bound(second, kid, secret)))
        assert Client(tight.app, first.directory, key=first.key).register().status == 200
    with limited(acme, accounts=Limit(1, 10_000, 1)) as tight:
        tight.clock.ahead += 2 * HOUR
        tight.client()
        too_often(tight, Client(tight.app).register())


def test_wrong_macs_lock_nobody_out(acme: ACMEHouse) -> None:
    """Too many are answered 429 and noted once; the right MAC opens its account all the same."""
    with limited(acme, wrong_macs=3) as tight:
        kid, secret = tight.binding()
        answers = []
        for _ in range(6):
            thief = Client(tight.app, "/acme/acme/bound")
            inner = bound(thief, kid, b"x" * 32)
            answers.append(thief.register(externalAccountBinding=inner))
        assert [each.status for each in answers] == [403, 403, 403, 429, 429, 429]
        refused(answers[0], "unauthorized", 403)
        too_often(tight, answers[-1])
        owner = Client(tight.app, "/acme/acme/bound")
        assert owner.register(externalAccountBinding=bound(owner, kid, secret)).status == 201
        with tight.house.here.db.read() as tx:
            events = reads.audit_events(tx, tight.house.maker.id, limit=10_000)
        attacks = [e for e in events if e.action == "acme-binding.attacked" and e.subject == kid]
        assert len(attacks) == 1


def test_an_unknown_kid_looks_like_a_wrong_mac(acme: ACMEHouse) -> None:
    """Nobody learns which bindings there are; nothing is kept for those there are not."""
    kid, _ = acme.binding()
    details = set()
    for wrong in (kid, "eab_nobody", "\u2603"):
        client = Client(acme.app, "/acme/acme/bound")
        answer = client.register(externalAccountBinding=bound(client, wrong, b"x" * 32))
        details.add(refused(answer, "unauthorized", 403)["detail"])
    assert len(details) == 1
    with acme.house.here.db.read() as tx:
        assert reads.acme_count(tx, "MACs:binding:eab_nobody", acme.clock())[0] == 0


def test_the_limits_are_there_to_read(acme: ACMEHouse) -> None:
    """In plain words, for the person whom the `help` link was shown to."""
    with limited(acme, orders=Limit(17, 18, 19)) as tight:
        page = Client(tight.app).get("limits")
        assert page.headers["content-type"].startswith("text/plain")
        assert b"17 an account, 18 a device, 19 a maker" in page.body
        assert Client(tight.app, "/acme/acme/nowhere").get("limits").status == 404
