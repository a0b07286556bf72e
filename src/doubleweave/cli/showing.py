"""The commands that show a flow: `inspect`, `viz` and `explain`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import doubleweave as dw
from doubleweave.cli import options
from doubleweave.cli.sources import Places, read_trace, write_output
from doubleweave.cli.text import Format, emit_envelope, fail, print_table, say

if TYPE_CHECKING:
    from doubleweave.models.flows import AnyFlow

Result = Annotated[Path | None, typer.Option("--result", metavar="TRACE", help="The JSON of an execution result.")]


class Drawing(str, Enum):
    """How a flow is drawn."""

    ASCII = "ascii"
    DOT = "dot"
    MERMAID = "mermaid"
    SVG = "svg"


class Prose(str, Enum):
    """How a flow is described."""

    MD = "md"
    TEXT = "text"


def inspect(
    flow_name: options.FlowName,
    format_: options.Formatted = Format.TABLE,
    file: options.File = None,
    discover_dir: options.DiscoverDir = None,
    discover_entry_points: options.DiscoverEntryPoints = False,
) -> None:
    """List the steps of a flow, what each is given and what it waits for."""
    flow = Places(file, discover_dir, discover_entry_points).flow(flow_name)
    data = _summary(flow)
    if format_ is Format.JSON:
        emit_envelope(data)
    else:
        _say_summary(flow, data)


def viz(
    flow_name: Annotated[str | None, typer.Argument(metavar="[FLOW_NAME]", help="The name of a flow.")] = None,
    format_: Annotated[
        Drawing, typer.Option("--format", "-f", case_sensitive=False, help="What to draw.")
    ] = Drawing.ASCII,
    result: Result = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PATH", help="Write it to this file.")
    ] = None,
    file: options.File = None,
    discover_dir: options.DiscoverDir = None,
    discover_entry_points: options.DiscoverEntryPoints = False,
) -> None:
    """Draw a flow, and with --result what its steps did in a run.

    Without a name, --result draws the steps of the run in their order, as mermaid.
    """
    if flow_name is None:
        text = _drawing_of_result(format_, result)
    else:
        flow = Places(file, discover_dir, discover_entry_points).flow(flow_name)
        text = _drawing(flow, format_, None if result is None else _result_of(flow, result))
    if output is None:
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        write_output(output, text if text.endswith("\n") else f"{text}\n")


def explain(
    flow_name: options.FlowName,
    format_: Annotated[
        Prose, typer.Option("--format", "-f", case_sensitive=False, help="Markdown, or plain text.")
    ] = Prose.MD,
    result: Result = None,
    file: options.File = None,
    discover_dir: options.DiscoverDir = None,
    discover_entry_points: options.DiscoverEntryPoints = False,
) -> None:
    """Describe a flow for readers, and with --result what its steps did in a run."""
    from doubleweave.cli.prose import explanation, plain

    flow = Places(file, discover_dir, discover_entry_points).flow(flow_name)
    lines = explanation(flow, None if result is None else _result_of(flow, result))
    say("\n".join(lines if format_ is Prose.MD else plain(lines)))


def _summary(flow: AnyFlow) -> dict[str, Any]:
    return {
        "name": flow.name,
        "description": flow.description,
        "deterministic": flow.deterministic,
        "type": type(flow).__name__,
        "step_count": len(flow.steps),
        "steps": [_step_summary(index, step) for index, step in enumerate(flow.steps)],
    }


def _step_summary(index: int, step: dw.FlowStep) -> dict[str, Any]:
    given = {"tool_name": step.tool_name, "input_mapping": step.input_mapping}
    if step.flow_name is not None:
        given["flow_name"] = step.flow_name
    if isinstance(step, dw.DAGFlowStep):
        return {"step_id": step.step_id, **given, "depends_on": step.depends_on, "step_type": step.step_type}
    return {"index": index, **given, "on_error": step.on_error}


def _say_summary(flow: AnyFlow, data: dict[str, Any]) -> None:
    import json

    say(f"{flow.name} v{flow.version} [{data['type']}]")
    say(flow.description)
    say(f"deterministic: {str(flow.deterministic).lower()}  ·  steps: {len(flow.steps)}")
    if not flow.steps:
        say("(no steps)")
        return
    names = [step.display_name if step.flow_name is None else f"{step.display_name} (flow)" for step in flow.steps]
    inputs = [json.dumps(step.input_mapping, ensure_ascii=False, default=str) for step in flow.steps]
    if isinstance(flow, dw.DAGFlow):
        print_table(
            ("step_id", "tool", "depends_on", "type", "input_mapping"),
            [
                (step.step_id, name, ", ".join(step.depends_on) or "-", step.step_type, mapping)
                for step, name, mapping in zip(flow.steps, names, inputs, strict=True)
            ],
        )
        return
    print_table(
        ("index", "tool", "on_error", "input_mapping"),
        [
            (index, name, step.on_error, mapping)
            for index, (step, name, mapping) in enumerate(zip(flow.steps, names, inputs, strict=True))
        ],
    )


def _drawing_of_result(format_: Drawing, result: Path | None) -> str:
    if result is None:
        fail("provide a FLOW_NAME, or --result TRACE with --format mermaid", 2)
    if format_ is not Drawing.MERMAID:
        fail("--result without a FLOW_NAME is only available with --format mermaid", 2)
    return dw.result_to_mermaid(read_trace(result))


def _drawing(flow: AnyFlow, format_: Drawing, result: dw.ExecutionResult | None) -> str:
    draw = {
        Drawing.ASCII: "flow_to_ascii",
        Drawing.DOT: "flow_to_dot",
        Drawing.MERMAID: "flow_to_mermaid",
        Drawing.SVG: "flow_to_svg",
    }[format_]
    drawn: str = getattr(dw, draw)(flow, result=result)
    return drawn


def _result_of(flow: AnyFlow, path: Path) -> dw.ExecutionResult:
    result = read_trace(path)
    if result.flow_name != flow.name:
        fail(f"{path} is a run of flow '{result.flow_name}', not of '{flow.name}'")
    return result
