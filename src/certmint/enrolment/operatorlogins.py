"""Operators who log in at their manufacturer's OpenID provider with a browser.

The same flow as owners' (`sessions`), under a key of its own, so that a login begun at one door
ends at no other. A person is an operator by a link that an administrator made, and by nothing else.
"""

import datetime as dt

from certmint.enrolment import oidc, operators, sessions
from certmint.enrolment.oidc import OIDC
from certmint.enrolment.sessions import Returned
from certmint.model.entities import Operator
from certmint.model.errors import BadInput, Forbidden
from certmint.model.openid import is_subject
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database


def finish(
    db: Database, service: OIDC, back: Returned, key: bytes, now: dt.datetime,
    random_bytes: RandomBytes,
) -> tuple[str, dt.datetime]:  # fmt: skip
    """A session for the operator who came back: its secret, and when it ends.

    Raises as `sessions.returned` and `oidc.identity_by_id_token`; Forbidden `login-unlinked`, also
    for an operator who is shut out.
    """
    remote, tenant, token, nonce = sessions.returned(db, service, back, key, now)
    person = oidc.identity_by_id_token(remote, token, nonce, now)
    with db.read() as tx:
        found = reads.operator_of_identity(tx, tenant.id, person.issuer, person.subject)
    if found is None or found.disabled:
        raise Forbidden(
            "login-unlinked", "no operator here is linked with this login: ask an administrator"
        )
    return operators.open_session(db, found, None, now, random_bytes)


def link(
    db: Database, operator: Operator, issuer: str, subject: str, *, by: str, now: dt.datetime
) -> None:
    """From now on this person is this operator.

    Raises BadInput `identity-syntax`, Conflict `identity-linked`.
    """
    if not is_subject(subject):
        raise BadInput("identity-syntax", "a subject is 1 to 255 printable ASCII characters")
    db.write(lambda tx: writes.link_operator(tx, operator, issuer, subject, by=by, at=now))


def unlink(
    db: Database, operator: Operator, issuer: str, subject: str, *, by: str, now: dt.datetime
) -> None:
    """This person is this operator no more; sessions end. Raises NotFound `link-unknown`."""
    db.write(lambda tx: writes.unlink_operator(tx, operator, issuer, subject, by=by, at=now))
