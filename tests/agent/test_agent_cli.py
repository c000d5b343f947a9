"""The commands as a person or an init system runs them: words, exit codes, signals."""

import json
import signal
import subprocess
import sys

import pytest

from certmint_agent.cli import main


def problem(status: int, headers=()):
    def fault(handler) -> bool:
        handler.problem(status, "some-code", "a sentence\x1b[2J\nand more", headers)
        return True

    return fault


def test_enrol_renew_status(world, device, run_agent) -> None:
    """The three commands that end, in the order in which people type them."""
    first = run_agent("enrol")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("installed, and valid until 20")
    second = run_agent("renew")
    assert second.returncode == 0
    assert second.stdout.startswith("not due: valid until 20")
    assert run_agent("renew", "--force").stdout.startswith("installed")
    shown = run_agent("status", "--json")
    assert shown.returncode == 0
    facts = json.loads(shown.stdout)
    assert facts["valid"]
    assert facts["proved"]
    assert facts["names"] == list(world.names)
    assert facts["key"] == "file:"
    assert f"{device.live()[1].serial_number:x}" == facts["serial"]


def test_a_key_from_the_server_on_the_command_line(world, device, run_agent) -> None:
    """`enrol --key-from-server` asks the key management, not the certificate endpoint."""
    assert run_agent("enrol", "--key-from-server").returncode == 0
    assert [path for path, _, _ in world.requests] == ["/base/api/v1/device/keys"]
    device.live()


def test_status_of_an_empty_device(device, capsys) -> None:
    """Exit code 1 tells a monitoring script that no valid certificate is installed."""
    assert main(["status", "--config", str(device.toml())]) == 1
    assert "installed        False" in capsys.readouterr().out


@pytest.mark.parametrize(("status", "code"), [(503, 3), (429, 3), (500, 3), (403, 4), (302, 4)])
def test_each_failure_is_one_sentence_and_an_exit_code(world, device, capsys, status, code) -> None:
    """No traceback, no control characters of the server's, nothing on stdout."""
    world.faults.append(problem(status))
    assert main(["enrol", "--config", str(device.toml())]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("certmint-agent: ")
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_other_failures(world, device, capsys, tmp_path) -> None:
    """Configuration, router and folder have exit codes of their own."""
    assert main(["renew", "--config", str(tmp_path / "none.toml")]) == 2
    assert main(["renew", "--config", str(device.toml(identity_key="none.key"))]) == 2
    assert main(["renew", "--config", str(device.toml(ca_file="none.pem"))]) == 2
    assert main(["enrol", "--config", str(device.toml(reload_command=["false"]))]) == 6
    with device.agent().store.locked():
        assert main(["renew", "--config", str(device.toml())]) == 7
    (tmp_path / "file").write_text("")
    assert main(["enrol", "--config", str(device.toml(service_folder="file"))]) == 8
    assert capsys.readouterr().err.count("\n") == 6


def test_the_usage_names_the_exit_codes(capsys) -> None:
    """`--help` is enough to write a script."""
    with pytest.raises(SystemExit):
        main(["renew", "--help"])
    assert "exit codes" in capsys.readouterr().out


def test_run_enrols_then_stops_on_sigterm(device, running_agent, eventually) -> None:
    """A device's init system starts `run`, and SIGTERM ends it cleanly."""
    agent = running_agent()
    eventually(lambda: device.live() is not None)
    agent.send_signal(signal.SIGTERM)
    out, err = agent.communicate(timeout=20)
    assert (agent.returncode, err) == (0, "")
    assert "renewed: valid until" in out
    assert out.endswith("stopped\n")


def test_sighup_reads_the_configuration_again(world, device, running_agent, eventually) -> None:
    """New names take effect without a restart, and a broken file does not end the agent."""
    agent = running_agent()
    eventually(lambda: len(world.by_csr) == 1)
    path = device.toml(names=["other.example.com"])
    agent.send_signal(signal.SIGHUP)
    eventually(lambda: len(world.by_csr) == 2)
    path.write_text("nonsense")
    agent.send_signal(signal.SIGHUP)
    lines = [agent.stdout.readline() for _ in range(4)]
    assert "the configuration was read again" in lines[1]
    assert "the configuration stays as it was" in lines[3]
    agent.send_signal(signal.SIGTERM)
    agent.communicate(timeout=20)
    assert agent.returncode == 0


def test_run_survives_a_bad_server(world, device, running_agent) -> None:
    """A failure is a line and a wait, not an end."""
    world.faults.append(problem(503, [("Retry-After", "3600")]))
    agent = running_agent()
    line = agent.stdout.readline()
    assert "later" in line
    assert float(line.rsplit("in ", 1)[1].split()[0]) >= 3600
    assert agent.poll() is None
    agent.send_signal(signal.SIGTERM)
    agent.communicate(timeout=20)
    assert agent.returncode == 0


def test_run_does_not_start_with_a_wrong_configuration(device) -> None:
    """A typing error shows at the start, with the exit code for it."""
    done = subprocess.run(
        [sys.executable, "-m", "certmint_agent", "run", "--config", device.toml(colour="red")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "unknown key 'colour'" in done.stderr
