"""What operators' routes share: idempotency, validators, pages, streams, four eyes, jobs."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from asgi import Answer, call
from backstage import House, build, csr_pem

from certmint.app.wiring import rest_services, workshop
from certmint.doors.rest.app import rest_app
from certmint.enrolment.spool import undisturbed
from certmint.enrolment.work import package_folder, work_off
from certmint.model.serial import parse_serial
from certmint.registry import audit, reads

API = "/api/v1"
NDJSON = "application/x-ndjson"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house of its own: these tests change it."""
    made = build(tmp_path_factory.mktemp("desk"))
    yield made
    made.here.close()


def ask(
    shop: House, method: str, path: str, body: Any = None, *, role: str = "administrator",
    **headers: str,
) -> Answer:  # fmt: skip
    sent = {"authorization": f"Bearer {shop.tokens[f'acme/{role}']}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return call(shop.rest, method, API + path, body=body, headers=sent)


def do_jobs(shop: House) -> int:
    return work_off(workshop(shop.here, "test"), lambda: False)


def test_the_same_key_makes_one_thing(shop: House) -> None:
    """A retry with the same Idempotency-Key gets the first answer; another body is refused."""
    body = {"username": "kim", "password": "ten letters"}
    first = ask(shop, "POST", "/owners", body, idempotency_key="k1")
    again = ask(shop, "POST", "/owners", body, idempotency_key="k1")

    assert (first.status, again.status) == (201, 201)
    assert first.body == again.body
    assert first.headers["location"] == again.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    other = ask(shop, "POST", "/owners", {**body, "username": "lou"}, idempotency_key="k1")
    assert (other.status, other.code) == (409, "idempotency-mismatch")
    without = ask(shop, "POST", "/owners", body)
    assert (without.status, without.code) == (409, "owner-exists")
    assert ask(shop, "POST", "/owners", body, idempotency_key="\x7f").code == "idempotency-key"


def test_a_key_of_a_refused_request_may_be_used_again(shop: House) -> None:
    """Only success is kept."""
    wrong = {"username": "a:b", "password": "ten letters"}
    refused = ask(shop, "POST", "/owners", wrong, idempotency_key="k2")
    assert (refused.status, refused.code) == (400, "owner-syntax")
    right = {"username": "ab", "password": "ten letters"}
    assert ask(shop, "POST", "/owners", right, idempotency_key="k2").status == 201


def test_a_kept_answer_with_a_secret_is_sealed(shop: House) -> None:
    """A new token can be asked for twice with one key, and the database does not hold it."""
    me = ask(shop, "GET", "/self").json["id"]
    path = f"/operators/{me}/tokens"
    made = ask(shop, "POST", path, {"name": "once"}, idempotency_key="k3").json
    again = ask(shop, "POST", path, {"name": "once"}, idempotency_key="k3").json
    assert made["token"] == again["token"]
    with shop.here.db.read() as tx:
        kept = reads.answer(tx, shop.maker.id, me, "k3")
    assert kept is not None
    assert made["token"].encode() not in kept.body


def test_a_change_names_what_it_has_seen(shop: House) -> None:
    """PATCH wants If-Match: 428 without it, 412 for what was changed meanwhile."""
    read = ask(shop, "GET", "/products/router")
    tag = read.headers["etag"]
    assert ask(shop, "GET", "/products/router", if_none_match=tag).status == 304

    assert ask(shop, "PATCH", "/products/router", {"grace": 60}).code == "if-match-required"
    changed = ask(shop, "PATCH", "/products/router", {"grace": 60}, if_match=tag)
    assert (changed.status, changed.json["grace"]) == (200, 60)
    stale = ask(shop, "PATCH", "/products/router", {"grace": 90}, if_match=tag)
    assert (stale.status, stale.code) == (412, "changed-meanwhile")
    assert ask(shop, "GET", "/products/router").json["grace"] == 60


def test_pages_follow_one_another(shop: House) -> None:
    """Every device once, in order, by `next` or by Link; NDJSON gives them all at once."""
    seen: list[str] = []
    path = "/devices?limit=2&fields=serial_number"
    while path:
        answer = ask(shop, "GET", path)
        seen += [item["serial_number"] for item in answer.json["items"]]
        assert all(list(item) == ["serial_number"] for item in answer.json["items"])
        link = answer.headers.get("link", "")
        assert bool(link) == (answer.json["next"] is not None)
        path = link.partition(">")[0].removeprefix("<" + API)
    assert seen == sorted(seen)
    assert len(set(seen)) == len(seen) >= 7

    stream = ask(shop, "GET", "/devices", accept=NDJSON)
    assert stream.headers["content-type"].startswith(NDJSON)
    lines = [json.loads(line) for line in stream.body.splitlines()]
    assert [line["serial_number"] for line in lines] == seen
    assert ask(shop, "GET", "/devices?fields=nonsense").code == "fields-unknown"


def test_filters_narrow_a_listing(shop: House) -> None:
    """By the beginning of the serial number, by owner, by product, by state."""

    def serials(query: str) -> list[str]:
        items = ask(shop, "GET", f"/devices?{query}").json["items"]
        return [item["serial_number"] for item in items]

    owner = ask(shop, "GET", "/owners?limit=1000").json["items"]
    jo = next(each["id"] for each in owner if each["username"] == "jo")
    assert serials(f"owner={jo}") == ["R2"]
    assert serials("prefix=P") == ["P1"]
    product = ask(shop, "GET", "/products/router").json["id"]
    assert "P1" not in serials(f"product={product}")
    assert serials("state=retired") == []


def test_a_manifest_may_be_ndjson_and_is_its_own_key(shop: House) -> None:
    """The same one twice is the same batch; minting it is a job whose packages can be fetched."""
    lines = b'{"serial": "N1", "mac": "00:11:22:33:44:55"}\n{"serial": "N2"}\n'
    path = "/batches?product=router"
    made = ask(shop, "POST", path, lines, role="station", content_type=NDJSON)
    again = ask(shop, "POST", path, lines, role="station", content_type=NDJSON)
    assert made.status == 201
    assert (made.json["id"], made.json["devices"]) == (again.json["id"], 2)
    assert ask(shop, "POST", path, b"serial\nN1\n", content_type="text/csv").code == "device-exists"
    assert ask(shop, "POST", path, b'{"serial": 1}', content_type=NDJSON).code == "manifest-syntax"
    assert ask(shop, "POST", path, {}, role="station").code == "manifest-type"

    batch = f"/batches/{made.json['id']}"
    assert ask(shop, "GET", f"{batch}/packages").code == "packages-missing"
    body = {"passphrase": "correct horse battery"}
    job = ask(shop, "POST", f"{batch}/minting", body, role="station")
    assert job.status == 202
    with shop.here.db.read() as tx:
        kept = reads.job(tx, shop.maker.id, job.json["id"])
    assert kept is not None
    assert "correct horse" not in kept.document
    assert do_jobs(shop) >= 1
    done = ask(shop, "GET", f"/jobs/{job.json['id']}", role="station").json
    assert (done["state"], done["done"], done["outcome"]["minted"]) == ("done", 2, 2)
    packages = ask(shop, "GET", f"{batch}/packages", role="station")
    assert [json.loads(line)["serial"] for line in packages.body.splitlines()] == ["N1", "N2"]
    with undisturbed(package_folder(rest_services(shop.here).packages, made.json["id"])):
        busy = ask(shop, "DELETE", f"{batch}/packages", role="station")
    assert (busy.status, busy.code) == (409, "batch-locked")
    assert ask(shop, "GET", f"{batch}/packages", role="station").status == 200
    assert ask(shop, "DELETE", f"{batch}/packages", role="station").status == 204
    assert ask(shop, "GET", f"{batch}/packages").code == "packages-missing"
    assert ask(shop, "GET", batch).json["by_state"] == {"provisioned": 2}


def test_an_authority_needs_a_second_person(shop: House) -> None:
    """Nothing is made before somebody else agreed; then it is what was asked for."""
    body = {"name": "sub", "kind": "subordinate", "parent": "root", "domains": ["router.lan"]}
    asked = ask(shop, "POST", "/authorities", body)
    assert asked.status == 202
    path = asked.headers["location"].removeprefix(API)
    assert ask(shop, "GET", "/authorities/sub").code == "authority-unknown"
    assert ask(shop, "POST", f"{path}/approval").code == "four-eyes"

    agreed = ask(shop, "POST", f"{path}/approval", role="security-officer")
    assert (agreed.status, agreed.json["state"]) == (200, "done")
    made = ask(shop, "GET", "/authorities/sub").json
    assert (made["domains"], made["path_length"]) == (["router.lan"], 0)
    again = ask(shop, "POST", f"{path}/approval", role="security-officer")
    assert again.code == "wrong-state"


def test_what_policy_refuses_fails_the_approval(shop: House) -> None:
    """A SubCA for a domain that nobody validated: agreed to, refused, and written down."""
    body = {"name": "bad", "kind": "subordinate", "parent": "root", "domains": ["not-ours.example"]}
    path = ask(shop, "POST", "/authorities", body).headers["location"].removeprefix(API)
    refused = ask(shop, "POST", f"{path}/approval", role="security-officer")
    assert refused.status == 403
    found = ask(shop, "GET", path).json
    assert (found["state"], found["outcome"].split(":")[0]) == ("failed", refused.code)
    mistake = ask(shop, "POST", "/authorities", {"name": "r", "kind": "root", "parent": "root"})
    assert mistake.code == "authority-syntax"


def test_a_rejected_profile_change_changes_nothing(shop: House) -> None:
    """And an approved one is the next version, for what is issued from then on."""
    tag = ask(shop, "GET", "/profiles/service").headers["etag"]
    path = "/profiles/service"
    first = ask(shop, "PATCH", path, {"lifetime": 30 * 86_400}, if_match=tag)
    place = first.headers["location"].removeprefix(API)
    assert ask(shop, "POST", f"{place}/rejection").json["state"] == "rejected"
    assert ask(shop, "GET", path).json["version"] == 1

    second = ask(shop, "PATCH", path, {"lifetime": 30 * 86_400}, if_match=tag)
    place = second.headers["location"].removeprefix(API)
    assert ask(shop, "POST", f"{place}/approval", role="security-officer").status == 200
    changed = ask(shop, "GET", path).json
    assert (changed["version"], changed["lifetime"]) == (2, 30 * 86_400)
    assert ask(shop, "GET", f"{path}?version=1").json["lifetime"] == 90 * 86_400
    same = ask(shop, "PATCH", path, {"lifetime": 30 * 86_400}, if_match="*")
    assert same.code == "profile-syntax"


def test_many_revocations_are_a_job_after_a_second_look(shop: House) -> None:
    """Agreed to, worked off, and each certificate revoked for the reason that was given."""
    serials = []
    for number in range(3):
        body = {"authority": "issuing", "csr": csr_pem(), "names": [f"s{number}.router.lan"]}
        serials.append(ask(shop, "POST", "/certificates", body).json["serial"])
    body = {"serials": serials, "reason": "superseded"}
    path = ask(shop, "POST", "/certificates/revocations", body).headers["location"]
    agreed = ask(shop, "POST", f"{path.removeprefix(API)}/approval", role="security-officer").json
    do_jobs(shop)
    job = ask(shop, "GET", f"/jobs/{agreed['outcome'].split()[1]}").json
    assert (job["state"], job["outcome"]) == ("done", {"revoked": 3, "refused": []})
    reasons = {
        ask(shop, "GET", f"/certificates/{serial}").json["revocation_reason"] for serial in serials
    }
    assert reasons == {"superseded"}
    with shop.here.db.read() as tx:
        found = reads.certificate(tx, shop.maker.id, parse_serial(serials[0]))
        assert audit.verify(tx).broken_at is None
    assert found is not None
    assert found.revocation is not None
    unknown = {"serials": ["00" * 20], "reason": "superseded"}
    assert ask(shop, "POST", "/certificates/revocations", unknown).code == "certificate-unknown"


def test_a_cancelled_job_is_not_done(shop: House) -> None:
    """And one that names who was refused says so in its outcome."""
    body = {"action": "suspend", "serial_numbers": ["R5", "none"]}
    first = ask(shop, "POST", "/devices/changes", body).json["id"]
    assert ask(shop, "POST", f"/jobs/{first}/cancellation").json["state"] == "cancelled"
    do_jobs(shop)
    assert ask(shop, "GET", "/devices/R5").json["state"] != "suspended"
    second = ask(shop, "POST", "/devices/changes", body).json["id"]
    do_jobs(shop)
    outcome = ask(shop, "GET", f"/jobs/{second}").json["outcome"]
    assert outcome["changed"] == 1
    assert [each["code"] for each in outcome["refused"]] == ["device-unknown"]
    assert ask(shop, "GET", "/devices/R5").json["state"] == "suspended"
    events = ask(shop, "GET", f"/jobs/{second}/events")
    assert events.body.startswith(b"event: done\ndata: {")


def test_a_job_is_taken_up_where_a_node_died(shop: House) -> None:
    """Running, its lease over: the next node goes on, and does nothing twice."""
    body = {"action": "resume", "serial_numbers": ["R5"]}
    job = ask(shop, "POST", "/devices/changes", body).json["id"]
    shop_of = workshop(shop.here, "other")
    now = shop.here.clock()
    from certmint.model.desk import JobEvent
    from certmint.registry import writes

    with shop.here.db.read() as tx:
        found = reads.job(tx, shop.maker.id, job)
    assert found is not None
    shop.here.db.write(
        lambda tx: writes.move_job(tx, found, JobEvent.STARTED, by="node:dead", at=now)
    )
    assert work_off(shop_of, lambda: False) == 1
    assert ask(shop, "GET", f"/jobs/{job}").json["state"] == "done"


def test_too_many_requests_are_told_to_wait(shop: House) -> None:
    """The header fields count down; 429 says how long to wait; another tenant is not touched."""
    from dataclasses import replace

    app = rest_app(replace(rest_services(shop.here), requests_minute=3), "0")

    def get(maker: str) -> Answer:
        token = shop.tokens[f"{maker}/viewer"]
        headers = {"authorization": f"Bearer {token}"}
        return call(app, "GET", f"{API}/self", headers=headers)

    answers = [get("acme") for _ in range(8)]  # a minute may end once in between
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert refused[0].code == "rate-limit"
    assert 1 <= int(refused[0].headers["retry-after"]) <= 60
    assert refused[0].headers["ratelimit"].startswith('"default";r=0;t=')
    assert get("other").status == 200


def test_another_method_is_told_which_there_are(shop: House) -> None:
    """Allow names every method of the path."""
    answer = ask(shop, "PUT", "/owners")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")


def test_long_lists_of_serials_fit(shop: House) -> None:
    """10,000 serials are more than other bodies may have."""
    body = {"serials": [os.urandom(19).hex() for _ in range(10_000)], "reason": "superseded"}
    assert ask(shop, "POST", "/certificates/revocations", body).code == "certificate-unknown"


def test_numbers_and_times_beyond_all_bounds_are_refused(shop: House) -> None:
    """Found by schemathesis: what no column and no calendar can hold is the client's mistake."""
    assert ask(shop, "GET", f"/profiles/service?version={2**70}").code == "request-syntax"
    body = {
        "name": "late",
        "selection": {"product": "router"},
        "plan": {"kind": "replace", "deadline": "9999-12-31T23:59:59-10:00"},
    }
    assert ask(shop, "POST", "/campaigns", body).code == "campaign-plan"
