"""What is installed on devices: the agent's own wheel, systemd's units, OpenWrt's init script."""

import datetime as dt
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import certmint_agent
from certmint_agent.config import load

from .shell import SCRIPT

PACKAGING = Path(__file__).parents[2] / "packaging"
OPENWRT = PACKAGING / "openwrt" / "files"


def build_wheel(into: Path) -> Path:
    """By hatchling, which is here; a build front-end would fetch it from the network."""
    order = f"import hatchling.build; print(hatchling.build.build_wheel({str(into)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", order], cwd=PACKAGING / "agent",
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return into / done.stdout.split()[-1]


def test_the_wheel_holds_the_agent_and_nothing_of_the_server(tmp_path: Path) -> None:
    """Both agents, one dependency."""
    with zipfile.ZipFile(build_wheel(tmp_path)) as wheel:
        names = wheel.namelist()
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        needs = re.findall(r"^Requires-Dist: (.*)$", wheel.read(metadata).decode(), re.MULTILINE)
    assert "certmint_agent/cli.py" in names
    assert any(name.endswith(".data/scripts/certmint-agent.sh") for name in names)
    assert not [name for name in names if name.startswith("certmint/") or "__pycache__" in name]
    assert [each for each in needs if "extra" not in each] == ["cryptography>=42"]
    (extra,) = (each for each in needs if "extra" in each)
    assert re.fullmatch(r"python-pkcs11\S*; extra == .pkcs11.", extra)


@pytest.mark.slow
def test_the_wheel_installs_and_both_agents_start(tmp_path: Path) -> None:
    """In an environment of its own, with the cryptography of this one."""
    wheel = build_wheel(tmp_path)
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin/python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index",
         "--quiet", "--disable-pip-version-check", wheel],
        check=True,
    )  # fmt: skip
    here = next(p for p in sys.path if (Path(p) / "cryptography").is_dir())
    environment = {"PYTHONPATH": here, "PATH": "/usr/bin:/bin"}
    for program, expected in (("certmint-agent", "Keep the HTTPS"), ("certmint-agent.sh", "usage")):
        done = subprocess.run(
            [home / "bin" / program, "--help"], env=environment, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert expected in done.stdout


def test_the_build_date_is_raised_by_one_command(tmp_path: Path) -> None:
    """stamp.sh writes the day of the build into both agents, and never goes back."""
    for path in ("packaging/stamp.sh", "src/certmint_agent/__init__.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(PACKAGING / "stamp.sh", tmp_path / "packaging")
    for name in ("__init__.py", SCRIPT.name):
        shutil.copy(SCRIPT.with_name(name), tmp_path / "src/certmint_agent")
    later = certmint_agent.BUILD_DATE + dt.timedelta(days=400)

    def stamp(seconds: float) -> int:
        words = ["sh", tmp_path / "packaging/stamp.sh", str(int(seconds))]
        return subprocess.run(words, capture_output=True, check=False).returncode

    assert stamp(later.timestamp() + 3600) == 0
    assert stamp(certmint_agent.BUILD_DATE.timestamp()) == 1
    script = (tmp_path / "src/certmint_agent" / SCRIPT.name).read_text()
    assert f"\nBUILD_DATE={int(later.timestamp())} # {later:%Y-%m-%d}: no clock" in script
    scope: dict[str, object] = {}
    exec((tmp_path / "src/certmint_agent/__init__.py").read_text(), scope)  # noqa: S102 - ours
    assert scope["BUILD_DATE"] == later


def test_both_agents_were_built_on_one_day() -> None:
    """The two BUILD_DATEs are one, as stamp.sh leaves them."""
    found = re.search(r"^BUILD_DATE=(\d+)", SCRIPT.read_text(), re.MULTILINE)
    assert found
    assert int(found[1]) == certmint_agent.BUILD_DATE.timestamp()


@pytest.mark.slow
def test_systemd_accepts_the_units(tmp_path: Path, require) -> None:
    """systemd-analyze finds nothing to say, once the program is where the units expect it."""
    program = require("systemd-analyze", package="systemd")
    for unit in (PACKAGING / "systemd").iterdir():
        text = unit.read_text().replace("/usr/bin/certmint-agent", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    units = sorted(tmp_path.iterdir())
    drop_in = tmp_path / "certmint-agent.service.d"
    drop_in.mkdir()
    shutil.copy(PACKAGING / "examples/systemd-hardware.conf", drop_in)
    done = subprocess.run(
        [program, "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# OpenWrt

STUBS = """
config_load() { [ "$1" = certmint-agent ]; }
config_get() { eval "$1=\\$UCI_$3"; }
config_get_bool() { eval "$1=\\${UCI_$3:-$4}"; }
for each in open_instance set_param close_instance add_reload_trigger; do
    eval "procd_$each() { echo $each \\"\\$@\\"; }"
done
"""


def init_script(tmp_path: Path, order: str, **uci: str) -> str:
    """What the init script's functions say to procd, under BusyBox, with a UCI of the test."""
    if shutil.which("busybox") is None:
        pytest.skip("busybox is not here: apt-get install busybox")
    done = subprocess.run(
        ["busybox", "ash", "-euc", f"{STUBS}\n. {OPENWRT}/certmint-agent.init\n{order}"],
        env={
            "PATH": "/usr/bin:/bin",
            "CERTMINT_LIB": str(OPENWRT),
            "CERTMINT_CONFIG": str(tmp_path / "etc/agent.conf"),
            **{f"UCI_{key}": value for key, value in uci.items()},
            **{f"UCI_{key}": "" for key in uci_keys() - uci.keys()},
        },
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def uci_keys() -> set[str]:
    text = (OPENWRT / "uci-to-config.sh").read_text()
    return set(text.partition("KEYS='")[2].partition("'")[0].split())


def test_uci_knows_what_the_agent_knows() -> None:
    """The converter's list of keys is the agent's, and the defaults are among them."""
    agent = set(SCRIPT.read_text().partition("KEYS='")[2].partition("'")[0].split())
    assert uci_keys() == agent
    options = re.findall(r"option (\w+)", (OPENWRT / "certmint-agent.config").read_text())
    assert set(options) - {"enabled"} <= agent


def test_uhttpd_reads_what_the_agent_keeps_fresh() -> None:
    """The example's files are the live ones of the default configuration, whose reload restarts it.

    By hand this was tried with a real uhttpd; no distribution but OpenWrt has one.
    """
    ours = dict(re.findall(r"option (\w+) '(.*)'", (OPENWRT / "certmint-agent.config").read_text()))
    example = (PACKAGING / "examples/uhttpd").read_text()
    theirs = dict(re.findall(r"(?m)^\toption (\w+) '(.*)'$", example))
    live = f"{ours['service_folder']}/live"
    assert (theirs["cert"], theirs["key"]) == (f"{live}/chain.pem", f"{live}/key.pem")
    assert f"'{ours['reload_command']}'" in example
    port = ours["check_address"].rpartition(":")[2]
    listens = re.findall(r"list listen_https '.*:(\d+)'", example)
    assert listens
    assert set(listens) == {port}
    lines = [line for line in example.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"config uhttpd 'main'|\t(list|option) \w+ '[^']*'", x) for x in lines)


def test_procd_starts_the_agent_with_the_configuration_of_uci(tmp_path: Path) -> None:
    """The file is written before the start, for root alone; a change of it restarts the agent."""
    said = init_script(
        tmp_path, "start_service\nservice_triggers", enabled="1",
        server="https://certmint.example.com", reload_command="/etc/init.d/uhttpd restart",
    )  # fmt: skip
    written = tmp_path / "etc/agent.conf"
    assert written.read_text() == (
        "server=https://certmint.example.com\nreload_command=/etc/init.d/uhttpd restart\n"
    )
    assert written.stat().st_mode & 0o77 == 0
    assert f"command /usr/bin/certmint-agent.sh run --config {written}\n" in said
    assert "respawn" in said
    assert "add_reload_trigger certmint-agent" in said


def test_procd_starts_nothing_before_it_is_configured(tmp_path: Path) -> None:
    """The package is installed switched off."""
    assert init_script(tmp_path, "start_service", enabled="0") == ""


def test_the_documented_example_of_the_python_agent_loads(tmp_path: Path) -> None:
    """docs/agents.md shows an agent.toml that the agent accepts."""
    text = (PACKAGING.parent / "docs/agents.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "agent.toml").write_text(example)
    assert load(tmp_path / "agent.toml").server.startswith("https://")
