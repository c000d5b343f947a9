"""After a crash: intents that never became certificates.

A signature may have existed for a moment before the process died, so an intent without a
certificate counts as issued, and its serial is revoked: whatever was signed must have a status,
whether or not anybody holds it.
"""

import datetime as dt
from functools import partial

from certmint.enrolment.signing import SigningKeys
from certmint.enrolment.status import publish_crls
from certmint.model.errors import Conflict
from certmint.registry import reads, writes
from certmint.registry.engine import Database
from certmint.registry.rows import Intent

GRACE = dt.timedelta(minutes=10)  # longer than any signature may take, retries included


def reconcile(
    db: Database, keys: SigningKeys, now: dt.datetime, grace: dt.timedelta = GRACE
) -> list[Intent]:
    """Revoke the serials of intents older than `grace`; the intents that were abandoned.

    The row that abandons an intent is the row that its certificate would need, so a signature
    that is still under way loses cleanly (Conflict `intent-reconciled`) and is never released.
    """
    abandoned: list[Intent] = []
    while True:
        with db.read() as tx:
            orphans = reads.orphan_intents(tx, now - grace, 500)
        if not orphans:
            break
        for orphan in orphans:
            try:
                db.write(partial(writes.abandon_intent, intent=orphan, at=now))
            except Conflict:
                continue  # its certificate was stored just now: no orphan any more
            abandoned.append(orphan)
    for authority_id in {orphan.authority_id for orphan in abandoned}:
        with db.read() as tx:
            authority = reads.authority_for_status(tx, authority_id)
        if authority is not None and authority.der:
            publish_crls(db, keys, authority, now)
    return abandoned
