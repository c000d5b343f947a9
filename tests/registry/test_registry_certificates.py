"""Intents, certificates, public keys and revocations."""

import concurrent.futures
import dataclasses
import datetime as dt

import pytest
import sqlalchemy as sa

from certmint.model.entities import (
    Certificate,
    KeyRecord,
    Revocation,
    RevocationReason,
)
from certmint.model.errors import CertmintError, Conflict, NotFound
from certmint.model.keys import KeyOrigin
from certmint.model.profile import Purpose
from certmint.registry import audit, reads, schema, writes
from certmint.registry.engine import Database
from certmint.registry.rows import CertificateCounts, Intent, RevokedEntry, Status

NOW = dt.datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(minutes=20)
FOR_EVER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


def expected_certificate(tenant, intent: Intent, **changes: object) -> Certificate:
    """What the registry must hold after that intent was issued."""
    copied = {
        field.name: getattr(intent, field.name)
        for field in dataclasses.fields(Certificate)
        if hasattr(intent, field.name)
    }
    return Certificate(**copied | {"issued_at": NOW, "der": tenant.der(intent)} | changes)


def revoke(tenant, intent: Intent, reason=RevocationReason.SUPERSEDED) -> None:
    tenant.write(writes.revoke_certificate, tenant.id, intent.authority_id, intent.serial, reason)


def abandon(tenant, intent: Intent) -> None:
    tenant.db.write(lambda tx: writes.abandon_intent(tx, intent, LATER))


def status(db: Database, intent: Intent) -> Status:
    with db.read() as tx:
        return reads.certificate_status(tx, intent.authority_id, intent.serial)


def last_event(db: Database) -> audit.Entry:
    log = schema.audit_event
    with db.read() as tx:
        return audit.Entry(*tx.execute(sa.select(log).order_by(log.c.seq.desc())).first())


def test_an_intent_comes_back_equal(db: Database, maker) -> None:
    """Every field, to the last byte of the TBS: reconcile and the auditor need all of it."""
    (device,) = maker.devices(1)
    made = maker.intent(device, not_after=FOR_EVER, evidence='[{"kind":"owner-login"}]')

    assert maker.record(made) == {}

    with db.read() as tx:
        assert reads.orphan_intents(tx, LATER, 10) == [made]
        assert reads.certificate(tx, maker.id, made.serial) is None
    assert status(db, made) == Status(known=True, issued=False, revocation=None)


def test_a_certificate_is_its_intent_and_its_bytes(db: Database, maker) -> None:
    """Found by serial, by authority and serial, and as it is presented in TLS."""
    (device,) = maker.devices(1)
    made = maker.issue(device)
    expected = expected_certificate(maker, made)

    with db.read() as tx:
        assert reads.certificate(tx, maker.id, made.serial) == expected
        assert reads.certificate(tx, maker.id, made.serial, maker.authority.id) == expected
        assert reads.certificate(tx, maker.id, made.serial, "absent") is None
        assert reads.presented_certificate(tx, maker.authority.id, made.serial) == expected
        assert reads.orphan_intents(tx, LATER, 10) == []
    assert status(db, made) == Status(known=True, issued=True, revocation=None)


def test_a_serial_that_was_never_given_out_is_unknown(db: Database, maker) -> None:
    """A responder must not call it good (BR 4.9.10)."""
    with db.read() as tx:
        found = reads.certificate_status(tx, maker.authority.id, maker.serial())

    assert found == Status(known=False, issued=False, revocation=None)


def test_a_call_of_the_gate_leaves_one_event_for_the_intents_and_one_for_the_certificates(
    db: Database, maker
) -> None:
    """A thousand devices are two events: who, how many, and what their certificates hash to."""
    devices = maker.devices(30)
    intents = [maker.intent(device, call_id="call-1") for device in devices]
    with db.read() as tx:
        before = audit.verify(tx).events

    maker.record(*intents)
    recorded = last_event(db)
    maker.store(*intents, at=LATER)
    issued = last_event(db)

    assert issued.seq == before + 2
    assert (recorded.action, recorded.subject, recorded.actor) == (
        "intents.recorded", "call-1", "device:x",
    )  # fmt: skip
    assert '"count":30' in recorded.detail
    assert (issued.action, issued.at) == ("certificates.issued", LATER)
    assert '"serials"' not in issued.detail


def test_a_short_call_names_its_serials(db: Database, maker) -> None:
    """A single certificate can be found in the log by its serial."""
    made = maker.issue(maker.devices(1)[0])

    assert f'"serials":["{made.serial}"]' in last_event(db).detail


def test_recording_and_storing_nothing_changes_nothing(db: Database, maker) -> None:
    """A call in which everything was refused leaves no event here."""
    with db.read() as tx:
        before = audit.verify(tx).events

    assert maker.record() == {}
    maker.store()

    with db.read() as tx:
        assert audit.verify(tx).events == before


def test_a_serial_is_given_out_once(db: Database, maker) -> None:
    """A serial that an authority used before is refused, and nothing of the call is stored."""
    made = maker.issue(maker.devices(1)[0])
    again = maker.intent(maker.devices(1)[0], serial=made.serial)

    with pytest.raises(Conflict):
        maker.record(again, maker.intent())

    with db.read() as tx:
        assert reads.count_certificates(tx, maker.id) == CertificateCounts(1, 0, 0)
        assert reads.key_records(tx, [again.key_fingerprint]) == {}


# One public key, one device


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
        assert status(db, late) == Status(known=False, issued=False, revocation=None)
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
    blocked_event = last_event(db)
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


# One successor


def test_a_certificate_is_replaced_once(db: Database, maker) -> None:
    """The old certificate knows its successor, and nobody else can become it."""
    (device,) = maker.devices(1)
    old = maker.issue(device)
    new = maker.issue(device, replaces=old.serial)
    late = maker.intent(device, replaces=old.serial)

    refused = maker.record(late)

    assert refused[late.serial].code == "already-replaced"
    assert old.serial in str(refused[late.serial])
    assert status(db, late).known is False
    with db.read() as tx:
        assert reads.certificate(tx, maker.id, old.serial) == expected_certificate(
            maker, old, successor=new.serial
        )


def test_only_a_certificate_of_the_same_device_can_be_replaced(maker, rival) -> None:
    """Neither another device's nor another tenant's certificate, nor one that is not there."""
    first, second = maker.devices(2)
    old = maker.issue(first)
    foreign = rival.issue(rival.devices(1)[0])

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


# Storing and abandoning


def test_an_abandoned_intent_is_revoked_and_frees_what_it_was_to_replace(
    db: Database, maker
) -> None:
    """A crash before the signature costs a serial, and the device can renew again."""
    (device,) = maker.devices(1)
    old = maker.issue(device)
    lost = maker.intent(device, replaces=old.serial)
    maker.record(lost)

    abandon(maker, lost)

    assert status(db, lost) == Status(
        known=True, issued=False, revocation=Revocation(LATER, RevocationReason.UNSPECIFIED)
    )
    with db.read() as tx:
        assert reads.orphan_intents(tx, FOR_EVER, 10) == []
        found = reads.certificate(tx, maker.id, lost.serial)
        latest = reads.latest_certificate(tx, maker.id, device.id, Purpose.SERVICE)
    assert found == expected_certificate(
        maker, lost, der=b"", issued_at=LATER,
        revocation=Revocation(LATER, RevocationReason.UNSPECIFIED),
    )  # fmt: skip
    assert latest == expected_certificate(maker, old)
    assert (last_event(db).action, last_event(db).actor) == ("intent.abandoned", "job:reconcile")
    maker.issue(device, replaces=old.serial)


def test_a_signature_that_comes_too_late_is_not_stored(db: Database, maker) -> None:
    """Reconcile was first: the serial is revoked, so the certificate must not leave."""
    first, second = maker.devices(2)
    slow, good = maker.intent(first), maker.intent(second)
    maker.record(slow, good)
    abandon(maker, slow)

    with pytest.raises(Conflict) as refusal:
        maker.store(good, slow)

    assert refusal.value.code == "intent-reconciled"
    assert slow.serial in str(refusal.value)
    assert status(db, good) == Status(known=True, issued=False, revocation=None)
    maker.store(good)


def test_a_stored_certificate_is_not_abandoned(db: Database, maker) -> None:
    """The signature was first: reconcile leaves it alone."""
    made = maker.issue(maker.devices(1)[0])

    with pytest.raises(Conflict) as refusal:
        abandon(maker, made)

    assert refusal.value.code == "intent-issued"
    assert status(db, made) == Status(known=True, issued=True, revocation=None)


def test_storing_and_abandoning_at_once_have_one_winner(db: Database, maker) -> None:
    """Never both: no certificate leaves whose serial was revoked behind its back."""
    devices = maker.devices(8)
    intents = [maker.intent(device) for device in devices]
    maker.record(*intents)

    def outcome(work: object, intent: Intent) -> str:
        try:
            work(intent)
        except CertmintError as error:
            return error.code
        return "won"

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        pairs = [
            (
                pool.submit(outcome, maker.store, intent),
                pool.submit(outcome, lambda i: abandon(maker, i), intent),
            )
            for intent in intents
        ]

    for intent, (stored, abandoned) in zip(intents, pairs, strict=True):
        results = {stored.result(), abandoned.result()}
        assert results in ({"won", "intent-issued"}, {"won", "intent-reconciled"})
        assert status(db, intent).issued == (stored.result() == "won")


def test_a_certificate_without_an_intent_is_not_stored(maker) -> None:
    """What was never written down before its signature cannot be written down after it."""
    unknown = maker.intent()

    with pytest.raises(NotFound) as refusal:
        maker.store(unknown)
    assert refusal.value.code == "intent-unknown"
    with pytest.raises(NotFound):
        abandon(maker, unknown)


def test_a_certificate_is_stored_once(maker) -> None:
    """The same certificate again is a conflict, not a second row."""
    made = maker.issue(maker.devices(1)[0])

    with pytest.raises(Conflict):
        maker.store(made)


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


# Revocation


def test_a_revocation_is_for_ever_and_happens_once(db: Database, maker) -> None:
    """When and why are kept; a second one is told so and changes nothing."""
    made = maker.issue(maker.devices(1)[0])

    revoke(maker, made)
    with pytest.raises(Conflict) as refusal:
        revoke(maker, made, RevocationReason.CESSATION_OF_OPERATION)

    assert refusal.value.code == "already-revoked"
    expected = Revocation(NOW, RevocationReason.SUPERSEDED)
    assert status(db, made) == Status(known=True, issued=True, revocation=expected)
    assert last_event(db).action == "certificate.revoked"


def test_a_revoked_certificate_can_become_key_compromise(db: Database, maker) -> None:
    """The worse reason that is learnt later replaces the first one, and never the reverse."""
    made = maker.issue(maker.devices(1)[0])
    revoke(maker, made)

    maker.db.write(
        lambda tx: writes.revoke_certificate(
            tx, maker.id, made.authority_id, made.serial, RevocationReason.KEY_COMPROMISE,
            by="ada", at=LATER,
        )
    )  # fmt: skip

    assert status(db, made).revocation == Revocation(NOW, RevocationReason.KEY_COMPROMISE)
    for reason in (RevocationReason.KEY_COMPROMISE, RevocationReason.SUPERSEDED):
        with pytest.raises(Conflict):
            revoke(maker, made, reason)


def test_an_unknown_certificate_cannot_be_revoked(maker) -> None:
    """The error says that there is none."""
    with pytest.raises(NotFound) as refusal:
        revoke(maker, maker.intent())

    assert refusal.value.code == "certificate-unknown"


def test_of_threads_that_revoke_a_certificate_one_wins(db: Database, maker) -> None:
    """One revocation, one event, and everybody else knows that it was done."""
    made = maker.issue(maker.devices(1)[0])

    def attempt(_: int) -> str:
        try:
            revoke(maker, made)
        except CertmintError as error:
            return error.code
        return "won"

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        outcomes = sorted(pool.map(attempt, range(6)))

    assert outcomes == ["already-revoked"] * 5 + ["won"]


def test_a_crl_lists_what_was_revoked_in_its_shard(db: Database, maker) -> None:
    """By serial, with date, reason and end of life; other shards and authorities are apart."""
    other = maker.active_authority("other")
    intents = [
        maker.intent(device, crl_shard=shard) for shard, device in enumerate(maker.devices(3))
    ]
    intents[2] = dataclasses.replace(intents[2], crl_shard=0, not_after=FOR_EVER)
    elsewhere = maker.intent(crl_shard=0, authority_id=other.id)
    lost = maker.intent(crl_shard=0)
    valid = maker.intent(crl_shard=0)
    maker.record(*intents, elsewhere, lost, valid)
    maker.store(*intents, elsewhere, valid)
    for intent in (*reversed(intents), elsewhere):
        revoke(maker, intent)
    abandon(maker, lost)

    with db.read() as tx:
        found = reads.revoked_entries(tx, maker.authority.id, 0)
        assert reads.revoked_entries(tx, maker.authority.id, 3) == []

    superseded = RevocationReason.SUPERSEDED
    assert found == [
        RevokedEntry(intents[0].serial, NOW, superseded, intents[0].not_after),
        RevokedEntry(intents[2].serial, NOW, superseded, FOR_EVER),
        RevokedEntry(lost.serial, LATER, RevocationReason.UNSPECIFIED, lost.not_after),
    ]
    serial, revoked_at, reason, not_after = found[0]
    assert (serial, revoked_at, reason, not_after) == found[0]


# Listings


def test_certificates_are_listed_in_pages(db: Database, maker) -> None:
    """By serial, and so by age; of the tenant, or of one device."""
    first, second = maker.devices(2)
    made = [maker.issue(device) for device in (first, second, first, first, second)]

    def listed(**which: object) -> list[str]:
        seen: list[str] = []
        with db.read() as tx:
            while page := reads.certificates(
                tx, maker.id, after=seen[-1] if seen else None, limit=2, **which
            ):
                seen += [each.serial for each in page]
        return seen

    assert listed() == [each.serial for each in made]
    assert listed(device_id=first.id) == [made[0].serial, made[2].serial, made[3].serial]
    assert listed(device_id="absent") == []


def test_the_latest_certificate_of_a_purpose(db: Database, maker) -> None:
    """The newest by the time of issue, whether it is revoked or not."""
    (device,) = maker.devices(1)
    identity = maker.issue(device, purpose=Purpose.IDENTITY)
    intents = [maker.intent(device) for _ in range(3)]
    maker.record(*intents)
    for intent, minutes in zip(intents, (3, 9, 5), strict=True):
        maker.store(intent, at=NOW + dt.timedelta(minutes=minutes))
    revoke(maker, intents[1])

    with db.read() as tx:
        newest = reads.latest_certificate(tx, maker.id, device.id, Purpose.SERVICE)
        first = reads.latest_certificate(tx, maker.id, device.id, Purpose.IDENTITY)
        assert reads.latest_certificate(tx, maker.id, "absent", Purpose.SERVICE) is None
    assert newest is not None
    assert newest.serial == intents[1].serial
    assert first is not None
    assert first.serial == identity.serial


def test_the_certificates_of_a_batch_are_read_together(db: Database, maker) -> None:
    """For a batch that resumes: which devices have which certificates already."""
    devices = maker.devices(1_100)
    intents = [maker.intent(device) for device in devices for _ in range(2)]
    maker.record(*intents)
    maker.store(*intents[:-1])
    abandon(maker, intents[-1])

    with db.read() as tx:
        found = reads.batch_certificates(
            tx, maker.id, [device.id for device in devices] + ["absent"]
        )

    assert set(found) == {device.id for device in devices}
    assert [each.serial for each in found[devices[0].id]] == [each.serial for each in intents[:2]]
    assert len(found[devices[-1].id]) == 1


def test_totals_add_up(db: Database, maker, rival) -> None:
    """Issued, revoked and orphaned: every serial is in the totals, none in two tenants'."""
    intents = [maker.intent(device) for device in maker.devices(6)]
    maker.record(*intents)
    maker.store(*intents[:4])
    revoke(maker, intents[0])
    abandon(maker, intents[4])
    rival.issue(rival.devices(1)[0])

    with db.read() as tx:
        assert reads.count_certificates(tx, maker.id) == CertificateCounts(4, 2, 1)
        assert reads.count_certificates(tx, rival.id) == CertificateCounts(1, 0, 0)
        assert reads.count_certificates(tx, "absent") == CertificateCounts(0, 0, 0)


def test_certificates_with_a_key_are_the_tenants_own(db: Database, maker, rival) -> None:
    """A manufacturer cannot probe whether somebody else's key is certified."""
    made = maker.issue(maker.devices(1)[0])
    own = maker.issue()

    with db.read() as tx:
        assert reads.certificates_with_key(tx, rival.id, made.key_fingerprint) == []
        assert reads.certificates_with_key(tx, maker.id, "absent") == []
        found = reads.certificates_with_key(tx, maker.id, own.key_fingerprint)
    assert [each.serial for each in found] == [own.serial]
