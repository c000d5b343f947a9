"""What an operator cannot do to their own manufacturer: widen, lock out, agree with themselves."""

from collections.abc import Iterator
from typing import Any

import pytest
from asgi import Answer, call
from backstage import House, build

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
