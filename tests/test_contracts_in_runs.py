"""C-6: a safety contract is metadata; a tool enforces nothing of it, and an executor what its settings ask for."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import DeterminismLevel, SideEffectLevel, StabilityLevel, ToolSafetyContract
from lanes_under_test import Case, Seen, assert_same_on_both_lanes, number_tool
from parity_scenarios import QUICK, inc, linear, step

SEVEREST = ToolSafetyContract(
    side_effects=SideEffectLevel.DESTRUCTIVE,
    stability=StabilityLevel.UNSTABLE,
    determinism_level=DeterminismLevel.NONE,
    idempotent=False,
    cacheable=False,
    safe_to_retry=False,
    requires_approval=True,
    approval_reason="deletes everything",
)


def once_broken() -> Callable[[Any], dict[str, int]]:
    """Return a function that fails at its first call and adds one at each later one."""
    errors = iter([OSError("not yet")])

    def fn(v: Any) -> dict[str, int]:
        for error in errors:
            raise error
        return inc(v)

    return fn


def seen_with(safety: ToolSafetyContract, settings: dict[str, Any], options: dict[str, Any]) -> Seen:
    """Run on both lanes a flow whose only tool has a contract, fails once and is then called again."""
    return assert_same_on_both_lanes(
        Case(
            [linear(step("t", retry=QUICK))],
            lambda: [number_tool("t", once_broken(), safety=safety)],
            executor=lambda: settings,
            run=lambda: options,
        )
    )


def only_record(seen: Seen) -> dw.StepRecord:
    assert seen.result is not None
    (record,) = seen.result.execution_log
    return record


def test_c_6_a_tool_alone_enforces_nothing() -> None:
    tool = number_tool("t", inc, safety=SEVEREST)
    assert (tool.run({"n": 1}), asyncio.run(tool.run_async({"n": 1}))) == ({"n": 2}, {"n": 2})


def test_c_6_an_executor_without_settings_enforces_nothing() -> None:
    record = only_record(seen_with(SEVEREST, {}, {}))
    assert (record.success, record.outputs, record.approval) == (True, {"n": 2}, None)
    assert (record.retry_count, record.retry_errors) == (1, ["not yet"])


def test_c_6_stability_and_determinism_are_told_but_never_enforced() -> None:
    safety = ToolSafetyContract(stability=StabilityLevel.UNSTABLE, determinism_level=DeterminismLevel.NONE)
    strictest = {"strict_safety": True, "max_side_effect_level": SideEffectLevel.NONE}
    record = only_record(seen_with(safety, strictest, {"dry_run": True}))
    assert (record.success, record.outputs, record.retry_count, record.skipped) == (True, {"n": 2}, 1, False)


ASKS = ToolSafetyContract(requires_approval=True)
WRITES = ToolSafetyContract(side_effects=SideEffectLevel.WRITE)
UNREPEATABLE = ToolSafetyContract(safe_to_retry=False)
STRICT = {"strict_safety": True}
# What enforces a part of the contract, the contract, the executor's settings, the run's options, the record.
ENFORCED: list[tuple[str, ToolSafetyContract, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        "ceiling",
        WRITES,
        {"max_side_effect_level": SideEffectLevel.READ},
        {},
        {"error_type": "SafetyCeilingError", "outputs": None, "retry_errors": []},
    ),
    ("approval", ASKS, STRICT, {}, {"error_type": "ApprovalDeniedError", "outputs": None, "retry_errors": []}),
    ("dry run", WRITES, {}, {"dry_run": True}, {"skipped": True, "success": True, "outputs": {}, "retry_errors": []}),
    (
        "retry safety under strict mode",
        UNREPEATABLE,
        STRICT,
        {},
        {
            "error_type": "FlowExecutionError",
            "retry_count": 0,
            "retry_errors": ["not yet (retry suppressed: the tool is not declared safe to retry)"],
        },
    ),
]


@pytest.mark.parametrize(
    ("safety", "settings", "options", "expected"), [row[1:] for row in ENFORCED], ids=[row[0] for row in ENFORCED]
)
def test_c_6_the_executor_enforces_what_it_is_asked_to(
    safety: ToolSafetyContract, settings: dict[str, Any], options: dict[str, Any], expected: dict[str, Any]
) -> None:
    record = only_record(seen_with(safety, settings, options))
    assert {name: getattr(record, name) for name in expected} == expected
