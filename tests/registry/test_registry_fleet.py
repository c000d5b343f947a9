"""Products, devices, batches and owners."""

import concurrent.futures
import dataclasses

import pytest

from certmint.model.errors import BadInput, CertmintError, Conflict, NotFound, WrongState
from certmint.model.states import (
    BATCH,
    DEVICE,
    BatchEvent,
    BatchState,
    DeviceEvent,
    DeviceState,
)
from certmint.registry import audit, reads, writes
from certmint.registry.engine import Database


def test_a_product_comes_back_equal(db: Database, maker) -> None:
    """By id and by name, name patterns and the exact renewal share included."""
    with db.read() as tx:
        assert reads.product(tx, maker.id, maker.product.id) == maker.product
        assert reads.product_by_name(tx, maker.id, "router") == maker.product
        assert reads.product(tx, maker.id, "absent") is None
        assert reads.product_by_name(tx, maker.id, "absent") is None


def test_products_are_listed_in_pages(db: Database, maker) -> None:
    """By name; a name is taken once."""
    made = [maker.product, *(maker.new_product(name) for name in ("switch", "camera", "door"))]
    seen: list[str] = []
    with db.read() as tx:
        while page := reads.products(tx, maker.id, after=seen[-1] if seen else None, limit=2):
            seen += [each.name for each in page]

    assert seen == sorted(each.name for each in made)
    with pytest.raises(Conflict) as refusal:
        maker.write(writes.add_product, dataclasses.replace(maker.product, id="prd-2"))
    assert refusal.value.code == "product-exists"


def test_devices_come_back_equal(db: Database, maker) -> None:
    """Singly by id and by serial number, and many by id."""
    made = maker.devices(1_203)  # more than one piece of an IN list
    with db.read() as tx:
        assert reads.device(tx, maker.id, made[7].id) == made[7]
        assert reads.device_by_serial_number(tx, maker.id, made[8].serial_number) == made[8]
        assert reads.device(tx, maker.id, "absent") is None
        assert reads.device_by_serial_number(tx, maker.id, "absent") is None
        wanted = [device.id for device in made] + ["absent"]
        assert reads.devices_by_id(tx, maker.id, wanted) == {each.id: each for each in made}
        assert reads.devices_by_id(tx, maker.id, []) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"serial_number": "SN1"},
        {"label": "r1"},
        {"line": 1},
        {"id": "dev-1"},
    ],
)
@pytest.mark.parametrize("stored", [True, False], ids=["stored-before", "same-call"])
def test_a_duplicate_device_is_named_and_nothing_is_stored(
    db: Database, maker, changes: dict[str, object], stored: bool
) -> None:
    """The whole manifest is refused with the first serial number that is in the way."""
    first = maker.new_devices(1, id="dev-1", serial_number="SN1", label="r1", line=1)
    others = maker.new_devices(3)
    duplicate = maker.new_devices(1, **changes)
    if stored:
        maker.write(writes.add_devices, first)
        first = []

    with pytest.raises(Conflict) as refusal:
        maker.write(writes.add_devices, [*first, *others, *duplicate])

    assert refusal.value.code == "device-exists"
    assert repr(duplicate[0].serial_number) in str(refusal.value)
    with db.read() as tx:
        assert sum(reads.count_devices_by_state(tx, maker.id).values()) == stored


def test_a_device_that_a_manifest_lists_twice_is_named(maker) -> None:
    """Also when the two lines are equal in everything."""
    first, second = maker.new_devices(2)

    with pytest.raises(Conflict) as refusal:
        maker.write(writes.add_devices, [first, second, second])

    assert repr(second.serial_number) in str(refusal.value)


def test_the_same_devices_again_are_a_conflict(maker) -> None:
    """Adding a manifest twice is refused, however equal the devices are."""
    made = maker.devices(3)

    with pytest.raises(Conflict) as refusal:
        maker.write(writes.add_devices, made)

    assert repr(made[0].serial_number) in str(refusal.value)


def test_devices_of_two_tenants_are_not_added_together(maker, rival) -> None:
    """One call, one tenant: its audit event belongs to somebody."""
    with pytest.raises(BadInput) as refusal:
        maker.write(writes.add_devices, maker.new_devices(1) + rival.new_devices(1))

    assert refusal.value.code == "device-tenant"


def test_adding_no_devices_changes_nothing(db: Database, maker) -> None:
    """An empty manifest leaves no event behind."""
    with db.read() as tx:
        before = audit.verify(tx).events
    maker.write(writes.add_devices, [])
    with db.read() as tx:
        assert audit.verify(tx).events == before


def test_devices_are_listed_in_pages_and_by_what_they_are(db: Database, maker) -> None:
    """By serial number; by product, batch and state; every one once."""
    switch, batch = maker.new_product("switch"), maker.new_batch("manifest-2")
    routers = maker.devices(7)
    switches = maker.new_devices(5, product_id=switch.id, batch_id=batch.id)
    maker.write(writes.add_devices, switches)
    maker.write(
        writes.move_device, maker.id, switches[0].id, DeviceState.EXPECTED, DeviceEvent.MINTED
    )

    def listed(**which: object) -> list[str]:
        seen: list[str] = []
        with db.read() as tx:
            while page := reads.devices(
                tx, maker.id, after=seen[-1] if seen else None, limit=3, **which
            ):
                seen += [each.serial_number for each in page]
        return seen

    assert listed() == [each.serial_number for each in routers + switches]
    assert listed(product_id=switch.id) == [each.serial_number for each in switches]
    assert listed(batch_id=maker.batch.id) == [each.serial_number for each in routers]
    assert listed(state=DeviceState.PROVISIONED) == [switches[0].serial_number]
    assert listed(product_id=maker.product.id, state=DeviceState.PROVISIONED) == []


def test_a_batch_is_read_in_the_order_of_its_lines(db: Database, maker) -> None:
    """From behind any line on, all of them or those in one state."""
    made = list(reversed(maker.new_devices(6)))  # ids and lines run against each other
    made = [dataclasses.replace(each, line=place) for place, each in enumerate(made, 1)]
    maker.write(writes.add_devices, made)
    maker.write(writes.move_device, maker.id, made[2].id, DeviceState.EXPECTED, DeviceEvent.MINTED)

    def lines(**which: object) -> list[int | None]:
        with db.read() as tx:
            return [
                each.line for each in reads.batch_devices(tx, maker.id, maker.batch.id, **which)
            ]

    assert lines() == [1, 2, 3, 4, 5, 6]
    assert lines(after_line=4) == [5, 6]
    assert lines(limit=2) == [1, 2]
    assert lines(state=DeviceState.EXPECTED, after_line=1, limit=3) == [2, 4, 5]
    assert lines(state=DeviceState.PROVISIONED) == [3]


@pytest.mark.parametrize("state", list(DeviceState))
@pytest.mark.parametrize("event", list(DeviceEvent))
def test_a_device_moves_as_its_table_says(
    sqlite_db: Database, make_tenant, state: DeviceState, event: DeviceEvent
) -> None:
    """Every state and every event: the table's move happens, any other is WrongState."""
    maker = make_tenant(sqlite_db, "alpha")
    (made,) = maker.new_devices(1, state=state)
    maker.write(writes.add_devices, [made])
    expected = DEVICE[state].get(event)

    if expected is None:
        with pytest.raises(WrongState):
            maker.write(writes.move_device, maker.id, made.id, state, event)
    else:
        assert maker.write(writes.move_device, maker.id, made.id, state, event) == expected

    with sqlite_db.read() as tx:
        found = reads.device(tx, maker.id, made.id)
    assert found == dataclasses.replace(made, state=expected or state)


def test_of_threads_that_move_a_device_one_wins(db: Database, maker) -> None:
    """Suspending and retiring at the same moment leaves the state of one of the two."""
    (made,) = maker.new_devices(1, state=DeviceState.ACTIVE)
    maker.write(writes.add_devices, [made])
    events = [DeviceEvent.SUSPENDED, DeviceEvent.RETIRED] * 4

    def move(event: DeviceEvent) -> DeviceState | str:
        try:
            return maker.write(writes.move_device, maker.id, made.id, DeviceState.ACTIVE, event)
        except CertmintError as error:
            return error.code

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(move, events))

    won = [outcome for outcome in outcomes if outcome != "wrong-state"]
    with db.read() as tx:
        found = reads.device(tx, maker.id, made.id)
    assert found is not None
    assert won == [found.state]


def test_an_unknown_device_cannot_move(maker) -> None:
    """The error says that there is none."""
    with pytest.raises(NotFound) as refusal:
        maker.write(writes.move_device, maker.id, "absent", DeviceState.ACTIVE, DeviceEvent.RETIRED)

    assert refusal.value.code == "device-unknown"


def test_many_devices_move_at_once(db: Database, maker) -> None:
    """Those that were in the state are counted and moved, with one event for all of them."""
    made = maker.devices(1_100)
    moved_before = [device.id for device in made[:10]]

    def minted(ids: list[str]) -> int:
        return maker.write(
            writes.move_devices, maker.id, ids, DeviceState.EXPECTED, DeviceEvent.MINTED
        )

    assert minted(moved_before) == 10
    with db.read() as tx:
        events = audit.verify(tx).events
    assert minted([device.id for device in made] + ["absent"]) == 1_090
    assert minted(moved_before) == 0
    assert minted([]) == 0
    with db.read() as tx:
        assert audit.verify(tx).events == events + 1
        assert reads.count_devices_by_state(tx, maker.id) == {DeviceState.PROVISIONED: 1_100}


def test_devices_are_counted_by_state(db: Database, maker) -> None:
    """Of the tenant and of one batch; states without devices are left out."""
    other = maker.new_batch("manifest-2")
    first = maker.devices(4)
    maker.write(writes.add_devices, maker.new_devices(2, batch_id=other.id))
    maker.write(writes.move_device, maker.id, first[0].id, DeviceState.EXPECTED, DeviceEvent.MINTED)

    with db.read() as tx:
        assert reads.count_devices_by_state(tx, maker.id) == {
            DeviceState.EXPECTED: 5, DeviceState.PROVISIONED: 1,
        }  # fmt: skip
        assert reads.count_devices_by_state(tx, maker.id, other.id) == {DeviceState.EXPECTED: 2}
        assert reads.count_devices_by_state(tx, maker.id, "absent") == {}


def test_a_manifest_is_one_batch(db: Database, maker) -> None:
    """The same manifest of the same product leads to the batch that is there."""
    with db.read() as tx:
        assert reads.batch(tx, maker.id, maker.batch.id) == maker.batch
        found = reads.batch_by_manifest(tx, maker.id, maker.product.id, "manifest-1")
        assert found == maker.batch
        assert reads.batch(tx, maker.id, "absent") is None
        assert reads.batch_by_manifest(tx, maker.id, maker.product.id, "manifest-2") is None
    with pytest.raises(Conflict) as refusal:
        maker.write(writes.add_batch, dataclasses.replace(maker.batch, id="bat-2"))
    assert refusal.value.code == "batch-exists"


def test_batches_are_listed_in_pages(db: Database, maker) -> None:
    """By id, each once."""
    made = [maker.batch, *(maker.new_batch(f"manifest-{n}") for n in range(2, 6))]
    seen: list[str] = []
    with db.read() as tx:
        while page := reads.batches(tx, maker.id, after=seen[-1] if seen else None, limit=2):
            seen += [each.id for each in page]

    assert seen == [each.id for each in made]


def test_a_batch_moves_as_its_table_says(db: Database, maker) -> None:
    """DRAFT, RUNNING, FINISHED; each once, and no way back."""

    def move(state: BatchState, event: BatchEvent) -> BatchState:
        return maker.write(writes.move_batch, maker.id, maker.batch.id, state, event)

    for state, moves in BATCH.items():
        for event in set(BatchEvent) - set(moves):
            with pytest.raises(WrongState):
                move(state, event)
    assert move(BatchState.DRAFT, BatchEvent.STARTED) is BatchState.RUNNING
    with pytest.raises(WrongState):
        move(BatchState.DRAFT, BatchEvent.STARTED)
    assert move(BatchState.RUNNING, BatchEvent.COMPLETED) is BatchState.FINISHED
    with pytest.raises(WrongState):
        move(BatchState.RUNNING, BatchEvent.ABANDONED)
    with pytest.raises(NotFound) as refusal:
        maker.write(writes.move_batch, maker.id, "absent", BatchState.DRAFT, BatchEvent.STARTED)
    assert refusal.value.code == "batch-unknown"


def test_an_owner_is_found_with_the_hash_of_the_password(db: Database, maker) -> None:
    """By login within the tenant; a login is taken once."""
    made = maker.new_owner()
    maker.write(writes.add_owner, made, "argon2")

    with db.read() as tx:
        assert reads.owner_credentials(tx, maker.id, "grace") == (made, "argon2")
        assert reads.owner_credentials(tx, maker.id, "absent") is None
        assert reads.owner(tx, maker.id, made.id) == made
        assert reads.owner(tx, maker.id, "absent") is None
    with pytest.raises(Conflict) as refusal:
        maker.write(writes.add_owner, dataclasses.replace(made, id="own-2"), "other")
    assert refusal.value.code == "owner-exists"


def test_a_device_is_claimed_by_one_owner(db: Database, maker) -> None:
    """Whoever comes second is told so; handing it on needs the present owner's name."""
    (made,) = maker.devices(1)
    for name in ("grace", "linus"):
        maker.write(writes.add_owner, maker.new_owner(name), "argon2")

    def hand(to: str | None, expected: str | None) -> None:
        maker.write(writes.set_device_owner, maker.id, made.id, to, expected)

    hand("own-grace", None)
    with pytest.raises(Conflict) as refusal:
        hand("own-linus", None)
    assert refusal.value.code == "device-claimed"
    hand("own-linus", "own-grace")
    with pytest.raises(Conflict):
        hand("own-grace", "own-grace")
    hand(None, "own-linus")
    with pytest.raises(NotFound) as absent:
        hand("own-absent", None)
    assert absent.value.code == "reference-unknown"
    with db.read() as tx:
        assert reads.device(tx, maker.id, made.id) == made
    with pytest.raises(NotFound) as unknown:
        maker.write(writes.set_device_owner, maker.id, "absent", "own-grace", None)
    assert unknown.value.code == "device-unknown"


def test_devices_are_found_by_how_their_serial_number_begins(db: Database, maker) -> None:
    """A range of the index, on both databases; what begins otherwise is not in it."""
    numbers = ("A1", "A10", "A2", "B1")
    made = [
        dataclasses.replace(each, serial_number=number)
        for each, number in zip(maker.new_devices(4), numbers, strict=True)
    ]
    maker.write(writes.add_devices, made)

    def found(prefix: str) -> list[str]:
        with db.read() as tx:
            rows = reads.devices(tx, maker.id, prefix=prefix)
        return [each.serial_number for each in rows]

    assert found("A1") == ["A1", "A10"]
    assert found("A") == ["A1", "A10", "A2"]
    assert found("C") == []
