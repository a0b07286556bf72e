# The one hand-written source of both lanes; edit here and run "make generate".
"""Driving a life to its end."""

from typing import TypeVar

from doubleweave._lanes.performers import AsyncPerformer
from doubleweave.core.effects import Life
from doubleweave.core.fibers import Fibers

T = TypeVar("T")


async def drive(life: Life[T]) -> T:
    """Take a life to its end and return its result; nothing that it started outlives the call."""
    performer = AsyncPerformer()
    fibers = Fibers(life)
    try:
        await performer.work(fibers)
    except BaseException as interrupt:
        fibers.interrupt(interrupt)
    finally:
        await performer.close()
    result: T = fibers.result()
    return result
