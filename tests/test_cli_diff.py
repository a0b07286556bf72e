"""The command that compares two runs."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from cli_under_test import Called, Shell
from doubleweave import ExecutionResult
from executors_under_test import lanes
from parity_scenarios import linear, step
from traces_under_test import call, real_trace, record, trace, write_trace

pytest_plugins = ["cli_under_test"]
NOTHING: dict[str, Any] = {
    "identical": True,
    "flow_name": None,
    "step_count": None,
    "success": None,
    "final_output": {},
    "steps": [],
    "trace_schema_version": {"a": "1.1", "b": "1.1"},
}
CHAIN = linear(step("inc"), step("inc"))
FAILING = linear(step("inc"), step("boom"))


def compare(shell: Shell, a: ExecutionResult, b: ExecutionResult, *options: str) -> Called:
    paths = [write_trace(shell.folder, f"{name}.json", result) for name, result in (("a", a), ("b", b))]
    return call(shell, "diff", *paths, *options)


def data_of(shell: Shell, a: ExecutionResult, b: ExecutionResult, *options: str) -> dict[str, Any]:
    """Return what JSON says beyond two identical runs."""
    called = compare(shell, a, b, "--format", "json", *options)
    document = json.loads(called.out)
    data: dict[str, Any] = document["data"]
    # EN-1, EN-3 and EN-4.
    assert document == {"schema_version": "1", "status": "ok", "data": data, "errors": []}
    assert list(data) == list(NOTHING)
    assert (called.code, called.err) == (0 if data["identical"] else 1, "")
    return {name: value for name, value in data.items() if value != NOTHING[name]}


def lines_of(shell: Shell, a: ExecutionResult, b: ExecutionResult, *options: str) -> list[str]:
    called = compare(shell, a, b, *options)
    assert (called.code, called.err) == (1, "")
    return called.out.splitlines()


class TestRealRuns:
    @lanes
    @pytest.mark.parametrize("flow", [CHAIN, FAILING, linear(step("boom", on_error="skip"), step("inc"))])
    def test_runs_of_one_flow_with_one_input_are_identical(self, shell: Shell, lane: str, flow: Any) -> None:
        a = real_trace(shell.folder, "a.json", "sync", flow)
        b = real_trace(shell.folder, "b.json", lane, flow)
        assert call(shell, "diff", a, b) == Called(0, "The runs are identical.\n", "")
        document = json.loads(call(shell, "diff", a, b, "-f", "JSON").out)
        assert document == {"schema_version": "1", "status": "ok", "data": NOTHING, "errors": []}

    @lanes
    def test_another_input_shows_in_each_output(self, shell: Shell, lane: str) -> None:
        a = real_trace(shell.folder, "a.json", lane, CHAIN)
        b = real_trace(shell.folder, "b.json", lane, CHAIN, n=7)
        assert call(shell, "diff", a, b).out.splitlines() == [
            "final_output: root['n'] 3 → 9",
            "step 0 (inc):",
            "  outputs: root['n'] 2 → 8",
            "step 1 (inc):",
            "  outputs: root['n'] 3 → 9",
        ]
        document = json.loads(call(shell, "diff", a, b, "-f", "json").out)
        change = {"values_changed": {"root['n']": {"new_value": 9, "old_value": 3}}}
        assert document["data"]["final_output"] == document["data"]["steps"][1]["outputs"] == change

    @lanes
    def test_a_run_that_failed_and_one_that_did_not(self, shell: Shell, lane: str) -> None:
        a = real_trace(shell.folder, "a.json", lane, CHAIN)
        b = real_trace(shell.folder, "b.json", lane, FAILING)
        assert call(shell, "diff", a, b) == Called(
            1,
            "success: true → false\n"
            'final_output: root {"n": 3} → null\n'
            "step 1 (inc):\n"
            "  tool_name_change: inc → boom\n"
            "  success: true → false\n"
            "  error_type: null → FlowExecutionError\n"
            "  error_message: null → Execution error in tool 'boom' at step 1: boom\n"
            '  outputs: root {"n": 3} → null\n',
            "",
        )


def test_en_3_traces_that_differ_are_no_error(shell: Shell) -> None:
    called = compare(shell, trace(), trace(success=False), "-f", "json")
    document = json.loads(called.out)
    assert (document["status"], document["errors"], document["data"]["identical"]) == ("ok", [], False)
    assert (called.code, called.err) == (1, "")


class TestWhatDiffers:
    @pytest.mark.parametrize(
        ("values", "data", "line"),
        [
            ({"flow_name": "other"}, {"flow_name": {"a": "main", "b": "other"}}, "flow_name: main → other"),
            ({"success": False}, {"success": {"a": True, "b": False}}, "success: true → false"),
            (
                {"execution_log": [record(), record(1)]},
                {"step_count": {"a": 1, "b": 2}},
                "step_count: 1 → 2",
            ),
            (
                {"final_output": {"n": 2}},
                {"final_output": {"values_changed": {"root['n']": {"new_value": 2, "old_value": 1}}}},
                "final_output: root['n'] 1 → 2",
            ),
        ],
    )
    def test_of_the_run(self, shell: Shell, values: dict[str, Any], data: dict[str, Any], line: str) -> None:
        a = trace(record())
        b = a.model_copy(update=values)
        assert data_of(shell, a, b) == {"identical": False, **data}
        assert lines_of(shell, a, b) == [line]

    @pytest.mark.parametrize(
        ("values", "data", "line"),
        [
            (
                {"tool_name": "dec"},
                {"tool_name_change": {"a": "inc", "b": "dec"}},
                "tool_name_change: inc → dec",
            ),
            ({"success": False}, {"success": {"a": True, "b": False}}, "success: true → false"),
            (
                {"error_type": "KeyError"},
                {"error_type": {"a": None, "b": "KeyError"}},
                "error_type: null → KeyError",
            ),
            (
                {"error_message": "no\nsuch \x1b[31mkey"},
                {"error_message": {"a": None, "b": "no\nsuch \x1b[31mkey"}},
                r"error_message: null → no\nsuch \x1b[31mkey",
            ),
            (
                {"outputs": {"n": "1"}},
                {
                    "outputs": {
                        "type_changes": {
                            "root['n']": {"old_type": "int", "new_type": "str", "old_value": 1, "new_value": "1"}
                        }
                    }
                },
                "outputs: root['n'] 1 → \"1\"",
            ),
        ],
    )
    def test_of_a_step(self, shell: Shell, values: dict[str, Any], data: dict[str, Any], line: str) -> None:
        a = trace(record(), record(1))
        b = trace(record(), record(1).model_copy(update=values))
        assert data_of(shell, a, b) == {
            "identical": False,
            "steps": [{"step_index": 1, "tool_name": "inc", **data}],
        }
        assert lines_of(shell, a, b) == ["step 1 (inc):", f"  {line}"]

    def test_ids_and_times_and_the_version_of_the_trace_do_not_count(self, shell: Shell) -> None:
        a = trace(record())
        later = a.started_at.replace(year=2027)
        other = record(ms=900.0, started_at=later, ended_at=later)
        b = trace(
            other, trace_id="1" * 32, started_at=later, ended_at=later, total_duration_ms=1.0, trace_schema_version="0"
        )
        assert data_of(shell, a, b) == {"trace_schema_version": {"a": "1.1", "b": "0"}}

    def test_steps_are_paired_by_position(self, shell: Shell) -> None:
        a = trace(record(0, "x"), record(1, "y"), record(2, "z"))
        b = trace(record(0, "y"), record(1, "z"))
        assert lines_of(shell, a, b) == [
            "step_count: 3 → 2",
            "step 0 (x):",
            "  tool_name_change: x → y",
            "step 1 (y):",
            "  tool_name_change: y → z",
        ]

    def test_runs_without_steps_are_identical(self, shell: Shell) -> None:
        assert data_of(shell, trace(), trace()) == {}

    def test_names_do_not_steer_the_terminal_and_stay_on_their_line(self, shell: Shell) -> None:
        a, b = trace(record(tool="é\x1b[2J\nstep 9 (x):")), trace(record(tool="ü"))
        assert lines_of(shell, a, b) == [
            r"step 0 (é\x1b[2J\nstep 9 (x):):",
            r"  tool_name_change: é\x1b[2J\nstep 9 (x): → ü",
        ]


class TestOutputs:
    @pytest.mark.parametrize(
        ("a", "b"),
        [
            ({"x": [1, 2, {"y": [3, 4]}]}, {"x": [{"y": [4, 3]}, 2, 1]}),
            ({"x": 1, "y": 2}, {"y": 2, "x": 1}),
            ({"x": float("nan")}, {"x": float("nan")}),
            ({"x": [1, float("nan")]}, {"x": [float("nan"), 1]}),
            (None, None),
        ],
    )
    def test_that_are_equal(self, shell: Shell, a: Any, b: Any) -> None:
        assert data_of(shell, trace(final_output=a), trace(final_output=b)) == {}

    @pytest.mark.parametrize(
        ("a", "b", "change"),
        [
            ({"x": 1}, {"x": 2}, {"values_changed": {"root['x']": {"new_value": 2, "old_value": 1}}}),
            ({"__x": 1}, {"__x": 2}, {"values_changed": {"root['__x']": {"new_value": 2, "old_value": 1}}}),
            ({}, {"x": 1}, {"dictionary_item_added": ["root['x']"]}),
            ({"x": 1}, {}, {"dictionary_item_removed": ["root['x']"]}),
            ({"x": [1]}, {"x": [1, 2]}, {"iterable_item_added": {"root['x'][1]": 2}}),
            (
                {"x": 1},
                {"x": True},
                {
                    "type_changes": {
                        "root['x']": {"old_type": "int", "new_type": "bool", "old_value": 1, "new_value": True}
                    }
                },
            ),
            (
                {"x": [5, 5]},
                {"x": [5]},
                {
                    "repetition_change": {
                        "root['x'][0]": {
                            "old_repeat": 2,
                            "new_repeat": 1,
                            "old_indexes": [0, 1],
                            "new_indexes": [0],
                            "value": 5,
                        }
                    }
                },
            ),
        ],
    )
    def test_that_differ(self, shell: Shell, a: Any, b: Any, change: dict[str, Any]) -> None:
        assert data_of(shell, trace(final_output=a), trace(final_output=b)) == {
            "identical": False,
            "final_output": change,
        }

    def test_a_number_that_became_nan_differs(self, shell: Shell) -> None:
        a, b = trace(final_output={"x": 1.0}), trace(final_output={"x": float("nan")})
        found = data_of(shell, a, b)["final_output"]["values_changed"]["root['x']"]
        assert (found["old_value"], str(found["new_value"])) == (1.0, "nan")

    def test_the_table_names_a_few_places(self, shell: Shell) -> None:
        a, b = trace(final_output=dict.fromkeys("abcdefgh", 1)), trace(final_output=dict.fromkeys("abcdefgh", 2))
        [line] = lines_of(shell, a, b)
        assert line.count(" 1 → 2") == 5
        assert line.endswith(" and 3 more")

    @pytest.mark.parametrize(
        ("a", "b", "note"),
        [
            ({}, {"x": 1}, "root['x'] (dictionary item added)"),
            ({"x": [1]}, {"x": [1, 2]}, "root['x'][1] (iterable item added)"),
            ({"x": "é\x1b"}, {"x": "ü\n"}, r"""root['x'] "é\u001b" → "ü\n" """.rstrip()),
            ({"x": "y" * 38}, {"x": ""}, f"""root['x'] "{"y" * 38}" → \"\""""),
            ({"x": "y" * 39}, {"x": ""}, "root['x'] (values changed)"),
            ({"x": float("nan")}, {"x": None}, "root['x'] NaN → null"),
        ],
    )
    def test_the_table_shows_values_that_are_short(self, shell: Shell, a: Any, b: Any, note: str) -> None:
        assert lines_of(shell, trace(final_output=a), trace(final_output=b)) == [f"final_output: {note}"]


class TestPerfTolerance:
    @pytest.mark.parametrize(
        ("before", "after", "tolerance", "delta", "percent", "line"),
        [
            (10.0, 15.0, "49.9", 5.0, 50.0, "duration: +5.0 ms (50.0% change)"),
            (10.0, 4.0, "10", -6.0, -60.0, "duration: -6.0 ms (-60.0% change)"),
            (0.0, 0.5, "0", 0.5, 50.0, "duration: +0.5 ms (50.0% change)"),
        ],
    )
    def test_a_step_whose_duration_changed_by_more_differs(
        self, shell: Shell, before: float, after: float, tolerance: str, delta: float, percent: float, line: str
    ) -> None:
        a, b = trace(record(ms=before)), trace(record(ms=after))
        changes = {"perf_delta_ms": delta, "perf_delta_pct": percent}
        assert data_of(shell, a, b, "--perf-tolerance", tolerance) == {
            "identical": False,
            "steps": [{"step_index": 0, "tool_name": "inc", **changes}],
        }
        assert lines_of(shell, a, b, "--perf-tolerance", tolerance) == ["step 0 (inc):", f"  {line}"]

    @pytest.mark.parametrize(
        ("before", "after", "options"),
        [
            (10.0, 15.0, ("--perf-tolerance", "50")),
            (10.0, 5.0, ("--perf-tolerance", "50")),
            (0.0, 1.0, ("--perf-tolerance", "100")),
            (0.0, 0.0, ("--perf-tolerance", "0")),
            (1.0, 1000.0, ()),
        ],
    )
    def test_others_do_not(self, shell: Shell, before: float, after: float, options: tuple[str, ...]) -> None:
        assert data_of(shell, trace(record(ms=before)), trace(record(ms=after)), *options) == {}

    @pytest.mark.parametrize("tolerance", ["-0.1", "nan"])
    def test_a_negative_one_is_wrong_usage(self, shell: Shell, tolerance: str) -> None:
        called = compare(shell, trace(), trace(), "--perf-tolerance", tolerance, "-f", "json")
        assert called == Called(2, "", "doubleweave: --perf-tolerance must be >= 0\n")


class TestTraceFiles:
    """DS-8."""

    @pytest.mark.parametrize("position", [0, 1])
    def test_ds_8_a_missing_file(self, shell: Shell, position: int) -> None:
        paths = [write_trace(shell.folder, "a.json", trace())] * 2
        paths[position] = "gone.json"
        assert call(shell, "diff", *paths, "-f", "json") == Called(2, "", "doubleweave: file not found: gone.json\n")

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"flow_name": 1}', "\x00"])
    def test_ds_8_what_is_no_trace(self, shell: Shell, text: str) -> None:
        good = write_trace(shell.folder, "a.json", trace())
        bad = str(shell.write("bad.json", text))
        for form in ("json", "table"):
            called = call(shell, "diff", good, bad, "-f", form)
            assert (called.code, called.out) == (1, "")
            assert called.err.startswith(f"doubleweave: malformed trace file {bad}: ")

    @pytest.mark.parametrize("arguments", [(), ("a.json",), ("a.json", "a.json", "--format", "yaml")])
    def test_wrong_usage(self, shell: Shell, arguments: tuple[str, ...]) -> None:
        write_trace(shell.folder, "a.json", trace())
        called = call(shell, "diff", *arguments)
        assert (called.code, called.out) == (2, "")


@pytest.mark.parametrize("shift", [0, 1])
def test_ten_thousand_steps_take_less_than_two_seconds(shell: Shell, shift: int, tmp_path: Path) -> None:
    paths = [
        write_trace(
            tmp_path,
            f"{number}.json",
            trace(*(record(index, outputs={"n": index + (number if index % 2 else 0)}) for index in range(10_000))),
        )
        for number in (0, shift)
    ]
    start = time.process_time()
    called = shell("diff", *paths)
    assert time.process_time() - start < 2
    assert called.code == shift
    assert len(called.out.splitlines()) == (10_000 if shift else 1)
