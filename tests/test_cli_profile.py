"""The command that shows where runs spent their time."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli_under_test import Called, Shell
from doubleweave import ExecutionResult, InMemoryStepCache, RetryPolicy
from doubleweave.cli.profiling import statistics
from executors_under_test import execute, lanes, make_executor
from parity_scenarios import dag, linear, node, step, tools
from traces_under_test import call, real_trace, record, trace, write_trace

pytest_plugins = ["cli_under_test"]
NO_TROUBLE = {"retry_count": 0, "skip_count": 0, "fallback_count": 0, "failure_count": 0, "cached_count": 0}
FAILING = linear(
    step("inc"),
    step("flaky", retry=RetryPolicy(max_retries=2, backoff_seconds=0)),
    step("boom", on_error="skip"),
    step("boom", on_error="fallback:double"),
    step("wrong"),
)


def profile(shell: Shell, *arguments: ExecutionResult | str) -> Called:
    words = [
        each if isinstance(each, str) else write_trace(shell.folder, f"{number}.json", each)
        for number, each in enumerate(arguments)
    ]
    return call(shell, "profile", *words)


def lines_of(shell: Shell, *arguments: ExecutionResult | str) -> list[str]:
    called = profile(shell, *arguments)
    assert (called.code, called.err) == (0, "")
    return called.out.splitlines()


def data_of(shell: Shell, *arguments: ExecutionResult | str) -> dict[str, Any]:
    called = profile(shell, *arguments, "--format", "json")
    document = json.loads(called.out)
    data: dict[str, Any] = document["data"]
    # EN-1 and EN-4.
    assert document == {"schema_version": "1", "status": "ok", "data": data, "errors": []}
    assert (called.code, called.err) == (0, "")
    return data


def equal_times(value: float) -> dict[str, float]:
    return {"p50": value, "p95": value, "p99": value, "mean": value, "stdev": 0.0}


class TestOneTrace:
    @lanes
    def test_a_real_run_that_failed_is_profiled_record_by_record(self, shell: Shell, lane: str) -> None:
        result = execute(make_executor([FAILING], tools()), lane)
        data = data_of(shell, result)
        log = result.execution_log
        spent = sum(each.duration_ms for each in log)
        assert {name: value for name, value in data.items() if name not in ("steps", "aggregates")} == {
            "trace_count": 1,
            "trace_schema_version": "1.1",
            "flow_name": "main",
            "trace_id": result.trace_id,
            "success": False,
            "total_duration_ms": result.total_duration_ms,
            "sum_step_ms": spent,
            "overhead_ms": result.total_duration_ms - spent,
            "step_count": 5,
        }
        plain = {"success": True, "retry_count": 0, "cached": False, "skipped": False, "fallback_used": False}
        special: list[dict[str, Any]] = [
            {"tool_name": "inc", "error_type": None},
            {"tool_name": "flaky", "error_type": None, "retry_count": 2},
            {"tool_name": "boom", "error_type": "FlowExecutionError", "skipped": True},
            {"tool_name": "boom", "error_type": None, "fallback_used": True},
            {"tool_name": "wrong", "error_type": "SchemaValidationError", "success": False},
        ]
        assert data["steps"] == [
            {"step_index": index, "duration_ms": log[index].duration_ms, **plain, **values}
            for index, values in enumerate(special)
        ]
        assert data["aggregates"] == {
            "retry_count": 2,
            "skip_count": 1,
            "fallback_count": 1,
            "failure_count": 1,
            "cached_count": 0,
            "by_tool": {
                "inc": {**NO_TROUBLE, "invocation_count": 1},
                "flaky": {**NO_TROUBLE, "retry_count": 2, "invocation_count": 1},
                "boom": {**NO_TROUBLE, "skip_count": 1, "fallback_count": 1, "invocation_count": 2},
                "wrong": {**NO_TROUBLE, "failure_count": 1, "invocation_count": 1},
            },
        }
        assert lines_of(shell, result)[-4:] == [
            "Reliability: retries=2  skips=1  fallbacks=1  failures=1  cached=0",
            "  wrong: retries=0  skips=0  fallbacks=0  failures=1  cached=0  of 1",
            "  boom: retries=0  skips=1  fallbacks=1  failures=0  cached=0  of 2",
            "  flaky: retries=2  skips=0  fallbacks=0  failures=0  cached=0  of 1",
        ]

    @lanes
    def test_steps_from_a_cache_are_counted_and_no_trouble(self, shell: Shell, lane: str) -> None:
        executor = make_executor([linear(step("inc"))], tools(), step_cache=InMemoryStepCache())
        execute(executor, lane)
        again = execute(executor, lane)
        assert data_of(shell, again)["aggregates"]["by_tool"] == {
            "inc": {**NO_TROUBLE, "cached_count": 1, "invocation_count": 1}
        }
        assert lines_of(shell, again)[-1] == "Reliability: retries=0  skips=0  fallbacks=0  failures=0  cached=1"

    @lanes
    def test_steps_of_a_branch_not_taken_are_skips(self, shell: Shell, lane: str) -> None:
        branches: dict[str, Any] = {"branches": [{"target_step_id": "b", "predicate": "n > 100"}], "default_next": "c"}
        flow = dag(node("a", output_mapping=None, **branches), node("b", after="a"), node("c", after="a"))
        data = data_of(shell, real_trace(shell.folder, "real.json", lane, flow))
        assert [each["skipped"] for each in data["steps"]] == [False, True, False]
        assert data["aggregates"]["skip_count"] == 1

    def test_the_table_has_bars_by_duration(self, shell: Shell) -> None:
        records = (record(0, "a", 10.0), record(1, "b", 60.0), record(2, "c", 20.0, success=False), record(3, "d", 0.0))
        assert lines_of(shell, trace(*records, success=False)) == [
            "Flow: main  ·  trace: 00000000000000000000000000000000",
            "Total: 100.0 ms  ·  success: false",
            "overhead: 10.0 ms",
            "1  b                       ██████████████████████████████  60.0 ms",
            "2  c                       ██████████                      20.0 ms  ERR",
            "0  a                       █████                           10.0 ms",
            "3  d                                                       0.0 ms",
            "Reliability: retries=0  skips=0  fallbacks=0  failures=1  cached=0",
            "  c: retries=0  skips=0  fallbacks=0  failures=1  cached=0  of 1",
        ]

    def test_steps_that_ran_at_the_same_time_explain_an_overhead_below_zero(self, shell: Shell) -> None:
        records = (record(0, ms=70.0), record(1, ms=60.0))
        assert data_of(shell, trace(*records))["overhead_ms"] == -30.0
        assert lines_of(shell, trace(*records))[2] == "overhead: -30.0 ms  (steps ran at the same time)"

    @pytest.mark.parametrize(("records", "bar"), [((), "(no steps)"), ((record(ms=0.0),), "0  inc")])
    def test_runs_without_steps_or_without_times(self, shell: Shell, records: Any, bar: str) -> None:
        result = trace(*records, total_duration_ms=0.0)
        data = data_of(shell, result)
        assert (data["sum_step_ms"], data["overhead_ms"], data["step_count"]) == (0.0, 0.0, len(records))
        lines = lines_of(shell, result)
        assert lines[:3] == [
            "Flow: main  ·  trace: 00000000000000000000000000000000",
            "Total: 0.0 ms  ·  success: true",
            "overhead: 0.0 ms",
        ]
        assert len(lines) == 4
        assert lines[3].startswith(bar)

    def test_names_do_not_steer_the_terminal_and_stay_on_their_line(self, shell: Shell) -> None:
        lines = lines_of(shell, trace(record(tool="é\x1b[2J\nTotal:", success=False), flow_name="ü\nTotal:\x07"))
        assert lines[0] == r"Flow: ü\nTotal:\x07  ·  trace: 00000000000000000000000000000000"
        assert lines[3].startswith(r"0  é\x1b[2J\nTotal:")
        assert lines[5].startswith(r"  é\x1b[2J\nTotal:: retries=0")
        assert len(lines) == 6


class TestSeveralTraces:
    def test_durations_become_statistics_and_counts_are_added(self, shell: Shell) -> None:
        first = trace(record(0, "a", 10.0), record(1, "b", 4.0, retry_count=1), total_duration_ms=20.0)
        second = trace(
            record(0, "a", 20.0, cached=True),
            record(1, "b", 4.0, success=False, fallback_used=True, skipped=True, retry_count=2),
            total_duration_ms=30.0,
            trace_schema_version="0",
            success=False,
        )
        data = data_of(shell, first, second)
        deviation = pytest.approx(7.0710678)
        assert data == {
            "trace_count": 2,
            "trace_schema_versions": ["0", "1.1"],
            "flow_name": "main",
            "step_count": 2,
            "total_duration_ms": {"p50": 25.0, "p95": 29.5, "p99": 29.9, "mean": 25.0, "stdev": deviation},
            "steps": [
                {
                    "step_index": 0,
                    "tool_name": "a",
                    "duration_ms": {"p50": 15.0, "p95": 19.5, "p99": 19.9, "mean": 15.0, "stdev": deviation},
                    "consistency_warning": False,
                    "success": True,
                    **NO_TROUBLE,
                    "cached_count": 1,
                },
                {
                    "step_index": 1,
                    "tool_name": "b",
                    "duration_ms": equal_times(4.0),
                    "consistency_warning": False,
                    "success": False,
                    "retry_count": 3,
                    "skip_count": 1,
                    "fallback_count": 1,
                    "failure_count": 1,
                    "cached_count": 0,
                },
            ],
            "aggregates": {
                "retry_count": 3,
                "skip_count": 1,
                "fallback_count": 1,
                "failure_count": 1,
                "cached_count": 1,
                "by_tool": {
                    "a": {**NO_TROUBLE, "cached_count": 1, "invocation_count": 2},
                    "b": {
                        "retry_count": 3,
                        "skip_count": 1,
                        "fallback_count": 1,
                        "failure_count": 1,
                        "cached_count": 0,
                        "invocation_count": 2,
                    },
                },
            },
        }

    def test_the_table_has_bars_by_p50_and_names_what_is_inconsistent(self, shell: Shell) -> None:
        traces = [
            trace(record(0, "a", 10.0), record(1, "b", ms), record(2, "c", 60.0), total_duration_ms=total)
            for ms, total in ((10.0, 100.0), (20.0, 100.0), (90.0, 200.0))
        ]
        assert lines_of(shell, *traces) == [
            "Flow: main  ·  aggregated over 3 traces",
            "Total: p50=100.0 ms  p95=190.0 ms  p99=198.0 ms",
            "Bars are p50.",
            "2  c                       ██████████████████████████████  60.0 ms",
            "1  b                       ██████████                      20.0 ms",
            "0  a                       █████                           10.0 ms",
            "inconsistent: step 1 (b): p50=20.0 ms  p95=83.0 ms  p99=88.6 ms  stdev is 109% of the mean",
        ]

    @pytest.mark.parametrize(
        ("durations", "warns"), [((1.0, 3.0), True), ((10.0, 20.0), False), ((0.0, 0.0), False), ((0.0, 1.0), True)]
    )
    def test_a_consistency_warning_needs_a_deviation_above_half_the_mean(
        self, shell: Shell, durations: tuple[float, ...], warns: bool
    ) -> None:
        data = data_of(shell, *(trace(record(ms=ms)) for ms in durations))
        assert data["steps"][0]["consistency_warning"] is warns

    @lanes
    def test_real_runs(self, shell: Shell, lane: str) -> None:
        paths = [real_trace(shell.folder, f"real{number}.json", lane, FAILING) for number in range(3)]
        data = data_of(shell, *paths)
        assert [each["success"] for each in data["steps"]] == [True, True, True, True, False]
        assert [each["retry_count"] for each in data["steps"]] == [0, 6, 0, 0, 0]
        assert data["aggregates"]["by_tool"]["boom"] == {
            **NO_TROUBLE,
            "skip_count": 3,
            "fallback_count": 3,
            "invocation_count": 6,
        }
        assert lines_of(shell, *paths)[0] == "Flow: main  ·  aggregated over 3 traces"

    def test_runs_without_steps(self, shell: Shell) -> None:
        assert lines_of(shell, trace(), trace()) == [
            "Flow: main  ·  aggregated over 2 traces",
            "Total: p50=100.0 ms  p95=100.0 ms  p99=100.0 ms",
            "Bars are p50.",
            "(no steps)",
        ]

    @pytest.mark.parametrize("form", ["json", "table"])
    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (trace(record(), flow_name="b"), "mixed flow names: b, main"),
            (trace(record(), record(1)), "different step counts: 1, 2"),
            (trace(record(tool="dec")), "traces disagree on tool at step 0: 'inc' and 'dec'"),
        ],
    )
    def test_preconditions(self, shell: Shell, other: ExecutionResult, message: str, form: str) -> None:
        called = profile(shell, trace(record()), other, "-f", form)
        assert called == Called(1, "", f"doubleweave: {message}\n")


@pytest.mark.parametrize("count", [1, 2])
def test_top_cuts_the_table_only(shell: Shell, count: int) -> None:
    traces = [trace(*(record(index, ms=100.0 * number + index) for index in range(12))) for number in range(count)]
    assert [each["step_index"] for each in data_of(shell, *traces, "-n", "1")["steps"]] == list(range(12))

    def shown(*options: str) -> list[str]:
        return [line.split("  ")[0] for line in lines_of(shell, *traces, *options)[3:]]

    inconsistent = [[], ["inconsistent: step 11 (inc): p50=61.0 ms", "11 more inconsistent step(s)"]][count - 1]
    assert shown("--top", "1") == ["11", "11 more step(s)", *inconsistent]
    assert shown()[:11] == ["11", "10", " 9", " 8", " 7", " 6", " 5", " 4", " 3", " 2", "2 more step(s)"]
    assert "more" not in str(shown("-n", "12"))


class TestMistakes:
    @pytest.mark.parametrize("top", ["0", "-1"])
    def test_top_below_one(self, shell: Shell, top: str) -> None:
        for path in (trace(), "gone.json"):
            assert profile(shell, path, "--top", top) == Called(1, "", "doubleweave: --top must be >= 1\n")

    def test_ds_8_a_missing_file(self, shell: Shell) -> None:
        assert profile(shell, trace(), "gone.json") == Called(2, "", "doubleweave: file not found: gone.json\n")

    def test_ds_8_what_is_no_trace(self, shell: Shell) -> None:
        bad = str(shell.write("bad.json", "{"))
        called = profile(shell, trace(), bad, "-f", "json")
        assert (called.code, called.out) == (1, "")
        assert called.err.startswith(f"doubleweave: malformed trace file {bad}: ")

    @pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
    @pytest.mark.parametrize("name", ["duration_ms", "total_duration_ms"])
    def test_ds_8_durations_that_are_no_numbers(self, shell: Shell, name: str, value: str) -> None:
        text = trace(record()).model_dump_json()
        written = {"duration_ms": '"duration_ms":10.0', "total_duration_ms": '"total_duration_ms":100.0'}[name]
        assert text.count(written) == 1
        bad = str(shell.write("bad.json", text.replace(written, f'"{name}":{value}')))
        message = f"doubleweave: malformed trace file {bad}: a duration is not a finite number\n"
        assert profile(shell, bad) == Called(1, "", message)

    @pytest.mark.parametrize("arguments", [(), ("a.json", "--top", "x"), ("a.json", "--format", "yaml")])
    def test_wrong_usage(self, shell: Shell, arguments: tuple[str, ...]) -> None:
        called = profile(shell, *arguments)
        assert (called.code, called.out) == (2, "")


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_statistics_of_any_durations_are_ordered_and_in_bounds(values: list[float]) -> None:
    found = statistics(values)
    low, high = min(values), max(values)
    near = 1e-9 * high
    assert low <= found["p50"] <= found["p95"] + near <= found["p99"] + 2 * near <= high + 3 * near
    assert low - near <= found["mean"] <= high + near
    assert 0 <= found["stdev"] <= high - low + near
    if len(values) == 1:
        assert found == equal_times(values[0])


@pytest.mark.parametrize("count", [1, 3])
def test_ten_thousand_steps_take_less_than_two_seconds(shell: Shell, count: int) -> None:
    paths = [
        write_trace(
            shell.folder,
            f"{number}.json",
            trace(*(record(index, f"tool{index}", ms=float(index * number)) for index in range(10_000))),
        )
        for number in range(1, count + 1)
    ]
    start = time.process_time()
    called = shell("profile", *paths)
    assert time.process_time() - start < 2
    assert called.code == 0
    assert "9990 more step(s)" in called.out.splitlines()
