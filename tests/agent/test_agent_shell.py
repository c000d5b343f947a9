"""The shell agent under BusyBox's ash and under dash, with curl and with openssl alone."""

import base64
import datetime as dt
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from .shell import SCRIPT, Shell, make_shell, pair_is_whole

WAYS = [("ash", True), ("ash", False), ("dash", True), ("dash", False)]


def settings(world) -> dict[str, object]:
    return {
        "server": world.url,
        "ca_file": world.folder / "ca.pem",
        "identity_certificate": world.folder / "idevid.pem",
        "identity_key": world.folder / "idevid.key",
    }


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{'curl' if way[1] else 'openssl'}")
def each(request, world, tmp_path: Path) -> Shell:
    """A device of each of the four kinds."""
    name, curl = request.param
    return make_shell(name, tmp_path / "device", curl=curl, **settings(world))


@pytest.fixture
def shell(world, tmp_path: Path) -> Shell:
    """The smallest device: BusyBox and openssl."""
    return make_shell("ash", tmp_path / "device", curl=False, **settings(world))


def leaf_of(shell: Shell) -> x509.Certificate:
    return chain_of(shell)[0]


def chain_of(shell: Shell) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates((shell.service / "live/chain.pem").read_bytes())


def test_it_fits_a_small_flash_and_is_clean(require) -> None:
    """Under 16 kB, and shellcheck has nothing to say."""
    assert SCRIPT.stat().st_size < 16 * 1024
    assert os.access(SCRIPT, os.X_OK)
    done = subprocess.run(
        [require("shellcheck", package="shellcheck"), "-s", "sh", SCRIPT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == ""


def test_enrol_then_renew_with_a_new_key(world, each: Shell) -> None:
    """A first certificate with its chain, then another with another key and the same names."""
    code, said, complained = each.run("enrol")
    assert (code, complained) == (0, "")
    assert said.startswith("installed: valid until ")
    first = leaf_of(each)
    assert chain_of(each)[1:] == [world.issuing.certificate]
    assert pair_is_whole(each.service)
    assert (each.service / "live/key.pem").stat().st_mode & 0o77 == 0
    assert each.run("enrol")[0] == 0
    assert leaf_of(each).public_key() != first.public_key()
    paths = [path for path, _, _ in world.requests]
    assert paths == [f"/base/.well-known/est/{x}" for x in ("simpleenroll", "simplereenroll")]
    assert each.versions() == ["1", "2"]
    code, said, _ = each.run("status")
    assert code == 0
    assert "router.example.com" in said


def test_not_due_is_said_and_asks_for_nothing(world, shell: Shell) -> None:
    """The moment is drawn once: a second look says the same."""
    shell.run("enrol")
    first, second = shell.run("renew"), shell.run("renew")
    assert first == second
    assert first[1].startswith("not due")
    assert len(world.by_csr) == 1


def test_a_window_that_moves_is_followed(world, shell: Shell) -> None:
    """The server says "now", as it does in an incident: the next look renews."""
    shell.run("enrol")
    now = world.now()
    hour = dt.timedelta(hours=1)
    world.newest["renewal"] = {"start": str(now - 2 * hour), "end": str(now - hour)}
    world.newest["renewal"] = {
        key: dt.datetime.fromisoformat(value).strftime("%Y-%m-%dT%H:%M:%SZ")
        for key, value in world.newest["renewal"].items()
    }
    code, said, _ = shell.run("renew")
    assert code == 0
    assert said.startswith("installed")
    assert len(world.by_csr) == 2


def test_another_kind_of_key_and_names_of_its_own(world, shell: Shell) -> None:
    """RSA where old clients need it; names where the configuration has them."""
    assert shell.run("enrol", key_kind="rsa-2048", names="a.example.com 192.168.1.1")[0] == 0
    assert leaf_of(shell).public_key().key_size == 2048
    san = leaf_of(shell).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in san] == ["a.example.com", "192.168.1.1"]


def test_what_the_server_must_not_send(world, shell: Shell) -> None:
    """A stranger's key, other names, a dead certificate, no certificate: nothing is installed."""
    shell.run("enrol")
    before = leaf_of(shell)
    issue = world.issue
    stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
    world.issue = lambda _, names: issue(stranger, names)
    code, _, complained = shell.run("enrol")
    assert code == 5
    assert complained == (
        "certmint-agent.sh: the certificate is not for our key and "
        "rt-0001.dev.example.com router.example.com\n"
    )
    world.issue = lambda public, _: issue(public, ["evil.example.com"])
    assert shell.run("enrol")[0] == 5
    world.issue = issue
    world.lifetime = dt.timedelta(minutes=30)  # it starts an hour ago
    code, _, complained = shell.run("enrol")
    assert code == 5
    assert "no CA vouches" in complained
    world.lifetime = dt.timedelta(days=90)
    world.authorities = lambda: b"\x30\x00"
    assert shell.run("enrol")[0] == 5
    assert leaf_of(shell) == before


def test_a_chain_of_a_stranger_is_refused(world, shell: Shell) -> None:
    """A CA of the right name and another key vouches for nothing."""
    world.authorities = lambda true=world.authorities: (
        setattr(world, "issuing", world.root.below("Test Issuing")) or true()
    )
    honest = world.issuing
    world.issue = lambda public, names, issue=world.issue: (
        setattr(world, "issuing", honest) or issue(public, names)
    )
    code, _, complained = shell.run("enrol")
    assert code == 5
    assert "no CA vouches" in complained


def test_later_and_no(world, each: Shell) -> None:
    """Busy keeps the request and says 3; a refusal drops it and says 4; each in one sentence."""
    world.faults += [
        lambda _: False,
        lambda handler: handler.problem(503, "busy", "later", [("Retry-After", "7")]) or True,
    ]
    code, _, complained = each.run("enrol")
    assert (code, complained.count("\n")) == (3, 1)
    assert each.versions() == ["pending"]
    key = (each.service / "versions/pending/key.pem").read_bytes()
    assert each.run("enrol")[0] == 0
    assert (each.service / "live/key.pem").read_bytes() == key
    world.faults += [lambda _: False] + [
        lambda handler: handler.problem(403, "retired", "gone\x1b[2J for good") or True
    ] * 2
    code, _, complained = each.run("enrol")
    assert code == 4
    assert "403" in complained
    assert "pending" not in each.versions()
    assert "\x1b" not in complained


def test_only_the_ca_file_is_trusted(world, each: Shell) -> None:
    """A server of another CA, or of another name, is not the server."""
    other = world.folder / "other.pem"
    other.write_bytes(world.root.below("x").certificate.public_bytes(Encoding.PEM))
    assert each.run("enrol", ca_file=other)[0] == 3
    assert each.run("enrol", server=world.url.replace("localhost", "127.0.0.1"))[0] == 3
    world.stop()
    world.start(name="other.example.com")
    assert each.run("enrol", server=world.url)[0] == 3
    assert world.requests == []


def test_curl_does_not_trust_the_roots_of_the_system(world, tmp_path: Path) -> None:
    """A curl that was built with a folder of roots has it from the first word of its command.

    What the script says comes later, and wins; a script that says nothing would be taken in.
    """
    shell = make_shell("dash", tmp_path / "device", curl=True, **settings(world))
    words = ["openssl", "x509", "-noout", "-hash", "-in", world.folder / "ca.pem"]
    name = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    roots = tmp_path / "roots"
    roots.mkdir()
    (roots / f"{name}.0").symlink_to(world.folder / "ca.pem")
    curl = (shell.bin / "curl").readlink()
    shell.program("curl", f'#!/bin/sh\nexec {curl} -q --capath {roots} "$@"\n')
    stranger = world.folder / "stranger.pem"
    stranger.write_bytes(world.root.below("x").certificate.public_bytes(Encoding.PEM))
    assert shell.run("enrol", ca_file=stranger)[0] == 3
    assert world.requests == []
    shell.script = shell.folder / "certmint-agent.sh"
    shell.script.write_text(SCRIPT.read_text().replace(" capath $w/none", ""))
    assert shell.run("enrol", ca_file=stranger)[0] != 3


def test_an_owner_logs_in_and_the_password_is_seen_nowhere(world, each: Shell) -> None:
    """Every word of every command is recorded: the password is in none, nor in what is said."""
    log = each.folder / "argv"
    for name in ("openssl", "curl", "tr", "cat", "sed"):
        if (each.bin / name).exists():
            real = (each.bin / name).readlink()
            call = f"{real} {name}" if real.name == "busybox" else str(real)
            each.program(name, f'#!/bin/sh\necho {name} "$@" >>{log}\nexec {call} "$@"\n')
    password = each.folder / "password"
    password.write_text("correct horse\n")
    login = {"owner_username": "acme/jo", "owner_password_file": password}
    nobody = {"identity_certificate": "", "identity_key": ""}
    code, said, complained = each.run("enrol", **login, **nobody)
    assert (code, complained) == (0, "")
    assert "-newkey" in log.read_text()
    secret = "acme/jo:correct horse"
    for form in ("correct", base64.b64encode(secret.encode()).decode()):
        assert form not in log.read_text() + said
    password.write_text("wrong\n")
    code, _, complained = each.run("enrol", **login, **nobody)
    assert code == 4
    assert "401" in complained


def late(shell: Shell, days: int) -> None:
    """A build of the agent that is newer than the device's clock."""
    shell.script = shell.folder / "certmint-agent.sh"
    date = int(time.time()) + days * 86400
    text = SCRIPT.read_text()
    lines = [f"BUILD_DATE={date}" if x.startswith("BUILD_DATE=") else x for x in text.split("\n")]
    shell.script.write_text("\n".join(lines))


def test_a_lost_clock_takes_the_servers_time(world, each: Shell) -> None:
    """Judged at the server's time, which may not be before the build either."""
    late(each, 10)
    code, _, complained = each.run("enrol")  # the server's clock is before the build too
    assert code == 3
    assert "the clock is lost" in complained
    real = world.now
    world.now = lambda: real() + dt.timedelta(days=20)
    assert each.run("enrol")[0] == 3  # the server's certificate has expired by then
    world.stop()
    world.start(end=real() + dt.timedelta(days=40))
    code, said, _ = each.run("enrol", server=world.url)
    assert code == 0
    assert said.startswith("the clock is lost; the server says 20")
    assert leaf_of(each).not_valid_before_utc > real() + dt.timedelta(days=19)


def test_a_router_that_does_not_serve_it_gets_the_old_one_back(
    world, shell: Shell, device, router_for
) -> None:
    """Roll-back, and the same certificate is tried again without asking for another."""
    device.folder = shell.service
    assert shell.run("enrol")[0] == 0
    router = router_for(device)
    command = shell.folder / "reload"
    command.write_text(f"#!/bin/sh\nkill -HUP {router.process.pid}\n")
    command.chmod(0o755)
    check = {
        "reload_command": f"{command} now",
        "check_address": f"127.0.0.1:{router.address[1]}",
        "check_timeout_s": 1,
    }
    old = leaf_of(shell)
    router.break_reload("ignore")
    code, _, complained = shell.run("enrol", **check)
    assert code == 6
    assert "did not serve it; the previous one is back" in complained
    assert leaf_of(shell) == old
    assert shell.versions() == ["1", "failed"]
    state = shell.service / "versions/1/state"
    state.write_text("0 0 1 1\n")  # due
    router.break_reload("")
    code, said, _ = shell.run("renew", **check)
    assert code == 0
    assert said.startswith("installed")
    assert router.presented() == leaf_of(shell) != old
    assert len(world.by_csr) == 2


def test_a_first_certificate_stays_though_nobody_serves_it(world, shell: Shell) -> None:
    """There is nothing to go back to; the next attempt looks again and asks for nothing."""
    check = {"check_address": "127.0.0.1:1", "check_timeout_s": 1}
    assert shell.run("enrol", **check)[0] == 6
    assert shell.run("renew", **check)[0] == 6
    assert shell.run("renew")[0] == 0
    assert len(world.by_csr) == 1


def test_one_agent_at_a_time(world, shell: Shell) -> None:
    """A living owner of the lock is waited for; that of before the power cut is not."""
    lock = shell.service / "lock"
    lock.mkdir(parents=True)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    started = Path("/proc/self/stat").read_text().rsplit(") ", 1)[1].split()[19]
    field = Path("/proc/self/stat").read_text().split(" ")[21]
    assert field == started, "this test's process has a space in its name"
    (lock / "owner").write_text(f"{os.getpid()} {started} {boot}\n")
    assert shell.run("enrol")[0] == 7
    for stale in (f"{os.getpid()} {started} another-boot", f"{os.getpid()} 1 {boot}", ""):
        lock.mkdir(exist_ok=True)
        (lock / "owner").write_text(stale)
        assert shell.run("enrol")[0] == 0, stale
        assert not lock.exists()


def test_a_file_system_without_links(shell: Shell) -> None:
    """Key and chain are one file then, replaced by one rename."""
    shell.program("ln", "#!/bin/sh\nexit 1\n")
    for number in (1, 2):
        assert shell.run("enrol")[0] == 0
        pair = (shell.service / "live/pair.pem").read_bytes()
        assert pair == (shell.service / f"versions/{number}/pair.pem").read_bytes()
    assert [path.name for path in (shell.service / "live").iterdir()] == ["pair.pem"]
    assert shell.run("renew")[1].startswith("not due")
    assert shell.versions() == ["1", "2"]


def test_a_full_or_read_only_disk_is_said(shell: Shell) -> None:
    """One sentence and exit code 8, whatever fails first."""
    for broken in ("mkdir", "mv"):
        shell.program(broken, "#!/bin/sh\nexit 1\n")
        process = shell.start("enrol")
        _, err = process.communicate(timeout=30)
        assert process.returncode == 8
        assert err.count("\n") == 1
        shell.program(broken, f'#!/bin/sh\nexec /bin/busybox {broken} "$@"\n')


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"server": "http://x"}, "https"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"names": "$(touch /tmp/never)"}, "strange character"),
        ({"ca_file": "two words"}, "strange character"),
        ({"ca_file": "missing.pem"}, "missing.pem cannot be read"),
        ({"key_kind": "dsa"}, "key_kind"),
        ({"check_timeout_s": "soon"}, "check_timeout_s"),
        ({"service_folder": ""}, "service_folder"),
    ],
)
def test_a_wrong_setting_is_named(shell: Shell, change: dict[str, str], says: str) -> None:
    """Exit code 2 and the setting; nothing in the file is ever run."""
    code, _, complained = shell.run("enrol", **change)
    assert code == 2
    assert says in complained


def test_run_enrols_waits_and_stops(world, each: Shell) -> None:
    """HUP looks at once; TERM ends it, and no lock or temporary file stays."""
    process = each.start("run")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("installed")
    process.send_signal(signal.SIGHUP)
    assert process.stdout.readline().startswith("not due")
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 143
    assert not (each.service / "lock").exists()
    assert not list((each.folder / "tmp").iterdir())


def test_run_backs_off(world, shell: Shell) -> None:
    """After a failure it waits a minute at least, and as long as the server wishes."""
    world.faults += [
        lambda handler: handler.problem(503, "b", "l", [("Retry-After", "5000")]) or True
    ]
    process = shell.start("run")
    assert process.stdout is not None
    words = process.stdout.readline().split()
    assert words[:3] == ["trying", "again", "in"]
    assert 5000 <= int(words[3]) <= 5500
    process.terminate()
    process.communicate(timeout=10)


def test_nothing_installed_is_no_status(shell: Shell) -> None:
    """Exit code 1, and a sentence."""
    assert shell.run("status")[::2] == (1, "certmint-agent.sh: nothing is installed\n")
