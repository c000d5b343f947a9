"""Operators' tokens, sessions, approvals, jobs and answers, on both databases."""

import datetime as dt
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from alembic import command

from certmint.model.desk import (
    APIToken,
    ApprovalEvent,
    ApprovalState,
    Job,
    JobEvent,
    JobKind,
    JobState,
    OperatorApproval,
)
from certmint.model.errors import CertmintError
from certmint.model.operations import Operation, Scope
from certmint.registry import migrations, reads, writes
from certmint.registry.desk_rows import Answer
from certmint.registry.engine import Database, open_database

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(hours=1)


def refused(work: Callable[[], object]) -> str:
    with pytest.raises(CertmintError) as refusal:
        work()
    return refusal.value.code


def test_a_token_leads_to_its_operator_until_it_ends(db: Database, maker) -> None:
    """With its scopes; not after it expired, was revoked, or its operator was shut out."""
    operator = maker.new_operator()
    maker.write(writes.add_operator, operator)
    scopes = frozenset({Scope.READ_DEVICES, Scope.READ_AUDIT})
    for name, kind in (("narrow", scopes), ("wide", None)):
        token = APIToken(name, maker.id, operator.id, name, kind, NOW, LATER)
        maker.write(writes.add_token, token, f"hash-{name}")

    def found(value: str, at: dt.datetime = NOW) -> object:
        with db.read() as tx:
            return reads.operator_by_token(tx, value, at)

    assert found("hash-narrow") == (operator, scopes)
    assert found("hash-wide") == (operator, None)
    assert found("hash-wide", LATER) is None
    assert found("hash-else") is None
    maker.write(writes.revoke_token, maker.id, "narrow")
    assert found("hash-narrow") is None
    assert refused(lambda: maker.write(writes.revoke_token, maker.id, "narrow")) == "token-unknown"
    shut = type(operator)(operator.id, maker.id, operator.name, operator.role, disabled=True)
    maker.write(writes.change_operator, operator, shut)
    assert found("hash-wide") is None
    again = refused(lambda: maker.write(writes.change_operator, operator, shut))
    assert again == "changed-meanwhile"


def test_sessions_end_with_their_operator_and_do_not_pile_up(db: Database, maker) -> None:
    """Of one operator's sessions only the newest stay; a change ends them all."""
    operator = maker.new_operator()
    maker.write(writes.add_operator, operator)
    for number in range(12):
        at = NOW + dt.timedelta(seconds=number)
        db.write(
            lambda tx, n=number, at=at: writes.open_operator_session(
                tx, operator, f"s{n:02}", None, at=at, until=LATER
            )
        )

    def are_open() -> list[int]:
        with db.read() as tx:
            return [n for n in range(12) if reads.operator_by_session(tx, f"s{n:02}", NOW)]

    assert are_open() == list(range(2, 12))
    closed = maker.write(
        lambda tx, **who: writes.close_operator_sessions(
            tx, maker.id, operator.id, token_hash="s05", **who
        )
    )
    assert closed == 1
    assert 5 not in are_open()
    maker.write(writes.change_operator, operator, operator)
    assert are_open() == []


def test_an_approval_is_decided_once(db: Database, maker) -> None:
    """Two people who decide at once: one of them is told so."""
    asked, other = maker.new_operator("ada"), maker.new_operator("bob")
    for each in (asked, other):
        maker.write(writes.add_operator, each)
    wanted = OperatorApproval(
        "apr", maker.id, Operation.CREATE_AUTHORITY, "a root", "{}", asked.id, NOW, LATER
    )
    db.write(lambda tx: writes.add_approval(tx, wanted, at=NOW))

    def move(event: ApprovalEvent, found: OperatorApproval) -> OperatorApproval:
        return db.write(
            lambda tx: writes.move_approval(tx, found, event, by_operator=other.id, at=NOW)
        )

    approved = move(ApprovalEvent.APPROVED, wanted)
    assert refused(lambda: move(ApprovalEvent.REJECTED, wanted)) == "wrong-state"
    done = move(ApprovalEvent.CARRIED_OUT, approved)
    with db.read() as tx:
        assert reads.approval(tx, maker.id, "apr") == done
        assert reads.approvals(tx, maker.id, state=ApprovalState.PENDING) == []
    assert (done.state, done.decided_by) == (ApprovalState.DONE, other.id)
    assert refused(lambda: move(ApprovalEvent.APPROVED, done)) == "wrong-state"


def test_a_job_that_was_cancelled_does_not_go_on(db: Database, maker) -> None:
    """Progress and ending are compare-and-sets on a job that runs."""
    operator = maker.new_operator()
    maker.write(writes.add_operator, operator)
    job = Job("job", maker.id, JobKind.VERIFY_AUDIT, "{}", operator.id, NOW)
    maker.write(writes.add_job, job)
    with db.read() as tx:
        assert reads.open_jobs(tx) == [job]
    running = maker.write(writes.move_job, job, JobEvent.STARTED)
    assert db.write(lambda tx: writes.advance_job(tx, maker.id, "job", 3, 9))
    cancelled = maker.write(writes.move_job, running, JobEvent.CANCELLED)
    assert not db.write(lambda tx: writes.advance_job(tx, maker.id, "job", 4, 9))
    assert refused(lambda: maker.write(writes.move_job, running, JobEvent.FINISHED))
    with db.read() as tx:
        found = reads.job(tx, maker.id, "job")
        assert reads.open_jobs(tx) == []
    assert found is not None
    assert (found.state, found.done, cancelled.is_over) == (JobState.CANCELLED, 3, True)


def test_an_idempotency_key_is_claimed_once(db: Database, maker) -> None:
    """By one request; by a second one only if the first one's node died, and for the same work."""
    operator = maker.new_operator()
    maker.write(writes.add_operator, operator)
    begun = Answer(maker.id, operator.id, "key", "hash", NOW)

    def claim(answer: Answer, stale: dt.datetime) -> bool:
        return db.write(lambda tx: writes.begin_answer(tx, answer, stale))

    assert claim(begun, NOW - dt.timedelta(minutes=1))
    assert not claim(begun, NOW - dt.timedelta(minutes=1))
    later = Answer(maker.id, operator.id, "key", "hash", LATER)
    other = Answer(maker.id, operator.id, "key", "else", LATER)
    assert not claim(other, NOW)
    assert claim(later, NOW)
    given = Answer(maker.id, operator.id, "key", "hash", LATER, 201, "/x", b"sealed")
    db.write(lambda tx: writes.set_answer(tx, given))
    assert not claim(later, LATER)
    with db.read() as tx:
        assert reads.answer(tx, maker.id, operator.id, "key") == given
    assert db.write(lambda tx: writes.drop_answers(tx, LATER + dt.timedelta(seconds=1))) == 1


def test_tokens_of_an_older_installation_stay_good(empty_url: str) -> None:
    """Migration 0007 moves them out of their operators' rows; double names are told apart."""
    database = open_database(empty_url)
    database._create()
    with database._connect(database._writer) as tx, tx.begin():
        config = migrations._config()
        config.attributes["connection"] = tx
        command.upgrade(config, "0006")
        tx.execute(
            sa.text("INSERT INTO manufacturer (id, slug, subject, created_at) VALUES (:i,:i,:s,0)"),
            {"i": "alpha", "s": "[]"},
        )
        for number in (1, 2):
            row = {
                "tenant_id": "alpha",
                "id": f"opr_{number}",
                "name": "ada",
                "role": "viewer",
                "token_hash": f"hash{number}",
                "token_expires_at": int(LATER.timestamp() * 1_000_000),
            }
            tx.execute(sa.insert(sa.table("operator", *map(sa.column, row))).values(row))

    database.migrate()

    with database.read() as tx:
        first = reads.operator_by_token(tx, "hash1", NOW)
        second = reads.operator_by_token(tx, "hash2", NOW)
        assert reads.operator_by_token(tx, "hash2", LATER) is None
        assert [each.id for each in reads.tokens(tx, "alpha", "opr_1")] == ["tok_1"]
    assert first is not None
    assert second is not None
    assert (first[0].name, second[0].name) == ("ada", "ada opr_2")
    database.close()
