"""The chunks of a streaming tool, produced in the background and read one at a time: the twins."""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from doubleweave._lanes.calls import await_within
from doubleweave._lanes.loops import BackgroundLoop
from doubleweave.core.effects import InvokeExpired, OpenStream
from doubleweave.errors import ToolTimeoutError

Outcome = tuple[Any, BaseException | None]


class AsyncStream:
    """A stream whose producer is a task of the running loop."""

    def __init__(self, effect: OpenStream) -> None:
        self._chunks: asyncio.Queue[Outcome] = asyncio.Queue()
        self.task = asyncio.get_running_loop().create_task(
            _produce(effect, self._chunks.put_nowait), context=effect.context.copy()
        )
        effect.stream = self

    def cancel(self) -> None:
        """Stop the producer, if it has not ended; nobody reads on."""
        self.task.cancel()

    async def next(self) -> Any:
        """Return the next chunk, or None at the end; raise what the tool raised."""
        value, error = await self._chunks.get()
        if error is not None:
            raise error
        return value


class SyncStream:
    """A stream whose producer runs on the background loop."""

    def __init__(self, effect: OpenStream, loop: BackgroundLoop) -> None:
        self._lock = threading.Lock()
        self._chunks: deque[Outcome] = deque()
        self._listener: Callable[[Any, BaseException | None], None] | None = None
        make = partial(_produce, effect, self._put)
        self._ticket = loop.submit(make, effect.context.copy(), lambda value, error: None)
        effect.stream = self

    def cancel(self) -> None:
        """Stop the producer, if it has not ended; nobody reads on."""
        self._ticket.cancel()

    def next(self) -> Any:
        """Return the next chunk, or None at the end; raise what the tool raised."""
        arrival: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.expect(lambda value, error: arrival.put((value, error)))
        value, error = arrival.get()
        if error is not None:
            raise error
        return value

    def expect(self, listener: Callable[[Any, BaseException | None], None]) -> None:
        """Call `listener(chunk, error)` once, as soon as the next chunk is there."""
        with self._lock:
            if not self._chunks:
                self._listener = listener
                return
            outcome = self._chunks.popleft()
        listener(*outcome)

    def _put(self, outcome: Outcome) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
            if listener is None:
                self._chunks.append(outcome)
        if listener is not None:
            listener(*outcome)


async def _produce(effect: OpenStream, put: Callable[[Outcome], None]) -> None:
    """Run a streaming tool to its end within its time limit, putting each chunk and then None or the error."""
    tool = effect.tool

    async def drain() -> None:
        chunks = tool.run_streaming(effect.inputs)
        try:
            async for chunk in chunks:
                put((chunk, None))
        finally:
            await chunks.aclose()

    try:
        await await_within(drain(), tool.timeout_seconds)
    except InvokeExpired:
        put((None, ToolTimeoutError(tool.name, tool.timeout_seconds)))
    except BaseException as error:
        put((None, error))
        if not isinstance(error, Exception):
            raise
    else:
        put((None, None))
