"""Flows to be run on both lanes, and what their runs should show."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from pydantic import BaseModel

import doubleweave as dw
from doubleweave import ConditionalEdge, DAGFlow, DAGFlowStep, Flow, FlowStep, RetryPolicy, Tool, ToolSafetyContract
from lanes_under_test import Case, Number, number_tool


def inc(v: Any) -> dict[str, int]:
    return {"n": v.n + 1}


async def double(v: Any) -> dict[str, int]:
    await asyncio.sleep(0)
    return {"n": v.n * 2}


def boom(v: Any) -> dict[str, int]:
    raise ValueError("boom")


def stop(v: Any) -> dict[str, int]:
    raise StopIteration("no more")


def wrong(v: Any) -> dict[str, str]:
    return {"n": "many"}


def flaky(times: int) -> Callable[[Any], dict[str, int]]:
    calls = iter(range(times))

    def fn(v: Any) -> dict[str, int]:
        if next(calls, None) is not None:
            raise OSError("not yet")
        return {"n": v.n + 10}

    return fn


async def count_up(v: Any) -> AsyncIterator[dw.ToolChunk]:
    for i in range(v.n):
        yield dw.ToolChunk(data=i)
    yield dw.ToolChunk(data={"n": v.n}, is_final=True)


WRITES = ToolSafetyContract(side_effects=dw.SideEffectLevel.WRITE, safe_to_retry=False)
ASKS = ToolSafetyContract(requires_approval=True)


def tools() -> list[Tool]:
    return [
        number_tool("inc", inc),
        number_tool("double", double),
        number_tool("boom", boom),
        number_tool("stop", stop),
        number_tool("wrong", wrong),
        number_tool("flaky", flaky(2)),
        number_tool("write", inc, safety=WRITES),
        number_tool("asks", inc, safety=ASKS),
        number_tool("big", inc, max_output_size=3),
        dw.StreamingTool(name="stream", description="", input_schema=Number, output_schema=Number, stream_fn=count_up),
    ]


def linear(*steps: FlowStep, name: str = "main", **options: Any) -> Flow:
    return Flow(name=name, description="", steps=list(steps), **{"on_context_collision": "overwrite", **options})


def dag(*steps: DAGFlowStep, name: str = "main", **options: Any) -> DAGFlow:
    return DAGFlow(name=name, version="1.0", description="", steps=list(steps), **options)


def node(step_id: str, tool: str = "inc", after: str = "", source: str = "n", **options: Any) -> DAGFlowStep:
    values: dict[str, Any] = {"input_mapping": {"n": source}, "output_mapping": {step_id: "n"}, "tool_name": tool}
    return DAGFlowStep(step_id=step_id, depends_on=after.split(), **{**values, **options})


def step(tool: str, **options: Any) -> FlowStep:
    return FlowStep(tool_name=tool, **options)


def approve(ctx: Any) -> dw.ApprovalDecision:
    return dw.ApprovalDecision.APPROVE


async def deny(ctx: Any) -> dw.ApprovalDecision:
    return dw.ApprovalDecision.DENY


def block(ctx: Any) -> None:
    raise PermissionError("not these inputs")


NUMBER = "lanes_under_test:Number"
QUICK = RetryPolicy(max_retries=3, backoff_seconds=0.001)
BRANCHING = dag(
    node("a", branches=[ConditionalEdge(target_step_id="b", predicate="a > 5")], default_next="c"),
    node("b", after="a", source="a"),
    node("c", "double", after="a", source="a"),
    node("d", after="b"),
    node("e", after="b c"),
)
THREE_DEEP = [
    linear(step("inc"), FlowStep(flow_name="middle"), step("inc")),
    linear(FlowStep(flow_name="inner"), step("double"), name="middle"),
    linear(step("double"), step("inc"), name="inner"),
]

# Name, case, then: success, final output (None: not compared), per record (index, tool, error type).
SCENARIOS: list[tuple[str, Case, bool, dict[str, Any] | None, list[tuple[int, str, str | None]]]] = [
    ("empty flow", Case([linear()], tools), True, {"n": 1}, []),
    (
        "linear flow",
        Case([linear(step("inc"), step("double"))], tools),
        True,
        {"n": 4},
        [(0, "inc", None), (1, "double", None)],
    ),
    ("failing tool", Case([linear(step("boom"))], tools), False, None, [(0, "boom", "FlowExecutionError")]),
    ("missing tool", Case([linear(step("gone"))], tools), False, None, [(0, "gone", "ToolNotFoundError")]),
    ("wrong output", Case([linear(step("wrong"))], tools), False, None, [(0, "wrong", "SchemaValidationError")]),
    ("output too big", Case([linear(step("big"))], tools), False, None, [(0, "big", "ToolOutputSizeError")]),
    (
        "mapping error",
        Case([linear(step("inc", input_mapping={"n": "/a/b"}))], tools),
        False,
        None,
        [(0, "inc", "InputMappingError")],
    ),
    ("DEV-38 StopIteration", Case([linear(step("stop"))], tools), False, None, [(0, "stop", "FlowExecutionError")]),
    (
        "on_error skip",
        Case([linear(step("boom", on_error="skip"))], tools),
        True,
        {"n": 1},
        [(0, "boom", "FlowExecutionError")],
    ),
    (
        "DEV-17 row 12 fallback",
        Case([linear(step("boom", on_error="fallback:inc", retry=QUICK))], tools),
        True,
        {"n": 2},
        [(0, "boom", None)],
    ),
    (
        "fallback not registered",
        Case([linear(step("boom", on_error="fallback:gone"))], tools),
        False,
        None,
        [(0, "boom", "ToolNotFoundError")],
    ),
    ("retries that succeed", Case([linear(step("flaky", retry=QUICK))], tools), True, {"n": 11}, [(0, "flaky", None)]),
    (
        "retry suppressed",
        Case([linear(step("write", retry=QUICK))], tools, executor=lambda: {"strict_safety": True}),
        True,
        {"n": 2},
        [(0, "write", None)],
    ),
    (
        "row 1 DEV-1 branches",
        Case([BRANCHING], tools),
        True,
        {"n": 1, "a": 2, "c": 4, "e": 2},
        [(0, "inc", None), (1, "inc", None), (2, "double", None), (3, "inc", None), (4, "inc", None)],
    ),
    (
        "row 2 DEV-1 decisions",
        Case(
            [linear(step("inc", decision_candidates=["inc", "double"]))],
            tools,
            {"n": 5},
            executor=lambda: {"decision_callback": lambda ctx: "double"},
        ),
        True,
        {"n": 10},
        [(0, "double", None)],
    ),
    (
        "DEV-37 awaitable decision",
        Case(
            [linear(step("inc", decision_candidates=["inc", "double"]))],
            tools,
            executor=lambda: {"decision_callback": choose_nothing},
        ),
        False,
        None,
        [(0, "inc", "DecisionCallbackError")],
    ),
    (
        "row 3 DEV-3 dry run",
        Case([linear(step("write"), step("inc"))], tools, run=lambda: {"dry_run": True}),
        True,
        {"n": 2},
        [(0, "write", None), (1, "inc", None)],
    ),
    (
        "row 3 DEV-3 dry run of a sub-flow",
        Case(
            [
                dag(DAGFlowStep(step_id="s", flow_name="inner"), node("a", after="s")),
                linear(step("write"), name="inner"),
            ],
            tools,
            run=lambda: {"dry_run": True},
        ),
        True,
        {"n": 1, "a": 2},
        [(0, "inner", None), (1, "inc", None)],
    ),
    (
        "dry run that aborts",
        Case([linear(step("write"))], tools, run=lambda: {"dry_run": True, "dry_run_unsupported": "abort"}),
        False,
        None,
        [(0, "write", "FlowExecutionError")],
    ),
    (
        "row 4 DEV-7 context schema",
        Case([linear(step("inc"), context_schema_ref="parity_scenarios:Strict")], tools),
        False,
        None,
        [(0, "inc", None), (1, "main", "SchemaValidationError")],
    ),
    (
        "input schema",
        Case([linear(step("inc"), input_schema_ref="parity_scenarios:Strict")], tools),
        False,
        None,
        [(-1, "main", "SchemaValidationError")],
    ),
    (
        "row 5 DEV-20 level failure",
        Case([dag(node("a", "boom"), node("b"))], tools),
        False,
        None,
        [(0, "boom", "FlowExecutionError")],
    ),
    (
        "row 23 sibling collision",
        Case([dag(node("a"), node("b", output_mapping={"a": "n"}))], tools),
        False,
        None,
        [(0, "inc", None), (1, "inc", "FlowExecutionError")],
    ),
    (
        "row 9 DEV-24 capability step",
        Case(
            [dag(node("a"), DAGFlowStep(step_id="k", tool_name="cap", step_type="capability", capability_id="c"))],
            tools,
        ),
        False,
        None,
        [(0, "inc", None), (1, "cap", "FlowExecutionError")],
    ),
    (
        "row 11 DEV-11 streaming tool",
        Case([linear(step("stream", retry=QUICK))], tools, {"n": 3}),
        True,
        {"n": 3},
        [(0, "stream", None)],
    ),
    (
        "DEV-21 predicate of wrong types",
        Case(
            [dag(node("a", branches=[ConditionalEdge(target_step_id="b", predicate="a < 'x'")]), node("b", after="a"))],
            tools,
        ),
        False,
        None,
        [(0, "inc", "PredicateSyntaxError")],
    ),
    (
        "DEV-21 predicate with a set of lists",
        Case(
            [
                dag(
                    node("a", branches=[ConditionalEdge(target_step_id="b", predicate="1 in {[1]}")]),
                    node("b", after="a"),
                )
            ],
            tools,
        ),
        False,
        None,
        [(0, "inc", "PredicateSyntaxError")],
    ),
    (
        "predicate with an unknown name",
        Case(
            [dag(node("a", branches=[ConditionalEdge(target_step_id="b", predicate="gone")]), node("b", after="a"))],
            tools,
        ),
        False,
        None,
        [(0, "inc", "PredicateSyntaxError")],
    ),
    (
        "row 29 DEV-41 unknown on_error",
        Case([linear(step("boom").model_copy(update={"on_error": "explode:now"}))], tools),
        False,
        None,
        [(0, "boom", "FlowExecutionError")],
    ),
    (
        "row 29 DEV-41 unknown on_error in a DAG",
        Case([dag(node("a").model_copy(update={"tool_name": "boom", "on_error": "explode:now"}))], tools),
        False,
        None,
        [(0, "boom", "FlowExecutionError")],
    ),
    (
        "sub-flows three deep",
        Case(THREE_DEEP, tools, {"n": 1}),
        True,
        {"n": 11},
        [(0, "inc", None), (1, "middle", None), (2, "inc", None)],
    ),
    (
        "DEV-23 sub-flow with a mapping error",
        Case([linear(FlowStep(flow_name="inner", input_mapping={"n": "gone"})), THREE_DEEP[2]], tools),
        False,
        None,
        [(0, "inner", "InputMappingError")],
    ),
    (
        "approved",
        Case([linear(step("asks"))], tools, executor=lambda: {"approval_callback": approve}),
        True,
        {"n": 2},
        [(0, "asks", None)],
    ),
    (
        "DEV-37 denied by an awaitable",
        Case([linear(step("asks", on_error="skip"))], tools, executor=lambda: {"approval_callback": deny}),
        False,
        None,
        [(0, "asks", "ApprovalDeniedError")],
    ),
    (
        "strict safety without a callback",
        Case([linear(step("asks"))], tools, executor=lambda: {"strict_safety": True}),
        False,
        None,
        [(0, "asks", "ApprovalDeniedError")],
    ),
    (
        "ceiling",
        Case([linear(step("write"))], tools, executor=lambda: {"max_side_effect_level": dw.SideEffectLevel.READ}),
        False,
        None,
        [(0, "write", "SafetyCeilingError")],
    ),
    (
        "guardrail",
        Case([linear(step("inc"))], tools, executor=lambda: {"guardrail_callback": block}),
        False,
        None,
        [(0, "inc", "GuardrailViolationError")],
    ),
    (
        "DEV-15 skipped step with an output mapping",
        Case([linear(step("boom", on_error="skip", output_mapping={"m": "gone"}))], tools),
        True,
        {"n": 1},
        [(0, "boom", "FlowExecutionError")],
    ),
    (
        "DEV-14 output contract of a fallback",
        Case([linear(step("boom", on_error="fallback:inc", output_contract="parity_scenarios:Strict"))], tools),
        False,
        None,
        [(0, "boom", "SchemaValidationError")],
    ),
    (
        "input contract, whatever on_error says",
        Case([dag(node("a", input_contract="parity_scenarios:Strict", on_error="skip"), node("b"))], tools),
        False,
        None,
        [(0, "inc", "SchemaValidationError")],
    ),
    (
        "output contract, whatever on_error says",
        Case([dag(node("a"), node("b", output_contract="parity_scenarios:Strict", on_error="fallback:inc"))], tools),
        False,
        None,
        [(0, "inc", None), (1, "inc", "SchemaValidationError")],
    ),
    (
        "contracts that hold",
        Case([dag(node("a", input_contract=NUMBER, output_contract=NUMBER, output_mapping={"b": "n"}))], tools),
        True,
        {"n": 1, "b": 2},
        [(0, "inc", None)],
    ),
    (
        "output schema",
        Case([dag(node("a"), output_schema_ref="parity_scenarios:Strict")], tools),
        False,
        None,
        [(0, "inc", None), (1, "main", "SchemaValidationError")],
    ),
    (
        "mapping error in a level, whatever on_error says",
        Case([dag(node("a"), node("b", source="gone", on_error="skip"), node("c"))], tools),
        False,
        None,
        [(0, "inc", None), (1, "inc", "InputMappingError")],
    ),
    (
        "mapping of a key that only a sibling writes",
        Case([dag(node("a"), node("b", source="a"))], tools),
        False,
        None,
        [(0, "inc", None), (1, "inc", "InputMappingError")],
    ),
    (
        "mapping of a skipped step's key",
        Case([dag(node("a", "boom", on_error="skip"), node("b", after="a", source="a"))], tools),
        False,
        None,
        [(0, "boom", "FlowExecutionError"), (1, "inc", "InputMappingError")],
    ),
    (
        "overwriting with a warning",
        Case([dag(node("n"), node("m", after="n", output_mapping={"n": "n", "m": "n"}))], tools),
        True,
        {"n": 3, "m": 3},
        [(0, "inc", None), (1, "inc", None)],
    ),
    (
        "collision with two siblings",
        Case([dag(node("a"), node("b"), node("c", output_mapping={"z": "n", "b": "n", "a": "n"}), node("d"))], tools),
        False,
        None,
        [(0, "inc", None), (1, "inc", None), (2, "inc", "FlowExecutionError")],
    ),
]


async def choose_nothing(ctx: Any) -> str:
    return "elsewhere"


class Strict(BaseModel):
    word: str
