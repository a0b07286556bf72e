"""Performing the effects of a run: the twins that the lanes differ in.

Both have the same methods. `work` performs what the lives of a run request, until the first one ends. `close` gives up on
everything that still runs. `call_alone` and `call_beside` are those of `Lane`.
"""

import asyncio
import contextvars
import heapq
import inspect
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import count, islice
from time import perf_counter
from typing import Any

from doubleweave._lanes.calls import InContext, Timer, await_in_thread, await_within, call_in_thread
from doubleweave._lanes.loops import CLOSE_SECONDS, BackgroundLoop, Ticket
from doubleweave._lanes.streams import AsyncStream, SyncStream
from doubleweave._lanes.workers import POOL, Job, outcome_of
from doubleweave.core.effects import CallTool, Invoke, NextChunk, OpenStream, Pause, unwrapped
from doubleweave.core.fibers import Fiber, Fibers
from doubleweave.models.product import PRODUCT
from doubleweave.models.tools import _is_async_callable

Outcome = tuple[Any, BaseException | None]
Ended = tuple[Fiber, Any, BaseException | None]

_logger = logging.getLogger(f"{PRODUCT}.executor")

LONGEST_WAIT = 86400.0
"""Seconds to wait at once: the system takes no numbers of any size. A longer wait is several."""

TURN_SECONDS = 0.01
"""How long tools that never wait may keep the event loop to themselves."""

LARGEST_BATCH = 16
"""How many tasks are made at once, at most, for effects that may have to wait."""

WAITING_NAME = f"{PRODUCT}-waiting"
"""The name of a worker thread that only waits for another one."""


class AsyncPerformer:
    """Performs effects on the running event loop; whatever may block goes to a worker thread."""

    def __init__(self) -> None:
        self._workers: set[asyncio.Task[None]] = set()
        self._waiting: dict[Fiber, asyncio.Task[Any]] = {}
        self._left: deque[tuple[Fiber, Any]] = deque()
        self._hired, self._batch = 0, 1
        self._finished: asyncio.Future[None] | None = None
        self._streams: list[AsyncStream] = []
        self._cancelling: Callable[[], int] = int
        self._turn_ends = 0.0

    async def perform(self, effect: Any) -> Any:
        """Perform one effect; raise what it raises."""
        kind = type(effect)
        if kind is CallTool:
            await asyncio.sleep(0)
            return await InContext(effect.tool._call_fn_async(effect.argument), effect.context.copy())
        if kind is Invoke:
            return await (self._invoke_to_the_end(effect) if effect.finish else self._invoke(effect))
        if kind is NextChunk:
            return await effect.stream.next()
        if kind is OpenStream:
            stream = AsyncStream(effect)
            self._streams.append(stream)
            return stream
        if kind is Pause:
            return await asyncio.sleep(effect.seconds)
        raise TypeError(f"no lane knows the effect {effect!r}")

    def call_alone(self, tool: Any, argument: Any, context: contextvars.Context) -> Any:
        """Call a tool in the present task, until it waits for something.

        Not when a tool before it has cancelled the task, or when it is the loop's turn: then it is called later.
        """
        cancelling = self._cancelling
        if perf_counter() > self._turn_ends or cancelling():
            return CallTool(tool, argument, context)
        own = context.copy()
        # As in `SyncPerformer.call_alone`.
        plain = tool._is_coroutine_function and tool.timeout_seconds is None
        cls = type(tool)
        call = tool.fn if plain and cls._call_fn_async is cls._plain_call_async else tool._call_fn_async
        coroutine = call(argument)
        try:
            pending = own.run(coroutine.send, None)
        except StopIteration as stop:
            return stop.value
        return CallTool(tool, argument, context, InContext(coroutine, own, pending))

    call_beside = call_alone
    """A tool that has begun stays in its task: the run goes on in another one, when the tool waits."""

    async def work(self, fibers: Fibers) -> None:
        """Perform what the fibers request until the first life ends.

        A task of the run's own continues the lives and begins their effects. Only when it has to wait are others made to go
        on, more at once while effects keep waiting, so there is a task for each effect that waits, and few for those that do
        not. None of it happens in the caller's task, so that whoever cancels the run and whatever a tool does to its task are
        not taken for each other.
        """
        self._finished = asyncio.get_running_loop().create_future()
        self._hire(fibers)
        await self._finished

    async def close(self) -> None:
        """Cancel everything that still runs and wait until it has ended."""
        tasks = [*self._workers, *(stream.task for stream in self._streams)]
        for task in tasks:
            if not task.cancelling():
                task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    def _hire(self, fibers: Fibers) -> None:
        create_task = asyncio.get_running_loop().create_task
        self._workers.update(create_task(self._serve(fibers)) for _ in range(self._batch))
        self._hired += self._batch
        self._batch = min(2 * self._batch, LARGEST_BATCH)

    async def _serve(self, fibers: Fibers) -> None:
        self._hired -= 1
        me: Any = asyncio.current_task()
        try:
            while (request := self._next_request(fibers, me)) is not None:
                fiber, effect = request
                self._waiting[fiber] = me
                value, error = None, None
                try:
                    value = await (getattr(effect, "begun", None) or self.perform(effect))
                except BaseException as raised:
                    error = unwrapped(raised)
                if self._waiting.pop(fiber, None) is None:
                    break
                fibers.resume(fiber, value, error)
        except BaseException as error:
            self._finish(error)
        finally:
            self._workers.discard(me)
            if fibers.ended:
                self._finish(None)

    def _next_request(self, fibers: Fibers, me: asyncio.Task[Any]) -> tuple[Fiber, Any] | None:
        """Return what this task is to perform next; while it does, others go on. None when there is nothing for it."""
        # Of the task that calls tools now.
        self._cancelling = me.cancelling
        self._turn_ends = perf_counter() + TURN_SECONDS
        request = None
        while request is None or request[0].closed:
            request = self._left.popleft() if self._left else fibers.next_request()
            while fibers.abandoned:
                self._drop(fibers.abandoned.pop())
            if request is None:
                self._batch = 1
                return None
        if me.cancelling() and getattr(request[1], "begun", None) is None:
            self._left.append(request)
            self._hire(fibers)
            return None
        if fibers.ready and not self._hired:
            self._hire(fibers)
        return request

    def _drop(self, fiber: Fiber) -> None:
        """Cancel what a fiber waits for; `close` waits for it to end."""
        worker = self._waiting.pop(fiber, None)
        if worker is not None:
            worker.cancel()

    def _finish(self, error: BaseException | None) -> None:
        if self._finished is None or self._finished.done():
            return
        if error is None:
            self._finished.set_result(None)
        else:
            self._finished.set_exception(error)

    async def _invoke_to_the_end(self, effect: Invoke) -> Any:
        """Perform the call in a task of its own, which a cancellation of the run waits for before it goes on."""
        task = asyncio.get_running_loop().create_task(self._invoke(effect))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not (await asyncio.wait([task], timeout=CLOSE_SECONDS))[0]:
                _logger.warning("%s takes too long; it is left behind", effect.thread_name)
                task.cancel()
            elif not task.cancelled():
                # The cancellation takes the place of whatever it raised.
                task.exception()
            raise

    async def _invoke(self, effect: Invoke) -> Any:
        context = effect.context.copy()
        call = partial(context.run, effect.function, *effect.arguments)
        timer = Timer(effect.timeout)
        if _is_async_callable(effect.function):
            value = call()
        else:
            value = await await_in_thread(call, effect.thread_name, effect.timeout)
        if inspect.isawaitable(value):
            return await InContext(await_within(value, timer.left()), context)
        return value


class SyncPerformer:
    """Performs effects on the caller's thread where one runs at a time, on worker threads where several do.

    Coroutines run on one background event loop, started at the first and closed with the run.
    """

    def __init__(self) -> None:
        self._loop: BackgroundLoop | None = None
        self._loop_lock = threading.Lock()
        self._started: dict[Fiber, Job | Ticket | None] = {}
        self._outcomes: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        self._alarms: list[tuple[float, int, Fiber]] = []
        self._counter = count()
        self._streams: list[SyncStream] = []

    def perform(self, effect: Any) -> Any:
        """Perform one effect; raise what it raises."""
        kind = type(effect)
        if kind is CallTool:
            return self.call_alone(effect.tool, effect.argument, effect.context)
        if kind is Invoke:
            return self._invoke(effect)
        if kind is NextChunk:
            return effect.stream.next()
        if kind is OpenStream:
            stream = SyncStream(effect, self._background())
            self._streams.append(stream)
            return stream
        if kind is Pause:
            end = time.monotonic() + effect.seconds
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(left, LONGEST_WAIT))
            return None
        raise TypeError(f"no lane knows the effect {effect!r}")

    def call_alone(self, tool: Any, argument: Any, context: contextvars.Context) -> Any:
        """Call a tool on this thread; what is awaitable is waited for."""
        if tool.is_async:
            return self._await(partial(tool._call_fn_async, argument), context.copy())
        plain = tool.timeout_seconds is None and type(tool)._call_fn is type(tool)._plain_call
        # A plain tool's function is called without `_call_fn` in between, which takes half as long.
        return context.copy().run(tool.fn if plain else tool._call_fn, argument)

    # On the caller's thread it would hold up the others.
    call_beside = CallTool

    def work(self, fibers: Fibers) -> None:
        """Perform what the fibers request until the first life ends; a lone request is performed on the spot."""
        # Two tell whether there is one alone.
        at_most: int | None = 2
        while True:
            requests = list(islice(iter(fibers.next_request, None), at_most))
            while fibers.abandoned:
                self._drop(fibers.abandoned.pop())
            if fibers.ended:
                return
            wanted = [(fiber, effect) for fiber, effect in requests if not fiber.closed]
            if len(wanted) == 1 and not self._started and not fibers.ready:
                fiber, effect = wanted[0]
                fibers.resume(fiber, *outcome_of(partial(self.perform, effect)))
                continue
            for fiber, effect in wanted:
                self._start(fiber, effect)
            if fibers.ready:
                # Their threads get a chance to begin before the others are prepared.
                at_most = None
                time.sleep(0)
            else:
                self._take_outcomes(fibers)

    def close(self) -> None:
        """Give up on everything that still runs, and close the background loop."""
        for fiber in list(self._started):
            self._drop(fiber)
        if self._loop is not None:
            self._loop.close()

    def _start(self, fiber: Fiber, effect: Any) -> None:
        """Begin an effect of a fiber beside the others; what wants the caller's thread is done at once."""
        kind = type(effect)
        done = partial(self._deliver, fiber)
        self._started[fiber] = None
        if kind is CallTool and effect.tool.is_async:
            make = partial(effect.tool._call_fn_async, effect.argument)
            self._started[fiber] = self._background().submit(make, effect.context.copy(), done)
        elif kind is CallTool:
            call = partial(effect.context.copy().run, effect.tool._call_fn, effect.argument)
            # With a time limit the tool gets a thread of its name for itself, and this one only waits for it.
            name = effect.tool.thread_name if effect.tool.timeout_seconds is None else WAITING_NAME
            self._started[fiber] = POOL.submit(call, name, done)
        elif kind is NextChunk:
            effect.stream.expect(done)
        elif kind is Pause:
            heapq.heappush(self._alarms, (time.monotonic() + effect.seconds, next(self._counter), fiber))
        elif kind is Invoke and _is_async_callable(effect.function):
            self._started[fiber] = self._background().submit(partial(_await_call, effect), effect.context.copy(), done)
        elif kind is Invoke and effect.timeout is not None:
            self._started[fiber] = POOL.submit(partial(self._invoke, effect), WAITING_NAME, done)
        elif kind is Invoke and not effect.on_caller:
            self._started[fiber] = POOL.submit(partial(self._invoke, effect), effect.thread_name, done)
        else:
            done(*outcome_of(partial(self.perform, effect)))

    def _take_outcomes(self, fibers: Fibers) -> None:
        """Wait until a started effect ends, and resume its fiber and those of all that have ended by then."""
        is_waiting = True
        while is_waiting or not self._outcomes.empty():
            fiber, value, error = self._next()
            # Nobody waits any more for what was dropped.
            if self._started.pop(fiber, self) is not self:
                fibers.resume(fiber, value, error if error is None else unwrapped(error))
                is_waiting = False

    def _next(self) -> Ended:
        """Wait for the next effect that ends, or alarm that goes off."""
        while self._alarms:
            timeout = self._alarms[0][0] - time.monotonic()
            if timeout <= 0:
                return heapq.heappop(self._alarms)[2], None, None
            try:
                return self._outcomes.get(timeout=min(timeout, LONGEST_WAIT))
            except queue.Empty:
                continue
        return self._outcomes.get()

    def _drop(self, fiber: Fiber) -> None:
        """Give up on what a fiber waits for: a coroutine is cancelled, a thread is left alone and its outcome dropped."""
        work = self._started.pop(fiber, None)
        if isinstance(work, Job):
            work.abandon()
        elif isinstance(work, Ticket):
            work.cancel()

    def _deliver(self, fiber: Fiber, value: Any, error: BaseException | None) -> None:
        self._outcomes.put((fiber, value, error))

    def _invoke(self, effect: Invoke) -> Any:
        context = effect.context.copy()
        call = partial(context.run, effect.function, *effect.arguments)
        timer = Timer(effect.timeout)
        if effect.timeout is None or _is_async_callable(effect.function):
            value = call()
        else:
            value = call_in_thread(call, effect.thread_name, effect.timeout)
        if inspect.isawaitable(value):
            return self._await(partial(await_within, value, timer.left()), context)
        return value

    def _await(self, make: Callable[[], Coroutine[Any, Any, Any]], context: contextvars.Context) -> Any:
        outcome: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        ticket = self._background().submit(make, context, lambda value, error: outcome.put((value, error)))
        try:
            value, error = outcome.get()
        except BaseException:
            ticket.cancel()
            raise
        if error is not None:
            raise error
        return value

    def _background(self) -> BackgroundLoop:
        # Worker threads ask for it too.
        with self._loop_lock:
            if self._loop is None:
                self._loop = BackgroundLoop()
            return self._loop


async def _await_call(effect: Invoke) -> Any:
    return await await_within(effect.function(*effect.arguments), effect.timeout)
