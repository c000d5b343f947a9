"""Who may do what over REST: every operation as every role, and as every role of another tenant."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from asgi import Answer, call
from backstage import House, build, csr_pem

from certmint.app.wiring import workshop
from certmint.enrolment import batches, device_requests, products
from certmint.enrolment.work import work_off
from certmint.model.entities import Role
from certmint.model.operations import Operation, Scope
from certmint.policy.authorization import RULES
from certmint.registry import reads

API = "/api/v1"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house of its own: these tests change it."""
    made = build(tmp_path_factory.mktemp("roles"))
    yield made
    made.here.close()


@pytest.fixture(scope="module")
def things(shop: House) -> dict[str, str]:
    """The ids of acme's things that paths name."""
    admin = shop.tokens["acme/administrator"]

    def made(path: str, body: Any, **headers: str) -> str:
        answer = as_(shop, admin, "POST", path, body, headers)
        assert answer.status in (201, 202), answer.body
        return str(answer.json["id"])

    with shop.here.db.read() as tx:
        operator = next(
            each for each in reads.operators(tx, shop.maker.id) if each.role is Role.VIEWER
        )
        certificate = reads.certificates(tx, shop.maker.id, limit=1)[0]
        owner = reads.owners(tx, shop.maker.id)[0]
        batch = reads.batches(tx, shop.maker.id)[0]
        validation = reads.verified_domains(tx, shop.maker.id)[0]
    waiting = waiting_request(shop)
    job = made("/audit/verification", {})
    work_off(workshop(shop.here, "test"), lambda: False)  # who follows it shall not wait
    return {
        "slug": "acme",
        "request_id": waiting,
        "operator_id": operator.id,
        "token_id": made(f"/operators/{operator.id}/tokens", {"name": "second"}),
        "validation_id": validation.id,
        "authority": "issuing",
        "profile": "service",
        "product": products.product_named(shop.here.db, shop.maker, "router").name,
        "serial_number": "R1",
        "serial": certificate.serial,
        "owner_id": owner.id,
        "batch_id": batches.batch_of(shop.here.db, shop.maker, batch.id).id,
        "campaign_id": made("/campaigns", CALLS[Operation.CREATE_CAMPAIGN][2]),
        "job_id": job,
        "approval_id": made(
            "/certificates/revocations", {"serials": [certificate.serial], "reason": "superseded"}
        ),
    }


def waiting_request(shop: House) -> str:
    """What a device asked for while its product wanted an operator to decide."""
    here = shop.here
    product = products.product_named(here.db, shop.maker, "router")
    for approval in ("always", "none"):
        products.set_policy(
            here.db, product, (), grace=None, approval=(approval,), by="x", now=here.clock()
        )
        if approval == "always":
            asked = call(
                shop.rest, "POST", f"{API}/device/certificates", body={"csr": csr_pem()},
                peer=shop.identity("R5"),
            )  # fmt: skip
            assert asked.status == 202
    (found,) = device_requests.requests(here.db, shop.maker.id, here.clock())
    return found.request.id


# Operation -> method, path, body. {…} is one of acme's things.
CALLS: dict[Operation, tuple[str, str, Any]] = {
    Operation.SHOW_SELF: ("GET", "/self", None),
    Operation.SHOW_METRICS: ("GET", "/metrics", None),
    Operation.LIST_MANUFACTURERS: ("GET", "/manufacturers", None),
    Operation.SHOW_MANUFACTURER: ("GET", "/manufacturers/{slug}", None),
    Operation.CREATE_MANUFACTURER: ("POST", "/manufacturers", {"slug": "new", "subject": "O=New"}),
    Operation.LIST_OPERATORS: ("GET", "/operators", None),
    Operation.SHOW_OPERATOR: ("GET", "/operators/{operator_id}", None),
    Operation.CREATE_OPERATOR: ("POST", "/operators", {"name": "viewer", "role": "viewer"}),
    Operation.CHANGE_OPERATOR: ("PATCH", "/operators/{operator_id}", {}),
    Operation.CLOSE_SESSIONS: ("DELETE", "/operators/{operator_id}/sessions", None),
    Operation.LIST_TOKENS: ("GET", "/operators/{operator_id}/tokens", None),
    Operation.CREATE_TOKEN: ("POST", "/operators/{operator_id}/tokens", {"name": "another"}),
    Operation.REVOKE_TOKEN: ("DELETE", "/operators/{operator_id}/tokens/{token_id}", None),
    Operation.LIST_DOMAINS: ("GET", "/domains", None),
    Operation.LIST_CONTACTS: ("GET", "/domains/contacts?domain=a.example", None),
    Operation.LIST_VALIDATIONS: ("GET", "/domains/validations", None),
    Operation.SHOW_VALIDATION: ("GET", "/domains/validations/{validation_id}", None),
    Operation.BEGIN_VALIDATION: ("POST", "/domains/validations", {"domain": "b.example"}),
    Operation.VERIFY_VALIDATION: ("POST", "/domains/validations/{validation_id}/verification", {}),
    Operation.RESEND_VALIDATION: ("POST", "/domains/validations/{validation_id}/messages", {}),
    Operation.LIST_AUTHORITIES: ("GET", "/authorities", None),
    Operation.SHOW_AUTHORITY: ("GET", "/authorities/{authority}", None),
    Operation.CREATE_AUTHORITY: ("POST", "/authorities", {"name": "r2", "kind": "root"}),
    Operation.LIST_PROFILES: ("GET", "/profiles", None),
    Operation.SHOW_PROFILE: ("GET", "/profiles/{profile}", None),
    Operation.CHANGE_PROFILE: ("PATCH", "/profiles/{profile}", {"grace": 5}),
    Operation.LIST_PRODUCTS: ("GET", "/products", None),
    Operation.SHOW_PRODUCT: ("GET", "/products/{product}", None),
    Operation.CREATE_PRODUCT: (
        "POST", "/products",
        {"name": "p2", "identity_authority": "none", "service_authority": "none"},
    ),
    Operation.CHANGE_PRODUCT: ("PATCH", "/products/{product}", {}),
    Operation.LIST_DEVICES: ("GET", "/devices", None),
    Operation.SHOW_DEVICE: ("GET", "/devices/{serial_number}", None),
    Operation.CHANGE_DEVICES: (
        "POST", "/devices/changes", {"action": "resume", "serial_numbers": ["R1"]},
    ),
    Operation.LIST_DEVICE_CERTIFICATES: ("GET", "/devices/{serial_number}/certificates", None),
    Operation.CLAIM_DEVICE: ("POST", "/devices/{serial_number}/claim", {"username": "jo"}),
    Operation.RELEASE_DEVICE: ("POST", "/devices/{serial_number}/release", {}),
    Operation.TRANSFER_DEVICE: ("POST", "/devices/{serial_number}/transfer", {"username": "x"}),
    Operation.SUSPEND_DEVICE: ("POST", "/devices/{serial_number}/suspension", {}),
    Operation.RESUME_DEVICE: ("POST", "/devices/{serial_number}/resumption", {}),
    Operation.RETIRE_DEVICE: ("POST", "/devices/{serial_number}/retirement", {}),
    Operation.LIST_DEVICE_REQUESTS: ("GET", "/device-requests", None),
    Operation.APPROVE_DEVICE_REQUEST: ("POST", "/device-requests/{request_id}/approval", {}),
    Operation.REJECT_DEVICE_REQUEST: ("POST", "/device-requests/{request_id}/rejection", {}),
    Operation.LIST_OWNERS: ("GET", "/owners", None),
    Operation.SHOW_OWNER: ("GET", "/owners/{owner_id}", None),
    Operation.CREATE_OWNER: ("POST", "/owners", {"username": "jo", "password": "ten letters"}),
    Operation.LIST_BATCHES: ("GET", "/batches", None),
    Operation.SHOW_BATCH: ("GET", "/batches/{batch_id}", None),
    Operation.SUBMIT_BATCH: ("POST", "/batches?product=router", b"serial\nX1\n"),
    Operation.MINT_BATCH: ("POST", "/batches/{batch_id}/minting", {"passphrase": "x" * 12}),
    Operation.FETCH_PACKAGES: ("GET", "/batches/{batch_id}/packages", None),
    Operation.DROP_PACKAGES: ("DELETE", "/batches/{batch_id}/packages", None),
    Operation.LIST_CERTIFICATES: ("GET", "/certificates", None),
    Operation.SHOW_CERTIFICATE: ("GET", "/certificates/{serial}", None),
    Operation.ISSUE_CERTIFICATE: (
        "POST", "/certificates", {"authority": "issuing", "csr": "CSR", "names": ["a.router.lan"]},
    ),
    Operation.REVOKE_CERTIFICATE: ("POST", "/certificates/{serial}/revocation", {}),
    Operation.REVOKE_CERTIFICATES: ("POST", "/certificates/revocations", {"serials": ["{serial}"]}),
    Operation.LIST_CAMPAIGNS: ("GET", "/campaigns", None),
    Operation.CREATE_CAMPAIGN: (
        "POST", "/campaigns",
        {
            "name": "c", "selection": {"profile": "service"},
            "plan": {"kind": "replace", "deadline": "2099-01-01T00:00:00Z"},
        },
    ),
    Operation.SHOW_CAMPAIGN: ("GET", "/campaigns/{campaign_id}", None),
    Operation.PREVIEW_CAMPAIGN: ("GET", "/campaigns/{campaign_id}/preview", None),
    Operation.REPORT_CAMPAIGN: ("GET", "/campaigns/{campaign_id}/report", None),
    Operation.START_CAMPAIGN: ("POST", "/campaigns/{campaign_id}/start", {}),
    Operation.APPROVE_CAMPAIGN: ("POST", "/campaigns/{campaign_id}/approval", {}),
    Operation.PAUSE_CAMPAIGN: ("POST", "/campaigns/{campaign_id}/pause", {}),
    Operation.RESUME_CAMPAIGN: ("POST", "/campaigns/{campaign_id}/resumption", {}),
    Operation.CANCEL_CAMPAIGN: ("POST", "/campaigns/{campaign_id}/cancellation", {}),
    Operation.REPORT_FIRMWARE: ("PUT", "/devices/{serial_number}/firmware", {"firmware": "1.0"}),
    Operation.LIST_AUDIT_EVENTS: ("GET", "/audit/events", None),
    Operation.VERIFY_AUDIT: ("POST", "/audit/verification", {}),
    Operation.LIST_JOBS: ("GET", "/jobs", None),
    Operation.SHOW_JOB: ("GET", "/jobs/{job_id}", None),
    Operation.CANCEL_JOB: ("POST", "/jobs/{job_id}/cancellation", {}),
    Operation.FOLLOW_JOB: ("GET", "/jobs/{job_id}/events", None),
    Operation.LIST_APPROVALS: ("GET", "/approvals", None),
    Operation.SHOW_APPROVAL: ("GET", "/approvals/{approval_id}", None),
    Operation.REJECT: ("POST", "/approvals/{approval_id}/rejection", {}),
    Operation.APPROVE: ("POST", "/approvals/{approval_id}/approval", {}),
}  # fmt: skip
TENANT_WIDE = {"new", "viewer", "b.example"}  # what these calls themselves say


def as_(
    shop: House, token: str, method: str, path: str, body: Any, more: dict[str, str] | None = None
) -> Answer:
    headers = {"authorization": f"Bearer {token}", "if-match": "*", **(more or {})}
    if isinstance(body, bytes):
        headers["content-type"] = "text/csv"
    return call(shop.rest, method, API + path, body=body, headers=headers)


def filled(operation: Operation, things: dict[str, str]) -> tuple[str, str, Any]:
    """The call of an operation on acme's things."""
    method, path, body = CALLS[operation]
    if isinstance(body, dict):
        body = {key: csr_pem() if value == "CSR" else value for key, value in body.items()}
        if "serials" in body:
            body["serials"] = [things["serial"]]
    return method, path.format(**things), body


def test_every_operation_has_a_rule_a_route_and_a_call(shop: House) -> None:
    """Nothing is left out of the table, of the API, or of these tests."""
    document = call(shop.rest, "GET", f"{API}/openapi.json").json
    routes = {
        verb["operationId"]
        for path in document["paths"].values()
        for verb in path.values()
        if "operator" in verb["tags"]
    }
    assert set(Operation) == set(RULES) == set(CALLS)
    assert routes == {each.value for each in Operation}
    assert {rule.scope for rule in RULES.values()} == set(Scope)


@pytest.mark.parametrize("operation", list(Operation), ids=str)
def test_each_role_does_what_the_table_says(
    shop: House, things: dict[str, str], operation: Operation
) -> None:
    """403 `role-forbids` for the roles that the table does not name, and never for the others."""
    method, path, body = filled(operation, things)
    # Who is refused comes first, so that nobody has changed anything when it is tried.
    for role in sorted(Role, key=lambda each: each in RULES[operation].roles):
        answer = as_(shop, shop.tokens[f"acme/{role}"], method, path, body)
        refused = answer.status == 403 and answer.code == "role-forbids"
        allowed = role in RULES[operation].roles and not RULES[operation].house
        assert refused is not allowed, (role, answer.status, answer.body)
        assert answer.status != 500, (role, answer.body)


@pytest.mark.parametrize("operation", list(Operation), ids=str)
def test_another_tenant_sees_nothing(
    shop: House, things: dict[str, str], operation: Operation
) -> None:
    """404 or 403 for acme's things, none of their bytes in any answer, and the attempt is known."""
    method, path, body = filled(operation, things)
    names_a_thing = "{" in CALLS[operation][1]
    secrets = {value for key, value in things.items() if len(value) > 8}
    for role in Role:
        answer = as_(shop, shop.tokens[f"other/{role}"], method, path, body)
        if names_a_thing and things.get("profile") not in path.split("/"):
            assert answer.status in (403, 404), (role, answer.status, answer.body)
            assert last_refusal(shop, role) == operation.value
        # What they asked for themselves is in their own log, and nothing else is.
        told = re.sub(r'"wanted":"[^"]*"', "", answer.body.decode(errors="replace"))
        said = f"{path} {body}"
        assert not [each for each in secrets if each in told and each not in said], told
        assert "acme" not in told or "acme" in path, told


def last_refusal(shop: House, role: Role) -> str:
    """The newest attempt in the other tenant's log, which that role made."""
    with shop.here.db.read() as tx:
        tenant = reads.manufacturer_by_slug(tx, "other")
        assert tenant is not None
        who = next(each for each in reads.operators(tx, tenant.id) if each.role is role)
        last = reads.audit_events(tx, tenant.id, 0, 100_000)[-1]
    assert (last.action, last.actor) == ("access.refused", f"operator:{who.id}")
    return last.subject


def test_a_token_is_narrowed_by_its_scopes(shop: House) -> None:
    """An administrator's token for reading devices reads devices, and nothing else."""
    admin = shop.tokens["acme/administrator"]
    me = as_(shop, admin, "GET", "/self", None).json["id"]
    body = {"name": "inventory", "scopes": ["devices:read"]}
    made = as_(shop, admin, "POST", f"/operators/{me}/tokens", body)
    assert made.status == 201
    assert re.fullmatch(r"cmt_[a-z2-7]{52}", made.json["token"])
    narrow = made.json["token"]

    assert as_(shop, narrow, "GET", "/devices", None).status == 200
    for path in ("/certificates", "/operators", "/self"):
        answer = as_(shop, narrow, "GET", path, None)
        assert (answer.status, answer.code) == (403, "scope-forbids")

    gone = as_(shop, admin, "DELETE", f"/operators/{me}/tokens/{made.json['id']}", None)
    assert gone.status == 204
    answer = as_(shop, narrow, "GET", "/devices", None)
    assert (answer.status, answer.code) == (401, "token-invalid")


def test_who_is_shut_out_is_out_at_once(shop: House) -> None:
    """A disabled operator's tokens open nothing; nor do they after another role is taken away."""
    admin = shop.tokens["acme/administrator"]
    made = as_(shop, admin, "POST", "/operators", {"name": "temp", "role": "operator"})
    token = as_(shop, admin, "POST", f"/operators/{made.json['id']}/tokens", {"name": "t"}).json[
        "token"
    ]
    assert as_(shop, token, "GET", "/owners", None).status == 200

    path = f"/operators/{made.json['id']}"
    as_(shop, admin, "PATCH", path, {"role": "viewer"})
    assert as_(shop, token, "GET", "/owners", None).code == "role-forbids"
    as_(shop, admin, "PATCH", path, {"disabled": True})
    assert as_(shop, token, "GET", "/owners", None).code == "token-invalid"
