"""Runs, streams, resumes and replays of one executor at once, from tasks and from threads: nothing crosses over."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import AnyFlow, DAGFlowStep, FlowEvent, FlowStep, Tool
from lanes_under_test import Anything, Case
from parity_scenarios import linear, step
from streams_under_test import executor_for

MANY = 100
SECONDS = 60
CALLER: ContextVar[int] = ContextVar("caller")


def read_tool(name: str, fn: Callable[[Any], Any]) -> Tool:
    return Tool(name=name, description="", input_schema=Anything, output_schema=Anything, fn=fn)


class World:
    """One executor for everybody. The first tool lets nobody pass before `parties` runs have come to it."""

    def __init__(self, parties: int, kind: type[Any] = dw.FlowExecutor) -> None:
        self.calls: list[tuple[int, int]] = []
        self._missing = parties
        self._lock = threading.Lock()
        self._all_there = threading.Event()
        self.snapshots = dw.InMemoryCheckpointer()
        self.ends: list[tuple[str, int]] = []
        self.refuses = True
        self.executor = executor_for(
            Case(self.flows(), self.tools), kind, checkpointer=self.snapshots, middleware=[self], max_step_concurrency=2
        )

    def flows(self) -> list[AnyFlow]:
        nodes = [
            DAGFlowStep(step_id="m", tool_name="meet", input_mapping={"n": "n"}, output_mapping={"met": "n"}),
            DAGFlowStep(step_id="l", tool_name="later", input_mapping={"n": "n"}, output_mapping={"later": "n"}),
            DAGFlowStep(
                step_id="s",
                flow_name="inner",
                input_mapping={"n": "met"},
                output_mapping={"sub": "n"},
                depends_on=["m", "l"],
            ),
        ]
        return [
            dw.DAGFlow(name="main", version="1", description="", steps=nodes),
            linear(step("later"), step("plain"), name="inner"),
            linear(step("plain"), step("perhaps"), FlowStep(flow_name="inner"), name="halting"),
        ]

    def tools(self) -> list[Tool]:
        async def later(v: Any) -> dict[str, int]:
            await asyncio.sleep(0)
            return self.note(v.n)

        return [
            read_tool("meet", self.meet),
            read_tool("later", later),
            read_tool("plain", lambda v: self.note(v.n)),
            read_tool("perhaps", self.perhaps),
        ]

    def note(self, number: int) -> dict[str, int]:
        self.calls.append((number, CALLER.get()))
        return {"n": number}

    def meet(self, v: Any) -> dict[str, int]:
        with self._lock:
            self._missing -= 1
            if self._missing == 0:
                self._all_there.set()
        assert self._all_there.wait(timeout=SECONDS)
        return self.note(v.n)

    def perhaps(self, v: Any) -> dict[str, int]:
        if self.refuses:
            raise ValueError("not now")
        return self.note(v.n)

    def on_flow_end(self, ctx: Any) -> None:
        self.ends.append((ctx.trace_id, ctx.result.initial_input["n"]))


def check_result(result: dw.ExecutionResult, number: int) -> None:
    assert (result.success, result.initial_input) == (True, {"n": number})
    assert result.final_output == {"n": number, "met": number, "later": number, "sub": number}
    assert [(r.step_index, r.inputs, r.outputs) for r in result.execution_log] == [
        (index, {"n": number}, {"n": number}) for index in range(3)
    ]


def check_events(events: list[FlowEvent], number: int) -> None:
    """Whatever order two steps at once may take, everything in the stream is the reader's own."""
    assert [(events[0].kind, events[0].initial_input), events[-1].kind] == [("flow_start", {"n": number}), "flow_end"]
    outer = [event for event in events if event.flow_name == "main"]
    inner = [event for event in events if event.flow_name == "inner"]
    assert sorted((e.kind, e.step_index) for e in outer[1:-1]) == [
        (kind, index) for kind in ("step_end", "step_start") for index in range(3)
    ]
    assert [(e.kind, e.step_index) for e in inner] == [
        ("flow_start", None),
        ("step_start", 0),
        ("step_end", 0),
        ("step_start", 1),
        ("step_end", 1),
        ("flow_end", None),
    ]
    assert [len({event.trace_id for event in part}) for part in (outer, inner)] == [1, 1]
    assert {event.inputs["n"] for event in events if event.inputs is not None} == {number}
    last = events[-1].result
    assert last is not None
    assert {last.trace_id} == {event.trace_id for event in outer}
    check_result(last, number)


def check_world(world: World, trace_ids: list[str], count: int) -> None:
    """Each run has its own id, ended once, and every tool saw the context variable of its own caller."""
    assert len(trace_ids) == len(set(trace_ids)) == count
    assert len(world.calls) >= 4 * count // 2
    assert all(number == caller for number, caller in world.calls)
    outer = [end for end in world.ends if end[0] in set(trace_ids)]
    assert sorted(end[0] for end in outer) == sorted(trace_ids)
    assert len(set(world.ends)) == len(world.ends)
    assert world.executor.middleware == (world,)


def in_threads(work: Callable[[int], str], numbers: Sequence[int]) -> list[str]:
    found: dict[int, str] = {}
    errors: list[BaseException] = []

    def one(number: int) -> None:
        CALLER.set(number)
        try:
            found[number] = work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=SECONDS)
    assert errors == []
    return [found[number] for number in numbers]


async def in_tasks(work: Callable[[int], Any], numbers: Sequence[int]) -> list[str]:
    async def one(number: int) -> str:
        CALLER.set(number)
        return str(await work(number))

    return list(await asyncio.wait_for(asyncio.gather(*map(one, numbers)), SECONDS))


def stream_and_check(world: World, number: int) -> str:
    events = list(world.executor.stream_flow("main", {"n": number}))
    check_events(events, number)
    return str(events[0].trace_id)


async def stream_and_check_async(world: World, number: int) -> str:
    method = getattr(world.executor, "stream_flow_async", world.executor.stream_flow)
    events = [event async for event in method("main", {"n": number})]
    check_events(events, number)
    return str(events[0].trace_id)


def test_a_hundred_streams_at_once_in_threads() -> None:
    world = World(MANY)
    ids = in_threads(lambda number: stream_and_check(world, number), range(MANY))
    check_world(world, ids, MANY)


@pytest.mark.parametrize("kind", [dw.FlowExecutor, dw.AsyncFlowExecutor])
async def test_a_hundred_streams_at_once_in_tasks(kind: type[Any]) -> None:
    world = World(MANY, kind)
    ids = await in_tasks(lambda number: stream_and_check_async(world, number), range(MANY))
    check_world(world, ids, MANY)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def halted(world: World, numbers: range) -> dict[int, str]:
    """Run the flow that halts for each number and return the trace ids; a snapshot of each is left."""
    ids = {}
    for number in numbers:
        CALLER.set(number)
        result = world.executor.execute_flow("halting", {"n": number})
        assert [r.error_type for r in result.execution_log] == [None, "FlowExecutionError"]
        ids[number] = result.trace_id
    world.refuses = False
    world.calls.clear()
    world.ends.clear()
    assert sorted(world.snapshots.list_trace_ids()) == sorted(ids.values())
    return ids


def check_resumed(result: dw.ExecutionResult, number: int, trace_id: str) -> str:
    assert (result.trace_id, result.success) == (trace_id, True)
    assert (result.initial_input, result.final_output) == ({"n": number}, {"n": number})
    assert [r.tool_name for r in result.execution_log] == ["plain", "perhaps", "inner"]
    return trace_id


def check_replayed(replayed: dw.ReplayResult, original: dw.ExecutionResult, number: int) -> str:
    assert (replayed.all_steps_match, replayed.original_trace_id) == (True, original.trace_id)
    check_result(replayed.new_result, number)
    return replayed.new_result.trace_id


# Who does what: streams, runs that are replayed afterwards, resumes.
STREAMS, RUNS, RESUMES = range(40), range(40, 70), range(1000, 1030)


class Mix:
    """What each caller does with the one executor, on either lane; `replays` keeps the trace ids of the replays."""

    def __init__(self, world: World, snapshots: dict[int, str]) -> None:
        self.world = world
        self.executor = world.executor
        self.snapshots = snapshots
        self.replays: list[str] = []

    def in_thread(self, number: int) -> str:
        if number in STREAMS:
            return stream_and_check(self.world, number)
        if number in RESUMES:
            trace_id = self.snapshots[number]
            return check_resumed(self.executor.resume_flow(trace_id), number, trace_id)
        result = self.executor.execute_flow("main", {"n": number})
        check_result(result, number)
        self.replays.append(check_replayed(self.executor.replay_flow(result), result, number))
        return str(result.trace_id)

    async def in_task(self, number: int) -> str:
        if number in STREAMS:
            return await stream_and_check_async(self.world, number)
        if number in RESUMES:
            trace_id = self.snapshots[number]
            return check_resumed(await self.executor.resume_flow_async(trace_id), number, trace_id)
        result = await self.executor.execute_flow_async("main", {"n": number})
        check_result(result, number)
        self.replays.append(check_replayed(await self.executor.replay_flow_async(result), result, number))
        return str(result.trace_id)


@pytest.mark.parametrize("of_threads", [0, 1, 2], ids=["tasks", "threads", "every other one"])
def test_runs_streams_resumes_and_replays_at_once(of_threads: int) -> None:
    world = World(len(STREAMS) + len(RUNS))
    mix = Mix(world, halted(world, RESUMES))
    numbers = [*STREAMS, *RUNS, *RESUMES]
    threaded = numbers[::of_threads] if of_threads else []
    found: list[str] = []
    others = threading.Thread(target=lambda: found.extend(in_threads(mix.in_thread, threaded)))
    others.start()
    ids = asyncio.run(in_tasks(mix.in_task, [number for number in numbers if number not in threaded]))
    others.join(timeout=SECONDS)
    check_world(world, [*ids, *found, *mix.replays], len(numbers) + len(RUNS))
    assert world.snapshots.list_trace_ids() == []
