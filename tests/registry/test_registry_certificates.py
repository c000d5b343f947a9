"""Certificates: storing, abandoning, revoking and listing them."""

import concurrent.futures
import dataclasses
import datetime as dt

import pytest

from certmint.model.entities import Revocation, RevocationReason
from certmint.model.errors import CertmintError, Conflict, NotFound
from certmint.model.profile import Purpose
from certmint.registry import audit, reads, writes
from certmint.registry.engine import Database
from certmint.registry.rows import CertificateCounts, Intent, RevokedEntry, Status

NOW = dt.datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(minutes=20)
FOR_EVER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


def test_a_certificate_is_its_intent_and_its_bytes(db: Database, maker) -> None:
    """Found by serial, by authority and serial, and as it is presented in TLS."""
    (device,) = maker.devices(1)
    made = maker.issue(device)
    expected = maker.certificate(made)

    with db.read() as tx:
        assert reads.certificate(tx, maker.id, made.serial) == expected
        assert reads.certificate(tx, maker.id, made.serial, maker.authority.id) == expected
        assert reads.certificate(tx, maker.id, made.serial, "absent") is None
        assert reads.presented_certificate(tx, maker.authority.id, made.serial) == expected
        assert reads.orphan_intents(tx, LATER, 10) == []
    assert maker.status(made) == Status(known=True, issued=True, revocation=None)


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
    recorded = maker.last_event()
    maker.store(*intents, at=LATER)
    issued = maker.last_event()

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

    assert f'"serials":["{made.serial}"]' in maker.last_event().detail


def test_recording_and_storing_nothing_changes_nothing(db: Database, maker) -> None:
    """A call in which everything was refused leaves no event here."""
    with db.read() as tx:
        before = audit.verify(tx).events

    assert maker.record() == {}
    maker.store()

    with db.read() as tx:
        assert audit.verify(tx).events == before


def test_an_abandoned_intent_is_revoked_and_frees_what_it_was_to_replace(
    db: Database, maker
) -> None:
    """A crash before the signature costs a serial, and the device can renew again."""
    (device,) = maker.devices(1)
    old = maker.issue(device)
    lost = maker.intent(device, replaces=old.serial)
    maker.record(lost)

    maker.abandon(lost)

    assert maker.status(lost) == Status(
        known=True, issued=False, revocation=Revocation(LATER, RevocationReason.UNSPECIFIED)
    )
    with db.read() as tx:
        assert reads.orphan_intents(tx, FOR_EVER, 10) == []
        found = reads.certificate(tx, maker.id, lost.serial)
        latest = reads.latest_certificate(tx, maker.id, device.id, Purpose.SERVICE)
    assert found == maker.certificate(
        lost, der=b"", issued_at=LATER,
        revocation=Revocation(LATER, RevocationReason.UNSPECIFIED),
    )  # fmt: skip
    assert latest == maker.certificate(old)
    assert (maker.last_event().action, maker.last_event().actor) == (
        "intent.abandoned",
        "job:reconcile",
    )
    maker.issue(device, replaces=old.serial)


def test_a_signature_that_comes_too_late_is_not_stored(db: Database, maker) -> None:
    """Reconcile was first: the serial is revoked, so the certificate must not leave."""
    first, second = maker.devices(2)
    slow, good = maker.intent(first), maker.intent(second)
    maker.record(slow, good)
    maker.abandon(slow)

    with pytest.raises(Conflict) as refusal:
        maker.store(good, slow)

    assert refusal.value.code == "intent-reconciled"
    assert slow.serial in str(refusal.value)
    assert maker.status(good) == Status(known=True, issued=False, revocation=None)
    maker.store(good)


def test_a_stored_certificate_is_not_abandoned(db: Database, maker) -> None:
    """The signature was first: reconcile leaves it alone."""
    made = maker.issue(maker.devices(1)[0])

    with pytest.raises(Conflict) as refusal:
        maker.abandon(made)

    assert refusal.value.code == "intent-issued"
    assert maker.status(made) == Status(known=True, issued=True, revocation=None)


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
                pool.submit(outcome, maker.abandon, intent),
            )
            for intent in intents
        ]

    for intent, (stored, abandoned) in zip(intents, pairs, strict=True):
        results = {stored.result(), abandoned.result()}
        assert results in ({"won", "intent-issued"}, {"won", "intent-reconciled"})
        assert maker.status(intent).issued == (stored.result() == "won")


def test_a_certificate_without_an_intent_is_not_stored(maker) -> None:
    """What was never written down before its signature cannot be written down after it."""
    unknown = maker.intent()

    with pytest.raises(NotFound) as refusal:
        maker.store(unknown)
    assert refusal.value.code == "intent-unknown"
    with pytest.raises(NotFound):
        maker.abandon(unknown)


def test_a_certificate_is_stored_once(maker) -> None:
    """The same certificate again is a conflict, not a second row."""
    made = maker.issue(maker.devices(1)[0])

    with pytest.raises(Conflict):
        maker.store(made)


def test_a_revocation_is_for_ever_and_happens_once(db: Database, maker) -> None:
    """When and why are kept; a second one is told so and changes nothing."""
    made = maker.issue(maker.devices(1)[0])

    maker.revoke(made)
    with pytest.raises(Conflict) as refusal:
        maker.revoke(made, RevocationReason.CESSATION_OF_OPERATION)

    assert refusal.value.code == "already-revoked"
    expected = Revocation(NOW, RevocationReason.SUPERSEDED)
    assert maker.status(made) == Status(known=True, issued=True, revocation=expected)
    assert maker.last_event().action == "certificate.revoked"


def test_a_revoked_certificate_can_become_key_compromise(db: Database, maker) -> None:
    """The worse reason that is learnt later replaces the first one, and never the reverse."""
    made = maker.issue(maker.devices(1)[0])
    maker.revoke(made)

    maker.db.write(
        lambda tx: writes.revoke_certificate(
            tx, maker.id, made.authority_id, made.serial, RevocationReason.KEY_COMPROMISE,
            by="ada", at=LATER,
        )
    )  # fmt: skip

    assert maker.status(made).revocation == Revocation(NOW, RevocationReason.KEY_COMPROMISE)
    for reason in (RevocationReason.KEY_COMPROMISE, RevocationReason.SUPERSEDED):
        with pytest.raises(Conflict):
            maker.revoke(made, reason)


def test_an_unknown_certificate_cannot_be_revoked(maker) -> None:
    """The error says that there is none."""
    with pytest.raises(NotFound) as refusal:
        maker.revoke(maker.intent())

    assert refusal.value.code == "certificate-unknown"


def test_of_threads_that_revoke_a_certificate_one_wins(db: Database, maker) -> None:
    """One revocation, one event, and everybody else knows that it was done."""
    made = maker.issue(maker.devices(1)[0])

    def attempt(_: int) -> str:
        try:
            maker.revoke(made)
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
        maker.revoke(intent)
    maker.abandon(lost)

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
    """The one that was prepared last, revoked or not, and whichever was stored last."""
    (device,) = maker.devices(1)
    identity = maker.issue(device, purpose=Purpose.IDENTITY)
    intents = [maker.intent(device) for _ in range(3)]
    maker.record(*intents)
    for intent, minutes in zip(intents, (3, 9, 5), strict=True):
        maker.store(intent, at=NOW + dt.timedelta(minutes=minutes))
    maker.revoke(intents[2])

    with db.read() as tx:
        newest = reads.latest_certificate(tx, maker.id, device.id, Purpose.SERVICE)
        first = reads.latest_certificate(tx, maker.id, device.id, Purpose.IDENTITY)
        assert reads.latest_certificate(tx, maker.id, "absent", Purpose.SERVICE) is None
    assert newest is not None
    assert newest.serial == intents[2].serial
    assert first is not None
    assert first.serial == identity.serial


def test_the_certificates_of_a_batch_are_read_together(db: Database, maker) -> None:
    """For a batch that resumes: which devices have which certificates already."""
    devices = maker.devices(1_100)
    intents = [maker.intent(device) for device in devices for _ in range(2)]
    maker.record(*intents)
    maker.store(*intents[:-1])
    maker.abandon(intents[-1])

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
    maker.revoke(intents[0])
    maker.abandon(intents[4])
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
