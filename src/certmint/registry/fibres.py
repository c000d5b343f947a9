"""Fibres: plain functions that wait without holding a thread (ADR 11).

A fibre runs on the event loop's own thread, as a greenlet below the coroutine that awaits it.
Where it has to wait (for a durable commit, for slow work in another thread) it steps aside and
the loop goes on; between two such places nothing else runs. The function itself knows nothing of
it: the same code runs in a thread of its own, where waiting just waits.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future, wait
from typing import Any, TypeVar, cast

from greenlet import getcurrent, greenlet

T = TypeVar("T")


class _Fibre(greenlet):
    """A greenlet that `run` switches to, and that switches back with something to await."""


async def run(work: Callable[[], T]) -> T:
    """What `work` returns or raises; it runs as a fibre of this coroutine."""
    fibre = _Fibre(work)
    step = fibre.switch()
    while not fibre.dead:
        try:
            got = await step
        except BaseException as error:  # noqa: BLE001 - it belongs to the fibre, Ctrl-C too
            step = fibre.throw(error)
        else:
            step = fibre.switch(got)
    return cast("T", step)


def inside() -> bool:
    """Whether the caller runs in a fibre."""
    return isinstance(getcurrent(), _Fibre)


def until(awaitable: Awaitable[T]) -> T:
    """Step aside until `awaitable` is done; only inside a fibre."""
    parent = getcurrent().parent
    if parent is None:
        raise RuntimeError("only a fibre can step aside")
    return cast("T", parent.switch(awaitable))


def aside(executor: Executor | None, work: Callable[[], T]) -> T:
    """What `work` returns: in a thread of `executor` if a fibre asks, at once if a thread does."""
    if not inside():
        return work()
    return until(asyncio.get_running_loop().run_in_executor(executor, work))


def patiently(looking: "Future[Any]", seconds: float) -> None:
    """Wait until another thread is done, or so long; its outcome is not looked at."""
    if not inside():
        wait([looking], seconds)
        return
    wrapped = asyncio.wrap_future(looking)
    until(asyncio.wait([wrapped], timeout=seconds))
