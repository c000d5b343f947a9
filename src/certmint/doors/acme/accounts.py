"""newAccount, the account, its list of orders, and its key (RFC 8555 7.3)."""

import json
from collections.abc import Mapping

from certmint.doors.acme import fields, jws, views
from certmint.doors.acme.problems import ACMEProblem, document
from certmint.doors.acme.requests import Call, check_signature, is_plain, read_key
from certmint.doors.acme.services import Services, json_answer, link
from certmint.doors.http import Answer
from certmint.enrolment.acme import accounts
from certmint.enrolment.acme.accounts import Identity, Opening
from certmint.model.acme import Account, AccountState, Binding
from certmint.model.errors import Conflict
from certmint.registry import reads

PAGE = 100
_NO_KEY = bytes(32)  # what the MAC of an unknown binding is compared with: that takes as long


class Accounts:
    """Routes of accounts."""

    def __init__(self, on: Services) -> None:
        self._on = on

    def new(self, call: Call) -> Answer:
        """newAccount: opens one, or finds the one that the key has."""
        wanted = call.payload()
        identity = _identity(call.key)
        agrees = wanted.get("termsOfServiceAgreed") is True
        only_existing = wanted.get("onlyReturnExisting") is True
        known = accounts.existing(call.db, call.directory, identity)
        if known is not None:
            if known.state is not AccountState.VALID:
                raise ACMEProblem("unauthorized", f"the account is {known.state}", 401)
            if agrees and not only_existing:
                known = accounts.agree(call.db, call.directory, known, call.now)
            return _view(call, known, 200)
        if only_existing:
            raise ACMEProblem("accountDoesNotExist", "this key has no account here")
        given = wanted.get("externalAccountBinding")
        binding = self._binding(call, given)
        account, is_new = accounts.new_account(
            call.db, call.directory, identity,
            Opening(
                fields.contacts(wanted), agrees, binding, json.dumps(given) if binding else ""
            ),
            now=call.now, random_bytes=self._on.random_bytes, limits=self._on.limits,
        )  # fmt: skip
        return _view(call, account, 201 if is_new else 200)

    def _binding(self, call: Call, given: object) -> Binding | None:
        """RFC 8555 7.3.4: the operator's MAC over the account's key.

        Unknown, used up and wrong are one answer, and a MAC is compared for each of them.
        """
        if given is None:
            return None
        inner, kid = _inner(call, given)
        found = None
        if is_plain(kid):
            found = accounts.usable_binding(call.db, call.directory, kid, call.now)
        secret = self._on.vault.unlock(found.sealed_key, found.id) if found else _NO_KEY
        try:
            jws.verify_mac(inner, secret)
        except jws.BadAlgorithm as error:
            extra = {"algorithms": list(jws.MAC_ALGORITHMS)}
            raise ACMEProblem("badSignatureAlgorithm", str(error), extra=extra) from None
        except jws.BadSignature:
            if found is not None:
                accounts.binding_misused(call.db, found, call.now, self._on.limits)
            found = None
        if found is None:
            detail = "the external account binding is unknown or used up, or its MAC is wrong"
            raise ACMEProblem("unauthorized", detail, 403)
        return found

    def one(self, call: Call) -> Answer:
        """Read, change or deactivate an account (7.3.2, 7.3.6)."""
        account = _own(call)
        if call.signed.payload is None:
            return _view(call, account, 200)
        wanted = call.payload()
        if wanted.get("status") == "deactivated":
            account = accounts.deactivate(call.db, account, call.now)
        elif wanted.get("contact") is not None:
            contacts = fields.contacts(wanted)
            account = accounts.update_contacts(call.db, account, contacts, call.now)
        return _view(call, account, 200)

    def orders(self, call: Call) -> Answer:
        """The account's orders, newest first, in pages (7.1.2.1)."""
        account = _own(call)
        call.fetch_only()
        cursor = call.query.get("cursor")
        if cursor is not None and not is_plain(cursor):
            raise ACMEProblem("malformed", "there is no such page of orders", 404)
        with call.db.read() as tx:
            found = reads.acme_orders(tx, account.id, after=cursor, limit=PAGE + 1, now=call.now)
        shown = found[:PAGE]
        answer = json_answer({"orders": [call.urls("order", each) for each in shown]})
        if len(found) > PAGE:
            here = call.urls("account", account.id, "orders")
            link(answer, f"{here}?cursor={shown[-1]}", "next")
        return answer

    def key_change(self, call: Call) -> Answer:
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
        identity = _identity(new)
        other = accounts.existing(call.db, call.directory, identity)
        if other is not None:
            return _key_taken(call, other)
        try:
            changed = accounts.change_key(call.db, account, identity, call.now)
        except Conflict:
            winner = accounts.existing(call.db, call.directory, identity)
            return _key_taken(call, winner or account)
        return _view(call, changed, 200)


def _identity(key: jws.AccountKey) -> Identity:
    return Identity(key.thumbprint, key.jwk, jws.fingerprint(key))


def _inner(call: Call, given: object) -> tuple[jws.JWS, str]:
    """The binding's JWS and its kid, if the JWS is of the form of RFC 8555 7.3.4."""
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
    return inner, header["kid"]


def _view(call: Call, account: Account, status: int) -> Answer:
    location = {"Location": call.urls.account(account)}
    return json_answer(views.account(account, call.directory, call.urls), status, location)


def _own(call: Call) -> Account:
    if call.params["account"] != call.signer.id:
        raise ACMEProblem("unauthorized", "this is another account", 403)
    return call.signer


def _key_taken(call: Call, other: Account) -> Answer:
    answer = document("malformed", "the new key belongs to an account already", 409, {})
    answer.add("Location", call.urls.account(other))
    return answer
