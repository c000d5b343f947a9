"""Certificates: their chains, those that renew themselves, revocation, and when to renew.

RFC 8555 7.4.2 and 7.6, RFC 8739 3.3, RFC 9773 4.
"""

import datetime as dt
import re
from email.utils import format_datetime

from certmint.doors.acme import fields, jws, views
from certmint.doors.acme.orders import Orders
from certmint.doors.acme.problems import ACMEProblem
from certmint.doors.acme.requests import Call
from certmint.doors.acme.services import Services, json_answer, link
from certmint.doors.acme.views import URLs
from certmint.doors.http import Answer
from certmint.enrolment.acme import certificates, revocation, star
from certmint.model.acme import AutoRenewal, Directory
from certmint.model.entities import Certificate
from certmint.model.keys import public_key
from certmint.registry import reads

ARI_RETRY_S = 6 * 3600  # clients obey it, so a mass revocation reaches them no faster
ARI_URGENT_RETRY_S = 3600


class Certificates:
    """Routes of certificates."""

    def __init__(self, on: Services, orders: Orders) -> None:
        self._on = on
        self._orders = orders

    def one(self, call: Call) -> Answer:
        """An order's certificate, by its default chain or by the one with that number."""
        call.fetch_only()
        order = self._orders.found(call, call.params["order"])
        if order.serial is None or self._orders.renewal(call, order) is not None:
            raise ACMEProblem("malformed", "the order has no certificate here, or not yet", 404)
        issuer = order.authority_id or ""
        with call.db.read() as tx:
            der = reads.certificate_der(tx, order.tenant_id, issuer, order.serial)
            if der is None:
                raise ACMEProblem("malformed", "there is no such certificate", 404)
            chains = certificates.chains(tx, order.tenant_id, issuer, der)
        number = call.params.get("number", "0")
        if not re.fullmatch("[0-9]{1,3}", number) or int(number) >= len(chains):
            raise ACMEProblem("malformed", "the certificate has no such chain", 404)
        answer = _pem(chains[int(number)])
        for other in range(len(chains)):
            if other != int(number):
                where = (order.id, str(other)) if other else (order.id,)
                link(answer, call.urls("cert", *where), "alternate")
        return answer

    def renewing(self, call: Call) -> Answer:
        """The present certificate of an order that renews itself, for its account."""
        call.fetch_only()
        order = self._orders.found(call, call.params["order"])
        renewal = self._orders.renewal(call, order)
        if renewal is None:
            raise ACMEProblem("malformed", "the order does not renew itself", 404)
        return self._current(renewal, call.now)

    def renewing_for_all(self, directory: Directory, order_id: str, urls: URLs) -> Answer:
        """The same without a signature, where the order and the directory allow that (3.4)."""
        now = self._on.clock()
        with self._on.db.read() as tx:
            renewal = reads.acme_auto_renewal(tx, order_id)
        if renewal is None or not renewal.allows_get or renewal.tenant_id != directory.tenant_id:
            raise ACMEProblem("malformed", "this resource is read by POST-as-GET", 405)
        answer = self._current(renewal, now)
        until = renewal.next_at or renewal.ends_at
        fresh = max(0, int((until - now).total_seconds()))
        answer.add("Cache-Control", f"public, max-age={fresh}")
        link(answer, urls("directory"), "index")
        return answer

    def _current(self, renewal: AutoRenewal, now: dt.datetime) -> Answer:
        with self._on.db.read() as tx:
            found = star.current(tx, renewal, now)
            chains = certificates.chains(tx, found.tenant_id, found.authority_id, found.der)
        answer = _pem(chains[0])
        _dates(answer, found)
        return answer

    def revoke(self, call: Call) -> Answer:
        """revokeCert (7.6)."""
        wanted = call.payload()
        der = fields.octets(wanted, "certificate")
        reason = revocation.reason_of(wanted.get("reason"))
        found = revocation.certificate_of(call.db, call.directory, der)
        if call.account is not None:
            revocation.revoke_by_account(
                call.db, self._on.keys, call.account, found, reason, call.now
            )
        elif public_key(revocation.spki_of(der)).fingerprint == jws.fingerprint(call.key):
            revocation.revoke_by_key(call.db, self._on.keys, found, call.key.thumbprint, call.now)
        else:
            raise ACMEProblem("unauthorized", "the key is not the certificate's", 403)
        return Answer()

    def renewal_info(self, cert_id: str) -> Answer:
        """When to renew (RFC 9773 4)."""
        key_id, serial = fields.cert_id(cert_id)
        found = revocation.renewal_info(self._on.db, key_id, serial, self._on.clock())
        window = {"start": views.when(found.window.start), "end": views.when(found.window.end)}
        shown: dict[str, object] = {"suggestedWindow": window}
        if found.explanation_url:
            shown["explanationURL"] = found.explanation_url
        seconds = ARI_URGENT_RETRY_S if found.is_urgent else ARI_RETRY_S
        return json_answer(shown, headers={"Retry-After": str(seconds)})


def _pem(chain: str) -> Answer:
    return Answer(chain.encode(), media_type="application/pem-certificate-chain")


def _dates(answer: Answer, found: Certificate) -> None:
    """For clients that do not read certificates (RFC 8739 3.3), in quotes as it says."""
    for name, moment in (("Not-Before", found.not_before), ("Not-After", found.not_after)):
        answer.add(f"Cert-{name}", f'"{format_datetime(moment, usegmt=True)}"')
