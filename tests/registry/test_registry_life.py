"""The life of certificates, played at random against a model that fits on a page."""

import datetime as dt
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from certmint.model.entities import RevocationReason
from certmint.model.errors import CertmintError
from certmint.registry import audit, reads, writes
from certmint.registry.engine import Database, open_database
from certmint.registry.rows import Intent

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
FUTURE = NOW + dt.timedelta(days=1)
KEYS = st.integers(0, 5)
DEVICES = st.integers(0, 2)


def outcome(work: Any, *arguments: Any) -> str | None:
    """The code of the refusal, or None."""
    try:
        work(*arguments)
    except CertmintError as error:
        return error.code
    return None


class Life(RuleBasedStateMachine):
    """`self.state` is the model: what the registry must say of every serial ever given out."""

    intents: Bundle[Intent] = Bundle("intents")
    template: Path
    make_tenant: Any

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="certmint-life-")
        self.state: dict[str, str] = {}
        self.reason: dict[str, RevocationReason] = {}
        self.owner: dict[int, int] = {}
        self.blocked: set[int] = set()
        self.successor: dict[str, str] = {}

    @initialize()
    def open(self) -> None:
        path = Path(self.folder) / "registry.db"
        shutil.copy(self.template, path)
        self.db: Database = open_database(f"sqlite:{path}")
        self.maker = self.make_tenant(self.db, "alpha", itertools.count(1))
        self.devices = self.maker.devices(3)

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
        shutil.rmtree(self.folder)

    @rule(target=intents, device=DEVICES, key=KEYS)
    def intend(self, device: int, key: int) -> Any:
        return self._intend(device, key, None)

    @rule(target=intents, device=DEVICES, key=KEYS, old=intents)
    def renew(self, device: int, key: int, old: Intent) -> Any:
        return self._intend(device, key, old)

    def _intend(self, device: int, key: int, old: Intent | None) -> Any:
        made = self.maker.intent(
            self.devices[device], key_fingerprint=f"{key:064x}", crl_shard=0,
            replaces=old.serial if old else None,
        )  # fmt: skip
        expected = None
        if self.owner.setdefault(key, device) != device or key in self.blocked:
            expected = "key-reused"
        elif old is not None and not self._can_be_replaced(old, device):
            expected = "already-replaced"

        refused = self.maker.record(made)

        assert {serial: error.code for serial, error in refused.items()} == (
            {made.serial: expected} if expected else {}
        )
        if expected:
            return multiple()
        self.state[made.serial] = "intended"
        if old is not None:
            self.successor[old.serial] = made.serial
        return made

    def _can_be_replaced(self, old: Intent, device: int) -> bool:
        return (
            self.state[old.serial] != "intended"
            and old.device_id == self.devices[device].id
            and old.serial not in self.successor
        )

    @rule(intent=intents)
    def issue(self, intent: Intent) -> None:
        expected = None if self.state[intent.serial] == "intended" else "intent-reconciled"
        assert outcome(self.maker.store, intent) == expected
        if expected is None:
            self.state[intent.serial] = "issued"

    @rule(intent=intents)
    def abandon(self, intent: Intent) -> None:
        expected = None if self.state[intent.serial] == "intended" else "intent-issued"
        work = lambda tx: writes.abandon_intent(tx, intent, NOW)  # noqa: E731
        assert outcome(self.db.write, work) == expected
        if expected is None:
            self.state[intent.serial] = "abandoned"
            self.reason[intent.serial] = RevocationReason.UNSPECIFIED
            if intent.replaces is not None:
                del self.successor[intent.replaces]

    @rule(intent=intents, reason=st.sampled_from(RevocationReason))
    def revoke(self, intent: Intent, reason: RevocationReason) -> None:
        before = self.reason.get(intent.serial)
        worse = reason is RevocationReason.KEY_COMPROMISE and before is not reason
        if self.state[intent.serial] == "intended":
            expected = "certificate-unknown"
        else:
            expected = None if before is None or worse else "already-revoked"

        found = outcome(
            lambda: self.maker.write(
                writes.revoke_certificate, self.maker.id, intent.authority_id, intent.serial, reason
            )
        )

        assert found == expected
        if expected is None:
            self.reason[intent.serial] = reason

    @rule(key=KEYS)
    def block(self, key: int) -> None:
        expected = None if key in self.owner else "key-unknown"
        work = lambda tx: writes.block_key(tx, f"{key:064x}", NOW, by="ada")  # noqa: E731
        assert outcome(self.db.write, work) == expected
        if expected is None:
            self.blocked.add(key)

    @rule(intent=consumes(intents))
    def forget(self, intent: Intent) -> None:
        """Nobody asks for this one any more; the invariants still hold it."""

    @invariant()
    def the_registry_says_what_the_model_says(self) -> None:
        if not hasattr(self, "db"):
            return
        with self.db.read() as tx:
            for serial, state in self.state.items():
                status = reads.certificate_status(tx, self.maker.authority.id, serial)
                assert status.known
                assert status.issued == (state == "issued")
                reason = status.revocation.reason if status.revocation else None
                assert reason == self.reason.get(serial)
                held = reads.certificate(tx, self.maker.id, serial)
                assert (held is None) == (state == "intended")
                assert held is None or held.successor == self.successor.get(serial)
            orphans = {each.serial for each in reads.orphan_intents(tx, FUTURE, 1_000)}
            assert orphans == {s for s, state in self.state.items() if state == "intended"}
            listed = {
                e.serial: e.reason for e in reads.revoked_entries(tx, self.maker.authority.id, 0)
            }
            assert listed == self.reason
            assert reads.count_certificates(tx, self.maker.id) == reads.CertificateCounts(
                issued=list(self.state.values()).count("issued"),
                revoked=len(self.reason),
                orphans=len(orphans),
            )
            assert audit.verify(tx).broken_at is None


def test_the_life_of_certificates(sqlite_template: Path, make_tenant) -> None:
    """Whatever is done to certificates in whatever order, the registry and the model agree."""

    class Here(Life):
        template = sqlite_template

    Here.make_tenant = staticmethod(make_tenant)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
