"""Reloading the router's server and looking at it: patient, and bounded."""

import threading
import time
from pathlib import Path

import pytest

from certmint_agent import service
from certmint_agent.errors import CheckFailed
from certmint_agent.renewal import renew


def test_a_command_that_hangs_goes_with_its_children(tmp_path, eventually) -> None:
    """A reload that never ends costs its timeout, and leaves no process behind."""
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    with pytest.raises(CheckFailed, match=r"did not end within 0\.3 s"):
        service.reload(("sh", "-c", f"sleep 60 & echo $! > {pid_file}; wait"), timeout_s=0.3)
    assert time.monotonic() - started < 5
    child = Path("/proc", pid_file.read_text().strip(), "stat")

    def gone() -> bool:
        return not child.exists() or ") Z " in child.read_text()  # a zombie waits for init only

    eventually(gone)  # the kernel takes a moment


def test_a_slow_reload_is_waited_for(device, router_for) -> None:
    """A server that still shows the old certificate for a moment has not failed."""
    renew(device.agent())
    router = router_for(device)
    renew(device.agent(), force=True)
    leaf = device.live()[1]
    assert router.presented() != leaf
    later = threading.Timer(0.4, service.reload, (router.reload_command,))
    later.start()
    service.check(router.address, "router.example.com", leaf, timeout_s=10)
    later.join()


def test_what_was_seen_is_said(device, router_for) -> None:
    """The sentence tells a wrong certificate from a closed port and from an impossible name."""
    renew(device.agent())
    router = router_for(device)
    renew(device.agent(), force=True)
    leaf = device.live()[1]
    with pytest.raises(CheckFailed, match="it serves another certificate"):
        service.check(router.address, "", leaf, timeout_s=0.1)
    with pytest.raises(CheckFailed, match="Connection refused"):
        service.check(("127.0.0.1", 1), "", leaf, timeout_s=0.1)
    with pytest.raises(CheckFailed, match="cannot be sent"):
        service.check(router.address, "." + "x" * 70, leaf, timeout_s=0.1)
