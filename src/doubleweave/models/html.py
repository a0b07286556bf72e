"""Flows, results and records as pieces of HTML, for notebooks: no scripts, nothing from elsewhere."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import islice
from reprlib import Repr
from typing import Any

from doubleweave.models.flows import AnyFlow
from doubleweave.models.labels import cut, kind_of, visible
from doubleweave.models.outcomes import MARKS, kind_of_record, milliseconds, outcome_name
from doubleweave.models.records import ExecutionResult, StepRecord
from doubleweave.models.redaction import RedactionPolicy
from doubleweave.models.steps import DAGFlowStep, FlowStep
from doubleweave.models.svg import flow_to_svg

MOST_ROWS = 200
_MOST_DRAWN = 300
_LONGEST_CELL = 160
_LONGEST_VALUE = 600
_POLICY = RedactionPolicy()

# A style inside a cell is one of the whole notebook, so that each rule is held to what is shown here.
_STYLE = (
    ".dw-html{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;font-size:13px}"
    ".dw-html .dw-wide{overflow-x:auto;margin:6px 0}"
    ".dw-html table{border-collapse:collapse;margin:6px 0;font-size:13px}"
    ".dw-html th,.dw-html td{text-align:left;vertical-align:top;padding:3px 10px;border-bottom:1px solid #8885;"
    "max-width:36em;overflow-wrap:break-word}"
    ".dw-html td.dw-number{text-align:right;font-variant-numeric:tabular-nums}"
    ".dw-html code{font-size:12px;background:none}"
    ".dw-html .dw-failed{color:#d64545;font-weight:600}"
)


def flow_to_html(flow: AnyFlow) -> str:
    """Return a flow as HTML: its picture, unless it has too many steps for one, and a table of its first steps."""
    count = len(flow.steps)
    if count <= _MOST_DRAWN:
        picture = f'<div class="dw-wide">{flow_to_svg(flow)}</div>'
    else:
        words = f"{visible(flow.name)} {visible(flow.version)}: {count} steps, too many for a picture here; to_svg() makes one"
        picture = f"<p>{escape(words)}</p>"
    head = ["step", "runs", "kind", "after", "if it fails"]
    rows = (_row(_step_cells(number, step)) for number, step in enumerate(flow.steps))
    return _piece([picture, *_table(head, rows, count)])


def result_to_html(result: ExecutionResult) -> str:
    """Return a result as HTML: how the run ended, a table of its first records, and its output.

    What stands under the usual names of secrets is masked, and long values are cut. The steps of a sub-flow are listed below
    the step that ran it.
    """
    ended = "✓ succeeded" if result.success else "✗ failed"
    style = "" if result.success else ' class="dw-failed"'
    title = f"{visible(result.flow_name)} {visible(result.flow_version)}"
    dry = ", dry run" if result.dry_run else ""
    words = f"in {milliseconds(result.total_duration_ms)}{dry} · trace {visible(result.trace_id)}"
    heading = f"<p><strong>{escape(title)}</strong> <span{style}>{ended}</span> {escape(words)}</p>"
    return _piece([heading, *_record_table(result.execution_log), _output(result)])


def record_to_html(record: StepRecord) -> str:
    """Return a record as HTML: a table of it and of the steps of its sub-flow. Secrets are masked, and long values cut."""
    return _piece(_record_table([record]))


def _piece(parts: Iterable[str]) -> str:
    return f'<div class="dw-html"><style>{_STYLE}</style>{"".join(parts)}</div>'


def _table(head: Sequence[str], rows: Iterator[str], count: int) -> Iterator[str]:
    """Yield a table of the first of so many rows."""
    yield f"<table><thead><tr>{''.join(f'<th>{each}</th>' for each in head)}</tr></thead><tbody>"
    yield from islice(rows, MOST_ROWS)
    yield "</tbody></table>"
    if count > MOST_ROWS:
        yield f"<p>… and {count - MOST_ROWS} more</p>"


def _row(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _cell(text: str, style: str = "") -> str:
    start = f'<td class="{style}">' if style else "<td>"
    return f"{start}{escape(cut(visible(text), _LONGEST_CELL))}</td>"


def _step_cells(number: int, step: FlowStep) -> list[str]:
    name, after = (step.step_id, step.depends_on) if isinstance(step, DAGFlowStep) else (str(number), [])
    handling = [] if step.on_error == "fail" else [step.on_error]
    if step.retry is not None and step.retry.max_retries:
        handling.insert(0, f"up to {step.retry.max_retries} retries")
    return [
        _cell(name),
        _cell(step.display_name),
        _cell(kind_of(step) or "tool"),
        _cell(", ".join(after)),
        _cell(", then ".join(handling)),
    ]


def _record_table(log: Sequence[StepRecord]) -> Iterator[str]:
    head = ["step", "tool", "outcome", "ms", "retries", "error", "input", "output"]
    rows = (_row(_record_cells(number, record)) for number, record in _numbered(log))
    return _table(head, rows, _count(log))


def _count(log: Sequence[StepRecord]) -> int:
    return len(log) + sum(_count(record.sub_result.execution_log) for record in log if record.sub_result is not None)


def _numbered(log: Iterable[StepRecord], above: str = "") -> Iterator[tuple[str, StepRecord]]:
    for record in log:
        number = f"{above}{record.step_index}"
        yield number, record
        if record.sub_result is not None:
            yield from _numbered(record.sub_result.execution_log, f"{number}.")


def _record_cells(number: str, record: StepRecord) -> list[str]:
    kind = kind_of_record(record)
    error = f"{record.error_type}: {record.error_message}" if record.error_type is not None else ""
    words = kind if kind in ("failed", "skipped") else outcome_name(record, kind) or kind
    return [
        _cell(number),
        _cell(record.tool_name),
        _cell(f"{MARKS[kind]}{words}", "dw-failed" if kind == "failed" else ""),
        _cell(f"{record.duration_ms:.1f}", "dw-number"),
        _cell(str(record.retry_count or ""), "dw-number"),
        _cell(_POLICY.redact_text(error)),
        _values_cell(record.inputs),
        _values_cell(record.outputs),
    ]


def _values_cell(values: dict[str, Any] | None) -> str:
    return "<td></td>" if values is None else f"<td>{_code(_POLICY.redact(values), _LONGEST_CELL)}</td>"


def _output(result: ExecutionResult) -> str:
    if result.final_output is None:
        return "<p>no output</p>"
    values = _POLICY.redact(result.final_output)
    rows = (_row([_cell(str(key)), f"<td>{_code(value, _LONGEST_VALUE)}</td>"]) for key, value in values.items())
    return "".join(_table(["key", "output"], rows, len(values)))


def _code(value: Any, longest: int) -> str:
    return f"<code>{escape(cut(visible(_brief(longest).repr(value)), longest))}</code>"


def _brief(longest: int) -> Repr:
    """Return what writes out a value, but of a large one only as much as will be shown, whatever its own `repr` does."""
    brief = Repr()
    brief.maxstring = brief.maxother = brief.maxlong = longest
    brief.maxlevel = 5
    brief.maxdict = brief.maxlist = brief.maxtuple = brief.maxset = brief.maxfrozenset = brief.maxdeque = 20
    return brief
