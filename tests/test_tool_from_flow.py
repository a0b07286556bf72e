"""A flow as a tool: what is derived from the flow, what is refused, and how it runs alone and inside another flow."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import doubleweave as dw
from doubleweave import DAGFlowStep, FlowStep, SideEffectLevel, Tool, ToolSafetyContract
from executors_under_test import execute, lanes, make_executor
from lanes_under_test import Anything, Number, Recorder, number_tool
from parity_scenarios import WRITES, boom, dag, double, inc, linear, node, step


class Text(BaseModel):
    text: str = "default"


class Named(BaseModel):
    n: int
    name: str = "nobody"


NUMBER, NAMED = "lanes_under_test:Number", "test_tool_from_flow:Named"
DOCUMENT = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def text_tool(name: str = "text") -> Tool:
    return Tool(name=name, description="", input_schema=Text, output_schema=Text, fn=lambda v: {"text": v.text})


def tools() -> list[Tool]:
    document = Tool(name="document", description="", input_schema=DOCUMENT, output_schema=DOCUMENT, fn=dict)
    return [
        number_tool("inc", inc),
        number_tool("double", double),
        number_tool("boom", boom),
        number_tool("write", inc, safety=WRITES),
        text_tool(),
        document,
    ]


def inner(*steps: FlowStep, **options: Any) -> dw.Flow:
    return linear(*steps, **{"name": "inner", **options})


SUB = FlowStep(flow_name="other")


# --- T-20 to T-22: what is derived ----------------------------------------------------------------------------------


def test_t_20_name_and_description_are_the_flow_s_unless_given() -> None:
    flow = inner(step("inc")).model_copy(update={"description": "adds one"})
    executor = make_executor([flow], tools())
    made = Tool.from_flow(flow, executor)
    assert (made.name, made.description, repr(made)) == ("inner", "adds one", "Tool(name='inner')")
    made = Tool.from_flow(flow, executor, name="other", description="")
    assert (made.name, made.description) == ("other", "")
    assert (made.timeout_seconds, made.max_output_size, made.schema_version) == (None, None, "0.0.0")
    assert (made.cacheable, made.metadata, made.dry_run_fn, made.is_async) == (True, {}, None, False)


@pytest.mark.parametrize(
    ("flow", "inputs", "outputs"),
    [
        (inner(step("text"), step("inc")), Text, Number),
        (inner(step("inc")), Number, Number),
        (inner(step("text"), input_schema_ref=NAMED), Named, Text),
        (inner(SUB, step("text"), input_schema_ref=NAMED), Named, Text),
        (inner(step("gone"), step("text"), input_schema_ref=NAMED), Named, Text),
        (inner(step("text"), SUB, output_schema_ref=NAMED), Text, Named),
        (inner(step("text"), step("gone"), output_schema_ref=NAMED), Text, Named),
        (inner(step("document")), dw.JsonSchema(DOCUMENT), dw.JsonSchema(DOCUMENT)),
        (dag(node("b", after="a"), node("a", "text")), Number, Number),
        (dag(node("a", "text"), node("c", "inc", after="a b"), node("b", after="a")), Text, Number),
        (dag(node("a", "text"), node("b"), output_schema_ref=NAMED), Text, Named),
    ],
)
def test_t_21_t_22_schemas_are_the_flow_s_or_those_of_its_first_and_terminal_tools(
    flow: dw.AnyFlow, inputs: Any, outputs: Any
) -> None:
    made = Tool.from_flow(flow, make_executor([], tools()))
    assert (made.input_schema, made.output_schema) == (inputs, outputs)


@pytest.mark.parametrize(
    "flow",
    [
        inner(step("inc"), input_schema_ref=NUMBER, output_schema_ref=NUMBER),
        inner(step("inc"), input_schema_ref="nowhere:X", output_schema_ref="nowhere:X"),
        inner(SUB),
        inner(step("gone")),
        dag(node("a"), node("b")),
        dag(node("a", after="b"), node("b", after="a")),
    ],
)
def test_t_21_t_22_given_schemas_win(flow: dw.AnyFlow) -> None:
    made = Tool.from_flow(flow, make_executor([], tools()), input_schema=Text, output_schema=Named)
    assert (made.input_schema, made.output_schema) == (Text, Named)
    assert (
        made.schema_hash == Tool(name="x", description="", input_schema=Text, output_schema=Named, fn=inc).schema_hash
    )


@pytest.mark.parametrize("document", [{}, DOCUMENT, dw.JsonSchema(DOCUMENT)])
def test_given_schemas_may_be_json_schema_documents(document: Any) -> None:
    flow = inner(step("inc"))
    made = Tool.from_flow(flow, make_executor([flow], tools()), input_schema=document, output_schema=document)
    expected = document if isinstance(document, dw.JsonSchema) else dw.JsonSchema(document)
    assert (made.input_schema, made.output_schema) == (expected, expected)
    assert made.run({"n": 1, "more": [2]}) == {"n": 2, "more": [2]}


REFUSED: list[tuple[dw.AnyFlow, dict[str, Any], list[str]]] = [
    (inner(), {}, ["no steps"]),
    (inner(input_schema_ref=NUMBER, output_schema_ref=NUMBER), {}, ["no steps"]),
    (inner(), {"input_schema": Text, "output_schema": Text}, ["no steps"]),
    (dag(), {"input_schema": Text}, ["no steps"]),
    (inner(step("inc"), input_schema_ref="nowhere:X"), {}, ["input_schema_ref", "Cannot import module"]),
    (inner(step("inc"), output_schema_ref="nowhere:X"), {}, ["output_schema_ref", "Cannot import module"]),
    (inner(step("inc"), output_schema_ref="lanes_under_test:Gone"), {}, ["output_schema_ref", "not found"]),
    (inner(SUB, step("inc")), {}, ["sub-flow 'other'"]),
    (inner(step("gone"), step("inc")), {}, ["tool 'gone'"]),
    (inner(step("inc"), SUB), {}, ["sub-flow 'other'"]),
    (inner(step("inc"), step("gone")), {}, ["tool 'gone'"]),
    (dag(node("a"), node("b", after="a"), node("c", after="a")), {}, ["multiple sink", "b, c"]),
    (dag(node("a", after="b"), node("b", after="a")), {}, ["no sink"]),
    (dag(node("a"), DAGFlowStep(step_id="s", flow_name="other", depends_on=["a"])), {}, ["sub-flow 'other'"]),
    (dag(node("a"), node("b", "gone", after="a")), {}, ["tool 'gone'"]),
]


@pytest.mark.parametrize(("flow", "options", "fragments"), REFUSED)
@pytest.mark.parametrize("name", [None, "given"])
def test_t_19_t_21_t_22_what_cannot_be_derived_is_refused(
    flow: dw.AnyFlow, options: dict[str, Any], fragments: list[str], name: str | None
) -> None:
    executor = make_executor([], tools())
    before = executor.registered_tools
    with pytest.raises(dw.ToolDefinitionError) as caught:
        Tool.from_flow(flow, executor, name=name, **options)
    assert caught.value.function_name == (name or flow.name)
    assert [fragment for fragment in fragments if fragment not in caught.value.detail] == []
    assert isinstance(caught.value.__cause__, dw.FlowSerializationError) is ("_ref" in fragments[0])
    assert (executor.registered_tools, executor.registry.list_flows()) == (before, [])


@pytest.mark.parametrize("side", ["input_schema_ref", "output_schema_ref"])
def test_t_21_a_ref_that_the_policy_refuses_passes_through(side: str) -> None:
    flow = inner(step("inc"), **{side: NUMBER})
    with dw.schema_ref_policy(dw.SchemaRefAllowlist([])), pytest.raises(dw.SchemaRefPolicyError) as caught:
        Tool.from_flow(flow, make_executor([], tools()))
    assert (caught.value.module_path, caught.value.ref) == ("lanes_under_test", NUMBER)


# --- T-26, T-27: safety ---------------------------------------------------------------------------------------------

ASKS = ToolSafetyContract(requires_approval=True, approval_reason="costs money", supports_dry_run=True)
READS = ToolSafetyContract(side_effects=SideEffectLevel.READ, cacheable=False, supports_dry_run=True)


def declared(name: str, safety: ToolSafetyContract) -> Tool:
    return number_tool(name, inc, safety=safety, dry_run_fn=inc)


@pytest.mark.parametrize(
    ("steps", "own", "argument", "expected", "is_declared"),
    [
        (["inc"], None, WRITES, WRITES, True),
        (["asks"], READS.model_copy(update={"supports_dry_run": False}), WRITES, WRITES, True),
        (["asks"], WRITES, None, WRITES, True),
        (["inc"], None, None, ToolSafetyContract(), False),
        (["write"], None, None, WRITES, True),
        (["write", "inc"], None, None, WRITES, False),
        (["write", "gone"], None, None, WRITES, False),
        (["write", None], None, None, WRITES, False),
        (
            ["asks", "reads", "write"],
            None,
            None,
            ToolSafetyContract(
                side_effects=SideEffectLevel.WRITE,
                safe_to_retry=False,
                cacheable=False,
                requires_approval=True,
                approval_reason="costs money",
            ),
            True,
        ),
        (["asks", "asks"], None, None, ASKS.model_copy(update={"supports_dry_run": False}), True),
    ],
)
def test_t_26_t_27_safety_is_the_argument_else_the_flow_s_else_merged_from_the_steps(
    steps: list[str | None],
    own: ToolSafetyContract | None,
    argument: ToolSafetyContract | None,
    expected: ToolSafetyContract,
    is_declared: bool,
) -> None:
    executor = make_executor([], [*tools(), declared("asks", ASKS), declared("reads", READS)])
    flow = inner(*[SUB if name is None else step(name) for name in steps], safety=own)
    made = Tool.from_flow(flow, executor, input_schema=Number, output_schema=Number, safety=argument)
    assert (made.safety, made.safety_declared) == (expected, is_declared)
    assert (made.cacheable, made.supports_dry_run) == (expected.cacheable, False)


@pytest.mark.parametrize(
    ("options", "is_declared"),
    [
        ({"on_error": "fallback:write"}, True),
        ({"decision_candidates": ["reads", "write"]}, True),
        ({"on_error": "fallback:gone"}, False),
        ({"on_error": "skip"}, True),
    ],
)
def test_t_26_what_a_step_may_choose_or_fall_back_to_counts(options: dict[str, Any], is_declared: bool) -> None:
    executor = make_executor([], [*tools(), declared("reads", READS)])
    made = Tool.from_flow(inner(step("reads", **options)), executor)
    writes = "write" in str(options)
    expected = SideEffectLevel.WRITE if writes else SideEffectLevel.READ
    assert (made.safety.side_effects, made.safety_declared) == (expected, is_declared)


@pytest.mark.parametrize("place", ["flow", "argument"])
def test_t_26_t_4_a_dry_run_promised_for_the_flow_itself_cannot_be_kept(place: str) -> None:
    flow = inner(step("inc"), safety=READS if place == "flow" else None)
    with pytest.raises(dw.ToolDefinitionError) as caught:
        Tool.from_flow(flow, make_executor([], tools()), safety=READS if place == "argument" else None)
    assert caught.value.detail == "safety.supports_dry_run is True but no dry_run_fn was given"


# --- T-23 to T-25: calling it ---------------------------------------------------------------------------------------


def async_executor(flows: list[dw.AnyFlow], middleware: Any = ()) -> dw.AsyncFlowExecutor:
    registry = dw.FlowRegistry()
    for flow in flows:
        registry.register_flow(flow)
    executor = dw.AsyncFlowExecutor(registry, middleware=middleware)
    for tool in tools():
        executor.register_tool(tool)
    return executor


def made_by(kind: str, flow: dw.AnyFlow, middleware: Any = (), **options: Any) -> Tool:
    executor: Any = (
        make_executor([flow], tools(), middleware=middleware)
        if kind == "blocking"
        else async_executor([flow], middleware)
    )
    return Tool.from_flow(flow, executor, **options)


def run(tool: Tool, raw: dict[str, Any]) -> Any:
    return tool.run(raw)


def run_async(tool: Tool, raw: dict[str, Any]) -> Any:
    return asyncio.run(tool.run_async(raw))


GONE = "Tool 'gone' is not registered. Step {} of flow 'inner' names it: register it with register_tool."
kinds = pytest.mark.parametrize("kind", ["blocking", "async"])
directly = pytest.mark.parametrize("call", [run, run_async])
limits = pytest.mark.parametrize("timeout", [None, 10.0])


@kinds
@directly
@limits
def test_t_24_calling_it_runs_the_flow_with_the_whole_validated_input(
    kind: str, call: Any, timeout: float | None
) -> None:
    recorder = Recorder()
    made = made_by(kind, inner(step("inc"), step("double"), input_schema_ref=NAMED), [recorder])
    made.timeout_seconds = timeout
    assert call(made, {"n": "1", "dropped": True}) == {"n": 4}
    assert recorder.calls[0] == ("flow_start", "inner", {"n": 1, "name": "nobody"}, 2)
    assert [made.is_async, len([c for c in recorder.calls if c[0] == "step_end"])] == [kind == "async", 2]


@kinds
def test_t_24_a_json_schema_input_is_handed_on_as_it_is(kind: str) -> None:
    assert made_by(kind, inner(step("document"))).run({"n": 1, "more": 2}) == {"n": 1, "more": 2}


@kinds
@directly
@pytest.mark.parametrize(
    ("flow", "index", "detail"),
    [
        (inner(step("boom")), 0, "Execution error in tool 'boom' at step 0: boom"),
        (inner(step("inc"), step("boom"), step("inc")), 1, "Execution error in tool 'boom' at step 1: boom"),
        (inner(step("inc"), step("gone"), output_schema_ref=NUMBER), 1, GONE.format(1)),
        (dag(node("a"), node("b", "boom", after="a")), 1, "Execution error in tool 'boom' at step 1: boom"),
    ],
)
def test_t_24_a_failed_run_raises_with_its_first_failed_record(
    kind: str, call: Any, flow: dw.AnyFlow, index: int, detail: str
) -> None:
    with pytest.raises(dw.FlowExecutionError) as caught:
        call(made_by(kind, flow, name="wrapped"), {"n": 1})
    error = caught.value
    assert (error.tool_name, error.step_index, error.detail) == ("wrapped", index, detail)


@kinds
@directly
def test_t_24_the_records_of_the_flow_s_own_schemas_count_as_well(kind: str, call: Any) -> None:
    flow = inner(step("inc"), input_schema_ref="parity_scenarios:Strict")
    with pytest.raises(dw.FlowExecutionError) as caught:
        call(made_by(kind, flow, input_schema=Number), {"n": 1})
    assert (caught.value.tool_name, caught.value.step_index) == ("inner", -1)
    assert "flow_input 'inner'" in caught.value.detail


class Odd(dw.FlowExecutor):
    """An executor of somebody's own, whose results lack what those of the library always have."""

    changes: dict[str, Any]
    record: dict[str, Any] | None

    def execute_flow(self, *args: Any, **kwargs: Any) -> dw.ExecutionResult:
        result = super().execute_flow(*args, **kwargs)
        if self.record is not None:
            records = [record.model_copy(update=self.record) for record in result.execution_log]
            result = result.model_copy(update={"execution_log": records})
        return result.model_copy(update=self.changes)


@pytest.mark.parametrize(
    ("changes", "record", "index", "detail"),
    [
        ({"success": False}, None, -1, "flow 'inner' failed without a failed record"),
        ({"success": False}, {"success": False, "error_type": "Strange"}, 0, "Strange"),
        ({"success": False}, {"success": False}, 0, "flow 'inner' failed"),
        ({"final_output": None}, None, 2, "flow 'inner' has no final output"),
    ],
)
def test_t_24_a_result_that_says_less_still_gives_the_error(
    changes: dict[str, Any], record: dict[str, Any] | None, index: int, detail: str
) -> None:
    flow = inner(step("inc"), step("inc"))
    executor = make_executor([flow], tools(), Odd)
    assert isinstance(executor, Odd)
    executor.changes, executor.record = changes, record
    with pytest.raises(dw.FlowExecutionError) as caught:
        Tool.from_flow(flow, executor).run({"n": 1})
    error = caught.value
    assert (error.tool_name, error.step_index, error.detail) == ("inner", index, detail)


@directly
def test_t_23_the_flow_has_to_be_registered_when_it_is_called_not_before(call: Any) -> None:
    executor = make_executor([], tools())
    flow = inner(step("inc"))
    made = Tool.from_flow(flow, executor)
    with pytest.raises(dw.FlowNotFoundError, match="inner"):
        call(made, {"n": 1})
    executor.registry.register_flow(flow)
    assert call(made, {"n": 1}) == {"n": 2}
    executor.registry.update_flow_state("inner", status=dw.FlowStatus.DISABLED)
    with pytest.raises(dw.FlowStatusError):
        call(made, {"n": 1})


@directly
def test_t_25_the_final_output_is_validated_against_the_schema_of_the_tool(call: Any) -> None:
    flow = dag(node("a"), node("b", "double", after="a", source="a"))
    executor = make_executor([flow], tools())
    assert call(Tool.from_flow(flow, executor, output_schema=Anything), {"n": 1}) == {"n": 1, "a": 2, "b": 4}
    assert call(Tool.from_flow(flow, executor), {"n": 1}) == {"n": 1}
    strict = Tool.from_flow(flow, executor, output_schema=dw.resolve_class_ref("parity_scenarios:Strict"))
    with pytest.raises(ValidationError) as caught:
        call(strict, {"n": 1})
    assert caught.value.title == "Strict"
    with pytest.raises(ValidationError):
        call(strict, {"n": "one"})


# --- 6.4: inside another flow ---------------------------------------------------------------------------------------


def nested(kind: str, flow: dw.AnyFlow, timeout: float | None, middleware: Any = (), **options: Any) -> dw.FlowExecutor:
    wrapped = made_by(kind, flow, middleware, name="wrapped", **options)
    wrapped.timeout_seconds = timeout
    return make_executor([linear(step("wrapped"), step("inc"))], [wrapped, number_tool("inc", inc)])


@kinds
@lanes
@limits
def test_6_4_it_is_one_step_of_the_outer_run(kind: str, lane: str, timeout: float | None) -> None:
    recorder = Recorder()
    result = execute(nested(kind, inner(step("inc"), step("double")), timeout, [recorder]), lane)
    assert result.final_output == {"n": 5}
    assert [(r.tool_name, r.inputs, r.outputs, r.sub_result) for r in result.execution_log] == [
        ("wrapped", {"n": 1}, {"n": 4}, None),
        ("inc", {"n": 4}, {"n": 5}, None),
    ]
    assert [call[0] for call in recorder.calls] == [
        "flow_start",
        *["step_start", "step_end"] * 2,
        "flow_end",
    ]


@kinds
@lanes
@limits
def test_6_4_a_failed_inner_run_is_recorded_and_goes_through_on_error(
    kind: str, lane: str, timeout: float | None
) -> None:
    executor = nested(kind, inner(step("boom")), timeout)
    (record,) = execute(executor, lane).execution_log
    message = (
        "Execution error in tool 'wrapped' at step 0: Execution error in tool 'wrapped' at step 0: "
        "Execution error in tool 'boom' at step 0: boom"
    )
    assert (record.error_type, record.error_code, record.error_message) == ("FlowExecutionError", "CW-E006", message)
    executor.registry.register_flow(linear(step("wrapped", on_error="fallback:inc"), name="careful"))
    assert execute(executor, lane, name="careful").final_output == {"n": 2}


@kinds
@lanes
@limits
def test_6_4_dev_9_the_inner_run_inherits_dynamic_parameters_and_dry_run(
    kind: str, lane: str, timeout: float | None
) -> None:
    class Effects:
        def __init__(self) -> None:
            self.results: list[dw.ExecutionResult] = []

        def on_flow_end(self, ctx: dw.FlowEndContext) -> None:
            self.results.append(ctx.result)

    effects = Effects()
    executor = nested(kind, inner(step("write")), timeout, [effects], safety=ToolSafetyContract())
    outer = execute(executor, lane, dry_run=True, dynamic_params={"own": 7})
    (result,) = effects.results
    assert result.trace_id != outer.trace_id
    assert (result.dry_run, result.initial_input, result.final_output) == (True, {"n": 1}, {"n": 1, "own": 7})
    assert [(r.tool_name, r.skipped) for r in result.execution_log] == [("write", True)]
    assert not execute(executor, lane).dry_run
    assert [(r.dry_run, r.final_output) for r in effects.results[1:]] == [(False, {"n": 2})]


@kinds
@lanes
@limits
def test_6_4_dev_9_the_dry_run_policy_is_inherited_too(kind: str, lane: str, timeout: float | None) -> None:
    executor = nested(kind, inner(step("write")), timeout, safety=ToolSafetyContract())
    result = execute(executor, lane, dry_run=True, dry_run_unsupported="abort")
    (record,) = result.execution_log
    assert (record.tool_name, record.error_type) == ("wrapped", "FlowExecutionError")
    assert "dry_run_fn" in str(record.error_message)


@kinds
@lanes
@limits
def test_6_4_deadline_and_token_are_not_forwarded(kind: str, lane: str, timeout: float | None) -> None:
    token = dw.CancellationToken()

    class Cancel:
        def on_flow_start(self, ctx: dw.FlowStartContext) -> None:
            token.cancel()

    executor = nested(kind, inner(step("inc"), step("inc")), timeout, [Cancel()])
    with pytest.raises(dw.FlowCancelledError) as caught:
        execute(executor, lane, cancel_token=token)
    assert (caught.value.flow_name, caught.value.step_index) == ("main", 1)
    assert [r.outputs for r in caught.value.result.execution_log] == [{"n": 3}]


@lanes
@limits
def test_6_4_the_merged_contract_is_enforced_on_the_outer_executor(lane: str, timeout: float | None) -> None:
    wrapped = made_by("blocking", inner(step("write")), name="wrapped")
    wrapped.timeout_seconds = timeout
    executor = make_executor([linear(step("wrapped"))], [wrapped], max_side_effect_level=SideEffectLevel.READ)
    (record,) = execute(executor, lane).execution_log
    assert (record.tool_name, record.error_type) == ("wrapped", "SafetyCeilingError")
