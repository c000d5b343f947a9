"""What an operator cannot do to their own manufacturer: widen, lock out, agree with themselves."""

import datetime as dt
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from asgi import Answer, call
from backstage import BY, House, build

from certmint.app.wiring import rest_services
from certmint.enrolment import access, approvals, operators
from certmint.enrolment.access import Entrance
from certmint.model.desk import OperatorApproval
from certmint.model.operations import Operation
from certmint.registry import reads

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
