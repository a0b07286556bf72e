# The one hand-written source of both lanes; edit here and run "make generate".
"""Driving a life to its end."""

from typing import TypeVar

from doubleweave._lanes.performers import AsyncPerformer
from doubleweave.core.effects import LifeOn
from doubleweave.core.fibers import Fibers

T = TypeVar("T")


async def drive(make_life: LifeOn[T]) -> T:
    """Take a life on this lane to its end and return its result; nothing that it started outlives the call."""
    performer = AsyncPerformer()
    fibers = Fibers(make_life(performer))
    try:
        await performer.work(fibers)
    except BaseException as interrupt:
        fibers.interrupt(interrupt)
    finally:
        await performer.close()
    result: T = fibers.result()
    return result
