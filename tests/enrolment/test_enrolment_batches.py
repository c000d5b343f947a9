"""Factory batches: each serial once, with one key and one identity, whatever interrupts."""

import base64
import datetime as dt
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from certmint.enrolment import batches, revocation
from certmint.enrolment.issue import Step
from certmint.enrolment.packages import PackageFormat
from certmint.enrolment.spool import Spool
from certmint.model.errors import BadInput, Conflict, Refused
from certmint.model.pbes2 import BatchCipher, batch_cipher
from certmint.model.states import BatchState, DeviceEvent, DeviceState
from certmint.registry import reads, writes

from .house import House, packages, whole

PASSPHRASE = b"a passphrase for the line"
LATER = dt.timedelta(minutes=3)  # than a lease lasts


class Stopped(Exception):
    """What a Ctrl-C makes of the progress callback."""


def serials(count: int, first: int = 1) -> list[str]:
    return [f"N{number:04}" for number in range(first, first + count)]


def stop(after: int) -> Any:
    """A progress callback that is interrupted once this many devices are done."""
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        if done >= after:
            raise Stopped

    return progress


def break_names(house: House) -> str:
    """A product whose service names the SubCA does not permit, so that only identities pass."""
    house.add_product("stray", "service", "{id}.dev.example.net")
    return "stray"


def test_a_batch_is_one_package_a_device(each_house: House) -> None:
    """Minting ends with a key and two certificates for every line, and with a finished batch."""
    house, names = each_house, serials(5)
    batch = house.submit(*names)
    heard: list[int] = []
    assert house.mint(batch, progress=heard.append) == []
    whole(house, batch, house.folder / "line", names)
    assert sum(heard) == 5
    states = house.read(reads.count_devices_by_state, batch.id)
    assert states == {DeviceState.PROVISIONED: 5}


def test_the_same_manifest_is_the_same_batch(house: House) -> None:
    """Submitting a file twice makes no second batch, and minting it again is refused."""
    batch = house.submit("N1")
    assert house.submit("N1").id == batch.id
    house.mint(batch)
    with pytest.raises(Refused) as refusal:
        house.mint(batch)
    assert refusal.value.code == "batch-finished"


@pytest.mark.parametrize("line", ["R1", "N9,,r1", "R1,02:00:00:00:00:09,other"])
def test_what_an_earlier_batch_has_is_not_taken_twice(house: House, line: str) -> None:
    """A serial number or label of an earlier batch refuses the whole manifest."""
    before = house.read(reads.count_devices_by_state)
    with pytest.raises(Conflict) as refusal:
        house.submit("N1", line)
    assert refusal.value.code == "device-exists"
    assert house.read(reads.count_devices_by_state) == before
    assert len(house.read(reads.batches)) == 1


@pytest.mark.parametrize("line", ["SN_1", "N1,,ab--cd", f"N1,,{'x' * 60}"])
def test_a_device_that_could_not_be_named(house: House, line: str) -> None:
    """What no certificate can carry is refused with the manifest, and not in the middle of it."""
    house.add_product("long", "service", "{id}-router.example.com")
    with pytest.raises(BadInput) as refusal:
        house.submit("N0", line, product="long")
    assert refusal.value.code == "manifest-syntax"
    assert refusal.value.detail.startswith("line 3: ")
    assert len(house.read(reads.batches)) == 1


def test_interrupted_between_chunks_and_resumed(house: House) -> None:
    """Ctrl-C after the first chunk loses nothing, and the rest follows in the same folder."""
    names = serials(batches.CHUNK + 3)
    batch, out = house.submit(*names), house.folder / "line"
    with pytest.raises(Stopped):
        house.mint(batch, form=PackageFormat.JSONL, progress=stop(1))
    assert house.batch(batch).state is BatchState.RUNNING
    assert len(_lines(out)) == batches.CHUNK
    assert house.mint(batch, form=PackageFormat.JSONL) == []
    assert [line["serial"] for line in _lines(out)] == names
    assert house.batch(batch).state is BatchState.FINISHED


def _lines(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "packages.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("form", list(PackageFormat))
def test_killed_between_packages_and_spool(house: House, form: PackageFormat) -> None:
    """Packages that were written just before a crash are not written a second time beside."""
    names, out = serials(4), house.folder / "line"
    batch = house.submit(*names)

    def keep_spool(step: Step) -> None:
        if step is Step.STORED and not (house.folder / "kept").exists():
            shutil.copytree(out / ".spool", house.folder / "kept")

    house.reached = keep_spool
    with pytest.raises(Stopped):
        house.mint(batch, form=form, progress=stop(4))
    for path in (house.folder / "kept").glob("keys-*"):
        shutil.copy(path, out / ".spool")  # as if the power had failed before it was dropped
    if form is PackageFormat.JSONL:
        torn = (out / "packages.jsonl").read_bytes()[:-40]
        (out / "packages.jsonl").write_bytes(torn)
    assert house.mint(batch, form=form) == []
    if form is PackageFormat.JSONL:
        assert sorted(line["serial"] for line in _lines(out)) == names
    else:
        assert packages(out) == names
    for name in names:
        assert len(house.held(name)) == 2


def test_another_folder_is_refused_every_time(house: House) -> None:
    """A batch goes on where its keys are: no other folder is taken, however often one tries."""
    batch = house.submit(*serials(3))
    with pytest.raises(Stopped):
        house.mint(batch, progress=stop(3))
    house.clock.now += LATER
    for _ in range(2):
        with pytest.raises(BadInput) as refusal:
            house.mint(batch, "elsewhere")
        assert refusal.value.code == "batch-folder"
    house.mint(batch)
    whole(house, batch, house.folder / "line", serials(3))


def test_a_folder_belongs_to_one_batch(house: House) -> None:
    """Packages of two batches never mix in one folder."""
    house.mint(house.submit("N1"))
    with pytest.raises(BadInput) as refusal:
        house.mint(house.submit("N2"))
    assert refusal.value.code == "batch-folder"
    assert house.held("N2") == []


def test_two_stations_at_once(house: House) -> None:
    """While one station mints, another is told to wait, and leaves no claim behind."""
    batch = house.submit(*serials(3))
    refusals = []

    def second_station(step: Step) -> None:
        if step is Step.SIGNED and not refusals:
            with pytest.raises(Conflict) as refusal:
                house.mint(batch, "elsewhere")
            refusals.append(refusal.value.code)

    house.reached = second_station
    house.mint(batch, progress=lambda _: None)
    assert refusals == ["batch-elsewhere"]
    whole(house, batch, house.folder / "line", serials(3))
    assert not (house.folder / "elsewhere" / ".spool" / "station.json").exists()


def test_two_processes_in_one_folder(house: House) -> None:
    """The second one is told that the folder is in use, and changes nothing."""
    batch = house.submit("N1")
    first = Spool(house.folder / "line", batch.id, None, house.random_bytes)
    for _ in range(2):
        with pytest.raises(Conflict) as refusal:
            house.mint(batch)
        assert refusal.value.code == "batch-locked"
    first.close()
    assert house.mint(batch) == []


def test_a_station_that_overslept_its_lease(house: House) -> None:
    """Whose lease ended while the key store worked stores nothing if another one took over."""
    names = serials(3)
    batch = house.submit(*names)

    def oversleep(step: Step) -> None:
        if step is Step.SIGNED:
            house.reached = lambda _: None
            house.clock.now += LATER
            assert house.mint(batch, "other") == []

    house.reached = oversleep
    with pytest.raises(Conflict) as refusal:
        house.mint(batch)
    assert refusal.value.code == "batch-elsewhere"
    whole(house, batch, house.folder / "other", names)


def test_a_device_is_not_minted_again_with_another_key(house: House) -> None:
    """An identity that waits for its service certificate is not replaced in another folder."""
    batch = house.submit("N1", "N2", product=break_names(house))
    house.mint(batch)
    house.clock.now += LATER
    identities = [house.held(name) for name in ("N1", "N2")]
    for _ in range(2):
        refused = house.mint(batch, "elsewhere")
        assert {each.code for each in refused} == {"device-minted"}
    assert [house.held(name) for name in ("N1", "N2")] == identities


@pytest.mark.parametrize("passphrase", [b"", b"another passphrase, as long"])
def test_resuming_with_another_passphrase(house: House, passphrase: bytes) -> None:
    """Half of a batch under one passphrase and half under another is nothing a line can use."""
    batch = house.submit("N1")
    with pytest.raises(Stopped):
        house.mint(batch, passphrase=PASSPHRASE, progress=stop(1))
    with pytest.raises(BadInput) as refusal:
        house.mint(batch, passphrase=passphrase)
    assert refusal.value.code == "passphrase-wrong"
    assert house.mint(batch, passphrase=PASSPHRASE) == []


def test_a_wrong_passphrase_is_found_even_if_it_decrypts(tmp_path: Path) -> None:
    """A wrong key decrypts the spool's check to plausible bytes once in some 50,000 times."""
    right = batch_cipher(PASSPHRASE, bytes(16))
    spool = Spool(tmp_path, "b", right, bytes)
    spool.begin()
    spool.close()
    known = json.loads((tmp_path / ".spool" / "station.json").read_text())
    wrong = _plausible(right, known["check"])
    with pytest.raises(BadInput) as refusal:
        Spool(tmp_path, "b", wrong, bytes)
    assert refusal.value.code == "passphrase-wrong"


def _plausible(right: BatchCipher, check: str) -> BatchCipher:
    for number in range(1_000_000):
        key = hashlib.sha256(number.to_bytes(4, "big")).digest()
        wrong = BatchCipher(key, right.derivation)
        try:
            wrong.decrypt(base64.b64decode(check))
        except BadInput:
            continue
        return wrong
    raise AssertionError("no wrong key decrypts it")


def test_refused_devices_leave_the_others_minted(each_house: House) -> None:
    """What policy refuses waits with its key and its identity until the cause is mended."""
    house, out = each_house, each_house.folder / "line"
    house.add_product("lan", "service", "{id}.lan", issuer="issuing")
    house.assert_name("n1.lan")
    house.assert_name("n3.lan")
    batch = house.submit("N1", "N2", "N3", product="lan")
    refused = house.mint(batch)
    assert [(each.serial_number, each.code) for each in refused] == [("N2", "name-not-validated")]
    assert house.batch(batch).state is BatchState.RUNNING
    assert packages(out) == ["N1", "N3"]
    rows = (out / "result.csv").read_text().splitlines()
    assert [row.rsplit(",", 1)[1] for row in rows[1:]] == ["", "name-not-validated", ""]
    (identity,) = house.held("N2")
    assert len(house.mint(batch)) == 1, "nothing was mended, so nothing changed"
    house.assert_name("n2.lan")
    assert house.mint(batch) == []
    assert identity in house.held("N2")
    whole(house, batch, out, ["N1", "N2", "N3"])


def test_a_device_retired_while_its_key_waits(house: House) -> None:
    """Nothing is certified for it any more, and the batch can still be finished."""
    batch = house.submit("N1", "N2", product=break_names(house))
    house.mint(batch)
    for name in ("N1", "N2"):
        revocation.retire_device(
            house.db, house.keys, house.tenant.id, name, by="test", now=house.clock()
        )
    assert house.mint(batch) == []
    assert house.batch(batch).state is BatchState.FINISHED
    assert house.held("N1") == house.held("N2") == []


def test_a_device_retired_before_its_batch_begins(house: House) -> None:
    """It gets nothing, and keeps nobody from minting the others."""
    batch = house.submit("N1", "N2")
    house.db.write(
        lambda tx: writes.move_device(
            tx, house.tenant.id, house.view("N1").device.id, DeviceState.EXPECTED,
            DeviceEvent.RETIRED, by="test", at=house.clock.now,
        )
    )  # fmt: skip
    assert house.mint(batch) == []
    assert packages(house.folder / "line") == ["N2"]


def test_a_serial_number_like_one_of_the_batch_s_own_files(house: House) -> None:
    """The maker's serial numbers never collide with the result or get out of the folder."""
    names = ["result.csv", "a/b:c", "packages.jsonl"]
    batch = house.submit(*(f"{name},,x{place}" for place, name in enumerate(names)))
    assert house.mint(batch) == []
    assert len(packages(house.folder / "line")) == 3
    assert (house.folder / "line" / "result.csv").is_file()
