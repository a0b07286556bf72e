"""Dask: a graph of calls; plain values, so each step validates by hand. It awaits nothing.

Measured with its scheduler that runs calls one by one: for steps as short as these its threads only cost.
"""

from collections.abc import Callable
from typing import Any

from dask.local import get_sync

from bench_floors import Level
from peers.by_hand import step


def chain(length: int) -> Callable[[Any], Any]:
    graph = {f"n{index}": (step, f"n{index - 1}" if index else "x") for index in range(length)}
    return lambda x: get_sync({"x": x, **graph}, f"n{length - 1}")


def layers(shape: list[Level]) -> Callable[[Any], Any]:
    graph: dict[str, Any] = {}
    before: list[str] = []
    for level in shape:
        graph |= {target: (_member, source, *before) for source, target in level}
        before = [target for _, target in level]
    return lambda x: get_sync({"x": x, **graph}, shape[-1][-1][1])


def _member(x: int, *level: int) -> int:
    return step(x)
