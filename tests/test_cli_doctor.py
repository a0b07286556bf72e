"""The command that looks for what will keep flows from running."""

import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from cli_under_test import Called, Shell
from doubleweave import DEFAULT_PARSE_LIMITS, Tool, __version__
from doubleweave.cli import doctor
from doubleweave.cli.doctor import _check_writable
from doubleweave.cli.readiness import extras
from doubleweave.cli.sources import _import_tools_from
from traces_under_test import call

pytest_plugins = ["cli_under_test"]
FORMS = pytest.mark.parametrize("form", ["json", "table"])


def flow_file(shell: Shell, stem: str, *steps: dict[str, Any], **values: Any) -> str:
    kind = "DAGFlow" if any("step_id" in step for step in steps) else "Flow"
    given = {"type": kind, "name": stem, "version": "1.0.0", "description": "", **values}
    shell.write(f"{stem}.flow.json", json.dumps({**given, "steps": list(steps)}))
    return f"{stem}.flow.json"


def document_of(called: Called) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(called.out)
    assert called.err == ""
    return document


def tool_hash(shell: Shell, name: str) -> str:
    tools: dict[str, Tool] = {tool.name: tool for tool in _import_tools_from("number_tools")}
    return tools[name].schema_hash


class TestOptions:
    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            ((), 1, "doctor flow requires --check-drift, --preflight, or --profile first-run"),
            (("numbers.flow.yaml",), 1, "doctor flow requires --check-drift, --preflight, or --profile first-run"),
            (("numbers.flow.yaml", "--check-drift", "--preflight"), 2, "give one of --check-drift and --preflight, not both"),
            (("--check-drift",), 2, "flow path is required"),
            (("--preflight",), 2, "flow path is required"),
            (("gone", "--check-drift"), 2, "path not found: gone"),
            (("gone.flow.json", "--preflight"), 2, "path not found: gone.flow.json"),
        ],
    )  # fmt: skip
    @FORMS
    def test_exactly_one_mode_and_a_path(
        self, shell: Shell, arguments: tuple[str, ...], code: int, message: str, form: str
    ) -> None:
        assert call(shell, "doctor", "flow", *arguments, "-f", form) == Called(code, "", f"doubleweave: {message}\n")

    @pytest.mark.parametrize("arguments", [("--profile", "last-run"), ("--nonsense",), ("a", "b", "--preflight")])
    def test_wrong_usage(self, shell: Shell, arguments: tuple[str, ...]) -> None:
        called = call(shell, "doctor", "flow", *arguments)
        assert (called.code, called.out) == (2, "")

    @pytest.mark.parametrize("mode", ["--check-drift", "--preflight"])
    def test_ds_5_a_tools_module_that_cannot_be_imported(self, shell: Shell, mode: str) -> None:
        called = call(shell, "doctor", "flow", ".", mode, "-t", "gone_tools")
        message = "doubleweave: tools module not importable: gone_tools: No module named 'gone_tools'\n"
        assert called == Called(2, "", message)

    def test_bare_it_prints_its_help(self, shell: Shell) -> None:
        called = call(shell, "doctor")
        assert (called.code, called.err) == (0, "")
        assert "Look for what will keep flows from running." in called.out

    def test_profile_wins_over_the_checks_and_needs_no_path(self, shell: Shell) -> None:
        both = call(shell, "doctor", "flow", "gone", "--check-drift", "--preflight", "--profile", "first-run")
        assert both == call(shell, "doctor", "flow", "--profile", "first-run")


class TestCheckDrift:
    def test_a_flow_that_fits(self, shell: Shell) -> None:
        hashes = {"double": tool_hash(shell, "double")}
        path = flow_file(shell, "fits", {"tool_name": "double"}, tool_schema_hashes=hashes)
        command = ("doctor", "flow", path, "--check-drift", "-t", "number_tools")
        assert call(shell, *command) == Called(
            0, "OK     fits v1.0.0  0 issue(s)  fits.flow.json\nall 1 flow(s) ok\n", ""
        )
        called = call(shell, *command, "-f", "json")
        assert (called.code, document_of(called)) == (
            0,
            {
                "path": path,
                "flow_count": 1,
                "drift_count": 0,
                "load_errors": [],
                "results": [
                    {
                        "path": path,
                        "flow_name": "fits",
                        "flow_version": "1.0.0",
                        "fingerprints_present": True,
                        "ok": True,
                        "missing_count": 0,
                        "drift_count": 0,
                        "issues": [],
                    }
                ],
            },
        )

    def test_en_2_en_4_the_payload_is_printed_without_an_envelope_and_alone(self, shell: Shell) -> None:
        shell.write("bad.flow.json", "{")
        for mode in ("--check-drift", "--preflight"):
            called = call(shell, "doctor", "flow", ".", mode, "-f", "json")
            assert {"path", "flow_count", "load_errors"} <= set(document_of(called))
            assert called.code == 1

    def test_missing_tools_and_other_schemas(self, shell: Shell) -> None:
        hashes = {"double": "0123456789abcdef"}
        steps = ({"tool_name": "gone"}, {"tool_name": "double"}, {"tool_name": "double"})
        path = flow_file(shell, "old", *steps, tool_schema_hashes=hashes)
        command = ("doctor", "flow", path, "--check-drift", "-t", "number_tools")
        missing = "Tool 'gone' is not registered."
        changed = f"Tool 'double' has schema hash {tool_hash(shell, 'double')}, the flow expects 0123456789abcdef."
        assert call(shell, *command) == Called(
            1,
            "DRIFT  old v1.0.0  3 issue(s)  old.flow.json\n"
            f"  [missing_tool] {missing}\n"
            f"  [schema_mismatch] {changed}\n"
            f"  [schema_mismatch] {changed}\n"
            "1 flow(s) with drift, 0 ok\n",
            "",
        )
        called = call(shell, *command, "-f", "json")
        document = document_of(called)
        [result] = document["results"]
        assert (called.code, document["flow_count"], document["drift_count"]) == (1, 1, 1)
        assert (result["ok"], result["missing_count"], result["drift_count"]) == (False, 1, 2)
        assert result["issues"] == [
            {"step_index": 0, "tool_name": "gone", "issue_type": "missing_tool", "detail": missing},
            {"step_index": 1, "tool_name": "double", "issue_type": "schema_mismatch", "detail": changed},
            {"step_index": 2, "tool_name": "double", "issue_type": "schema_mismatch", "detail": changed},
        ]

    @pytest.mark.parametrize("hashes", [None, {}])
    def test_fingerprints_present_is_false_without_any(self, shell: Shell, hashes: Any) -> None:
        path = flow_file(shell, "new", {"tool_name": "double"}, tool_schema_hashes=hashes)
        command = ("doctor", "flow", path, "--check-drift", "-t", "number_tools")
        [result] = document_of(call(shell, *command, "-f", "json"))["results"]
        assert (result["fingerprints_present"], result["ok"]) == (False, True)
        line = "OK     new v1.0.0  0 issue(s)  new.flow.json  (no fingerprints to compare)\n"
        assert call(shell, *command) == Called(0, f"{line}all 1 flow(s) ok\n", "")

    def test_without_tools_every_tool_is_missing_and_a_note_says_why(self, shell: Shell) -> None:
        called = call(shell, "doctor", "flow", "numbers.flow.yaml", "--check-drift")
        assert called.code == 1
        assert called.out.count("[missing_tool]") == 2
        assert called.err == "doubleweave: no --tools given: every tool counts as missing\n"
        command = ("doctor", "flow", "numbers.flow.yaml", "--check-drift", "-f", "json")
        assert document_of(call(shell, *command))["results"][0]["missing_count"] == 2

    def test_cl_7_nothing_that_a_flow_names_is_imported(self, shell: Shell) -> None:
        shell.write("schemas_of_mine.py", "raise SystemExit('imported')")
        path = flow_file(shell, "named", {"tool_name": "double"}, input_schema_ref="schemas_of_mine:Order")
        assert call(shell, "doctor", "flow", path, "--check-drift", "-t", "number_tools").code == 0
        assert "schemas_of_mine" not in sys.modules


class TestPreflight:
    @pytest.mark.parametrize("tools", [(), ("-t", "number_tools")])
    def test_a_flow_without_issues(self, shell: Shell, tools: tuple[str, ...]) -> None:
        command = ("doctor", "flow", "numbers.flow.yaml", "--preflight", *tools)
        assert call(shell, *command) == Called(0, "numbers  numbers.flow.yaml  ok\nall 1 flow(s) ok\n", "")
        called = call(shell, *command, "-f", "json")
        assert (called.code, document_of(called)) == (
            0,
            {
                "path": "numbers.flow.yaml",
                "flow_count": 1,
                "issue_count": 0,
                "load_errors": [],
                "results": [{"path": "numbers.flow.yaml", "flow_name": "numbers", "ok": True, "issues": []}],
            },
        )

    def issues_of(self, shell: Shell, path: str, *options: str) -> list[tuple[str, str]]:
        called = call(shell, "doctor", "flow", path, "--preflight", "-f", "json", *options)
        document = document_of(called)
        [result] = document["results"]
        issues = [(issue["type"], issue["detail"]) for issue in result["issues"]]
        assert all(set(issue) == {"type", "detail"} for issue in result["issues"])
        assert result["ok"] is (issues == [])
        assert (called.code, document["issue_count"]) == ((1, 1) if issues else (0, 0))
        return issues

    def unresolved(self, shell: Shell, path: str, *options: str) -> list[str]:
        """Return the steps and inputs that are found unresolved."""
        issues = self.issues_of(shell, path, *options)
        assert {kind for kind, _ in issues} <= {"unresolved_mapping"}
        return [detail.split(" is read")[0] for _, detail in issues]

    def test_missing_tools_only_with_tools(self, shell: Shell) -> None:
        steps = (
            {"tool_name": "gone"},
            {"tool_name": "double", "on_error": "fallback:lost"},
            {"tool_name": "double", "decision_candidates": ["double", "away"]},
            {"flow_name": "another"},
        )
        path = flow_file(shell, "missing", *steps)
        assert self.issues_of(shell, path) == []
        where = "is in none of the modules given with --tools"
        details = [
            f"step 0 'gone': tool 'gone' {where}",
            f"step 1 'double': fallback tool 'lost' {where}",
            f"step 2 'double': candidate 'away' {where}",
        ]
        assert self.issues_of(shell, path, "-t", "number_tools") == [("missing_tool", each) for each in details]
        assert call(shell, "doctor", "flow", path, "--preflight", "-t", "number_tools") == Called(
            1,
            "missing  missing.flow.json  issues\n"
            + "".join(f"  missing_tool: {each}\n" for each in details)
            + "1 flow(s) with issues, 0 ok\n",
            "",
        )

    def test_a_source_that_neither_the_input_schema_nor_an_earlier_step_declares(self, shell: Shell) -> None:
        steps = (
            {"tool_name": "double", "input_mapping": {"value": "valeu"}},
            {"tool_name": "double", "input_mapping": {"value": "/value/0"}},
            {"tool_name": "double", "input_mapping": {"value": "/other~1key/0", "n": 3, "l": ["x"], "m": None}},
        )
        path = flow_file(shell, "wrong", *steps, input_schema_ref="number_tools:Order")
        end = "which neither the flow's input schema nor an earlier step declares"
        assert self.issues_of(shell, path, "-t", "number_tools") == [
            ("unresolved_mapping", f"step 0 'double': input 'value' is read from 'valeu', {end}"),
            ("unresolved_mapping", f"step 2 'double': input 'value' is read from '/other~1key/0', {end}"),
        ]

    def test_the_first_step_is_not_checked_without_an_input_schema(self, shell: Shell) -> None:
        steps = [
            {"tool_name": "double", "input_mapping": {"value": name}} for name in ("anything", "anything", "value")
        ]
        path = flow_file(shell, "open", *steps)
        assert self.unresolved(shell, path, "-t", "number_tools") == ["step 1 'double': input 'value'"]

    @pytest.mark.parametrize("unknown", [{"flow_name": "another"}, {"tool_name": "loose"}, {"tool_name": "gone"}])
    def test_nothing_is_checked_after_a_step_whose_outputs_are_unknown(
        self, shell: Shell, unknown: dict[str, Any]
    ) -> None:
        shell.write(
            "loose_tools.py",
            "from doubleweave import Tool\n"
            "loose = Tool(name='loose', description='', input_schema={'type': 'object'}, "
            "output_schema={'type': 'object'}, fn=dict)\n",
        )
        wrong = {"tool_name": "double", "input_mapping": {"value": "valeu"}}
        path = flow_file(shell, "unknown", wrong, unknown, wrong, input_schema_ref="number_tools:Order")
        options = ("-t", "number_tools", "-t", "loose_tools")
        found = [detail for kind, detail in self.issues_of(shell, path, *options) if kind == "unresolved_mapping"]
        assert [each.split(":")[0] for each in found] == ["step 0 'double'"]
        named = {**unknown, "output_mapping": {"result": "value"}}
        right = {"tool_name": "double", "input_mapping": {"value": "/result/0"}}
        path = flow_file(shell, "named", right, named, wrong, right, input_schema_ref="number_tools:Order")
        found = [detail for kind, detail in self.issues_of(shell, path, *options) if kind == "unresolved_mapping"]
        assert [each.split(":")[0] for each in found] == ["step 0 'double'", "step 2 'double'"]

    def test_without_tools_only_what_reads_the_input_is_checked(self, shell: Shell) -> None:
        wrong = {"tool_name": "double", "input_mapping": {"value": "valeu"}}
        path = flow_file(shell, "wrong", wrong, wrong, input_schema_ref="number_tools:Order")
        assert self.unresolved(shell, path) == ["step 0 'double': input 'value'"]

    def test_steps_of_a_level_do_not_see_each_other(self, shell: Shell) -> None:
        def node(step_id: str, source: str, *needs: str, **values: Any) -> dict[str, Any]:
            mapping = {"input_mapping": {"value": source}, "output_mapping": {step_id: "value"}}
            return {"step_id": step_id, "tool_name": "double", "depends_on": needs, **mapping, **values}

        # In a file the steps need not stand in the order in which they run.
        steps = (node("end", "left", "left", "right"), node("left", "value"), node("right", "left"))
        path = flow_file(shell, "levels", *steps, input_schema_ref="number_tools:Order")
        assert self.unresolved(shell, path, "-t", "number_tools") == ["step 2 'right': input 'value'"]

    def test_the_candidates_of_a_decision_count_together(self, shell: Shell) -> None:
        shell.write(
            "other_tools.py",
            "from pydantic import BaseModel\nfrom doubleweave import tool\n\nclass Word(BaseModel):\n    word: str\n\n"
            "@tool\ndef spell(value: int) -> Word:\n    return Word(word=str(value))\n",
        )
        decision = {"tool_name": "double", "decision_candidates": ["double", "spell"]}
        steps: list[dict[str, Any]] = [
            decision,
            *({"tool_name": "double", "input_mapping": {"value": each}} for each in ("word", "valeu")),
        ]
        path = flow_file(shell, "decides", *steps, input_schema_ref="number_tools:Order")
        options = ("-t", "number_tools", "-t", "other_tools")
        assert self.unresolved(shell, path, *options) == ["step 2 'double': input 'value'"]

    def test_dynamic_params_and_aliases_are_declared(self, shell: Shell) -> None:
        shell.write(
            "input_models.py",
            "from pydantic import AliasChoices, BaseModel, ConfigDict, Field, RootModel\n\n"
            "class Named(BaseModel):\n    value: int = Field(alias='Value')\n    count: int = Field(validation_alias='COUNT')\n\n"
            "class Choice(BaseModel):\n    value: int = Field(validation_alias=AliasChoices('a', 'b'))\n\n"
            "class Open(BaseModel):\n    model_config = ConfigDict(extra='allow')\n\n"
            "class Root(RootModel[dict[str, int]]):\n    pass\n",
        )
        sources = ("value", "Value", "count", "COUNT", "tenant", "other")
        step = {"tool_name": "double", "input_mapping": {name: name for name in sources}}
        path = flow_file(shell, "named", step, input_schema_ref="input_models:Named", dynamic_params=["tenant"])
        assert self.unresolved(shell, path) == ["step 0 'double': input 'other'"]
        for ref in ("input_models:Open", "input_models:Root", "input_models:Choice"):
            assert self.unresolved(shell, flow_file(shell, "open", step, step, input_schema_ref=ref)) == []

    def test_a_capability_step_needs_no_tool(self, shell: Shell) -> None:
        step = {"step_id": "a", "tool_name": "remote", "step_type": "capability", "capability_id": "x"}
        after = {"step_id": "b", "tool_name": "double", "depends_on": ["a"], "input_mapping": {"value": "anything"}}
        path = flow_file(shell, "capable", step, after)
        assert self.issues_of(shell, path, "-t", "number_tools") == []

    def test_steps_that_depend_on_each_other(self, shell: Shell) -> None:
        steps = [{"step_id": a, "tool_name": "double", "depends_on": [b]} for a, b in (("a", "b"), ("b", "a"))]
        [(kind, detail)] = self.issues_of(shell, flow_file(shell, "circle", *steps))
        assert kind == "invalid_topology"
        assert "Steps depend on each other: a -> b -> a" in detail

    @pytest.mark.parametrize(
        ("module", "ref", "detail"),
        [
            ("", "gone_models:Order", "No module named 'gone_models'"),
            ("", "broken_models:Gone", "'Gone' of class ref 'broken_models:Gone' not found"),
            ("Order = 3", "broken_models:Order", "Class ref 'broken_models:Order' names a int; expected a class"),
            (
                "raise RuntimeError('no')",
                "broken_models:Order",
                "The module of class ref 'broken_models:Order' fails: RuntimeError: no",
            ),
            (
                "raise SystemExit(3)",
                "broken_models:Order",
                "The module of class ref 'broken_models:Order' fails: SystemExit: 3",
            ),
        ],
    )
    def test_an_input_schema_that_cannot_be_imported(self, shell: Shell, module: str, ref: str, detail: str) -> None:
        shell.write("broken_models.py", module)
        step = {"tool_name": "double", "input_mapping": {"value": "anything"}}
        [(kind, found)] = self.issues_of(shell, flow_file(shell, "broken", step, input_schema_ref=ref))
        assert kind == "unresolved_input_schema"
        assert detail in found

    def test_ds_6_schema_ref_allow_says_from_where_classes_may_be_imported(self, shell: Shell) -> None:
        shell.write("schemas_of_mine.py", "raise SystemExit('imported')")
        path = flow_file(shell, "named", {"tool_name": "double"}, input_schema_ref="schemas_of_mine:Order")
        [(kind, detail)] = self.issues_of(shell, path, "--schema-ref-allow", "number_tools")
        assert kind == "unresolved_input_schema"
        assert "module 'schemas_of_mine' is not permitted" in detail
        assert "schemas_of_mine" not in sys.modules
        path = flow_file(shell, "allowed", {"tool_name": "double"}, input_schema_ref="number_tools:Order")
        assert self.issues_of(shell, path, "--schema-ref-allow", "number_tools") == []


class TestDirectories:
    def fill(self, shell: Shell) -> None:
        shell.write("flows/b.flow.json", "{")
        shell.write("flows/notes.json", "{")
        for name in ("flows/a", "flows/deep/c"):
            flow_file(shell, name, {"tool_name": "double" if name == "flows/a" else "gone"})

    @pytest.mark.parametrize(("mode", "count"), [("--check-drift", "drift_count"), ("--preflight", "issue_count")])
    def test_every_file_is_looked_at_in_the_order_of_paths(self, shell: Shell, mode: str, count: str) -> None:
        self.fill(shell)
        called = call(shell, "doctor", "flow", "flows", mode, "-t", "number_tools", "-f", "json")
        document = document_of(called)
        assert called.code == 1
        assert list(document) == ["path", "flow_count", count, "load_errors", "results"]
        assert (document["path"], document["flow_count"], document[count]) == ("flows", 2, 1)
        assert [each["path"] for each in document["results"]] == ["flows/a.flow.json", "flows/deep/c.flow.json"]
        [error] = document["load_errors"]
        assert (set(error), error["path"]) == ({"path", "error"}, "flows/b.flow.json")
        assert error["error"].startswith("Invalid JSON: ")

    @pytest.mark.parametrize(("mode", "trouble"), [("--check-drift", "drift"), ("--preflight", "issues")])
    def test_a_file_that_is_no_flow_is_a_line_on_stderr(self, shell: Shell, mode: str, trouble: str) -> None:
        self.fill(shell)
        called = call(shell, "doctor", "flow", "flows", mode, "-t", "number_tools")
        assert called.code == 1
        assert called.out.splitlines()[-1] == f"1 flow(s) with {trouble}, 1 ok"
        [line] = called.err.splitlines()
        assert line.startswith("doubleweave: flows/b.flow.json: Invalid JSON: ")

    @pytest.mark.parametrize("mode", ["--check-drift", "--preflight"])
    def test_a_load_error_alone_is_trouble(self, shell: Shell, mode: str) -> None:
        shell.write("flows/b.flow.json", "{")
        called = call(shell, "doctor", "flow", "flows/b.flow.json", mode)
        trouble = "drift" if mode == "--check-drift" else "issues"
        assert (called.code, called.out) == (1, f"0 flow(s) with {trouble}, 0 ok\n")

    @pytest.mark.parametrize("mode", ["--check-drift", "--preflight"])
    def test_ds_1_a_file_with_another_suffix(self, shell: Shell, mode: str) -> None:
        called = call(shell, "doctor", "flow", "number_tools.py", mode)
        assert called.code == 1
        assert "extension" in called.err

    @pytest.mark.parametrize("mode", ["--check-drift", "--preflight"])
    def test_an_empty_directory_has_no_trouble(self, shell: Shell, mode: str) -> None:
        (shell.folder / "empty").mkdir()
        assert call(shell, "doctor", "flow", "empty", mode) == Called(0, "all 0 flow(s) ok\n", "")

    @pytest.mark.parametrize("mode", ["--check-drift", "--preflight"])
    def test_names_do_not_steer_the_terminal_and_stay_on_their_line(self, shell: Shell, mode: str) -> None:
        flow_file(shell, "odd", {"tool_name": "t\x1b[2J\nall 9 flow(s) ok"}, name="é\x1b[2J\nx")
        lines = call(shell, "doctor", "flow", "odd.flow.json", mode, "-t", "number_tools").out.splitlines()
        assert len(lines) == 3
        assert r"é\x1b[2J\nx" in lines[0]
        assert r"t\x1b[2J\nall 9 flow(s) ok" in lines[1]


class TestFirstRun:
    COMMAND = ("doctor", "flow", "--profile", "first-run")

    def install(self, shell: Shell, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
        """Let metadata of our own be those of the installed package."""
        text = "\n".join(("Metadata-Version: 2.4", "Name: doubleweave", "Version: 0.1.0", *lines))
        shell.write("site/doubleweave-0.1.0.dist-info/METADATA", f"{text}\n")
        shell.write("site/tiny_thing-2.0.dist-info/METADATA", "Metadata-Version: 2.4\nName: tiny-thing\nVersion: 2.0\n")
        monkeypatch.syspath_prepend(str(shell.folder / "site"))

    def test_what_it_says_of_this_computer(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        self.install(
            shell,
            monkeypatch,
            "Requires-Python: >=3.11",
            "Requires-Dist: no-such-package",
            "Provides-Extra: there",
            "Provides-Extra: absent",
            'Requires-Dist: tiny-thing>=1; extra == "there"',
            'Requires-Dist: no-such-package; extra == "absent"',
        )
        called = call(shell, *self.COMMAND, "--format", "json")
        assert (called.code, document_of(called)) == (
            0,
            {
                "ok": True,
                "python": {"version": platform.python_version(), "ok": True, "required": ">=3.11"},
                "writable_paths": {
                    "cwd": {"path": str(shell.folder), "writable": True},
                    "tempdir": {"path": tempfile.gettempdir(), "writable": True},
                },
                "import_health": {"doubleweave_version": __version__, "core_importable": True},
                "extras": [
                    {
                        "extra": "there",
                        "available": True,
                        "missing_modules": [],
                        "install": 'pip install "doubleweave[there]"',
                    },
                    {
                        "extra": "absent",
                        "available": False,
                        "missing_modules": ["no_such_package"],
                        "install": 'pip install "doubleweave[absent]"',
                    },
                ],
            },
        )
        assert call(shell, *self.COMMAND) == Called(
            0,
            f"doubleweave {__version__}: first-run readiness\n"
            f"ok      Python {platform.python_version()} (required: >=3.11)\n"
            f"ok      cwd is writable: {shell.folder}\n"
            f"ok      tempdir is writable: {tempfile.gettempdir()}\n"
            "ok      doubleweave can be imported\n"
            "ok      extra there\n"
            '-       extra absent (missing: no_such_package): pip install "doubleweave[absent]"\n'
            "READY\n",
            "",
        )

    @pytest.mark.parametrize(
        ("requirement", "missing"),
        [
            ("tiny-thing", []),
            ("Tiny_Thing>=2", []),
            ("tiny-thing>=3", ["tiny_thing"]),
            ("PyYAML>=999", ["yaml"]),
            ("opentelemetry-api>=999", ["opentelemetry"]),
            ("no-such-package; python_version < '3'", []),
            ("doubleweave[other]", ["no_such_package"]),
        ],
    )
    def test_an_extra_needs_its_distributions_in_fitting_versions(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch, requirement: str, missing: list[str]
    ) -> None:
        text, _, marker = requirement.partition("; ")
        marker = f"extra == 'one' and {marker}" if marker else "extra == 'one'"
        self.install(
            shell,
            monkeypatch,
            "Provides-Extra: one",
            f"Requires-Dist: {text}; {marker}",
            "Requires-Dist: no-such-package; extra == 'other'",
        )
        [found] = extras()
        assert (found["available"], found["missing_modules"]) == (not missing, missing)

    def test_the_extras_are_those_of_the_installed_package(self) -> None:
        found = {each["extra"]: each for each in extras()}
        assert {"cli", "yaml", "otel", "jsonschema-rs"} <= set(found)
        assert found["cli"]["available"]
        assert found["cli"]["install"] == 'pip install "doubleweave[cli]"'

    @FORMS
    def test_a_python_that_is_too_old(self, shell: Shell, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
        self.install(shell, monkeypatch, "Requires-Python: >=99")
        called = call(shell, *self.COMMAND, "-f", form)
        assert (called.code, called.err) == (1, "")
        if form == "json":
            found = json.loads(called.out)
            assert (found["ok"], found["python"]["ok"], found["python"]["required"]) == (False, False, ">=99")
        else:
            version = f"Python {platform.python_version()} (required: >=99)"
            lines = called.out.splitlines()
            assert (lines[1], lines[-1]) == (f"FAILED  {version}", "NOT READY: 1 of 4 checks failed")

    @pytest.mark.parametrize("name", ["cwd", "tempdir"])
    @FORMS
    def test_a_directory_that_cannot_be_written(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch, name: str, form: str
    ) -> None:
        path = {"cwd": str(shell.folder), "tempdir": tempfile.gettempdir()}[name]
        monkeypatch.setattr("doubleweave.cli.doctor._check_writable", lambda directory: str(directory) != path)
        called = call(shell, *self.COMMAND, "-f", form)
        assert (called.code, called.err) == (1, "")
        if form == "json":
            found = json.loads(called.out)
            assert found["ok"] is False
            assert {key for key, each in found["writable_paths"].items() if not each["writable"]} == {name}
        else:
            lines = called.out.splitlines()
            assert f"FAILED  {name} is writable: {path}" in lines
            assert lines[-1] == "NOT READY: 1 of 4 checks failed"

    def test_a_current_directory_that_is_gone(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        gone = shell.folder / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        called = call(shell, *self.COMMAND, "-f", "json")
        assert called.code == 1
        cwd = document_of(called)["writable_paths"]["cwd"]
        assert cwd == {"path": "(No such file or directory)", "writable": False}

    def test_the_probe(self, tmp_path: Path) -> None:
        assert _check_writable(tmp_path) is True
        assert list(tmp_path.iterdir()) == []
        assert _check_writable(tmp_path / "gone") is False
        (tmp_path / "file").write_text("")
        assert _check_writable(tmp_path / "file") is False
        assert _check_writable is doctor._check_writable


@pytest.mark.parametrize("mode", ["--check-drift", "--preflight"])
def test_as_many_steps_as_a_file_may_have_take_less_than_two_seconds(shell: Shell, mode: str) -> None:
    step = {"tool_name": "double", "input_mapping": {"value": "value"}}
    assert DEFAULT_PARSE_LIMITS.max_steps is not None
    path = flow_file(shell, "long", *([step] * DEFAULT_PARSE_LIMITS.max_steps), input_schema_ref="number_tools:Order")
    start = time.process_time()
    called = shell("doctor", "flow", path, mode, "-t", "number_tools")
    assert time.process_time() - start < 2
    assert called.out.splitlines()[-1] == "all 1 flow(s) ok"
