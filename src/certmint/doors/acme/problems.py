"""Errors on ACME's wire: problem documents with the types of RFC 8555 6.7, and their status."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from certmint.doors.http import STATUS, Answer
from certmint.enrolment.acme.limits import RateLimited
from certmint.model.acme import Identifier
from certmint.model.errors import CertmintError, Unavailable

URN = "urn:ietf:params:acme:error:"
TYPES = frozenset({
    "accountDoesNotExist", "alreadyReplaced", "alreadyRevoked", "autoRenewalCanceled",
    "autoRenewalCancellationInvalid", "autoRenewalExpired", "autoRenewalRevocationNotSupported",
    "badAttestationStatement", "badCSR", "badNonce", "badPublicKey", "badRevocationReason",
    "badSignatureAlgorithm", "caa", "compound", "connection", "dns", "externalAccountRequired",
    "incorrectResponse", "invalidContact", "invalidProfile", "malformed", "orderNotReady",
    "rateLimited", "rejectedIdentifier", "serverInternal", "tls", "unauthorized",
    "unsupportedContact", "unsupportedIdentifier", "userActionRequired",
})  # fmt: skip
RETRY_AFTER_S = 60

# Our code -> ACME's type and status. What is not here is `malformed` or `unauthorized` by its kind.
_BY_CODE: Mapping[str, tuple[str, int]] = {
    "account-key-blocked": ("badPublicKey", 400),
    "account-unknown": ("accountDoesNotExist", 400),
    "account-key-used": ("malformed", 409),
    "already-replaced": ("alreadyReplaced", 409),
    "already-revoked": ("alreadyRevoked", 400),
    "attestation-missing": ("malformed", 400),
    "authorization-hardware": ("malformed", 400),
    "authorization-over": ("malformed", 400),
    "authorization-stale": ("unauthorized", 403),
    "authorization-wildcard": ("malformed", 400),
    "auto-renewal": ("malformed", 400),
    "auto-renewal-canceled": ("autoRenewalCanceled", 403),
    "auto-renewal-expired": ("autoRenewalExpired", 403),
    "auto-renewal-over": ("autoRenewalCancellationInvalid", 400),
    "auto-renewal-revocation": ("autoRenewalRevocationNotSupported", 403),
    "binding-required": ("externalAccountRequired", 403),
    "binding-revoked": ("unauthorized", 403),
    "binding-spent": ("unauthorized", 403),
    "certificate-unknown": ("malformed", 404),
    "contact-scheme": ("unsupportedContact", 400),
    "contact-syntax": ("invalidContact", 400),
    "csr-asks-more": ("badCSR", 400),
    "csr-not-attested": ("badCSR", 400),
    "csr-names": ("badCSR", 400),
    "csr-signature": ("badCSR", 400),
    "csr-syntax": ("badCSR", 400),
    "hardware-attested": ("badCSR", 400),
    "hardware-syntax": ("badCSR", 400),  # in a CSR; an order's is `identifier-syntax`
    "identifier-syntax": ("malformed", 400),
    "identifier-type": ("unsupportedIdentifier", 400),
    "key-blocked": ("badCSR", 400),  # a key that is to be certified; badPublicKey is a JWS's
    "key-kind": ("badCSR", 400),
    "key-origin": ("badCSR", 400),
    "key-reused": ("badCSR", 400),
    "key-syntax": ("badCSR", 400),
    "key-weak": ("badCSR", 400),
    "name-not-of-device": ("rejectedIdentifier", 403),
    "name-not-public": ("rejectedIdentifier", 403),
    "name-not-validated": ("unauthorized", 403),
    "name-outside-constraints": ("rejectedIdentifier", 403),
    "name-syntax": ("rejectedIdentifier", 400),
    "no-challenge": ("rejectedIdentifier", 403),
    "not-authorized": ("unauthorized", 403),
    "order-not-ready": ("orderNotReady", 403),
    "profile-not-offered": ("invalidProfile", 400),
    "rate-limited": ("rateLimited", 429),
    "revocation-reason": ("badRevocationReason", 400),
    "terms-changed": ("userActionRequired", 403),
}
_BY_STATUS = {400: "malformed", 401: "unauthorized", 403: "unauthorized", 404: "malformed",
              405: "malformed", 409: "malformed", 413: "malformed", 415: "malformed",
              429: "rateLimited"}  # fmt: skip


class ACMEProblem(Exception):
    """Something that only ACME knows: a bad nonce, an account that is not there."""

    def __init__(
        self, kind: str, detail: str, status: int = 400, extra: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.status = kind, detail, status
        self.extra = dict(extra or {})


def kind_of(error: CertmintError) -> tuple[str, int]:
    """ACME's error type and the HTTP status of one of our errors."""
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    status = STATUS[type(error)][0]
    if status < 400:
        return "userActionRequired", 403  # ACME has no answer that is not there yet
    return _BY_STATUS.get(status, "serverInternal"), status


def document(
    kind: str,
    detail: str,
    status: int,
    extra: Mapping[str, Any],
    retry_after_s: int = RETRY_AFTER_S,
) -> Answer:
    """A problem document; rate limits and outages say when to come again."""
    body = {"type": URN + kind, "detail": detail, "status": status, **extra}
    answer = Answer(orjson.dumps(body), status, "application/problem+json")
    if status in (429, 503):
        answer.add("Retry-After", str(retry_after_s))
    return answer


def problem(error: CertmintError, extra: Mapping[str, Any] | None = None) -> Answer:
    """One of our errors on the wire; a limit says exactly when it works again (6.6)."""
    kind, status = kind_of(error)
    detail = error.detail
    if status >= 500 and not isinstance(error, Unavailable):
        detail = "the operator of this server has to look at its log"
    wait_s = error.retry_after if isinstance(error, RateLimited) else RETRY_AFTER_S
    return document(kind, detail, status, extra or {}, wait_s)


def rejected(reasons: Sequence[tuple[Identifier, CertmintError]]) -> Answer:
    """An order for identifiers that the account may not have."""
    kind, detail, extra = subproblems([(i.type.value, i.value, error) for i, error in reasons])
    return document(kind, detail, 403, extra)


def subproblems(
    reasons: Sequence[tuple[str, str, CertmintError]],
) -> tuple[str, str, dict[str, Any]]:
    """Several identifiers (type, value), each with its own reason (RFC 8555 6.7.1).

    The type, detail and extra members of the problem that holds them; it is `compound` when the
    reasons are of different types.
    """
    parts = [
        {
            "type": URN + kind_of(error)[0],
            "detail": error.detail,
            "identifier": {"type": kind, "value": value},
        }
        for kind, value, error in reasons
    ]
    first = reasons[0][2]
    kinds = {part["type"] for part in parts}
    kind = kind_of(first)[0] if len(kinds) == 1 else "compound"
    detail = first.detail if len(parts) == 1 else f"{len(parts)} identifiers are refused"
    return kind, detail, {"subproblems": parts}
