"""What a user would write by hand instead of a flow: the loops that the benchmarks compare with.

Each validates the input of every step, calls the tool, validates and dumps its output, and merges it.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel


class Value(BaseModel):
    x: int


def increment(value: Value) -> dict[str, int]:
    return {"x": value.x + 1}


async def increment_awaited(value: Value) -> dict[str, int]:
    return {"x": value.x + 1}


def chain(length: int) -> None:
    context = {"x": 0}
    for _ in range(length):
        given = Value.model_validate({"x": context["x"]})
        context.update(Value.model_validate(increment(given)).model_dump())


async def chain_awaited(length: int) -> None:
    context = {"x": 0}
    for _ in range(length):
        given = Value.model_validate({"x": context["x"]})
        context.update(Value.model_validate(await increment_awaited(given)).model_dump())


async def chain_in_threads(length: int) -> None:
    context = {"x": 0}
    for _ in range(length):
        given = Value.model_validate({"x": context["x"]})
        context.update(Value.model_validate(await asyncio.to_thread(increment, given)).model_dump())


async def chains_at_once(runs: int, length: int) -> None:
    await asyncio.gather(*(chain_awaited(length) for _ in range(runs)))


Level = list[tuple[str, str]]
"""The steps of a level: the key that each reads and the key that it writes."""


def levels(widths: list[int]) -> list[Level]:
    """Return levels in which the step `i` reads what the step `i` of the level before wrote, or what its first one did."""
    shape: list[Level] = []
    before = ["x"]
    for number, width in enumerate(widths):
        keys = [f"k{number}_{index}" for index in range(width)]
        shape.append([(before[index % len(before)], key) for index, key in enumerate(keys)])
        before = keys
    return shape


def dag(shape: list[Level]) -> None:
    context = {"x": 0}
    for level in shape:
        outputs = {}
        for source, target in level:
            given = Value.model_validate({"x": context[source]})
            outputs[target] = Value.model_validate(increment(given)).model_dump()["x"]
        context.update(outputs)


async def dag_gathered(shape: list[Level]) -> None:
    context = {"x": 0}

    async def step(source: str, target: str) -> tuple[str, int]:
        given = Value.model_validate({"x": context[source]})
        return target, Value.model_validate(await increment_awaited(given)).model_dump()["x"]

    for level in shape:
        context.update(await asyncio.gather(*(step(*each) for each in level)))


def waits_in_threads(pool: ThreadPoolExecutor, count: int, wait: float) -> None:
    for _ in pool.map(lambda _: time.sleep(wait), range(count)):
        pass


async def waits_gathered(count: int, concurrency: int, wait: float) -> None:
    free = asyncio.Semaphore(concurrency)

    async def one() -> None:
        async with free:
            await asyncio.sleep(wait)

    await asyncio.gather(*(one() for _ in range(count)))


def checked_chain(length: int, matches: Callable[[Any], Any]) -> None:
    """The chain with a compiled JSON Schema validator in place of a model."""
    context = {"x": 0}
    for _ in range(length):
        given = {"x": context["x"]}
        matches(given)
        output = {"x": given["x"] + 1}
        matches(output)
        context.update(output)
