"""newOrder, the order, finalize (RFC 8555 7.4), and the end of self-renewal (RFC 8739 3.1.2)."""

from certmint.doors.acme import fields, jws, views
from certmint.doors.acme.authorizations import RETRY_S, Authorizations
from certmint.doors.acme.problems import ACMEProblem
from certmint.doors.acme.requests import Call
from certmint.doors.acme.services import Services, json_answer
from certmint.doors.http import Answer
from certmint.enrolment.acme import orders, star
from certmint.enrolment.acme.orders import Extras
from certmint.model.acme import AutoRenewal, Order, OrderState
from certmint.model.csr import parse_csr
from certmint.registry import reads


class Orders:
    """Routes of orders."""

    def __init__(self, on: Services, authorizations: Authorizations) -> None:
        self._on = on
        self._authorizations = authorizations

    def new(self, call: Call) -> Answer:
        """newOrder."""
        wanted = call.payload()
        if wanted.get("notBefore") or wanted.get("notAfter"):
            raise ACMEProblem("malformed", "notBefore and notAfter are the profile's to choose")
        replaces = fields.optional_text(wanted, "replaces") or None  # "" is nothing, too
        if replaces is not None:
            fields.cert_id(replaces)
        identifiers = fields.identifiers(wanted)
        extras = Extras(
            fields.ancestors(wanted) if call.directory.allows_subdomains else {},
            fields.auto_renewal(wanted),
        )
        order = orders.new_order(
            call.db, call.directory, call.signer, identifiers,
            fields.optional_text(wanted, "profile"), replaces,
            now=call.now, random_bytes=self._on.random_bytes, extras=extras,
            limits=self._on.limits,
        )  # fmt: skip
        if order.state is OrderState.PENDING and self._authorizations.foresee(
            call, order.authorization_ids
        ):
            order = self.found(call, order.id)
        return self._view(call, order, 201)

    def one(self, call: Call) -> Answer:
        """Read an order; one that renews itself can be canceled."""
        order = self.found(call, call.params["order"])
        if call.signed.payload is None:
            return self._view(call, order, 200)
        renewal = self.renewal(call, order)
        if renewal is None or call.payload().get("status") != "canceled":
            raise ACMEProblem("malformed", "to read a resource, the payload is the empty string")
        star.cancel(call.db, renewal, call.now)
        return self._view(call, order, 200)

    def finalize(self, call: Call) -> Answer:
        """Certify (7.4)."""
        order = self.found(call, call.params["order"])
        csr = parse_csr(fields.octets(call.payload(), "csr"))
        if csr.key.fingerprint == jws.fingerprint(call.key):
            raise ACMEProblem("badCSR", "the account's key is not for certificates")
        done = orders.finalize(
            call.db, self._on.gate.through(call.db), call.directory, call.signer, order, csr,
            now=call.now,
        )  # fmt: skip
        return self._view(call, done, 200)

    def found(self, call: Call, order_id: str) -> Order:
        """An order of the account. Raises ACMEProblem `malformed`."""
        with call.db.read() as tx:
            found = reads.acme_order(tx, call.signer.id, order_id)
        if found is None:
            raise ACMEProblem("malformed", "there is no such order", 404)
        return found

    def renewal(self, call: Call, order: Order) -> AutoRenewal | None:
        """How the order renews itself, if it does."""
        if call.directory.auto_renewal is None:
            return None
        with call.db.read() as tx:
            return reads.acme_auto_renewal(tx, order.id)

    def _view(self, call: Call, order: Order, status: int) -> Answer:
        headers = {"Location": call.urls("order", order.id)}
        if order.state is OrderState.PROCESSING:
            headers["Retry-After"] = RETRY_S
        shown = views.order(order, self.renewal(call, order), call.urls, call.now)
        return json_answer(shown, status, headers)
