"""`run` without the waiting: a scripted wait hears how long the agent would sleep."""

import datetime as dt
import signal

import pytest

from certmint_agent import loop
from certmint_agent.errors import Misconfigured
from certmint_agent.renewal import renew

HOUR = 3600.0


def busy(handler) -> bool:
    handler.problem(503, "busy", "later")
    return True


class Wait:
    """Hears the seconds, and answers with the signals of a script; the last one is SIGTERM."""

    def __init__(self, *script: set[int]):
        self.script = [*script, {signal.SIGTERM}]
        self.heard: list[float] = []

    def __call__(self, seconds: float) -> frozenset[int]:
        self.heard.append(seconds)
        return frozenset(self.script.pop(0))


def test_an_empty_device_enrols_at_once(device) -> None:
    """Nothing to serve means no waiting; afterwards the agent looks again within hours."""
    wait = Wait(set())
    loop.run(device.agent, wait)
    assert wait.heard[0] == 0
    assert HOUR < wait.heard[1] <= 6 * HOUR
    assert device.live()


def test_a_street_whose_power_comes_back_is_spread(device) -> None:
    """A device that has a certificate does not knock in the first second after boot."""
    renew(device.agent())
    first = []
    for dice in (0.1, 0.9):
        wait = Wait()
        loop.run(lambda dice=dice: device.agent(random=lambda: dice), wait)
        first += wait.heard
    assert first == pytest.approx([6, 54])


def test_failures_wait_longer_each_time_and_success_forgets_them(world, device) -> None:
    """The agent never gives up; one success brings it back to its rhythm."""
    world.faults += [busy] * 5
    wait = Wait(*[set()] * 6)
    loop.run(device.agent, wait)
    delays = wait.heard[1:6]
    assert delays == sorted(delays)
    assert delays[0] >= 60
    assert delays[-1] > 5 * delays[0]
    assert device.live()
    assert wait.heard[6] > HOUR


def test_the_next_look_is_not_after_the_renewal(world, device) -> None:
    """Close to its time the agent wakes for it, not for the next look."""
    world.lifetime = dt.timedelta(hours=3)
    wait = Wait(set())
    loop.run(device.agent, wait)
    assert wait.heard[1] < HOUR


def test_a_new_configuration_is_used_at_once(world, device) -> None:
    """SIGHUP does not wait for the next look."""
    agents = [device.agent(), device.agent(names=("other.example.com",))]
    wait = Wait(set(), {signal.SIGHUP})
    loop.run(lambda: agents.pop(0), wait)
    assert len(world.by_csr) == 2


def test_a_broken_configuration_changes_nothing(device) -> None:
    """SIGHUP with a typing error in the file keeps the agent that works."""
    agents = [device.agent()]

    def load():
        if not agents:
            raise Misconfigured("unknown key 'colour'")
        return agents.pop()

    wait = Wait(set(), {signal.SIGHUP}, set())
    loop.run(load, wait)
    assert any("stays as it was: unknown key 'colour'" in line for line in device.said)
    assert device.said[-1] == "stopped"


def test_stop_wins(device) -> None:
    """SIGTERM together with SIGHUP is SIGTERM."""
    wait = Wait({signal.SIGTERM, signal.SIGHUP})
    loop.run(device.agent, wait)
    assert device.live() is None
