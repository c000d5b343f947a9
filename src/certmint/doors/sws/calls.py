"""Every call of the SWS API: what it reads, which use case it is, what it answers."""

import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from certmint.doors.sws import bundles, fields, views
from certmint.doors.sws.app import Call, Path
from certmint.enrolment import chains, emailing, proving
from certmint.enrolment.sws import controls, ordering
from certmint.enrolment.sws.fulfilling import certificates_of, find
from certmint.enrolment.sws.ordering import Supplied
from certmint.model.csr import parse_csr
from certmint.model.entities import Certificate
from certmint.model.errors import BadInput
from certmint.model.operations import Operation
from certmint.model.sws import LONGEST_PERIOD, REGISTRANT, REQUIRED_OF_REGISTRANT, Order, OrderState
from certmint.registry import reads
from certmint.registry.reads import OrderFilter

_CONTACTS = ("all", "administrative", "billing", "technical", "validation")
_DEEPEST_PAGE = 10_000  # orders that a page may stand behind: narrow the list by date instead
_FIELDS = re.compile(r"[\s,]+")


def create(call: Call) -> JSONResponse:
    """POST /certificates: an order, or a voucher."""
    said = call.said
    product = fields.text_of(said, "product", 10)
    period = fields.number_of(said, "period", least=1, most=LONGEST_PERIOD, otherwise=0)
    for name, value in (("product", product), ("period", period)):
        if not value:
            raise BadInput("request-syntax", f"{name}: is required")
    made = ordering.place(
        call.counter, call.me, product, period, _supplied(said),
        fields.text_of(said, "ca_certificate_id"), call.now,
    )  # fmt: skip
    return JSONResponse(_shown(call, made), 200)


def update(call: Call) -> object:
    """PUT /certificate/{ref}: a CSR, the registrant, names, or how control is shown."""
    return _shown(call, ordering.supply(call.counter, call.me, _ref(call), _supplied(call.said),
                                        call.now))  # fmt: skip


def replace(call: Call) -> object:
    """POST /certificate/{ref}/replace: exactly these names."""
    domains = fields.domains_of(call.said, "domains") or {}
    domains = _cert_names(call.said) | domains
    if not domains:
        raise BadInput("request-syntax", "domains: is required")
    changed = ordering.rename(call.counter, call.me, _ref(call), domains, call.now)
    return _shown(call, changed)


def _cert_names(said: Mapping[str, Any]) -> dict[str, str]:
    """`cert_names`: the new names as a list, or `{old: new}`."""
    value = said.get("cert_names")
    if isinstance(value, dict):
        value = list(value.values())
    return fields.domains_of({"cert_names": value}, "cert_names") or {}


def retry(call: Call) -> object:
    """POST /certificate/{ref}/retry_domain_validation: look now."""
    return _shown(call, ordering.look_again(call.counter, call.me, _ref(call), call.now))


def revoke(call: Call) -> object:
    """DELETE /certificate/{ref}: everything, or the listed serials."""
    serials, reason = fields.serials_of(call.said), fields.reason_of(call.said)
    ended = ordering.revoke(call.counter, call.me, _ref(call), serials, reason, call.now)
    return _shown(call, ended)


def retrieve(call: Call) -> object:
    """GET /certificate/{ref}: where it stands, and the certificates in the wanted form."""
    kind = fields.text_of(call.said, "response_type") or "individually"
    encoding = fields.text_of(call.said, "response_encoding") or "base64"
    bundles.check(kind, encoding)
    order = find(call.counter.db, call.me.tenant.id, _ref(call))
    bought = certificates_of(call.counter.db, order)
    chain = _chain(call, bought[-1]) if bought else ()
    if encoding == "binary" and chain:
        media, ending = bundles.media_of(kind)
        named = {"Content-Disposition": f'attachment; filename="{order.id}.{ending}"'}
        return Response(bundles.bundle(kind, chain), 200, named, media)
    view = _shown(call, order) | views.certificate_view(
        order, bought[-1] if bought else None, bought
    )
    return view | ({"certificates": views.certificates_of(kind, chain)} if chain else {})


def listing(call: Call) -> object:
    """GET /certificates: newest first, by pages."""
    said = call.said
    count = fields.number_of(said, "per_page", least=1, most=100, otherwise=25)
    page = fields.number_of(said, "page", least=1, most=_DEEPEST_PAGE, otherwise=1)
    if (page - 1) * count > _DEEPEST_PAGE:
        raise BadInput("request-syntax", "page: is too deep: narrow the list with start and end")
    kind = fields.text_of(said, "filter")
    if kind not in ("", "vouchers"):
        raise BadInput("request-syntax", "filter: only 'vouchers' is known")
    wanted = OrderFilter(
        fields.day_of(said, "start"), fields.day_of(said, "end"), kind == "vouchers",
        fields.text_of(said, "search"),
    )  # fmt: skip
    with call.counter.db.read() as tx:
        found = reads.sws_orders(
            tx, call.me.tenant.id, wanted, offset=(page - 1) * count, limit=count
        )
    shown = [_summary(call, order) for order in found]
    names = [each for each in _FIELDS.split(fields.text_of(said, "fields", 512)) if each]
    for name in names:
        if shown and name not in shown[0]:
            raise BadInput("request-syntax", f"fields: there is none but {', '.join(shown[0])}")
    return [{name: each[name] for name in names or each} for each in shown]


def methods(call: Call) -> object:
    """GET /certificate/{ref}/validations/methods: what may be done for each domain."""
    order = find(call.counter.db, call.me.tenant.id, _ref(call))
    csr = parse_csr(order.csr) if order.csr else None
    found = [
        controls.ways(call.counter.proofs, csr, name, order.unique_value) for name in order.names
    ]
    begun = controls.attempts(call.counter.proofs, order)
    return views.methods_view(controls.hashes_of(csr) if csr else None, found, begun)


def csr_hash(call: Call) -> object:
    """POST /certificates/validations/csr_hash: the tokens of a CSR, before it is ordered."""
    csr = fields.csr_of(call.said)
    if csr is None:
        raise BadInput("csr-missing", "send the csr that the tokens are of")
    names = fields.domains_of(call.said, "domains") or dict.fromkeys(map(str, csr.names), "")
    unique = fields.unique_of(call.said)
    found = [controls.ways(call.counter.proofs, csr, name, unique) for name in names]
    return views.methods_view(controls.hashes_of(csr), found, {})


def approvers(call: Call) -> object:
    """POST /certificates/validations/email: who may answer for each domain."""
    names = fields.domains_of(call.said, "domains") or fields.domains_of(call.said, "domain")
    if not names:
        raise BadInput("request-syntax", "domains: is required")
    proving.outlet_of(call.counter.proofs)
    return {name: list(emailing.accepted_addresses(name.removeprefix("*."))) for name in names}


def expected(call: Call) -> object:
    """GET /certificate/{ref}/api_parameters/{action}: what the next call has to say."""
    order = find(call.counter.db, call.me.tenant.id, _ref(call))
    action = call.place["action"]
    required: dict[str, tuple[str, ...]] = {
        "update": ("csr",) if not order.csr else (),
        "reprocess": ("csr",),
        "replace": ("domains",),
        "revoke": (),
        "retrieve": (),
        "retry_domain_validation": (),
    }
    optional = {
        "update": ("csr", "unique_value", "domains", "contacts", "server_software", *REGISTRANT),
        "reprocess": ("unique_value", "domains", "server_software"),
        "replace": ("cert_names",),
        "revoke": ("reason", "serials"),
        "retrieve": ("response_type", "response_encoding"),
        "retry_domain_validation": (),
    }
    if action not in required:
        raise BadInput("request-syntax", f"action: use one of {', '.join(required)}")
    wanted = required[action]
    if action == "update" and order.state is OrderState.WAITING_REGISTRANT:
        wanted = REQUIRED_OF_REGISTRANT
    rest = [name for name in optional[action] if name not in wanted]
    return {"ref": order.id, "action": action, "required": list(wanted), "optional": rest}


def user(call: Call) -> object:
    """GET /user/{username}: the account key, with the secret that was shown as the password."""
    return {
        "login": call.me.operator.name,
        "account_key": call.me.tenant.slug,
        "secret_key": call.secret,
        "status": "enabled",
    }


def _ref(call: Call) -> str:
    return call.place.get("ref") or fields.text_of(call.said, "ref", 64)


def _supplied(said: Mapping[str, Any]) -> Supplied:
    if said.get("callback"):
        raise BadInput(
            "callback-unsupported",
            "this server calls nobody back: leave `callback` out and ask for the order instead",
        )
    registrant = {name: fields.text_of(said, name) for name in REGISTRANT}
    return Supplied(
        csr=fields.csr_of(said),
        unique_value=fields.unique_of(said) or None,
        domains=fields.domains_of(said, "domains"),
        registrant={name: value for name, value in registrant.items() if value},
        contacts=_contacts(said),
        external_order_number=fields.text_of(said, "external_order_number") or None,
        server_software=fields.text_of(said, "server_software", 2) or None,
    )


def _contacts(said: Mapping[str, Any]) -> dict[str, object] | None:
    given = fields.table_of(said, "contacts")
    if given is None:
        return None
    kept: dict[str, object] = {}
    for role, person in given.items():
        if role not in _CONTACTS or not isinstance(person, dict) or len(person) > 30:
            raise BadInput("request-syntax", f"contacts: use {', '.join(_CONTACTS)}")
        kept[role] = {str(name)[:64]: fields.text_of(person, name) for name in person}
    return kept


def _shown(call: Call, order: Order) -> dict[str, Any]:
    missing = controls.unproved(call.counter.proofs, order, call.now) if order.names else []
    bought = certificates_of(call.counter.db, order)
    return views.order_view(call.services.base, order, bought[-1] if bought else None, missing)


def _summary(call: Call, order: Order) -> dict[str, Any]:
    bought = certificates_of(call.counter.db, order)
    newest = bought[-1] if bought else None
    return views.summary(call.services.base, order, newest)


def _chain(call: Call, leaf: Certificate) -> tuple[bytes, ...]:
    with call.counter.db.read() as tx:
        above = chains.intermediates(tx, leaf.tenant_id, leaf.authority_id)
    return (leaf.der, *(each.der for each in above))


_O = Operation
_ORDERING = (_O.ISSUE_CERTIFICATE, _O.BEGIN_VALIDATION)
_ONE = "/certificate/{ref}"
_OLD = "/certificates/1.3"
PATHS = (
    Path("POST", "/certificates", _ORDERING, create),
    Path("GET", "/certificates", (_O.LIST_CERTIFICATES,), listing),
    Path("POST", "/certificates/validations/email", (_O.LIST_CONTACTS,), approvers),
    Path("POST", "/certificates/validations/csr_hash", (_O.SHOW_VALIDATION,), csr_hash),
    Path("GET", _ONE, (_O.SHOW_CERTIFICATE,), retrieve),
    Path("PUT", _ONE, _ORDERING, update),
    Path("DELETE", _ONE, (_O.REVOKE_CERTIFICATE,), revoke),
    Path("POST", f"{_ONE}/retry_domain_validation", (_O.VERIFY_VALIDATION,), retry),
    Path("POST", f"{_ONE}/replace", _ORDERING, replace),
    Path("GET", f"{_ONE}/validations/methods", (_O.SHOW_CERTIFICATE,), methods),
    Path("GET", f"{_ONE}/api_parameters/{{action}}", (_O.SHOW_CERTIFICATE,), expected),
    Path("GET", "/user/{username}", (_O.SHOW_SELF,), user),
    Path("POST", f"{_OLD}/create", _ORDERING, create, is_legacy=True),
    Path("GET", f"{_OLD}/retrieve", (_O.SHOW_CERTIFICATE,), retrieve, is_legacy=True),
    Path("POST", f"{_OLD}/retrieve", (_O.SHOW_CERTIFICATE,), retrieve, is_legacy=True),
    Path("POST", f"{_OLD}/dcv_emails", (_O.LIST_CONTACTS,), approvers, is_legacy=True),
    Path("GET", f"{_OLD}/dcv_emails", (_O.LIST_CONTACTS,), approvers, is_legacy=True),
    Path("POST", f"{_OLD}/reprocess", _ORDERING, update, is_legacy=True),
    Path("PUT", f"{_OLD}/reprocess", _ORDERING, update, is_legacy=True),
)
