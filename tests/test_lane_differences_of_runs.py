"""Where runs of the two lanes could part: entering one, its log lines, its settings, its callbacks and overrides."""

import asyncio
import threading
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import DAGFlowStep, FlowStep
from executors_under_test import concurrencies, execute, lanes, make_executor
from lanes_under_test import Anything, Case, Recorder, Seen, assert_same_on_both_lanes, normalised, number_tool
from parity_scenarios import ASKS, dag, inc, linear, node, step, tools

MARK: ContextVar[str] = ContextVar("MARK", default="unset")


class Left(BaseException):
    pass


def log_of(seen: Seen) -> list[dw.StepRecord]:
    assert seen.result is not None
    return seen.result.execution_log


# --- entering a run ---------------------------------------------------------------------------------------------------


@lanes
@concurrencies
@pytest.mark.parametrize(("change", "reason"), [("nowhere", "unknown_dependency"), ("b", "cycle")])
def test_row_17_levels_come_first_so_that_an_invalid_dag_fires_no_hook(
    change: str, reason: str, concurrency: int, lane: str
) -> None:
    hooks = Recorder()
    flow = dag(node("a"), node("b", after="a"), input_schema_ref="parity_scenarios:Strict")
    executor = make_executor([flow], tools(), middleware=[hooks], max_step_concurrency=concurrency)
    first = executor.registry.get_flow("main").steps[0]
    assert isinstance(first, DAGFlowStep)
    first.depends_on.append(change)
    with pytest.raises(dw.DAGDefinitionError) as caught:
        execute(executor, lane)
    assert (caught.value.flow_name, caught.value.reason) == ("main", reason)
    assert hooks.calls == []
    first.depends_on.remove(change)
    assert [r.error_type for r in execute(executor, lane).execution_log] == ["SchemaValidationError"]


# What is wrong with one flow, outermost check first: each hides all that follow.
FAULTS: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"dry_run_unsupported": "maybe", "version": "9"}, ValueError),
    ({"version": "9"}, dw.FlowNotFoundError),
    ({}, dw.FlowStatusError),
    ({"force": True}, dw.FlowCompositionError),
]


@pytest.mark.parametrize(("run", "error"), FAULTS)
@concurrencies
def test_row_28_the_gate_comes_before_the_composition_and_both_before_any_hook(
    run: dict[str, Any], error: type[Exception], concurrency: int
) -> None:
    nodes = [node("a"), DAGFlowStep(step_id="b", flow_name="gone", depends_on=["a"])]
    flow = dag(*nodes, status=dw.FlowStatus.DISABLED, input_schema_ref="parity_scenarios:Strict")
    seen = assert_same_on_both_lanes(Case([flow], tools, run=lambda: run), concurrency)
    assert type(seen.error) is error
    assert (seen.hooks, seen.lines) == ([], [])


@lanes
def test_row_28_the_composition_comes_before_the_topology(lane: str) -> None:
    executor = make_executor([dag(node("a"), DAGFlowStep(step_id="b", flow_name="gone", depends_on=["a"]))], tools())
    first = executor.registry.get_flow("main").steps[0]
    assert isinstance(first, DAGFlowStep)
    first.depends_on.append("nowhere")
    with pytest.raises(dw.FlowCompositionError) as caught:
        execute(executor, lane)
    assert caught.value.reason == "unknown_flow"


@lanes
@pytest.mark.parametrize("nested", ["sync", "async", "composed"])
def test_row_24_every_run_reports_its_own_version(lane: str, nested: str) -> None:
    class Versions(dw.BaseMiddleware):
        def __init__(self) -> None:
            self.seen: list[tuple[str, str, str]] = []

        def on_flow_start(self, ctx: dw.FlowStartContext) -> None:
            self.seen.append(("start", ctx.flow_name, ctx.flow_version))

        def on_flow_end(self, ctx: dw.FlowEndContext) -> None:
            self.seen.append(("end", ctx.flow_name, ctx.result.flow_version))

    versions = Versions()

    def nest(v: Any) -> dict[str, int]:
        assert execute(executor, nested, name="inner", version="3.0").flow_version == "3.0"
        with pytest.raises(dw.FlowStatusError):
            execute(executor, nested, name="inner", version="4.0")
        return {"n": v.n}

    second = FlowStep(flow_name="inner") if nested == "composed" else step("nest")
    flows: list[dw.AnyFlow] = [
        linear(step("inc"), second, version="1.0"),
        linear(step("inc"), version="2.0"),
        linear(step("inc"), name="inner", version="3.0"),
        linear(step("inc"), name="inner", version="2.0"),
    ]
    executor = make_executor(flows, [number_tool("inc", inc), number_tool("nest", nest)], middleware=[versions])
    if nested != "composed":
        executor.registry.register_flow(linear(name="inner", version="4.0", status=dw.FlowStatus.DISABLED))
    assert execute(executor, lane, version="1.0").flow_version == "1.0"
    inner = [("start", "inner", "3.0"), ("end", "inner", "3.0")]
    assert versions.seen == [("start", "main", "1.0"), *inner, ("end", "main", "1.0")]
    assert execute(executor, lane).flow_version == "2.0"


# --- log lines --------------------------------------------------------------------------------------------------------

START, END, ABORT = (
    "Flow 'main' START | version=1.0",
    "Flow 'main' END   | records={}",
    "Flow 'main' ABORT | records={}",
)
NOTED: list[tuple[str, Case, list[tuple[str, str]]]] = [
    (
        "linear",
        Case([linear(step("inc"), version="1.0")], tools),
        [
            ("INFO", START),
            ("INFO", "Step 0 START | tool=inc | inputs={'n': 1}"),
            ("INFO", "Step 0 END   | tool=inc | outputs={'n': 2}"),
            ("DEBUG", "Flow 'main' step 0 'inc': context key 'n' overwritten"),
            ("INFO", END.format(1)),
        ],
    ),
    (
        "DAG",
        Case([dag(node("a"), node("n", after="a"))], tools),
        [
            ("INFO", START),
            ("INFO", "Step 0 START | tool=inc | inputs={'n': 1}"),
            ("INFO", "Step 0 END   | tool=inc | outputs={'n': 2}"),
            ("INFO", "Step 1 START | tool=inc | inputs={'n': 1}"),
            ("INFO", "Step 1 END   | tool=inc | outputs={'n': 2}"),
            ("WARNING", "Flow 'main' step 1 'DAG level 1': context key 'n' overwritten"),
            ("INFO", END.format(2)),
        ],
    ),
    (
        "failed DAG",
        Case([dag(node("a", "boom"), node("b", after="a"))], tools),
        [
            ("INFO", START),
            ("INFO", "Step 0 START | tool=boom | inputs={'n': 1}"),
            (
                "ERROR",
                "Step 0 ERROR | tool=boom | error=FlowExecutionError: Execution error in tool 'boom' at step 0: boom",
            ),
            ("ERROR", ABORT.format(1)),
        ],
    ),
    (
        "cancelled DAG",
        Case([dag(node("a"))], tools, run=lambda: {"deadline": 0.0}),
        [("INFO", START), ("ERROR", ABORT.format(0))],
    ),
]


@pytest.mark.parametrize(("case", "lines"), [row[1:] for row in NOTED], ids=[row[0] for row in NOTED])
@concurrencies
def test_row_22_both_lanes_write_the_same_lines(case: Case, lines: list[tuple[str, str]], concurrency: int) -> None:
    assert assert_same_on_both_lanes(case, concurrency).lines == lines


@pytest.mark.parametrize("shape", [linear(step("inc"), version="1.0"), dag(node("a", output_mapping=None))])
@pytest.mark.parametrize(
    ("option", "index", "word"),
    [
        ("input_schema_ref", -1, "flow_input"),
        ("output_schema_ref", 1, "flow_output"),
        ("context_schema_ref", 1, "flow_context"),
    ],
)
@concurrencies
def test_row_22_row_4_dev_7_a_schema_of_the_flow_that_fails_is_noted_alike(
    shape: dw.AnyFlow, option: str, index: int, word: str, concurrency: int
) -> None:
    flow = shape.model_copy(update={option: "parity_scenarios:Strict"})
    seen = assert_same_on_both_lanes(Case([flow], tools), concurrency)
    record = log_of(seen)[-1]
    context = {"n": 1} if index < 0 else {"n": 2}
    assert (record.step_index, record.tool_name, record.inputs, record.outputs) == (index, "main", context, None)
    assert (record.error_type, record.error_code) == ("SchemaValidationError", "CW-E004")
    start = f"Schema validation failed for {word} 'main' at step {index}: "
    assert str(record.error_message).startswith(start)
    errors = [text for level, text in seen.lines if level == "ERROR"]
    assert len(errors) == 2
    assert errors[0].startswith(f"Step {index} ERROR | tool=main | error=SchemaValidationError: {start}")
    assert errors[1] == ABORT.format(len(log_of(seen)))


# --- settings ---------------------------------------------------------------------------------------------------------

CHOOSING = step("inc", decision_candidates=["inc", "double"])
SETTINGS: list[tuple[dict[str, Any], dw.AnyFlow]] = [
    ({"cost_profile": dw.CostProfile()}, linear(step("inc"))),
    ({"decision_callback": lambda ctx: "double"}, linear(CHOOSING)),
    (
        {"decision_callback": lambda ctx: "inc", "decision_policy": dw.DecisionPolicy(max_decisions_per_flow=1)},
        linear(CHOOSING, CHOOSING),
    ),
    ({"approval_callback": lambda ctx: dw.ApprovalDecision.DENY}, linear(step("asks"))),
    ({"strict_safety": True}, linear(step("asks"))),
    ({"max_side_effect_level": dw.SideEffectLevel.READ}, linear(step("write"))),
    ({"guardrail_callback": lambda ctx: 1 / 0}, linear(step("inc"))),
    ({"max_composition_depth": 0}, linear(FlowStep(flow_name="inner"))),
]


def outcome_of(executor: dw.FlowExecutor, lane: str) -> Any:
    try:
        result = execute(executor, lane)
    except dw.DoubleweaveError as error:
        return type(error), str(error)
    dumped = normalised(result)
    for record in dumped["execution_log"]:
        (record["decision"] or {}).pop("duration_ms", None)
    if dumped["cost_report"]:
        dumped["cost_report"].pop("actual_execution_ms")
    return dumped


@lanes
@pytest.mark.parametrize(("settings", "flow"), SETTINGS, ids=[next(reversed(row[0])) for row in SETTINGS])
def test_dev_2_an_executor_with_replaced_tools_keeps_every_setting(
    settings: dict[str, Any], flow: dw.AnyFlow, lane: str
) -> None:
    flows = [flow, linear(step("inc"), name="inner")]
    direct = outcome_of(make_executor(flows, tools(), **settings), lane)
    assert outcome_of(make_executor(flows, [], **settings).with_replaced_tools(tools()), lane) == direct
    last, kept = next(reversed(settings)), dict(settings)
    del kept[last]
    assert outcome_of(make_executor(flows, tools(), **kept), lane) != direct, "the setting matters"


@lanes
def test_dev_2_what_listens_is_kept_and_the_list_of_middleware_is_a_copy(lane: str) -> None:
    kept, observed = Recorder(), dw.TraceRecorder()
    shown: list[Any] = []

    def look(ctx: dw.GuardrailContext) -> None:
        shown.append(ctx.inputs)

    first = make_executor(
        [linear(step("inc"))],
        [number_tool("gone", inc)],
        Kernel,
        middleware=[kept],
        trace_recorder=observed,
        redaction_policy=dw.RedactionPolicy(redact_keys={"n"}),
        guardrail_callback=look,
    )
    second = first.with_replaced_tools(tools())
    assert type(second) is Kernel
    assert (first.registry, first.middleware) == (second.registry, second.middleware)
    assert (list(first.registered_tools), "gone" in second.registered_tools) == (["gone"], False)
    second.remove_middleware(kept)
    assert (first.middleware, second.middleware) == ((kept,), ())
    second.add_middleware(kept)
    execute(second, lane)
    assert [call[0] for call in kept.calls] == ["flow_start", "step_start", "step_end", "flow_end"]
    assert len(observed) == 1
    assert shown == [{"n": "***REDACTED***"}]


@lanes
def test_dev_2_the_limit_of_concurrency_is_kept(lane: str) -> None:
    barrier = threading.Barrier(2)

    def meet(v: Any) -> dict[str, int]:
        barrier.wait(timeout=10)
        return {"n": v.n}

    executor = make_executor([dag(node("a", "meet"), node("b", "meet"))], [], max_step_concurrency=2)
    assert execute(executor.with_replaced_tools([number_tool("meet", meet)]), lane).success


# --- callbacks --------------------------------------------------------------------------------------------------------


def answer(kind: str) -> Any:
    return {"decision": "inc", "approval": dw.ApprovalDecision.APPROVE, "guardrail": None}[kind]


CALLBACKS = pytest.mark.parametrize("kind", ["decision", "approval", "guardrail"])
ASKING = linear(step("inc", decision_candidates=["inc", "double"]))


@pytest.mark.parametrize("flow", [ASKING, dag(node("only", decision_candidates=["inc", "double"]))])
@lanes
@concurrencies
def test_row_10_dev_8_every_callback_is_told_the_step_id(flow: dw.AnyFlow, concurrency: int, lane: str) -> None:
    told: list[tuple[Any, ...]] = []

    def tell(kind: str) -> Any:
        def callback(ctx: Any) -> Any:
            told.append((kind, ctx.step_id, ctx.step_index, ctx.flow_name, ctx.trace_id))
            return answer(kind)

        return callback

    executor = make_executor(
        [flow],
        [number_tool("inc", inc, safety=ASKS)],
        **{f"{kind}_callback": tell(kind) for kind in ("decision", "approval", "guardrail")},
        max_step_concurrency=concurrency,
    )
    result = execute(executor, lane)
    step_id = "only" if isinstance(flow, dw.DAGFlow) else None
    assert result.success
    assert told == [(kind, step_id, 0, "main", result.trace_id) for kind in ("decision", "approval", "guardrail")]


@CALLBACKS
@pytest.mark.parametrize("limit", [None, 10.0])
async def test_row_2_dev_37_a_callback_that_blocks_never_holds_the_loop(kind: str, limit: float | None) -> None:
    loop, entered, release = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def callback(ctx: Any) -> Any:
        loop.call_soon_threadsafe(entered.set)
        assert release.wait(timeout=10)
        return answer(kind)

    settings: dict[str, Any] = {f"{kind}_callback": callback, "decision_policy": dw.DecisionPolicy(timeout_s=limit)}
    executor = make_executor([ASKING], [number_tool("inc", inc, safety=ASKS)], **settings)
    task = asyncio.create_task(executor.execute_flow_async("main", {"n": 1}))
    await entered.wait()  # the loop runs on while the callback blocks
    release.set()
    assert (await task).final_output == {"n": 2}


@CALLBACKS
@concurrencies
@pytest.mark.parametrize("awaitable", [False, True])
def test_dev_37_a_callback_may_be_plain_or_awaitable(kind: str, awaitable: bool, concurrency: int) -> None:
    asked: list[str] = []

    def callback(ctx: Any) -> Any:
        asked.append(ctx.flow_name)
        return answer(kind)

    async def callback_async(ctx: Any) -> Any:
        await asyncio.sleep(0)
        return callback(ctx)

    flow = dag(node("a", decision_candidates=["inc"]))
    settings: dict[str, Any] = {f"{kind}_callback": callback_async if awaitable else callback}
    executor = make_executor(
        [flow], [number_tool("inc", inc, safety=ASKS)], **settings, max_step_concurrency=concurrency
    )
    for lane in ("sync", "async"):
        assert execute(executor, lane).final_output == {"n": 1, "a": 2}
    assert asked == ["main", "main"]


@pytest.mark.parametrize("on_timeout", ["error", "default"])
@pytest.mark.parametrize("asynchronous", [False, True])
@lanes
@concurrencies
def test_row_2_a_decision_that_takes_too_long_is_dropped(
    on_timeout: Any, asynchronous: bool, concurrency: int, lane: str
) -> None:
    release = threading.Event()

    def hang(ctx: Any) -> str:
        release.wait(timeout=30)
        return "double"

    async def hang_async(ctx: Any) -> str:
        await asyncio.Event().wait()
        return "double"

    executor = make_executor(
        [dag(node("a", decision_candidates=["inc", "double"], on_error="skip"))],
        tools(),
        decision_callback=hang_async if asynchronous else hang,
        decision_policy=dw.DecisionPolicy(timeout_s=0.05, on_timeout=on_timeout),
        max_step_concurrency=concurrency,
    )
    (record,) = execute(executor, lane).execution_log
    assert not release.is_set()
    release.set()
    if on_timeout == "error":
        assert (record.success, record.error_type, record.decision, record.inputs) == (
            False,
            "DecisionTimeoutError",
            None,
            {},
        )
        return
    assert (record.success, record.tool_name, record.outputs) == (True, "inc", {"n": 2})
    assert record.decision is not None
    assert (record.decision.chosen, record.decision.timed_out) == ("inc", True)
    assert record.decision.duration_ms > 45


@CALLBACKS
@lanes
@pytest.mark.parametrize("limit", [None, 10.0])
def test_dev_9_a_callback_sees_the_context_variables_of_the_caller(kind: str, limit: float | None, lane: str) -> None:
    seen: list[str] = []

    def callback(ctx: Any) -> Any:
        seen.append(MARK.get())
        MARK.set("the callback's")
        return answer(kind)

    settings: dict[str, Any] = {f"{kind}_callback": callback, "decision_policy": dw.DecisionPolicy(timeout_s=limit)}
    executor = make_executor([ASKING], [number_tool("inc", inc, safety=ASKS)], **settings)
    reset = MARK.set("the caller's")
    try:
        assert execute(executor, lane).success
        assert (seen, MARK.get()) == (["the caller's"], "the caller's")
    finally:
        MARK.reset(reset)


class Uncopyable:
    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("not to be copied")


@concurrencies
@pytest.mark.parametrize("on_error", ["fail", "skip", "fallback:inc"])
def test_dev_10_inputs_that_cannot_be_copied_are_a_guardrail_failure(on_error: str, concurrency: int) -> None:
    called: list[Any] = []
    anything = dw.Tool(name="any", description="", input_schema=Anything, output_schema=Anything, fn=called.append)
    inputs = {"n": 1, "thing": Uncopyable()}
    flow = dag(DAGFlowStep(step_id="a", tool_name="any", on_error=on_error))
    case = Case([flow], lambda: [anything, *tools()], inputs, executor=lambda: {"guardrail_callback": called.append})
    (record,) = log_of(assert_same_on_both_lanes(case, concurrency))
    assert (record.success, record.outputs, record.inputs) == (False, None, inputs)
    assert (record.error_type, record.error_code) == ("GuardrailViolationError", "CW-E052")
    assert record.error_message == "Guardrail (input) blocked tool 'any' at step 0: not to be copied."
    assert called == []


@concurrencies
@pytest.mark.parametrize("refused", ["inc", "nothing"])
def test_dev_16_the_guardrail_is_asked_about_a_fallback(refused: str, concurrency: int) -> None:
    asked: list[tuple[str, int]] = []

    def check(ctx: dw.GuardrailContext) -> None:
        asked.append((ctx.tool_name, ctx.inputs["n"]))
        ctx.inputs["n"] = 100
        if ctx.tool_name == refused:
            raise PermissionError("no.")

    flow = dag(node("a", "boom", on_error="fallback:inc"))
    case = Case(
        [flow],
        tools,
        executor=lambda: {"guardrail_callback": check},
    )
    (record,) = log_of(assert_same_on_both_lanes(case, concurrency))
    assert asked == [("boom", 1), ("inc", 1)] * 2
    assert (record.tool_name, record.fallback_used, record.fallback_tool_name) == ("boom", True, "inc")
    assert record.retry_errors == ["boom", "Execution error in tool 'boom' at step 0: boom"]
    if refused == "nothing":
        assert (record.success, record.outputs, record.error_type) == (True, {"n": 2}, None)
    else:
        assert (record.success, record.outputs, record.error_type) == (False, None, "GuardrailViolationError")
        assert record.error_message == "Guardrail (input) blocked tool 'inc' at step 0: no."


# --- capability steps -------------------------------------------------------------------------------------------------


class Kernel(dw.FlowExecutor):
    """Answers capability steps as its tools' names say."""

    calls: list[tuple[Any, ...]]

    def execute_capability_step(
        self, step_index: int, step: FlowStep, context: dict[str, Any], flow_name: str, trace_id: str
    ) -> Any:
        self.calls.append((step_index, step.tool_name, context, flow_name, trace_id, threading.current_thread()))
        if step.tool_name == "raises":
            raise ValueError("the kernel is down")
        if step.tool_name == "leaves":
            raise Left
        now = datetime.now(UTC)
        record = dw.StepRecord(
            step_index=step_index,
            tool_name=step.display_name,
            inputs={} if step.tool_name == "fails bare" else {"asked": 1},
            outputs={"n": 9},
            success=not step.display_name.startswith("fails"),
            started_at=now,
            ended_at=now,
            duration_ms=0.5,
        )
        return _later(record) if step.tool_name == "later" else record


def index_of(hook: tuple[Any, ...]) -> int:
    """Return the step that a call of `on_step_start` or `on_step_end` is about."""
    return int(hook[2] if hook[0] == "step_start" else hook[2]["step_index"])


async def _later(record: dw.StepRecord) -> dw.StepRecord:
    await asyncio.sleep(0)
    return record


def run_kernel(tool_name: str, lane: str, concurrency: int) -> tuple[Any, Kernel, list[Any]]:
    hooks = Recorder()
    capability = DAGFlowStep(
        step_id="k", tool_name=tool_name, step_type="capability", capability_id="c", output_mapping={"k": "n"}
    )
    flow = dag(node("a"), capability, node("c", after="k", source="k"))
    executor = make_executor([flow], tools(), Kernel, middleware=[hooks], max_step_concurrency=concurrency)
    assert isinstance(executor, Kernel)
    executor.calls = []
    try:
        outcome: Any = execute(executor, lane)
    except Left as error:
        outcome = error
    return outcome, executor, hooks.calls


@lanes
@concurrencies
@pytest.mark.parametrize("tool_name", ["plain", "later"])
def test_row_9_dev_24_an_override_for_capability_steps_is_honoured(tool_name: str, concurrency: int, lane: str) -> None:
    result, executor, hooks = run_kernel(tool_name, lane, concurrency)
    assert (result.success, result.final_output) == (True, {"n": 1, "a": 2, "k": 9, "c": 10})
    assert [(r.step_index, r.tool_name) for r in result.execution_log] == [(0, "inc"), (1, tool_name), (2, "inc")]
    ((*call, thread),) = executor.calls
    assert call == [1, tool_name, {"n": 1}, "main", result.trace_id]
    if lane == "async":
        assert thread is not threading.current_thread()
    own = [hook for hook in hooks if hook[0].startswith("step") and index_of(hook) == 1]
    assert own == [
        ("step_start", "main", 1, tool_name, {"asked": 1}),
        ("step_end", "main", normalised(result.execution_log[1])),
    ]
    if concurrency == 1:
        assert [hook[0] for hook in hooks] == ["flow_start", *["step_start", "step_end"] * 3, "flow_end"]
        assert hooks[3:5] == own, "the sibling that is declared first runs first"


@lanes
@concurrencies
@pytest.mark.parametrize(("tool_name", "started"), [("fails", True), ("fails bare", False)])
def test_row_9_a_failed_capability_tells_its_start_only_with_inputs(
    tool_name: str, started: bool, concurrency: int, lane: str
) -> None:
    result, _, hooks = run_kernel(tool_name, lane, concurrency)
    assert [(r.tool_name, r.success) for r in result.execution_log] == [("inc", True), (tool_name, False)]
    starts, ends = ([index_of(hook) for hook in hooks if hook[0] == name] for name in ("step_start", "step_end"))
    assert (sorted(starts), sorted(ends)) == ([0, 1] if started else [0], [0, 1])


@lanes
@concurrencies
def test_dev_40_an_override_that_raises_is_a_failed_record(concurrency: int, lane: str) -> None:
    result, _, hooks = run_kernel("raises", lane, concurrency)
    record = result.execution_log[1]
    assert (record.step_index, record.tool_name, record.inputs, record.outputs) == (1, "raises", {}, None)
    assert (record.success, record.error_type, record.error_code) == (False, "FlowExecutionError", "CW-E006")
    assert record.error_message == "Execution error in tool 'raises' at step 1: the kernel is down"
    assert sorted(index_of(hook) for hook in hooks if hook[0] == "step_end") == [0, 1]
    assert hooks[-1] == ("flow_end", "main", normalised(result))


@lanes
@concurrencies
def test_dev_40_an_override_that_leaves_takes_the_run_with_it(concurrency: int, lane: str) -> None:
    outcome, executor, hooks = run_kernel("leaves", lane, concurrency)
    assert type(outcome) is Left
    ends = [hook for hook in hooks if hook[0] == "flow_end"]
    assert [(end[2]["success"], [r["tool_name"] for r in end[2]["execution_log"]]) for end in ends] == [
        (False, ["inc"])
    ]
    executor.registry.register_flow(linear(step("inc"), name="other"))
    assert execute(executor, lane, name="other").final_output == {"n": 2}
