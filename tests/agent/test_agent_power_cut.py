"""The power fails after each single change to the disk: `live` is always a whole pair.

SIGKILL proves the order of the changes. That they reach the disk in this order is fsync's part,
which the last test reads from the system calls.
"""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from certmint_agent.renewal import renew

DRIVER = Path(__file__).with_name("power_cut.py")

pytestmark = pytest.mark.slow


def deaths(path: Path, mode: str, report: Path) -> list[dict]:
    subprocess.run([sys.executable, str(DRIVER), str(path), mode, str(report)], check=True)
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert lines[-1]["killed"] != -signal.SIGKILL, "the driver stopped before the last step"
    for line in lines:
        assert line["dead"]["pair"], line
        assert line["after"]["pair"], line
    return lines[:-1]


def tidy(entries: list[str]) -> bool:
    return not any(e.startswith(".") or e == "pending" for e in entries)


def test_a_first_enrolment_that_dies_anywhere(world, device, tmp_path: Path) -> None:
    """The next attempt ends with one proved version, and no second certificate was issued."""
    lines = deaths(device.toml(), "first", tmp_path / "report")
    assert {"pending complete", "answer received", "live switched"} <= {x["step"] for x in lines}
    for line in lines:
        assert line["survived"] == 0, line
        assert line["after"]["serial"], line
        assert tidy(line["after"]["entries"]), line
        if line["dead"]["serial"]:
            assert line["after"]["serial"] == line["dead"]["serial"], line
    assert len(world.by_csr) == len(lines) + 1  # the last enrolment was not killed


def test_a_renewal_that_dies_anywhere(device, tmp_path: Path) -> None:
    """The router has the old pair or the new pair, each whole, at every moment."""
    renew(device.agent())
    lines = deaths(device.toml(), "again", tmp_path / "report")
    assert len(lines) > 15
    old, new = [], []
    for line in lines:
        same = line["dead"]["serial"] == line["before"]["serial"]
        (old if same else new).append(line["step"])
        assert line["dead"]["serial"], line
        assert line["survived"] == 0, line
        assert tidy(line["after"]["entries"]), line
        assert len(line["after"]["entries"]) <= 2, line
    assert "link written" in old
    assert "live switched" in new


def test_a_rollback_that_dies_anywhere(device, tmp_path: Path) -> None:
    """A router that serves nothing, and the power fails during the way back: the old pair wins."""
    renew(device.agent())
    serial = f"{device.live()[1].serial_number:040x}"
    path = device.toml(check_address="127.0.0.1:1", check_timeout_s=0.1)
    lines = deaths(path, "again", tmp_path / "report")
    assert "failed set aside" in [line["step"] for line in lines]
    for line in lines:
        assert line["survived"] == 6, line
        assert line["after"]["serial"] == serial, line
        assert tidy(line["after"]["entries"]), line


def test_everything_is_synced_before_it_is_named(device, tmp_path: Path, require) -> None:
    """Each file is fsynced, then its folder, then renamed, and the parent is synced after that."""
    strace = require("strace", package="strace")
    trace = tmp_path / "trace"
    done = subprocess.run(
        [
            *(
                strace,
                "-f",
                "-y",
                "-o",
                str(trace),
                "-e",
                "trace=fsync,rename,renameat,renameat2",
            ),
            *(sys.executable, "-m", "certmint_agent", "enrol", "--config", str(device.toml())),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("this machine does not allow strace")
    assert done.returncode == 0, done.stderr
    calls = [c for c in map(_call, trace.read_text().splitlines()) if c]
    version = next(i for i, c in enumerate(calls) if re.fullmatch(r"\S+ -> \d{8}T\w+-1", c))
    assert calls[version - 4 : version + 4] == [
        "sync key.pem",
        "sync chain.pem",
        "sync state.json",
        "sync .new",
        calls[version],
        "sync versions",
        ".live -> live",
        "sync tls",
    ]


def _call(line: str) -> str | None:
    if found := re.search(r"fsync\(\d+<[^>]*?([^/>]+)>", line):
        return f"sync {found[1]}"
    if found := re.search(r'rename\w*\(.*?"[^"]*?([^/"]+)".*?"[^"]*?([^/"]+)"', line):
        return f"{found[1]} -> {found[2]}"
    return None
