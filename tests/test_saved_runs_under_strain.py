"""What a run saves, caches, replays and shows when stores, hooks and values are not the usual ones."""

import asyncio
import math
import os
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

import doubleweave as dw
from doubleweave import ConditionalEdge, Tool
from executors_under_test import execute, lanes, make_executor
from lanes_under_test import Anything, normalised, number_tool
from parity_scenarios import boom, dag, inc, linear, node, step, tools


class Money(BaseModel):
    amount: Decimal
    pair: tuple[int, int]


def price(v: Any) -> dict[str, Any]:
    return {"amount": "150.5", "pair": [1, 2]}


def resume(executor: dw.FlowExecutor, lane: str, trace_id: str) -> dw.ExecutionResult:
    if lane == "sync":
        return executor.resume_flow(trace_id)
    return asyncio.run(executor.resume_flow_async(trace_id))


def replay(executor: dw.FlowExecutor, lane: str, original: dw.ExecutionResult, **terms: Any) -> dw.ReplayResult:
    if lane == "sync":
        return executor.replay_flow(original, **terms)
    return asyncio.run(executor.replay_flow_async(original, **terms))


@lanes
@pytest.mark.parametrize("predicate", ["amount > 100", "pair == [1, 2]"])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_dev_27_branches_are_restored_over_values_that_json_writes_in_another_way(
    lane: str, predicate: str, concurrency: int, tmp_path: Path
) -> None:
    broken = [True]

    def fragile(v: Any) -> dict[str, int]:
        if broken[0]:
            raise ConnectionError("not now")
        return {"n": v.n}

    def make(store: Any) -> dw.FlowExecutor:
        edge = ConditionalEdge(target_step_id="x", predicate=predicate)
        flow = dag(
            node("price", "price", output_mapping=None, branches=[edge], default_next="y"),
            node("x", "fragile", after="price"),
            node("y", "fragile", after="price"),
        )
        price_tool = Tool(name="price", description="", input_schema=Anything, output_schema=Money, fn=price)
        made = [price_tool, number_tool("fragile", fragile)]
        return make_executor([flow], made, checkpointer=store, max_step_concurrency=concurrency)

    executor = make(dw.FileCheckpointer(tmp_path))
    failed = execute(executor, lane)
    broken[0] = False
    resumed = resume(executor, lane, failed.trace_id)
    whole = execute(make(None), lane)
    assert normalised(resumed) == normalised(whole)


@pytest.mark.parametrize("slow", ["save", "delete"])
async def test_a_cancelled_run_leaves_no_call_of_its_store_behind(slow: str, tmp_path: Path) -> None:
    entered, ended = threading.Event(), threading.Event()

    class Slow(dw.FileCheckpointer):
        def save(self, snapshot: dw.ExecutionSnapshot) -> None:
            self.pause("save")
            super().save(snapshot)

        def delete(self, trace_id: str) -> None:
            self.pause("delete")
            super().delete(trace_id)

        def pause(self, word: str) -> None:
            if word == slow and not entered.is_set():
                entered.set()
                threading.Event().wait(0.2)  # longer than a cancellation takes
                ended.set()

    executor = make_executor([linear(step("inc"), step("inc"))], [number_tool("inc", inc)], checkpointer=Slow(tmp_path))
    task = asyncio.create_task(executor.execute_flow_async("main", {"n": 1}))
    assert await asyncio.to_thread(entered.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    assert len(os.listdir(tmp_path)) == (1 if slow == "save" else 0)


class Wrapping:
    """Passes everything on to another store, but writes down what is saved."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.saved: list[int] = []

    def save(self, snapshot: dw.ExecutionSnapshot) -> None:
        self.saved.append(snapshot.completed_steps)
        self._inner.save(snapshot)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@lanes
def test_a_store_s_own_save_is_the_one_that_is_called(lane: str) -> None:
    wrapping = Wrapping(dw.InMemoryCheckpointer())
    execute(make_executor([linear(step("inc"), step("inc"))], tools(), checkpointer=wrapping), lane)
    assert wrapping.saved == [1, 2]
    patched, saved = dw.InMemoryCheckpointer(), []
    patched.save = lambda snapshot: saved.append(snapshot.completed_steps)  # type: ignore[method-assign]  # as spies do
    execute(make_executor([linear(step("inc"), step("inc"))], tools(), checkpointer=patched), lane)
    assert saved == [1, 2]


@lanes
def test_a_flow_that_a_hook_runs_is_no_part_of_the_stream(lane: str) -> None:
    class Audits:
        def on_flow_start(self, ctx: Any) -> None:
            if ctx.flow_name == "main":
                executor.execute_flow("audit", {"n": 1})

    flows = [linear(step("inc")), linear(step("inc"), name="audit")]
    executor = make_executor(flows, [number_tool("inc", inc)], middleware=[Audits()])

    async def read() -> list[dw.FlowEvent]:
        return [event async for event in executor.stream_flow_async("main", {"n": 1})]

    events = list(executor.stream_flow("main", {"n": 1})) if lane == "sync" else asyncio.run(read())
    assert [(event.kind, event.flow_name) for event in events] == [
        ("flow_start", "main"),
        ("step_start", "main"),
        ("step_end", "main"),
        ("flow_end", "main"),
    ]


class Connection:
    pass


class Connected(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    connection: Connection | None = None
    call: Callable[[], None] | None = None


@lanes
@pytest.mark.parametrize("stores", [{"step_cache": dw.InMemoryStepCache}, {"checkpointer": dw.InMemoryCheckpointer}])
def test_a_tool_whose_schema_has_no_hash_runs_with_a_warning(
    lane: str, stores: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    tool = Tool(name="t", description="", input_schema=Anything, output_schema=Connected, fn=lambda v: {})
    settings = {name: make() for name, make in stores.items()}
    result = execute(make_executor([linear(step("t"))], [tool], **settings), lane)
    assert (result.success, result.execution_log[0].cached) == (True, False)
    assert sum("schema has no hash" in line for line in caplog.messages) == 1


@lanes
@pytest.mark.parametrize("content", ["{}", '{"n": "garbage"}', '{"n": null}', '{"zz": 1}'])
def test_a_cache_file_that_does_not_match_the_schema_is_a_miss(
    lane: str, content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    executor = make_executor([linear(step("inc"))], tools(), step_cache=dw.FileStepCache(tmp_path))
    first = execute(executor, lane)
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    second = execute(executor, lane)
    assert (second.final_output, second.execution_log[0].cached) == (first.final_output, False)
    assert sum("a cached output does not match its schema" in line for line in caplog.messages) == 1
    assert execute(executor, lane).execution_log[0].cached


@lanes
def test_dev_30_a_record_on_one_side_only_differs_also_where_all_its_values_are_none(lane: str) -> None:
    registry = dw.FlowRegistry()
    registry.register_flow(linear(step("none")))
    executor = dw.FlowExecutor(registry)
    none = Tool(name="none", description="", input_schema=Anything, output_schema=Anything, fn=lambda v: {"x": None})
    executor.register_tool(none)
    original = executor.execute_flow("main", {})
    registry.register_flow(linear(), overwrite=True)
    found = replay(executor, lane, original)
    assert not found.all_steps_match
    assert [(diff.step_index, diff.field, diff.expected, diff.actual) for diff in found.diffs] == [(0, "x", None, None)]


@lanes
def test_a_replay_of_a_part_is_saved_and_resumed_like_any_run(lane: str) -> None:
    broken = [False]

    def fragile(v: Any) -> dict[str, int]:
        return boom(v) if broken[0] else {"n": v.n + 1}

    flow = linear(step("inc"), step("inc"), step("fragile"))
    store = dw.InMemoryCheckpointer()
    executor = make_executor([flow], [*tools(), number_tool("fragile", fragile)], checkpointer=store)
    original = execute(executor, lane)
    broken[0] = True
    part = replay(executor, lane, original, resume_from_step=1).new_result
    assert [record.step_index for record in part.execution_log] == [1, 2]
    broken[0] = False
    resumed = resume(executor, lane, part.trace_id)
    assert normalised(resumed.execution_log) == normalised(original.execution_log)
    assert resumed.final_output == original.final_output == {"n": 4}


@lanes
def test_numbers_that_json_lacks_survive_in_results(lane: str) -> None:
    odd = {"up": math.inf, "down": -math.inf}
    tool = Tool(name="t", description="", input_schema=Anything, output_schema=Anything, fn=lambda v: odd)
    result = execute(make_executor([linear(step("t"))], [tool]), lane)
    assert dw.ExecutionResult.model_validate_json(result.model_dump_json()) == result


class Leave(BaseException):
    pass


@lanes
def test_a_stream_ends_with_the_end_of_its_flow_also_when_a_hook_leaves_there(lane: str) -> None:
    class Leaves:
        def on_flow_end(self, ctx: Any) -> None:
            raise Leave

    executor = make_executor([linear(step("inc"))], tools(), middleware=[Leaves()])
    kinds: list[str] = []

    async def read() -> None:
        async for event in executor.stream_flow_async("main", {"n": 1}):
            kinds.append(event.kind)

    def read_blocking() -> None:
        for event in executor.stream_flow("main", {"n": 1}):
            kinds.append(event.kind)  # one by one, for the last thing that comes is an error

    with pytest.raises(Leave):
        read_blocking() if lane == "sync" else asyncio.run(read())
    assert kinds == ["flow_start", "step_start", "step_end", "flow_end"]


@lanes
def test_a_store_whose_folder_is_lost_says_so_with_the_file(lane: str, tmp_path: Path) -> None:
    ends: list[tuple[bool, int]] = []

    class Ends:
        def on_flow_end(self, ctx: Any) -> None:
            ends.append((ctx.result.success, len(ctx.result.execution_log)))

    store = dw.FileCheckpointer(tmp_path / "runs")
    (tmp_path / "runs").rmdir()
    executor = make_executor([linear(step("inc"), step("inc"))], tools(), checkpointer=store, middleware=[Ends()])
    with pytest.raises(dw.CheckpointSaveError, match=r"snapshot.json cannot be written \(.*No such file") as caught:
        execute(executor, lane)
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert ends == [(False, 1)]
