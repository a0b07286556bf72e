"""What a run reports beside its records: cost, observed traces and log lines, redacted where a policy says so."""

import asyncio
import logging
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import DAGFlowStep, FlowStep, RedactionPolicy, Tool
from lanes_under_test import Anything, Case, assert_same_on_both_lanes, number_tool, observe
from parity_scenarios import ASKS, BRANCHING, THREE_DEEP, dag, linear, node, step, tools
from streams_under_test import executor_for

both_lanes = pytest.mark.parametrize("lane", ["sync", "async"])
STRICT = "parity_scenarios:Strict"
PROFILE = dw.CostProfile(avg_llm_latency_ms=10.0, avg_tokens_per_call=2.0, cost_per_token_usd=0.25)
MASK = "***REDACTED***"


def run(executor: Any, lane: str, inputs: dict[str, Any], **terms: Any) -> dw.ExecutionResult:
    if lane == "sync":
        result = executor.execute_flow("main", inputs, **terms)
    else:
        result = asyncio.run(executor.execute_flow_async("main", inputs, **terms))
    assert isinstance(result, dw.ExecutionResult)
    return result


# --- cost -------------------------------------------------------------------------------------------------------------

SUB = FlowStep(flow_name="inner")
# Name, case, the steps that count.
COSTS: list[tuple[str, Case, int]] = [
    ("no step", Case([linear()], tools), 0),
    ("two steps", Case([linear(step("inc"), step("double"))], tools), 2),
    ("a failed step counts", Case([linear(step("inc"), step("boom"), step("inc"))], tools), 2),
    ("steps on a branch not taken count", Case([BRANCHING], tools), 5),
    ("a failed input check does not count", Case([linear(step("inc"), input_schema_ref=STRICT)], tools), 0),
    ("a failed output check does not count", Case([linear(step("inc"), output_schema_ref=STRICT)], tools), 1),
    ("a failed context check does not count", Case([linear(step("inc"), context_schema_ref=STRICT)], tools), 1),
    ("a sub-flow counts as what it ran", Case(THREE_DEEP, tools), 5),
    ("an empty sub-flow", Case([linear(step("inc"), SUB), linear(name="inner")], tools), 1),
    (
        "a sub-flow without a run counts as a step",
        Case([linear(FlowStep(flow_name="inner", input_mapping={"n": "gone"})), linear(name="inner")], tools),
        1,
    ),
    (
        "a check that a sub-flow failed does not count",
        Case([linear(step("inc"), SUB), linear(step("inc"), name="inner", output_schema_ref=STRICT)], tools),
        2,
    ),
    (
        "nor one at its beginning",
        Case([linear(step("inc"), SUB), linear(step("inc"), name="inner", input_schema_ref=STRICT)], tools),
        1,
    ),
]


@pytest.mark.parametrize(("case", "steps"), [row[1:] for row in COSTS], ids=[row[0] for row in COSTS])
def test_2_2_the_steps_that_a_cost_report_counts(case: Case, steps: int) -> None:
    priced = Case(case.flows, case.make_tools, case.inputs, lambda: {"cost_profile": PROFILE})
    for lane in ("sync", "async"):
        result = observe(priced, lane).result
        assert result is not None
        avoided = max(0, steps - 1)
        assert result.cost_report == dw.CostReport(
            steps_executed=steps,
            llm_calls_avoided=avoided,
            latency_saved_ms=avoided * 10.0,
            cost_saved_usd=avoided * 0.5,
            actual_execution_ms=result.total_duration_ms,
            profile=PROFILE,
        )


@both_lanes
def test_without_a_profile_there_is_no_cost_report(lane: str) -> None:
    result = observe(Case(THREE_DEEP, tools), lane).result
    assert result is not None
    assert result.cost_report is None


@both_lanes
def test_the_results_of_sub_flows_have_reports_of_their_own(lane: str) -> None:
    result = run(executor_for(Case(THREE_DEEP, tools), cost_profile=PROFILE), lane, {"n": 1})
    middle = result.execution_log[1].sub_result
    assert middle is not None
    inner = middle.execution_log[0].sub_result
    assert inner is not None
    reports = [each.cost_report for each in (result, middle, inner)]
    assert [None if report is None else report.steps_executed for report in reports] == [5, 3, 2]


@both_lanes
def test_a_cancelled_run_has_a_report_too(lane: str) -> None:
    token = dw.CancellationToken()

    def cancel(v: Any) -> dict[str, int]:
        token.cancel()
        return {"n": v.n}

    flows = [linear(step("inc"), SUB), linear(step("cancel"), step("inc"), name="inner")]
    executor = executor_for(Case(flows, lambda: [*tools(), number_tool("cancel", cancel)]), cost_profile=PROFILE)
    with pytest.raises(dw.FlowCancelledError) as caught:
        run(executor, lane, {"n": 1}, cancel_token=token)
    report = caught.value.result.cost_report
    assert report is not None
    assert (report.steps_executed, report.llm_calls_avoided) == (2, 1)


@both_lanes
def test_the_profile_is_read_when_a_result_is_built(lane: str) -> None:
    def reprice(v: Any) -> dict[str, int]:
        executor.cost_profile = PROFILE
        return {"n": v.n}

    executor = executor_for(Case([linear(step("reprice"))], lambda: [number_tool("reprice", reprice)]))
    report = run(executor, lane, {"n": 1}).cost_report
    assert report is not None
    assert (report.profile, executor.cost_profile) == (PROFILE, PROFILE)


# --- observed traces --------------------------------------------------------------------------------------------------


@both_lanes
def test_2_2_each_result_is_mirrored_into_the_trace_recorder(lane: str) -> None:
    recorder = dw.TraceRecorder()
    result = run(executor_for(Case(THREE_DEEP, tools), trace_recorder=recorder), lane, {"n": 1})
    traces = recorder.list_traces(include_open=True)
    assert [trace.source for trace in traces] == ["executor:inner", "executor:middle", "executor:main"]
    assert all(trace.ended_at is not None for trace in traces)
    shown = [(s.tool_name, s.inputs, s.outputs, s.duration_ms) for s in traces[-1].steps]
    assert shown == [(r.tool_name, r.inputs, r.outputs, r.duration_ms) for r in result.execution_log]
    assert [s.tool_name for s in traces[-1].steps] == ["inc", "middle", "inc"]
    assert result.trace_id not in [trace.trace_id for trace in traces]


@both_lanes
@pytest.mark.parametrize(
    ("flow", "steps"),
    [
        (linear(step("inc"), step("boom")), [("inc", {"n": 2}), ("boom", None)]),
        (linear(input_schema_ref=STRICT), [("main", None)]),
        (linear(step("boom", on_error="skip")), [("boom", {})]),
        (linear(step("inc", output_mapping={"m": "gone"})), [("inc", {"n": 2})]),
        (dag(node("a"), node("b", "boom", after="a", source="a")), [("inc", {"n": 2}), ("boom", None)]),
    ],
)
def test_failed_and_raising_runs_are_mirrored_too(flow: Any, steps: list[Any], lane: str) -> None:
    recorder = dw.TraceRecorder()
    observe(Case([flow], tools, executor=lambda: {"trace_recorder": recorder}), lane)
    [trace] = recorder.list_traces(include_open=True)
    assert [(s.tool_name, s.outputs) for s in trace.steps] == steps
    assert trace.ended_at is not None


class AtTheEnd(dw.BaseMiddleware):
    """Looks, when the run ends, at what has been done by then."""

    def __init__(self, recorder: dw.TraceRecorder, snapshots: dw.InMemoryCheckpointer) -> None:
        self.recorder, self.snapshots = recorder, snapshots
        self.seen: list[tuple[int, int]] = []

    def on_step_end(self, ctx: Any) -> None:
        self.seen.append((len(self.recorder), len(self.snapshots)))

    def on_flow_end(self, ctx: Any) -> None:
        self.seen.append((len(self.recorder.list_traces()), len(self.snapshots)))


@both_lanes
@pytest.mark.parametrize(("keep", "left"), [(False, 0), (True, 1)])
def test_2_2_at_the_end_the_trace_is_there_and_the_snapshot_is_gone(lane: str, keep: bool, left: int) -> None:
    watch = AtTheEnd(dw.TraceRecorder(), dw.InMemoryCheckpointer())
    executor = executor_for(
        Case([linear(step("inc"), step("double"))], tools),
        trace_recorder=watch.recorder,
        checkpointer=watch.snapshots,
        delete_on_success=not keep,
        middleware=[watch],
    )
    run(executor, lane, {"n": 1})
    assert watch.seen == [(0, 0), (0, 1), (1, left)]


class FullRecorder(dw.TraceRecorder):
    def start_trace(self, source: str) -> str:
        raise OSError("no room for traces")


def test_dev_5_what_a_trace_recorder_raises_leaves_the_run_after_its_end() -> None:
    case = Case([linear(step("inc"))], tools, executor=lambda: {"trace_recorder": FullRecorder()})
    seen = assert_same_on_both_lanes(case)
    assert (type(seen.error), str(seen.error)) == (OSError, "no room for traces")
    ends = [call for call in seen.hooks if call[0] == "flow_end"]
    assert [(end[2]["success"], len(end[2]["execution_log"])) for end in ends] == [(False, 1)]


# --- log lines --------------------------------------------------------------------------------------------------------

START, END = ("INFO", "Flow 'main' START | version=1.0"), ("INFO", "Flow 'main' END   | records=2")
LINES: list[tuple[str, Case, list[tuple[str, str]]]] = [
    (
        "DAG",
        Case([dag(node("a"), node("b", "double"))], tools),
        [
            START,
            ("INFO", "Step 0 START | tool=inc | inputs={'n': 1}"),
            ("INFO", "Step 0 END   | tool=inc | outputs={'n': 2}"),
            ("INFO", "Step 1 START | tool=double | inputs={'n': 1}"),
            ("INFO", "Step 1 END   | tool=double | outputs={'n': 2}"),
            END,
        ],
    ),
    (
        "linear, overwriting with a warning",
        Case([linear(step("inc"), version="1.0", on_context_collision="warn")], tools),
        [
            START,
            ("INFO", "Step 0 START | tool=inc | inputs={'n': 1}"),
            ("INFO", "Step 0 END   | tool=inc | outputs={'n': 2}"),
            ("WARNING", "n"),
            ("INFO", "Flow 'main' END   | records=1"),
        ],
    ),
    (
        "abort",
        Case([dag(node("a", "boom"), node("b"))], tools),
        [
            START,
            ("INFO", "Step 0 START | tool=boom | inputs={'n': 1}"),
            (
                "ERROR",
                "Step 0 ERROR | tool=boom | error=FlowExecutionError: Execution error in tool 'boom' at step 0: boom",
            ),
            ("ERROR", "Flow 'main' ABORT | records=1"),
        ],
    ),
    (
        "missing tool",
        Case([linear(step("gone"), version="1.0")], tools),
        [
            START,
            (
                "ERROR",
                "Step 0 ERROR | tool=gone | error=ToolNotFoundError: Tool 'gone' is not registered. "
                "Step 0 of flow 'main' names it: register it with register_tool.",
            ),
            ("ERROR", "Flow 'main' ABORT | records=1"),
        ],
    ),
]


@pytest.mark.parametrize(("case", "lines"), [row[1:] for row in LINES], ids=[row[0] for row in LINES])
def test_row_22_the_log_lines_of_a_run(case: Case, lines: list[tuple[str, str]]) -> None:
    found = assert_same_on_both_lanes(case).lines
    assert [line for line in found if line[0] != "WARNING"] == [line for line in lines if line[0] != "WARNING"]
    assert [level for level, _ in found] == [level for level, _ in lines]
    assert all("overwritten" in text for level, text in found if level == "WARNING")


@pytest.mark.parametrize("wrap", [linear, dag])
@pytest.mark.parametrize(
    ("schema", "index"), [("input_schema_ref", -1), ("output_schema_ref", 1), ("context_schema_ref", 1)]
)
def test_row_22_a_failed_check_of_the_flow_is_logged_as_an_error(schema: str, index: int, wrap: Any) -> None:
    made = step("inc") if wrap is linear else node("a")
    lines = assert_same_on_both_lanes(Case([wrap(made, **{schema: STRICT})], tools)).lines
    errors = [text for level, text in lines if level == "ERROR"]
    assert [text.split(": ")[0] for text in errors[:1]] == [
        f"Step {index} ERROR | tool=main | error=SchemaValidationError"
    ]
    assert errors[1:] == [f"Flow 'main' ABORT | records={1 if index < 0 else 2}"]


def test_the_lines_of_a_flow_name_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="doubleweave.executor")
    result = run(executor_for(Case([linear(step("inc"))], tools)), "sync", {"n": 1})
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Flow")]
    assert len(lines) == 2
    assert all(line.endswith(f" | trace_id={result.trace_id}") for line in lines)


# --- redaction --------------------------------------------------------------------------------------------------------


def login(v: Any) -> dict[str, Any]:
    return {"token": f"for {v.user}", "user": v.user, "nested": [{"secret": 1}]}


def login_tool(**options: Any) -> Tool:
    schemas: dict[str, Any] = {"input_schema": Anything, "output_schema": Anything}
    return Tool(name="login", description="", fn=login, **schemas, **options)


SECRETS = {"user": "u", "password": "p"}


def test_log_lines_are_redacted_and_nothing_else_is() -> None:
    case = Case(
        [dag(DAGFlowStep(step_id="s", flow_name="inner")), linear(step("login"), name="inner")],
        lambda: [login_tool()],
        SECRETS,
        lambda: {"redaction_policy": RedactionPolicy(), "trace_recorder": recorder},
    )
    recorder = dw.TraceRecorder()
    seen = assert_same_on_both_lanes(case)
    hidden_in, hidden_out = str({"user": "u", "password": MASK}), f"{{'token': '{MASK}', 'user': 'u', 'nested': "
    texts = [text for _, text in seen.lines if text.startswith("Step")]
    assert texts[:2] == [f"Step 0 START | tool={name} | inputs={hidden_in}" for name in ("inner", "login")]
    assert texts[2] == f"Step 0 END   | tool=login | outputs={hidden_out}[{{'secret': '{MASK}'}}]}}"
    assert all("for u" not in text and "'p'" not in text for text in texts)
    result = seen.result
    assert result is not None
    outputs = {"token": "for u", "user": "u", "nested": [{"secret": 1}]}
    assert result.initial_input == result.execution_log[0].inputs == SECRETS
    assert result.final_output == {**SECRETS, **outputs}
    assert [trace.steps[0].inputs for trace in recorder.list_traces()] == [SECRETS] * 4
    assert seen.hooks[0][2] == SECRETS


@both_lanes
@pytest.mark.parametrize("policy", [None, RedactionPolicy()])
def test_callbacks_see_redacted_inputs_and_the_tool_does_not(lane: str, policy: RedactionPolicy | None) -> None:
    asked: list[Any] = []

    def approve(ctx: dw.ApprovalContext) -> dw.ApprovalDecision:
        asked.append(("approval", ctx.inputs))
        return dw.ApprovalDecision.APPROVE

    def check(ctx: Any) -> None:
        asked.append(("guardrail", ctx.inputs))

    case = Case([linear(step("login"))], lambda: [login_tool(safety=ASKS)])
    executor = executor_for(case, redaction_policy=policy, approval_callback=approve, guardrail_callback=check)
    result = run(executor, lane, SECRETS)
    shown = SECRETS if policy is None else {"user": "u", "password": MASK}
    assert asked == [("approval", shown), ("guardrail", shown)]
    assert (result.success, result.execution_log[0].inputs) == (True, SECRETS)


class CountingPolicy(RedactionPolicy):
    def redact(self, data: dict[str, Any]) -> dict[str, Any]:
        COUNTED.append(data)
        return super().redact(data)


COUNTED: list[dict[str, Any]] = []


@both_lanes
@pytest.mark.parametrize(("level", "redactions"), [(logging.INFO, 4), (logging.WARNING, 0)])
def test_3_13_nothing_is_redacted_for_lines_that_nobody_reads(
    lane: str, level: int, redactions: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level, logger="doubleweave.executor")
    COUNTED.clear()
    executor = executor_for(Case([linear(step("inc"), step("inc"))], tools), redaction_policy=CountingPolicy())
    run(executor, lane, {"n": 1})
    assert (len(COUNTED), len(caplog.records)) == (redactions, 6 if level == logging.INFO else 0)
