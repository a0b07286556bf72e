"""Fakes, the runner that counts calls, and watching steps as they end: TK-1 to TK-8."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import BaseModel

import doubleweave as dw
from doubleweave import (
    AnyFlow,
    BaseMiddleware,
    ExecutionResult,
    Flow,
    FlowExecutor,
    FlowRegistry,
    FlowStep,
    RetryPolicy,
    StepRecord,
    StreamingTool,
    Tool,
    ToolChunk,
    ToolSafetyContract,
)
from doubleweave.testing import FlowTestRunner, capture_steps, fake_tool
from executors_under_test import execute, lanes, make_executor
from lanes_under_test import Anything, Number, number_tool
from parity_scenarios import dag, inc, linear, node, step


def run(runner: FlowTestRunner, lane: str, inputs: dict[str, Any] | None = None, **options: Any) -> ExecutionResult:
    values = {"n": 1} if inputs is None else inputs
    if lane == "sync":
        return runner.execute("main", values, **options)
    return asyncio.run(runner.execute_async("main", values, **options))


def two_steps() -> Flow:
    return linear(step("fetch"), step("store"))


async def plus_one(value: Number) -> dict[str, int]:
    await asyncio.sleep(0)
    return {"n": value.n + 1}


# --- 1. fake_tool -----------------------------------------------------------------------------------------------------


def test_tk_1_a_fake_takes_and_gives_any_dict_and_has_the_schema_of_every_other_fake() -> None:
    first, second = fake_tool("a", {"x": 1}), fake_tool("b", lambda given: {**given, "b": None})
    assert first.input_schema is first.output_schema is second.input_schema
    assert first.schema_hash == second.schema_hash
    assert second.run({"nested": {"list": [1, {"deep": True}]}, "": 0}) == {
        "nested": {"list": [1, {"deep": True}]},
        "": 0,
        "b": None,
    }


@lanes
def test_tk_2_a_dict_is_copied_at_creation_and_for_every_call(lane: str) -> None:
    answer: dict[str, Any] = {"n": 1, "items": ["a"]}
    tool = fake_tool("fetch", answer)
    answer["n"], answer["items"][0] = 2, "changed"
    first = tool.run({}) if lane == "sync" else asyncio.run(tool.run_async({}))
    first["n"] = 3
    first["items"].append("b")
    assert tool.fn(None) is not tool.fn(None)
    assert (tool.run({}) if lane == "sync" else asyncio.run(tool.run_async({}))) == {"n": 1, "items": ["a"]}


@lanes
def test_tk_2_a_callable_is_given_a_plain_dict_and_its_result_becomes_one(lane: str) -> None:
    seen: list[Any] = []

    def answer(given: dict[str, Any]) -> Any:
        seen.append((type(given), given))
        return [("n", given["n"] + 1)]

    executor = make_executor([linear(step("fake"))], [fake_tool("fake", answer)])
    assert execute(executor, lane).final_output == {"n": 2}
    assert seen == [(dict, {"n": 1})]


def test_tk_3_the_default_description_has_the_name_and_fakes_are_not_cacheable() -> None:
    assert "fetch_page" in fake_tool("fetch_page", {}).description
    assert fake_tool("fetch", {}, description="other").description == "other"
    assert not fake_tool("fetch", {}).cacheable
    assert fake_tool("fetch", {}, cacheable=True).cacheable
    assert number_tool("fetch", inc).cacheable


@lanes
def test_tk_4_an_async_callable_makes_an_async_tool(lane: str) -> None:
    async def answer(given: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"n": given["n"] + 1}

    tool = fake_tool("fake", answer)
    assert tool.is_async
    assert not fake_tool("fake", {}).is_async
    assert execute(make_executor([linear(step("fake"))], [tool]), lane).final_output == {"n": 2}


# --- 2. FlowTestRunner ------------------------------------------------------------------------------------------------


@lanes
def test_register_keeps_a_flow_in_the_place_of_one_of_its_name(lane: str) -> None:
    runner = FlowTestRunner(linear(step("fetch")))
    runner.register(linear(step("store")))
    runner.fake_tool("store", {"stored": True})
    assert run(runner, lane).final_output == {"n": 1, "stored": True}


@lanes
def test_fake_tool_is_registered_and_counted(lane: str) -> None:
    runner = FlowTestRunner(two_steps())
    fetch = runner.fake_tool("fetch", {"page": "x"}, description="said", cacheable=True)
    runner.fake_tool("store", lambda given: {"size": len(given["page"])})
    assert run(runner, lane).final_output == {"n": 1, "page": "x", "size": 1}
    assert (runner.calls_to("fetch"), runner.calls_to("store")) == (1, 1)
    assert runner.executor.get_tool("fetch") is fetch
    assert (fetch.description, fetch.cacheable) == ("said", True)


def streaming(**options: Any) -> StreamingTool:
    async def chunks(value: Number) -> AsyncIterator[ToolChunk]:
        yield ToolChunk(data="half")
        yield ToolChunk(data={"n": value.n + 1}, is_final=True)

    return StreamingTool(
        name="t", description="d", input_schema=Number, output_schema=Number, stream_fn=chunks, **options
    )


REAL: dict[str, Callable[[], Tool]] = {
    "plain": lambda: number_tool("t", inc),
    "async": lambda: number_tool("t", plus_one),
    "timed": lambda: number_tool("t", inc, timeout_seconds=60.0),
    "timed async": lambda: number_tool("t", plus_one, timeout_seconds=60.0),
    "inline": lambda: number_tool("t", inc, inline=True),
    "streaming": streaming,
}
real_tools = pytest.mark.parametrize("make", REAL.values(), ids=REAL)


@lanes
@real_tools
def test_passthrough_tool_counts_and_else_is_the_tool_that_it_is_made_of(make: Callable[[], Tool], lane: str) -> None:
    real, runner = make(), FlowTestRunner(linear(step("t")))
    copied = runner.passthrough_tool(real)
    assert copied is not real
    assert type(copied) is type(real)
    assert (copied.is_async, copied.is_streaming, copied.inline) == (real.is_async, real.is_streaming, real.inline)
    assert run(runner, lane).final_output == {"n": 2}
    assert (runner.calls_to("t"), runner.inputs_to("t")) == (1, [{"n": 1}])
    assert real.run({"n": 1}) == {"n": 2}
    assert runner.calls_to("t") == 1
    assert copied.run({"n": 1}) == {"n": 2}
    assert runner.calls_to("t") == 2


def test_passthrough_tool_keeps_schemas_limits_version_and_cacheability() -> None:
    class Wide(BaseModel):
        n: int
        m: int = 0

    real = Tool(
        name="t",
        description="d",
        input_schema=Number,
        output_schema=Wide,
        fn=inc,
        timeout_seconds=3.5,
        max_output_size=99,
        schema_version="1.2.3",
        cacheable=False,
    )
    copied = FlowTestRunner().passthrough_tool(real)
    names = ["name", "description", "input_schema", "output_schema", "timeout_seconds", "max_output_size"]
    names += ["schema_version", "cacheable", "schema_hash"]
    assert [getattr(copied, name) for name in names] == [getattr(real, name) for name in names]
    assert copied.cacheable is False


def test_tk_8_passthrough_tool_keeps_safety_metadata_and_the_dry_run() -> None:
    safety = ToolSafetyContract(side_effects=dw.SideEffectLevel.WRITE, supports_dry_run=True)
    real = number_tool("t", inc, safety=safety, metadata={"owner": "me"}, dry_run_fn=lambda value: {"n": 0})
    copied = FlowTestRunner().passthrough_tool(real)
    assert (copied.safety, copied.safety_declared, copied.dry_run_fn) == (safety, True, real.dry_run_fn)
    copied.metadata["owner"] = "you"
    assert real.metadata == {"owner": "me"}
    assert not FlowTestRunner().passthrough_tool(number_tool("t", inc)).safety_declared


@lanes
def test_a_dry_run_is_no_call(lane: str) -> None:
    safety = ToolSafetyContract(side_effects=dw.SideEffectLevel.WRITE, supports_dry_run=True)
    runner = FlowTestRunner(linear(step("t")))
    runner.passthrough_tool(number_tool("t", inc, safety=safety, dry_run_fn=lambda value: {"n": 0}))
    assert run(runner, lane, dry_run=True).final_output == {"n": 0}
    assert runner.calls_to("t") == 0


@lanes
def test_add_middleware_reaches_the_executor(lane: str) -> None:
    class Names(BaseMiddleware):
        def __init__(self) -> None:
            self.names: list[str] = []

        def on_step_start(self, ctx: dw.StepStartContext) -> None:
            self.names.append(ctx.tool_name)

    names, runner = Names(), FlowTestRunner(two_steps())
    runner.add_middleware(names)
    runner.fake_tool("fetch", {})
    runner.fake_tool("store", {})
    run(runner, lane)
    assert names.names == ["fetch", "store"]
    assert runner.executor.middleware == (names,)


@lanes
def test_execute_takes_what_execute_flow_takes(lane: str) -> None:
    flow = linear(step("fetch")).model_copy(update={"status": dw.FlowStatus.DISABLED})
    runner = FlowTestRunner(flow)
    runner.fake_tool("fetch", {"n": 5})
    with pytest.raises(dw.FlowStatusError):
        run(runner, lane)
    assert run(runner, lane, force=True, dynamic_params={"who": "me"}).final_output == {"n": 5, "who": "me"}


@lanes
def test_calls_to_counts_neither_cache_hits_nor_steps_that_failed_before_the_call(lane: str) -> None:
    runner = FlowTestRunner(linear(step("t")), step_cache=dw.InMemoryStepCache())
    runner.passthrough_tool(number_tool("t", inc))
    assert [run(runner, lane).execution_log[0].cached for _ in range(3)] == [False, True, True]
    assert runner.calls_to("t") == 1
    assert not run(runner, lane, {"n": "none"}).success
    assert runner.calls_to("t") == 1
    assert runner.calls_to("unknown") == 0


@lanes
def test_inputs_to_gives_copies_in_call_order(lane: str) -> None:
    runner = FlowTestRunner(two_steps())
    runner.fake_tool("fetch", lambda given: {"page": {"lines": ["a"]}})
    runner.fake_tool("store", lambda given: given["page"]["lines"].append("b") or {})
    run(runner, lane, {"n": 1})
    run(runner, lane, {"n": 2})
    assert runner.inputs_to("fetch") == [{"n": 1}, {"n": 2}]
    page = {"lines": ["a"]}
    assert runner.inputs_to("store") == [{"n": 1, "page": page}, {"n": 2, "page": page}]
    runner.inputs_to("store")[0]["page"]["lines"].append("c")
    assert runner.inputs_to("store")[0]["page"] == page
    assert runner.inputs_to("unknown") == []


@lanes
def test_inputs_to_has_those_of_a_tool_with_json_schemas(lane: str) -> None:
    schema = {"type": "object", "properties": {"items": {"type": "array"}}}

    def clear(given: dict[str, Any]) -> dict[str, Any]:
        given["items"].clear()
        return given

    runner = FlowTestRunner(linear(step("t")))
    runner.passthrough_tool(Tool(name="t", description="", input_schema=schema, output_schema=schema, fn=clear))
    assert run(runner, lane, {"items": [1]}).final_output == {"items": []}
    assert runner.inputs_to("t") == [{"items": [1]}]


def test_executor_and_registry_are_those_of_the_runner() -> None:
    registry = FlowRegistry()
    runner = FlowTestRunner(linear(step("t")), registry=registry)
    assert type(runner.executor) is FlowExecutor
    assert runner.registry is runner.executor.registry is registry
    assert registry.get_flow("main") == linear(step("t"))


def test_tk_5_the_registry_is_fresh_by_default_and_settings_go_to_the_executor() -> None:
    one, other = FlowTestRunner(linear(step("t"))), FlowTestRunner(max_composition_depth=1, middleware=["m"])
    assert (len(one.registry), len(other.registry)) == (1, 0)
    assert isinstance(other.registry.store, dw.InMemoryStore)
    assert other.executor.middleware == ("m",)
    with pytest.raises(ValueError, match="max_step_concurrency must be >= 1"):
        FlowTestRunner(max_step_concurrency=0)
    with pytest.raises(TypeError, match="colour"):
        FlowTestRunner(colour="red")


@lanes
@real_tools
def test_tk_6_each_attempt_counts_once_and_before_the_function_runs(make: Callable[[], Tool], lane: str) -> None:
    runner = FlowTestRunner(linear(step("t", retry=RetryPolicy(max_retries=2, backoff_seconds=0.0))))
    seen: list[int] = []

    def note(given: Any) -> None:
        seen.append(runner.calls_to("t"))
        raise OSError("away")

    async def note_async(given: Any) -> None:
        note(given)

    async def note_in_stream(given: Any) -> AsyncIterator[ToolChunk]:
        note(given)
        yield ToolChunk(data={}, is_final=True)

    real = make()
    if isinstance(real, StreamingTool):
        real.stream_fn = note_in_stream
    else:
        real = real.with_fn(note_async if real.is_async else note)
    runner.passthrough_tool(real)
    assert not run(runner, lane).success
    attempts = 1 if real.is_streaming else 3
    assert seen == list(range(1, attempts + 1))
    assert runner.calls_to("t") == attempts


@lanes
@pytest.mark.parametrize("concurrency", [1, 4])
def test_tk_6_calls_of_steps_at_once_are_each_counted(lane: str, concurrency: int) -> None:
    steps = [
        node(f"s{n}", "t", "s0" if n else "", input_mapping={}, output_mapping={f"s{n}": "done"}) for n in range(7)
    ]
    runner = FlowTestRunner(dag(*steps), max_step_concurrency=concurrency)
    runner.fake_tool("t", {"done": True})
    assert run(runner, lane).success
    assert runner.calls_to("t") == 7
    assert runner.inputs_to("t") == [{"n": 1}] + [{"n": 1, "s0": True}] * 6


@lanes
def test_tk_7_failures_are_in_the_result_as_with_the_executor(lane: str) -> None:
    runner = FlowTestRunner(two_steps())
    runner.fake_tool("fetch", lambda given: {"n": 1 // 0})
    result = run(runner, lane)
    assert (result.success, result.final_output) == (False, None)
    assert [(r.error_type, r.error_message) for r in result.execution_log] == [
        (
            "FlowExecutionError",
            "Execution error in tool 'fetch' at step 0: integer division or modulo by zero",
        )
    ]
    with pytest.raises(dw.FlowNotFoundError):
        FlowTestRunner().execute("main", {})


async def test_tk_8_execute_async_is_awaited_on_the_running_loop() -> None:
    loops: list[Any] = []

    async def answer(given: dict[str, Any]) -> dict[str, Any]:
        loops.append(asyncio.get_running_loop())
        return {}

    runner = FlowTestRunner(linear(step("t")))
    runner.fake_tool("t", answer)
    assert (await runner.execute_async("main", {})).success
    assert loops == [asyncio.get_running_loop()]


# --- 3. capture_steps -------------------------------------------------------------------------------------------------


@lanes
def test_capture_steps_gives_each_record_as_its_step_ends(lane: str) -> None:
    with_list: list[list[StepRecord]] = []
    seen: list[list[str]] = []

    def note(given: dict[str, Any]) -> dict[str, Any]:
        seen.append([record.tool_name for record in with_list[0]])
        return {}

    executor = make_executor([two_steps()], [fake_tool("fetch", note), fake_tool("store", note)])
    with capture_steps(executor) as steps:
        assert steps == []
        with_list.append(steps)
        result = execute(executor, lane)
    assert steps == result.execution_log
    assert seen == [[], ["fetch"]]
    execute(executor, lane)
    assert len(steps) == 2


@lanes
def test_capture_steps_has_those_of_sub_flows_and_failed_ones(lane: str) -> None:
    inner = Flow(name="inner", version="1", description="", steps=[FlowStep(tool_name="inc")])
    flows: list[AnyFlow] = [Flow(name="main", version="1", description="", steps=[FlowStep(flow_name="inner")]), inner]
    executor = make_executor(flows, [number_tool("inc", lambda value: {"n": "none"})])
    with capture_steps(executor) as steps:
        execute(executor, lane)
    assert [(each.tool_name, each.success) for each in steps] == [("inc", False), ("inner", False)]


async def test_capture_steps_takes_an_async_executor() -> None:
    registry = FlowRegistry()
    registry.register_flow(linear(step("inc")))
    executor = dw.AsyncFlowExecutor(registry)
    executor.register_tool(number_tool("inc", inc))
    with capture_steps(executor) as steps:
        result = await executor.execute_flow("main", {"n": 1})
    assert steps == result.execution_log
    assert executor.middleware == ()


def test_capture_steps_takes_back_its_own_middleware_alone_also_after_an_error() -> None:
    before, after = BaseMiddleware(), BaseMiddleware()
    executor = make_executor([two_steps()], [], middleware=[before])

    def leave_by_an_error() -> None:
        with capture_steps(executor):
            executor.add_middleware(after)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        leave_by_an_error()
    assert executor.middleware == (before, after)


def test_capture_steps_does_not_mind_that_its_middleware_is_gone() -> None:
    executor = make_executor([two_steps()], [])
    with capture_steps(executor):
        executor.remove_middleware(executor.middleware[0])
    assert executor.middleware == ()


def test_nothing_of_the_package_is_public_but_one_error() -> None:
    import doubleweave.testing as testing

    assert {name for name in testing.__all__ if name in dw.__all__} == {"FixtureStaleError"}
    assert all(hasattr(testing, name) for name in testing.__all__)
    assert Anything is not fake_tool("a", {}).input_schema
