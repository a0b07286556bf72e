"""A flow described in Markdown, and Markdown without its marks. Nothing in it depends on the time or the machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import doubleweave as dw
from doubleweave.cli.text import printable

if TYPE_CHECKING:
    from doubleweave.models.flows import AnyFlow


def explanation(flow: AnyFlow, result: dw.ExecutionResult | None = None) -> list[str]:
    """Return the lines that describe a flow, and what its steps did in a run if there is one."""
    properties = [
        ("Type", type(flow).__name__),
        ("Version", flow.version),
        ("Deterministic", "yes" if flow.deterministic else "no"),
        ("Status", flow.status.value),
        ("Steps", str(len(flow.steps))),
    ]
    lines = [f"# Flow: {_line(flow.name)}", "", printable(flow.description), ""]
    lines += [*_table(("Property", "Value"), properties), ""]
    lines += ["## Governance", "", *_governance(flow.governance), ""]
    lines += ["## Safety", "", *_safety(flow.safety), ""]
    lines += ["## Steps", "", *_steps(flow), ""]
    lines += ["## Diagram", "", *_fence(dw.flow_to_mermaid(flow))]
    if result is not None:
        lines += ["", "## Execution outcome", "", *_outcome(result)]
    return lines


def plain(lines: Iterable[str]) -> Iterator[str]:
    """Yield Markdown lines without fences, rules of tables, the pipes of their rows and the hashes of headings."""
    in_fence = False
    for line in lines:
        if line.startswith("```"):
            in_fence = not in_fence
        elif in_fence:
            yield line
        elif line.startswith("#"):
            yield line.lstrip("#").strip()
        elif not line.startswith("|"):
            yield line
        elif not set(line) <= set("|- "):
            yield "  ".join(_cells(line))


def _cells(row: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row[1:-1])]


def _governance(governance: dw.FlowGovernance) -> Iterator[str]:
    yield f"- Lifecycle: {governance.lifecycle.value}"
    yield f"- Owner: {_line(governance.owner or '(none)')}"
    if governance.replaces_tools:
        yield f"- Replaces tools: {', '.join(_code(name) for name in governance.replaces_tools)}"
    if governance.estimated_model_calls_removed:
        yield f"- Model calls removed (estimate): {governance.estimated_model_calls_removed}"
    if governance.estimated_token_savings is not None:
        yield f"- Tokens saved (estimate): {governance.estimated_token_savings}"
    if governance.reviewed_by is not None:
        yield f"- Reviewed by: {_line(governance.reviewed_by)}"
    if governance.review_notes is not None:
        yield f"- Review notes: {_line(governance.review_notes)}"


def _safety(contract: dw.ToolSafetyContract | None) -> Iterator[str]:
    if contract is None:
        yield "The flow has no safety contract."
        return
    yield f"- Side effects: {contract.side_effects.value}"
    yield f"- Stability: {contract.stability.value}"
    yield f"- Determinism: {contract.determinism_level.value}"
    for name in ("read_only", "idempotent", "cacheable", "safe_to_retry", "supports_dry_run", "requires_approval"):
        yield f"- {name.replace('_', ' ').capitalize()}: {'yes' if getattr(contract, name) else 'no'}"
    if contract.approval_reason is not None:
        yield f"- Approval reason: {_line(contract.approval_reason)}"


def _steps(flow: AnyFlow) -> Iterator[str]:
    if not flow.steps:
        yield "(no steps)"
    for number, step in enumerate(flow.steps, 1):
        kind = "" if step.flow_name is None else "flow "
        name = f"{kind}{_code(step.display_name)}"
        yield f"{number}. {f'**{_line(step.step_id)}**: {name}' if isinstance(step, dw.DAGFlowStep) else name}"
        yield from (f"   - {fact}" for fact in _facts(step))


def _facts(step: dw.FlowStep) -> Iterator[str]:
    if step.input_mapping:
        yield from (_code(f"{key} ← {_source(source)}") for key, source in step.input_mapping.items())
    else:
        yield "The full context is passed."
    if step.output_mapping is not None:
        yield from (f"Output {_code(f'{key} ← {source}')}" for key, source in step.output_mapping.items())
    if step.decision_candidates:
        yield f"Decided among: {', '.join(_code(name) for name in step.decision_candidates)}"
    if step.retry is not None:
        yield f"Retries: {step.retry.max_retries}"
    yield f"On error: {_line(step.on_error)}"
    for kind, ref in (("Input", step.input_contract), ("Output", step.output_contract)):
        if ref is not None:
            yield f"{kind} contract: {_code(ref)}"
    if isinstance(step, dw.DAGFlowStep):
        yield f"Depends on: {', '.join(_line(name) for name in step.depends_on) or '(none)'}"
        yield from (f"Branch: if {_code(edge.predicate)} → {_line(edge.target_step_id)}" for edge in step.branches)
        if step.default_next is not None:
            yield f"Default next: {_line(step.default_next)}"


def _source(source: object) -> str:
    return source if isinstance(source, str) else json.dumps(source, ensure_ascii=False, default=str)


def _outcome(result: dw.ExecutionResult) -> list[str]:
    rows = [
        (
            str(record.step_index),
            record.tool_name,
            "ok" if record.success else "ERROR",
            f"{record.duration_ms:.1f}",
        )
        for record in result.execution_log
    ]
    return [*_table(("Step", "Tool", "Status", "Duration (ms)"), rows), "", *_fence(dw.result_to_mermaid(result))]


def _table(headers: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    rule = "|".join(["", *("---" for _ in headers), ""])
    return [_row(headers), rule, *(_row(row) for row in rows)]


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(_line(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _fence(text: str) -> list[str]:
    return ["```mermaid", *text.splitlines(), "```"]


def _line(text: str) -> str:
    """Return a text on one line."""
    return printable(text).replace("\n", " ")


def _code(text: str) -> str:
    """Return a text as code, whatever backticks it has."""
    line = _line(text)
    marks = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    return f"`{line}`" if marks == "`" else f"{marks} {line} {marks}"
