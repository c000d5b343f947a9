"""The power fails at random moments: the router's TLS port serves a valid pair afterwards.

After each SIGKILL of the agent and all its children, a real TLS server (openssl s_server) is
started anew from the live files, and a client sees a leaf that its key signs for. The number of
deaths of each test is CERTMINT_POWER_CUTS: its 125 make 500 over the four tests with key files.
With keys in hardware, a program that is not ours signs with the live key instead.
"""

import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509

from .shell import make_shell

pytestmark = pytest.mark.slow

CUTS = int(os.environ.get("CERTMINT_POWER_CUTS", "125"))
HARD = CUTS // 2  # with keys in hardware, which is slower


def free_port() -> int:
    """One that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def served(live: Path) -> x509.Certificate:
    """The leaf that a server shows which starts from the live files now; it must start."""
    port = free_port()
    server = subprocess.Popen(
        ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-quiet", "-naccept", "1",
         "-cert", live / "chain.pem", "-cert_chain", live / "chain.pem",
         "-key", live / "key.pem"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        end = time.monotonic() + 20
        while True:
            try:
                plain = socket.create_connection(("127.0.0.1", port), 5)
                break
            except ConnectionRefusedError:
                assert server.poll() is None, server.stderr and server.stderr.read()
                assert time.monotonic() < end
                time.sleep(0.005)
        with plain, context.wrap_socket(plain) as tls:
            return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    finally:
        server.kill()
        server.communicate()


def cut(process: subprocess.Popen[str], after: float) -> bool:
    """Kill the whole group after so many seconds; whether it was still at work."""
    try:
        process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0, "an agent that was left alone did not succeed"
    return False


def survive(start, live: Path, dice: random.Random, *, look=served, cuts: int = CUTS) -> None:
    """So many deaths of a renewal, spread over its whole length; in the end one that lives."""
    assert not cut(start(), 60)
    began = time.monotonic()
    assert not cut(start(), 60)
    length = time.monotonic() - began
    serials = {look(live).serial_number}
    deaths = 0
    while deaths < cuts:
        died = cut(start(), length * dice.random())
        deaths += died
        # About one run in five lives: so the deaths reach to its very end, on a busy machine too.
        length *= 1.025 if died else 0.9
        leaf = look(live)
        serials.add(leaf.serial_number)
        assert leaf.not_valid_before_utc < leaf.not_valid_after_utc
    assert not cut(start(), 60)  # it may finish what the last death interrupted
    assert not cut(start(), 60)
    assert look(live).serial_number not in serials
    print(f"{deaths} deaths, {len(serials)} certificates were live")


@pytest.mark.parametrize("name", ["ash", "dash"])
@pytest.mark.timeout(900)
def test_the_shell_agent_dies_at_any_moment(world, tmp_path: Path, name: str) -> None:
    """Half of the deaths under each shell."""
    shell = make_shell(
        name, tmp_path / "device", curl=name == "dash", server=world.url,
        ca_file=world.folder / "ca.pem", identity_certificate=world.folder / "idevid.pem",
        identity_key=world.folder / "idevid.key",
    )  # fmt: skip
    survive(lambda: shell.start("enrol"), shell.service / "live", random.Random(f"{name} 1"))
    assert len(shell.versions()) <= 3


@pytest.mark.timeout(900)
def test_the_shell_agent_dies_where_there_are_no_links(world, tmp_path: Path) -> None:
    """One file with key and chain, replaced by one rename: the same promise."""
    shell = make_shell(
        "ash", tmp_path / "device", curl=False, server=world.url,
        ca_file=world.folder / "ca.pem", identity_certificate=world.folder / "idevid.pem",
        identity_key=world.folder / "idevid.key",
    )  # fmt: skip
    shell.program("ln", "#!/bin/sh\nexit 1\n")
    assert shell.run("enrol")[0] == 0
    pair = shell.service / "live/pair.pem"
    for name in ("key.pem", "chain.pem"):
        (pair.parent / name).symlink_to("pair.pem")  # the test's server reads two names
    survive(lambda: shell.start("enrol"), pair.parent, random.Random("no links"))


def python_agent(path: Path) -> subprocess.Popen[str]:
    """`enrol`, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "certmint_agent", "enrol", "--config", str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.timeout(900)
def test_the_python_agent_dies_at_any_moment(device) -> None:
    """The same for the other agent."""
    path = device.toml()
    survive(lambda: python_agent(path), device.folder / "live", random.Random("python"))


@pytest.mark.timeout(900)
def test_the_python_agent_dies_with_its_keys_in_a_token(device, token) -> None:
    """The live URI's key signs for the live leaf, and no key is left over in the end."""
    path = device.toml(key_store=token.key_store)
    dice = random.Random("token")
    survive(
        lambda: python_agent(path), device.folder / "live", dice, look=token.signs_for, cuts=HARD
    )
    assert len(token.keys()) == 2


@pytest.mark.timeout(900)
def test_the_python_agent_dies_with_its_keys_in_a_tpm(device, tpm) -> None:
    """The live key file is one that this TPM signs with, for the live leaf."""
    path = device.toml(key_store=tpm.key_store)
    dice = random.Random("tpm")
    survive(lambda: python_agent(path), device.folder / "live", dice, look=tpm.signs_for, cuts=HARD)
