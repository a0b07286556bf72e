"""What both executors offer beside running flows: their constructor, tools, middleware and drift."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema

import doubleweave as dw
from doubleweave import AsyncFlowExecutor, FlowExecutor, FlowRegistry, FlowStatus, FlowStep, Tool
from executors_under_test import concurrencies, execute, lanes, make_executor
from lanes_under_test import Anything, number_tool
from parity_scenarios import approve, block, dag, double, inc, linear, node, step

Executor = FlowExecutor | AsyncFlowExecutor
KINDS: list[type[Executor]] = [FlowExecutor, AsyncFlowExecutor]
kinds = pytest.mark.parametrize("kind", KINDS)
DEEP = [
    linear(FlowStep(flow_name="middle")),
    linear(FlowStep(flow_name="leaf"), name="middle"),
    linear(step("inc"), name="leaf"),
]


class Wide(BaseModel):
    n: int
    more: int = 0


def wide(name: str = "inc", **options: Any) -> Tool:
    """Return a tool like `inc` with another schema."""
    return Tool(
        **{"name": name, "description": "", "input_schema": Wide, "output_schema": Wide, **options},
        fn=lambda v: {"n": v.n + 10},
    )


OLD, NEW = number_tool("inc", inc).schema_hash, wide().schema_hash


# --- 1.1 constructor ------------------------------------------------------------------------------------------------


@kinds
def test_an_executor_of_defaults_is_empty(kind: type[Executor]) -> None:
    registry = FlowRegistry()
    made = kind(registry)
    assert made.registry is registry
    assert (made.registered_tools, made.middleware, made.cost_profile, made.get_drift_report()) == ({}, (), None, [])


@kinds
def test_only_the_registry_is_positional_and_unknown_arguments_are_refused(kind: Any) -> None:
    registry = FlowRegistry()
    with pytest.raises(TypeError, match="positional"):
        kind(registry, dw.CostProfile())
    with pytest.raises(TypeError, match="registry"):
        kind()
    with pytest.raises(TypeError, match="colour"):
        kind(registry, colour="red")


@kinds
@pytest.mark.parametrize("concurrency", [0, -1])
def test_the_limit_of_concurrency_is_checked_before_anything_else(kind: Any, concurrency: int) -> None:
    with pytest.raises(ValueError, match="max_step_concurrency") as caught:
        kind(FlowRegistry(), max_step_concurrency=concurrency, approval_callback=5, guardrail_callback=5)
    assert str(caught.value) == f"max_step_concurrency must be >= 1, got {concurrency}"


@kinds
@pytest.mark.parametrize(
    ("parameter", "method"),
    [("decision_callback", "decide"), ("approval_callback", "approve"), ("guardrail_callback", "check")],
)
@pytest.mark.parametrize("callback", [5, "text", object()])
def test_a_callback_that_is_none_is_refused(kind: Any, parameter: str, method: str, callback: object) -> None:
    registry = FlowRegistry()
    registry.register_flow(linear())
    with pytest.raises(TypeError) as caught:
        kind(registry, **{parameter: callback})
    assert str(caught.value) == (
        f"{parameter} must be an object with a {method}(ctx) method, a callable taking ctx, or None, "
        f"not {type(callback).__name__}"
    )
    assert [flow.name for flow in registry.list_flows()] == ["main"]


class Callback:
    """Of every shape at once; as an object with the method it is used as it is, not called."""

    def decide(self, ctx: dw.DecisionContext) -> str:
        return "double"

    def approve(self, ctx: dw.ApprovalContext) -> dw.ApprovalDecision:
        return dw.ApprovalDecision.APPROVE

    def check(self, ctx: dw.GuardrailContext) -> None:
        pass

    def __call__(self, ctx: Any) -> Any:
        raise AssertionError("called")


@lanes
@pytest.mark.parametrize(
    ("decide", "confirm", "check"),
    [
        (lambda ctx: "double", approve, lambda ctx: None),
        (Callback(), Callback(), Callback()),
        (Callback().decide, Callback().approve, Callback().check),
    ],
)
def test_callbacks_are_objects_or_callables(lane: str, decide: Any, confirm: Any, check: Any) -> None:
    asks = dw.ToolSafetyContract(requires_approval=True)
    executor = make_executor(
        [linear(step("inc", decision_candidates=["inc", "double"]))],
        [number_tool("inc", inc), number_tool("double", double, safety=asks)],
        decision_callback=decide,
        approval_callback=confirm,
        guardrail_callback=check,
    )
    (record,) = execute(executor, lane, {"n": 5}).execution_log
    assert record.outputs == {"n": 10}
    assert record.approval is not None
    assert record.approval.decision is dw.ApprovalDecision.APPROVE


@lanes
def test_a_cost_report_is_made_with_the_profile_that_is_set_when_the_result_is_built(lane: str) -> None:
    executor = make_executor([linear(step("inc"), step("inc"))], [number_tool("inc", inc)])
    assert execute(executor, lane).cost_report is None
    for latency in (100.0, 200.0):
        executor.cost_profile = dw.CostProfile(avg_llm_latency_ms=latency)
        report = execute(executor, lane).cost_report
        assert report is not None
        assert (report.profile, report.latency_saved_ms) == (executor.cost_profile, latency)
    executor.cost_profile = None
    assert execute(executor, lane).cost_report is None


@lanes
def test_o_7_a_redaction_policy_masks_log_lines_and_not_the_trace(lane: str, caplog: pytest.LogCaptureFixture) -> None:
    executor = make_executor(
        [linear(step("inc"))],
        [number_tool("inc", inc)],
        redaction_policy=dw.RedactionPolicy(redact_keys={"n"}),
    )
    with caplog.at_level(logging.INFO, "doubleweave.executor"):
        result = execute(executor, lane, {"n": 41})
    assert (result.initial_input, result.final_output) == ({"n": 41}, {"n": 42})
    assert (result.execution_log[0].inputs, result.execution_log[0].outputs) == ({"n": 41}, {"n": 42})
    steps = [line for line in caplog.messages if line.startswith("Step")]
    assert steps == [
        "Step 0 START | tool=inc | inputs={'n': '***REDACTED***'}",
        "Step 0 END   | tool=inc | outputs={'n': '***REDACTED***'}",
    ]


@lanes
def test_a_trace_recorder_receives_one_trace_a_result(lane: str) -> None:
    recorder = dw.TraceRecorder()
    executor = make_executor(
        [linear(step("inc")), linear(FlowStep(flow_name="main"), step("gone"), name="outer")],
        [number_tool("inc", inc)],
        trace_recorder=recorder,
    )
    execute(executor, lane, name="outer")
    assert [(t.source, [(s.tool_name, s.inputs, s.outputs) for s in t.steps]) for t in recorder.list_traces()] == [
        ("executor:main", [("inc", {"n": 1}, {"n": 2})]),
        ("executor:outer", [("main", {"n": 1}, {"n": 2}), ("gone", {}, None)]),
    ]
    assert all(trace.ended_at is not None for trace in recorder.list_traces(include_open=True))


@lanes
@pytest.mark.parametrize(("depth", "runs"), [(-1, False), (0, False), (1, False), (2, True), (10, True)])
def test_the_depth_of_composition_is_limited_and_not_validated(lane: str, depth: int, runs: bool) -> None:
    executor = make_executor(DEEP, [number_tool("inc", inc)], max_composition_depth=depth)
    if runs:
        assert execute(executor, lane).final_output == {"n": 2}
    else:
        with pytest.raises(dw.FlowCompositionError) as caught:
            execute(executor, lane)
        assert (caught.value.flow_name, caught.value.reason) == ("main", "max_depth_exceeded")
    assert execute(executor, lane, name="leaf").final_output == {"n": 2}


@lanes
def test_a_blocking_guardrail_refuses_on_both_lanes(lane: str) -> None:
    executor = make_executor([linear(step("inc"))], [number_tool("inc", inc)], guardrail_callback=block)
    assert [r.error_type for r in execute(executor, lane).execution_log] == ["GuardrailViolationError"]


# --- 1.2 tools ------------------------------------------------------------------------------------------------------


@kinds
def test_tools_are_kept_by_name_and_replaced_silently(kind: type[Executor], caplog: pytest.LogCaptureFixture) -> None:
    executor = kind(FlowRegistry())
    first, second, other = number_tool("inc", inc), number_tool("inc", double), number_tool("other", inc)
    with caplog.at_level(logging.DEBUG, "doubleweave"):
        for tool in (first, other, second):
            executor.register_tool(tool)
    assert executor.registered_tools == {"inc": second, "other": other}
    assert executor.get_tool("inc") is second
    assert caplog.messages == []


@kinds
def test_the_dict_of_tools_is_a_fresh_copy(kind: type[Executor]) -> None:
    executor = kind(FlowRegistry())
    executor.register_tool(number_tool("inc", inc))
    seen = executor.registered_tools
    seen.clear()
    assert list(executor.registered_tools) == ["inc"]
    assert executor.registered_tools is not executor.registered_tools


@kinds
def test_an_unknown_tool_is_not_found(kind: type[Executor]) -> None:
    executor = kind(FlowRegistry())
    executor.register_tool(number_tool("inc", inc))
    with pytest.raises(dw.ToolNotFoundError) as caught:
        executor.get_tool("gone")
    assert (caught.value.tool_name, caught.value.code) == ("gone", "CW-E001")
    assert list(executor.registered_tools) == ["inc"]


@kinds
@pytest.mark.parametrize("attribute", ["registry", "registered_tools", "middleware"])
def test_what_an_executor_holds_cannot_be_assigned(kind: type[Executor], attribute: str) -> None:
    executor = kind(FlowRegistry())
    before = getattr(executor, attribute)
    with pytest.raises(AttributeError):
        setattr(executor, attribute, None)
    assert getattr(executor, attribute) == before


@lanes
@concurrencies
def test_a_replaced_tool_serves_the_next_run(lane: str, concurrency: int) -> None:
    flow = dag(node("a"), node("b", after="a", source="a"))
    executor = make_executor([flow], [number_tool("inc", inc)], max_step_concurrency=concurrency)
    assert execute(executor, lane).final_output == {"n": 1, "a": 2, "b": 3}
    executor.register_tool(wide())
    assert execute(executor, lane).final_output == {"n": 1, "a": 11, "b": 21}
    executor.register_tool(Tool(name="inc", description="", input_schema=Anything, output_schema=Anything, fn=double))
    assert execute(executor, lane).final_output == {"n": 1, "a": 2, "b": 4}


# --- 1.2 middleware -------------------------------------------------------------------------------------------------


class Note(dw.BaseMiddleware):
    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self.notes = name, notes

    def on_flow_start(self, ctx: dw.FlowStartContext) -> None:
        self.notes.append(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Note) and other.name == self.name

    __hash__ = None  # type: ignore[assignment]  # as with every class that defines equality alone


@lanes
def test_middleware_is_called_in_order_and_the_list_is_copied(lane: str) -> None:
    notes: list[str] = []
    given = [Note("a", notes), Note("b", notes)]
    executor = make_executor([linear()], [], middleware=given)
    given.clear()
    executor.add_middleware(Note("c", notes))
    executor.add_middleware(Note("a", notes))
    execute(executor, lane)
    assert notes == ["a", "b", "c", "a"]


@kinds
def test_removing_middleware_removes_the_first_equal_one_and_nothing_when_there_is_none(kind: type[Executor]) -> None:
    a, b, again = Note("a", []), Note("b", []), Note("a", [])
    executor = kind(FlowRegistry(), middleware=[b, a, again])
    executor.remove_middleware(Note("c", []))
    assert executor.middleware == (b, a, again)
    executor.remove_middleware(Note("a", []))
    assert [item is again for item in executor.middleware] == [False, True]
    executor.remove_middleware(again)
    executor.remove_middleware(again)
    assert list(executor.middleware) == [b]


# --- 1.2 drift ------------------------------------------------------------------------------------------------------


def stored(hashes: dict[str, str] | None, **options: Any) -> dw.Flow:
    return linear(step("inc"), step("other"), tool_schema_hashes=hashes, **options)


def states(registry: FlowRegistry) -> dict[str, str]:
    return {f"{flow.name} {flow.version}": flow.status.value for flow in registry.list_flows()}


def drifting(kind: type[Executor] = FlowExecutor) -> Any:
    """Return an executor whose flows know some hashes, with the tools `inc` and `other`."""
    registry = FlowRegistry()
    for flow in (
        stored({"inc": OLD, "other": "x"}, version="1.0"),
        stored({"inc": NEW}, version="2.0"),
        stored({"inc": "older"}, version="3.0"),
        stored(None, name="free"),
        stored({}, name="none"),
        stored({"other": "x"}, name="apart"),
        stored({"inc": OLD}, name="off", status=FlowStatus.DISABLED),
        dag(node("a"), name="dag", tool_schema_hashes={"inc": OLD}),
    ):
        registry.register_flow(flow)
    executor = kind(registry)
    executor.register_tool(number_tool("inc", inc))
    executor.register_tool(number_tool("other", inc))
    return executor


ACTIVE = {
    "apart 0.1.0": "active",
    "dag 1.0": "active",
    "free 0.1.0": "active",
    "main 1.0": "active",
    "main 2.0": "active",
    "main 3.0": "active",
    "none 0.1.0": "active",
    "off 0.1.0": "disabled",
}
REVIEWED = {
    **ACTIVE,
    **dict.fromkeys(["dag 1.0", "main 1.0", "main 3.0", "off 0.1.0"], "needs_review"),
}


@kinds
def test_k_4_a_tool_with_another_schema_sends_the_flows_that_store_another_hash_to_review(
    kind: type[Executor], caplog: pytest.LogCaptureFixture
) -> None:
    executor = drifting(kind)
    flows = {(flow.name, flow.version): flow for flow in executor.registry.list_flows()}
    assert states(executor.registry) == ACTIVE, "the first registration marks nothing"
    with caplog.at_level(logging.DEBUG, "doubleweave"):
        executor.register_tool(wide())
    assert states(executor.registry) == REVIEWED
    assert [(r.levelname, r.name, r.getMessage()) for r in caplog.records] == [
        (
            "WARNING",
            "doubleweave.executor",
            f"Flow '{name}' version {version} needs review: the schema of tool 'inc' changed",
        )
        for name, version in [("dag", "1.0"), ("main", "1.0"), ("main", "3.0"), ("off", "0.1.0")]
    ]
    assert flows["main", "1.0"].status is FlowStatus.ACTIVE, "the flow that was shared is not changed"
    assert [flow.tool_schema_hashes for flow in executor.registry.list_flows()] == [
        flow.tool_schema_hashes for flow in flows.values()
    ]


@kinds
def test_k_4_a_tool_with_the_same_schema_sends_none_to_review(kind: type[Executor]) -> None:
    executor = drifting(kind)
    executor.register_tool(number_tool("inc", double))
    assert states(executor.registry) == ACTIVE


def test_what_is_no_tool_is_not_registered() -> None:
    executor = drifting()
    before = executor.registered_tools
    with pytest.raises(TypeError, match="register_tool takes a Tool"):
        executor.register_tool("inc")
    assert (executor.registered_tools, states(executor.registry)) == (before, ACTIVE)


@kinds
def test_k_4_the_drift_report_names_each_registered_tool_of_another_hash(kind: type[Executor]) -> None:
    executor = drifting(kind)
    executor.registry.register_flow(stored({"gone": "x"}, name="apart", version="9"))
    other = number_tool("other", inc).schema_hash
    assert executor.get_drift_report() == [
        dw.DriftInfo("apart", "other", "x", other),
        dw.DriftInfo("main", "other", "x", other),
        dw.DriftInfo("main", "inc", NEW, OLD),
        dw.DriftInfo("main", "inc", "older", OLD),
    ]
    assert states(executor.registry) == {**ACTIVE, "apart 9": "active"}, "a report changes nothing"


@kinds
@pytest.mark.parametrize(("version", "accepted"), [(None, "3.0"), ("1.0", "1.0"), ("3.0", "3.0")])
def test_k_4_k_5_accepting_drift_stores_the_present_hashes_and_makes_one_version_active(
    kind: type[Executor], version: str | None, accepted: str
) -> None:
    executor = drifting(kind)
    executor.register_tool(wide())
    shared = executor.registry.get_flow("main", version=accepted)
    executor.accept_drift("main", version=version)
    after = executor.registry.get_flow("main", version=accepted)
    assert states(executor.registry) == {**REVIEWED, f"main {accepted}": "active"}
    assert after.tool_schema_hashes == {"inc": NEW, "other": executor.get_tool("other").schema_hash}
    assert (shared.status, shared.tool_schema_hashes == after.tool_schema_hashes) == (FlowStatus.NEEDS_REVIEW, False)
    assert "main" not in [info.flow_name for info in executor.get_drift_report() if info.expected_hash == NEW]


@kinds
def test_k_4_accepting_drift_takes_the_steps_whose_name_is_a_registered_tool(kind: type[Executor]) -> None:
    executor = drifting(kind)
    steps = [step("inc"), step("gone"), FlowStep(flow_name="other"), FlowStep(flow_name="elsewhere"), step("inc")]
    executor.registry.register_flow(linear(*steps, name="new", tool_schema_hashes={"gone": "x"}))
    executor.accept_drift("new")
    other = executor.get_tool("other").schema_hash
    assert executor.registry.get_flow("new").tool_schema_hashes == {"inc": OLD, "other": other}


@kinds
@pytest.mark.parametrize(("name", "version"), [("gone", None), ("gone", "1.0"), ("main", "9.9")])
def test_accepting_drift_of_an_unknown_flow_changes_nothing(
    kind: type[Executor], name: str, version: str | None
) -> None:
    executor = drifting(kind)
    before = executor.registry.list_flows()
    with pytest.raises(dw.FlowNotFoundError) as caught:
        executor.accept_drift(name, version=version)
    assert (caught.value.flow_name, caught.value.version) == (name, version)
    assert executor.registry.list_flows() == before


@lanes
def test_a_drifted_flow_runs_by_force_or_once_its_drift_is_accepted(lane: str) -> None:
    executor = drifting()
    executor.register_tool(wide())
    with pytest.raises(dw.FlowStatusError) as caught:
        execute(executor, lane, name="dag")
    assert (caught.value.flow_name, caught.value.status) == ("dag", "needs_review")
    assert execute(executor, lane, name="dag", force=True).final_output == {"n": 1, "a": 11}
    executor.accept_drift("dag")
    assert execute(executor, lane, name="dag").final_output == {"n": 1, "a": 11}


def test_executors_that_share_a_registry_see_the_review_of_each_other() -> None:
    first = drifting()
    second = AsyncFlowExecutor(first.registry)
    second.register_tool(wide())
    assert states(second.registry) == ACTIVE
    assert [info.flow_name for info in second.get_drift_report()] == ["dag", "main", "main", "off"]
    first.register_tool(wide())
    with pytest.raises(dw.FlowStatusError):
        asyncio.run(second.execute_flow("dag", {"n": 1}))


# --- 1.2 with_replaced_tools, DEV-2 -----------------------------------------------------------------------------------


class OfOnesOwn(FlowExecutor):
    def __init__(self, registry: FlowRegistry, label: str, **settings: Any) -> None:
        super().__init__(registry, **settings)
        self.label = label


class AsyncOfOnesOwn(AsyncFlowExecutor):
    def __init__(self, registry: FlowRegistry, label: str, **settings: Any) -> None:
        super().__init__(registry, **settings)
        self.label = label


@pytest.mark.parametrize("kind", [OfOnesOwn, AsyncOfOnesOwn])
@pytest.mark.parametrize("wrap", [list, tuple, iter, lambda tools: {tool.name: tool for tool in tools}])
def test_dev_2_the_new_executor_has_the_given_tools_alone_and_is_independent(
    kind: Any, wrap: Callable[[list[Tool]], Any]
) -> None:
    registry, note, profile = FlowRegistry(), Note("a", []), dw.CostProfile(avg_llm_latency_ms=1)
    first = kind(registry, "mine", middleware=[note], cost_profile=profile)
    first.register_tool(number_tool("inc", inc))
    replaced = wide()
    second = first.with_replaced_tools(wrap([replaced, number_tool("new", inc)]))
    assert (type(second), second.label, second.registry, second.middleware) == (kind, "mine", registry, (note,))
    assert second.cost_profile is profile
    assert second.registered_tools == {"inc": replaced, "new": second.get_tool("new")}
    second.add_middleware(Note("b", []))
    second.register_tool(number_tool("late", inc))
    second.cost_profile = None
    assert (first.middleware, list(first.registered_tools), first.cost_profile) == ((note,), ["inc"], profile)
    first.add_middleware(Note("c", []))
    assert len(second.middleware) == 2


@kinds
def test_dev_2_replacing_tools_marks_no_flow(kind: type[Executor]) -> None:
    executor = drifting(kind)
    executor.with_replaced_tools([wide()])
    assert states(executor.registry) == ACTIVE
    assert executor.get_tool("inc").schema_hash == OLD


async def test_dev_2_the_settings_of_an_awaited_executor_are_kept_too() -> None:
    registry = FlowRegistry()
    registry.register_flow(linear(step("inc")))
    first = AsyncFlowExecutor(registry, guardrail_callback=block, cost_profile=dw.CostProfile())
    result = await first.with_replaced_tools([number_tool("inc", inc)]).execute_flow("main", {"n": 1})
    assert [r.error_type for r in result.execution_log] == ["GuardrailViolationError"]
    assert result.cost_report is not None


@kinds
def test_a_tool_whose_schema_cannot_be_hashed_changes_nothing_where_another_one_is_known(kind: type[Executor]) -> None:
    class Unhashable(BaseModel):
        f: Callable[[int], int]

    registry = FlowRegistry()
    registry.register_flow(linear(step("inc"), tool_schema_hashes={"inc": OLD}))
    executor = kind(registry)
    known = number_tool("inc", inc)
    executor.register_tool(known)
    unhashable = Tool(name="inc", description="", input_schema=Unhashable, output_schema=Wide, fn=inc)
    with pytest.raises(PydanticInvalidForJsonSchema):
        executor.register_tool(unhashable)
    assert executor.get_tool("inc") is known
    assert registry.get_flow("main").status is FlowStatus.ACTIVE
