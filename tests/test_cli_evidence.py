"""The commands that run a flow many times, on both lanes."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import doubleweave as dw
from cli_under_test import Called, Shell
from doubleweave.cli import app, sanitize_path_component

pytest_plugins = ["cli_under_test"]
LANES = pytest.mark.parametrize("lane", [[], ["--async"]], ids=["sync", "async"])

TOOLS = """
from itertools import count

from pydantic import BaseModel

from doubleweave import FlowProperty, tool


class Order(BaseModel):
    value: int
    token: str = ""


class Number(BaseModel):
    value: int


numbers = count()


@tool
def double(value: int) -> Number:
    return Number(value=value * 2)


@tool
async def number(value: int) -> Number:
    return Number(value=next(numbers))


@tool
def refuse(value: int) -> Number:
    raise RuntimeError(f"{value} is refused")


def is_small(result):
    return not result.success or result.final_output["value"] < 100


def is_broken(result):
    raise LookupError("nothing there")


is_named = FlowProperty("small", is_small)
twin = FlowProperty("odd_tools_is_small", is_small)
constant = 5
"""


def flow_of(name: str, tool: str) -> str:
    head = f"type: Flow\nname: {name}\nversion: '1.5'\ndescription: ''\ninput_schema_ref: odd_tools:Order\n"
    return f"{head}steps:\n  - tool_name: {tool}\n"


@pytest.fixture
def odd(shell: Shell) -> Shell:
    """A shell with a flow that always gives the same, one that never does, and one that fails."""
    shell.write("odd_tools.py", TOOLS)
    for name, tool in (("steady", "double"), ("serial", "number"), ("refused", "refuse")):
        shell.write(f"{name}.flow.yaml", flow_of(name, tool))
    return shell


def attest(shell: Shell, name: str, *arguments: str) -> Called:
    return shell("attest", f"{name}.flow.yaml", "--tools", "odd_tools", *arguments)


def fuzz(shell: Shell, name: str, *arguments: str) -> Called:
    return shell("fuzz", f"{name}.flow.yaml", "-t", "odd_tools", *arguments)


def failure_cases(called: Called) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(called.out)["failure_cases"]
    return found


class TestAttest:
    @LANES
    def test_de_1_en_2_the_report_is_printed_in_an_envelope(self, odd: Shell, lane: list[str]) -> None:
        called = attest(odd, "steady", "--runs", "4", "--repeats", "2", "--seed", "7", *lane)
        document = json.loads(called.out)
        assert (called.code, called.err) == (0, "")
        assert (document.pop("schema_version"), document.pop("status"), document.pop("errors")) == ("1", "ok", [])
        report = dw.AttestationReport.model_validate(document.pop("data"))
        assert document == {}
        assert (report.flow_name, report.flow_version, report.n, report.repeats, report.seed) == (
            "steady",
            "1.5",
            4,
            2,
            7,
        )
        assert set(report.tool_schema_hashes) == {"double", "number", "refuse"}
        assert (report.observed_deterministic, report.divergences) == (True, [])

    def test_de_1_the_report_is_that_of_attest_flow_and_defaults_are_100_runs_of_3(self, odd: Shell) -> None:
        data = json.loads(attest(odd, "steady").out)["data"]
        registry = dw.FlowRegistry()
        flow = dw.load_flow_file("steady.flow.yaml")
        registry.register_flow(flow)
        executor = dw.FlowExecutor(registry)
        executor.register_tool(import_module("odd_tools").double)
        expected = dw.attest_flow(flow=flow, executor=executor, n=100, repeats=3, seed=0)
        assert (data["n"], data["repeats"], data["seed"]) == (100, 3, 0)
        assert data["aggregate_fingerprint"] == expected.aggregate_fingerprint

    @LANES
    def test_de_1_en_4_divergence_is_status_error_and_exit_code_1(self, odd: Shell, lane: list[str]) -> None:
        called = attest(odd, "serial", "--runs", "2", *lane)
        document = json.loads(called.out)
        message = "3 runs of the same input disagreed: 3 different outputs"
        assert (called.code, called.err, document["status"]) == (1, "", "error")
        assert document["errors"] == [
            {"code": None, "message": f"input 0, step 0: {message}"},
            {"code": None, "message": f"input 1, step 0: {message}"},
        ]
        found = [
            (each["input_index"], each["diverging_step"], each["error_message"])
            for each in document["data"]["divergences"]
        ]
        assert found == [(0, 0, message), (1, 0, message)]

    @LANES
    def test_de_1_the_table_says_pass(self, odd: Shell, lane: list[str]) -> None:
        fingerprint = json.loads(attest(odd, "steady", "--runs", "3", *lane).out)["data"]["aggregate_fingerprint"]
        called = attest(odd, "steady", "--runs", "3", "-f", "Table", *lane)
        assert called.out.splitlines() == [
            "Flow: steady v1.5",
            "runs: 3  ·  repeats: 3  ·  seed: 0",
            f"fingerprint: {fingerprint}",
            "PASS",
        ]
        assert (called.code, called.err) == (0, "")

    @LANES
    def test_de_1_the_table_has_a_line_for_each_divergence(self, odd: Shell, lane: list[str]) -> None:
        odd.write("inputs.json", '[{"value": 3, "token": "t0p"}, {"value": 4}]')
        called = attest(odd, "refused", "--seed-input", "inputs.json", "--format", "table", *lane)
        said = "Execution error in tool 'refuse' at step 0:"
        assert called.out.splitlines()[1] == "runs: 2  ·  repeats: 3  ·  seed: -1"
        assert called.out.splitlines()[3:] == [
            "FAIL",
            f'input 0, step 0: {said} 3 is refused  {{"value": 3, "token": "***REDACTED***"}}',
            f'input 1, step 0: {said} 4 is refused  {{"value": 4}}',
        ]
        assert (called.code, called.err) == (1, "")

    def test_the_inputs_of_divergences_are_redacted_in_json(self, odd: Shell) -> None:
        odd.write("inputs.json", '[{"value": 3, "token": "t0p"}]')
        called = attest(odd, "serial", "--seed-input", "inputs.json")
        document = json.loads(called.out)
        assert document["data"]["divergences"][0]["input_payload"] == {"value": 3, "token": "***REDACTED***"}
        assert "t0p" not in called.out

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (("--runs", "0"), 1, "--runs must be >= 1, got 0"),
            (("--repeats", "1"), 1, "--repeats must be >= 2, got 1"),
            (
                ("--seed-input", "bad.json"),
                1,
                "malformed --seed-input bad.json: Expecting value: line 1 column 2 (char 1)",
            ),
            (
                ("--seed-input", "object.json"),
                1,
                "--seed-input object.json must be a JSON array of objects, one at least",
            ),
            (
                ("--seed-input", "empty.json"),
                1,
                "--seed-input empty.json must be a JSON array of objects, one at least",
            ),
            (
                ("--seed-input", "mixed.json"),
                1,
                "--seed-input mixed.json must be a JSON array of objects, one at least",
            ),
            (("--seed-input", "none.json"), 2, "file not found: none.json"),
            (("--tools", "no_tools"), 2, "tools module not importable: no_tools: No module named 'no_tools'"),
        ],
    )
    def test_attest_flow_file_with_bad_options(
        self, odd: Shell, arguments: tuple[str, ...], code: int, message: str
    ) -> None:
        for name, text in (("bad", "["), ("object", "{}"), ("empty", "[]"), ("mixed", "[{}, 1]")):
            odd.write(f"{name}.json", text)
        expected = Called(code, "", f"doubleweave: {message}\n")
        assert attest(odd, "steady", *arguments) == expected
        assert attest(odd, "steady", "--async", *arguments) == expected
        direct = CliRunner().invoke(app, ["attest", "steady.flow.yaml", "-t", "odd_tools", *arguments])
        assert (direct.exit_code, direct.stdout, direct.stderr) == (code, "", expected.err)

    def test_attest_flow_file_that_is_missing_or_malformed(self, odd: Shell) -> None:
        odd.write("broken.flow.yaml", "type: Flow\n")
        assert attest(odd, "none") == Called(2, "", "doubleweave: file not found: none.flow.yaml\n")
        broken = attest(odd, "broken")
        assert (broken.code, broken.out) == (1, "")
        assert broken.err.startswith(
            "doubleweave: [CW-E017] broken.flow.yaml: Validation failed while reconstructing Flow"
        )

    def test_inputs_that_cannot_be_generated_are_an_error_with_a_code(self, shell: Shell) -> None:
        called = shell("attest", "numbers.flow.yaml", "-t", "number_tools")
        assert (called.code, called.out) == (1, "")
        assert called.err.startswith("doubleweave: [CW-E039] Cannot generate an input for the field ")
        assert "--seed-input" in called.err

    @LANES
    def test_a_ref_outside_of_the_allowlist_is_refused(self, odd: Shell, lane: list[str]) -> None:
        called = attest(odd, "steady", "--schema-ref-allow", "other", *lane)
        assert (called.code, called.out) == (1, "")
        assert called.err.startswith("doubleweave: [CW-E")
        assert attest(odd, "steady", "--schema-ref-allow", "odd_tools", "--runs", "1", *lane).code == 0

    @LANES
    def test_flows_of_sub_flow_steps_are_found_in_a_directory(self, odd: Shell, lane: list[str]) -> None:
        head = "type: Flow\nname: outer\ndescription: ''\ninput_schema_ref: odd_tools:Order\n"
        odd.write("outer.flow.yaml", f"{head}steps:\n  - flow_name: steady\n")
        called = attest(odd, "outer", "--runs", "2", "--discover-dir", ".", "-f", "table", *lane)
        assert (called.code, called.out.splitlines()[3:]) == (0, ["PASS"])


class TestFuzz:
    @LANES
    def test_de_2_the_default_property_is_that_the_flow_succeeds(self, odd: Shell, lane: list[str]) -> None:
        called = fuzz(odd, "steady", "--runs", "3", "-f", "json", *lane)
        assert (called.code, called.err) == (0, "")
        assert json.loads(called.out) == {
            "flow": "steady",
            "runs": 3,
            "seed": 0,
            "properties": ["flow_succeeds"],
            "failures": 0,
            "failure_cases": [],
        }

    @LANES
    def test_de_2_properties_of_modules_have_their_own_name_or_that_of_their_place(
        self, odd: Shell, lane: list[str]
    ) -> None:
        names = ["final_output_present", "odd_tools:is_named", "odd_tools:is_small"]
        options = [option for name in names for option in ("--property", name)]
        called = fuzz(odd, "steady", "-n", "1", "-i", '{"value": 70}', "-f", "json", *options, *lane)
        document = json.loads(called.out)
        assert (called.code, called.err) == (1, "")
        assert document["properties"] == ["final_output_present", "small", "odd_tools:is_small"]
        assert [case["property"] for case in document["failure_cases"]] == ["small", "odd_tools:is_small"]

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (("--runs", "0"), 1, "--runs must be >= 1, got 0"),
            (("--output-fault-prob", "1.5"), 1, "--output-fault-prob must be within 0 and 1, got 1.5"),
            (("--output-fault-prob", "nan"), 1, "--output-fault-prob must be within 0 and 1, got nan"),
            (
                ("-p", "shiny"),
                1,
                "unknown property 'shiny': give module:attr, or one of final_output_present, flow_succeeds",
            ),
            (
                ("-p", ":x"),
                1,
                "unknown property ':x': give module:attr, or one of final_output_present, flow_succeeds",
            ),
            (("-p", "odd_tools:shiny"), 1, "property 'shiny' not found in module 'odd_tools'"),
            (("-p", "odd_tools:constant"), 1, "odd_tools:constant is neither a FlowProperty nor a callable"),
            (
                ("-p", "flow_succeeds", "-p", "flow_succeeds"),
                1,
                "duplicate property name: 'flow_succeeds' and 'flow_succeeds'",
            ),
            (("-p", "no_module:x"), 2, "property module not importable: no_module: No module named 'no_module'"),
            (("-i", "[]"), 1, "the input in --input must be a JSON object, not an array"),
            (("-i", "{}", "--input-file", "in.json"), 1, "--input and --input-file are mutually exclusive"),
            (("--input-file", "none.json"), 2, "file not found: none.json"),
            (("--save-failures", "odd_tools.py"), 2, "not a directory: odd_tools.py"),
            (("-t", "no_tools"), 2, "tools module not importable: no_tools: No module named 'no_tools'"),
        ],
    )
    def test_de_2_fuzz_flow_file_with_bad_options(
        self, odd: Shell, arguments: tuple[str, ...], code: int, message: str
    ) -> None:
        expected = Called(code, "", f"doubleweave: {message}\n")
        assert fuzz(odd, "steady", *arguments) == expected
        assert fuzz(odd, "steady", "--async", "-f", "json", *arguments) == expected
        direct = CliRunner().invoke(app, ["fuzz", "steady.flow.yaml", "-t", "odd_tools", *arguments])
        assert (direct.exit_code, direct.stdout, direct.stderr) == (code, "", expected.err)

    def test_fuzz_flow_file_that_is_missing(self, odd: Shell) -> None:
        assert fuzz(odd, "none") == Called(2, "", "doubleweave: file not found: none.flow.yaml\n")

    def test_without_an_input_or_a_schema_there_is_nothing_to_fuzz(self, shell: Shell) -> None:
        called = shell("fuzz", "numbers.flow.yaml", "-t", "number_tools")
        assert (called.code, called.out) == (1, "")
        assert called.err.startswith("doubleweave: [CW-E038] no input of flow 'numbers' can be generated")

    @LANES
    def test_de_3_a_case_says_property_index_input_and_what_the_check_raised(self, odd: Shell, lane: list[str]) -> None:
        called = fuzz(odd, "steady", "-n", "1", "-i", '{"value": 2}', "-p", "odd_tools:is_broken", "-f", "JSON", *lane)
        assert (called.code, called.err) == (1, "")
        assert json.loads(called.out) == {
            "flow": "steady",
            "runs": 1,
            "seed": 0,
            "properties": ["odd_tools:is_broken"],
            "failures": 1,
            "failure_cases": [
                {
                    "property": "odd_tools:is_broken",
                    "case_index": 0,
                    "initial_input": {"value": 2},
                    "check_error": "LookupError: nothing there",
                }
            ],
        }

    @LANES
    def test_de_3_the_table_has_the_same_facts(self, odd: Shell, lane: list[str]) -> None:
        odd.write("in.json", '{"value": 70, "token": "t0p"}')
        options = ("-p", "odd_tools:is_named", "-p", "odd_tools:is_broken", "--minimize", "--save-failures", "kept")
        called = fuzz(odd, "steady", "-n", "1", "--input-file", "in.json", *options, *lane)
        lines = called.out.splitlines()
        assert (called.code, called.err) == (1, "")
        assert lines[:3] == [
            "Flow: steady  ·  runs: 1  ·  seed: 0",
            "properties: small, odd_tools:is_broken",
            "failures: 2",
        ]
        broken = str(Path("kept", "steady.odd_tools_is_broken.case0.json"))
        assert [line.split() for line in lines[3:]] == [
            ["property", "case_index", "initial_input", "check_error", "minimized_input", "saved"],
            [
                *("small", "0", '{"value":', "70,", '"token":', '"***REDACTED***"}', "-", '{"value":', "70}"),
                str(Path("kept", "steady.small.case0.json")),
            ],
            [
                *("odd_tools:is_broken", "0", '{"value":', "70,", '"token":', '"***REDACTED***"}'),
                *("LookupError:", "nothing", "there", "{}", broken),
            ],
        ]

    @LANES
    def test_de_3_without_violations_the_table_says_so(self, odd: Shell, lane: list[str]) -> None:
        called = fuzz(odd, "steady", "-n", "2", "--seed", "5", *lane)
        assert called == Called(
            0,
            "Flow: steady  ·  runs: 2  ·  seed: 5\nproperties: flow_succeeds\nno property violations found\n",
            "",
        )

    @pytest.mark.parametrize("form", ["json", "table"])
    def test_de_3_the_same_arguments_give_the_same_text_on_both_lanes(self, odd: Shell, form: str) -> None:
        options = ("-p", "odd_tools:is_small", "-p", "flow_succeeds", "--output-fault-prob", "0.4", "--minimize")
        runs = ("--runs", "40", "--seed", "11", "-f", form, "--save-failures", "kept")
        first, again, awaited = (fuzz(odd, "steady", *options, *runs, *lane) for lane in ([], [], ["--async"]))
        assert first.code == 1
        assert first == again == awaited
        other = fuzz(odd, "steady", *options, *runs[:3], "12", *runs[4:])
        assert other.out != first.out

    def test_de_3_the_text_does_not_depend_on_the_process(self, odd: Shell) -> None:
        options = ("-n", "30", "-p", "odd_tools:is_small", "--output-fault-prob", "0.5", "--minimize", "-f", "json")
        command = [sys.executable, "-m", "doubleweave", "fuzz", "steady.flow.yaml", "-t", "odd_tools", *options]
        texts = set()
        for seed in ("1", "2"):
            environment = {**os.environ, "PYTHONHASHSEED": seed}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
            assert (done.returncode, done.stderr) == (1, "")
            texts.add(done.stdout)
        assert texts == {fuzz(odd, "steady", *options).out}

    @LANES
    def test_minimize_adds_the_smallest_input_that_violates_the_property(self, odd: Shell, lane: list[str]) -> None:
        options = ("-p", "odd_tools:is_small", "-i", '{"value": 70, "token": "t", "more": [1]}', "--minimize")
        called = fuzz(odd, "steady", "-n", "1", *options, "-f", "json", *lane)
        assert failure_cases(called) == [
            {
                "property": "odd_tools:is_small",
                "case_index": 0,
                "initial_input": {"value": 70, "token": "***REDACTED***", "more": [1]},
                "check_error": None,
                "minimized_input": {"value": 70},
            }
        ]

    @LANES
    def test_minimize_has_null_where_only_a_fault_violates_the_property(self, odd: Shell, lane: list[str]) -> None:
        options = ("--output-fault-prob", "1", "--minimize", "--save-failures", "kept", "-i", '{"value": 1}')
        called = fuzz(odd, "steady", "-n", "2", "--seed", "3", *options, "-f", "json", *lane)
        cases = failure_cases(called)
        assert called.code == 1
        assert [case["minimized_input"] for case in cases] == [None] * len(cases)
        kept = dw.ExecutionResult.model_validate_json(Path(cases[0]["saved"]).read_bytes())
        assert (kept.success, kept.initial_input) == (False, cases[0]["initial_input"])

    @LANES
    def test_de_4_os_2_saved_results_and_printed_inputs_are_redacted(self, odd: Shell, lane: list[str]) -> None:
        options = ("-p", "odd_tools:is_small", "-i", '{"value": 70, "token": "t0p"}', "--save-failures", "new/kept")
        called = fuzz(odd, "steady", "-n", "1", *options, "-f", "json", *lane)
        (case,) = failure_cases(called)
        path = Path("new", "kept", "steady.odd_tools_is_small.case0.json")
        assert (case["saved"], case["initial_input"]["token"]) == (str(path), "***REDACTED***")
        kept = dw.ExecutionResult.model_validate_json(path.read_bytes())
        assert (kept.flow_name, kept.final_output) == ("steady", {"value": 140, "token": "***REDACTED***"})
        assert kept.initial_input == {"value": 70, "token": "***REDACTED***"}
        assert "t0p" not in called.out + path.read_text()

    @LANES
    def test_de_4_no_redact_leaves_both_as_they_are(self, odd: Shell, lane: list[str]) -> None:
        options = ("-p", "odd_tools:is_small", "-i", '{"value": 70, "token": "t0p"}', "--save-failures", "kept")
        called = fuzz(odd, "steady", "-n", "1", "--no-redact", *options, "-f", "json", *lane)
        (case,) = failure_cases(called)
        assert case["initial_input"] == {"value": 70, "token": "t0p"}
        assert dw.ExecutionResult.model_validate_json(Path(case["saved"]).read_bytes()).initial_input["token"] == "t0p"

    @LANES
    def test_de_4_under_minimize_the_result_of_the_smallest_input_is_saved(self, odd: Shell, lane: list[str]) -> None:
        options = ("-p", "odd_tools:is_small", "-i", '{"value": 70, "token": "t0p"}', "--save-failures", "kept")
        (case,) = failure_cases(fuzz(odd, "steady", "-n", "1", "--minimize", *options, "-f", "json", *lane))
        kept = dw.ExecutionResult.model_validate_json(Path(case["saved"]).read_bytes())
        assert (kept.initial_input, kept.final_output) == ({"value": 70}, {"value": 140})

    def test_os_1_names_of_flows_and_properties_are_made_safe_for_files(self, odd: Shell) -> None:
        text = flow_of('"../up\\\\a:b"', "refuse")
        odd.write("up.flow.yaml", text)
        (case,) = failure_cases(
            fuzz(odd, "up", "-n", "1", "--save-failures", "kept", "-f", "json", "-i", '{"value": 1}')
        )
        assert case["saved"] == str(Path("kept", ".._up_a_b.flow_succeeds.case0.json"))
        assert [path.name for path in Path("kept").iterdir()] == [".._up_a_b.flow_succeeds.case0.json"]

    def test_os_1_two_properties_are_not_saved_under_one_name(self, odd: Shell) -> None:
        options = ("-n", "1", "-i", '{"value": 1}', "-p", "odd_tools:is_small", "-p", "odd_tools:twin")
        assert fuzz(odd, "steady", *options).code == 0
        assert fuzz(odd, "steady", *options, "--save-failures", "kept") == Called(
            1, "", "doubleweave: duplicate property name: 'odd_tools_is_small' and 'odd_tools:is_small'\n"
        )

    def test_a_directory_that_cannot_be_written_ends_the_command(self, odd: Shell) -> None:
        called = fuzz(odd, "refused", "-n", "1", "-i", '{"value": 1}', "--save-failures", "odd_tools.py/kept")
        assert (called.code, called.out) == (2, "")
        assert called.err.startswith("doubleweave: odd_tools.py/kept")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a/b", "a_b"), ("..\\x", ".._x"), ("", "_"), ("Aä9._-", "A_9._-"), ("a\nb\0", "a_b_"), ("m:f", "m_f")],
)
def test_os_1_characters_outside_the_safe_ones_become_underscores(text: str, expected: str) -> None:
    assert sanitize_path_component(text) == expected


@given(st.text())
def test_os_1_what_is_safe_has_only_safe_characters_and_stays(text: str) -> None:
    safe = sanitize_path_component(text)
    assert set(safe) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert safe
    assert sanitize_path_component(safe) == safe
