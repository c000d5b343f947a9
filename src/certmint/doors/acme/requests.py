"""From an HTTP POST to a verified request: content type, JWS, URL, key, nonce, account.

RFC 8555 6.2 to 6.5, in that order; the nonce is spent last, by a request that is otherwise good:
in the transaction of the first thing that the request writes, or else before it is answered.
"""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from certmint.doors.acme import jws
from certmint.doors.acme.problems import ACMEProblem
from certmint.doors.acme.views import URLs
from certmint.enrolment.acme.challenges import Place
from certmint.enrolment.acme.nonces import BadNonce, Nonces, Spending
from certmint.model.acme import Account, AccountState, Directory
from certmint.registry import reads
from certmint.registry.engine import Database

CONTENT_TYPE = "application/jose+json"


@dataclass(frozen=True)
class Call:
    """A request whose signature, URL and nonce are good.

    Nothing of the request is written but through `db`, whose first write spends the nonce too;
    whoever handles the request settles `spending` at its end.
    `account` is who signed with `kid`; for `jwk` requests it is None and `key` is the key inside.
    """

    spending: Spending
    directory: Directory
    urls: URLs
    url: str
    now: dt.datetime
    signed: jws.JWS
    key: jws.AccountKey
    account: Account | None
    params: Mapping[str, str]
    query: Mapping[str, str]

    @property
    def db(self) -> Database:
        """The registry, for this request."""
        return self.spending.db

    @property
    def place(self) -> Place:
        """What a DNS record says of the account and of this directory."""
        return self.urls.place(self.directory, self.signer)

    @property
    def signer(self) -> Account:
        """The account; every route but a few has one."""
        if self.account is None:
            raise ACMEProblem("malformed", "this request is signed with 'kid', not 'jwk'")
        return self.account

    def payload(self) -> dict[str, Any]:
        """The JSON object that was sent. Raises ACMEProblem `malformed`."""
        try:
            return self.signed.json()
        except jws.Malformed as error:
            raise ACMEProblem("malformed", str(error)) from None

    def fetch_only(self) -> None:
        """POST-as-GET has an empty payload (RFC 8555 6.3)."""
        if self.signed.payload is not None:
            raise ACMEProblem("malformed", "to read a resource, the payload is the empty string")


@dataclass(frozen=True)
class Arrival:
    """A POST as it came."""

    directory: Directory
    urls: URLs
    url: str
    content_type: str
    body: bytes
    params: Mapping[str, str]
    query: Mapping[str, str]


def verified(
    arrival: Arrival, db: Database, nonces: Nonces, now: dt.datetime, *, by_key: bool | None
) -> Call:
    """The request, if everything about it holds.

    `by_key`: True for newAccount (jwk), False for kid, None where both are allowed. Raises
    ACMEProblem.
    """
    if arrival.content_type.split(";")[0].strip().lower() != CONTENT_TYPE:
        raise ACMEProblem("malformed", f"the Content-Type is not {CONTENT_TYPE}", 415)
    try:
        parsed = jws.parse(arrival.body)
    except jws.Malformed as error:
        raise ACMEProblem("malformed", str(error)) from None
    header = parsed.header
    if header.get("url") != arrival.url:
        raise ACMEProblem("unauthorized", "the url in the protected header is another one", 403)
    if ("jwk" in header) == ("kid" in header):
        raise ACMEProblem("malformed", "the protected header needs exactly one of jwk and kid")
    if by_key is not None and by_key != ("jwk" in header):
        wanted = "jwk" if by_key else "kid"
        raise ACMEProblem("malformed", f"this request is signed with {wanted!r}")
    account, key = _signer(arrival, db, header)
    check_signature(parsed, key)
    if "nonce" not in header:
        raise ACMEProblem("badNonce", "the protected header has no nonce")
    if isinstance(header["nonce"], str):
        try:
            jws.unb64url(header["nonce"], "the nonce")
        except jws.Malformed as error:  # RFC 8555 6.5.2
            raise ACMEProblem("malformed", str(error)) from None
    try:
        spending = nonces.accept(header["nonce"], now)
    except BadNonce:
        raise bad_nonce() from None
    if account is not None and account.state is not AccountState.VALID:
        spending.settle()
        raise ACMEProblem("unauthorized", f"the account is {account.state}", 401)
    return Call(
        spending, arrival.directory, arrival.urls, arrival.url, now, parsed, key, account,
        arrival.params, arrival.query,
    )  # fmt: skip


def bad_nonce() -> ACMEProblem:
    """What a replayed request is told, and one with a nonce that is not ours (RFC 8555 6.5)."""
    return ACMEProblem("badNonce", "the nonce is unknown, too old, or was used before")


def check_signature(parsed: jws.JWS, key: jws.AccountKey) -> None:
    """Raises ACMEProblem `badSignatureAlgorithm` (with our algorithms) or `malformed`."""
    try:
        jws.verify(parsed, key)
    except jws.BadAlgorithm as error:
        extra = {"algorithms": list(jws.ALGORITHMS)}
        raise ACMEProblem("badSignatureAlgorithm", str(error), extra=extra) from None
    except jws.BadSignature as error:
        raise ACMEProblem("malformed", str(error)) from None


def read_key(jwk: object) -> jws.AccountKey:
    """Raises ACMEProblem `badPublicKey` or `malformed`."""
    try:
        return jws.account_key(jwk)
    except jws.BadKey as error:
        raise ACMEProblem("badPublicKey", str(error)) from None
    except jws.Malformed as error:
        raise ACMEProblem("malformed", str(error)) from None


def _signer(
    arrival: Arrival, db: Database, header: Mapping[str, Any]
) -> tuple[Account | None, jws.AccountKey]:
    if header.get("alg") not in jws.ALGORITHMS:
        extra = {"algorithms": list(jws.ALGORITHMS)}
        raise ACMEProblem("badSignatureAlgorithm", "the algorithm is not accepted", extra=extra)
    if "jwk" in header:
        return None, read_key(header["jwk"])
    kid, prefix = header["kid"], arrival.urls("account") + "/"
    account = None
    if isinstance(kid, str) and is_plain(kid) and kid.startswith(prefix):
        with db.read() as tx:
            account = reads.acme_account(tx, arrival.directory.id, kid.removeprefix(prefix))
    if account is None:
        raise ACMEProblem("accountDoesNotExist", "kid names no account of this directory")
    return account, stored_key(account)


def is_plain(text: str) -> bool:
    """Whether a client's text can be an id of ours: a database cannot look for every text."""
    return text.isascii() and text.isprintable()


def stored_key(account: Account) -> jws.AccountKey:
    """An account's key from its canonical JWK."""
    return _key_of(account.jwk)


@lru_cache(maxsize=4096)
def _key_of(jwk: str) -> jws.AccountKey:
    return jws.account_key(json.loads(jwk))
