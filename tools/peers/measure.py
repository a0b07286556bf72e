"""Measures one peer at one work in its own environment: `python -m peers.measure NAME WORK` prints a line of JSON.

The loop written by hand, doubleweave and the peer take turns in the process, which has nothing else in it.
"""

import gc
import importlib
import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from operator import attrgetter
from typing import Any

import bench_floors as floors
from bench_flows import chain_of, dag_of, executor_for
from bench_rows import PAIRS, Awaited, seconds
from doubleweave import ExecutionResult, StepRecord
from peers import PEERS, WORKS, Work

LONG_SECONDS, TURNS_OF_LONG = 0.5, 3
SAMPLE_SECONDS = 0.02

_all_fields = attrgetter(*StepRecord.model_fields)


def sized(work: Work) -> int | list[floors.Level]:
    return work.size if isinstance(work.size, int) else floors.levels(work.size)


def ours(work: Work, awaited: Awaited, look: Callable[[ExecutionResult], Any]) -> Callable[[Any], Any]:
    size = sized(work)
    flow = chain_of(size) if isinstance(size, int) else dag_of(size)
    if work.awaited:
        executor = executor_for(flow, floors.increment_awaited, max_step_concurrency=1000)
        run = partial(executor.execute_flow_async, "flow")
        return lambda x: look(awaited(run, {"x": x})())
    blocking = executor_for(flow, floors.increment)
    return lambda x: look(blocking.execute_flow("flow", {"x": x}))


def floor(work: Work, awaited: Awaited) -> Callable[[], Any]:
    size = sized(work)
    if isinstance(size, int):
        return awaited(floors.chain_awaited, size) if work.awaited else partial(floors.chain, size)
    return awaited(floors.dag_gathered, size) if work.awaited else partial(floors.dag, size)


def read_log(result: ExecutionResult) -> None:
    for record in result.execution_log:
        _all_fields(record)


def check(run: Callable[[Any], Any], expected: int) -> None:
    """Raise unless a run ends with the right value, and fails when it starts with a wrong one."""
    if (found := run(0)) != expected:
        raise AssertionError(f"the last value is {found!r}, not {expected}")
    try:
        run("no number")
    except Exception:
        return
    raise AssertionError("a wrong value was not refused")


def measured(work: Work, make: Callable[[Any], Callable[[Any], Any]]) -> dict[str, Any]:
    awaited = Awaited()
    made = make(sized(work))
    run = (lambda x: awaited(made, x)()) if work.awaited else made

    def last_value(result: ExecutionResult) -> Any:
        return list((result.final_output or {}).values())[-1]

    plain, read = ours(work, awaited, last_value), ours(work, awaited, read_log)
    check(run, work.last_value)
    check(plain, work.last_value)
    runs = {"floor": floor(work, awaited)}
    runs |= {"ours": partial(plain, 0), "read": partial(read, 0), "peer": partial(run, 0)}
    once = {who: min(seconds(each), seconds(each)) for who, each in runs.items()}
    repeat = {who: max(1, int(SAMPLE_SECONDS / took)) for who, took in once.items()}
    turns = PAIRS if once["peer"] < LONG_SECONDS else TURNS_OF_LONG
    found: dict[str, list[float]] = {who: [] for who in runs}
    for _ in range(turns):
        for who, each in runs.items():
            # What one leaves to the garbage collector is not for the next one to pay, and collecting empties the
            # caches of the processor, so one run is not counted.
            gc.collect()
            if once[who] < LONG_SECONDS:
                each()
            found[who].append(seconds(each, repeat[who]))
    row: dict[str, Any] = {"turns": turns}
    for who, times in found.items():
        row[f"{who}_us"] = round(statistics.median(times) / work.steps * 1e6, 2)
        if who != "floor":
            row[who] = round(statistics.median(a / b for a, b in zip(times, found["floor"], strict=True)), 2)
    return row


def main(name: str, title: str) -> None:
    work = WORKS[title]
    package = PEERS[name].requirement.split("==")[0]
    make = getattr(importlib.import_module(f"peers.{name}"), work.function, None)
    row = {} if make is None else measured(work, make)
    print(json.dumps({"versions": {each: version(each) for each in (package, "pydantic")}, "row": row}))


if __name__ == "__main__":
    main(*sys.argv[1:])
