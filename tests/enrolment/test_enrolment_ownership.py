"""Whose device it is: claimed by label or by presence, handed on, released, retired."""

import datetime as dt
from collections.abc import Callable

import pytest

from certmint.enrolment import devices, ownership, secrets
from certmint.enrolment.renewal import Asker
from certmint.model.entities import Certificate, Owner
from certmint.model.errors import CertmintError
from certmint.model.evidence import OwnerLogin
from certmint.model.profile import Purpose
from certmint.model.request import Requester, RequesterKind
from certmint.model.states import DeviceEvent, DeviceState
from certmint.registry import writes

from .house import OPERATOR, House, csr
from .test_enrolment_renewal import revoke

KEY = b"the key of label secrets, for tests"
HOME = "192.0.2.1"


def answer(call: Callable[[], object]) -> str:
    try:
        call()
    except CertmintError as refusal:
        return refusal.code
    return "ok"


def account(house: House, name: str) -> Owner:
    """Without a password, as nobody logs in here."""
    owner = Owner(f"own_{name}", house.tenant.id, name, house.clock.now)
    house.db.write(lambda tx: writes.add_owner(tx, owner, "none", by=OPERATOR, at=house.clock()))
    return owner


@pytest.fixture
def grace(house: House) -> Owner:
    return account(house, "grace")


@pytest.fixture
def ada(house: House) -> Owner:
    return account(house, "ada")


@pytest.fixture
def code(house: House) -> str:
    """The claim code on the label of R1."""
    (label,) = secrets.make_labels(
        house.db, house.tenant.id, [house.view("R1").device], KEY,
        by=OPERATOR, now=house.clock(), random_bytes=house.random_bytes,
    )  # fmt: skip
    return label.claim_code


def claim(house: House, owner: Owner, code: str, serial: str = "R1") -> str:
    return answer(
        lambda: ownership.claim_by_code(house.db, owner, serial, code, KEY, HOME, house.clock())
    )


def buys(house: House, owner: Owner) -> str:
    """What the owner's login gets for R1."""
    proof = OwnerLogin(owner.id, house.clock.now)
    asker = Asker(Requester(RequesterKind.OWNER, owner.id), (proof,))
    return answer(lambda: house.renew("R1", csr(), asker))


def test_claimed_by_the_label(house: House, grace: Owner, ada: Owner, code: str) -> None:
    """Whoever has the label is the owner, and the first one only."""
    assert claim(house, grace, "0000-0000-0000") == "secret-wrong"
    assert claim(house, grace, code, "R99") == "secret-wrong"
    assert claim(house, grace, code.lower()) == "ok"
    assert claim(house, ada, code) == "device-claimed"
    assert buys(house, grace) == "ok"
    assert buys(house, ada) == "evidence-not-owner"


def pairing(house: House, owner: Owner, serial: str = "R1") -> str:
    code, until = ownership.begin_pairing(
        house.db, owner, serial, KEY, house.clock(), house.random_bytes
    )
    assert until - house.clock.now <= ownership.PAIRING_LIFE
    return code


def confirm(house: House, code: str, serial: str = "R1", shown: Certificate | None = None) -> str:
    held = shown or house.latest(serial, Purpose.IDENTITY)
    return answer(lambda: ownership.confirm_pairing(house.db, held, code, KEY, house.clock()))


def test_claimed_by_presence(house: House, grace: Owner, ada: Owner) -> None:
    """The device names the code that its owner was shown, and belongs to that owner."""
    mine, hers = pairing(house, grace), pairing(house, ada)
    assert mine != hers
    assert confirm(house, hers, serial="R2") == "pairing-wrong"
    assert confirm(house, mine.replace("-", "").lower()) == "ok"
    assert house.view("R1").device.owner_id == grace.id
    assert confirm(house, hers) == "pairing-wrong"  # claimed: nobody waits any more


def test_a_pairing_lasts_minutes(house: House, grace: Owner) -> None:
    """Later, nobody waits for the device."""
    code = pairing(house, grace)
    house.clock.now += ownership.PAIRING_LIFE
    assert confirm(house, code) == "pairing-wrong"


def test_a_device_that_guesses_is_slowed_down(house: House, grace: Owner) -> None:
    """It can only lock itself out, and not for long."""
    code = pairing(house, grace)
    for _ in range(6):
        assert confirm(house, "000000") == "pairing-wrong"
    assert confirm(house, code) == "login-locked"
    house.clock.now += dt.timedelta(seconds=2)
    assert confirm(house, code) == "ok"


def test_who_may_confirm(house: House, grace: Owner) -> None:
    """The identity certificate alone, if it is good and its device is in service."""
    code = pairing(house, grace)
    service = house.latest("R1", Purpose.SERVICE)
    assert confirm(house, code, shown=service) == "identity-required"
    devices.move(
        house.db, house.tenant.id, "R1", DeviceEvent.SUSPENDED, by=OPERATOR, now=house.clock()
    )
    assert confirm(house, code) == "device-state"
    devices.move(
        house.db, house.tenant.id, "R1", DeviceEvent.RESUMED, by=OPERATOR, now=house.clock()
    )
    revoke(house, house.latest("R1", Purpose.IDENTITY).serial)
    assert confirm(house, code) == "evidence-revoked"


def test_pairing_tells_nothing_of_others(house: House, grace: Owner, ada: Owner) -> None:
    """A device that is not there and one that others own are the same."""
    devices.claim(house.db, house.tenant, "R1", "ada", by=OPERATOR, now=house.clock())
    assert answer(lambda: pairing(house, grace)) == "device-unknown"
    assert answer(lambda: pairing(house, grace, "R99")) == "device-unknown"


@pytest.fixture
def owned(house: House, grace: Owner, ada: Owner, code: str) -> House:
    """R1 is Grace's."""
    assert claim(house, grace, code) == "ok"
    return house


def offer(house: House, owner: Owner, to: str) -> str:
    return answer(lambda: ownership.offer(house.db, owner, "R1", to, house.clock()))


def accept(house: House, owner: Owner) -> str:
    return answer(lambda: ownership.accept(house.db, owner, "R1", house.clock()))


def test_a_transfer(owned: House, grace: Owner, ada: Owner) -> None:
    """Offered by the owner, accepted by the other; from then on the old login buys nothing."""
    assert accept(owned, ada) == "transfer-unknown"
    assert offer(owned, ada, "grace") == "device-unknown"
    assert offer(owned, grace, "nobody") == "owner-unknown"
    assert offer(owned, grace, "grace") == "owner-unknown"
    assert offer(owned, grace, "ada") == "ok"
    assert accept(owned, grace) == "transfer-unknown"
    assert (buys(owned, grace), buys(owned, ada)) == ("ok", "evidence-not-owner")
    assert accept(owned, ada) == "ok"
    assert (buys(owned, grace), buys(owned, ada)) == ("evidence-not-owner", "ok")
    assert accept(owned, ada) == "transfer-unknown"
    changes = [each.action for each in owned.audit("device.owner-changed")]
    assert len(changes) == 2  # claimed, and handed on


def test_an_offer_is_withdrawn_or_runs_out(owned: House, grace: Owner, ada: Owner) -> None:
    """Then nobody can accept it, and the device stays where it is."""

    def withdraw() -> str:
        return answer(lambda: ownership.withdraw(owned.db, grace, "R1", owned.clock()))

    assert withdraw() == "wrong-state"
    assert offer(owned, grace, "ada") == "ok"
    assert withdraw() == "ok"
    assert accept(owned, ada) == "transfer-unknown"
    assert offer(owned, grace, "ada") == "ok"
    owned.clock.now += ownership.OFFER_LIFE
    assert accept(owned, ada) == "transfer-unknown"
    assert owned.view("R1").device.owner_id == grace.id


def test_a_release(owned: House, grace: Owner, ada: Owner, code: str) -> None:
    """The device has no owner, and whoever has its label claims it; an offer ends with it."""

    def release(owner: Owner | None) -> str:
        return answer(
            lambda: ownership.release(
                owned.db, owned.tenant.id, "R1", owner, by=OPERATOR, now=owned.clock()
            )
        )

    assert release(ada) == "device-unknown"
    assert offer(owned, grace, "ada") == "ok"
    assert release(grace) == "ok"
    assert buys(owned, grace) == "evidence-not-owner"
    assert accept(owned, ada) == "transfer-unknown"
    assert release(None) == "wrong-state"
    assert claim(owned, ada, code) == "ok"
    assert release(None) == "ok"  # an operator's word is enough


def test_retired_by_its_owner(owned: House, grace: Owner, ada: Owner) -> None:
    """For good: its certificates are revoked, and nothing buys another one."""

    def retire(owner: Owner) -> str:
        return answer(lambda: ownership.retire(owned.db, owned.keys, owner, "R1", owned.clock()))

    assert retire(ada) == "device-unknown"
    assert retire(grace) == "ok"
    assert owned.view("R1").device.state is DeviceState.RETIRED
    assert owned.held("R1") == []
    assert buys(owned, grace) == "device-state"
