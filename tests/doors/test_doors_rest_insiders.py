"""What an operator cannot do to their own manufacturer: widen, lock out, agree with themselves."""

import asyncio
import datetime as dt
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from asgi import Answer, ask, call
from backstage import BY, House, build
from cryptography import x509

from certmint.app.wiring import rest_services, workshop
from certmint.doors.rest.records import MOST_FOLLOWED
from certmint.enrolment import access, approvals, operators
from certmint.enrolment.access import Entrance
from certmint.enrolment.work import work_off
from certmint.model.desk import Job, JobKind, OperatorApproval
from certmint.model.errors import TooOften
from certmint.model.operations import Operation
from certmint.registry import reads, writes

API = "/api/v1"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house of its own: these tests change it."""
    made = build(tmp_path_factory.mktemp("insiders"))
    yield made
    made.here.close()


def as_(shop: House, token: str, method: str, path: str, body: Any = None) -> Answer:
    headers = {"authorization": f"Bearer {token}", "if-match": "*"}
    return call(shop.rest, method, API + path, body=body, headers=headers)


def admin(shop: House) -> str:
    return shop.tokens["acme/administrator"]


def id_of(shop: House, token: str) -> str:
    return str(as_(shop, token, "GET", "/self").json["id"])


def new_operator(shop: House, by: str, name: str, role: str) -> tuple[str, str]:
    """An operator with a token, made over the network: its id, and the token."""
    made = as_(shop, by, "POST", "/operators", {"name": name, "role": role})
    return made.json["id"], token_of(shop, by, made.json["id"])


def token_of(shop: House, by: str, operator_id: str) -> str:
    made = as_(shop, by, "POST", f"/operators/{operator_id}/tokens", {"name": "of a test"})
    assert made.status == 201, made.body
    return str(made.json["token"])


def narrowed(shop: House, *scopes: str) -> str:
    """An administrator's token with some scopes."""
    path = f"/operators/{id_of(shop, admin(shop))}/tokens"
    return str(
        as_(shop, admin(shop), "POST", path, {"name": "narrow", "scopes": scopes}).json["token"]
    )


def test_a_narrowed_token_makes_no_wider_one(shop: House) -> None:
    """Neither for its own operator nor for another, and it gives nobody a greater role."""
    narrow = narrowed(shop, "operators:read", "operators:write")
    mine, other = id_of(shop, admin(shop)), id_of(shop, shop.tokens["acme/viewer"])
    for operator_id in (mine, other):
        path = f"/operators/{operator_id}/tokens"
        for wide in ({}, {"scopes": ["operators:write", "certificates:revoke"]}):
            answer = as_(shop, narrow, "POST", path, {"name": "wide", **wide})
            assert (answer.status, answer.code) == (403, "scope-forbids")
        same = as_(shop, narrow, "POST", path, {"name": "same", "scopes": ["operators:read"]})
        assert same.status == 201
    grown = as_(shop, narrow, "PATCH", f"/operators/{other}", {"role": "administrator"})
    assert (grown.status, grown.code) == (403, "scope-forbids")
    assert as_(shop, narrow, "PATCH", f"/operators/{other}", {"disabled": True}).status == 200
    again = as_(shop, narrow, "PATCH", f"/operators/{other}", {"disabled": False})
    assert again.code == "scope-forbids"


def test_somebody_can_always_come_in(shop: House) -> None:
    """The last administrator is neither shut out nor given another role, by nobody."""
    first = admin(shop)
    mine = id_of(shop, first)
    for change in ({"disabled": True}, {"role": "viewer"}):
        answer = as_(shop, first, "PATCH", f"/operators/{mine}", change)
        assert (answer.status, answer.code) == (409, "last-administrator")
    second, token = new_operator(shop, first, "second", "administrator")
    assert as_(shop, token, "PATCH", f"/operators/{mine}", {"role": "operator"}).status == 200
    last = as_(shop, token, "PATCH", f"/operators/{second}", {"disabled": True})
    assert last.code == "last-administrator"
    assert as_(shop, token, "PATCH", f"/operators/{mine}", {"role": "administrator"}).status == 200


def asked_by(shop: House, token: str) -> str:
    """Where somebody asks for an authority."""
    body = {"name": f"root-{os.urandom(4).hex()}", "kind": "root"}
    asked = as_(shop, token, "POST", "/authorities", body)
    assert asked.status == 202, asked.body
    return asked.headers["location"].removeprefix(API)


def agreed(shop: House, token: str, path: str) -> Answer:
    return as_(shop, token, "POST", f"{path}/approval")


def test_an_administrator_is_no_second_person(shop: House) -> None:
    """Who made both logins could hold both: they do not agree, whichever of them asks."""
    first = admin(shop)
    _, puppet = new_operator(shop, first, "puppet", "security-officer")
    _, other = new_operator(shop, first, "other puppet", "security-officer")
    for asking, agreeing in ((first, puppet), (puppet, first), (puppet, other)):
        refused = agreed(shop, agreeing, asked_by(shop, asking))
        assert (refused.status, refused.code) == (403, "four-eyes-credentials")
    # Whose token was made on the machine is somebody else.
    officer = shop.tokens["acme/security-officer"]
    assert agreed(shop, officer, asked_by(shop, puppet)).json["state"] == "done"
    assert agreed(shop, officer, asked_by(shop, first)).json["state"] == "done"


def test_a_campaign_needs_a_second_person_too(shop: House) -> None:
    """Nor does the same hand agree to a campaign that it drafted."""
    first = admin(shop)
    _, puppet = new_operator(shop, first, "campaigner", "security-officer")
    deadline = (shop.here.clock() + dt.timedelta(days=3)).isoformat()
    body = {
        "name": "incident", "selection": {"serial_numbers": ["R4"]},
        "plan": {"kind": "revoke", "deadline": deadline},
    }  # fmt: skip
    drafted = as_(shop, first, "POST", "/campaigns", body)
    assert drafted.status == 201, drafted.body
    path = f"/campaigns/{drafted.json['id']}"
    assert as_(shop, first, "POST", f"{path}/start").json["state"] == "awaiting-approval"
    assert agreed(shop, first, path).code == "four-eyes"
    assert agreed(shop, puppet, path).code == "four-eyes-credentials"
    assert agreed(shop, shop.tokens["acme/security-officer"], path).status == 200


def test_credentials_pass_from_hand_to_hand(shop: House) -> None:
    """Not by a third operator in between, nor by a token that the puppet makes for itself."""
    first = admin(shop)
    middle_id, middle = new_operator(shop, first, "middle", "administrator")
    _, last = new_operator(shop, middle, "last", "security-officer")
    own = token_of(shop, middle, middle_id)
    for agreeing in (last, own):
        assert agreed(shop, agreeing, asked_by(shop, first)).code == "four-eyes-credentials"


def test_an_account_alone_is_no_credential(shop: House) -> None:
    """Who only made the account, and gave it no token, does not hold it."""
    first = admin(shop)
    made = as_(shop, first, "POST", "/operators", {"name": "real", "role": "security-officer"})
    here = shop.here
    given = operators.add_token(
        here.db, shop.maker.id, made.json["id"], "by the machine", dt.timedelta(days=1),
        by=BY, now=here.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    assert agreed(shop, given.secret, asked_by(shop, first)).json["state"] == "done"


def test_who_lost_the_right_asks_for_nothing(shop: House) -> None:
    """What a demoted operator asked for before is not carried out any more."""
    made, token = new_operator(shop, admin(shop), "leaving", "security-officer")
    path = asked_by(shop, token)
    as_(shop, admin(shop), "PATCH", f"/operators/{made}", {"disabled": True})
    refused = agreed(shop, shop.tokens["acme/security-officer"], path)
    assert (refused.status, refused.code) == (403, "approval-lapsed")
    assert as_(shop, admin(shop), "POST", f"{path}/rejection").json["state"] == "rejected"


def longer_lived(shop: House, days: int) -> str:
    body = {"lifetime": days * 86_400}
    asked = as_(shop, admin(shop), "PATCH", "/profiles/service", body)
    return asked.headers["location"].removeprefix(API)


def test_what_is_agreed_to_is_what_was_shown(shop: House) -> None:
    """A change of a profile that was changed meanwhile is another change."""
    officer = shop.tokens["acme/security-officer"]
    first, second = longer_lived(shop, 20), longer_lived(shop, 21)
    assert agreed(shop, officer, first).json["outcome"] == "profile service version 2"
    refused = agreed(shop, officer, second)
    assert (refused.status, refused.code) == (409, "changed-meanwhile")
    assert as_(shop, officer, "GET", second).json["state"] == "failed"


def test_after_a_crash_one_of_two_goes_on(shop: House) -> None:
    """What is under way is left alone; what was done before the power failed is found done."""
    here, officer = shop.here, shop.tokens["acme/security-officer"]
    path = longer_lived(shop, 30)
    approval_id = path.rpartition("/")[2]
    hands = rest_services(here).hands

    def cut_off(entrance: Entrance, approval: OperatorApproval) -> str:
        hands.deeds[approval.operation](entrance, approval)
        raise KeyboardInterrupt

    me = access.enter(here.db, officer, Operation.APPROVE, here.clock())
    with pytest.raises(KeyboardInterrupt):
        approvals.approve(
            here.db, me, approval_id, {Operation.CHANGE_PROFILE: cut_off}, here.clock()
        )
    before = as_(shop, officer, "GET", "/profiles/service").json["version"]
    assert agreed(shop, officer, path).code == "approval-busy"
    later = here.clock() + approvals.AT_WORK
    done = approvals.approve(here.db, me, approval_id, hands.deeds, later)
    assert (done.state, done.outcome) == ("done", f"profile service version {before}")
    assert as_(shop, officer, "GET", "/profiles/service").json["version"] == before


def test_refusals_do_not_fill_the_log(shop: House) -> None:
    """A viewer who tries a door a hundred times is a few events; another door is another event."""
    viewer = shop.tokens["acme/auditor"]
    me = as_(shop, viewer, "GET", "/self").json["id"]

    def written() -> list[dict[str, Any]]:
        with shop.here.db.read() as tx:
            events = reads.audit_events(tx, shop.maker.id, 0, 100_000)
        return [
            json.loads(each.detail) for each in events
            if (each.action, each.actor) == ("access.refused", f"operator:{me}")
        ]  # fmt: skip

    for _ in range(access.MOST + 10):
        assert as_(shop, viewer, "POST", "/owners", {}).code == "role-forbids"
    assert len(written()) == access.MOST
    assert ["more_unsaid" in each for each in written()].count(True) == 1
    for number in range(access.MOST + 10):
        assert as_(shop, viewer, "GET", f"/devices/X{number}").status == 404
    assert len(written()) == 2 * access.MOST


def test_one_person_revokes_no_authority(shop: House) -> None:
    """What took two people to make takes two people to end."""
    for each in as_(shop, admin(shop), "GET", "/authorities").json["items"]:
        der = x509.load_pem_x509_certificate(each["certificate"].encode())
        path = f"/certificates/{der.serial_number:040x}/revocation"
        refused = as_(shop, shop.tokens["acme/security-officer"], "POST", path, {})
        assert (refused.status, refused.code) == (403, "authority-certificate")


def ordered(shop: House) -> Answer:
    """A job that suspends nobody."""
    body = {"action": "suspend", "serial_numbers": ["none"]}
    return as_(shop, admin(shop), "POST", "/devices/changes", body)


def do_jobs(shop: House) -> None:
    work_off(workshop(shop.here, "test"), lambda: False)


def test_nobody_fills_the_queue(shop: House) -> None:
    """Jobs and approvals of one manufacturer are bounded; when they are done there is room."""
    while (last := ordered(shop)).status == 202:
        pass
    assert (last.status, last.code) == (429, "jobs-full")
    do_jobs(shop)
    assert ordered(shop).status == 202
    do_jobs(shop)

    then = shop.here.clock() - approvals.LIFE  # so that they are over now
    me = access.enter(shop.here.db, admin(shop), Operation.CREATE_AUTHORITY, then)

    def ask() -> None:
        for _ in range(approvals.MOST_OPEN + 1):
            approvals.request(shop.here.db, me, "a root", {}, then, os.urandom)

    with pytest.raises(TooOften) as full:
        ask()
    assert full.value.code == "approvals-full"


def test_a_job_that_fails_for_ever_holds_nobody_up(shop: House) -> None:
    """What nobody thought of ends that job, and the next one is done."""
    here = shop.here
    poison = Job(
        f"job_0_{os.urandom(4).hex()}", shop.maker.id, JobKind.CHANGE_DEVICES, "{}",
        id_of(shop, admin(shop)), here.clock(),
    )  # fmt: skip
    here.db.write(lambda tx: writes.add_job(tx, poison, by=BY, at=here.clock()))
    after = ordered(shop).json["id"]
    with pytest.raises(KeyError):
        do_jobs(shop)
    do_jobs(shop)
    found = as_(shop, admin(shop), "GET", f"/jobs/{poison.id}").json
    assert (found["state"], found["outcome"]["code"]) == ("failed", "internal")
    assert as_(shop, admin(shop), "GET", f"/jobs/{after}").json["state"] == "done"


def test_cancelled_at_the_last_moment(shop: House) -> None:
    """Who cancels between the last step and the end has cancelled, and the next job is done."""
    serial = as_(shop, admin(shop), "GET", "/devices/R6/certificates").json["items"][0]["serial"]
    body = {"serials": [serial], "reason": "superseded"}
    path = as_(shop, admin(shop), "POST", "/certificates/revocations", body).headers["location"]
    said = agreed(shop, shop.tokens["acme/security-officer"], path.removeprefix(API)).json
    job, after = said["outcome"].split()[1], ordered(shop).json["id"]
    shop_of = workshop(shop.here, "test")

    def clock() -> dt.datetime:
        """Somebody cancels as soon as everything was counted."""
        found = as_(shop, admin(shop), "GET", f"/jobs/{job}").json
        if (found["state"], found["done"]) == ("running", 1):
            as_(shop, admin(shop), "POST", f"/jobs/{job}/cancellation")
        return shop.here.clock()

    assert work_off(replace(shop_of, clock=clock), lambda: False) == 2
    assert as_(shop, admin(shop), "GET", f"/jobs/{job}").json["state"] == "cancelled"
    assert as_(shop, admin(shop), "GET", f"/jobs/{after}").json["state"] == "done"


def test_who_may_not_revoke_stops_no_revocation(shop: House) -> None:
    """What two people agreed to is cancelled by those who could have asked for it."""
    serial = as_(shop, admin(shop), "GET", "/devices/R5/certificates").json["items"][0]["serial"]
    body = {"serials": [serial], "reason": "superseded"}
    path = as_(shop, admin(shop), "POST", "/certificates/revocations", body).headers["location"]
    said = agreed(shop, shop.tokens["acme/security-officer"], path.removeprefix(API)).json
    revoking, other = said["outcome"].split()[1], ordered(shop).json["id"]
    operator = shop.tokens["acme/operator"]
    refused = as_(shop, operator, "POST", f"/jobs/{revoking}/cancellation")
    assert (refused.status, refused.code) == (403, "role-forbids")
    assert as_(shop, operator, "POST", f"/jobs/{other}/cancellation").status == 200
    officer = shop.tokens["acme/security-officer"]
    assert as_(shop, officer, "POST", f"/jobs/{revoking}/cancellation").status == 200


def test_streams_of_one_operator_are_few(shop: House) -> None:
    """Each reads the database; who has ten open opens no more, and has room when they end."""
    path = f"{API}/jobs/{ordered(shop).json['id']}/events"
    headers = {"authorization": f"Bearer {admin(shop)}"}

    async def follow() -> tuple[Answer, list[Answer]]:
        # One loop, as in a server: a database serves one.
        streams = [
            asyncio.create_task(ask(shop.rest, "GET", path, headers=headers))
            for _ in range(MOST_FOLLOWED)
        ]
        await asyncio.sleep(0.3)
        refused = await ask(shop.rest, "GET", path, headers=headers)
        await asyncio.to_thread(do_jobs, shop)
        return refused, await asyncio.gather(*streams)

    refused, ended = asyncio.run(asyncio.wait_for(follow(), 30))
    assert refused.code == "streams-full"
    assert {answer.status for answer in ended} == {200}
    assert call(shop.rest, "GET", path, headers=headers).status == 200
