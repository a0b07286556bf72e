"""What holds for every test: it leaves no thread, task, coroutine or event loop behind."""

import asyncio
import gc
import inspect
import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from types import CoroutineType

import pytest
from hypothesis import settings

# How long an example takes says more of what else the machine does than of the example.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

IDLE_WORKER = "doubleweave-worker"
WIND_DOWN_SECONDS = 5.0
# The browser that tests of a module share has a loop of its own, which waits in its own code between calls.
PLAYWRIGHT = f"{os.sep}playwright{os.sep}_impl{os.sep}"


def live_threads() -> set[tuple[threading.Thread, str]]:
    """Return every thread that runs, with its name: the pool's workers bear the name of the job that they do."""
    return {(thread, thread.name) for thread in threading.enumerate() if thread.name != IDLE_WORKER}


def new_objects(kind: type) -> list[object]:
    """Return the objects of a kind made since the last `gc.freeze()`; that there are few makes looking cheap."""
    return [item for item in gc.get_objects() if issubclass(type(item), kind)]


def pending_tasks() -> set[asyncio.Task[object]]:
    return {task for task in new_objects(asyncio.Task) if isinstance(task, asyncio.Task) and not task.done()}


def describe_tasks(tasks: Iterable[asyncio.Task[object]]) -> Iterator[str]:
    for task in tasks:
        yield f"task {task.get_name()!r} of {getattr(task.get_coro(), '__qualname__', task.get_coro())}"


def describe_threads(before: set[tuple[threading.Thread, str]]) -> Iterator[str]:
    """Yield the new threads that have not ended, and the workers not idle, after a while to wind down."""
    deadline = time.monotonic() + WIND_DOWN_SECONDS
    while (left := live_threads() - before) and time.monotonic() < deadline:
        next(iter(left))[0].join(0.001)
    yield from (f"thread {name!r}" for _, name in left)


def describe_coroutines(tasks: Iterable[object]) -> Iterator[str]:
    """Yield the coroutines never awaited and, unless tasks explain them, those never finished."""
    found = [item for item in new_objects(CoroutineType) if isinstance(item, CoroutineType)]
    theirs = {id(each) for item in found if PLAYWRIGHT in item.cr_code.co_filename for each in (item, item.cr_await)}
    for item in found:
        if id(item) in theirs:
            continue
        if inspect.getcoroutinestate(item) == inspect.CORO_CREATED:
            yield f"coroutine {item.__qualname__}, which was never awaited"
            item.close()  # else Python complains of it later, in another test
        elif item.cr_frame is not None and not tasks:
            yield f"coroutine {item.__qualname__}, which was never finished"


def describe_loops() -> Iterator[str]:
    for item in new_objects(asyncio.AbstractEventLoop):
        assert isinstance(item, asyncio.AbstractEventLoop)
        if not item.is_closed():
            yield f"event loop {type(item).__name__}, which was never closed"
            if not item.is_running():
                item.close()  # else Python complains of it later, in another test


def refuse(left: Iterable[str]) -> None:
    found = sorted(left)
    if found:
        pytest.fail(f"left behind: {'; '.join(found)}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Look for tasks as soon as the test ends: the runner of async tests cancels them when it is torn down."""
    before = pending_tasks()
    result = yield
    refuse(describe_tasks(pending_tasks() - before))
    return result


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Look for everything else once the other fixtures of the test are torn down, also in garbage."""
    before = live_threads()
    gc.freeze()
    yield
    threads, tasks = [*describe_threads(before)], pending_tasks()
    left = [*threads, *describe_tasks(tasks), *describe_coroutines(tasks), *describe_loops()]
    gc.collect()
    refuse(left)
