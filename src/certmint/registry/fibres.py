"""Fibres: plain functions that wait without holding a thread (ADR 11).

A fibre is a greenlet on the event loop's own thread, below the loop itself. Where it has to wait
(for a durable commit, for the network, for slow work in another thread) it steps aside and the
loop goes on; between two such places nothing else runs. The function itself knows nothing of it:
the same code runs in a thread of its own, where waiting just waits.

Laws: the loop alone starts fibres and lets them go on, never another fibre; a fibre that has begun
comes to its end, whether or not anybody still waits for its outcome.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future, wait
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

from greenlet import GreenletExit, getcurrent, greenlet

T = TypeVar("T")
Ended: TypeAlias = Callable[[Any, BaseException | None], None]
"""Told what a fibre's function returned, or what it raised."""

log = logging.getLogger("certmint.fibres")
_PARKED = object()


class Fibre(greenlet):
    """A greenlet that `start` switches to, and that switches back with what it waits for.

    It does one piece of work after another: a new one costs more than a short piece of work.
    """

    ended: Ended


class _Over:
    """What a fibre switches back with at the end of a piece of work."""

    def __init__(self, result: object, error: BaseException | None) -> None:
        self.result, self.error = result, error


class _Idle(threading.local):
    """Fibres without work, of one thread: a greenlet cannot leave its thread."""

    def __init__(self) -> None:
        self.fibres: list[Fibre] = []


_MOST_IDLE = 64
_idle = _Idle()


def _life(work: Callable[[], object]) -> None:
    while True:
        try:
            over = _Over(work(), None)
        except GreenletExit:
            raise  # the loop has ended, and nobody is there to be told
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the work
            over = _Over(None, error)
        work = _parent(current()).switch(over)
        del over


def start(work: Callable[[], T], ended: Ended) -> None:
    """Run `work` as a fibre until it first steps aside; `ended` is told of its end, maybe now.

    Only outside of fibres, on the event loop.
    """
    fibre = _idle.fibres.pop() if _idle.fibres else Fibre(_life)
    fibre.ended = ended
    _step(fibre, fibre.switch, work)


async def run(work: Callable[[], T]) -> T:
    """What `work` returns or raises; it runs as a fibre beside this coroutine."""
    outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    start(work, partial(_tell, outcome))
    return await outcome


def inside() -> bool:
    """Whether the caller runs in a fibre."""
    return isinstance(getcurrent(), Fibre)


def current() -> Fibre:
    """The fibre that the caller runs in."""
    fibre = getcurrent()
    if not isinstance(fibre, Fibre):
        raise RuntimeError("only a fibre can step aside")  # noqa: TRY004 - the place is wrong
    return fibre


def park() -> None:
    """Step aside until somebody calls `resume`."""
    _parent(current()).switch(_PARKED)


def resume(fibre: Fibre) -> None:
    """Let a parked fibre go on, at once; only outside of fibres."""
    _step(fibre, fibre.switch)


def until(awaitable: Awaitable[T]) -> T:
    """Step aside until `awaitable` is done; only inside a fibre."""
    return cast("T", _parent(current()).switch(awaitable))


def ready(descriptor: int, *, to_write: bool, seconds: float) -> None:
    """Step aside until a socket can be read or written. Raises TimeoutError after so long."""
    loop, fibre = asyncio.get_running_loop(), current()
    add, remove = (
        (loop.add_writer, loop.remove_writer) if to_write else (loop.add_reader, loop.remove_reader)
    )
    late = False

    def give_up() -> None:
        nonlocal late
        late = True
        resume(fibre)

    timer = loop.call_later(seconds, give_up)
    add(descriptor, resume, fibre)
    try:
        park()
    finally:
        remove(descriptor)
        timer.cancel()
    if late:
        raise TimeoutError


def aside(executor: Executor | None, work: Callable[[], T]) -> T:
    """What `work` returns: in a thread of `executor` if a fibre asks, at once if a thread does."""
    if not inside():
        return work()
    return until(asyncio.get_running_loop().run_in_executor(executor, work))


class Beside:
    """Work in a fibre of its own, beside the one that began it."""

    def __init__(self) -> None:
        self._is_done = False
        self._waiting: Fibre | None = None

    def done(self) -> bool:
        """Whether it has come to its end."""
        return self._is_done

    def ended(self, _: object, error: BaseException | None) -> None:
        self._is_done = True
        if error is not None:
            log.error("work beside a request failed", exc_info=error)
        self._wake()

    def wait(self, seconds: float) -> None:
        """Step aside until it is done, or so long."""
        if self._is_done:
            return
        self._waiting = current()
        timer = asyncio.get_running_loop().call_later(seconds, self._wake)
        park()
        timer.cancel()

    def _wake(self) -> None:
        fibre, self._waiting = self._waiting, None
        if fibre is not None:
            resume(fibre)


Begun: TypeAlias = "Beside | Future[Any]"


def begin(executor: Executor, work: Callable[[], T]) -> Begun:
    """Begin work beside the caller: a fibre of its own if a fibre asks, else a thread."""
    if not inside():
        return executor.submit(work)
    beside = Beside()
    asyncio.get_running_loop().call_soon(start, work, beside.ended)
    return beside


def patiently(begun: Begun, seconds: float) -> None:
    """Wait until it is done, or so long; its outcome is not looked at."""
    if isinstance(begun, Future):
        wait([begun], seconds)
    else:
        begun.wait(seconds)


def _parent(fibre: Fibre) -> greenlet:
    if fibre.parent is None:
        raise RuntimeError("a fibre has the event loop above it")
    return fibre.parent


def _step(fibre: Fibre, go_on: Callable[..., Any], *given: object) -> None:
    """Let it run up to where it next waits, or to the end of its work."""
    step = go_on(*given)
    if isinstance(step, _Over):
        ended = fibre.ended
        if len(_idle.fibres) < _MOST_IDLE:
            _idle.fibres.append(fibre)
        try:
            ended(step.result, step.error)
        except Exception:
            # Whoever lets fibres go on has others to let go on too.
            log.exception("what was to follow the end of a fibre failed")
    elif step is not _PARKED:
        asyncio.ensure_future(step).add_done_callback(partial(_awaited, fibre))


def _awaited(fibre: Fibre, future: "asyncio.Future[Any]") -> None:
    error: BaseException | None
    try:
        error = future.exception()
    except asyncio.CancelledError as cancelled:
        error = cancelled
    if error is not None:
        _step(fibre, fibre.throw, error)
    else:
        _step(fibre, fibre.switch, future.result())


def _tell(outcome: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    if outcome.done():
        return  # whoever waited has gone
    if error is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(result)
