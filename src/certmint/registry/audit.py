"""The audit log: one chain of hashes for each database, appended to and never changed.

Laws: an event is written in the transaction of the change that it tells of; its number is the
next one, without gaps; its hash covers every field and the hash before it, so a changed, moved,
inserted or removed event is found. `audit_head` holds the end of the chain, so cutting it off is
found too. Whoever owns the machine can rewrite the whole chain: only a copy of the head hash
kept elsewhere shows that, which is why `verify` returns it.

The hash is SHA-256 over the JSON array [previous hash, seq, microseconds since 1970, tenant id
or null, actor, action, subject, detail], ASCII, without spaces; hex throughout.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from certmint.model.errors import Misconfigured
from certmint.registry.compiled import Compiled
from certmint.registry.documents import canonical
from certmint.registry.memory import Memory, memory_of
from certmint.registry.schema import audit_event, audit_head, microseconds

_PAGE = 1_000


@dataclass(frozen=True)
class Event:
    """Something that happened. `detail` is what JSON can say: no secret, no person's name."""

    at: dt.datetime
    tenant_id: str | None
    actor: str
    action: str
    subject: str
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """An event as the log holds it. `detail` is canonical JSON."""

    seq: int
    at: dt.datetime
    tenant_id: str | None
    actor: str
    action: str
    subject: str
    detail: str
    previous_hash: str
    hash: str

    def digest(self) -> str:
        """The hash that these fields have."""
        return _digest(
            self.previous_hash, self.seq, self.at, self.tenant_id, self.actor, self.action,
            self.subject, self.detail,
        )  # fmt: skip


@dataclass(frozen=True)
class AuditReport:
    """What `verify` found: how many events hold together, and the first number that does not."""

    events: int
    head_hash: str
    broken_at: int | None


def _digest(previous_hash: str, seq: int, at: dt.datetime, *told: str | None) -> str:
    fields = (previous_hash, seq, microseconds(at), *told)
    return hashlib.sha256(canonical(fields).encode()).hexdigest()


START = "0" * 64  # what the first event names as the hash before it

_HEAD = sa.select(audit_head.c.seq, audit_head.c.hash)
_LOCKED_HEAD = Compiled(_HEAD.with_for_update())
_ADVANCE = Compiled(
    sa.update(audit_head).values(seq=sa.bindparam("new_seq"), hash=sa.bindparam("new_hash"))
)
_APPEND = Compiled(sa.insert(audit_event))


def append(tx: sa.Connection, event: Event) -> Entry:
    """Add an event at the end of the chain; it lives or dies with the transaction."""
    memory = memory_of(tx)
    last_seq, last_hash = (memory and memory.head) or _head(tx)
    seq, detail = last_seq + 1, canonical(dict(event.detail))
    told = (event.tenant_id, event.actor, event.action, event.subject, detail)
    entry = Entry(seq, event.at, *told, last_hash, _digest(last_hash, seq, event.at, *told))
    _APPEND.run(tx, vars(entry))
    if memory is not None:
        memory.head = (entry.seq, entry.hash)  # `advance` writes it, once for all that commit
    else:
        _ADVANCE.run(tx, {"new_seq": entry.seq, "new_hash": entry.hash})
    return entry


def advance(tx: sa.Connection, memory: Memory) -> None:
    """Before a commit of the event loop's: write where the chain ends now."""
    if memory.head is not None:
        seq, digest = memory.head
        memory.head = None
        _ADVANCE.run(tx, {"new_seq": seq, "new_hash": digest})


def _head(tx: sa.Connection) -> tuple[int, str]:
    head = _LOCKED_HEAD.first(tx)
    if head is None:
        raise Misconfigured(
            "audit-head-missing",
            "the audit log has lost its end, so nothing can be written: restore a backup",
        )
    return head.seq, head.hash


def verify(tx: sa.Connection, progress: Callable[[int], None] = lambda _: None) -> AuditReport:
    """Walk the whole chain, in pages, so that memory stays flat.

    `progress` is told the number of each page's last event, and ends the walk with what it raises.
    """
    seq, last_hash = 0, START
    for entry in _entries(tx):
        if entry.seq % _PAGE == 0:
            progress(entry.seq)
        if (entry.seq, entry.previous_hash) != (seq + 1, last_hash):
            return AuditReport(seq, last_hash, seq + 1)
        if entry.digest() != entry.hash:
            return AuditReport(seq, last_hash, seq + 1)
        seq, last_hash = entry.seq, entry.hash
    head = tx.execute(_HEAD).one_or_none()
    if head is None or (head.seq, head.hash) != (seq, last_hash):
        return AuditReport(seq, last_hash, seq + 1)
    return AuditReport(seq, last_hash, None)


def _entries(tx: sa.Connection) -> Iterator[Entry]:
    last = 0
    page = sa.select(audit_event).order_by(audit_event.c.seq).limit(_PAGE)
    while rows := tx.execute(page.where(audit_event.c.seq > last)).all():
        yield from (Entry(*row) for row in rows)
        last = rows[-1].seq
