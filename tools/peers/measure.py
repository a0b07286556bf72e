"""Measures one peer in its own environment: `python -m peers.measure NAME` prints a line of JSON a row.

The loop written by hand, doubleweave and the peer take turns in one process.
"""

import gc
import importlib
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from operator import attrgetter
from typing import Any

import bench_floors as floors
from bench_flows import chain_of, dag_of, executor_for
from bench_rows import PAIRS, Awaited, seconds
from doubleweave import AnyFlow, ExecutionResult, StepRecord
from peers import PEERS

LONG_SECONDS, TURNS_OF_LONG = 0.5, 3
SAMPLE_SECONDS = 0.005
WIDTHS = [30] * 30

_all_fields = attrgetter(*StepRecord.model_fields)


@dataclass
class Work:
    """One row: what the peer's function is called and given, and the same for doubleweave and the floor."""

    name: str
    function: str
    size: Any
    steps: int
    expected: int
    flow: AnyFlow
    output: str
    floor: Callable[[], Any]


def works(awaited: Awaited) -> Iterator[Work]:
    for length in (100, 1000):
        of_chain = (length, length, length, chain_of(length), "x")
        name = f"chain of {length:,}"
        yield Work(f"{name}, sync", "chain", *of_chain, partial(floors.chain, length))
        yield Work(f"{name}, async", "chain_awaited", *of_chain, awaited(floors.chain_awaited, length))
    shape = floors.levels(WIDTHS)
    of_dag = (shape, sum(WIDTHS), len(WIDTHS), dag_of(shape), shape[-1][-1][1])
    yield Work("30 x 30 connected, sync", "layers", *of_dag, partial(floors.dag, shape))
    yield Work("30 x 30 connected, async", "layers_awaited", *of_dag, awaited(floors.dag_gathered, shape))


def ours(work: Work, awaited: Awaited, look: Callable[[ExecutionResult], Any]) -> Callable[[Any], Any]:
    if work.function.endswith("_awaited"):
        executor = executor_for(work.flow, floors.increment_awaited, max_step_concurrency=1000)
        run = partial(executor.execute_flow_async, "flow")
        return lambda x: look(awaited(run, {"x": x})())
    blocking = executor_for(work.flow, floors.increment)
    return lambda x: look(blocking.execute_flow("flow", {"x": x}))


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


def measured(work: Work, make: Callable[[Any], Callable[[Any], Any]], awaited: Awaited) -> dict[str, Any]:
    made = make(work.size)
    run = (lambda x: awaited(made, x)()) if work.function.endswith("_awaited") else made

    def last_value(result: ExecutionResult) -> Any:
        return (result.final_output or {})[work.output]

    plain = ours(work, awaited, last_value)
    check(run, work.expected)
    check(plain, work.expected)
    read = ours(work, awaited, read_log)
    runs: dict[str, Callable[[], Any]] = {"floor": work.floor}
    runs |= {"ours": partial(plain, 0), "read": partial(read, 0), "peer": partial(run, 0)}
    once = {who: min(seconds(each), seconds(each)) for who, each in runs.items()}
    repeat = {who: max(1, int(SAMPLE_SECONDS / took)) for who, took in once.items()}
    turns = PAIRS if once["peer"] < LONG_SECONDS else TURNS_OF_LONG
    found: dict[str, list[float]] = {who: [] for who in runs}
    for _ in range(turns):
        for who, each in runs.items():
            # What one leaves to the garbage collector is not for the next one to pay.
            gc.collect()
            found[who].append(seconds(each, repeat[who]))
    row: dict[str, Any] = {"work": work.name, "turns": turns}
    for who, times in found.items():
        row[f"{who}_us"] = round(statistics.median(times) / work.steps * 1e6, 2)
        if who != "floor":
            row[who] = round(statistics.median(a / b for a, b in zip(times, found["floor"], strict=True)), 2)
    return row


def main(name: str) -> None:
    package = PEERS[name].requirement.split("==")[0]
    print(json.dumps({"versions": {each: version(each) for each in (package, "pydantic")}}), flush=True)
    module = importlib.import_module(f"peers.{name}")
    awaited = Awaited()
    for work in works(awaited):
        make = getattr(module, work.function, None)
        try:
            row = {"work": work.name} if make is None else measured(work, make, awaited)
        except Exception as failure:
            row = {"work": work.name, "error": f"{type(failure).__name__}: {failure}"[:200]}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
