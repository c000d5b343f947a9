"""SIGKILL at every step: what left is on record, what was begun has a status, work goes on."""

import datetime as dt
import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certmint.enrolment.issue import Step
from certmint.enrolment.packages import PackageFormat
from certmint.enrolment.reconcile import reconcile
from certmint.registry import reads
from certmint.registry.rows import Intent

from .house import NOW, House, csr, status_of, whole

NO_GRACE = dt.timedelta(0)
DEVICES = ["N1", "N2", "N3"]
BEFORE_INTENT = (Step.ENTERED, Step.GATHERED, Step.DECIDED, Step.PREPARED)
INTENDED = (Step.RECORDED, Step.SIGNED)

Orders = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def mortal() -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """A process that carries out orders in children of its own, which may die of them."""
    script = Path(__file__).with_name("crash.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def give(order: dict[str, Any]) -> dict[str, Any]:
            process.stdin.write(json.dumps(order) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            answer = process.stdout.readline()  # type: ignore[union-attr]
            assert answer, "the other process has ended"
            return json.loads(answer)

        yield give
        process.stdin.close()  # type: ignore[union-attr]
        process.wait(10)


@pytest.fixture
def order(mortal: Any, url: str, home: Path, tmp_path: Path) -> Orders:
    """Gives an order about this house; how the child ended, and what it had given away."""
    place = {"url": url, "home": str(home), "folder": str(tmp_path)}
    later = NOW

    def give(do: str, **words: Any) -> dict[str, Any]:
        nonlocal later
        later += dt.timedelta(minutes=1)
        return mortal({"do": do, "now": later.isoformat()} | place | words)

    return give


def all_serials(house: House) -> list[str]:
    return [each.serial for each in house.read(reads.certificates, limit=100_000)]


def tidied(house: House) -> list[Intent]:
    """What `reconcile` abandoned; after it every serial has a certificate or is revoked."""
    house.clock.now += dt.timedelta(days=1)
    abandoned = reconcile(house.db, house.keys, house.clock.now, NO_GRACE)
    for intent in abandoned:
        assert status_of(house, intent) == ("revoked", True)
    assert house.read(reads.count_certificates).orphans == 0
    serials = all_serials(house)
    assert len(serials) == len(set(serials))
    assert house.is_chained()
    return abandoned


@pytest.mark.parametrize("step", list(Step))
def test_a_renewal_dies(each_house: House, order: Orders, step: Step) -> None:
    """Wherever it dies, the device holds nothing unknown, and asking again succeeds."""
    house, request = each_house, csr().der.hex()
    before = all_serials(house)

    died = order("renew", serial="R1", csr=request, step=step)

    assert died == {"ended": -signal.SIGKILL, "answer": None}
    new = set(all_serials(house)) - set(before)
    orphans = house.read(reads.count_certificates).orphans
    assert orphans == (step in INTENDED)
    assert len(new) == (step not in (*BEFORE_INTENT, *INTENDED))
    again = order("renew", serial="R1", csr=request)  # at once, before anything is tidied up
    assert again["ended"] == 0
    given = x509.load_der_x509_certificate(bytes.fromhex(again["answer"]))
    held = {int(each.serial, 16): each.der for each in house.held("R1")}
    assert held[given.serial_number].hex() == again["answer"]
    assert len(held) == 3  # identity, the factory's certificate and this one
    assert len(tidied(house)) == orphans
    assert house.view("R1").service.serial == f"{given.serial_number:040x}"  # type: ignore[union-attr]


@pytest.mark.parametrize("step", INTENDED)
def test_an_abandoned_renewal_is_no_successor(each_house: House, order: Orders, step: Step) -> None:
    """After tidying up, what the dead request was to replace can be replaced."""
    house = each_house
    old = house.view("R1").service
    order("renew", serial="R1", csr=csr().der.hex(), step=step)
    (abandoned,) = tidied(house)
    assert abandoned.replaces == old.serial  # type: ignore[union-attr]
    assert house.view("R1").service == old
    assert order("renew", serial="R1", csr=csr().der.hex())["ended"] == 0
    assert house.read(reads.certificate, old.serial).successor is not None  # type: ignore[union-attr]


def mint(order: Orders, serials: list[str], passphrase: str = "", **words: Any) -> dict[str, Any]:
    return order("mint", serials=serials, form="pem", passphrase=passphrase, **words)


def written(house: House) -> list[str]:
    """The certificates that stand in packages on the disk, whole or not."""
    found = []
    for path in (house.folder / "line").rglob("*.pem"):
        if path.name != "key.pem":
            leaf = x509.load_pem_x509_certificate(path.read_bytes())
            found.append(leaf.public_bytes(serialization.Encoding.DER).hex())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("call", [1, 2], ids=["devices", "result"])
@pytest.mark.parametrize("step", list(Step))
def test_a_factory_chunk_dies(each_house: House, order: Orders, step: Step, call: int) -> None:
    """Wherever the line dies, resuming it gives each serial once, with two good certificates."""
    house = each_house

    assert mint(order, DEVICES, step=step, call=call)["ended"] == -signal.SIGKILL

    on_record = {each.der.hex() for name in DEVICES for each in house.held(name)}
    assert set(written(house)) <= on_record
    abandoned = tidied(house)
    assert len(abandoned) == (step in INTENDED) * (6 if call == 1 else 1)
    assert mint(order, DEVICES)["answer"] == b"[]".hex()
    whole(house, house.submit(*DEVICES), house.folder / "line", DEVICES)
    assert tidied(house) == []


@pytest.mark.slow
def test_a_line_dies_again_and_again(each_house: House, order: Orders) -> None:
    """Ten deaths at random moments of one batch, most of them between two packages."""
    house, passphrase = each_house, "a passphrase for the line"
    names = [f"N{number:02}" for number in range(40)]
    house.submit(*names)
    chance = random.Random(2)
    # While keys are sealed for the spool; between the first packages; then on resuming them.
    sealing, resumed = chance.sample(range(1, 41), 3), chance.sample(range(1, 40), 6)
    for draw in (*sealing, chance.randrange(125, 160), *resumed):
        assert mint(order, names, passphrase, draw=draw)["ended"] == -signal.SIGKILL
        assert set(written(house)) <= {
            each.der.hex() for name in names for each in house.held(name)
        }
    assert mint(order, names, passphrase)["answer"] == b"[]".hex()
    whole(house, house.submit(*names), house.folder / "line", names, passphrase.encode())
    tidied(house)


@pytest.mark.slow
@pytest.mark.parametrize("form", list(PackageFormat))
def test_a_line_dies_while_it_writes(each_house: House, order: Orders, form: PackageFormat) -> None:
    """The same in every format, dying when a third of the packages' keys are sealed."""
    house, names = each_house, [f"N{number}" for number in range(9)]
    words = {"serials": names, "form": form.value, "passphrase": "a passphrase for the line"}
    house.submit(*names)
    draw = 31 if form is PackageFormat.PKCS12 else 33  # that one is sealed without our randomness
    assert order("mint", **words, draw=draw)["ended"] == -signal.SIGKILL
    out = house.folder / "line"
    for path in out.glob("[!.]*"):  # what a line could flash by now is whole
        assert path.name in (*names, "packages.jsonl")
        files = {PackageFormat.PEM: 3, PackageFormat.DER: 4, PackageFormat.PKCS12: 2}.get(form)
        assert path.is_file() or len(list(path.iterdir())) == files
    assert order("mint", **words)["answer"] == b"[]".hex()
    if form is PackageFormat.JSONL:
        lines = (out / "packages.jsonl").read_text().splitlines()
        assert sorted(json.loads(line)["serial"] for line in lines) == names
    else:
        assert sorted(path.name for path in out.glob("N*")) == names
    assert not list(out.glob(".N*"))
    for name in names:
        assert len(house.held(name)) == 2
