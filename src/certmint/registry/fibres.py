"""Fibres: plain functions that wait without holding a thread (ADR 11).

A fibre runs on the event loop's own thread, as a greenlet below the coroutine that awaits it.
Where it has to wait (for a durable commit, for slow work in another thread) it steps aside and
the loop goes on; between two such places nothing else runs. The function itself knows nothing of
it: the same code runs in a thread of its own, where waiting just waits.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future, wait
from typing import Any, TypeAlias, TypeVar, cast

from greenlet import getcurrent, greenlet

T = TypeVar("T")

log = logging.getLogger("certmint.fibres")
_begun: "set[asyncio.Future[Any]]" = set()


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


Begun: TypeAlias = "asyncio.Future[Any] | Future[Any]"


def begin(executor: Executor, work: Callable[[], T]) -> Begun:
    """Begin work beside the caller: a fibre of its own if a fibre asks, else a thread."""
    if not inside():
        return executor.submit(work)
    task = asyncio.get_running_loop().create_task(run(work))
    _begun.add(task)  # the loop itself keeps no hold of its tasks
    task.add_done_callback(_ended)
    return task


def patiently(begun: Begun, seconds: float) -> None:
    """Wait until it is done, or so long; its outcome is not looked at."""
    if isinstance(begun, Future):
        wait([begun], seconds)
    else:
        until(asyncio.wait([begun], timeout=seconds))


def _ended(task: "asyncio.Future[Any]") -> None:
    _begun.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("work beside a request failed", exc_info=error)
