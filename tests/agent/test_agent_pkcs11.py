"""Service keys in a PKCS#11 token: SoftHSM, looked into with GnuTLS's programs."""

import datetime as dt
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .hardware import PIN
from .test_agent_power_cut import deaths, tidy


def later(handler) -> bool:
    handler.problem(503, "busy", "later")
    return True


def key_files(device) -> list[str]:
    return sorted(path.name for path in device.folder.glob("versions/*/key*"))


@pytest.mark.parametrize("kind", ["ec-p256", "rsa-2048"])
def test_the_key_is_made_in_the_token_and_signs_there(device, run_agent, token, kind: str) -> None:
    """No key file exists; the key cannot be read out; the live URI is all that GnuTLS needs."""
    done = run_agent("enrol", key_store=token.key_store, key_kind=kind)
    assert (done.returncode, done.stderr) == (0, "")
    assert key_files(device) == ["key.nginx.conf", "key.uri"]
    token.signs_for(device.folder / "live")
    shown = token.p11tool("--list-privkeys")
    assert "CKA_SENSITIVE" in shown
    assert "CKA_NEVER_EXTRACTABLE" in shown
    shown = run_agent("status", "--json", key_store=token.key_store)
    facts = json.loads(shown.stdout)
    assert facts["valid"]
    uri = (device.folder / "live/key.uri").read_text()
    assert uri.startswith(facts["key"] + "?pin-source=/")
    assert facts["key"].startswith("pkcs11:token=router;object=https;id=%63")
    line = (device.folder / "live/key.nginx.conf").read_text()
    assert line == f'ssl_certificate_key "engine:pkcs11:{uri.strip()}";\n'
    for text in (done.stdout, shown.stdout, uri, line):
        assert PIN not in text


def test_each_renewal_has_a_key_of_its_own_and_one_old_one_stays(device, run_agent, token) -> None:
    """A token has little room: two keys are there, however often the device renews."""
    seen: set[str] = set()
    for number in (1, 2, 3):
        assert run_agent("renew", "--force", key_store=token.key_store).returncode == 0
        now = token.keys()
        assert len(now) == min(number, 2)
        assert len(now - seen) == 1
        seen |= now
        token.signs_for(device.folder / "live")


def test_an_answer_that_was_lost_is_asked_for_with_the_same_key(
    world, device, run_agent, token
) -> None:
    """The pending key is found again in the token by a process that did not make it."""
    world.faults += [lambda _: False, later]
    assert run_agent("enrol", key_store=token.key_store).returncode == 3
    assert device.entries() == ["pending"]
    made = token.keys()
    assert run_agent("enrol", key_store=token.key_store).returncode == 0
    assert token.keys() == made
    assert len({request["csr"] for _, request, _ in world.requests}) == 1


def test_the_old_key_stays_until_the_router_serves_the_new_one(
    world, device, run_agent, token
) -> None:
    """Back to the old pair, whose key still signs; then the same new one is tried once more."""
    nobody = {"check_address": "127.0.0.1:1", "check_timeout_s": 0.1}
    for _ in range(2):
        assert run_agent("enrol", key_store=token.key_store).returncode == 0
    old, held = token.signs_for(device.folder / "live"), token.keys()
    done = run_agent("enrol", key_store=token.key_store, **nobody)
    assert done.returncode == 6
    assert token.signs_for(device.folder / "live") == old
    assert held < token.keys()
    state = device.folder / "live/state.json"
    due = {"renew_at": (world.now() - dt.timedelta(hours=1)).isoformat()}
    state.write_text(json.dumps({**json.loads(state.read_text()), **due}))
    assert run_agent("renew", key_store=token.key_store).returncode == 0
    assert token.signs_for(device.folder / "live") != old
    assert len(world.by_csr) == 3
    assert len(token.keys()) == 2


def test_a_token_that_was_reset_gets_a_new_key_at_once(device, run_agent, token) -> None:
    """What is not due would be useless otherwise: nothing can serve it any more."""
    assert run_agent("enrol", key_store=token.key_store).returncode == 0
    assert run_agent("renew", key_store=token.key_store).stdout.startswith("not due")
    token.initialise(shutil.which("softhsm2-util") or "", again=True)
    done = run_agent("renew", key_store=token.key_store)
    assert done.returncode == 0
    assert "does not hold pkcs11:token=router" in done.stdout
    token.signs_for(device.folder / "live")


def test_a_wrong_pin_is_given_once(device, run_agent, token) -> None:
    """An agent that tries for ever would lock the token; a good login elsewhere sets it free."""
    token.pin_file.write_text("not-the-pin")
    done = run_agent("enrol", key_store=token.key_store)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "PIN" in done.stderr
    assert "not-the-pin" not in done.stderr
    token.pin_file.write_text(PIN)
    done = run_agent("enrol", key_store=token.key_store)
    assert done.returncode == 2
    assert "log in once by hand" in done.stderr
    token.log_in()
    assert run_agent("enrol", key_store=token.key_store).returncode == 0


def test_what_others_keep_in_the_token_stays(device, run_agent, token) -> None:
    """A key with our label and without our id, and one with another label."""
    for label in ("https", "other"):
        token.p11tool("--generate-privkey=ecdsa", "--curve=secp256r1", f"--label={label}")
    foreign = token.keys()
    assert len(foreign) == 2
    for _ in range(3):
        assert run_agent("enrol", key_store=token.key_store).returncode == 0
    assert foreign < token.keys()
    assert len(token.keys()) == 4


def test_a_change_of_key_store_holds_from_the_next_key_on(device, run_agent, token) -> None:
    """From a file into the token and back: each version keeps what its key needs."""
    assert run_agent("enrol").returncode == 0
    device.live()
    done = run_agent("renew", key_store=token.key_store)
    assert done.stdout.startswith("not due")
    assert run_agent("enrol", key_store=token.key_store).returncode == 0
    token.signs_for(device.folder / "live")
    assert run_agent("enrol").returncode == 0
    device.live()
    assert len(token.keys()) == 1  # the version before, which may be gone back to


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (("token=router", "token=nobody"), 9, "'nobody'"),
        (("libsofthsm2.so", "missing.so"), 9, "missing.so"),
        (("/pin", "/missing"), 2, "missing cannot be read"),
    ],
)
def test_a_token_that_does_not_answer_is_said(device, run_agent, token, change, code, says) -> None:
    """One sentence each, and nothing is asked of the server."""
    done = run_agent("enrol", key_store=token.key_store.replace(*change))
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert says in done.stderr
    assert device.world.requests == []


def test_a_key_from_the_server_is_not_put_into_hardware(device, run_agent, token) -> None:
    """It was outside, and the point of a token is that its keys never were."""
    done = run_agent("enrol", "--key-from-server", key_store=token.key_store)
    assert done.returncode == 2
    assert device.world.requests == []


def test_one_process_renews_again_and_again(device, token) -> None:
    """`run` logs in for each attempt and out after it: the next attempt, and others, can log in."""
    order = (
        "import pathlib, sys; from certmint_agent import cli, renewal\n"
        "for _ in range(3): print(renewal.renew(cli._agent(pathlib.Path(sys.argv[1])), force=True))"
    )
    path = device.toml(key_store=token.key_store)
    done = subprocess.run(
        [sys.executable, "-c", order, path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout.count("renewed=True")) == (0, "", 3)
    assert len(token.keys()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["first", "again"])
def test_it_dies_after_each_step(device, run_agent, token, tmp_path: Path, mode: str) -> None:
    """Each time the live key signs for the live leaf, and the next attempt leaves no key over."""
    path = device.toml(key_store=token.key_store)
    if mode == "again":
        assert run_agent("enrol", key_store=token.key_store).returncode == 0
    lines = deaths(path, mode, tmp_path / "report")
    assert {"key made", "old keys destroyed", "live switched"} <= {line["step"] for line in lines}
    for line in lines:
        assert line["survived"] == 0, line
        assert tidy(line["after"]["entries"]), line
    token.signs_for(device.folder / "live")
    assert len(token.keys()) == len(device.entries())
