# The one hand-written source of both lanes; edit here and run "make generate".
"""Driving a life: take each effect that it yields, perform it, give the outcome back."""

from typing import Any, TypeVar

from doubleweave._lanes.performers import AsyncPerformer
from doubleweave.core.effects import Fork, Life, unwrapped
from doubleweave.core.fibers import Fiber, Fibers

T = TypeVar("T")


async def drive(life: Life[T]) -> T:
    """Take a life to its end and return its result; nothing that it started outlives the call."""
    performer = AsyncPerformer()
    try:
        return await _drive(life, performer)
    finally:
        await performer.close()


async def _drive(life: Life[T], performer: AsyncPerformer) -> T:
    """Drive a life whose effects come one at a time; hand over as soon as it forks."""
    try:
        effect = next(life)
        while type(effect) is not Fork:
            try:
                value = await performer.perform(effect)
            except BaseException as error:
                effect = life.throw(unwrapped(error))
            else:
                effect = life.send(value)
    except StopIteration as stop:
        result: T = stop.value
        return result
    return await _drive_side_by_side(life, effect, performer)


async def _drive_side_by_side(life: Life[T], effect: Any, performer: AsyncPerformer) -> T:
    """Drive a life and those that it forks, until the first one ends."""
    fibers = Fibers(life)
    fibers.begin(effect)
    try:
        while not fibers.ended:
            while fibers.abandoned:
                performer.drop(fibers.abandoned.pop())
            fiber, value, error = await _next_outcome(fibers, performer)
            fibers.resume(fiber, value, error)
    except BaseException as interrupt:
        fibers.interrupt(interrupt)
    if fibers.error is not None:
        raise fibers.error
    outcome: T = fibers.value
    return outcome


async def _next_outcome(fibers: Fibers, performer: AsyncPerformer) -> tuple[Fiber, Any, BaseException | None]:
    """Perform what the fibers request and return the first outcome; a lone request is performed on the spot."""
    if len(fibers.requested) == 1 and not performer.busy:
        fiber, effect = fibers.requested.popleft()
        try:
            return fiber, await performer.perform(effect), None
        except BaseException as raised:
            return fiber, None, unwrapped(raised)
    while fibers.requested:
        performer.start(*fibers.requested.popleft())
    fiber, value, error = await performer.next()
    return fiber, value, error if error is None else unwrapped(error)
