"""What a run in the background tells its reader, in order and without waiting for it: the twins.

`start` begins the run, `put` adds an event (called by the run, also from threads that it started), `next` waits for the next
one, gives None after the last, and raises what the run raised. `close` stops a run that still goes on and waits for its end.
The last event is the end of the run that began first: what others put later, as left-behind tools may, is dropped.
"""

import asyncio
import contextvars
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from doubleweave.models.cancellation import CancellationToken
from doubleweave.models.events import FlowEvent
from doubleweave.models.product import PRODUCT

_logger = logging.getLogger(f"{PRODUCT}.executor")


class _Course:
    """The events of a stream up to its last. Threads may put at once, so that to put and to end is one thing."""

    def __init__(self, add: Callable[[FlowEvent], None]) -> None:
        self.ended = False
        self._add = add
        self._lock = threading.Lock()
        self._outermost: str | None = None

    def put(self, event: FlowEvent) -> bool:
        with self._lock:
            if self.ended:
                return False
            self._outermost = self._outermost or event.trace_id
            self.ended = event.kind == "flow_end" and event.trace_id == self._outermost
            self._add(event)
            return True


class AsyncFeed:
    """The run is a task of the running loop."""

    def __init__(self, name: str, token: CancellationToken) -> None:
        self._name = name
        self._events: deque[FlowEvent] = deque()
        self._course = _Course(self._events.append)
        self._arrival = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def start(self, run: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Begin the run."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(run(), name=self._name)
        self._task.add_done_callback(lambda task: self._arrival.set())

    def put(self, event: FlowEvent) -> None:
        """Add an event."""
        assert self._loop is not None
        if not self._course.put(event):
            return
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            self._arrival.set()
        else:
            self._loop.call_soon_threadsafe(self._arrival.set)

    async def next(self) -> FlowEvent | None:
        """Return the next event, or None after the last; raise what the run raised."""
        assert self._task is not None
        while not self._events:
            if self._task.done():
                self._task.result()
                return None
            self._arrival.clear()
            await self._arrival.wait()
        return self._events.popleft()

    async def close(self) -> None:
        """Cancel a run that still goes on, and wait for its end."""
        task = self._task
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            # Whoever leaves early does not want to know, but the loop would report an error that nobody asked for.
            task.exception()


# The streams whose runs the present code is part of, on whatever thread of theirs.
_INSIDE: contextvars.ContextVar[tuple["SyncFeed", ...]] = contextvars.ContextVar(f"{PRODUCT}_streams", default=())


class SyncFeed:
    """The run has a daemon thread of its own."""

    def __init__(self, name: str, token: CancellationToken) -> None:
        self._name = name
        self._token = token
        self._events: queue.SimpleQueue[FlowEvent | None] = queue.SimpleQueue()
        self._course = _Course(self._events.put)
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._ended = False

    def start(self, run: Callable[[], Any]) -> None:
        """Begin the run, in a copy of the present context."""
        context = contextvars.copy_context()
        # Known before it runs: an interrupt may come before `start` returns.
        self._thread = threading.Thread(target=context.run, args=(self._main, run), name=self._name, daemon=True)
        self._thread.start()

    def put(self, event: FlowEvent) -> None:
        """Add an event."""
        self._course.put(event)

    def next(self) -> FlowEvent | None:
        """Return the next event, or None after the last; raise what the run raised."""
        event = self._events.get()
        if event is None and self._error is not None:
            raise self._error
        return event

    def close(self) -> None:
        """Ask a run that still goes on to stop, and wait for its end.

        The run itself must not wait for its end: a tool may close the stream, or the garbage collector on a tool's thread.
        """
        thread = self._thread
        if thread is None:
            return
        if not self._course.ended and not self._ended:
            self._token.cancel()
            _logger.warning("The reader of %s has left; its run stops at the next step boundary", self._name)
        if self not in _INSIDE.get():
            # One that never began has nothing to wait for.
            with suppress(RuntimeError):
                thread.join()

    def _main(self, run: Callable[[], Any]) -> None:
        _INSIDE.set((*_INSIDE.get(), self))
        try:
            run()
        except BaseException as error:
            self._error = error
        finally:
            self._ended = True
            self._events.put(None)
