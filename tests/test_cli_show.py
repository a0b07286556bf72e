"""The commands that show a flow."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cli_under_test import DAG, LINEAR, Called, Shell
from doubleweave import (
    ExecutionResult,
    FlowExecutor,
    FlowRegistry,
    flow_from_yaml,
    flow_to_ascii,
    flow_to_dot,
    flow_to_mermaid,
    flow_to_svg,
    result_to_mermaid,
)
from doubleweave.cli import _import_tools_from, get_default_registry, set_default_registry

pytest_plugins = ["cli_under_test"]
FOUND = ("--file", "choice.flow.yaml")
Run = Callable[[FlowExecutor, str], Awaitable[ExecutionResult]]


async def blocking(executor: FlowExecutor, name: str) -> ExecutionResult:
    return executor.execute_flow(name, {"value": 2})


async def awaited(executor: FlowExecutor, name: str) -> ExecutionResult:
    return await executor.execute_flow_async(name, {"value": 2})


@pytest.fixture(params=[blocking, awaited], ids=["sync", "async"])
async def trace(shell: Shell, request: pytest.FixtureRequest) -> ExecutionResult:
    """Return a run of the flow `choice`, whose trace is in the file t.json."""
    registry = FlowRegistry()
    registry.register_flow(flow_from_yaml(DAG))
    executor = FlowExecutor(registry)
    for tool in _import_tools_from("number_tools"):
        executor.register_tool(tool)
    result: ExecutionResult = await request.param(executor, "choice")
    shell.write("t.json", result.model_dump_json())
    return result


class TestPlaces:
    """3."""

    def test_ds_2_the_latest_version_is_used(self, shell: Shell) -> None:
        for version in ("1.10.0", "1.9.0"):
            shell.write(f"v{version}.flow.yaml", LINEAR.replace("1.2.0", version))
        assert shell("inspect", "numbers", "--discover-dir", ".").out.startswith("numbers v1.10.0 [Flow]\n")

    def test_ds_2_only_the_first_option_counts(self, shell: Shell) -> None:
        called = shell("inspect", "numbers", *FOUND, "--discover-dir", ".", "--discover-entry-points")
        assert called == Called(
            1, "", "doubleweave: flow 'numbers' not found by --file choice.flow.yaml; found: choice\n"
        )
        called = shell("inspect", "gone", "--discover-dir", ".", "--discover-entry-points")
        assert called.err == "doubleweave: flow 'gone' not found by --discover-dir .; found: choice, failing, numbers\n"

    def test_ds_3_malformed_files_of_a_directory_are_skipped(self, shell: Shell) -> None:
        shell.write("deep/broken.flow.json", "{")
        called = shell("inspect", "numbers", "--discover-dir", ".")
        assert called.code == 0
        assert called.err.startswith("doubleweave: skipping deep/broken.flow.json: Invalid JSON")

    def test_ds_3_a_malformed_file_is_exit_1(self, shell: Shell) -> None:
        shell.write("broken.flow.json", "{")
        called = shell("inspect", "numbers", "--file", "broken.flow.json")
        assert (called.code, called.out) == (1, "")
        assert "Invalid JSON" in called.err

    def test_ds_4_nothing_found_is_told(self, shell: Shell) -> None:
        (shell.folder / "empty").mkdir()
        assert [
            shell("viz", "gone", "--discover-dir", "empty"),
            shell("explain", "gone", "--discover-entry-points"),
            shell("viz", "gone", "--discover-dir", "nowhere"),
            shell("viz", "gone", "--file", "nowhere.flow.yaml"),
        ] == [
            Called(1, "", "doubleweave: flow 'gone' not found by --discover-dir empty; found: (none found)\n"),
            Called(1, "", "doubleweave: flow 'gone' not found by --discover-entry-points; found: (none found)\n"),
            Called(2, "", "doubleweave: directory not found: nowhere\n"),
            Called(2, "", "doubleweave: file not found: nowhere.flow.yaml\n"),
        ]

    def test_cl_10_the_default_registry_is_looked_in(self, shell: Shell) -> None:
        without = shell("inspect", "numbers")
        assert without.code == 1
        assert without.err.startswith("doubleweave: No registry configured")
        registry = FlowRegistry()
        registry.register_flow(flow_from_yaml(LINEAR))
        set_default_registry(registry)
        assert get_default_registry() is registry
        assert shell("inspect", "numbers").out.startswith("numbers v1.2.0 [Flow]\n")
        assert shell("inspect", "gone") == Called(1, "", "doubleweave: [CW-E002] Flow 'gone' is not registered.\n")


class TestInspect:
    """4.6."""

    def test_the_table_of_a_linear_flow(self, shell: Shell) -> None:
        assert shell("inspect", "numbers", "--file", "numbers.flow.yaml") == Called(
            0,
            "numbers v1.2.0 [Flow]\n"
            "Doubles and increases\n"
            "deterministic: true  ·  steps: 2\n"
            "index  tool      on_error  input_mapping\n"
            "    0  double    fail      {}\n"
            '    1  increase  fail      {"value": "value"}\n',
            "",
        )

    def test_the_table_of_a_dag_has_step_ids(self, shell: Shell) -> None:
        assert shell("inspect", "choice", *FOUND).out.splitlines()[3:] == [
            "step_id  tool      depends_on  type  input_mapping",
            "first    double    -           tool  {}",
            "big      increase  first       tool  {}",
            "small    refuse    first       tool  {}",
        ]

    @pytest.mark.parametrize(("kind", "more"), [("Flow", ""), ("DAGFlow", "step_id: a, ")])
    def test_a_sub_flow_step_shows_its_flow(self, shell: Shell, kind: str, more: str) -> None:
        text = f"type: {kind}\nname: o\nversion: '1'\ndescription: ''\nsteps: [{{{more}flow_name: numbers}}]\n"
        shell.write("o.flow.yaml", text)
        table = shell("inspect", "o", "--file", "o.flow.yaml").out
        assert "numbers (flow)" in table
        [step] = json.loads(shell("inspect", "o", "--file", "o.flow.yaml", "-f", "json").out)["data"]["steps"]
        assert (step["tool_name"], step["flow_name"]) == (None, "numbers")

    def test_no_steps(self, shell: Shell) -> None:
        shell.write("o.flow.yaml", "type: Flow\nname: o\ndescription: ''\nsteps: []\n")
        assert shell("inspect", "o", "--file", "o.flow.yaml").out.splitlines()[-1] == "(no steps)"

    def test_json(self, shell: Shell) -> None:
        linear = json.loads(shell("inspect", "numbers", "--file", "numbers.flow.yaml", "-f", "json").out)
        assert linear == {
            "schema_version": "1",
            "status": "ok",
            "data": {
                "name": "numbers",
                "description": "Doubles and increases",
                "deterministic": True,
                "type": "Flow",
                "step_count": 2,
                "steps": [
                    {"index": 0, "tool_name": "double", "input_mapping": {}, "on_error": "fail"},
                    {"index": 1, "tool_name": "increase", "input_mapping": {"value": "value"}, "on_error": "fail"},
                ],
            },
            "errors": [],
        }
        dag = json.loads(shell("inspect", "choice", *FOUND, "-f", "json").out)["data"]
        assert dag["steps"][1] == {
            "step_id": "big",
            "tool_name": "increase",
            "input_mapping": {},
            "depends_on": ["first"],
            "step_type": "tool",
        }

    def test_what_would_steer_a_terminal_is_written_out(self, shell: Shell) -> None:
        shell.write("o.flow.json", json.dumps({"type": "Flow", "name": "o", "description": "\x1b[2Jx", "steps": []}))
        assert "\\x1b[2Jx" in shell("inspect", "o", "--file", "o.flow.json").out


class TestViz:
    """4.7."""

    @pytest.mark.parametrize(
        ("form", "draw"),
        [("ascii", flow_to_ascii), ("dot", flow_to_dot), ("mermaid", flow_to_mermaid), ("svg", flow_to_svg)],
    )
    def test_the_text_of_the_function_is_printed(self, shell: Shell, form: str, draw: Callable[..., str]) -> None:
        drawn = draw(flow_from_yaml(DAG))
        assert shell("viz", "choice", *FOUND, "--format", form.upper()) == Called(0, drawn.rstrip("\n") + "\n", "")
        assert shell("viz", "choice", *FOUND, "-f", form, "-o", f"p/x.{form}") == Called(0, "", "")
        assert Path("p", f"x.{form}").read_text() == drawn.rstrip("\n") + "\n"

    def test_ascii_is_the_default(self, shell: Shell) -> None:
        assert shell("viz", "numbers", "--file", "numbers.flow.yaml").out == "[double] → [increase]\n"

    @pytest.mark.parametrize(
        ("form", "draw"),
        [("ascii", flow_to_ascii), ("dot", flow_to_dot), ("mermaid", flow_to_mermaid), ("svg", flow_to_svg)],
    )
    def test_a_result_is_drawn_into_its_flow(
        self, shell: Shell, trace: ExecutionResult, form: str, draw: Callable[..., str]
    ) -> None:
        called = shell("viz", "choice", *FOUND, "-f", form, "--result", "t.json")
        assert called == Called(0, draw(flow_from_yaml(DAG), result=trace).rstrip("\n") + "\n", "")

    def test_a_result_alone_is_drawn_as_mermaid(self, shell: Shell, trace: ExecutionResult) -> None:
        assert shell("viz", "--result", "t.json", "-f", "mermaid") == Called(0, result_to_mermaid(trace) + "\n", "")

    def test_a_result_alone_has_no_other_form(self, shell: Shell, trace: ExecutionResult) -> None:
        for form in ("ascii", "dot", "svg"):
            called = shell("viz", "--result", "t.json", "-f", form)
            assert (called.code, called.out) == (2, "")
            assert "only available with --format mermaid" in called.err

    def test_a_name_or_a_result_is_needed(self, shell: Shell) -> None:
        called = shell("viz")
        assert called.code == 2
        assert called.err.startswith("doubleweave: provide a FLOW_NAME")

    def test_a_result_of_another_flow_is_refused(self, shell: Shell, trace: ExecutionResult) -> None:
        assert shell("viz", "numbers", "--file", "numbers.flow.yaml", "--result", "t.json") == Called(
            1, "", "doubleweave: t.json is a run of flow 'choice', not of 'numbers'\n"
        )

    def test_ds_8_a_trace_that_is_none(self, shell: Shell) -> None:
        shell.write("no.json", '{"flow_name": 3}')
        shell.write("bad.json", "{")
        called = shell("viz", "--result", "no.json", "-f", "mermaid")
        assert called == Called(
            1, "", "doubleweave: malformed trace file no.json: flow_name: Input should be a valid string\n"
        )
        assert shell("viz", "--result", "bad.json", "-f", "mermaid").err.startswith(
            "doubleweave: malformed trace file bad.json: Invalid JSON"
        )
        assert shell("viz", "--result", "gone.json", "-f", "mermaid") == Called(
            2, "", "doubleweave: file not found: gone.json\n"
        )


EXPLAINED = """# Flow: choice

Chooses

| Property | Value |
|---|---|
| Type | DAGFlow |
| Version | 1.0 |
| Deterministic | yes |
| Status | active |
| Steps | 3 |

## Governance

- Lifecycle: active
- Owner: (none)

## Safety

The flow has no safety contract.

## Steps

1. **first**: `double`
   - The full context is passed.
   - On error: fail
   - Depends on: (none)
   - Branch: if `value > 10` → big
   - Default next: small
2. **big**: `increase`
   - The full context is passed.
   - On error: fail
   - Depends on: first
3. **small**: `refuse`
   - The full context is passed.
   - On error: skip
   - Depends on: first

## Diagram

```mermaid
{drawing}
```
"""
RICH = """
type: Flow
name: rich
description: Has everything
safety: {side_effects: write, requires_approval: true, approval_reason: costs | money}
governance:
  lifecycle: reviewed
  owner: us
  replaces_tools: [old]
  estimated_model_calls_removed: 3
  estimated_token_savings: 9
  reviewed_by: her
  review_notes: fine
steps:
  - tool_name: "a`b"
    input_mapping: {x: y, n: 3}
    output_mapping: {kept: given}
    input_contract: "m:I"
    output_contract: "m:O"
    retry: {max_retries: 2}
    decision_candidates: ["a`b", c]
    on_error: "fallback:c"
  - flow_name: numbers
"""


class TestExplain:
    """4.8."""

    def test_the_sections_stand_in_order(self, shell: Shell) -> None:
        drawing = flow_to_mermaid(flow_from_yaml(DAG))
        assert shell("explain", "choice", *FOUND) == Called(0, EXPLAINED.replace("{drawing}", drawing), "")

    def test_everything_that_a_flow_may_have(self, shell: Shell) -> None:
        shell.write("rich.flow.yaml", RICH)
        text = shell("explain", "rich", "--file", "rich.flow.yaml").out
        for part in [
            "- Lifecycle: reviewed\n- Owner: us\n- Replaces tools: `old`\n- Model calls removed (estimate): 3\n"
            "- Tokens saved (estimate): 9\n- Reviewed by: her\n- Review notes: fine\n",
            "- Side effects: write\n- Stability: stable\n- Determinism: full\n- Read only: no\n- Idempotent: yes\n"
            "- Cacheable: yes\n- Safe to retry: yes\n- Supports dry run: no\n- Requires approval: yes\n"
            "- Approval reason: costs | money\n",
            "1. `` a`b ``\n   - `x ← y`\n   - `n ← 3`\n   - Output `kept ← given`\n   - Decided among: `` a`b ``, `c`\n"
            "   - Retries: 2\n   - On error: fallback:c\n   - Input contract: `m:I`\n   - Output contract: `m:O`\n"
            "2. flow `numbers`\n   - The full context is passed.\n   - On error: fail\n",
        ]:
            assert part in text

    def test_text_is_markdown_without_its_marks(self, shell: Shell) -> None:
        lines = shell("explain", "choice", *FOUND, "-f", "text").out.splitlines()
        assert lines[:9] == [
            "Flow: choice",
            "",
            "Chooses",
            "",
            "Property  Value",
            "Type  DAGFlow",
            "Version  1.0",
            "Deterministic  yes",
            "Status  active",
        ]
        drawing = flow_to_mermaid(flow_from_yaml(DAG)).splitlines()
        assert lines[-len(drawing) - 2 :] == ["Diagram", "", *drawing]
        assert not [line for line in lines if line.startswith(("#", "|", "```"))]

    def test_a_result_adds_its_outcome(self, shell: Shell, trace: ExecutionResult) -> None:
        text = shell("explain", "choice", *FOUND, "--result", "t.json").out
        first, small = trace.execution_log[0], trace.execution_log[-1]
        _, outcome = text.split("## Execution outcome\n\n")
        assert outcome.startswith(
            "| Step | Tool | Status | Duration (ms) |\n|---|---|---|---|\n"
            f"| 0 | double | ok | {first.duration_ms:.1f} |\n"
        )
        assert f"| 2 | refuse | ok | {small.duration_ms:.1f} |\n" in outcome
        assert outcome.endswith(f"\n```mermaid\n{result_to_mermaid(trace)}\n```\n")

    def test_a_failed_step_is_an_error(self, shell: Shell, trace: ExecutionResult) -> None:
        record = trace.execution_log[0].model_copy(update={"success": False, "duration_ms": 5.0})
        shell.write("f.json", trace.model_copy(update={"execution_log": [record]}).model_dump_json())
        assert "| 0 | double | ERROR | 5.0 |\n" in shell("explain", "choice", *FOUND, "--result", "f.json").out

    def test_the_same_flow_is_described_in_the_same_way(self, shell: Shell) -> None:
        assert shell("explain", "choice", *FOUND) == shell("explain", "choice", *FOUND)

    def test_pipes_in_names_stay_in_their_cells(self, shell: Shell) -> None:
        flow = {"type": "Flow", "name": "o", "version": "1|2", "description": "", "steps": []}
        shell.write("o.flow.json", json.dumps(flow))
        assert "| Version | 1\\|2 |\n" in shell("explain", "o", "--file", "o.flow.json").out
        assert "Version  1|2\n" in shell("explain", "o", "--file", "o.flow.json", "-f", "text").out
