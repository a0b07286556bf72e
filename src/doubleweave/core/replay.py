"""Repeating a recorded run, whole or from one of its steps on, and comparing the outputs."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from doubleweave.core.effects import Lane, Life
from doubleweave.core.life import life_of, life_of_run
from doubleweave.core.merge import apply_output_mapping
from doubleweave.core.run import Request, Run, Start
from doubleweave.core.scope import Scope
from doubleweave.core.setup import Setup
from doubleweave.models.composition import validate_composition
from doubleweave.models.flows import AnyFlow, DAGFlow
from doubleweave.models.records import ExecutionResult, StepRecord
from doubleweave.models.replay import ReplayMode, ReplayResult, StepDiff


def life_of_replay(
    setup: Setup, original: ExecutionResult, mode: ReplayMode, first_step: int, scope: Scope, lane: Lane
) -> Life[ReplayResult]:
    """Run the flow of a result again, without the step cache, and compare in mode `VERIFY`.

    From `first_step` on, a linear flow begins with the context that the records before it left. The replay of a dry
    run is a dry run.

    Raises before any hook what `life_of_run` raises there, and `ValueError` for a `first_step` that a DAG cannot begin at
    or that lies behind the flow's end. Later, what a run raises.
    """
    request = Request(
        original.flow_name,
        dict(original.initial_input),
        version=original.flow_version or None,
        scope=replace(scope, replay=True, dry_run=scope.dry_run or original.dry_run),
    )
    if first_step <= 0:
        result = yield from life_of_run(setup, request, lane)
    else:
        result = yield from life_of(_run_from(setup, request, original, first_step, lane))
    diffs = (
        list(_diffs(original.execution_log[max(first_step, 0) :], result.execution_log))
        if mode is ReplayMode.VERIFY
        else []
    )
    return ReplayResult(
        original_trace_id=original.trace_id, new_result=result, mode=mode, diffs=diffs, all_steps_match=not diffs
    )


def _run_from(setup: Setup, request: Request, original: ExecutionResult, first_step: int, lane: Lane) -> Run:
    flow = setup.registry.get_flow(request.flow_name, version=request.version)
    if isinstance(flow, DAGFlow):
        raise ValueError(f"flow '{flow.name}' is a DAG: resume_from_step must be 0, got {first_step}")
    if first_step > len(flow.steps):
        raise ValueError(f"resume_from_step is {first_step}, but flow '{flow.name}' has {len(flow.steps)} steps")
    validate_composition(setup.registry, flow, setup.policies.max_composition_depth)
    earlier = original.execution_log[:first_step]
    request.start = Start(first_step, _context_before(flow, original, first_step), [], earlier)
    return Run(setup, request, flow, setup.plan_for(flow), life_of_run, lane)


def _context_before(flow: AnyFlow, original: ExecutionResult, first_step: int) -> dict[str, Any]:
    context = dict(original.initial_input)
    for record in original.execution_log[:first_step]:
        outputs = record.outputs or {}
        if outputs and 0 <= record.step_index < len(flow.steps):
            mapping = flow.steps[record.step_index].output_mapping
            outputs = apply_output_mapping(outputs, mapping, tool_name=record.tool_name, step_index=record.step_index)
        context.update(outputs)
    return context


def _diffs(expected: list[StepRecord], actual: list[StepRecord]) -> Iterator[StepDiff]:
    """Yield the differences: by record, then by the expected record's keys, then by those that are new."""
    for before, after in zip_longest(expected, actual):
        old = {} if before is None else before.outputs or {}
        new = {} if after is None else after.outputs or {}
        record = before or after
        if (before is None or after is None) and not old and not new:
            yield StepDiff(
                step_index=record.step_index,
                tool_name=record.tool_name,
                field="<record>",
                expected=None if before is None else record.tool_name,
                actual=None if after is None else record.tool_name,
            )
        for key in dict.fromkeys((*old, *new)):
            left, right = old.get(key), new.get(key)
            if before is None or after is None or not _same(left, right):
                yield StepDiff(
                    step_index=record.step_index, tool_name=record.tool_name, field=key, expected=left, actual=right
                )


def _same(left: Any, right: Any) -> bool:
    """Say whether two outputs are equal. A NaN equals a NaN; values that cannot be compared are different."""
    if left is right:
        return True
    try:
        if isinstance(left, dict) and isinstance(right, dict):
            return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
        for kind in (list, tuple):
            if isinstance(left, kind) and isinstance(right, kind):
                return len(left) == len(right) and all(map(_same, left, right))
        if isinstance(left, float) and isinstance(right, float) and left != left and right != right:
            return True
        return bool(left == right)
    except Exception:
        return False
