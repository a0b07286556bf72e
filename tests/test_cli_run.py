"""The commands that run flows, on both lanes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cli_under_test import Called, Shell
from doubleweave import ExecutionResult, SchemaRefAllowlist, get_schema_ref_policy, set_schema_ref_policy

pytest_plugins = ["cli_under_test"]
LANES = pytest.mark.parametrize("lane", [[], ["--async"]], ids=["sync", "async"])
NUMBERS = ("run", "numbers.flow.yaml", "--tools", "number_tools")


def timeless(text: str) -> str:
    """Return a text with a `#` for each time and trace id, and one blank where several align columns."""
    return re.sub(r" +", " ", re.sub(r"(?<![\w.])(\d+\.\d|[0-9a-f]{32})(?![\w.])", "#", text))


def without_times(document: Any) -> Any:
    if isinstance(document, dict):
        gone = {"trace_id", "started_at", "ended_at", "duration_ms", "total_duration_ms"}
        return {key: without_times(value) for key, value in document.items() if key not in gone}
    return [without_times(each) for each in document] if isinstance(document, list) else document


@LANES
def test_the_table_has_a_row_for_each_step_and_the_final_output(shell: Shell, lane: list[str]) -> None:
    called = shell(*NUMBERS, "-i", '{"value": 20}', "--no-progress", *lane)
    assert timeless(called.out).splitlines() == [
        "Flow: numbers v1.2.0 · trace: #",
        "step tool ms",
        " 0 double # ok",
        " 1 increase # ok",
        "Total: # ms · success: true",
        "final_output:",
        "{",
        ' "value": 41',
        "}",
    ]
    assert (called.code, called.err) == (0, "")


@LANES
def test_a_failed_run_prints_its_records_and_which_step_failed(shell: Shell, lane: list[str]) -> None:
    called = shell("run", "failing.flow.yaml", "-t", "number_tools", "-i", '{"value": 2}', "--no-progress", *lane)
    assert called.code == 1
    assert timeless(called.out).splitlines()[2:] == [
        " 0 double # ok",
        " 1 refuse # ERR",
        "Total: # ms · success: false",
        "The flow failed: there is no final output.",
    ]
    assert called.err == (
        "doubleweave: step 1 (tool 'refuse') failed: Execution error in tool 'refuse' at step 1: 4 is refused\n"
    )


@LANES
@pytest.mark.parametrize("name", ["numbers", "failing", "choice"])
def test_json_is_the_whole_result_also_of_a_failed_run(shell: Shell, lane: list[str], name: str) -> None:
    called = shell("run", f"{name}.flow.yaml", "-t", "number_tools", "-i", '{"value": 2}', "-f", "json", *lane)
    result = ExecutionResult.model_validate_json(called.out)
    assert (called.code, result.success) == ((1, False) if name == "failing" else (0, True))
    assert set(json.loads(called.out)) == set(ExecutionResult.model_fields)
    assert (called.err == "") is result.success


@pytest.mark.parametrize("name", ["numbers", "failing", "choice"])
@pytest.mark.parametrize("form", ["json", "table"])
def test_both_lanes_print_the_same(shell: Shell, name: str, form: str) -> None:
    command = ("run", f"{name}.flow.yaml", "-t", "number_tools", "-i", '{"value": 9}', "-f", form, "--no-progress")
    calls = [shell(*command), shell(*command, "--async")]
    if form == "json":
        sync, async_ = ({**vars(each), "out": without_times(json.loads(each.out))} for each in calls)
    else:
        sync, async_ = ({**vars(each), "out": timeless(each.out)} for each in calls)
    assert sync == async_


@LANES
@pytest.mark.parametrize(("name", "code"), [("numbers", 0), ("failing", 1)])
@pytest.mark.parametrize("form", ["json", "table"])
def test_quiet_prints_nothing_once_the_flow_has_run(
    shell: Shell, lane: list[str], name: str, code: int, form: str
) -> None:
    called = shell("run", f"{name}.flow.yaml", "-t", "number_tools", "-i", '{"value": 2}', "-q", "-f", form, *lane)
    assert called == Called(code, "", "")


def test_a_step_that_was_retried_skipped_or_stood_in_for_says_so(shell: Shell) -> None:
    shell.write(
        "special.flow.yaml",
        "type: Flow\nname: special\ndescription: ''\nsteps:\n"
        "  - {tool_name: stumble, retry: {max_retries: 1, backoff_seconds: 0}}\n"
        "  - {tool_name: refuse, on_error: skip}\n"
        "  - {tool_name: refuse, on_error: 'fallback:double'}\n",
    )
    called = shell("run", "special.flow.yaml", "-t", "number_tools", "-i", '{"value": 1}', "--no-progress")
    rows = [line.split(maxsplit=4) for line in called.out.splitlines()[2:5]]
    assert [(row[1], *row[3:]) for row in rows] == [
        ("stumble", "ok", "1 retry"),
        ("refuse", "ok", "skipped"),
        ("refuse", "ok", "fallback double"),
    ]


class TestInput:
    """DS-7."""

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            ((), 1, 'give the initial input: --input \'{"key": "value"}\' or --input-file PATH'),
            (("-i", "{}", "--input-file", "in.json"), 1, "--input and --input-file are mutually exclusive"),
            (("-i", "{"), 1, "malformed JSON in --input: Expecting property name enclosed in double quotes: "),
            (("--input-file", "bad.json"), 1, "malformed JSON in bad.json: Expecting value: "),
            (("-i", "[1]"), 1, "the input in --input must be a JSON object, not an array"),
            (("-i", "null"), 1, "the input in --input must be a JSON object, not null"),
            (("-i", "[" * 100_000), 1, "malformed JSON in --input: "),
            (("--input-file", "gone.json"), 2, "file not found: gone.json"),
            (("--input-file", "."), 2, "not a file: ."),
            (("--input-file", "latin.json"), 1, "latin.json is not UTF-8"),
        ],
    )
    def test_ds_7_exactly_one_json_object_is_given(
        self, shell: Shell, arguments: tuple[str, ...], code: int, message: str
    ) -> None:
        shell.write("bad.json", "nothing")
        (shell.folder / "latin.json").write_bytes(b'{"value": "\xe9"}')
        called = shell(*NUMBERS, *arguments)
        assert (called.code, called.out) == (code, "")
        assert called.err.startswith(f"doubleweave: {message}")
        assert called.err.count("\n") == 1

    def test_ds_7_a_file_or_stdin_holds_it(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        path = shell.write("in.json", '{"value": 3}')
        with path.open() as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            outputs = [
                json.loads(shell(*NUMBERS, "--input-file", name, "-f", "json").out)["final_output"]
                for name in ("in.json", "-")
            ]
        assert outputs == [{"value": 7}, {"value": 7}]


OTHER = """
from doubleweave import tool
from number_tools import Number

@tool
def double(value: int) -> Number:
    return Number(value=0)
"""


class TestTools:
    """DS-5."""

    @pytest.mark.parametrize(
        ("module", "reason"),
        [
            ("gone", "No module named 'gone'"),
            ("broken", "RuntimeError: it is broken"),
            ("ends", "SystemExit: 3"),
            ("number_tools.py", "give the name of a module, as in `import`, not a file"),
        ],
    )
    def test_ds_5_a_module_that_is_not_importable_is_exit_2(self, shell: Shell, module: str, reason: str) -> None:
        shell.write("broken.py", "raise RuntimeError('it is broken')")
        shell.write("ends.py", "import sys\nsys.exit(3)")
        called = shell("run", "numbers.flow.yaml", "-t", module, "-i", "{}")
        assert called == Called(2, "", f"doubleweave: tools module not importable: {module}: {reason}\n")

    def test_ds_5_the_first_tool_of_a_name_counts(self, shell: Shell) -> None:
        shell.write("other_tools.py", OTHER)
        outputs = [
            json.loads(
                shell("run", "numbers.flow.yaml", "-t", one, "-t", other, "-i", '{"value": 3}', "-f", "json").out
            )
            for one, other in [("number_tools", "other_tools"), ("other_tools", "number_tools")]
        ]
        assert [each["final_output"] for each in outputs] == [{"value": 7}, {"value": 1}]

    def test_ds_5_all_tools_are_imported_in_order_with_duplicates(self, shell: Shell) -> None:
        from doubleweave.cli import _import_tools_from

        names = [tool.name for tool in _import_tools_from("number_tools")]
        assert names == ["double", "increase", "refuse", "stumble", "double"]

    def test_a_tool_that_is_not_there_is_a_failed_step(self, shell: Shell) -> None:
        called = shell("run", "numbers.flow.yaml", "-i", '{"value": 3}', "--no-progress")
        assert called.code == 1
        assert called.err.startswith("doubleweave: step 0 (tool 'double') failed: Tool 'double' is not registered.")


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "code", "message"),
        [
            ("gone.flow.yaml", 2, "file not found: gone.flow.yaml"),
            (".", 2, "not a file: ."),
            ("number_tools.py", 1, "[CW-E017] number_tools.py: Unrecognised file extension: a flow file ends in "),
            ("bad.flow.json", 1, "[CW-E017] bad.flow.json: Invalid JSON"),
        ],
    )
    def test_ds_1_a_file_that_holds_no_flow_is_told(self, shell: Shell, name: str, code: int, message: str) -> None:
        shell.write("bad.flow.json", "{")
        called = shell("run", name, "-i", "{}")
        assert (called.code, called.out) == (code, "")
        assert called.err.startswith(f"doubleweave: {message}")

    def test_ds_6_refs_are_imported_only_from_where_it_is_allowed(self, shell: Shell) -> None:
        text = (
            "type: Flow\nname: n\ndescription: ''\ninput_schema_ref: 'number_tools:Order'\nsteps: [{tool_name: double}]"
        )
        shell.write("typed.flow.yaml", text)
        command = ("run", "typed.flow.yaml", "-t", "number_tools", "-i", '{"value": 1}', "--no-progress")
        refused = shell(*command, "--schema-ref-allow", "elsewhere", "--schema-ref-allow", "there")
        assert refused.code == 1
        assert refused.out == ""
        assert re.fullmatch(r"doubleweave: \[CW-E\d{3}\] .*number_tools.*\n", refused.err)
        assert shell(*command, "--schema-ref-allow", "number_tools").code == 0
        assert get_schema_ref_policy() is not None

    def test_ds_6_without_the_option_an_earlier_policy_is_cleared(self, shell: Shell) -> None:
        set_schema_ref_policy(SchemaRefAllowlist(["elsewhere"]))
        shell(*NUMBERS, "-i", '{"value": 1}', "-q")
        assert get_schema_ref_policy() is None

    def test_sub_flows_are_found_in_a_directory(self, shell: Shell) -> None:
        text = "type: Flow\nname: outer\ndescription: ''\nsteps: [{flow_name: numbers}]"
        shell.write("outer.flow.yaml", text)
        command = ("run", "outer.flow.yaml", "-t", "number_tools", "-i", '{"value": 1}', "-f", "json")
        assert shell(*command).code == 1
        assert json.loads(shell(*command, "--discover-dir", ".").out)["final_output"] == {"value": 3}

    def test_another_version_than_the_one_asked_for_is_refused(self, shell: Shell) -> None:
        assert shell(*NUMBERS, "-i", '{"value": 1}', "-q", "--version", "1.2.0").code == 0
        called = shell(*NUMBERS, "-i", '{"value": 1}', "--version", "2.0")
        assert called == Called(1, "", "doubleweave: [CW-E002] Flow 'numbers' version '2.0' is not registered.\n")


WRITING = """
from doubleweave import SideEffectLevel, Tool, ToolSafetyContract
from number_tools import Number

def fail(inputs):
    raise AssertionError("it is called")

double = Tool(
    name="double", description="", input_schema=Number, output_schema=Number, fn=fail,
    safety=ToolSafetyContract(side_effects=SideEffectLevel.WRITE),
)
"""


@LANES
class TestOptions:
    def test_a_dry_run_calls_nothing_that_writes(self, shell: Shell, lane: list[str]) -> None:
        shell.write("writing_tools.py", WRITING)
        called = shell(
            "run", "numbers.flow.yaml", "-t", "writing_tools", "-t", "number_tools", "-i", '{"value": 3}', "-f", "json",
            "--dry-run", *lane,
        )  # fmt: skip
        result = json.loads(called.out)
        assert (called.code, result["dry_run"]) == (0, True)
        assert [record["skipped"] for record in result["execution_log"]] == [True, False]

    def test_after_the_deadline_no_step_starts_and_what_there_is_is_printed(
        self, shell: Shell, lane: list[str]
    ) -> None:
        called = shell(*NUMBERS, "-i", '{"value": 3}', "--deadline", "0", "-f", "json", *lane)
        assert called.code == 1
        assert called.err == (
            "doubleweave: [CW-E012] Flow 'numbers' cancelled before step 0 (wall-clock deadline exceeded).\n"
        )
        assert json.loads(called.out)["execution_log"] == []

    def test_the_trace_is_written_and_redacted_unless_it_is_not_to_be(self, shell: Shell, lane: list[str]) -> None:
        command = (*NUMBERS, "-i", '{"value": 3, "password": "hush"}', "-q", *lane)
        assert shell(*command, "--trace-out", "new/redacted.json").code == 0
        assert shell(*command, "--trace-out", "raw.json", "--no-redact").code == 0
        redacted, raw = (
            ExecutionResult.model_validate_json((shell.folder / name).read_bytes())
            for name in ("new/redacted.json", "raw.json")
        )
        assert redacted.initial_input == {"value": 3, "password": "***REDACTED***"}
        assert raw.initial_input == {"value": 3, "password": "hush"}

    def test_the_trace_of_a_failed_run_is_written(self, shell: Shell, lane: list[str]) -> None:
        command = ("run", "failing.flow.yaml", "-t", "number_tools", "-i", '{"value": 3}', "-q", *lane)
        assert shell(*command, "--trace-out", "t.json").code == 1
        assert not ExecutionResult.model_validate_json((shell.folder / "t.json").read_bytes()).success

    def test_a_trace_that_has_no_place_is_told_before_the_run(self, shell: Shell, lane: list[str]) -> None:
        shell.write("file", "")
        called = shell(*NUMBERS, "-i", '{"value": 3}', "--trace-out", "file/t.json", *lane)
        assert called == Called(2, "", "doubleweave: file/t.json cannot be written: Not a directory\n") or (
            called == Called(2, "", "doubleweave: file/t.json cannot be written: File exists\n")
        )


PRINTING = """
import sys
from doubleweave import tool
from number_tools import Number, increase

print("imported")

@tool
def double(value: int) -> Number:
    print("called")
    sys.stdout.write("written\\n")
    return Number(value=value * 2)
"""


@LANES
@pytest.mark.parametrize("form", ["json", "table"])
def test_en_4_what_tools_print_goes_to_stderr(shell: Shell, lane: list[str], form: str) -> None:
    shell.write("printing_tools.py", PRINTING)
    command = ("run", "numbers.flow.yaml", "-i", '{"value": 3}', "--no-progress", "-f", form, *lane)
    printing, silent = shell(*command, "-t", "printing_tools"), shell(*command, "-t", "number_tools")
    assert printing.err == "imported\ncalled\nwritten\n"
    assert len(printing.out.splitlines()) == len(silent.out.splitlines())


FRAGILE = """
from pathlib import Path
from doubleweave import tool
from number_tools import Number, double

@tool
def increase(value: int) -> Number:
    if not Path("mended").exists():
        raise OSError("not yet")
    return Number(value=value + 1)
"""


class TestResume:
    @pytest.mark.parametrize("first", [[], ["--async"]], ids=["sync", "async"])
    @LANES
    @pytest.mark.parametrize("where", [("--file", "numbers.flow.yaml"), ("--discover-dir", ".")])
    def test_a_run_goes_on_where_it_failed_on_either_lane(
        self, shell: Shell, first: list[str], lane: list[str], where: tuple[str, str]
    ) -> None:
        shell.write("fragile_tools.py", FRAGILE)
        command = ("run", "numbers.flow.yaml", "-t", "fragile_tools", "-i", '{"value": 3}', "-f", "json")
        failed = shell(*command, "--checkpoint-dir", "kept", *first)
        trace_id = json.loads(failed.out)["trace_id"]
        shell.write("mended", "")
        called = shell(
            "resume", trace_id, "--checkpoint-dir", "kept", *where, "-t", "fragile_tools", "-f", "json", *lane
        )
        result = json.loads(called.out)
        assert (failed.code, called.code, called.err) == (1, 0, "")
        assert (result["trace_id"], result["final_output"]) == (trace_id, {"value": 7})
        assert [record["tool_name"] for record in result["execution_log"]] == ["double", "increase"]

    def test_what_cannot_be_resumed_is_told(self, shell: Shell) -> None:
        (shell.folder / "kept").mkdir()
        place = ("--file", "numbers.flow.yaml")
        assert [
            shell("resume", "0" * 32, "--checkpoint-dir", "kept", *place),
            shell("resume", "../kept", "--checkpoint-dir", "kept", *place),
            shell("resume", "0" * 32, "--checkpoint-dir", "gone", *place),
            shell("resume", "0" * 32, "--checkpoint-dir", "kept"),
            shell("resume", "0" * 32, "--checkpoint-dir", "kept", "--file", "gone.flow.yaml"),
        ] == [
            Called(1, "", f"doubleweave: [CW-E020] No snapshot found for trace_id '{'0' * 32}'.\n"),
            Called(
                1,
                "",
                "doubleweave: trace id '../kept' cannot be part of a file name: use up to 241 letters, digits, dots, "
                "underscores and hyphens\n",
            ),
            Called(2, "", "doubleweave: directory not found: gone\n"),
            Called(2, "", "doubleweave: say where the flow is: --file FLOW_FILE or --discover-dir DIR\n"),
            Called(2, "", "doubleweave: file not found: gone.flow.yaml\n"),
        ]

    def test_a_flow_of_another_version_is_drift(self, shell: Shell) -> None:
        shell.write("fragile_tools.py", FRAGILE)
        command = ("run", "numbers.flow.yaml", "-t", "fragile_tools", "-i", '{"value": 3}', "-f", "json")
        trace_id = json.loads(shell(*command, "--checkpoint-dir", "kept").out)["trace_id"]
        path = Path("numbers.flow.yaml")
        path.write_text(path.read_text().replace("1.2.0", "1.3.0"))
        called = shell("resume", trace_id, "--checkpoint-dir", "kept", "--file", str(path), "-t", "fragile_tools")
        assert (called.code, called.out) == (1, "")
        assert called.err.startswith(f"doubleweave: [CW-E018] Cannot resume trace '{trace_id}' for flow 'numbers': ")
