"""What is measured: one function a row of the table."""

import asyncio
import gc
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

from jsonschema import Draft202012Validator

import bench_floors as floors
import bench_instructions
from bench_flows import X, chain_of, dag_of, executor_for
from doubleweave import BaseMiddleware, FileCheckpointer, InMemoryCheckpointer, InMemoryStepCache, StepRecord

PAIRS = 15
WAIT_SECONDS = 0.02
DOCUMENT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


@dataclass
class Row:
    """One result: `value` in `unit`, to be at most `gate`, or at least when more is better."""

    name: str
    value: float
    unit: str
    gate: float | None = None
    more_is_better: bool = False
    note: str = ""

    @property
    def holds(self) -> bool:
        if self.gate is None:
            return True
        return self.value >= self.gate if self.more_is_better else self.value <= self.gate


def seconds(work: Callable[[], Any], repeat: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        work()
    return (time.perf_counter() - start) / repeat


def ratio(
    name: str, ours: Callable[[], Any], floor: Callable[[], Any], steps: int, gate: float | None = None, repeat: int = 1
) -> Row:
    """Measure both in alternation, after one run of each; the median of the ratios of the pairs counts."""
    ours()
    floor()
    pairs = [(seconds(ours, repeat), seconds(floor, repeat)) for _ in range(PAIRS)]
    mine, bare = (statistics.median(pair[side] for pair in pairs) / steps * 1e6 for side in (0, 1))
    note = f"{mine:.2f} us a step, floor {bare:.2f}"
    return Row(name, statistics.median(pair[0] / pair[1] for pair in pairs), "x floor", gate, note=note)


class Awaited:
    """Runs coroutines on one loop."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def __call__(self, make: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Callable[[], Any]:
        return lambda: self._runner.run(make(*arguments))


def chains(awaited: Awaited) -> Iterator[Row]:
    for length in (10, 100, 1000):
        gates = (1.6, 1.7) if length >= 100 else (None, None)
        repeat = max(1, 1000 // length)
        flow = chain_of(length)
        run = partial(executor_for(flow, floors.increment).execute_flow, "flow", X)
        yield ratio(f"chain of {length:,}, sync", run, partial(floors.chain, length), length, gates[0], repeat)
        executor = executor_for(flow, floors.increment_awaited)
        ours, floor = awaited(executor.execute_flow_async, "flow", X), awaited(floors.chain_awaited, length)
        yield ratio(f"chain of {length:,}, async", ours, floor, length, gates[1], repeat)


def first_looks(awaited: Awaited) -> Iterator[Row]:
    length = 1000
    executor = executor_for(chain_of(length), floors.increment)
    for name, look in (
        ("every field of the log", _read_log),
        ("result as JSON", lambda result: result.model_dump_json()),
    ):
        pairs = []
        for _ in range(PAIRS):
            result = executor.execute_flow("flow", X)
            pairs.append((seconds(partial(look, result)), seconds(partial(floors.chain, length))))
        value = statistics.median(mine / floor for mine, floor in pairs)
        yield Row(f"first look: {name}, chain of {length:,}", value, "x floor on top", 1.0)


def _read_log(result: Any) -> None:
    for record in result.execution_log:
        _all_fields(record)


_all_fields = attrgetter(*StepRecord.model_fields)


def many_runs(awaited: Awaited) -> Iterator[Row]:
    runs, length = 100, 100
    executor = executor_for(chain_of(length), floors.increment_awaited)
    waits: list[float] = []

    async def at_once() -> None:
        waits.clear()
        start = time.perf_counter()

        async def one() -> None:
            await executor.execute_flow_async("flow", X)
            waits.append(time.perf_counter() - start)

        await asyncio.gather(*(one() for _ in range(runs)))

    floor = awaited(floors.chains_at_once, runs, length)
    yield ratio("100 runs of 100 steps on one loop", awaited(at_once), floor, runs * length, 1.7)
    yield Row("the last of those runs ends at", max(waits) / statistics.median(waits), "x the median", 2.0)


def dags(awaited: Awaited) -> Iterator[Row]:
    for name, widths in (("1 -> 1,000 -> 1", [1, 1000, 1]), ("30 x 30 connected", [30] * 30)):
        shape, steps = floors.levels(widths), sum(widths)
        flow = dag_of(shape)
        run = partial(executor_for(flow, floors.increment).execute_flow, "flow", X)
        yield ratio(f"{name}, sync, concurrency 1", run, partial(floors.dag, shape), steps, 1.8)
        executor = executor_for(flow, floors.increment_awaited, max_step_concurrency=1000)
        ours, floor = awaited(executor.execute_flow_async, "flow", X), awaited(floors.dag_gathered, shape)
        yield ratio(f"{name}, async, concurrency 1,000", ours, floor, steps, 0.9)


def threads(awaited: Awaited) -> Iterator[Row]:
    executor = executor_for(chain_of(100), floors.increment)
    ours, floor = awaited(executor.execute_flow_async, "flow", X), awaited(floors.chain_in_threads, 100)
    # How soon a thread wakes changes from one moment to the next, so each measurement is a long one.
    yield ratio("sync tools on the async lane (floor: to_thread)", ours, floor, 100, 0.9, repeat=20)


def waits(awaited: Awaited) -> Iterator[Row]:
    def nap(value: floors.Value) -> dict[str, int]:
        time.sleep(WAIT_SECONDS)
        return {"x": value.x}

    async def nap_awaited(value: floors.Value) -> dict[str, int]:
        await asyncio.sleep(WAIT_SECONDS)
        return {"x": value.x}

    # For 1,000 at once no gate: a bare gather of as many takes 7 ms longer than one of them.
    for count, concurrency, gate in ((50, 50, 0.9), (1000, 50, 0.9), (1000, 1000, None)):
        flow = dag_of(floors.levels([count]))
        ideal = WAIT_SECONDS * (count / concurrency)
        sync = partial(executor_for(flow, nap, max_step_concurrency=concurrency).execute_flow, "flow", X)
        executor = executor_for(flow, nap_awaited, max_step_concurrency=concurrency)
        pool = ThreadPoolExecutor(concurrency)
        for lane, run, bare in (
            ("sync", sync, partial(floors.waits_in_threads, pool, count, WAIT_SECONDS)),
            (
                "async",
                awaited(executor.execute_flow_async, "flow", X),
                awaited(floors.waits_gathered, count, concurrency, WAIT_SECONDS),
            ),
        ):
            run()
            bare()
            pairs = [(seconds(run), seconds(bare)) for _ in range(PAIRS)]
            mine, theirs = (ideal / statistics.median(pair[side] for pair in pairs) for side in (0, 1))
            note = f"a bare {'pool' if lane == 'sync' else 'gather'}: {theirs:.2f}"
            yield Row(f"{count:,} waits of 20 ms, {concurrency:,} at once, {lane}", mine, "of ideal", gate, True, note)
        pool.shutdown()


def flatness(awaited: Awaited) -> Iterator[Row]:
    runs = {length: runs_of(executor_for(chain_of(length), floors.increment)) for length in (1000, 100_000)}
    yield Row("a step of a chain of 100,000, to one of 1,000", flat(runs), "x", 1.2)
    runs = {steps: runs_of(executor_for(broad(steps), floors.increment)) for steps in (1000, 100_000)}
    yield Row("a step of a DAG of 100,000 with 1,000,000 edges, to one of 1,000", flat(runs), "x", 1.2)
    del runs
    plans = {}
    for steps in (100_000, 200_000):
        run = runs_of(executor_for(broad(steps), floors.increment))
        first = seconds(run)
        plans[steps] = (first - statistics.median(seconds(run) for _ in range(3))) / steps
        del run
    row = "planning a step of 200,000 with 2,000,000 edges, to one of 100,000"
    yield Row(row, plans[200_000] / plans[100_000], "x", 1.2)


def broad(steps: int) -> Any:
    """Return a DAG in which each step depends on ten others."""
    return dag_of(floors.levels([10] * (steps // 10)))


def runs_of(executor: Any) -> Callable[[], Any]:
    return partial(executor.execute_flow, "flow", X)


def flat(runs: dict[int, Callable[[], Any]]) -> float:
    """Return what a step of the longest flow costs to one of the shortest, the median of pairs measured in alternation."""
    short, long = min(runs), max(runs)
    for run in runs.values():
        run()
    pairs = [(seconds(runs[short], 10) / short, seconds(runs[long]) / long) for _ in range(PAIRS)]
    return statistics.median(pair[1] / pair[0] for pair in pairs)


def memory(awaited: Awaited) -> Iterator[Row]:
    executor = executor_for(chain_of(10_000), floors.increment)
    executor.execute_flow("flow", X)
    gc.collect()
    tracemalloc.start()
    result = executor.execute_flow("flow", X)
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0] / 10_000
    assert len(result.execution_log) == 10_000
    gc.collect()
    seen = tracemalloc.get_traced_memory()[0] / 10_000
    tracemalloc.stop()
    yield Row("memory of a step's record, not looked at", kept, "bytes", 1500)
    yield Row("memory of a step's record, looked at", seen, "bytes", 1500)


def json_schemas(awaited: Awaited) -> Iterator[Row]:
    def work(value: dict[str, int]) -> dict[str, int]:
        return {"x": value["x"] + 1}

    validate = Draft202012Validator(DOCUMENT).iter_errors
    run = partial(executor_for(chain_of(100), work, schema=DOCUMENT).execute_flow, "flow", X)
    floor = partial(floors.checked_chain, 100, lambda value: list(validate(value)))
    yield ratio("JSON Schema tools (floor: jsonschema alone)", run, floor, 100, 1.5)


def options(awaited: Awaited) -> Iterator[Row]:
    # Not installed where this module is used to measure other libraries.
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider

    from doubleweave.integrations.opentelemetry import OTelMetricsMiddleware, OTelTraceExporter

    class Listener(BaseMiddleware):
        def on_step_end(self, ctx: Any) -> None:
            pass

    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("bench")
    meter = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("bench")
    length = 1000
    plain = partial(executor_for(chain_of(length), floors.increment).execute_flow, "flow", X)
    floor = partial(floors.chain, length)
    for name, gate, settings in (
        ("a cache hit in memory", 3.0, {"step_cache": InMemoryStepCache()}),
        ("a snapshot in memory after each step", 3.0, {"checkpointer": InMemoryCheckpointer()}),
        ("middleware that listens to the end of steps", None, {"middleware": [Listener()]}),
        ("OpenTelemetry spans (SDK, no exporter)", None, {"middleware": [OTelTraceExporter(tracer)]}),
        ("OpenTelemetry metrics (SDK, read by nobody)", None, {"middleware": [OTelMetricsMiddleware(meter)]}),
    ):
        run = partial(executor_for(chain_of(length), floors.increment, **settings).execute_flow, "flow", X)
        yield ratio(f"with {name}, chain of {length:,}", run, floor, length, gate)
    executor = executor_for(chain_of(length), floors.increment)
    yield ratio("as a stream of events", lambda: list(executor.stream_flow("flow", X)), floor, length)
    shape = floors.levels([1, length, 1])
    beside, awaited_beside = (
        executor_for(dag_of(shape), fn, max_step_concurrency=8) for fn in (floors.increment, floors.increment_awaited)
    )
    for lane, work in (
        ("sync", partial(beside.execute_flow, "flow", X)),
        ("async", awaited(awaited_beside.execute_flow_async, "flow", X)),
    ):
        yield ratio(
            f"with max_step_concurrency=8, 1 -> 1,000 -> 1, {lane}", work, partial(floors.dag, shape), length + 2
        )
    logger = logging.getLogger("doubleweave.executor")
    handler = logging.NullHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield ratio("with INFO lines that nobody writes", plain, floor, length)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
    logger.removeHandler(handler)
    with tempfile.TemporaryDirectory() as folder:
        for steps in (20, 200):
            saving = executor_for(chain_of(steps), floors.increment, checkpointer=FileCheckpointer(folder))
            value = seconds(partial(saving.execute_flow, "flow", X)) / steps * 1e6
            yield Row(f"with a snapshot in a file after each of {steps} steps", value, "us a step")


def imports(awaited: Awaited) -> Iterator[Row]:
    used = (
        "asyncio, dataclasses, datetime, hashlib, heapq, importlib.metadata, inspect, json, logging, queue, threading"
    )
    floor = f"import {used}\nfrom pydantic import BaseModel\nclass M(BaseModel):\n    x: int\n"
    for name, ours, gate in (
        ("import doubleweave", "import doubleweave", 1.3),
        (
            "import what a first run needs",
            "from doubleweave import Flow, FlowExecutor, FlowRegistry, FlowStep, tool",
            None,
        ),
    ):
        runs = {code: partial(subprocess.run, [sys.executable, "-c", code], check=True) for code in (ours, floor)}
        for run in runs.values():
            run()
        pairs = [(seconds(runs[ours]), seconds(runs[floor])) for _ in range(PAIRS)]
        yield Row(name, statistics.median(mine / bare for mine, bare in pairs), "x floor", gate)


def instructions(awaited: Awaited) -> Iterator[Row]:
    """Count instead of measuring; by name only, or when the results are kept, for it takes as long as all the others."""
    if not bench_instructions.can_count():
        return
    for lane, gate in (("sync", 1.6), ("async", 1.7)):
        mine, bare = (bench_instructions.instructions_a_step(lane, side) for side in ("ours", "floor"))
        note = f"{mine:,.0f} a step, floor {bare:,.0f}"
        yield Row(f"instructions of a chain of 1,000, {lane}", mine / bare, "x floor", gate, note=note)


ALL = (chains, first_looks, many_runs, dags, threads, waits, flatness, memory, json_schemas, options, imports)
