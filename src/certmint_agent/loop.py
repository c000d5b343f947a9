"""`certmint-agent run`: renew for ever, and listen to signals between two attempts.

A signal never interrupts an attempt: SIGTERM and SIGINT end the loop after it (each attempt is
bounded by its timeouts), SIGHUP reads the configuration again and looks at once. After a failure
the agent waits longer each time; it never gives up and never exits because of the server.
"""

import datetime as dt
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from certmint_agent import renewal, schedule
from certmint_agent.errors import AgentError
from certmint_agent.renewal import Agent

START_WITHIN_S = 60.0  # a street whose power comes back must not arrive in the same second
STOP = frozenset({signal.SIGTERM, signal.SIGINT})
Wait = Callable[[float], frozenset[int]]  # seconds -> the signals that ended the wait


@contextmanager
def signals() -> Iterator[Wait]:
    """A wait that SIGTERM, SIGINT and SIGHUP end. It may be held by the main thread only."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)

    def wait(seconds: float) -> frozenset[int]:
        # The kernel has written each signal's number into the pipe, so none is missed between
        # looking and sleeping.
        ready, _, _ = select.select([reader], [], [], seconds)
        return frozenset(os.read(reader, 256)) if ready else frozenset()

    old_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    old = {
        number: signal.signal(number, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    try:
        yield wait
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_fd)
        os.close(reader)
        os.close(writer)


def run(load: Callable[[], Agent], wait: Wait) -> None:
    """Renew until a signal says stop. `load` reads the configuration; its first failure rises."""
    agent = load()
    delay = dt.timedelta(0)
    with agent.store.guarded():
        live = agent.store.live()
    if live is not None:
        delay = dt.timedelta(seconds=START_WITHIN_S * agent.random())
    failures = 0
    while True:
        heard = wait(delay.total_seconds())
        if heard & STOP:
            agent.say("stopped")
            return
        if signal.SIGHUP in heard:
            agent = _reloaded(load, agent)
            failures = 0
        delay, failures = _attempt(agent, failures)


def _reloaded(load: Callable[[], Agent], agent: Agent) -> Agent:
    try:
        fresh = load()
    except AgentError as problem:
        agent.say(f"the configuration stays as it was: {problem}")
        return agent
    fresh.say("the configuration was read again")
    return fresh


def _attempt(agent: Agent, failures: int) -> tuple[dt.timedelta, int]:
    try:
        outcome = renewal.renew(agent)
    except AgentError as problem:
        delay = schedule.retry_delay(failures, problem.retry_after, agent.random)
        agent.say(f"{problem}; trying again in {delay.total_seconds():.0f} s")
        return delay, failures + 1
    if outcome.renewed:
        agent.say(
            f"renewed: valid until {outcome.not_after.isoformat()}, "
            f"next renewal at {outcome.renew_at.isoformat()}"
        )
    return schedule.next_look(outcome.now, outcome.renew_at, agent.random), 0
