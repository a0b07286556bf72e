# Generated from src/doubleweave/_async/executor.py by "make generate". Do not edit.
"""Driving a life: take each effect that it yields, perform it, give the outcome back."""

from typing import Any, TypeVar

from doubleweave._lanes.performers import SyncPerformer
from doubleweave.core.effects import SPREAD, Life, unwrapped
from doubleweave.core.fibers import Fibers

T = TypeVar("T")


def drive(life: Life[T]) -> T:
    """Take a life to its end and return its result; nothing that it started outlives the call."""
    performer = SyncPerformer()
    try:
        return _drive(life, performer)
    finally:
        performer.close()


def _drive(life: Life[T], performer: SyncPerformer) -> T:
    """Drive a life whose effects come one at a time; hand over when it spreads."""
    try:
        effect = next(life)
        while effect is not SPREAD:
            try:
                value = performer.perform(effect)
            except BaseException as error:
                effect = life.throw(unwrapped(error))
            else:
                effect = life.send(value)
    except StopIteration as stop:
        result: T = stop.value
        return result
    outcome: T = _drive_side_by_side(Fibers(life), performer)
    return outcome


def _drive_side_by_side(fibers: Fibers, performer: SyncPerformer) -> Any:
    """Drive a life and those that it forks, until the first one ends."""
    try:
        performer.work(fibers)
    except BaseException as interrupt:
        fibers.interrupt(interrupt)
    return fibers.result()
