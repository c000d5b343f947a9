"""Refusals in the two styles of SWS: an `errors` object by field, with the status or with 200.

Beside `errors` stands our stable `code`.
"""

import json
import logging

from starlette.requests import Request
from starlette.responses import Response

from certmint.doors.http import RETRY_AFTER_S, STATUS, challenge
from certmint.model.errors import CertmintError, Misconfigured, TooOften, Unavailable

log = logging.getLogger("certmint.http")

_FIELDS = {
    "csr-unique-value": "csr.csr_unique_values",
    "unique-value": "unique_value",
    "product-code": "product",
    "order-period": "period",
    "dcv-method": "domains",
    "csr-names": "domains",
    "order-unknown": "ref",
    "revocation-reason": "reason",
    "callback-unsupported": "callback",
    "token-required": "account_key",
    "token-invalid": "account_key",
    "rate-limit": "base",
}
_BY_PREFIX = (
    ("csr-", "csr"),
    ("key-", "csr"),
    ("hardware-", "csr"),
    ("name-", "domains"),
    ("mail-", "domains"),
    ("authority-", "ca_certificate_id"),
    ("serial-", "serials"),
    ("certificate-", "serials"),
    ("token-", "account_key"),
)


def field_of(error: CertmintError) -> str:
    """The request's field that an error is about; `base` for none of them."""
    if error.code == "request-syntax":
        return error.detail.partition(":")[0]
    if error.code in _FIELDS:
        return _FIELDS[error.code]
    for prefix, name in _BY_PREFIX:
        if error.code.startswith(prefix):
            return name
    return "base"


def answer_error(error: CertmintError, *, always_200: bool) -> Response:
    """An error as SWS clients expect it; what is ours to mend is told to the log only."""
    status, _ = STATUS[type(error)]
    detail, headers = error.detail, {}
    if isinstance(error, Misconfigured):
        log.error("misconfigured: %s: %s", error.code, error.detail)
        detail = "the operator of this server has to look at its log"
    if isinstance(error, Unavailable):
        log.warning("unavailable: %s: %s", error.code, error.detail)
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, TooOften):
        headers["Retry-After"] = str(error.retry_after)
    name = field_of(error)
    response = error_response(200 if always_200 else status, name, error.code, detail)
    response.headers.update(headers)
    challenge(response, error)
    return response


def error_response(status: int, name: str, code: str, detail: str) -> Response:
    """One error about one field."""
    detail = detail.removeprefix(f"{name}: ")
    body = {"errors": {name: [detail]}, "code": code}
    return Response(json.dumps(body), status, media_type="application/json")


def unexpected(request: Request, error: Exception) -> Response:
    """A bug: nothing for the client, the traceback for the log. The query is not logged."""
    log.error("unexpected error at %s", request.url.path, exc_info=error)
    return error_response(500, "base", "internal", "the server failed; its log says why")
