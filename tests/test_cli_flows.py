"""`flows list`, `flows promote` and `flows ignore`."""

import json
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import doubleweave as dw
from cli_under_test import Called, Shell
from doubleweave.cli import app, main, set_default_registry

pytest_plugins = ["cli_under_test"]

REVIEWABLE = """\
# Prices, as agreed in spring
type: Flow
name: prices
version: '2.0'
description: Doubles   # and no more
steps:
  - tool_name: double
governance:  # who answers for it
  # how far the review is
  lifecycle: draft   # since May
  owner: ada

tool_schema_hashes: null
# the end
"""


def governance_of(path: str | Path) -> dw.FlowGovernance:
    return dw.load_flow_file(path).governance


class TestList:
    FOUND = (
        ("choice", "1.0", "active", 3, "DAGFlow", "choice.flow.yaml"),
        ("failing", "0.1.0", "active", 2, "Flow", "failing.flow.yaml"),
        ("numbers", "1.2.0", "active", 2, "Flow", "numbers.flow.yaml"),
        ("numbers", "1.10.0", "disabled", 1, "Flow", str(Path("deep", "newer.flow.json"))),
    )
    KEYS = ("name", "version", "status", "step_count", "type", "source")

    @pytest.fixture
    def stocked(self, shell: Shell) -> Shell:
        flow = {"type": "Flow", "name": "numbers", "version": "1.10.0", "description": "", "status": "disabled"}
        shell.write("deep/newer.flow.json", json.dumps({**flow, "steps": [{"tool_name": "double"}]}))
        return shell

    def test_en_1_en_2_the_flows_of_a_directory_by_name_and_version_as_json(self, stocked: Shell) -> None:
        called = stocked("flows", "list", "--discover-dir", ".", "--format", "JSON")
        assert (called.code, called.err) == (0, "")
        assert json.loads(called.out) == {
            "schema_version": "1",
            "status": "ok",
            "data": [dict(zip(self.KEYS, row, strict=True)) for row in self.FOUND],
            "errors": [],
        }

    def test_the_table_has_a_row_for_each_flow(self, stocked: Shell) -> None:
        called = stocked("flows", "list", "--discover-dir", ".")
        assert (called.code, called.err) == (0, "")
        assert [tuple(line.split()) for line in called.out.splitlines()] == [
            self.KEYS,
            *(tuple(str(value) for value in row) for row in self.FOUND),
        ]

    def test_ds_3_malformed_files_are_skipped_with_a_line_on_stderr(self, shell: Shell) -> None:
        shell.write("bad.flow.json", "{")
        called = shell("flows", "list", "--discover-dir", ".", "-f", "json")
        assert called.code == 0
        assert [row["name"] for row in json.loads(called.out)["data"]] == ["choice", "failing", "numbers"]
        assert called.err.startswith("doubleweave: skipping bad.flow.json: Invalid JSON: ")
        assert called.err.count("\n") == 1

    def test_without_a_source_there_is_an_error(self, shell: Shell) -> None:
        expected = Called(1, "", "doubleweave: no flow source: give --discover-dir or --discover-entry-points\n")
        assert shell("flows", "list") == expected
        assert shell("flows", "list", "-f", "json") == expected

    def test_a_directory_without_flows_is_no_error(self, shell: Shell) -> None:
        (shell.folder / "empty").mkdir()
        assert shell("flows", "list", "--discover-dir", "empty") == Called(0, "(no flows discovered)\n", "")
        called = shell("flows", "list", "--discover-dir", "empty", "-f", "json")
        assert (called.code, json.loads(called.out)["data"], called.err) == (0, [], "")

    @pytest.mark.parametrize(
        ("name", "message"),
        [("none", "directory not found: none"), ("number_tools.py", "not a directory: number_tools.py")],
    )
    def test_cl_5_the_directory_must_be_one(self, shell: Shell, name: str, message: str) -> None:
        assert shell("flows", "list", "--discover-dir", name) == Called(2, "", f"doubleweave: {message}\n")

    def test_cl_10_the_default_registry_is_listed_without_an_option(self, shell: Shell) -> None:
        registry = dw.FlowRegistry()
        set_default_registry(registry)
        assert shell("flows", "list") == Called(0, "(no flows discovered)\n", "")
        for name in ("b", "a"):
            registry.register_flow(dw.Flow(name=name, version="1", description="", steps=[]))
        called = shell("flows", "list", "-f", "json")
        assert [(row["name"], row["source"]) for row in json.loads(called.out)["data"]] == [
            ("a", "registry"),
            ("b", "registry"),
        ]
        assert "choice.flow.yaml" in shell("flows", "list", "--discover-dir", ".").out

    def test_the_flows_of_entry_points(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        plugin = (
            "from doubleweave import Flow\n\ndef flows():\n    return [Flow(name='offered', description='', steps=[])]"
        )
        shell.write("offering_plugin.py", plugin)
        shell.write("offering-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: offering\nVersion: 1.0\n")
        shell.write("offering-1.0.dist-info/entry_points.txt", "[doubleweave.flows]\nx = offering_plugin:flows\n")
        monkeypatch.syspath_prepend(str(shell.folder))
        called = shell("flows", "list", "--discover-entry-points", "-f", "json")
        assert json.loads(called.out)["data"] == [
            dict(zip(self.KEYS, ("offered", "0.1.0", "active", 0, "Flow", "entry-point"), strict=True))
        ]

    def test_cl_7_modules_named_in_flow_files_are_not_imported(self, shell: Shell) -> None:
        shell.write("spy.py", "open('imported', 'w').close()\n")
        head = "type: Flow\nname: spied\ndescription: ''\n"
        shell.write("spied.flow.yaml", f"{head}input_schema_ref: spy:X\ncontext_schema_ref: spy:X\nsteps: []\n")
        called = shell("flows", "list", "--discover-dir", ".")
        assert (called.code, "spied.flow.yaml" in called.out) == (0, True)
        assert not Path("imported").exists()


def test_bare_flows_prints_help() -> None:
    for arguments in (["flows"], ["flows", "--help"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0
        assert all(name in result.stdout for name in ("list", "promote", "ignore"))
        assert result.stderr == ""
    assert main(["flows"]) == 0


class TestPromote:
    def test_the_stage_and_the_review_are_written_and_all_else_stays(self, shell: Shell) -> None:
        path = shell.write("prices.flow.yaml", REVIEWABLE)
        options = ("--to", "reviewed", "--reviewed-by", "Ada: L", "--notes", "fine")
        called = shell("flows", "promote", "prices.flow.yaml", *options)
        assert called == Called(0, "prices.flow.yaml: prices v2.0: draft → reviewed\n", "")
        before = "  lifecycle: draft   # since May\n"
        after = "  lifecycle: reviewed   # since May\n  reviewed_by: 'Ada: L'\n  review_notes: fine\n"
        assert path.read_text() == REVIEWABLE.replace(before, after)
        assert governance_of(path) == dw.FlowGovernance(
            lifecycle=dw.FlowLifecycle.REVIEWED, owner="ada", reviewed_by="Ada: L", review_notes="fine"
        )

    def test_then_it_may_become_active(self, shell: Shell) -> None:
        path = shell.write("prices.flow.yaml", REVIEWABLE.replace("lifecycle: draft", "lifecycle: reviewed"))
        called = shell("flows", "promote", "prices.flow.yaml", "--to", "ACTIVE")
        assert called == Called(0, "prices.flow.yaml: prices v2.0: reviewed → active\n", "")
        assert path.read_text() == REVIEWABLE.replace("lifecycle: draft", "lifecycle: active")

    @pytest.mark.parametrize(
        ("text", "refusal"),
        [
            (REVIEWABLE, "cannot transition from 'draft' to 'active'; possible: 'reviewed', 'ignored'"),
            # A flow without governance is active.
            ("type: Flow\nname: prices\ndescription: ''\nsteps: []\n", "cannot transition from 'active' to 'active'"),
            ("type: Flow\nname: p\ndescription: ''\nsteps: []\ngovernance: {owner: a}\n", "cannot transition from"),
        ],
    )
    def test_a_refused_transition_is_exit_code_1_and_changes_nothing(
        self, shell: Shell, text: str, refusal: str
    ) -> None:
        path = shell.write("prices.flow.yaml", text)
        called = shell("flows", "promote", "prices.flow.yaml", "--to", "active", "--notes", "x")
        assert (called.code, called.out) == (1, "")
        assert called.err.startswith(f"doubleweave: prices.flow.yaml: {refusal}")
        assert path.read_text() == text

    @pytest.mark.parametrize("target", ["draft", "ignored", "archived", ""])
    def test_another_target_is_exit_code_2(self, shell: Shell, target: str) -> None:
        path = shell.write("prices.flow.yaml", REVIEWABLE)
        called = shell("flows", "promote", "prices.flow.yaml", "--to", target)
        assert (called.code, called.out) == (2, "")
        assert "--to" in called.err
        assert path.read_text() == REVIEWABLE
        assert CliRunner().invoke(app, ["flows", "promote", "prices.flow.yaml", "--to", target]).exit_code == 2

    @pytest.mark.parametrize(
        ("name", "code", "message"),
        [
            ("none.flow.yaml", 2, "doubleweave: file not found: none.flow.yaml\n"),
            ("folder.flow.yaml", 2, "doubleweave: not a file: folder.flow.yaml\n"),
            ("prices.yaml", 1, "doubleweave: [CW-E017] prices.yaml: Unrecognised file extension: "),
            ("bad.flow.yaml", 1, "doubleweave: [CW-E017] bad.flow.yaml: "),
        ],
    )
    def test_a_file_that_holds_no_flow(self, shell: Shell, name: str, code: int, message: str) -> None:
        (shell.folder / "folder.flow.yaml").mkdir()
        shell.write("prices.yaml", REVIEWABLE)
        shell.write("bad.flow.yaml", "- 1\n")
        for command in (("promote", name, "--to", "reviewed"), ("ignore", name)):
            called = shell("flows", *command)
            assert (called.code, called.out) == (code, "")
            assert called.err.startswith(message)

    def test_what_was_written_before_is_replaced(self, shell: Shell) -> None:
        notes = "  review_notes: |\n    slow\n\n    and wrong\n  reviewed_by: 'Bob\n    B.'  # last year\n"
        path = shell.write("prices.flow.yaml", REVIEWABLE.replace("  owner: ada\n", f"{notes}  owner: ada\n"))
        shell("flows", "promote", str(path), "--to", "reviewed", "--notes", "one\ntwo", "--reviewed-by", "Ada")
        new = '  review_notes: "one\\ntwo"\n  reviewed_by: Ada  # last year\n'
        assert path.read_text() == REVIEWABLE.replace("  owner: ada\n", f"{new}  owner: ada\n").replace(
            "lifecycle: draft", "lifecycle: reviewed"
        )
        assert governance_of(path).review_notes == "one\ntwo"

    def test_a_mapping_in_braces_stays_one(self, shell: Shell) -> None:
        head = "type: Flow\nname: p\ndescription: ''\nsteps: []\n"
        path = shell.write("p.flow.yml", f"{head}governance: {{owner: a, lifecycle: draft}} # x\n")
        shell("flows", "promote", "p.flow.yml", "--to", "reviewed", "--reviewed-by", "a, b")
        assert path.read_text() == f"{head}governance: {{owner: a, lifecycle: reviewed, reviewed_by: 'a, b'}} # x\n"

    def test_a_file_without_a_last_line_end_and_a_document_between_marks(self, shell: Shell) -> None:
        text = "---\ntype: Flow\nname: p\ndescription: ''\nsteps: []\ngovernance:\n    lifecycle: draft"
        path = shell.write("p.flow.yaml", text)
        shell("flows", "promote", "p.flow.yaml", "--to", "reviewed", "--notes", "yes")
        assert path.read_text() == text.replace("draft", "reviewed") + "\n    review_notes: 'yes'"
        shell.write("p.flow.yaml", f"{text}\n...\n")
        shell("flows", "promote", "p.flow.yaml", "--to", "reviewed", "--notes", "yes")
        assert path.read_text() == text.replace("draft", "reviewed") + "\n    review_notes: 'yes'\n...\n"

    @pytest.mark.skipif(os.linesep != "\n", reason="files are written with the line ends of the system")
    def test_line_ends_stay_what_they_are(self, shell: Shell) -> None:
        path = shell.folder / "prices.flow.yaml"
        path.write_bytes(REVIEWABLE.replace("\n", "\r\n").encode())
        assert shell("flows", "promote", str(path), "--to", "reviewed", "--notes", "x").code == 0
        before, after = "lifecycle: draft   # since May\n", "lifecycle: reviewed   # since May\n  review_notes: x\n"
        assert path.read_bytes() == REVIEWABLE.replace(before, after).replace("\n", "\r\n").encode()

    def test_a_flow_file_may_be_json(self, shell: Shell) -> None:
        flow = {"type": "Flow", "name": "käse", "description": "", "more": 1.50, "steps": []}
        path = shell.write(
            "p.flow.json", json.dumps({**flow, "governance": {"lifecycle": "draft"}}, ensure_ascii=False)
        )
        called = shell("flows", "promote", "p.flow.json", "--to", "reviewed", "--reviewed-by", "Ada")
        assert called == Called(0, "p.flow.json: käse v0.1.0: draft → reviewed\n", "")
        expected = {**flow, "governance": {"lifecycle": "reviewed", "reviewed_by": "Ada"}}
        assert path.read_text(encoding="utf-8") == json.dumps(expected, indent=2, ensure_ascii=False) + "\n"

    def test_what_cannot_be_changed_in_place_is_left_alone(self, shell: Shell) -> None:
        text = REVIEWABLE.replace("  lifecycle: draft   # since May\n", "  ? lifecycle\n  : >-\n    draft\n")
        path = shell.write("prices.flow.yaml", text)
        called = shell("flows", "promote", "prices.flow.yaml", "--to", "reviewed", "--notes", "x")
        assert called == Called(
            1,
            "",
            "doubleweave: prices.flow.yaml is not changed: write its governance as a plain mapping, a line for each key, "
            "and try again\n",
        )
        assert path.read_text() == text

    @pytest.mark.skipif(sys.platform == "win32", reason="there are no such modes")
    def test_the_file_keeps_its_mode_and_a_link_stays_a_link(self, shell: Shell) -> None:
        path = shell.write("kept/prices.flow.yaml", REVIEWABLE)
        path.chmod(0o640)
        link = shell.folder / "link.flow.yaml"
        link.symlink_to(path)
        assert shell("flows", "promote", "link.flow.yaml", "--to", "reviewed").code == 0
        assert (link.is_symlink(), stat.S_IMODE(path.stat().st_mode)) == (True, 0o640)
        assert governance_of(path).lifecycle is dw.FlowLifecycle.REVIEWED
        assert [each.name for each in path.parent.iterdir()] == ["prices.flow.yaml"]

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only for this user")
    def test_a_folder_that_cannot_be_written_is_exit_code_2(self, shell: Shell) -> None:
        path = shell.write("kept/prices.flow.yaml", REVIEWABLE)
        path.parent.chmod(0o500)
        try:
            called = shell("flows", "promote", str(path), "--to", "reviewed")
        finally:
            path.parent.chmod(0o700)
        assert called == Called(2, "", f"doubleweave: {path} cannot be written: Permission denied\n")

    def test_without_pyyaml_a_yaml_file_says_what_to_install(self, shell: Shell) -> None:
        shell.write("prices.flow.yaml", REVIEWABLE)
        program = """
            import sys
            sys.modules["yaml"] = None
            from doubleweave.cli import main
            sys.exit(main(["flows", "promote", "prices.flow.yaml", "--to", "reviewed"]))
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert 'pip install "doubleweave[yaml]"' in done.stderr


class TestIgnore:
    @pytest.mark.parametrize(
        ("arguments", "added"), [((), ""), (("--reason", "of no use"), "  review_notes: of no use\n")]
    )
    def test_the_reason_is_kept_as_a_note(self, shell: Shell, arguments: tuple[str, ...], added: str) -> None:
        path = shell.write("prices.flow.yaml", REVIEWABLE)
        called = shell("flows", "ignore", "prices.flow.yaml", *arguments)
        assert called == Called(0, "prices.flow.yaml: prices v2.0: draft → ignored\n", "")
        before = "  lifecycle: draft   # since May\n"
        assert path.read_text() == REVIEWABLE.replace(before, f"  lifecycle: ignored   # since May\n{added}")

    def test_a_flow_in_use_is_not_ignored(self, shell: Shell) -> None:
        called = shell("flows", "ignore", "numbers.flow.yaml")
        assert called == Called(
            1,
            "",
            "doubleweave: numbers.flow.yaml: cannot transition from 'active' to 'ignored'; possible: 'archived'\n",
        )


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
OTHER = st.fixed_dictionaries(
    {"lifecycle": st.just("draft")},
    optional={"owner": TEXT, "reviewed_by": TEXT, "review_notes": TEXT, "replaces_tools": st.lists(TEXT, max_size=2)},
)


@settings(deadline=None, max_examples=60)
@given(OTHER, st.booleans(), st.randoms(use_true_random=False), TEXT, TEXT)
def test_any_governance_and_any_text_is_written_as_it_is_meant(
    tmp_path_factory: pytest.TempPathFactory, before: dict[str, Any], in_braces: bool, chance: Any, who: str, notes: str
) -> None:
    import yaml

    keys = list(before)
    chance.shuffle(keys)
    governance = {"governance": {key: before[key] for key in keys}}
    head = "# first\ntype: Flow\nname: f\ndescription: ''\nsteps: []\n"
    written = yaml.safe_dump(governance, sort_keys=False, default_flow_style=in_braces)
    if in_braces:
        written = f"governance: {yaml.safe_dump(governance['governance'], sort_keys=False, default_flow_style=True)}"
    path = tmp_path_factory.mktemp("flows") / "f.flow.yaml"
    path.write_text(f"{head}{written}# last\n", encoding="utf-8")
    assert main(["flows", "promote", str(path), "--to", "reviewed", f"--reviewed-by={who}", f"--notes={notes}"]) == 0
    expected = {**before, "lifecycle": "reviewed", "reviewed_by": who, "review_notes": notes}
    text = path.read_text(encoding="utf-8")
    assert governance_of(path) == dw.FlowGovernance.model_validate(expected)
    assert text.startswith(head)
    assert text.endswith("# last\n")
