"""Recording what tools answer and serving it again: RR-1 to RR-4."""

import asyncio
import subprocess
import sys
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import doubleweave as dw
from doubleweave import (
    AnyFlow,
    AsyncFlowExecutor,
    ExecutionResult,
    RetryPolicy,
    StreamingTool,
    Tool,
)
from doubleweave.testing import RecordReplayMode, record_then_replay
from doubleweave.testing.replay import (
    RECORD_ENV_VAR,
    _json_safe,
)
from executors_under_test import concurrencies, execute, lanes, make_executor
from lanes_under_test import Anything, Number, number_tool
from parity_scenarios import dag, linear, node, step
from recordings_under_test import Backend, document, entry, kinds, recording, replaying, write


@pytest.fixture(autouse=True)
def _replaying_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    replaying(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recorded.json"


# --- RR-1 to RR-3: modes and hooks ------------------------------------------------------------------------------------


def test_rr_1_the_mode_is_asked_for_at_each_call(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend()
    tool = backend.tools()["plain"]

    @record_then_replay(path)
    def ask() -> Any:
        return tool.run({"n": 1})

    assert RECORD_ENV_VAR == "DOUBLEWEAVE_RECORD"
    for value, calls in (("1", 1), ("0", 1), ("true", 1), ("", 1), ("1", 2)):
        recording(monkeypatch, value)
        assert ask() == {"n": 2}
        assert backend.calls == calls
    replaying(monkeypatch)
    assert ask() == {"n": 2}
    assert backend.calls == 2


def test_rr_1_the_modes_have_names() -> None:
    assert [mode.value for mode in RecordReplayMode] == ["record", "replay"]
    assert issubclass(RecordReplayMode, str)
    assert issubclass(RecordReplayMode, Enum)


SHAPES: dict[str, AnyFlow] = {
    "linear": linear(step("t"), step("t")),
    "dag": dag(node("a", "t"), node("b", "t", "a", source="a")),
    "retried": linear(step("t", retry=RetryPolicy(max_retries=1, backoff_seconds=0.0)), step("t")),
    "at once": dag(*(node(f"s{n}", "t", input_mapping={"n": n}) for n in range(1, 6))),
}


def run_on(lane: str, flow: AnyFlow, tool: Tool, concurrency: int) -> ExecutionResult:
    if lane == "AsyncFlowExecutor":
        executor = AsyncFlowExecutor(dw.FlowRegistry(), max_step_concurrency=concurrency)
        executor.registry.register_flow(flow)
        executor.register_tool(tool)
        return asyncio.run(executor.execute_flow(flow.name, {"n": 1}))
    return execute(make_executor([flow], [tool], max_step_concurrency=concurrency), lane)


@concurrencies
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lane", ["sync", "async", "AsyncFlowExecutor"])
@kinds
def test_rr_2_the_hooks_are_honoured_by_every_tool_on_every_lane_in_every_shape(
    kind: str, lane: str, shape: str, concurrency: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Backend()
    tool, flow = backend.tools()[kind], SHAPES[shape]

    @record_then_replay(path)
    def run() -> ExecutionResult:
        return run_on(lane, flow, tool, concurrency)

    plainly = run_on(lane, flow, tool, concurrency)
    calls = backend.calls
    recording(monkeypatch)
    recorded = run()
    assert backend.calls == 2 * calls
    assert len(document(path)["interactions"]) == calls
    replaying(monkeypatch)
    replayed = run()
    assert backend.calls == 2 * calls
    assert plainly.final_output == recorded.final_output == replayed.final_output
    assert [r.outputs for r in recorded.execution_log] == [r.outputs for r in replayed.execution_log]
    assert recorded.success


@kinds
def test_rr_2_what_is_recorded_on_one_lane_is_replayed_on_the_other(
    kind: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Backend()
    executor = make_executor([linear(step("t"), step("t"))], [backend.tools()[kind]])

    @record_then_replay(path)
    def run(lane: str) -> ExecutionResult:
        return execute(executor, lane)

    for first, second in (("sync", "async"), ("async", "sync")):
        recording(monkeypatch)
        expected = run(first).final_output
        replaying(monkeypatch)
        calls = backend.calls
        assert run(second).final_output == expected == {"n": 3}
        assert backend.calls == calls


def test_rr_2_the_hooks_are_honoured_by_fallbacks_and_sub_flows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend()

    def away(value: Any) -> Any:
        raise OSError("away")

    inner = linear(step("bad", on_error="fallback:t"), name="inner")
    outer = linear(dw.FlowStep(flow_name="inner"))
    tools = [number_tool("bad", away), number_tool("t", backend.plain)]
    executor = make_executor([outer, inner], tools)

    @record_then_replay(path)
    def run() -> ExecutionResult:
        return execute(executor, "async")

    recording(monkeypatch)
    assert run().final_output == {"n": 2}
    assert [each["tool_name"] for each in document(path)["interactions"]] == ["t"]
    replaying(monkeypatch)
    assert run().final_output == {"n": 2}
    assert backend.calls == 1


def test_rr_2_a_tool_that_runs_a_flow_is_served_as_a_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend()
    inner = make_executor([linear(step("t"), name="inner")], [number_tool("t", backend.plain)])
    tool = Tool.from_flow(inner.registry.get_flow("inner"), inner)
    executor = make_executor([linear(step("inner"))], [tool])

    @record_then_replay(path)
    def run() -> ExecutionResult:
        return execute(executor, "sync")

    recording(monkeypatch)
    assert run().final_output == {"n": 2}
    assert [each["tool_name"] for each in document(path)["interactions"]] == ["inner", "t"]
    replaying(monkeypatch)
    assert run().final_output == {"n": 2}
    assert backend.calls == 1


def test_rr_2_an_executor_that_is_imported_inside_is_hooked_too(path: Path) -> None:
    write(path, entry(1, 99))
    code = f"""
from doubleweave.testing.replay import record_then_replay
from doubleweave import Flow, FlowRegistry, FlowStep, Tool
from pydantic import BaseModel
import sys

class Number(BaseModel):
    n: int

@record_then_replay({str(path)!r})
def run():
    sys.modules.pop("doubleweave.executor"), sys.modules.pop("doubleweave._lanes.performers")
    sys.modules.pop("doubleweave._sync.executor")
    from doubleweave.executor import FlowExecutor
    executor = FlowExecutor(FlowRegistry())
    executor.registry.register_flow(Flow(name="main", description="", steps=[FlowStep(tool_name="t")]))
    executor.register_tool(Tool(name="t", description="", input_schema=Number, output_schema=Number, fn=lambda v: 1 / 0))
    return executor.execute_flow("main", {{"n": 1}})

print(run().final_output)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{'n': 99}\n"


@pytest.mark.parametrize("record", [True, False])
def test_rr_2_the_methods_are_always_put_back(record: bool, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [(Tool, "_call_fn"), (Tool, "_call_fn_async"), (StreamingTool, "run_streaming")]
    before = [owner.__dict__[name] for owner, name in names]
    inside: list[bool] = []
    write(path)
    (recording if record else replaying)(monkeypatch)

    @record_then_replay(path)
    def fail() -> None:
        inside.extend(owner.__dict__[name] is not was for (owner, name), was in zip(names, before, strict=True))
        raise KeyError("mine")

    @record_then_replay(path)
    async def fail_awaited() -> None:
        await asyncio.sleep(0)
        fail.__wrapped__()  # type: ignore[attr-defined]  # put there by functools.wraps

    with pytest.raises(KeyError, match="mine"):
        fail()
    with pytest.raises(KeyError, match="mine"):
        asyncio.run(fail_awaited())
    assert inside == [True] * 6
    assert [owner.__dict__[name] for owner, name in names] == before


@lanes
def test_rr_2_schemas_are_validated_around_recorded_answers(lane: str, path: Path) -> None:
    write(path, {"tool_name": "t", "input": {"n": 1}, "output": {"n": "none"}}, entry(2, 3))
    tool = Backend().tools()["plain"]

    @record_then_replay(path)
    def run(n: Any) -> ExecutionResult:
        return execute(make_executor([linear(step("t"))], [tool]), lane, {"n": n})

    assert run(1).execution_log[0].error_type == "SchemaValidationError"
    assert run("two").execution_log[0].error_type == "SchemaValidationError"
    assert run("2").final_output == {"n": 3}


WAYS = [(kind, how) for kind in Backend().tools() for how in ("run", "run_async", "sync", "async")]


@pytest.mark.parametrize(("kind", "how"), [*WAYS, ("streaming", "run_streaming")])
def test_rr_3_one_entry_for_each_real_call(kind: str, how: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend()
    tool: Any = backend.tools()[kind]

    async def drain() -> list[Any]:
        return [(chunk.data, chunk.is_final) async for chunk in tool.run_streaming({"n": 1})]

    @record_then_replay(path)
    def ask() -> Any:
        if how == "run":
            return tool.run({"n": 1})
        if how == "run_async":
            return asyncio.run(tool.run_async({"n": 1}))
        if how == "run_streaming":
            return asyncio.run(drain())[-1][0]
        return execute(make_executor([linear(step("t"))], [tool]), how).final_output

    recording(monkeypatch)
    assert ask() == {"n": 2}
    assert document(path)["interactions"] == [entry(1, 2)]
    replaying(monkeypatch)
    assert ask() == {"n": 2}
    assert backend.calls == 1


def test_rr_3_an_async_tool_in_a_running_loop_is_refused_as_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = Backend().tools()["async"]
    recording(monkeypatch)

    @record_then_replay(path)
    async def ask() -> Any:
        return tool.run({"n": 1})

    with pytest.raises(dw.ToolDefinitionError, match="Await run_async"):
        asyncio.run(ask())


@lanes
def test_rr_3_of_a_stream_the_final_chunk_is_served(lane: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, seen = Backend(), []

    class Chunks(dw.BaseMiddleware):
        def on_step_chunk(self, ctx: dw.StepChunkContext) -> None:
            seen.append((ctx.chunk.data, ctx.chunk.is_final))

    executor = make_executor([linear(step("t"))], [backend.tools()["streaming"]], middleware=[Chunks()])

    @record_then_replay(path)
    def run() -> ExecutionResult:
        return execute(executor, lane)

    recording(monkeypatch)
    assert run().final_output == {"n": 2}
    replaying(monkeypatch)
    assert run().final_output == {"n": 2}
    assert seen == [("half", False), ({"n": 2}, True), ({"n": 2}, True)]
    assert backend.calls == 1


# --- RR-4: JSON form --------------------------------------------------------------------------------------------------


class Day(BaseModel):
    day: date
    tags: tuple[str, ...] = ()


def test_rr_4_inputs_and_outputs_are_kept_and_compared_as_json(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def next_day(value: Day) -> Any:
        calls.append(value)
        return {"day": date(2026, 1, 2), "tags": ("x", "y")}

    tool = Tool(name="t", description="", input_schema=Day, output_schema=Day, fn=next_day)

    @record_then_replay(path)
    def ask(day: Any) -> Any:
        return tool.run({"day": day, "tags": ["a"]})

    recording(monkeypatch)
    expected = {"day": date(2026, 1, 2), "tags": ("x", "y")}
    assert ask(date(2026, 1, 1)) == expected
    assert document(path)["interactions"] == [
        {
            "tool_name": "t",
            "input": {"day": "2026-01-01", "tags": ["a"]},
            "output": {"day": "2026-01-02", "tags": ["x", "y"]},
        }
    ]
    replaying(monkeypatch)
    assert ask("2026-01-01") == expected
    assert len(calls) == 1


def test_rr_4_json_safe_turns_what_json_does_not_have_into_text() -> None:
    assert _json_safe({"day": date(2026, 1, 2), "t": (1, 2), "s": {1}, 3: None}) == {
        "day": "2026-01-02",
        "t": [1, 2],
        "s": "{1}",
        "3": None,
    }
    assert _json_safe({"deep": [Number(n=1)]}) == {"deep": [{"n": 1}]}


@lanes
def test_rr_4_models_that_a_tool_returns_come_back(lane: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pair(BaseModel):
        first: Number
        others: list[Number]

    answers: list[Any] = [
        Pair(first=Number(n=1), others=[Number(n=2)]),
        {"first": Number(n=3), "others": [Number(n=4)]},
    ]
    left = iter(answers)
    tool = Tool(name="t", description="", input_schema=Anything, output_schema=Pair, fn=lambda value: next(left))
    executor = make_executor([linear(step("t"))], [tool])

    @record_then_replay(path)
    def run() -> list[Any]:
        return [execute(executor, lane).execution_log[0].outputs for _ in answers]

    recording(monkeypatch)
    recorded = run()
    assert recorded[1] == {"first": {"n": 3}, "others": [{"n": 4}]}
    replaying(monkeypatch)
    assert run() == recorded
