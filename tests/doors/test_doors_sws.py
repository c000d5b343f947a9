"""The SWS door: the calls of the documentation, in process, with what they answer."""

import base64
import datetime as dt
import io
import json
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from asgi import Answer, call
from backstage import House, build, csr_pem
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from hostile import Names

from certmint.app.wiring import sws_services
from certmint.doors.sws.app import sws_app
from certmint.doors.sws.calls import PATHS
from certmint.enrolment.proofs import World
from certmint.model.entities import Role
from certmint.policy.authorization import RULES
from certmint.registry import audit, reads

UNUSED = "unused. waiting on certificate signing request (csr)"
WAITING = "waiting on validation from customer"
REGISTRANT = {
    "organization": "Acme Routers",
    "street_address_1": "1 Main St",
    "locality": "Austin",
    "state_or_province": "TX",
    "postal_code": "78701",
    "country": "US",
}


@dataclass
class Shop:
    """The door of a house, and who asks there."""

    house: House
    app: Any
    role: str = "acme/administrator"

    def ask(self, method: str, path: str, said: Any = None, **headers: str) -> Answer:
        """A request with JSON and a bearer token."""
        sent = {"authorization": f"Bearer {self.house.tokens[self.role]}"} | headers
        return call(self.app, method, f"/sws{path}", body=said, headers=sent)

    def order(self, **said: Any) -> Any:
        wanted = {"product": "106", "period": 90} | said
        answer = self.ask("POST", "/certificates", wanted)
        assert answer.status == 200, answer.body
        return answer.json

    def issued(self, name: str, **said: Any) -> Any:
        """An order for a name within a domain that is proved."""
        order = self.order(csr=csr_of(name), **said)
        assert order["order_status"] == "issued", order
        return order

    def named(self, role: str) -> "Shop":
        return replace(self, role=role)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    house = build(tmp_path_factory.mktemp("sws"))
    services = sws_services(house.here)
    proofs = replace(services.counter.proofs, world=World(Names()))  # a world without records
    services = replace(services, counter=replace(services.counter, proofs=proofs))
    yield Shop(house, sws_app(services, PATHS))
    house.here.close()


def csr_of(*names: str, form: serialization.Encoding = serialization.Encoding.PEM) -> str:
    return csr_octets(*names, form=form).decode()


def csr_octets(*names: str, form: serialization.Encoding = serialization.Encoding.PEM) -> bytes:
    general = [x509.DNSName(name) for name in names]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=True)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(form)


def errors_of(answer: Answer, name: str) -> str:
    """The one sentence about the one field that is wrong."""
    ((field, (sentence,)),) = answer.json["errors"].items()
    assert field == name, answer.body
    return str(sentence)


def test_a_voucher_becomes_a_certificate(shop: Shop) -> None:
    """Product and period alone make a voucher; the CSR is put into it later."""
    voucher = shop.order(period=365, external_order_number="PO-7")
    assert voucher["ref"].startswith("co-")
    assert voucher["order_status"] == UNUSED
    assert voucher["certificate_url"].endswith(f"/sws/certificate/{voucher['ref']}")
    listed = shop.ask("GET", "/certificates?filter=vouchers&search=PO-7").json
    assert [each["ref"] for each in listed] == [voucher["ref"]]

    path = f"/certificate/{voucher['ref']}"
    wanted = shop.ask("GET", f"{path}/api_parameters/update").json
    assert wanted["required"] == ["csr"]
    filled = shop.ask("PUT", path, {"csr": csr_of("voucher.lan")}).json

    assert filled["order_status"] == "issued"
    found = shop.ask("GET", path).json
    leaf, issuer = map(x509.load_pem_x509_certificate, map(str.encode, found["certificates"]))
    leaf.verify_directly_issued_by(issuer)
    assert found["common_name"] == "voucher.lan"
    assert found["external_order_number"] == "PO-7"
    days = round((leaf.not_valid_after_utc - leaf.not_valid_before_utc) / dt.timedelta(days=1))
    assert (found["period"], days) == (365, 90)  # a subscription, within what the profile allows
    assert found["effective_date"] == leaf.not_valid_before_utc.isoformat()
    assert found["expiration_date"] == leaf.not_valid_after_utc.isoformat()


@pytest.mark.parametrize(
    "form",
    [
        lambda pem: pem,
        lambda pem: pem.replace("\n", "\r\n"),
        lambda pem: pem.replace("\n", "\\n"),
        lambda pem: base64.b64encode(pem.encode()).decode(),
        lambda pem: base64.b64encode(pem.replace("\n", "\r\n").encode()).decode(),
        lambda pem: "".join(pem.splitlines()[1:-1]),
        lambda pem: "\r\n".join(pem.splitlines()[1:-1]),
    ],
    ids=["pem", "crlf", "literal-newlines", "base64-of-pem", "base64-of-crlf", "bare", "lines"],
)
def test_csrs_that_the_sandbox_chokes_on(shop: Shop, form: Callable[[str], str]) -> None:
    """CRLF, escaped newlines, base64 of PEM, bare base64: one CSR is as good as another."""
    order = shop.order(csr=form(csr_of("forms.lan")))
    assert order["order_status"] == "issued"


def test_a_csr_and_the_registrant_come_in_one_request(shop: Shop) -> None:
    """An OV order with everything is issued; without the registrant it waits, and says for what."""
    whole = shop.order(product="103", csr=csr_of("whole.lan"), **REGISTRANT)
    assert whole["order_status"] == "issued"
    assert whole["registrant"] == REGISTRANT
    found = shop.ask("GET", f"/certificate/{whole['ref']}").json
    leaf = x509.load_pem_x509_certificate(found["certificates"][0].encode())
    assert leaf.subject == x509.Name([])  # kept and shown, and not certified

    part = shop.order(product="103", csr=csr_of("part.lan"), organization="Acme Routers")
    assert part["order_status"] == "waiting on registrant information from customer"
    path = f"/certificate/{part['ref']}"
    assert "postal_code" in shop.ask("GET", f"{path}/api_parameters/update").json["required"]
    assert shop.ask("PUT", path, REGISTRANT).json["order_status"] == "issued"


def test_the_certificate_in_every_form(shop: Shop, tmp_path: Any) -> None:
    """Zip, PKCS#7 and Netscape's sequence hold the leaf and the CA above it, in either encoding."""
    path = f"/certificate/{shop.issued('forms.lan')['ref']}"
    pems = shop.ask("GET", path).json["certificates"]
    expected = [x509.load_pem_x509_certificate(each.encode()) for each in pems]

    def fetch(kind: str) -> bytes:
        plain = shop.ask("GET", f"{path}?response_type={kind}&response_encoding=binary")
        coded = shop.ask("GET", f"{path}?response_type={kind}").json["certificates"]
        assert base64.b64decode(coded) == plain.body
        assert plain.headers["content-disposition"].startswith("attachment")
        return plain.body

    with zipfile.ZipFile(io.BytesIO(fetch("zip"))) as archive:
        assert archive.read("certificate.crt").decode() == pems[0]
        assert archive.read("ca_bundle.crt").decode() == "".join(pems[1:])
    assert set(pkcs7.load_der_pkcs7_certificates(fetch("pkcs7"))) == set(expected)
    armed = base64.encodebytes(fetch("netscape")).decode()
    sequence = f"-----BEGIN CERTIFICATE-----\n{armed}-----END CERTIFICATE-----\n"
    read = subprocess.run(
        ["openssl", "nseq"], input=sequence, capture_output=True, text=True, timeout=10, check=True
    )  # fmt: skip
    assert x509.load_pem_x509_certificates(read.stdout.encode()) == expected
    whole = shop.ask("GET", f"{path}?response_encoding=binary")
    assert x509.load_pem_x509_certificates(whole.body) == expected
    assert errors_of(shop.ask("GET", f"{path}?response_type=pkcs12"), "response_type")


def test_the_ways_to_show_control(shop: Shop) -> None:
    """Tokens are the same before and after the order; the order says what is missing."""
    csr = csr_of("www.example.org", "*.example.org")
    before = shop.ask(
        "POST", "/certificates/validations/csr_hash", {"csr": csr, "unique_value": "AB12"}
    ).json
    domains = {
        "www.example.org": {"dcv": "HTTP_CSR_HASH"},
        "*.example.org": {"dcv": "CNAME_CSR_HASH"},
    }
    order = shop.order(product="101", csr=csr, unique_value="AB12", domains=domains, **REGISTRANT)
    assert order["order_status"] == WAITING
    waits = order["validations"]["example.org"]
    assert waits["dcv_method"] == "CNAME_CSR_HASH"
    assert waits["status"].startswith("awaiting")
    assert waits["attempted_on"]
    after = shop.ask("GET", f"/certificate/{order['ref']}/validations/methods").json

    for name in ("www.example.org", "example.org"):
        for kind in ("cname_csr_hash", "http_csr_hash"):
            tokens = (each["dcv_methods"][name].get(kind) for each in (before, after))
            assert len({json.dumps(token) for token in tokens}) == 1
    record = after["dcv_methods"]["example.org"]["cname_csr_hash"]
    assert record["name"] == f"_{after['md5_hash'].lower()}.example.org."
    assert ".ab12." in record["value"]
    assert "http_csr_hash" not in after["dcv_methods"]["example.org"]  # not for wildcards
    again = shop.ask("POST", f"/certificate/{order['ref']}/retry_domain_validation").json
    assert again["order_status"] == WAITING
    assert "example.org" in again["reason"]


def test_a_csr_serves_once_for_each_unique_value(shop: Shop) -> None:
    """The same CSR in another order wants a fresh unique value, and the error says where."""
    csr = csr_of("twice.lan")
    shop.order(csr=csr)
    refused = shop.ask("POST", "/certificates", {"product": "106", "period": 90, "csr": csr})
    assert refused.status == 409
    assert "unique_value" in errors_of(refused, "csr.csr_unique_values")
    assert shop.order(csr=csr, unique_value="second")["order_status"] == "issued"


def test_reprocessing_and_revoking(shop: Shop) -> None:
    """A rekey adds a certificate; a listed serial is revoked alone, and then the rest."""
    path = f"/certificate/{shop.issued('rekey.lan')['ref']}"
    (first,) = shop.ask("GET", path).json["serials"]
    again = shop.ask("PUT", path, {"csr": csr_of("rekey.lan")}).json
    assert again["order_status"] == "issued", again["reason"]
    old, new = shop.ask("GET", path).json["serials"]
    assert old == first

    part = shop.ask("DELETE", path, {"reason": "superseded", "serials": [old["serial"]]}).json
    assert part["order_status"] == "issued"
    assert [each["status"] for each in shop.ask("GET", path).json["serials"]] == [
        "revoked", "issued",
    ]  # fmt: skip
    foreign = shop.ask("DELETE", path, {"serials": ["ab"]})
    assert (foreign.status, foreign.json["code"]) == (404, "certificate-unknown")
    assert errors_of(shop.ask("DELETE", path, {"reason": "just so"}), "reason")
    everything = shop.ask("DELETE", f"{path}?reason=cessationOfOperation").json
    assert everything["order_status"] == "revoked"
    late = shop.ask("PUT", path, {"csr": csr_of("rekey.lan")})
    assert (late.status, late.json["code"]) == (409, "wrong-state")
    with shop.house.here.db.read() as tx:
        found = [reads.certificate(tx, shop.house.maker.id, each["serial"]) for each in (old, new)]
    said = [each.revocation.reason.value for each in found if each and each.revocation]
    assert said == ["superseded", "cessation-of-operation"]


def test_replacing_names(shop: Shop) -> None:
    """A CSR without names serves for others; one that asks for a name cannot lose it."""
    order = shop.order(csr=csr_pem(), domains=["a.lan"])
    assert order["order_status"] == "issued"
    path = f"/certificate/{order['ref']}"
    changed = shop.ask("POST", f"{path}/replace", {"cert_names": ["b.lan"], "domains": ["c.lan"]})
    assert changed.json["subject_alternative_names"] == ["b.lan", "c.lan"]
    leaf = x509.load_pem_x509_certificate(shop.ask("GET", path).json["certificates"][0].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["b.lan", "c.lan"]

    bound = f"/certificate/{shop.issued('bound.lan')['ref']}/replace"
    assert "bound.lan" in errors_of(shop.ask("POST", bound, {"domains": ["c.lan"]}), "domains")


def test_an_order_without_certificates_is_cancelled(shop: Shop) -> None:
    voucher = shop.order()
    ended = shop.ask("DELETE", f"/certificate/{voucher['ref']}").json
    assert ended["order_status"] == "cancelled"


def test_credentials_by_header_body_and_query(shop: Shop) -> None:
    """The header counts most, then the body; a wrong one is not saved by a right one below it."""
    token = shop.house.tokens["acme/administrator"]
    query = "?" + urlencode({"account_key": "acme", "secret_key": token})

    def status(path: str, method: str = "GET", said: Any = None, **headers: str) -> int:
        return call(shop.app, method, f"/sws{path}", body=said, headers=headers).status

    basic = base64.b64encode(f"acme:{token}".encode()).decode()
    wrong = base64.b64encode(f"other:{token}".encode()).decode()
    assert status(f"/certificates{query}") == 200
    assert status("/certificates", authorization=f"Basic {basic}") == 200
    assert status("/certificates", authorization=f"Basic {wrong}") == 401
    assert status(f"/certificates{query}", authorization="Bearer nonsense") == 401
    assert status(f"/certificates{query}", authorization="Digest nonsense") == 401
    body = {"account_key": "acme", "secret_key": token, "product": "106", "period": 30}
    assert status("/certificates", "POST", body) == 200
    assert status(f"/certificates{query}", "POST", body | {"secret_key": "cmt_nonsense"}) == 401
    form = urlencode(body).encode()
    assert status("/certificates", "POST", form) == 200
    assert status("/certificates") == 401


def test_a_user_is_told_the_account(shop: Shop) -> None:
    """GET /user/{username} takes one of the operator's tokens as the password."""
    token = shop.house.tokens["acme/operator"]
    found = call(shop.app, "GET", f"/sws/user/operator?password={quote(token)}")
    assert found.json["account_key"] == "acme"
    assert found.json["secret_key"] == token
    assert found.headers["cache-control"] == "no-store"
    for path in ("/user/operator?password=wrong", f"/user/viewer?password={token}", "/user/x"):
        refused = call(shop.app, "GET", f"/sws{path}")
        assert refused.status == 401
        assert token.encode() not in refused.body
    bearer = {"authorization": f"Bearer {token}"}
    assert call(shop.app, "GET", "/sws/user/viewer", headers=bearer).status == 401


def test_no_secret_is_said_again(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Neither an error nor our log nor the audit log repeats what came as a credential."""
    token = shop.house.tokens["acme/viewer"]
    caplog.set_level("DEBUG")
    said = {"account_key": "acme", "secret_key": token, "product": token, "period": token}
    for method, path in (("POST", "/certificates"), ("GET", "/certificate/co-none")):
        query = urlencode({"secret_key": token, "account_key": token})
        refused = call(shop.app, method, f"/sws{path}?{query}", body=said)
        assert refused.status in (401, 403, 404)
        assert token.encode() not in refused.body
    assert token not in caplog.text
    with shop.house.here.db.read() as tx:
        events = reads.audit_events(tx, shop.house.maker.id, limit=10_000)
    assert token not in repr(events)


def test_errors_in_both_styles(shop: Shop) -> None:
    """By default with the status; with 200 for who asks so, and for the calls of version 1.3."""
    wrong = {"product": "999", "period": 90}
    plain = shop.ask("POST", "/certificates", wrong)
    assert (plain.status, plain.json["code"]) == (400, "product-code")
    mild = shop.ask("POST", "/certificates?error_style=200", wrong)
    also = shop.ask("POST", "/certificates", wrong | {"error_style": "200"})
    old = shop.ask("POST", "/certificates/1.3/create", wrong)
    assert [each.status for each in (mild, also, old)] == [200, 200, 200]
    assert plain.json == mild.json == also.json == old.json
    assert "100 (EV UCC)" in errors_of(plain, "product")


@pytest.mark.parametrize(
    ("said", "name", "code"),
    [
        ({"period": None}, "period", "request-syntax"),
        ({"period": 9999}, "period", "request-syntax"),
        ({"csr": "nonsense"}, "csr", "csr-syntax"),
        ({"csr": "!"}, "csr", "csr-syntax"),
        ({"domains": {"x.lan": {"dcv": "PIGEON"}}}, "domains", "dcv-method"),
        ({"domains": {"x y": {}}}, "domains", "name-syntax"),
        ({"ca_certificate_id": "none"}, "ca_certificate_id", "authority-unknown"),
        ({"callback": {"url": "https://x"}}, "callback", "callback-unsupported"),
        ({"contacts": {"boss": {}}}, "contacts", "request-syntax"),
        ({"contacts": 7}, "contacts", "request-syntax"),
        ({"organization": ["x"]}, "organization", "request-syntax"),
    ],
    ids=lambda value: json.dumps(value)[:30] if isinstance(value, dict) else "",
)
def test_errors_name_the_field(shop: Shop, said: Any, name: str, code: str) -> None:
    """Each wrong value is refused by its own field, and nothing is ordered."""
    before = len(shop.ask("GET", "/certificates?per_page=100").json)
    refused = shop.ask("POST", "/certificates", {"product": "106", "period": 90} | said)
    assert (refused.status // 100, refused.json["code"]) == (4, code), refused.body
    assert errors_of(refused, name)
    assert len(shop.ask("GET", "/certificates?per_page=100").json) == before


def test_forms_nest_by_brackets(shop: Shop) -> None:
    """`domains[name][dcv]` and `serials[]` say in a form what JSON says with objects and lists."""
    said = [
        ("product", "106"), ("period", "90"), ("csr", csr_pem()),
        ("domains[form.lan][dcv]", "CNAME_CSR_HASH"), ("contacts[all][email]", "a@b.example"),
    ]  # fmt: skip
    order = shop.ask("POST", "/certificates", urlencode(said).encode()).json
    assert order["order_status"] == "issued"
    assert order["validations"]["form.lan"]["dcv_method"] == "CNAME_CSR_HASH"
    assert order["contacts"] == {"all": {"email": "a@b.example"}}
    path = f"/certificate/{order['ref']}"
    serial = shop.ask("GET", path).json["serial"]
    ended = shop.ask("DELETE", path, urlencode([("serials[]", serial)]).encode())
    assert ended.json["order_status"] == "revoked"


def test_the_calls_of_version_1_3(shop: Shop) -> None:
    """Create, retrieve and reprocess, with the ref among the parameters."""
    made = shop.ask(
        "POST", "/certificates/1.3/create",
        {"product": 106, "period": "90", "csr": csr_of("old.lan")},
    ).json  # fmt: skip
    ref = made["ref"]
    again = shop.ask("PUT", "/certificates/1.3/reprocess", {"ref": ref, "csr": csr_of("old.lan")})
    assert again.json["order_status"] == "issued"
    found = shop.ask("GET", f"/certificates/1.3/retrieve?ref={ref}").json
    assert len(found["serials"]) == 2
    gone = shop.ask("GET", "/certificates/1.3/retrieve?ref=co-none")
    assert (gone.status, errors_of(gone, "ref")) == (200, "there is no order 'co-none'")


def test_lists_are_paged_and_cut(shop: Shop) -> None:
    """Newest first, by pages, by dates, with the fields that were asked for."""
    refs = [shop.order(external_order_number="list")["ref"] for _ in range(3)]
    pages = [
        shop.ask("GET", f"/certificates?search=list&per_page=2&page={page}&fields=ref").json
        for page in (1, 2, 3)
    ]
    assert pages == [[{"ref": refs[2]}, {"ref": refs[1]}], [{"ref": refs[0]}], []]
    assert shop.ask("GET", "/certificates?end=2020-01-01").json == []
    assert len(shop.ask("GET", f"/certificates?search={refs[0]}").json) == 1
    for query in ("page=0", "per_page=101", "fields=secret", "filter=x", "start=soon"):
        assert shop.ask("GET", f"/certificates?{query}").status == 400, query


def test_nobody_does_more_than_the_role_allows(shop: Shop) -> None:
    """Every call as every role: refused exactly when policy refuses one of its operations."""
    ref = shop.issued("roles.lan")["ref"]
    for path in PATHS:
        for role in Role:
            caller = shop.named(f"acme/{role}")
            target = path.path.replace("{ref}", ref).replace("{action}", "revoke")
            answer = caller.ask(path.method, target.replace("{username}", role), {"serials": ["1"]})
            allowed = all(role in RULES[each].roles for each in path.operations)
            refused = (
                answer.json["code"] == "role-forbids" if "errors" in str(answer.body) else False
            )
            assert refused is not allowed, (path.path, role, answer.body)


def test_nothing_crosses_tenants(shop: Shop) -> None:
    """Every call about an order, as another manufacturer: unknown, and written down."""
    ref = shop.issued("mine.lan")["ref"]
    stranger = shop.named("other/administrator")
    for path in PATHS:
        if "{ref}" not in path.path:
            continue
        target = path.path.replace("{ref}", ref).replace("{action}", "revoke")
        answer = stranger.ask(path.method, target, {"csr": csr_pem(), "domains": ["x.lan"]})
        assert (answer.status, answer.json["code"]) == (404, "order-unknown")
        assert b"mine.lan" not in answer.body
    assert stranger.ask("GET", "/certificates").json == []
    with shop.house.here.db.read() as tx:
        tenant = reads.manufacturer_by_slug(tx, "other")
        assert tenant is not None
        noted = [e for e in reads.audit_events(tx, tenant.id) if e.action == "access.refused"]
    assert len(noted) == len([each for each in PATHS if "{ref}" in each.path])
    assert ref in str(noted[0].detail)


def test_a_manufacturer_has_a_quota(shop: Shop) -> None:
    """Beyond it 429 with the time to wait; the header fields say how much is left."""
    services = replace(sws_services(shop.house.here), requests_minute=1)
    narrow = replace(shop, app=sws_app(services, PATHS))
    answers = [narrow.ask("GET", "/certificates") for _ in range(3)]
    assert answers[-1].status == 429
    assert int(answers[-1].headers["retry-after"]) <= 60
    assert answers[0].headers["ratelimit"].startswith('"default";r=0')


def test_what_is_no_call_is_said_so(shop: Shop) -> None:
    """An unknown path is 404, a wrong method 405, a body beyond all bounds 413."""
    assert shop.ask("GET", "/nothing").json["code"] == "not-found"
    wrong = shop.ask("DELETE", "/certificates")
    assert (wrong.status, wrong.json["code"]) == (405, "method-not-allowed")
    assert wrong.headers["allow"] == "GET, HEAD, POST"
    assert shop.ask("POST", "/certificates", b"{" + b" " * 70_000).status == 413
    for body in (b"{", b"\xff", b"{" * 5_000, b"a=1&a[b]=2"):
        assert shop.ask("POST", "/certificates", body).status == 400


def test_orders_are_in_the_audit_log(shop: Shop) -> None:
    """Placing, supplying, issuing and revoking each leave an event by the operator."""
    ref = shop.order()["ref"]
    shop.ask("PUT", f"/certificate/{ref}", {"csr": csr_of("audit.lan")})
    shop.ask("DELETE", f"/certificate/{ref}")
    with shop.house.here.db.read() as tx:
        events = reads.audit_events(tx, shop.house.maker.id, limit=10_000)
        assert audit.verify(tx).broken_at is None
    mine = [each.action for each in events if each.subject == ref]
    assert mine == ["order.placed", "order.supplied", "order.issued", "order.revoked"]
