"""Callbacks that do what no callback should: a record where they fail, an end of the run where they leave."""

import asyncio
from typing import Any

import pytest

import doubleweave as dw
from executors_under_test import concurrencies, execute, lanes, make_executor
from lanes_under_test import Recorder, normalised, number_tool
from parity_scenarios import ASKS, dag, inc, node

ANSWERS = {"decision": "t", "approval": dw.ApprovalDecision.APPROVE, "guardrail": None}
# The record's error and its message but for the reason.
FAILURES = {
    "decision": ("DecisionCallbackError", "{name}: not now"),
    "approval": ("ApprovalDeniedError", "the approval callback raised {name}: not now"),
    "guardrail": ("GuardrailViolationError", "not now"),
}
kinds = pytest.mark.parametrize("kind", ANSWERS)
either = pytest.mark.parametrize("asynchronous", [False, True])


def run(
    kind: str, error: type[BaseException], asynchronous: bool, concurrency: int, lane: str
) -> tuple[Any, list[Any]]:
    """Run a flow whose step asks a callback that raises, once; return the outcome and the hook calls."""
    raising, hooks = iter([True]), Recorder()

    def callback(ctx: Any) -> Any:
        if next(raising, None):
            raise error("not now")
        return ANSWERS[kind]

    async def callback_async(ctx: Any) -> Any:
        await asyncio.sleep(0)
        return callback(ctx)

    settings: dict[str, Any] = {f"{kind}_callback": callback_async if asynchronous else callback}
    executor = make_executor(
        [dag(node("a", "t", decision_candidates=["t"], on_error="skip"))],
        [number_tool("t", inc, safety=ASKS)],
        middleware=[hooks],
        max_step_concurrency=concurrency,
        **settings,
    )
    try:
        outcome: Any = execute(executor, lane)
    except BaseException as raised:
        outcome = raised
    calls = list(hooks.calls)
    assert execute(executor, lane).final_output == {"n": 1, "a": 2}, "the executor is as good as new"
    return outcome, calls


@lanes
@concurrencies
@either
@kinds
@pytest.mark.parametrize("error", [ValueError, StopIteration, StopAsyncIteration, TimeoutError, MemoryError])
def test_3_1_3_4_3_5_an_error_of_a_callback_is_recorded(
    error: type[Exception], kind: str, asynchronous: bool, concurrency: int, lane: str
) -> None:
    result, calls = run(kind, error, asynchronous, concurrency, lane)
    (record,) = result.execution_log
    error_type, text = FAILURES[kind]
    assert (record.success, record.outputs, record.error_type) == (False, None, error_type)
    assert record.error_code == dw.error_code_for(error_type)
    assert (record.skipped, record.fallback_used, record.retry_errors) == (False, False, [])
    assert record.inputs == ({} if kind == "decision" else {"n": 1})
    if error is StopIteration and asynchronous:
        # Python itself gives it another class and text when a coroutine raises it.
        assert "coroutine raised StopIteration" in str(record.error_message)
    else:
        assert text.format(name=error.__name__) in str(record.error_message)
    if kind == "approval":
        assert record.approval.decision is dw.ApprovalDecision.DENY
        assert record.approval.reason in str(record.error_message)
    else:
        assert record.approval is None
    starts = [] if kind == "decision" else ["step_start"]
    assert [call[0] for call in calls] == ["flow_start", *starts, "step_end", "flow_end"]
    assert calls[-1] == ("flow_end", "main", normalised(result))


@lanes
@concurrencies
@either
@kinds
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_dev_5_a_callback_that_leaves_takes_the_run_with_it(
    error: type[BaseException], kind: str, asynchronous: bool, concurrency: int, lane: str
) -> None:
    outcome, calls = run(kind, error, asynchronous, concurrency, lane)
    assert type(outcome) is error
    starts = [] if kind == "decision" else ["step_start"]
    assert [call[0] for call in calls] == ["flow_start", *starts, "flow_end"]
    assert (calls[-1][2]["success"], calls[-1][2]["execution_log"]) == (False, [])
