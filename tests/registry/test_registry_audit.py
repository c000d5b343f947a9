"""The chain of the audit log shows every change that was made to it behind its back."""

import datetime as dt
import hashlib
import json

import pytest
import sqlalchemy as sa

from certmint.model.errors import Misconfigured
from certmint.registry import audit, reads, schema
from certmint.registry.engine import Database

MOMENT = dt.datetime(2026, 11, 23, 12, 0, 0, 5, tzinfo=dt.UTC)
LOG = schema.audit_event


def append(db: Database, number: int, tenant_id: str | None = None) -> audit.Entry:
    event = audit.Event(MOMENT, tenant_id, "ada", "tested", f"s{number}", {"n": number, "a": "ü"})
    return db.write(lambda tx: audit.append(tx, event))


@pytest.fixture
def filled(db: Database) -> Database:
    """Five events."""
    for number in range(1, 6):
        append(db, number)
    return db


def report(db: Database) -> audit.AuditReport:
    with db.read() as tx:
        return audit.verify(tx)


def change(db: Database, statement: sa.Executable) -> None:
    db.write(lambda tx: tx.execute(statement))


def test_an_untouched_chain_holds(filled: Database) -> None:
    """Five events, numbered without gaps, and the head that names the last one."""
    found = report(filled)

    with filled.read() as tx:
        last = tx.execute(sa.select(LOG).order_by(LOG.c.seq.desc())).first()
    assert found == audit.AuditReport(5, last.hash, None)


def test_an_empty_chain_holds(db: Database) -> None:
    """A fresh registry has a sound log of no events."""
    assert report(db) == audit.AuditReport(0, audit.START, None)


def test_anybody_can_recompute_a_hash(db: Database) -> None:
    """The documented encoding is all that an auditor with another tool needs."""
    append(db, 1)
    entry = append(db, 2)

    detail = '{"a":"\\u00fc","n":2}'
    said = [entry.previous_hash, 2, 1795435200000005, None, "ada", "tested", "s2", detail]
    text = json.dumps(said, separators=(",", ":"))

    assert hashlib.sha256(text.encode("ascii")).hexdigest() == entry.hash


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at", MOMENT + dt.timedelta(microseconds=1)),
        ("actor", "eve"),
        ("action", "looked"),
        ("subject", "s4"),
        ("detail", '{"n":4}'),
        ("previous_hash", "f" * 64),
        ("hash", "f" * 64),
    ],
)
def test_a_changed_field_breaks_the_chain(filled: Database, column: str, value: object) -> None:
    """Whichever field of event 3 somebody edits, the report names event 3."""
    change(filled, sa.update(LOG).where(LOG.c.seq == 3).values({column: value}))

    found = report(filled)

    assert (found.events, found.broken_at) == (2, 3)


def test_an_event_given_to_another_tenant_breaks_the_chain(db: Database, maker) -> None:
    """Hiding an event in another manufacturer's log is found."""
    seq = append(db, 1, maker.id).seq
    change(db, sa.update(LOG).where(LOG.c.seq == seq).values(tenant_id=None))

    assert report(db).broken_at == seq


def test_a_removed_event_breaks_the_chain(filled: Database) -> None:
    """A hole in the numbers is found where it is."""
    change(filled, sa.delete(LOG).where(LOG.c.seq == 2))

    assert report(filled).broken_at == 2


def test_a_removed_end_breaks_the_chain(filled: Database) -> None:
    """Cutting off the last events is found, for the head knows that there were more."""
    change(filled, sa.delete(LOG).where(LOG.c.seq >= 4))

    found = report(filled)

    assert (found.events, found.broken_at) == (3, 4)


def test_an_event_whose_hash_was_recomputed_breaks_the_chain_behind_it(filled: Database) -> None:
    """Forging an event and its hash only moves the break to the next one."""
    with filled.read() as tx:
        entry = audit.Entry(*tx.execute(sa.select(LOG).where(LOG.c.seq == 3)).one())
    forged = audit.Entry(**vars(entry) | {"actor": "eve"})
    change(
        filled,
        sa.update(LOG).where(LOG.c.seq == 3).values(actor="eve", hash=forged.digest()),
    )

    assert report(filled).broken_at == 4


def test_without_its_head_nothing_can_be_appended(filled: Database) -> None:
    """Somebody who removes the head stops the CA instead of starting a second chain."""
    change(filled, sa.delete(schema.audit_head))

    with pytest.raises(Misconfigured) as refusal:
        append(filled, 6)

    assert refusal.value.code == "audit-head-missing"
    assert report(filled).broken_at == 6


def test_a_long_chain_is_walked_in_pages(db: Database) -> None:
    """Verification of more events than fit a page reaches every one of them."""
    events = [audit.Event(MOMENT, None, "ada", "tested", str(n)) for n in range(1_050)]

    def work(tx: reads.Transaction) -> None:
        for event in events:
            audit.append(tx, event)

    db.write(work)

    assert report(db).events == 1_050
    pages: list[int] = []
    with db.read() as tx:
        audit.verify(tx, pages.append)
    assert pages == [1_000]
    change(db, sa.update(LOG).where(LOG.c.seq == 1_020).values(actor="eve"))
    assert report(db).broken_at == 1_020


def test_a_tenant_reads_its_own_events_in_pages(db: Database, maker, rival) -> None:
    """Paging by number shows each of the tenant's events once, and nobody else's."""
    seen: list[audit.Entry] = []
    while page := _page(db, maker.id, seen[-1].seq if seen else 0):
        seen += page

    assert len(seen) >= 5
    assert {entry.tenant_id for entry in seen} == {maker.id}
    assert seen[0].action == "manufacturer.added"
    assert [entry.seq for entry in seen] == sorted({entry.seq for entry in seen})


def _page(db: Database, tenant_id: str, after: int) -> list[audit.Entry]:
    with db.read() as tx:
        return reads.audit_events(tx, tenant_id, after, 2)
