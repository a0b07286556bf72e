"""The commands that look at flow files without running them."""

import json

import pytest

from cli_under_test import Called, Shell
from doubleweave import flow_schema_json

pytest_plugins = ["cli_under_test"]
BROKEN = "type: Flow\nname: broken\n"
IMPORTING = "type: Flow\nname: n\ndescription: ''\ninput_schema_ref: 'boom:Model'\nsteps: [{tool_name: t}]\n"


def envelope(called: Called) -> dict[str, object]:
    document: dict[str, object] = json.loads(called.out)
    assert set(document) == {"schema_version", "status", "data", "errors"}
    return document


class TestValidate:
    """4.3."""

    def test_a_valid_file(self, shell: Shell) -> None:
        assert shell("validate", "numbers.flow.yaml") == Called(
            0, "OK       numbers.flow.yaml: numbers v1.2.0 [Flow]\n", ""
        )
        assert shell("validate", "choice.flow.yaml").out == "OK       choice.flow.yaml: choice v1.0 [DAGFlow]\n"

    def test_an_invalid_file(self, shell: Shell) -> None:
        shell.write("broken.flow.yaml", BROKEN)
        called = shell("validate", "broken.flow.yaml")
        assert (called.code, called.out) == (1, "")
        assert called.err.startswith("INVALID  broken.flow.yaml: ")
        assert "description" in called.err

    def test_en_1_json_of_a_valid_file(self, shell: Shell) -> None:
        called = shell("validate", "numbers.flow.yaml", "--format", "JSON")
        assert (called.code, called.err) == (0, "")
        assert envelope(called) == {
            "schema_version": "1",
            "status": "ok",
            "data": {
                "path": "numbers.flow.yaml",
                "valid": True,
                "name": "numbers",
                "version": "1.2.0",
                "type": "Flow",
                "step_count": 2,
            },
            "errors": [],
        }

    def test_en_4_json_of_an_invalid_file_leaves_stderr_empty(self, shell: Shell) -> None:
        shell.write("broken.flow.json", "{")
        called = shell("validate", "broken.flow.json", "-f", "json")
        assert (called.code, called.err) == (1, "")
        document = envelope(called)
        data = document["data"]
        assert isinstance(data, dict)
        assert document == {
            "schema_version": "1",
            "status": "error",
            "data": {"path": "broken.flow.json", "valid": False, "error": data["error"]},
            "errors": [{"code": "CW-E017", "message": data["error"]}],
        }
        assert data["error"].startswith("Invalid JSON: ")

    def test_ds_1_another_suffix(self, shell: Shell) -> None:
        called = shell("validate", "number_tools.py")
        assert called.code == 1
        assert "extension" in called.err

    @pytest.mark.parametrize("form", ["table", "json"])
    @pytest.mark.parametrize(
        ("name", "message"), [("gone.flow.yaml", "file not found: gone.flow.yaml"), (".", "not a file: .")]
    )
    def test_cl_5_a_missing_file_leaves_stdout_empty(self, shell: Shell, name: str, message: str, form: str) -> None:
        assert shell("validate", name, "-f", form) == Called(2, "", f"doubleweave: {message}\n")

    def test_cl_7_nothing_that_a_file_names_is_imported(self, shell: Shell) -> None:
        shell.write("boom.py", "raise SystemExit('imported')")
        shell.write("importing.flow.yaml", IMPORTING)
        found = ("--file", "importing.flow.yaml")
        assert [
            shell(*command).code
            for command in [
                ("validate", "importing.flow.yaml"),
                ("check", "."),
                ("inspect", "n", *found),
                ("viz", "n", *found),
                ("explain", "n", *found),
                ("flows", "list", "--discover-dir", "."),
            ]
        ] == [0] * 6

    def test_a_cycle_is_none_of_its_business(self, shell: Shell) -> None:
        text = "type: DAGFlow\nname: c\nversion: '1'\ndescription: ''\nsteps: [{step_id: a, tool_name: t, depends_on: [a]}]"
        shell.write("cycle.flow.yaml", text)
        assert shell("validate", "cycle.flow.yaml").code == 0
        assert shell("viz", "c", "--file", "cycle.flow.yaml") == Called(0, "[t] → [t]\n", "")


class TestCheck:
    """4.4."""

    def test_every_file_below_has_a_line_in_order(self, shell: Shell) -> None:
        shell.write("deep/er/a.flow.json", "{")
        called = shell("check", ".")
        assert called.code == 1
        assert called.out == (
            "OK       choice.flow.yaml: choice v1.0 [DAGFlow]\n"
            "OK       failing.flow.yaml: failing v0.1.0 [Flow]\n"
            "OK       numbers.flow.yaml: numbers v1.2.0 [Flow]\n"
            "3 valid, 1 invalid\n"
        )
        assert called.err.startswith("INVALID  deep/er/a.flow.json: Invalid JSON")
        assert called.err.count("\n") == 1

    def test_json_has_each_verdict(self, shell: Shell) -> None:
        shell.write("deep/er/a.flow.json", "{")
        shell.write("deep/ok.flow.yaml", "type: Flow\nname: ok\ndescription: ''\nsteps: []\n")
        called = shell("check", "deep", "-f", "json")
        document = envelope(called)
        data = document["data"]
        assert isinstance(data, dict)
        error = data["results"][0].pop("error")
        assert data == {
            "directory": "deep",
            "valid_count": 1,
            "invalid_count": 1,
            "results": [
                {"path": "deep/er/a.flow.json", "valid": False},
                {
                    "path": "deep/ok.flow.yaml",
                    "valid": True,
                    "name": "ok",
                    "version": "0.1.0",
                    "type": "Flow",
                    "step_count": 0,
                },
            ],
        }
        assert (document["status"], document["errors"]) == ("error", [{"code": "CW-E017", "message": error}])
        assert (called.code, called.err) == (1, "")

    def test_quiet_prints_no_table_but_json(self, shell: Shell) -> None:
        assert shell("check", ".", "--quiet") == Called(0, "", "")
        assert json.loads(shell("check", ".", "-q", "-f", "json").out)["data"]["valid_count"] == 3
        shell.write("a.flow.json", "{")
        assert shell("check", ".", "--quiet") == Called(1, "", "")

    def test_an_empty_directory_is_fine(self, shell: Shell) -> None:
        (shell.folder / "empty").mkdir()
        assert shell("check", "empty") == Called(0, "0 valid, 0 invalid\n", "")

    @pytest.mark.parametrize(
        ("name", "message"),
        [("gone", "directory not found: gone"), ("number_tools.py", "not a directory: number_tools.py")],
    )
    def test_cl_5_a_missing_directory(self, shell: Shell, name: str, message: str) -> None:
        assert shell("check", name) == Called(2, "", f"doubleweave: {message}\n")


class TestDumpSchema:
    """4.5."""

    def test_it_is_printed(self, shell: Shell) -> None:
        called = shell("dump-schema")
        assert called == Called(0, json.dumps(flow_schema_json(), indent=2, sort_keys=True) + "\n", "")

    def test_it_is_written_and_compared(self, shell: Shell) -> None:
        path = shell.folder / "a" / "b.json"
        absent = shell("dump-schema", "-o", "a/b.json", "--check")
        written = shell("dump-schema", "-o", "a/b.json")
        assert path.read_text() == shell("dump-schema").out
        same = shell("dump-schema", "-o", "a/b.json", "--check")
        path.write_text(path.read_text() + " ")
        other = shell("dump-schema", "-o", "a/b.json", "--check")
        again = "write it with dump-schema --output a/b.json"
        assert [absent, written, same, other] == [
            Called(1, "", f"doubleweave: a/b.json does not exist: {again}\n"),
            Called(0, "a/b.json: written\n", ""),
            Called(0, "a/b.json: up to date\n", ""),
            Called(1, "", f"doubleweave: a/b.json is out of date: {again.replace('it with', 'it anew with')}\n"),
        ]

    def test_a_comparison_needs_a_file(self, shell: Shell) -> None:
        assert shell("dump-schema", "--check") == Called(2, "", "doubleweave: --check requires --output\n")

    def test_what_cannot_be_written_is_told(self, shell: Shell) -> None:
        called = shell("dump-schema", "-o", ".")
        assert called == Called(2, "", "doubleweave: not a file: .\n")
