"""Haystack: components joined by sockets that carry plain values, so each step validates by hand."""

from collections.abc import Awaitable, Callable
from typing import Any

from haystack import Pipeline, component

from bench_floors import Level
from peers.by_hand import step, step_awaited


class Node:
    """A step; `x` is what it works with, the rest is what it only waits for."""

    def __init__(self, others: int) -> None:
        component.set_input_types(self, x=int, **{f"other{index}": int for index in range(others)})
        component.set_output_types(self, x=int)

    def run(self, x: int, **others: int) -> dict[str, int]:
        return {"x": step(x)}

    async def run_async(self, x: int, **others: int) -> dict[str, int]:
        return {"x": await step_awaited(x)}


def chain(length: int) -> Callable[[Any], Any]:
    return layers(_one_a_level(length))


def chain_awaited(length: int) -> Callable[[Any], Awaitable[Any]]:
    return layers_awaited(_one_a_level(length))


def layers(shape: list[Level]) -> Callable[[Any], Any]:
    pipeline, last = _pipeline(shape), shape[-1][-1][1]
    return lambda x: pipeline.run(_start(shape, x))[last]["x"]


def layers_awaited(shape: list[Level]) -> Callable[[Any], Awaitable[Any]]:
    pipeline, last = _pipeline(shape), shape[-1][-1][1]

    async def run(x: Any) -> Any:
        return (await pipeline.run_async(_start(shape, x), concurrency_limit=1000))[last]["x"]

    return run


def _one_a_level(length: int) -> list[Level]:
    return [[(f"n{index - 1}" if index else "x", f"n{index}")] for index in range(length)]


def _start(shape: list[Level], x: Any) -> dict[str, Any]:
    return {target: {"x": x} for _, target in shape[0]}


def _pipeline(shape: list[Level]) -> Any:
    kind, pipeline = component(Node), Pipeline()
    before: list[str] = []
    for level in shape:
        for source, target in level:
            others = [each for each in before if each != source]
            pipeline.add_component(target, kind(len(others)))
            if before:
                pipeline.connect(f"{source}.x", f"{target}.x")
            for index, other in enumerate(others):
                pipeline.connect(f"{other}.x", f"{target}.other{index}")
        before = [target for _, target in level]
    return pipeline
