"""What a run in the background tells its reader, in order and without waiting for it: the twins.

`start` begins the run, `put` adds an event (called by the run, also from threads that it started), `next` waits for the next
one, gives None after the last, and raises what the run raised. `close` stops a run that still goes on and waits for its end.
"""

import asyncio
import contextvars
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from doubleweave.models.cancellation import CancellationToken
from doubleweave.models.events import FlowEvent
from doubleweave.models.product import PRODUCT

_logger = logging.getLogger(f"{PRODUCT}.executor")


class AsyncFeed:
    """The run is a task of the running loop."""

    def __init__(self, name: str, token: CancellationToken) -> None:
        self._name = name
        self._events: deque[FlowEvent] = deque()
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
        self._events.append(event)
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


class SyncFeed:
    """The run has a daemon thread of its own."""

    def __init__(self, name: str, token: CancellationToken) -> None:
        self._name = name
        self._token = token
        self._events: queue.SimpleQueue[FlowEvent | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._ended = False

    def start(self, run: Callable[[], Any]) -> None:
        """Begin the run, in a copy of the present context."""
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._main, run), name=self._name, daemon=True)
        self._thread.start()

    def put(self, event: FlowEvent) -> None:
        """Add an event."""
        self._events.put(event)

    def next(self) -> FlowEvent | None:
        """Return the next event, or None after the last; raise what the run raised."""
        event = self._events.get()
        if event is None and self._error is not None:
            raise self._error
        return event

    def close(self) -> None:
        """Ask a run that still goes on to stop, and wait for its end."""
        thread = self._thread
        if thread is None:
            return
        if not self._ended:
            _logger.warning("The reader of %s has left; its run stops at the next step boundary", self._name)
            self._token.cancel()
        thread.join()

    def _main(self, run: Callable[[], Any]) -> None:
        try:
            run()
        except BaseException as error:
            self._error = error
        finally:
            self._ended = True
            self._events.put(None)
