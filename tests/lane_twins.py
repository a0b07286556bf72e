"""What lane tests do at once and wait for, on a loop and on threads: twins with the same methods.

Nothing waits longer than `PATIENCE` seconds, so a test that would hang fails.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar

PATIENCE = 10.0
P = ParamSpec("P")
T = TypeVar("T")


class AsyncTaskGroup:
    """Tasks that run at once. The end of the block waits for all and raises all their errors, and its own, as a group."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        return self

    def start(
        self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Task[T]:
        """Call the function in a copy of the present context; what it returns is the `result()` of what is returned."""
        task = asyncio.create_task(function(*args, **kwargs))
        self._tasks.append(task)
        return task

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._tasks:
            for task in (await asyncio.wait(self._tasks, timeout=PATIENCE))[1]:
                task.cancel("it took too long")
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        _raise_as_group([error, *(outcome for outcome in outcomes if isinstance(outcome, BaseException))])


class SyncTaskGroup:
    """Threads that run at once. The end of the block waits for all and raises all their errors, and its own, as a group."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._futures: list[Future[Any]] = []

    def __enter__(self) -> Self:
        return self

    def start(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call the function in a copy of the present context; what it returns is the `result()` of what is returned."""
        future: Future[T] = Future()
        call = partial(contextvars.copy_context().run, function, *args, **kwargs)
        thread = threading.Thread(target=_settle, args=(future, call), daemon=True)
        self._threads.append(thread)
        self._futures.append(future)
        thread.start()
        return future

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for thread in self._threads:
            thread.join(PATIENCE)
        late = TimeoutError("it took too long")
        _raise_as_group([error, *(future.exception() if future.done() else late for future in self._futures)])


def _settle(future: "Future[T]", call: Callable[[], T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)


def _raise_as_group(errors: list[BaseException | None]) -> None:
    raised = [error for error in errors if error is not None]
    if raised:
        raise BaseExceptionGroup("errors of things done at once", raised)


class AsyncEvent(asyncio.Event):
    async def wait(self) -> bool:  # type: ignore[override] # asyncio declares the literal `True`
        async with asyncio.timeout(PATIENCE):
            return await super().wait()


class SyncEvent(threading.Event):
    def wait(self, timeout: float | None = None) -> bool:
        if not super().wait(PATIENCE):
            raise TimeoutError
        return True


class AsyncBarrier(asyncio.Barrier):
    async def wait(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await super().wait()


class SyncBarrier(threading.Barrier):
    def wait(self, timeout: float | None = None) -> int:
        try:
            return super().wait(PATIENCE)
        except threading.BrokenBarrierError as error:
            raise TimeoutError from error
