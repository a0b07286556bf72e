# Generated from src/doubleweave/_async/executor.py by "make generate". Do not edit.
"""Driving a life to its end."""

from typing import TypeVar

from doubleweave._lanes.performers import SyncPerformer
from doubleweave.core.effects import LifeOn
from doubleweave.core.fibers import Fibers

T = TypeVar("T")


def drive(make_life: LifeOn[T]) -> T:
    """Take a life on this lane to its end and return its result; nothing that it started outlives the call."""
    performer = SyncPerformer()
    fibers = Fibers(make_life(performer))
    try:
        performer.work(fibers)
    except BaseException as interrupt:
        fibers.interrupt(interrupt)
    finally:
        performer.close()
    result: T = fibers.result()
    return result
