"""certmint-fleet as it is typed: what it counts, what it says, and when it is no success."""

import datetime as dt
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certmint_fleet.agents import DONE, KILLED, WAITING, Attempt
from certmint_fleet.cli import main
from certmint_fleet.report import Summary, Tally, percentile

NOBODY = "https://127.0.0.1:1"  # nothing listens there


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Two devices' packages, with a key and a certificate of nobody's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    folder = tmp_path / "packages"
    for device in ("R1", "R2"):
        (folder / device).mkdir(parents=True)
        (folder / device / "identity.pem").write_bytes(certificate)
        (folder / device / "key.pem").write_bytes(pem)
    (tmp_path / "root.pem").write_bytes(certificate)
    return folder


def run(packages: Path, *words: str) -> int:
    home, root = packages.parent / "home", packages.parent / "root.pem"
    return main([
        "--server", NOBODY, "--ca-file", str(root), "--packages", str(packages),
        "--home", str(home), *words,
    ])  # fmt: skip


def test_a_fleet_without_a_server_is_no_success(
    packages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every agent says why, both kinds, and who has no pair is named."""
    assert run(packages, "--shell", "1", "--renewals", "0", "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["without_valid_pair"] == ["R1", "R2"]
    assert set(said["unfinished"]) == {"R1", "R2"}
    assert [said["agents"][kind]["unreachable"] for kind in ("python", "shell")] == [1, 1]
    assert said["certificates"] == 0
    assert said["agents"]["python"]["p50_ms"] is None


def test_people_read_a_table(packages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each kind of agent that was there, the sum, and the reasons."""
    assert run(packages, "--renewals", "0", "--agents", "1") == 1
    said = capsys.readouterr()
    head, row, total, reason = said.out.splitlines()
    assert head.split()[:3] == ["agents", "issued", "renewed"]
    assert row.split()[:4] == ["python", "1", "0", "0"]
    assert "1 agents without a valid pair: R1" in total
    assert reason.startswith("R1: ")
    assert said.err == "1 of 1 attempts, 1 agents failing\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--agents", "3"), "has 2 packages, not 3"),
        (("--shell", "3"), "--shell 3 of 2 agents"),
        (("--kill", "1"), "not a share"),
        (("--over", "soon"), "not a duration"),
        (("--server", "https://192.0.2.1", "--drop", "0.5"), "is not this machine"),
    ],
)
def test_what_makes_no_sense_is_said(
    packages: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], why: str
) -> None:
    """Exit code 2, and the value that is wrong."""
    with pytest.raises(SystemExit) as end:
        run(packages, *words)
    assert end.value.code == 2
    assert why in capsys.readouterr().err


def test_an_empty_folder_is_no_fleet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what a package is."""
    with pytest.raises(SystemExit):
        run(tmp_path)
    assert "folders with identity.pem and key.pem" in capsys.readouterr().err


def test_percentiles_are_values_that_were_measured() -> None:
    """Of a hundred, the fiftieth and the ninety-ninth; of one, that one."""
    hundred = [n / 1000 for n in range(100, 0, -1)]
    assert (percentile(hundred, 50), percentile(hundred, 99)) == (50.0, 99.0)
    assert (percentile([0.25], 50), percentile([0.25], 99)) == (250.0, 250.0)
    assert percentile([], 50) is None


def test_a_killed_attempt_is_no_failure() -> None:
    """Injected deaths are counted by themselves; first certificates and renewals, too."""
    tally = Tally(agents=1)
    for attempt, is_first in (
        (Attempt(KILLED, 0.1), True), (Attempt(DONE, 0.2), True), (Attempt(DONE, 0.3), False),
        (Attempt("Refused", 0.1, "no"), False), (Attempt("CheckFailed", 0.1, "no"), False),
        (Attempt(WAITING, 0.1, "request-pending"), False),
    ):  # fmt: skip
        tally.count(attempt, is_first=is_first)
    row = tally.row()
    kinds = ("issued", "renewed", "waiting", "refused", "other", "killed")
    assert [row[name] for name in kinds] == [1] * 6
    assert Summary({"python": tally}, 1.0, [], {}, interrupted=False).is_good
    assert not Summary({"python": tally}, 1.0, ["R1"], {}, interrupted=False).is_good
