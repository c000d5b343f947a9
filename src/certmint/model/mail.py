"""E-mail to a domain's contacts: the five constructed addresses, and the life of one message.

BR 3.2.2.4.4: admin, administrator, webmaster, hostmaster and postmaster at the authorization
domain name; a random value of its own for each message, good for 30 days at most, and once. A
message that is sent again is the same, octet by octet. Whether a value has expired is computed.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from certmint.model.names import DNSName

LOCAL_PARTS = ("admin", "administrator", "webmaster", "hostmaster", "postmaster")


class MailState(StrEnum):
    """QUEUED → SENT → APPROVED or DECLINED; FAILED when the server wants it never."""

    QUEUED = "queued"
    SENT = "sent"
    FAILED = "failed"
    APPROVED = "approved"
    DECLINED = "declined"


class MailEvent(StrEnum):
    SENT = "sent"
    FAILED = "failed"
    RESENT = "resent"  # asked for again
    APPROVED = "approved"
    DECLINED = "declined"


_S, _E = MailState, MailEvent
_ANSWERS = {_E.APPROVED: _S.APPROVED, _E.DECLINED: _S.DECLINED}
MAIL: Mapping[MailState, Mapping[MailEvent, MailState]] = {
    # An answer may come before we know that the message left: a crash lies between the two.
    _S.QUEUED: {_E.SENT: _S.SENT, _E.FAILED: _S.FAILED} | _ANSWERS,
    _S.SENT: {_E.RESENT: _S.QUEUED} | _ANSWERS,
    _S.FAILED: {},
    _S.APPROVED: {},
    _S.DECLINED: {},
}


@dataclass(frozen=True)
class DomainMail:
    """One message to one contact, for one attempt to show control of a domain.

    `value_hash` is SHA-256 of the random value in hex; the value itself stands in `sealed`, the
    whole message under the installation's key, which is empty once it was answered. `due_at` is
    when a queued message is tried next, `attempts` how often it was; `source` is the network
    address that the answer came from.
    """

    id: str
    tenant_id: str
    validation_id: str
    recipient: str
    applied_for: str
    value_hash: str = field(repr=False)
    sealed: bytes = field(repr=False)
    state: MailState
    created_at: dt.datetime
    expires_at: dt.datetime
    due_at: dt.datetime
    attempts: int = 0
    failure: str = ""
    sent_at: dt.datetime | None = None
    answered_at: dt.datetime | None = None
    source: str = ""


def contact_addresses(domain: DNSName) -> tuple[str, ...]:
    """The addresses that may answer for an authorization domain name."""
    return tuple(f"{local}@{domain}" for local in LOCAL_PARTS)
