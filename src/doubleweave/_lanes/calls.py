"""Calling a function elsewhere, on either lane: on a worker thread, with a time limit, in a copy of a context."""

import asyncio
import contextvars
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from time import perf_counter
from typing import Any

from doubleweave._lanes.workers import POOL
from doubleweave.core.effects import Carried, InvokeExpired, T
from doubleweave.models.tools import Habit

GRACE_SECONDS = 0.0001
"""How long a loop waits for a function in a thread that was quick the time before; what a round of a loop takes."""


def call_in_thread(function: Callable[[], Any], name: str, timeout: float | None) -> Any:
    """Run `function()` on a worker thread named `name` and return its result.

    Raises:
        InvokeExpired: It took longer than `timeout` seconds. It may still run; its result is dropped.
    """
    outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    job = POOL.submit(function, name, lambda value, error: outcome.put((value, error)))
    try:
        # Not a number counts as no time at all, as on an event loop.
        limit = None if timeout is None else max(0.0, min(timeout, threading.TIMEOUT_MAX))
        value, error = outcome.get(timeout=limit)
    except queue.Empty:
        raise InvokeExpired from None
    finally:
        job.abandon()
    if error is not None:
        raise error
    return value


async def await_in_thread(
    function: Callable[[], Any], name: str, timeout: float | None, habit: Habit | None = None
) -> Any:
    """Run `function()` on a worker thread named `name`, leaving the loop free, and return its result.

    A function that was quick by `habit` gets a moment to end before the loop goes on: a round of the loop takes longer.

    Raises:
        InvokeExpired: It took longer than `timeout` seconds. It may still run; its result is dropped.
    """
    loop = asyncio.get_running_loop()
    outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    arrived: asyncio.Future[None] = loop.create_future()
    habit = habit or Habit()
    is_quick = habit.seconds < GRACE_SECONDS and (timeout is None or timeout > GRACE_SECONDS)
    is_awaited = False

    def done(value: Any, error: BaseException | None) -> None:
        habit.seconds = perf_counter() - start
        outcome.put((value, error))
        if is_awaited and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(_settle, arrived)
            except RuntimeError:
                # The loop was closed in between, so nobody waits any more.
                return

    start = perf_counter()
    job = POOL.submit(function, name, done)
    try:
        found = _within(outcome, GRACE_SECONDS) if is_quick else None
        if found is None:
            is_awaited = True
            # It may have come in between.
            if outcome.empty():
                await await_within(arrived, timeout)
            found = outcome.get_nowait()
        value, error = found
    finally:
        job.abandon()
    if isinstance(error, StopIteration):
        raise Carried(error) from error
    if error is not None:
        raise error
    return value


def _within(outcome: "queue.SimpleQueue[T]", seconds: float) -> T | None:
    try:
        return outcome.get(timeout=seconds)
    except queue.Empty:
        return None


def _settle(arrived: "asyncio.Future[None]") -> None:
    if not arrived.done():
        arrived.set_result(None)


async def await_within(awaitable: Awaitable[Any], timeout: float | None) -> Any:
    """Await something and return its result.

    Raises:
        InvokeExpired: It took longer than `timeout` seconds and was cancelled. A `TimeoutError` of its own passes unchanged.
    """
    if timeout is None:
        return await awaitable
    try:
        # Not a number counts as no time at all, on every version's event loop.
        async with asyncio.timeout(max(0.0, timeout)) as timer:
            value = await awaitable
    except Exception as error:
        # Whatever it raises when it is cancelled, it has had its time.
        if timer.expired():
            raise InvokeExpired from error
        raise
    if timer.expired():
        # It swallowed the cancellation; what it returned came too late all the same.
        raise InvokeExpired
    return value


class Timer:
    """A time limit in seconds for several things done one after the other; None for no limit."""

    __slots__ = ("_end",)

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Return the seconds that are left, none below zero."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())


NOT_BEGUN: Any = object()


class InContext:
    """Await a coroutine in a context of its own, without a task of its own.

    Of one that has been begun, `pending` is what it waits for.
    """

    __slots__ = ("_context", "_coroutine", "_pending")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context, pending: Any = NOT_BEGUN
    ) -> None:
        self._coroutine = coroutine
        self._context = context
        self._pending = pending

    def __await__(self) -> Generator[Any, Any, Any]:
        run, coroutine = self._context.run, self._coroutine
        try:
            pending = run(coroutine.send, None) if self._pending is NOT_BEGUN else self._pending
            while True:
                try:
                    sent = yield pending
                except GeneratorExit:
                    run(coroutine.close)
                    raise
                except BaseException as error:
                    pending = run(coroutine.throw, error)
                else:
                    pending = run(coroutine.send, sent)
        except StopIteration as stop:
            return stop.value
