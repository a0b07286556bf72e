"""The command that shows where runs spent their time: `profile`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import doubleweave as dw
from doubleweave.cli import options
from doubleweave.cli.sources import read_trace
from doubleweave.cli.text import Format, emit_envelope, fail, say_lines

Traces = Annotated[
    list[Path], typer.Argument(metavar="TRACE...", help="The JSON of an execution result; several of one flow.")
]
Top = Annotated[int, typer.Option("--top", "-n", metavar="N", help="How many steps the table shows, slowest first.")]

_COUNTS: dict[str, Callable[[dw.StepRecord], int]] = {
    "retry_count": lambda record: record.retry_count,
    "skip_count": lambda record: record.skipped,
    "fallback_count": lambda record: record.fallback_used,
    "failure_count": lambda record: not record.success,
    "cached_count": lambda record: record.cached,
}
_LABELS = dict(zip(("retries", "skips", "fallbacks", "failures", "cached"), _COUNTS, strict=True))


def profile(traces: Traces, top: Top = 10, format_: options.Formatted = Format.TABLE) -> None:
    """Show which steps of a run took how long; with several traces of one flow, how long they take in general.

    Exit code 0, also for failed runs; 1 when the traces do not belong together, 2 when a file is missing.
    """
    if top < 1:
        fail("--top must be >= 1")
    results = [_read(path) for path in traces]
    if complaint := mismatch(results):
        fail(complaint)
    data = profile_of(results[0]) if len(results) == 1 else profile_of_several(results)
    if format_ is Format.JSON:
        emit_envelope(data)
    else:
        say_lines(profile_lines(data, top))


def _read(path: Path) -> dw.ExecutionResult:
    from math import isfinite

    result = read_trace(path)
    durations = [result.total_duration_ms, *(record.duration_ms for record in result.execution_log)]
    if not all(map(isfinite, durations)):
        fail(f"malformed trace file {path}: a duration is not a finite number")
    return result


def mismatch(results: Sequence[dw.ExecutionResult]) -> str | None:
    """Return why runs cannot be profiled together; None when they can."""
    names = sorted({result.flow_name for result in results})
    if len(names) > 1:
        return f"mixed flow names: {', '.join(names)}"
    counts = sorted({len(result.execution_log) for result in results})
    if len(counts) > 1:
        return f"different step counts: {', '.join(map(str, counts))}"
    for records in _by_position(results):
        tools = list(dict.fromkeys(record.tool_name for record in records))
        if len(tools) > 1:
            return f"traces disagree on tool at step {records[0].step_index}: '{tools[0]}' and '{tools[1]}'"
    return None


def profile_of(result: dw.ExecutionResult) -> dict[str, Any]:
    """Return how long the steps of one run took, and what was special about them; times are milliseconds."""
    log = result.execution_log
    spent = sum(record.duration_ms for record in log)
    return {
        "trace_count": 1,
        "trace_schema_version": result.trace_schema_version,
        "flow_name": result.flow_name,
        "trace_id": result.trace_id,
        "success": result.success,
        "total_duration_ms": result.total_duration_ms,
        "sum_step_ms": spent,
        "overhead_ms": result.total_duration_ms - spent,
        "step_count": len(log),
        "steps": [_step_of(record) for record in log],
        "aggregates": _aggregates(log),
    }


def _step_of(record: dw.StepRecord) -> dict[str, Any]:
    return {
        "step_index": record.step_index,
        "tool_name": record.tool_name,
        "duration_ms": record.duration_ms,
        "success": record.success,
        "retry_count": record.retry_count,
        "cached": record.cached,
        "skipped": record.skipped,
        "fallback_used": record.fallback_used,
        "error_type": record.error_type,
    }


def profile_of_several(results: Sequence[dw.ExecutionResult]) -> dict[str, Any]:
    """Return how long the steps of several runs of one flow took, and how often something was special about them."""
    return {
        "trace_count": len(results),
        "trace_schema_versions": sorted({result.trace_schema_version for result in results}),
        "flow_name": results[0].flow_name,
        "step_count": len(results[0].execution_log),
        "total_duration_ms": statistics([result.total_duration_ms for result in results]),
        "steps": [_step_of_several(records) for records in _by_position(results)],
        "aggregates": _aggregates(record for result in results for record in result.execution_log),
    }


def _step_of_several(records: Sequence[dw.StepRecord]) -> dict[str, Any]:
    durations = statistics([record.duration_ms for record in records])
    return {
        "step_index": records[0].step_index,
        "tool_name": records[0].tool_name,
        "duration_ms": durations,
        "consistency_warning": durations["mean"] > 0 and durations["stdev"] > durations["mean"] / 2,
        "success": all(record.success for record in records),
        **_counts(records),
    }


def _by_position(results: Sequence[dw.ExecutionResult]) -> Iterator[tuple[dw.StepRecord, ...]]:
    return zip(*(result.execution_log for result in results), strict=True)


def statistics(values: Sequence[float]) -> dict[str, float]:
    """Return median, high percentiles (interpolated linearly), mean and sample standard deviation of at least one value."""
    from statistics import fmean, median, quantiles, stdev

    if len(set(values)) == 1:
        return {**dict.fromkeys(("p50", "p95", "p99", "mean"), values[0]), "stdev": 0.0}
    percentiles = quantiles(values, n=100, method="inclusive")
    return {
        "p50": median(values),
        "p95": percentiles[94],
        "p99": percentiles[98],
        "mean": fmean(values),
        "stdev": stdev(values),
    }


def _counts(records: Sequence[dw.StepRecord]) -> dict[str, int]:
    return {name: sum(map(count, records)) for name, count in _COUNTS.items()}


def _aggregates(records: Iterable[dw.StepRecord]) -> dict[str, Any]:
    by_tool: dict[str, list[dw.StepRecord]] = {}
    for record in records:
        by_tool.setdefault(record.tool_name, []).append(record)
    tools = {name: {**_counts(of_tool), "invocation_count": len(of_tool)} for name, of_tool in by_tool.items()}
    return {**{name: sum(counts[name] for counts in tools.values()) for name in _COUNTS}, "by_tool": tools}


def profile_lines(data: dict[str, Any], top: int) -> Iterator[str]:
    """Yield the lines of the table for a profile; it shows the `top` slowest steps."""
    is_single = data["trace_count"] == 1
    yield from _head_of_one(data) if is_single else _head_of_several(data)
    rows = [
        (each["step_index"], each["tool_name"], each["duration_ms"] if is_single else each["duration_ms"]["p50"], each)
        for each in data["steps"]
    ]
    rows.sort(key=lambda row: -row[2])
    yield from _bars([(index, name, ms, each["success"]) for index, name, ms, each in rows], top)
    if not is_single:
        yield from _inconsistent([each for *_, each in rows if each["consistency_warning"]], top)
    yield from _reliability(data["aggregates"])


def _head_of_one(data: dict[str, Any]) -> Iterator[str]:
    yield f"Flow: {data['flow_name']}  ·  trace: {data['trace_id']}"
    yield f"Total: {data['total_duration_ms']:.1f} ms  ·  success: {str(data['success']).lower()}"
    note = "  (steps ran at the same time)" if data["overhead_ms"] < 0 else ""
    yield f"overhead: {data['overhead_ms']:.1f} ms{note}"


def _head_of_several(data: dict[str, Any]) -> Iterator[str]:
    yield f"Flow: {data['flow_name']}  ·  aggregated over {data['trace_count']} traces"
    yield f"Total: {_percentiles(data['total_duration_ms'])}"
    yield "Bars are p50."


def _percentiles(durations: dict[str, float]) -> str:
    return "  ".join(f"{name}={durations[name]:.1f} ms" for name in ("p50", "p95", "p99"))


def _bars(rows: list[tuple[int, str, float, bool]], top: int) -> Iterator[str]:
    from doubleweave.models.drawing import _render_step_bar_chart

    yield from _render_step_bar_chart(rows[:top]).split("\n")
    if len(rows) > top:
        yield f"{len(rows) - top} more step(s)"


def _inconsistent(steps: list[dict[str, Any]], top: int) -> Iterator[str]:
    for each in steps[:top]:
        times = each["duration_ms"]
        yield (
            f"inconsistent: step {each['step_index']} ({each['tool_name']}): {_percentiles(times)}  "
            f"stdev is {100 * times['stdev'] / times['mean']:.0f}% of the mean"
        )
    if len(steps) > top:
        yield f"{len(steps) - top} more inconsistent step(s)"


def _reliability(aggregates: dict[str, Any]) -> Iterator[str]:
    if not any(aggregates[name] for name in _COUNTS):
        return
    yield f"Reliability: {_count_words(aggregates)}"
    # To be served from a cache is no trouble.
    troubled = [
        (name, counts)
        for name, counts in aggregates["by_tool"].items()
        if any(counts[each] for each in _COUNTS if each != "cached_count")
    ]
    troubled.sort(key=lambda each: (-each[1]["failure_count"], each[0]))
    for name, counts in troubled:
        yield f"  {name}: {_count_words(counts)}  of {counts['invocation_count']}"


def _count_words(counts: dict[str, Any]) -> str:
    return "  ".join(f"{label}={counts[name]}" for label, name in _LABELS.items())
