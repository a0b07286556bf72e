"""An event loop on a thread of its own, for async tools of a run that itself blocks."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from doubleweave.models.product import PRODUCT

_logger = logging.getLogger(f"{PRODUCT}.executor")

# How long the end of a run waits for tasks that do not heed their cancellation.
CLOSE_SECONDS = 5.0

Done = Callable[[Any, BaseException | None], None]


class Ticket:
    """A coroutine handed to the loop; `cancel` may be called from any thread."""

    __slots__ = ("_loop", "cancelled", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.task: asyncio.Task[Any] | None = None
        self.cancelled = False

    def cancel(self) -> None:
        """Ask the coroutine to stop; nobody waits for its outcome any more."""
        self.cancelled = True
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel_task)

    def _cancel_task(self) -> None:
        if self.task is not None:
            self.task.cancel()


class BackgroundLoop:
    """One event loop on one daemon thread, from construction until `close`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._closing = False
        self._thread = threading.Thread(target=self._main, name=f"{PRODUCT}-loop", daemon=True)
        self._thread.start()

    def submit(self, make: Callable[[], Coroutine[Any, Any, Any]], context: contextvars.Context, done: Done) -> Ticket:
        """Run the coroutine that `make()` gives, in `context`, and call `done(value, error)` on the loop's thread."""
        ticket = Ticket(self._loop)

        async def run() -> None:
            try:
                value = await make()
            except BaseException as error:
                done(None, error)
                if not isinstance(error, Exception | asyncio.CancelledError):
                    return
            else:
                done(value, None)

        def start() -> None:
            ticket.task = self._loop.create_task(run(), context=context)
            if ticket.cancelled:
                ticket.task.cancel()

        self._loop.call_soon_threadsafe(start)
        return ticket

    def close(self) -> None:
        """Cancel what still runs, wait for it, close the loop and end its thread."""
        self._closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            _logger.warning("An async tool does not heed its cancellation; its event loop was left behind")

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            # A tool may stop the loop it runs on; that must not leave the run waiting for ever.
            while not self._closing:
                self._loop.run_forever()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                # A second cancellation would interrupt the cleaning up that the first one set off.
                if not task.cancelling():
                    task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()
