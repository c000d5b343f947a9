"""Authorities and their CRLs."""

import concurrent.futures
import dataclasses
import datetime as dt

import pytest
import sqlalchemy as sa

from certmint.model.errors import CertmintError, Conflict, NotFound, WrongState
from certmint.model.states import AuthorityState
from certmint.registry import reads, schema, writes
from certmint.registry.engine import Database

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
FOR_EVER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


def test_a_pending_authority_comes_back_equal(db: Database, maker) -> None:
    """Subject, key, constraints and all; by id, by name, by its key's identifier."""
    made = maker.pending_authority("new", parent_id=maker.authority.id)
    maker.write(writes.add_authority, made)

    with db.read() as tx:
        assert reads.authority(tx, maker.id, made.id) == made
        assert reads.authority_by_name(tx, maker.id, "new") == made
        assert reads.authority_for_status(tx, made.id) == made
        assert reads.authority_by_key_id(tx, made.key.key_id.hex()) == made
        assert reads.authority(tx, maker.id, "absent") is None
        assert reads.authority_by_name(tx, maker.id, "absent") is None
        assert reads.authority_for_status(tx, "absent") is None
        assert reads.authority_by_key_id(tx, "00" * 20) is None


def test_an_authority_without_constraints_comes_back_equal(db: Database, maker) -> None:
    """A root has no constraints, no path length and no parent."""
    made = maker.pending_authority("root", constraints=None, path_length=None)
    maker.write(writes.add_authority, made)

    with db.read() as tx:
        assert reads.authority(tx, maker.id, made.id) == made


def test_the_authority_of_a_key_is_the_newest_active_one(db: Database, maker) -> None:
    """Of a cross-certified key, the authority that still signs is the issuer."""
    active = maker.authority
    for name, days in (("retired", 1), ("pending", 2)):
        made = maker.pending_authority(name, key=active.key, created_at=NOW + days * DAY)
        maker.write(writes.add_authority, made)

    with db.read() as tx:
        assert reads.authority_by_key_id(tx, active.key.key_id.hex()) == active


def test_a_name_is_taken_once_in_a_tenant(maker, rival) -> None:
    """Two manufacturers may both have an authority called `service`; one may not have two."""
    assert maker.authority.name == rival.authority.name
    again = dataclasses.replace(maker.pending_authority("service"), id="ca-other")

    with pytest.raises(Conflict) as refusal:
        maker.write(writes.add_authority, again)

    assert refusal.value.code == "authority-exists"


def test_an_authority_starts_pending(maker) -> None:
    """No authority appears with a certificate that did not come out of the gate."""
    with pytest.raises(WrongState):
        maker.write(writes.add_authority, maker.pending_authority("x", state=AuthorityState.ACTIVE))


def test_a_parent_is_of_the_same_tenant(maker, rival) -> None:
    """No authority can be hung below another manufacturer's."""
    with pytest.raises(NotFound) as refusal:
        maker.write(
            writes.add_authority, maker.pending_authority("x", parent_id=rival.authority.id)
        )

    assert refusal.value.code == "reference-unknown"


def test_an_authority_is_certified_once_and_retired_once(db: Database, maker) -> None:
    """PENDING, ACTIVE, RETIRED: each move happens once, and no step is left out."""
    made = maker.pending_authority("new")
    maker.write(writes.add_authority, made)
    serial = maker.serial()

    def certify(der: bytes) -> None:
        maker.write(writes.certify_authority, maker.id, made.id, serial, der, NOW, FOR_EVER)

    def retire() -> None:
        maker.write(writes.retire_authority, maker.id, made.id)

    with pytest.raises(WrongState):
        retire()
    certify(b"first")
    with pytest.raises(WrongState):
        certify(b"second")
    with db.read() as tx:
        assert reads.authority(tx, maker.id, made.id) == dataclasses.replace(
            made, state=AuthorityState.ACTIVE, serial=serial, der=b"first", not_before=NOW,
            not_after=FOR_EVER,
        )  # fmt: skip
    retire()
    with pytest.raises(WrongState):
        retire()
    with db.read() as tx:
        found = reads.authority(tx, maker.id, made.id)
    assert found is not None
    assert (found.state, found.der) == (AuthorityState.RETIRED, b"first")


def test_an_unknown_authority_cannot_move(maker) -> None:
    """The error says that there is none, not that it is in a wrong state."""
    with pytest.raises(NotFound) as refusal:
        maker.write(writes.retire_authority, maker.id, "absent")

    assert refusal.value.code == "authority-unknown"


def test_of_many_threads_that_certify_an_authority_one_wins(db: Database, maker) -> None:
    """A race for the same authority leaves one certificate, and says so to the losers."""
    made = maker.pending_authority("new")
    maker.write(writes.add_authority, made)

    def certify(number: int) -> str:
        try:
            maker.write(
                writes.certify_authority, maker.id, made.id, maker.serial(), b"%d" % number, NOW,
                FOR_EVER,
            )  # fmt: skip
        except CertmintError as error:
            return error.code
        return "won"

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(certify, range(6)))

    assert sorted(outcomes) == ["won", *["wrong-state"] * 5]
    with db.read() as tx:
        found = reads.authority(tx, maker.id, made.id)
    assert found is not None
    assert found.der == b"%d" % outcomes.index("won")


def test_authorities_are_listed(db: Database, maker, rival) -> None:
    """A tenant sees its own, by name; the status jobs see all of them."""
    other = maker.pending_authority("identity")
    maker.write(writes.add_authority, other)

    with db.read() as tx:
        assert reads.authorities(tx, maker.id) == [other, maker.authority]
        assert reads.authorities(tx, rival.id) == [rival.authority]
        assert reads.all_authorities(tx) == [other, maker.authority, rival.authority]


def test_crl_numbers_only_rise(db: Database, maker, rival) -> None:
    """Numbers are never given out twice, threads or not, and each authority has its own."""

    def take(authority_id: str) -> int:
        return db.write(lambda tx: writes.next_crl_number(tx, authority_id))

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        numbers = list(pool.map(take, [maker.authority.id] * 20))

    assert sorted(numbers) == list(range(1, 21))
    assert take(maker.authority.id) == 21
    assert take(rival.authority.id) == 1
    with pytest.raises(NotFound) as refusal:
        take("absent")
    assert refusal.value.code == "authority-unknown"


def test_the_latest_crl_is_the_one_with_the_highest_number(db: Database, maker) -> None:
    """A slow node that publishes an older CRL late does not turn time back."""

    def publish(number: int, shard: int = 0) -> None:
        db.write(
            lambda tx: writes.add_crl(
                tx, maker.authority.id, shard, number, NOW, NOW + DAY, b"crl %d" % number
            )
        )

    with db.read() as tx:
        assert reads.latest_crl(tx, maker.authority.id, 0) is None
    for number in (1, 3, 10, 9, 4):
        publish(number)
    publish(5, shard=1)

    with db.read() as tx:
        newest = reads.latest_crl(tx, maker.authority.id, 0)
        assert newest == reads.CRLRow(maker.authority.id, 0, 10, NOW, NOW + DAY, b"crl 10")
        other = reads.latest_crl(tx, maker.authority.id, 1)
        assert other is not None
        assert other.number == 5
        kept = tx.execute(
            sa.select(schema.crl.c.number).where(schema.crl.c.shard == 0).order_by("number")
        ).scalars()
        assert list(kept) == [4, 9, 10]
    with pytest.raises(Conflict):
        publish(10)
    with pytest.raises(NotFound):
        db.write(lambda tx: writes.add_crl(tx, "absent", 0, 1, NOW, NOW, b""))
