# Generated from src/doubleweave/_async/streams.py by "make generate". Do not edit.
"""Watching a life: its events, one at a time, while it goes on in the background."""

from collections.abc import Generator, Callable

from doubleweave._lanes.feeds import SyncFeed
from doubleweave.core.effects import LifeOn
from doubleweave.models.cancellation import CancellationToken
from doubleweave.models.events import FlowEvent
from doubleweave.models.records import ExecutionResult

from .executor import drive


def watch(
    make_life: Callable[[Callable[[FlowEvent], None]], LifeOn[ExecutionResult]], name: str, token: CancellationToken
) -> Generator[FlowEvent]:
    """Drive `make_life(put)` in the background and yield what it puts; then raise what it raised, if anything.

    Nothing happens before the first event is asked for. When the reader leaves early the run is stopped, with the help of
    `token` where nothing else can stop it, and has ended before this returns.
    """
    feed = SyncFeed(name, token)
    try:
        feed.start(lambda: drive(make_life(feed.put)))
        while (event := feed.next()) is not None:
            yield event
    finally:
        feed.close()
