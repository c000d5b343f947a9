"""`certmint-fleet`: a hundred Python agents and five shell agents, all real, at one real server."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509

from .fleet import Fleet, serving
from .shell import pair_is_whole

FLEET = [sys.executable, "-m", "certmint_fleet"]


def run(fleet: Fleet, home: Path, *words: str) -> tuple[int, dict[str, object]]:
    """Exit code and figures, which are printed."""
    done = subprocess.run(
        [*FLEET, *fleet.words, "--home", str(home), "--json", *words],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
def test_a_fleet_renews(tmp_path: Path) -> None:
    """No failure, every pair whole and its own; then the same with power cuts and torn answers."""
    names = [f"R-{n:04}" for n in range(105)]
    server, home = tmp_path / "server", tmp_path / "devices"
    server.mkdir()
    with serving(server, names) as fleet:
        code, said = run(fleet, home, "--shell", "5")
        assert (code, said["without_valid_pair"], said["unfinished"]) == (0, [], {})
        assert said["certificates"] == 210
        folders = [home / each / "tls" for each in names]
        assert all(map(pair_is_whole, folders))
        leaves = {
            x509.load_pem_x509_certificates((each / "live/chain.pem").read_bytes())[0].serial_number
            for each in folders
        }
        assert len(leaves) == len(names)

        code, said = run(
            fleet, home, "--agents", "30", "--shell", "5", "--kill", "0.5", "--drop", "0.3",
            "--seed", "1",
        )  # fmt: skip
        assert (code, said["without_valid_pair"], said["unfinished"]) == (0, [], {})
        agents = said["agents"]
        assert isinstance(agents, dict)
        assert sum(each["killed"] for each in agents.values()) > 0
        assert sum(each["unreachable"] for each in agents.values()) > 0
        assert all(map(pair_is_whole, folders))
        _stop_a_run(fleet, home)


def _stop_a_run(fleet: Fleet, home: Path) -> None:
    """Ctrl-C: what has begun is finished, and the summary is printed."""
    process = subprocess.Popen(
        [*FLEET, *fleet.words, "--home", str(home), "--json", "--over", "1h", "--agents", "8"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(5)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from here" in err
    said = json.loads(out)
    assert (said["interrupted"], said["without_valid_pair"]) == (True, [])


@pytest.mark.slow
def test_a_fleet_waits_for_an_operator(tmp_path: Path) -> None:
    """Both agents keep their keys while they are told to wait, and get what was approved."""
    server, home = tmp_path / "server", tmp_path / "devices"
    server.mkdir()
    with serving(server, ["R-1", "R-2"]) as fleet:
        words = ("--shell", "1", "--renewals", "0")
        certmint(server, "product", "accept", "router", "--approve", "always")
        for _ in range(2):
            code, said = run(fleet, home, *words)
            assert (code, said["without_valid_pair"]) == (1, ["R-1", "R-2"])
            agents = said["agents"]
            assert isinstance(agents, dict)
            assert [each["waiting"] for each in agents.values()] == [1, 1]
        waiting = certmint(server, "device", "requests", "--json").splitlines()
        assert len(waiting) == 2
        for each in map(json.loads, waiting):
            certmint(server, "device", "approve", each["request"])
        code, said = run(fleet, home, *words)
        assert (code, said["without_valid_pair"], said["certificates"]) == (0, [], 2)


def certmint(folder: Path, *words: str) -> str:
    """What a command of the server's operator says."""
    program = str(Path(sys.executable).with_name("certmint"))
    more = ["--config", str(folder / "certmint.toml"), "--manufacturer", "acme"]
    done = subprocess.run([program, *words, *more], capture_output=True, text=True, check=True)
    return done.stdout
