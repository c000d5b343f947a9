"""Who asks: every combination of proofs in every condition of a device, and the exact answer.

The table is written by hand, for a product under the policy below; `ok` is a certificate, anything
else the code of the refusal.
"""

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.enrolment import devices, ownership, products, revocation, secrets
from certmint.enrolment.issue import Step
from certmint.enrolment.renewal import Asker, renew
from certmint.model.csr import CSR
from certmint.model.entities import Certificate, Owner, RevocationReason
from certmint.model.errors import CertmintError
from certmint.model.evidence import Attestation, Evidence, HoldsCertificate, OwnerLogin
from certmint.model.keys import KeyOrigin
from certmint.model.profile import SERVICE, Purpose
from certmint.model.request import Requester, RequesterKind
from certmint.registry import writes

from .house import DAY, OPERATOR, House, csr
from .test_enrolment_renewal import refresh_domain, retire, revoke

KEY = b"the key of label secrets, for tests"
HERE, THERE = "192.0.2.1", "192.0.2.2"
POLICY = (
    "first:     identity-certificate | attestation | owner-login+enrolment-secret",
    "renewing:  identity-certificate | attestation | service-certificate",
    "expired:   attestation | owner-login+identity-certificate | owner-login+service-certificate",
    "re-imaged: attestation | owner-login+identity-certificate",
)

# Columns: what was shown. I identity certificate, S service certificate, O owner's login,
# K the label's secret, A attestation of the key.
SHOWN = ("-", "I", "S", "O", "K", "A", "IO", "SO", "OK", "IK", "SK", "IA", "OA")
_MISSING, _FEW = "evidence-missing", "evidence-not-enough"
_REVOKED, _EXPIRED, _EARLY = "evidence-revoked", "evidence-expired", "evidence-not-yet-valid"
_OTHERS, _OLD, _CLONED = "evidence-not-owner", "evidence-superseded", "device-cloned"
_REUSED, _STATE = "key-reused", "device-state"

# fmt: off
TABLE = {
    "first":          (_MISSING, "ok", None, _FEW, _FEW, "ok",
                       "ok", None, "ok", "ok", None, "ok", "ok"),
    "valid":          (_MISSING, "ok", "ok", _FEW, _FEW, "ok",
                       "ok", "ok", _FEW, "ok", "ok", "ok", "ok"),
    "expired":        (_MISSING, _FEW, _FEW, _FEW, _FEW, "ok",
                       "ok", "ok", _FEW, _FEW, _FEW, "ok", "ok"),
    "beyond":         (_MISSING, _FEW, _EXPIRED, _FEW, _FEW, "ok",
                       "ok", _EXPIRED, _FEW, _FEW, _EXPIRED, "ok", "ok"),
    "revoked":        (_MISSING, _REVOKED, _REVOKED, _FEW, _FEW, "ok",
                       _REVOKED, _REVOKED, _FEW, _REVOKED, _REVOKED, _REVOKED, "ok"),
    "retired":        (_STATE, _STATE, _STATE, _STATE, _STATE, _STATE,
                       _STATE, _STATE, _STATE, _STATE, _STATE, _STATE, _STATE),
    "transferred":    (_MISSING, "ok", "ok", _OTHERS, _FEW, "ok",
                       _OTHERS, _OTHERS, _OTHERS, "ok", "ok", "ok", _OTHERS),
    "future-dated":   (_MISSING, _FEW, _EARLY, _FEW, _FEW, "ok",
                       "ok", _EARLY, _FEW, _FEW, _EARLY, "ok", "ok"),
    "another's key":  (_MISSING, _REUSED, _REUSED, _FEW, _FEW, _REUSED,
                       _REUSED, _REUSED, _FEW, _REUSED, _REUSED, _REUSED, _REUSED),
    "cloned":         (_MISSING, _CLONED, _CLONED, _FEW, _FEW, "ok",
                       "ok", _OLD, _FEW, _FEW, _OLD, "ok", "ok"),
    "re-imaged":      (_MISSING, _FEW, _CLONED, _FEW, _FEW, "ok",
                       "ok", _OLD, _FEW, _FEW, _OLD, "ok", "ok"),
}
# fmt: on


@dataclasses.dataclass
class Scene:
    """A device in a condition, its owner, and what the one who asks would show."""

    house: House
    serial_number: str
    owner: Owner
    label: secrets.Label
    identity: Certificate
    service: Certificate | None
    request: CSR
    source: str = HERE

    def proof(self, letter: str) -> Evidence:
        now = self.house.clock.now
        if letter == "O":
            return OwnerLogin(self.owner.id, now)
        if letter == "K":
            return secrets.prove(
                self.house.db, KEY, "example", self.serial_number, self.label.enrolment_secret,
                self.source, now,
            )[1]  # fmt: skip
        if letter == "A":
            fingerprint = self.request.key.fingerprint
            return Attestation("tpm", fingerprint, self.serial_number, "00" * 32, now)
        held = self.identity if letter == "I" else self.service
        assert held is not None
        return HoldsCertificate(held.authority_id, held.serial, now)

    def ask(self, shown: str) -> str:
        evidence = tuple(self.proof(letter) for letter in shown if letter != "-")
        device_id = self.house.view(self.serial_number).device.id
        asker = Asker(Requester(RequesterKind.DEVICE, device_id), evidence, self.source)
        try:
            self.house.renew(self.serial_number, self.request, asker)
        except CertmintError as refusal:
            return refusal.code
        return "ok"


def scene(house: House, serial_number: str = "R1") -> Scene:
    """A fresh device of an owner, under the policy of this page, with a printed label."""
    device = house.view(serial_number).device
    product = house.view(serial_number).product
    products.set_policy(house.db, product, POLICY, grace=None, by=OPERATOR, now=house.clock())
    owner = add_owner(house, "grace")
    devices.claim(house.db, house.tenant, serial_number, "grace", by=OPERATOR, now=house.clock())
    (label,) = secrets.make_labels(
        house.db, house.tenant.id, [device], KEY,
        by=OPERATOR, now=house.clock(), random_bytes=house.random_bytes,
    )  # fmt: skip
    identity = house.latest(serial_number, Purpose.IDENTITY)
    service = house.view(serial_number).service
    return Scene(house, serial_number, owner, label, identity, service, csr())


def add_owner(house: House, name: str) -> Owner:
    """Without a password, as nobody logs in here."""
    owner = Owner(f"own_{name}", house.tenant.id, name, house.clock.now)
    house.db.write(lambda tx: writes.add_owner(tx, owner, "none", by=OPERATOR, at=house.clock()))
    return owner


def first(house: House) -> Scene:
    """A device whose service profile takes no key of the factory: it leaves with its identity."""
    own = dataclasses.replace(SERVICE, name="own", key_origins=frozenset({KeyOrigin.SUBSCRIBER}))
    house.db.write(
        lambda tx: writes.add_profile(tx, house.tenant.id, own, by=OPERATOR, at=house.clock())
    )
    house.add_product("gateway", "own", "{id}.dev.example.com")
    assert house.mint(house.submit("G1", product="gateway")) == []
    return scene(house, "G1")


def late(house: House, after: dt.timedelta) -> Scene:
    made = scene(house)
    assert made.service is not None
    refresh_domain(house, made.service.not_after + after)
    return made


def revoked(house: House) -> Scene:
    made = scene(house)
    for held in (made.identity, made.service):
        assert held is not None
        revoke(house, held.serial)
    return made


def retired(house: House) -> Scene:
    made = scene(house)
    retire(house)
    return made


def transferred(house: House) -> Scene:
    """The login of the table is that of the owner before."""
    made = scene(house)
    other = add_owner(house, "ada")
    ownership.offer(house.db, made.owner, "R1", "ada", house.clock())
    ownership.accept(house.db, other, "R1", house.clock())
    return made


def future_dated(house: House) -> Scene:
    """Its newest certificate is from a day when a server's clock was ten days ahead."""
    made = scene(house)
    house.clock.now += 10 * DAY
    made.service = house.renew("R1", csr()).certificate
    house.clock.now -= 10 * DAY
    return made


def others_key(house: House) -> Scene:
    """The CSR is by a key that is certified for R2."""
    made = scene(house)
    made.request = csr(key=house.stock_key("R2"))
    return made


def renewed(house: House, source: str, later: dt.timedelta) -> Scene:
    """The device renewed with another key than the CSR of this page has, from HERE."""
    made = scene(house)
    asker = dataclasses.replace(house.asker("R1"), source=HERE)
    house.renew("R1", csr(key=ec.generate_private_key(ec.SECP256R1())), asker)
    house.clock.now += later
    made.source = source
    return made


CONDITIONS: dict[str, Callable[[House], Scene]] = {
    "first": first,
    "valid": scene,
    "expired": lambda house: late(house, SERVICE.grace - DAY),
    "beyond": lambda house: late(house, SERVICE.grace + DAY),
    "revoked": revoked,
    "retired": retired,
    "transferred": transferred,
    "future-dated": future_dated,
    "another's key": others_key,
    "cloned": lambda house: renewed(house, THERE, DAY / 1440),
    "re-imaged": lambda house: renewed(house, HERE, DAY / 12),
}


@pytest.mark.parametrize("condition", TABLE)
def test_the_matrix(condition: str, fresh_houses: Callable[..., Any]) -> None:
    """Exactly the expected answer, for every combination of proofs, each on a house of its own."""
    made: list[Scene] = []
    fresh_house = fresh_houses(lambda house: made.append(CONDITIONS[condition](house)))
    answers = {}
    for shown, expected in zip(SHOWN, TABLE[condition], strict=True):
        if expected is not None:
            with fresh_house() as house:
                answers[shown] = dataclasses.replace(made[0], house=house).ask(shown)
    wanted = dict(zip(SHOWN, TABLE[condition], strict=True))
    assert answers == {shown: code for shown, code in wanted.items() if code is not None}


def test_the_matrix_is_whole() -> None:
    """Every condition has its set-up, and every row an answer for each column."""
    assert set(TABLE) == set(CONDITIONS)
    assert {len(row) for row in TABLE.values()} == {len(SHOWN)}


@pytest.mark.parametrize("condition", ["cloned", "re-imaged"])
def test_two_devices_with_one_identity_are_both_out(house: House, condition: str) -> None:
    """The clone is refused, and from then on the device too; an alert is raised; until resumed."""
    made = CONDITIONS[condition](house)
    assert made.ask("I" if condition == "cloned" else "S") == "device-cloned"
    device = house.view("R1").device
    assert (device.state, device.suspended_for) == ("suspended", "cloned")
    (alert,) = house.audit("device.cloned")
    assert '"serial_number":"R1"' in alert.detail
    made.source = HERE
    assert made.ask("I") == "device-state"
    assert made.ask("IO") == "device-state"
    devices.move(
        house.db, house.tenant.id, "R1", devices.DeviceEvent.RESUMED,
        by=OPERATOR, now=house.clock(),
    )  # fmt: skip
    assert house.view("R1").device.suspended_for == ""
    assert made.ask("IO") == "ok"


def test_a_revoked_clone_suspends_nobody(house: House) -> None:
    """Who shows a revoked certificate is refused, and cannot put the device out of service."""
    made = renewed(house, THERE, DAY / 1440)
    revocation.revoke(
        house.db, house.keys, house.tenant.id, made.identity.serial, RevocationReason.SUPERSEDED,
        by=OPERATOR, now=house.clock(),
    )  # fmt: skip
    assert made.ask("I") == "evidence-revoked"
    assert house.view("R1").device.state == "active"


def test_a_secret_serves_once(each_house: House) -> None:
    """It is spent with the intent; only a lost answer is given again, for the same key."""
    house = each_house
    made = first(house)
    assert made.ask("OK") == "ok"
    assert made.ask("OK") == "ok"  # the same CSR: the answer was lost
    assert len(house.held("G1")) == 2
    made.request = csr()
    assert made.ask("OK") == "evidence-secret"
    made.source = HERE
    assert made.ask("IO") == "ok"


def test_of_two_requests_with_one_secret_one_is_served(each_house: House) -> None:
    """Both were found good before either was recorded: the database decides."""
    house = each_house
    made, target = first(house), house.view("G1")
    asker = Asker(
        Requester(RequesterKind.OWNER, made.owner.id), (made.proof("O"), made.proof("K")), HERE
    )
    waiting = [csr()]

    def overtake(step: Step) -> None:
        if step is Step.DECIDED and waiting:
            renew(house.db, house.gate, target, waiting.pop(), asker, house.clock())

    house.reached = overtake
    with pytest.raises(CertmintError) as refusal:
        renew(house.db, house.gate, target, csr(), asker, house.clock())
    assert refusal.value.code == "secret-spent"
    assert len(house.held("G1")) == 2
