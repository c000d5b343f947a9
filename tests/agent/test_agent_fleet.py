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
