"""A run interrupted on either lane and resumed on either lane ends as if nothing had happened."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import flows_to_interrupt
import random_flows
from doubleweave import (
    AnyFlow,
    CancellationToken,
    ExecutionResult,
    ExecutionSnapshot,
    FileCheckpointer,
    FlowCancelledError,
    FlowExecutor,
    InMemoryCheckpointer,
)
from flows_to_interrupt import SHAPES, completed
from lanes_under_test import normalised
from resume_under_test import LANES, execute, make_executor, resume

Boundary = tuple[str, int]
ON_BOTH_LANES = pytest.mark.parametrize("lane", LANES)
CONCURRENCY = pytest.mark.parametrize("concurrency", [1, 3])


class Interrupted(Exception):
    """What ends a run at a boundary."""


class Watched(FileCheckpointer):
    """Files that write down every boundary; at one of them, `stop` is called after the snapshot is saved."""

    def __init__(self, root: Path, at: Boundary | None = None, stop: Any = None) -> None:
        super().__init__(root)
        self.at, self.stop = at, stop
        self.boundaries: list[Boundary] = []

    def save(self, snapshot: ExecutionSnapshot) -> None:
        super().save(snapshot)
        boundary = (snapshot.flow_name, completed(snapshot))
        self.boundaries.append(boundary)
        if boundary == self.at:
            self.at = None
            self.stop()


class Calls:
    def __init__(self) -> None:
        self.names: list[str] = []
        self.lock = threading.Lock()

    def __call__(self, name: str) -> None:
        with self.lock:
            self.names.append(name)


def make(shape: str, calls: Calls, concurrency: int, store: FileCheckpointer) -> FlowExecutor:
    tools = flows_to_interrupt.tools(calls)
    return make_executor(SHAPES[shape], tools, checkpointer=store, max_step_concurrency=concurrency)


def uninterrupted(shape: str, root: Path) -> tuple[ExecutionResult, list[Boundary]]:
    store = Watched(root)
    result = execute("sync", make(shape, Calls(), 1, store))
    assert result.success
    return result, list(dict.fromkeys(store.boundaries))


def trace_of_main(store: FileCheckpointer) -> str | None:
    kept = [store.load(trace_id) for trace_id in store.list_trace_ids()]
    return next((each.trace_id for each in kept if each is not None and each.flow_name == "main"), None)


def check_resumed(lane: str, shape: str, concurrency: int, root: Path, whole: ExecutionResult) -> None:
    """Resume the run of `main` that stands in a folder; its completed steps do not run again, and it ends as `whole`."""
    store = FileCheckpointer(root)
    trace_id = trace_of_main(store)
    assert trace_id is not None
    kept = store.load(trace_id)
    assert kept is not None
    done = {record.tool_name for record in kept.execution_log}
    calls = Calls()
    result = resume(lane, make(shape, calls, concurrency, store), trace_id)
    assert normalised(result) == normalised(whole)
    assert result.trace_id == trace_id
    assert done.isdisjoint(calls.names)
    assert trace_of_main(store) is None


def check_resumed_every_way(shape: str, root: Path, whole: ExecutionResult) -> None:
    for lane, concurrency in product(LANES, [1, 3]):
        copy = root.with_name(f"{root.name}-{lane}-{concurrency}")
        shutil.copytree(root, copy)
        check_resumed(lane, shape, concurrency, copy, whole)


def test_the_boundaries_are_those_of_every_flow_down_to_the_third_level_below(tmp_path: Path) -> None:
    _, linear = uninterrupted("linear", tmp_path / "linear")
    _, dag = uninterrupted("dag", tmp_path / "dag")
    below = {("middle", 1), ("middle", 2), ("middle", 3), ("inner", 1), ("inner", 2), ("inner", 3)}
    below |= {("innermost", 1), ("innermost", 2)}
    assert set(linear) == below | {("main", number) for number in range(1, 6)}
    assert set(dag) == below | {("main", number) for number in range(1, 6)}


@ON_BOTH_LANES
@CONCURRENCY
@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_that_an_error_ended_at_any_boundary_ends_as_if_it_had_not(
    lane: str, concurrency: int, shape: str, tmp_path: Path
) -> None:
    whole, boundaries = uninterrupted(shape, tmp_path / "whole")
    resumed = 0

    def stop() -> None:
        raise Interrupted

    for number, boundary in enumerate(boundaries):
        root = tmp_path / str(number)
        with pytest.raises(Interrupted):
            execute(lane, make(shape, Calls(), concurrency, Watched(root, boundary, stop)))
        # Where steps overlap, the end can come from a sub-flow before the first level is saved.
        if trace_of_main(FileCheckpointer(root)) is not None:
            check_resumed_every_way(shape, root, whole)
            resumed += 1
    assert resumed == len(boundaries) or (concurrency > 1 and resumed >= 5)


@ON_BOTH_LANES
@CONCURRENCY
@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_that_was_cancelled_at_any_boundary_ends_as_if_it_had_not(
    lane: str, concurrency: int, shape: str, tmp_path: Path
) -> None:
    whole, boundaries = uninterrupted(shape, tmp_path / "whole")
    resumed = 0
    for number, boundary in enumerate(boundaries):
        root, token = tmp_path / str(number), CancellationToken()
        executor = make(shape, Calls(), concurrency, Watched(root, boundary, token.cancel))
        try:
            result = execute(lane, executor, cancel_token=token)
        except FlowCancelledError:
            if trace_of_main(FileCheckpointer(root)) is not None:
                check_resumed_every_way(shape, root, whole)
                resumed += 1
        else:  # nothing is left to be cancelled after the last step
            assert (boundary, normalised(result)) == (("main", 5), normalised(whole))
    assert resumed == len(boundaries) - 1 or (concurrency > 1 and resumed >= 4)


# Shape, the tool at which the process is killed, how many steps or levels of the flow are saved by then.
KILLED = [
    ("linear", "z2", 1),
    ("linear", "b", 2),
    ("linear", "c", 4),
    ("dag", "z1", 1),
    ("dag", "e", 2),
    ("dag", "h", 4),
]


@ON_BOTH_LANES
@CONCURRENCY
@pytest.mark.parametrize(("shape", "tool", "boundary"), KILLED)
def test_a_run_whose_process_was_killed_ends_as_if_it_had_not(
    lane: str, concurrency: int, shape: str, tool: str, boundary: int, tmp_path: Path
) -> None:
    whole, _ = uninterrupted(shape, tmp_path / "whole")
    root = tmp_path / "killed"
    arguments = [shape, lane, str(concurrency), str(root), tool, str(boundary)]
    command = [sys.executable, flows_to_interrupt.__file__, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
        finally:
            child.kill()
        assert child.wait(timeout=30) == -signal.SIGKILL
    trace_id = trace_of_main(FileCheckpointer(root))
    assert trace_id is not None
    kept = FileCheckpointer(root).load(trace_id)
    assert kept is not None
    assert completed(kept) == boundary
    assert [name for name in os.listdir(root) if not name.endswith(".snapshot.json")] == []
    check_resumed_every_way(shape, root, whole)


# --- any flow, any boundary ---

EXAMPLES = int(os.environ.get("DOUBLEWEAVE_RESUME_EXAMPLES", "300"))


class Counted(InMemoryCheckpointer):
    """Raises after the n-th snapshot of the flow `main`."""

    def __init__(self, last: int | None = None) -> None:
        super().__init__()
        self.last, self.count = last, 0

    def save(self, snapshot: ExecutionSnapshot) -> None:
        super().save(snapshot)
        if snapshot.flow_name == "main":
            self.count += 1
            if self.count == self.last:
                raise Interrupted


def outcome(call: Any) -> Any:
    """Return what a run shows: its result or its error."""
    try:
        return normalised(call())
    except Interrupted:
        raise
    except Exception as error:
        return type(error).__name__, str(error)


def without_memory(flow: AnyFlow) -> AnyFlow:
    """Return the flow without the tool that behaves differently when it is called a second time."""
    steps = [
        each.model_copy(update={"tool_name": "inc"}) if each.tool_name in random_flows.FLAKY else each
        for each in flow.steps
    ]
    return flow.model_copy(update={"steps": steps})


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
)
@given(
    flow=st.one_of(random_flows.linear_flows(), random_flows.dag_flows()),
    start=st.integers(0, 9),
    boundary=st.integers(0, 10),
    lanes=st.tuples(st.sampled_from(LANES), st.sampled_from(LANES)),
    concurrencies=st.tuples(st.sampled_from([1, 3]), st.sampled_from([1, 3])),
)
def test_a_snapshot_at_any_boundary_of_any_flow_resumes_to_the_same_result(
    flow: AnyFlow, start: int, boundary: int, lanes: tuple[str, str], concurrencies: tuple[int, int]
) -> None:
    if concurrencies[0] > 1:
        flow = without_memory(flow)  # steps that ran ahead of the snapshot run again
    flows = [flow, random_flows.INNER]
    counted = Counted()
    executor = make_executor(flows, random_flows.tools(), checkpointer=counted)
    whole = outcome(lambda: execute("sync", executor, {"n": start}))
    assume(counted.count)
    store, tools = Counted(1 + boundary % counted.count), random_flows.tools()
    executor = make_executor(flows, tools, checkpointer=store, max_step_concurrency=concurrencies[0])
    try:
        shown = outcome(lambda: execute(lanes[0], executor, {"n": start}))
    except Interrupted:
        executor = make_executor(flows, tools, checkpointer=store, max_step_concurrency=concurrencies[1])
        kept = [each for trace_id in store.list_trace_ids() if (each := store.load(trace_id)) is not None]
        (trace_id,) = [each.trace_id for each in kept if each.flow_name == "main"]
        shown = outcome(lambda: resume(lanes[1], executor, trace_id))
    assert shown == whole
