"""Routes of the ACME door. Each is a few lines between a verified call and a use case."""

import datetime as dt
import functools
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import serialization
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from certmint.doors.acme import fields, jws, views
from certmint.doors.acme.problems import ACMEProblem, document, problem, rejected
from certmint.doors.acme.requests import (
    Arrival,
    Call,
    check_signature,
    is_plain,
    read_key,
    verified,
)
from certmint.doors.acme.views import URLs
from certmint.doors.http import BodyLimit
from certmint.enrolment import chains
from certmint.enrolment.acme import accounts, challenges, orders, revocation
from certmint.enrolment.acme.accounts import Identity, Vault
from certmint.enrolment.acme.challenges import Network
from certmint.enrolment.acme.directories import directory_named
from certmint.enrolment.acme.nonces import Nonces
from certmint.enrolment.issue import Gate
from certmint.enrolment.signing import SigningKeys
from certmint.model.acme import Account, Authorization, Binding, Order
from certmint.model.csr import parse_csr
from certmint.model.errors import CertmintError, Conflict, NotFound
from certmint.model.keys import public_key
from certmint.model.serial import RandomBytes
from certmint.registry import fibres, reads
from certmint.registry.engine import Database

MAX_BODY = 64 * 1024
VALIDATORS = 16
QUICK_S = 1.5  # how long a challenge POST waits for its own validation before it says "processing"
ARI_RETRY_S = 6 * 3600  # clients obey it, so a mass revocation reaches them no faster
ARI_URGENT_RETRY_S = 3600
PAGE = 100

log = logging.getLogger("certmint.acme")


@dataclass(frozen=True)
class Services:
    """What the routes call into. `base_url` is the configured https:// base of the server."""

    db: Database
    gate: Gate
    keys: SigningKeys
    nonces: Nonces
    vault: Vault
    network: Network
    clock: Callable[[], dt.datetime]
    random_bytes: RandomBytes
    base_url: str


Handler = Callable[[Call], Response]


class ACMEDoor:
    """The ASGI application below `/acme`."""

    def __init__(self, services: Services) -> None:
        self._on = services
        self._validators = ThreadPoolExecutor(VALIDATORS, thread_name_prefix="validator")
        base = "/{maker}/{name}"
        post = self._post
        self.app = Starlette(
            routes=[
                Route(f"{base}/directory", self._directory, methods=["GET"]),
                Route(f"{base}/new-nonce", self._new_nonce, methods=["GET", "HEAD"]),
                Route(f"{base}/renewal-info/{{certid}}", self._renewal_info, methods=["GET"]),
                post(f"{base}/new-account", self._new_account, by_key=True),
                post(f"{base}/new-order", self._new_order),
                post(f"{base}/revoke-cert", self._revoke, by_key=None),
                post(f"{base}/key-change", self._key_change),
                post(f"{base}/account/{{account}}", self._account),
                post(f"{base}/account/{{account}}/orders", self._orders),
                post(f"{base}/order/{{order}}", self._order),
                post(f"{base}/order/{{order}}/finalize", self._finalize),
                post(f"{base}/authz/{{authz}}", self._authorization),
                post(f"{base}/challenge/{{challenge}}", self._challenge),
                post(f"{base}/cert/{{order}}", self._certificate),
            ]
        )
        self.app.add_middleware(BodyLimit, limit=MAX_BODY)

    def close(self) -> None:
        """End the validators; what they were at is looked at again by another node or later."""
        self._validators.shutdown(wait=False, cancel_futures=True)

    # From HTTP to a call, and back

    def _post(self, path: str, handler: Handler, *, by_key: bool | None = False) -> Route:
        async def endpoint(request: Request) -> Response:
            if request.method != "POST":
                detail = "ACME resources are read by POST-as-GET (RFC 8555 6.3)"
                return self._finished(request, document("malformed", detail, 405, {}))
            body = await request.body()
            work = functools.partial(self._answer, request, body, handler, by_key)
            return await self._on.db.run(work)

        methods = ["POST", "GET", "HEAD", "PUT", "DELETE", "PATCH"]
        return Route(path, endpoint, methods=methods)

    def _answer(
        self, request: Request, body: bytes, handler: Handler, by_key: bool | None
    ) -> Response:
        now = self._on.clock()
        urls = self._urls(request.path_params)
        try:
            directory = directory_named(
                self._on.db, request.path_params["maker"], request.path_params["name"]
            )
            url = self._on.base_url + request.scope["path"]
            arrival = Arrival(
                directory, urls, url, request.headers.get("content-type", ""), body,
                request.path_params,
            )  # fmt: skip
            call = verified(arrival, self._on.db, self._on.nonces, now, by_key=by_key)
            response = handler(call)
        except ACMEProblem as error:
            response = document(error.kind, error.detail, error.status, error.extra)
        except orders.Rejected as rejection:
            response = rejected(rejection.reasons)
        except CertmintError as error:
            response = problem(error)
        except Exception:
            log.exception("unexpected error at %s", request.url.path)
            response = document("serverInternal", "the server failed; its log says why", 500, {})
        return self._finished(request, response)

    def _finished(self, request: Request, response: Response) -> Response:
        nonce = self._on.nonces.make(self._on.clock(), self._on.random_bytes)
        response.headers["Replay-Nonce"] = nonce
        response.headers["Cache-Control"] = "no-store"
        index = self._urls(request.path_params)("directory")
        response.headers.append("Link", f'<{index}>;rel="index"')
        return response

    def _urls(self, params: Mapping[str, str]) -> URLs:
        return URLs(f"{self._on.base_url}/acme/{params['maker']}/{params['name']}")

    # Without a signature

    def _directory(self, request: Request) -> Response:
        try:
            found = directory_named(
                self._on.db, request.path_params["maker"], request.path_params["name"]
            )
        except NotFound as error:
            return problem(error)
        return _json(views.directory(found, self._urls(request.path_params)))

    def _new_nonce(self, request: Request) -> Response:
        response = Response(status_code=200 if request.method == "HEAD" else 204)
        return self._finished(request, response)

    def _renewal_info(self, request: Request) -> Response:
        try:
            key_id, serial = fields.cert_id(request.path_params["certid"])
            found = revocation.renewal_info(self._on.db, key_id, serial, self._on.clock())
        except ACMEProblem as error:
            return document(error.kind, error.detail, error.status, error.extra)
        except CertmintError as error:
            return problem(error)
        window = {"start": views.when(found.window.start), "end": views.when(found.window.end)}
        seconds = ARI_URGENT_RETRY_S if found.is_urgent else ARI_RETRY_S
        return _json({"suggestedWindow": window}, headers={"Retry-After": str(seconds)})

    # Accounts

    def _new_account(self, call: Call) -> Response:
        wanted = call.payload()
        identity = Identity(call.key.thumbprint, call.key.jwk)
        known = accounts.existing(self._on.db, call.directory, identity)
        if known is not None:
            if known.state.value != "valid":
                raise ACMEProblem("unauthorized", f"the account is {known.state}", 401)
            return self._account_view(call, known, 200)
        if wanted.get("onlyReturnExisting") is True:
            raise ACMEProblem("accountDoesNotExist", "this key has no account here")
        binding = self._binding(call, wanted.get("externalAccountBinding"))
        account, is_new = accounts.new_account(
            self._on.db, call.directory, identity, fields.contacts(wanted), binding,
            now=call.now, random_bytes=self._on.random_bytes,
        )  # fmt: skip
        return self._account_view(call, account, 201 if is_new else 200)

    def _binding(self, call: Call, given: object) -> Binding | None:
        """RFC 8555 7.3.4: the operator's MAC over the account's key."""
        if given is None:
            return None
        if not isinstance(given, Mapping):
            raise ACMEProblem("malformed", "externalAccountBinding is not a JSON object")
        try:
            inner = jws.parse(given)
            wanted = jws.account_key(inner.json())
        except (jws.Malformed, jws.BadKey) as error:
            raise ACMEProblem("malformed", f"externalAccountBinding: {error}") from None
        header = inner.header
        if header.get("url") != call.url or "nonce" in header or "jwk" in header:
            raise ACMEProblem("malformed", "the binding's protected header is not RFC 8555 7.3.4's")
        if wanted.thumbprint != call.key.thumbprint or not isinstance(header.get("kid"), str):
            raise ACMEProblem("malformed", "the binding is for another key")
        if not is_plain(header["kid"]):
            raise ACMEProblem("unauthorized", "the external account binding is unknown", 403)
        found, secret = accounts.open_binding(
            self._on.db, self._on.vault, call.directory, header["kid"], call.now
        )
        try:
            jws.verify_mac(inner, secret)
        except jws.BadAlgorithm as error:
            extra = {"algorithms": list(jws.MAC_ALGORITHMS)}
            raise ACMEProblem("badSignatureAlgorithm", str(error), extra=extra) from None
        except jws.BadSignature:
            raise ACMEProblem("unauthorized", "the binding's MAC does not verify", 403) from None
        return found

    def _account(self, call: Call) -> Response:
        account = self._own(call)
        if call.signed.payload is None:
            return self._account_view(call, account, 200)
        wanted = call.payload()
        if wanted.get("status") == "deactivated":
            account = accounts.deactivate(self._on.db, account, call.now)
        elif "contact" in wanted:
            contacts = fields.contacts(wanted)
            account = accounts.update_contacts(self._on.db, account, contacts, call.now)
        return self._account_view(call, account, 200)

    def _account_view(self, call: Call, account: Account, status: int) -> Response:
        location = {"Location": call.urls.account(account)}
        return _json(views.account(account, call.urls), status, location)

    def _own(self, call: Call) -> Account:
        if call.params["account"] != call.signer.id:
            raise ACMEProblem("unauthorized", "this is another account", 403)
        return call.signer

    def _orders(self, call: Call) -> Response:
        account = self._own(call)
        call.fetch_only()
        with self._on.db.read() as tx:
            found = reads.acme_orders(tx, account.id, after=None, limit=PAGE, now=call.now)
        return _json({"orders": [call.urls("order", each) for each in found]})

    def _key_change(self, call: Call) -> Response:
        """RFC 8555 7.3.5: the new key signs inside, the old one outside."""
        account = call.signer
        try:
            inner = jws.parse(call.payload())
            wanted = inner.json()
        except jws.Malformed as error:
            raise ACMEProblem("malformed", f"the inner JWS: {error}") from None
        header = inner.header
        if header.get("url") != call.url or "nonce" in header or "kid" in header:
            raise ACMEProblem("malformed", "the inner protected header is not RFC 8555 7.3.5's")
        new = read_key(header.get("jwk"))
        check_signature(inner, new)
        if wanted.get("account") != call.urls.account(account):
            raise ACMEProblem("malformed", "the inner account is another one")
        if read_key(wanted.get("oldKey")).thumbprint != account.thumbprint:
            raise ACMEProblem("malformed", "oldKey is not the account's key")
        identity = Identity(new.thumbprint, new.jwk)
        other = accounts.existing(self._on.db, call.directory, identity)
        if other is not None:
            return self._key_taken(call, other)
        try:
            changed = accounts.change_key(self._on.db, account, identity, call.now)
        except Conflict:
            winner = accounts.existing(self._on.db, call.directory, identity)
            return self._key_taken(call, winner or account)
        return self._account_view(call, changed, 200)

    def _key_taken(self, call: Call, other: Account) -> Response:
        response = document("malformed", "the new key belongs to an account already", 409, {})
        response.headers["Location"] = call.urls.account(other)
        return response

    # Orders

    def _new_order(self, call: Call) -> Response:
        wanted = call.payload()
        if wanted.get("notBefore") or wanted.get("notAfter"):
            raise ACMEProblem("malformed", "notBefore and notAfter are the profile's to choose")
        replaces = wanted.get("replaces")
        if replaces is not None:
            fields.cert_id(replaces)
        order = orders.new_order(
            self._on.db, call.directory, call.signer, fields.identifiers(wanted),
            fields.optional_text(wanted, "profile"), replaces,
            now=call.now, random_bytes=self._on.random_bytes,
        )  # fmt: skip
        return self._order_view(call, order, 201)

    def _order(self, call: Call) -> Response:
        call.fetch_only()
        return self._order_view(call, self._found(call), 200)

    def _found(self, call: Call) -> Order:
        with self._on.db.read() as tx:
            found = reads.acme_order(tx, call.signer.id, call.params["order"])
        if found is None:
            raise ACMEProblem("malformed", "there is no such order", 404)
        return found

    def _order_view(self, call: Call, order: Order, status: int) -> Response:
        headers = {"Location": call.urls("order", order.id)}
        if order.state.value == "processing":
            headers["Retry-After"] = "3"
        return _json(views.order(order, call.urls, call.now), status, headers)

    def _finalize(self, call: Call) -> Response:
        order = self._found(call)
        csr = parse_csr(fields.octets(call.payload(), "csr"))
        if csr.key.fingerprint == _fingerprint(call.key):
            raise ACMEProblem("badCSR", "the account's key is not for certificates")
        done = orders.finalize(
            self._on.db, self._on.gate, call.directory, call.signer, order, csr, now=call.now
        )
        return self._order_view(call, done, 200)

    def _certificate(self, call: Call) -> Response:
        call.fetch_only()
        order = self._found(call)
        if order.serial is None:
            raise ACMEProblem("malformed", "the order has no certificate yet", 404)
        with self._on.db.read() as tx:
            found = reads.certificate(tx, order.tenant_id, order.serial, order.authority_id)
            if found is None:
                raise ACMEProblem("malformed", "there is no such certificate", 404)
            above = chains.intermediates_pem(tx, order.tenant_id, found.authority_id)
        text = chains.pem(found.der) + above
        return Response(text, media_type="application/pem-certificate-chain")

    def _authorization(self, call: Call) -> Response:
        with self._on.db.read() as tx:
            found = reads.acme_authorization(tx, call.signer.id, call.params["authz"])
        if found is None:
            raise ACMEProblem("malformed", "there is no such authorization", 404)
        if call.signed.payload is not None:
            if call.payload().get("status") != "deactivated":
                raise ACMEProblem("malformed", "an authorization can only be deactivated")
            found = challenges.deactivate(self._on.db, call.signer, found, call.now)
        response = _json(views.authorization(found, call.urls, call.now))
        if found.state.value == "pending":
            response.headers["Retry-After"] = "3"
        return response

    def _challenge(self, call: Call) -> Response:
        account, challenge_id = call.signer, call.params["challenge"]
        if call.signed.payload is not None:
            call.payload()
            if challenges.begin(self._on.db, account, challenge_id, call.now):
                self._validate(call, account, challenge_id)
        with self._on.db.read() as tx:
            found = reads.acme_challenge(tx, account.id, challenge_id)
        if found is None:
            raise ACMEProblem("malformed", "there is no such challenge", 404)
        authorization, challenge = found
        response = _json(views.challenge(challenge, call.urls))
        response.headers.append("Link", f'<{self._authz_url(call, authorization)}>;rel="up"')
        if challenge.state.value == "processing":
            response.headers["Retry-After"] = "3"
        return response

    def _validate(self, call: Call, account: Account, challenge_id: str) -> None:
        looking = self._validators.submit(
            challenges.validate, self._on.db, account, challenge_id,
            call.urls.account(account), self._on.network, self._on.clock(),
        )  # fmt: skip
        fibres.patiently(looking, QUICK_S)

    @staticmethod
    def _authz_url(call: Call, authorization: Authorization) -> str:
        return call.urls("authz", authorization.id)

    # Revocation

    def _revoke(self, call: Call) -> Response:
        wanted = call.payload()
        der = fields.octets(wanted, "certificate")
        reason = revocation.reason_of(wanted.get("reason"))
        found = revocation.certificate_of(self._on.db, call.directory, der)
        if call.account is not None:
            revocation.revoke_by_account(
                self._on.db, self._on.keys, call.account, found, reason, call.now
            )
        elif public_key(revocation.spki_of(der)).fingerprint == _fingerprint(call.key):
            revocation.revoke_by_key(self._on.db, self._on.keys, found, call.now)
        else:
            raise ACMEProblem("unauthorized", "the key is not the certificate's", 403)
        return Response(status_code=200)


def _json(
    body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(json.dumps(body), status, dict(headers or {}), media_type="application/json")


def _fingerprint(key: jws.AccountKey) -> str:
    """The SPKI fingerprint of an account key, to compare with certificates' keys."""
    spki = key.key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()
