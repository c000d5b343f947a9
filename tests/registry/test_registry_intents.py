"""Intents: one key belongs to one device, one certificate has one successor."""

import concurrent.futures
import datetime as dt

import pytest
import sqlalchemy as sa

from certmint.model.entities import KeyRecord
from certmint.model.errors import Conflict, NotFound
from certmint.model.keys import KeyOrigin
from certmint.registry import reads, schema, writes
from certmint.registry.engine import Database
from certmint.registry.rows import CertificateCounts, Status

NOW = dt.datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(minutes=20)
FOR_EVER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


def test_an_intent_comes_back_equal(db: Database, maker) -> None:
    """Every field, to the last byte of the TBS: reconcile and the auditor need all of it."""
    (device,) = maker.devices(1)
    made = maker.intent(device, not_after=FOR_EVER, evidence='[{"kind":"owner-login"}]')

    assert maker.record(made) == {}

    with db.read() as tx:
        assert reads.orphan_intents(tx, LATER, 10) == [made]
        assert reads.certificate(tx, maker.id, made.serial) is None
    assert maker.status(made) == Status(known=True, issued=False, revocation=None)


def test_a_serial_is_given_out_once(db: Database, maker) -> None:
    """A serial that an authority used before is refused, and nothing of the call is stored."""
    made = maker.issue(maker.devices(1)[0])
    again = maker.intent(maker.devices(1)[0], serial=made.serial)

    with pytest.raises(Conflict):
        maker.record(again, maker.intent())

    with db.read() as tx:
        assert reads.count_certificates(tx, maker.id) == CertificateCounts(1, 0, 0)
        assert reads.key_records(tx, [again.key_fingerprint]) == {}


def test_a_key_belongs_to_the_device_that_came_first(db: Database, maker, rival) -> None:
    """Another device, another tenant's device, or no device at all: refused for ever."""
    first, second = maker.devices(2)
    foreign = rival.devices(1)[0]
    made = maker.issue(first)
    key = made.key_fingerprint

    for tenant, device in ((maker, second), (rival, foreign), (maker, None)):
        late = tenant.intent(device, key_fingerprint=key)
        refused = tenant.record(late)
        assert refused[late.serial].code == "key-reused"
        assert first.id not in str(refused[late.serial])
        assert maker.status(late) == Status(known=False, issued=False, revocation=None)
    with db.read() as tx:
        assert reads.key_records(tx, [key, "absent"]) == {
            key: KeyRecord(key, maker.id, first.id, KeyOrigin.SUBSCRIBER)
        }


def test_a_device_with_the_same_id_in_another_tenant_is_another_device(maker, rival) -> None:
    """Ids are the tenant's own business; keys are not."""
    mine, theirs = maker.new_devices(1, id="dev-x"), rival.new_devices(1, id="dev-x")
    maker.write(writes.add_devices, mine)
    rival.write(writes.add_devices, theirs)
    made = maker.issue(mine[0])

    refused = rival.record(late := rival.intent(theirs[0], key_fingerprint=made.key_fingerprint))

    assert refused[late.serial].code == "key-reused"


def test_a_device_may_have_several_certificates_for_its_key(db: Database, maker) -> None:
    """Renewal with the same key is the device's own choice; the origin stays the first one."""
    (device,) = maker.devices(1)
    first = maker.intent(device)
    maker.record(first, origin=KeyOrigin.FACTORY)
    maker.store(first)

    second = maker.issue(device, key_fingerprint=first.key_fingerprint)

    with db.read() as tx:
        found = reads.certificates_with_key(tx, maker.id, first.key_fingerprint)
        record = reads.key_records(tx, [first.key_fingerprint])[first.key_fingerprint]
    assert [each.serial for each in found] == [first.serial, second.serial]
    assert record.origin is KeyOrigin.FACTORY


def test_a_key_twice_in_one_call_goes_to_the_first_device(maker) -> None:
    """A factory that made one key for two devices gets one of them certified, and is told."""
    first, second, third = maker.devices(3)
    made = maker.intent(first)
    double = maker.intent(second, key_fingerprint=made.key_fingerprint)
    same = maker.intent(first, key_fingerprint=made.key_fingerprint)
    other = maker.intent(third)

    refused = maker.record(made, double, same, other)

    assert {serial: error.code for serial, error in refused.items()} == {
        double.serial: "key-reused"
    }


def test_a_blocked_key_is_refused_even_to_its_device(db: Database, maker) -> None:
    """A key that was reported compromised is certified for nobody any more."""
    (device,) = maker.devices(1)
    made = maker.issue(device)
    key = made.key_fingerprint

    db.write(lambda tx: writes.block_key(tx, key, NOW, by="ada"))
    blocked_event = maker.last_event()
    db.write(lambda tx: writes.block_key(tx, key, LATER, by="ada"))

    late = maker.intent(device, key_fingerprint=key)
    refused = maker.record(late)
    assert refused[late.serial].code == "key-reused"
    assert "compromised" in str(refused[late.serial])
    assert blocked_event.action == "key.blocked"
    with db.read() as tx:
        assert reads.key_records(tx, [key])[key].blocked
        assert tx.execute(sa.select(schema.public_key.c.blocked_at)).scalars().all().count(NOW) == 1
    with pytest.raises(NotFound) as unknown:
        db.write(lambda tx: writes.block_key(tx, "absent", NOW, by="ada"))
    assert unknown.value.code == "key-unknown"


def test_of_threads_that_claim_one_key_one_wins(db: Database, maker) -> None:
    """Two stations that were cloned cannot both get the certificate."""
    devices = maker.devices(6)
    key = maker.intent().key_fingerprint
    intents = [maker.intent(device, key_fingerprint=key) for device in devices]

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(maker.record, intents))

    assert sum(outcome == {} for outcome in outcomes) == 1
    with db.read() as tx:
        winner = reads.key_records(tx, [key])[key].device_id
        (kept,) = reads.orphan_intents(tx, LATER, 10)
    assert kept.device_id == winner


def test_a_certificate_is_replaced_once(db: Database, maker) -> None:
    """The old certificate knows its successor, and nobody else can become it."""
    (device,) = maker.devices(1)
    old = maker.issue(device)
    new = maker.issue(device, replaces=old.serial)
    late = maker.intent(device, replaces=old.serial)

    refused = maker.record(late)

    assert refused[late.serial].code == "already-replaced"
    assert old.serial in str(refused[late.serial])
    assert maker.status(late).known is False
    with db.read() as tx:
        assert reads.certificate(tx, maker.id, old.serial) == maker.certificate(
            old, successor=new.serial
        )


def test_only_a_certificate_of_the_same_device_can_be_replaced(maker, rival) -> None:
    """Neither another device's nor another tenant's certificate, nor one that is not there."""
    first, second = maker.devices(2)
    old = maker.issue(first)
    namesake = rival.new_devices(1, id=second.id)
    rival.write(writes.add_devices, namesake)
    foreign = rival.issue(namesake[0])

    for serial in (old.serial, foreign.serial, maker.serial()):
        late = maker.intent(second, replaces=serial)
        assert maker.record(late)[late.serial].code == "already-replaced"


def test_an_authority_is_replaced_too(db: Database, maker) -> None:
    """A certificate of no device has a successor of no device."""
    old = maker.issue()
    new = maker.issue(replaces=old.serial)

    with db.read() as tx:
        found = reads.certificate(tx, maker.id, old.serial)
    assert found is not None
    assert found.successor == new.serial


def test_two_successors_in_one_call_are_one_too_many(maker) -> None:
    """The first of them wins, the rest of the call goes through."""
    first, second = maker.devices(2)
    old = maker.issue(first)
    winner, loser = (maker.intent(first, replaces=old.serial) for _ in range(2))
    other = maker.intent(second)

    refused = maker.record(winner, loser, other)

    assert list(refused) == [loser.serial]
    maker.store(winner, other)


def test_of_threads_that_replace_one_certificate_one_wins(maker) -> None:
    """A device that renews from two doors at once gets one successor."""
    (device,) = maker.devices(1)
    old = maker.issue(device)
    intents = [maker.intent(device, replaces=old.serial) for _ in range(6)]

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(maker.record, intents))

    assert sum(outcome == {} for outcome in outcomes) == 1


def test_orphans_are_listed_oldest_first_and_only_old_ones(db: Database, maker) -> None:
    """A signature that is under way is left alone; a page is at most as long as asked."""
    minutes = [5, 1, 9, 3]
    made = [maker.intent(recorded_at=NOW + dt.timedelta(minutes=minute)) for minute in minutes]
    maker.record(*made)

    def found(older_than: int, limit: int = 10, since: int | None = None) -> list[int]:
        with db.read() as tx:
            orphans = reads.orphan_intents(
                tx,
                NOW + dt.timedelta(minutes=older_than),
                limit,
                since=None if since is None else NOW + dt.timedelta(minutes=since),
            )
        return [(each.recorded_at - NOW) // dt.timedelta(minutes=1) for each in orphans]

    assert found(9) == [1, 3, 5]
    assert found(10, limit=2) == [1, 3]
    assert found(10, since=3) == [3, 5, 9]
