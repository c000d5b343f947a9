"""What EST puts on the wire: base64 in one line, multipart for a key, and sentences for a refusal.

One line, because some clients do not skip line breaks; RFC 8951 3.1 lets a server choose. libest
alone gets lines, since it reads nothing else. RFC 8951 also makes Content-Transfer-Encoding
superfluous, but clients that are older take a body without it for plain DER (Bouncy Castle,
est-client-python), and a part without it for nothing (libest).
"""

import base64
import datetime as dt
import logging
import re
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from certmint.doors.http import RETRY_AFTER_S, STATUS, challenge, problem_response, waiting
from certmint.enrolment.delivery import Delivered
from certmint.enrolment.renewal import Enrolled
from certmint.model.cms import certificates_only
from certmint.model.errors import (
    CertmintError,
    Misconfigured,
    Pending,
    TooOften,
    Unauthenticated,
    Unavailable,
)

CERTIFICATES = "application/pkcs7-mime; smime-type=certs-only"
PLAIN_KEY = "application/pkcs8"
SEALED_KEY = "application/pkcs7-mime; smime-type=server-generated-key"
CODE = "Certmint-Code"
WINDOW = "Certmint-Renewal-Window"
ENCODING = {"Content-Transfer-Encoding": "base64"}
_LINE = 64  # as in PEM
_LONG = re.compile(rb"^[A-Za-z0-9+/]{%d,}={0,2}(?=\r?$)" % _LINE, re.MULTILINE)
_BOUNDARY = "certmint-server-generated-key"  # a hyphen is in no base64, so it ends nothing early

log = logging.getLogger("certmint.est")


def base64_body(data: bytes, media_type: str) -> Response:
    """DER as EST carries it."""
    return Response(base64.b64encode(data), headers=ENCODING, media_type=media_type)


def wants_lines(user_agent: str) -> bool:
    """Whether a client reads base64 in lines only.

    libest's decoder is OpenSSL's BIO, which skips what has no line break in its first kilobyte.
    """
    return user_agent.startswith("libest ")


def in_lines(answer: Response) -> Response:
    """The same answer, with its base64 broken into lines; a sentence has spaces, and stays."""
    answer.body = _LONG.sub(_broken, bytes(answer.body))
    if answer.status_code != HTTPStatus.NO_CONTENT:
        answer.headers["Content-Length"] = str(len(answer.body))
    return answer


def _broken(line: re.Match[bytes]) -> bytes:
    text = line[0]
    return b"".join(text[at : at + _LINE] + b"\n" for at in range(0, len(text), _LINE))


def certificate(enrolled: Enrolled, now: dt.datetime) -> Response:
    """The issued certificate alone (RFC 7030 4.2.3), and when to renew it."""
    answer = base64_body(certificates_only([enrolled.certificate.der]), CERTIFICATES)
    answer.headers.update(_renewal(enrolled, now))
    return answer


def key_and_certificate(delivered: Delivered, now: dt.datetime) -> Response:
    """A multipart of the private key and its certificate (RFC 7030 4.4.2)."""
    kind = SEALED_KEY if delivered.is_encrypted else PLAIN_KEY
    parts = (
        (kind, delivered.key),
        (CERTIFICATES, certificates_only([delivered.enrolled.certificate.der])),
    )
    body = b"".join(
        b"--%b\r\nContent-Type: %b\r\nContent-Transfer-Encoding: base64\r\n\r\n%b\r\n"
        % (_BOUNDARY.encode(), media_type.encode(), base64.b64encode(data))
        for media_type, data in parts
    )
    return Response(
        body + b"--%b--\r\n" % _BOUNDARY.encode(),
        media_type=f"multipart/mixed; boundary={_BOUNDARY}",
        headers={**_renewal(delivered.enrolled, now), "Cache-Control": "no-store"},
    )


def refusal(error: CertmintError, accept: str) -> Response:
    """One of our errors on the wire; what only the operator can mend is logged, not told."""
    if isinstance(error, Pending) and "json" in accept:
        return waiting(error, {CODE: error.code})
    status = STATUS[type(error)][0]
    detail, headers = error.detail, {}
    if isinstance(error, Misconfigured):
        log.error("misconfigured: %s: %s", error.code, error.detail)
        detail = "the operator of this server has to look at its log"
    if isinstance(error, Unavailable):
        log.warning("unavailable: %s: %s", error.code, error.detail)
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, Pending | TooOften):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Pending | Unauthenticated) and not accept:
        # Bouncy Castle reads the body of neither, takes what it left unread for an error, and knows
        # then nothing of waiting or of logins (RFC 7030 4.2.3: a sentence MAY be there). Who says
        # what it accepts gets one.
        response = Response(status_code=status, headers={CODE: error.code, **headers})
    else:
        response = said(status, STATUS[type(error)][1], error.code, detail, accept, headers)
    challenge(response, error)
    return response


def said(
    status: int,
    title: str,
    code: str,
    detail: str,
    accept: str,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One sentence as text/plain, or a problem document for who accepts JSON (RFC 9457)."""
    told = {CODE: code, **(headers or {})}
    if "json" in accept:
        return problem_response(status, title, code, detail, told)
    return Response(f"{detail}\n", status, told, media_type="text/plain")


def _renewal(enrolled: Enrolled, now: dt.datetime) -> dict[str, str]:
    """The suggested window as an ISO 8601 interval, and the seconds until it opens."""
    start, end = enrolled.renewal.start, enrolled.renewal.end
    interval = "/".join(each.strftime("%Y-%m-%dT%H:%M:%SZ") for each in (start, end))
    seconds = max(0, int((start - now).total_seconds()))
    return {WINDOW: interval, "Retry-After": str(seconds)}
