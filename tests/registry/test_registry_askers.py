"""What the registry keeps of who asks: each tenant's own, and no longer than it counts."""

import dataclasses
import datetime as dt

import pytest

from certmint.model.acceptance import STRICT
from certmint.model.entities import Owner, Sighting
from certmint.model.errors import Conflict
from certmint.model.states import DeviceEvent, DeviceState
from certmint.registry import reads, writes
from certmint.registry.reads.askers import AnchorRow, Pairing, Transfer

NOW = dt.datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


def test_a_product_s_policy_is_kept(maker) -> None:
    """With its grace, to the microsecond; a product from before there was one has the default."""
    changed = dataclasses.replace(maker.product, accepts=STRICT, grace=MINUTE)
    maker.write(writes.set_product_policy, changed)
    with maker.db.read() as tx:
        assert reads.product(tx, maker.id, maker.product.id) == changed
        assert reads.product_by_name(tx, maker.id, "router") == changed


def test_why_a_device_is_suspended(maker) -> None:
    """It is kept while it is suspended, and can be asked for."""
    (device,) = maker.devices(1)
    about = (maker.id, device.id)
    maker.write(writes.move_device, *about, DeviceState.EXPECTED, DeviceEvent.MINTED)
    maker.write(
        writes.move_device, *about, DeviceState.PROVISIONED, DeviceEvent.SUSPENDED, reason="cloned"
    )
    with maker.db.read() as tx:
        (found,) = reads.devices(tx, maker.id, suspended_for="cloned")
        assert reads.devices(tx, maker.id, suspended_for="late") == []
    assert (found.id, found.suspended_for) == (device.id, "cloned")
    maker.write(writes.move_device, *about, DeviceState.SUSPENDED, DeviceEvent.RESUMED)
    with maker.db.read() as tx:
        assert reads.device(tx, *about).suspended_for == ""


def test_the_last_sighting_is_kept(maker, rival) -> None:
    """One for each device, the newest, and another maker's device has its own."""
    (device,) = maker.devices(1)
    for minutes, source in ((0, "192.0.2.1"), (1, "192.0.2.2")):
        seen = Sighting(device.id, source, f"key {minutes}", NOW + minutes * MINUTE)
        maker.db.write(lambda tx, seen=seen: writes.set_sighting(tx, maker.id, seen))
    with maker.db.read() as tx:
        assert reads.sighting(tx, maker.id, device.id) == seen
        assert reads.sighting(tx, rival.id, device.id) is None


def test_secrets_hardware_and_roots_stay_with_their_tenant(maker, rival) -> None:
    """The same device id, hardware and root mean nothing to another maker."""
    (device,) = maker.devices(1)
    maker.write(writes.set_label_secrets, maker.id, "claim", [(device.id, "mac")])
    maker.write(writes.expect_hardware, maker.id, device.id, "tpm-ek:ab")
    root = AnchorRow("tpm", "ab", b"der", NOW)
    maker.db.write(
        lambda tx: writes.add_attestation_anchor(tx, maker.id, maker.product.id, root, by="test")
    )
    with maker.db.read() as tx:
        assert reads.label_secret(tx, maker.id, device.id, "claim").mac == "mac"
        assert reads.device_id_by_hardware(tx, maker.id, "tpm-ek:ab") == device.id
        assert reads.attestation_anchors(tx, maker.id, maker.product.id) == [root]
        assert reads.label_secret(tx, rival.id, device.id, "claim") is None
        assert reads.device_id_by_hardware(tx, rival.id, "tpm-ek:ab") is None
        assert reads.attestation_anchors(tx, rival.id, maker.product.id) == []
    with pytest.raises(Conflict) as refusal:
        maker.db.write(
            lambda tx: writes.add_attestation_anchor(
                tx, maker.id, maker.product.id, root, by="test"
            )
        )
    assert refusal.value.code == "anchor-exists"
    assert maker.write(writes.forget_hardware, maker.id, device.id, "tpm-ek:ab")
    assert not maker.write(writes.forget_hardware, maker.id, device.id, "tpm-ek:ab")


def test_offers_end(maker) -> None:
    """By time, by a newer one, or because the device has another owner now."""
    (device,) = maker.devices(1)
    for name in ("ada", "grace"):
        maker.write(writes.add_owner, Owner(name, maker.id, name, NOW), "none")
    offer = Transfer(device.id, "ada", "grace", NOW + MINUTE)
    maker.write(writes.set_transfer, maker.id, offer)
    for owner in ("ada", "grace"):
        wait = Pairing(owner, f"mac of {owner}", NOW + MINUTE)
        maker.write(writes.set_pairing, maker.id, device.id, wait)
    with maker.db.read() as tx:
        assert reads.device_transfer(tx, maker.id, device.id, NOW) == offer
        assert reads.device_transfer(tx, maker.id, device.id, NOW + MINUTE) is None
        waiting = reads.device_pairings(tx, maker.id, device.id, NOW)
        assert [each.owner_id for each in waiting] == ["ada", "grace"]
        assert reads.device_pairings(tx, maker.id, device.id, NOW + MINUTE) == []
    maker.db.write(lambda tx: writes.drop_offers(tx, maker.id, device.id))
    with maker.db.read() as tx:
        assert reads.device_transfer(tx, maker.id, device.id, NOW) is None
        assert reads.device_pairings(tx, maker.id, device.id, NOW) == []
