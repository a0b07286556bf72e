"""The command that compares two runs: `diff`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

import doubleweave as dw
from doubleweave.cli import options
from doubleweave.cli.sources import read_trace
from doubleweave.cli.text import Format, emit_envelope, fail, say_lines

Tolerance = Annotated[
    float | None,
    typer.Option(
        "--perf-tolerance", metavar="PERCENT", help="Steps that got slower or faster by more than this differ, too."
    ),
]
_ABOUT_THE_RUN = ("flow_name", "step_count", "success")
_ABOUT_A_STEP = ("tool_name_change", "success", "error_type", "error_message")
_SHOWN = 5
"""How many places in an output the table names."""
_LONGEST = 40
"""How many characters of JSON a value may have that the table shows."""


def diff(
    trace_a: options.TraceA,
    trace_b: options.TraceB,
    perf_tolerance: Tolerance = None,
    format_: options.Formatted = Format.TABLE,
) -> None:
    """Compare the runs of two traces step by step. Ids, points in time and, without a tolerance, durations do not count.

    Exit code 0 when the runs are identical, 1 when they differ, 2 when a file is missing.
    """
    if perf_tolerance is not None and not perf_tolerance >= 0:
        fail("--perf-tolerance must be >= 0", 2)
    data = compare(read_trace(trace_a), read_trace(trace_b), perf_tolerance)
    if format_ is Format.JSON:
        emit_envelope(data)
    else:
        say_lines(comparison_lines(data))
    raise typer.Exit(0 if data["identical"] else 1)


def compare(a: dw.ExecutionResult, b: dw.ExecutionResult, perf_tolerance: float | None = None) -> dict[str, Any]:
    """Return what differs between two runs, as data that JSON has a form for.

    Steps are paired by position; those that only one of the runs has show in `step_count`. With a tolerance, in percent, a step
    differs, too, when its duration changed by more than that.
    """
    pairs = zip(a.execution_log, b.execution_log, strict=False)
    steps = [step for step in (_step_changes(*pair, perf_tolerance) for pair in pairs) if step is not None]
    data: dict[str, Any] = {
        "flow_name": _change(a.flow_name, b.flow_name),
        "step_count": _change(len(a.execution_log), len(b.execution_log)),
        "success": _change(a.success, b.success),
        "final_output": structural_diff(a.final_output, b.final_output),
        "steps": steps,
    }
    versions = {"a": a.trace_schema_version, "b": b.trace_schema_version}
    return {"identical": not any(data.values()), **data, "trace_schema_version": versions}


def structural_diff(a: Any, b: Any) -> dict[str, Any]:
    """Return what makes one JSON value of another, in the form of the package `deepdiff`; empty when they are equal.

    The order of lists does not count, the number of equal elements does. A NaN equals another one.
    """
    # Most values are equal, and this tells so faster than anything else.
    if json.dumps(a, default=str) == json.dumps(b, default=str):
        return {}
    from deepdiff import DeepDiff

    settings: Any = {"ignore_order": True, "ignore_private_variables": False, "ignore_nan_inequality": True}
    found = DeepDiff(a, b, **settings) or DeepDiff(a, b, report_repetition=True, **settings)
    plain: dict[str, Any] = json.loads(found.to_json())
    return plain


def _change(a: Any, b: Any) -> dict[str, Any] | None:
    return None if a == b else {"a": a, "b": b}


def _step_changes(a: dw.StepRecord, b: dw.StepRecord, perf_tolerance: float | None) -> dict[str, Any] | None:
    """Return what differs between two records of one position; None when nothing does."""
    changes = {
        "tool_name_change": _change(a.tool_name, b.tool_name),
        "outputs": structural_diff(a.outputs, b.outputs),
        "error_type": _change(a.error_type, b.error_type),
        "error_message": _change(a.error_message, b.error_message),
        "success": _change(a.success, b.success),
        **_perf_change(a.duration_ms, b.duration_ms, perf_tolerance),
    }
    found = {name: change for name, change in changes.items() if change}
    return {"step_index": a.step_index, "tool_name": a.tool_name, **found} if found else None


def _perf_change(a: float, b: float, tolerance: float | None) -> dict[str, float]:
    delta = b - a
    percent = 100 * delta / (a or 1.0)
    if tolerance is None or not abs(percent) > tolerance:
        return {}
    return {"perf_delta_ms": delta, "perf_delta_pct": percent}


def comparison_lines(data: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table for what `compare` has returned."""
    if data["identical"]:
        yield "The runs are identical."
        return
    yield from _changes(data, _ABOUT_THE_RUN)
    if data["final_output"]:
        yield f"final_output: {_places(data['final_output'])}"
    for step in data["steps"]:
        yield f"step {step['step_index']} ({step['tool_name']}):"
        yield from (f"  {line}" for line in _step_lines(step))


def _step_lines(step: dict[str, Any]) -> Iterator[str]:
    yield from _changes(step, _ABOUT_A_STEP)
    if "outputs" in step:
        yield f"outputs: {_places(step['outputs'])}"
    if "perf_delta_ms" in step:
        yield f"duration: {step['perf_delta_ms']:+.1f} ms ({step['perf_delta_pct']:.1f}% change)"


def _changes(data: dict[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        if change := data.get(name):
            yield f"{name}: {_word(change['a'])} → {_word(change['b'])}"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _places(changes: dict[str, Any]) -> str:
    """Return where in a value something changed, and how it did."""
    found = [
        _place(kind, place, places[place] if isinstance(places, dict) else None)
        for kind, places in changes.items()
        for place in places
    ]
    more = len(found) - _SHOWN
    return ", ".join(found[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _place(kind: str, place: str, change: Any) -> str:
    if kind in ("values_changed", "type_changes"):
        old, new = (json.dumps(change[name], ensure_ascii=False) for name in ("old_value", "new_value"))
        if max(len(old), len(new)) <= _LONGEST:
            return f"{place} {old} → {new}"
    return f"{place} ({kind.replace('_', ' ')})"
