"""One answer for one Idempotency-Key (draft-ietf-httpapi-idempotency-key-header).

Laws: a key belongs to one operator and one request for a day; whoever is second gets the first
one's answer, or is told to wait. Only success is kept: what was refused may be tried again. If
the power fails between the work and the answer, the key is free again after a minute, and the
use case itself says that the thing is there already. Answers can hold secrets, so they are sealed.
"""

import datetime as dt
from dataclasses import replace

from certmint.enrolment.access import Entrance
from certmint.enrolment.vault import Vault
from certmint.model.errors import BadInput, Conflict
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.desk_rows import Answer
from certmint.registry.engine import Database

__all__ = ["Answer", "begin", "finish", "forget", "give_back"]

LIFE = dt.timedelta(days=1)
_DEAD = dt.timedelta(minutes=1)
_MOST = 255


def begin(
    db: Database, vault: Vault, entrance: Entrance, key: str, request_hash: str, now: dt.datetime
) -> tuple[Answer, bool]:
    """Claim a key: the row, and whether it holds the answer already.

    Raises BadInput `idempotency-key`, Conflict `idempotency-mismatch` or `idempotency-busy`.
    """
    if not 1 <= len(key) <= _MOST or not key.isascii() or not key.isprintable():
        raise BadInput(
            "idempotency-key", f"an Idempotency-Key has 1 to {_MOST} printable ASCII characters"
        )
    begun = Answer(entrance.tenant.id, entrance.operator.id, key, request_hash, now)
    if db.write(lambda tx: writes.begin_answer(tx, begun, now - _DEAD)):
        return begun, False
    with db.read() as tx:
        known = reads.answer(tx, begun.tenant_id, begun.operator_id, key)
    if known is None:
        raise Conflict("idempotency-busy", "the first request with this key just ended: try again")
    if known.request_hash != request_hash:
        raise Conflict(
            "idempotency-mismatch",
            "this Idempotency-Key was used for another request: take a new one",
        )
    if known.status == 0:
        raise Conflict("idempotency-busy", "the first request with this key is under way: wait")
    return replace(known, body=vault.unlock(known.body, _context(known))), True


def finish(
    db: Database, vault: Vault, begun: Answer, status: int, location: str, body: bytes,
    random_bytes: RandomBytes,
) -> None:  # fmt: skip
    """Keep the answer of a request that succeeded."""
    sealed = vault.lock(body, _context(begun), random_bytes)
    given = replace(begun, status=status, location=location, body=sealed)
    db.write(lambda tx: writes.set_answer(tx, given))


def give_back(db: Database, begun: Answer) -> None:
    """The request was refused: the key may be used again."""
    db.write(lambda tx: writes.set_answer(tx, begun))


def forget(db: Database, now: dt.datetime) -> int:
    """Drop the answers that are older than a day; how many."""
    return db.write(lambda tx: writes.drop_answers(tx, now - LIFE))


def _context(answer: Answer) -> str:
    return f"{answer.tenant_id}/{answer.operator_id}/{answer.key}"
