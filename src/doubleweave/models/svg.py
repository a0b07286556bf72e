"""Flows and results as pictures: SVG without scripts, fonts or anything else from elsewhere. Places come from `layout`."""

from collections import Counter
from collections.abc import Iterator
from html import escape
from itertools import pairwise

from doubleweave.models.drawing import COLOURS
from doubleweave.models.flows import AnyFlow
from doubleweave.models.labels import OTHERWISE, columns_of, cut, kind_of, second_line, visible
from doubleweave.models.layout import LABEL_COLUMNS, Box, Layout, Point, Route, lay_out
from doubleweave.models.outcomes import Outcome, OutcomeKind, is_taken, milliseconds, outcomes_of
from doubleweave.models.records import ExecutionResult
from doubleweave.models.redaction import RedactionPolicy
from doubleweave.models.steps import DAGFlowStep, FlowStep

_HEADER = 52
_TOLD = 20
_LONGEST = 300
_NAME_PX, _SMALL_PX, _TITLE_PX = 8, 6.6, 9

# What `COLOURS` are where it is light, with the lightness the other way round.
_DARK: dict[OutcomeKind, tuple[str, str]] = {
    "ok": ("#12301f", "#46b97c"),
    "cached": ("#14263f", "#6aa5f5"),
    "fallback": ("#38290c", "#e0a030"),
    "skipped": ("#26262c", "#8b8b97"),
    "failed": ("#3f1717", "#f26d6d"),
    "not run": ("#17171b", "#6d6d78"),
}
_LIGHT_INKS = {
    "paper": "#ffffff",
    "ink": "#1c1e21",
    "faint": "#5b616e",
    "line": "#6b7280",
    "plain": "#f4f6fa",
    "off": "#b9bdc7",
}
_DARK_INKS = {
    "paper": "#17171b",
    "ink": "#ececf1",
    "faint": "#a6abb8",
    "line": "#9298a6",
    "plain": "#24262d",
    "off": "#53565f",
}


def flow_to_svg(flow: AnyFlow, *, result: ExecutionResult | None = None) -> str:
    """Return a flow as an SVG picture that needs nothing else, its levels from left to right.

    It is readable on light and on dark screens, and every step and edge tells more when it is pointed at. Sub-flows have
    double sides, capability steps dashed ones, steps that decide a rhombus; edges that a branch chooses bear its condition.
    The same flow gives the same text on every machine.

    With the result of a run each step says, and shows by its colour, what became of it, how long it took and how often it was
    tried again; edges that the run did not take are faint. Inputs and outputs are not shown.

    Raises:
        ValueError: The result is not one of this flow.
        DAGDefinitionError: There is a result and the flow is not a valid DAG.
    """
    outcomes = [] if result is None else outcomes_of(flow, result)
    layout = lay_out(flow)
    title, below = _title(flow), _summary(flow, layout, outcomes, result)
    widest = max(_TITLE_PX * columns_of(title), _SMALL_PX * columns_of(below)) + 48
    width, height = max(layout.width, widest), layout.height + _HEADER
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="dw-flow" role="img" width="{_px(width)}" height="{_px(height)}"'
        f' viewBox="0 0 {_px(width)} {_px(height)}">',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(_description(flow, below, outcomes))}</desc>",
        f"<style>{_STYLE}</style>",
        f'<rect class="dw-paper" width="{_px(width)}" height="{_px(height)}" rx="6"/>',
        f'<text class="dw-title" x="24" y="30">{escape(title)}</text>',
        f'<text class="dw-small" x="24" y="50">{escape(below)}</text>',
        f'<g transform="translate(0 {_HEADER})">',
        *_edges(flow, layout, outcomes),
        *_steps(flow, layout, outcomes),
        "</g>",
        "</svg>\n",
    ]
    return "\n".join(lines)


def _title(flow: AnyFlow) -> str:
    return f"{cut(visible(flow.name), 60)} {cut(visible(flow.version), 20)}"


def _summary(flow: AnyFlow, layout: Layout, outcomes: list[Outcome], result: ExecutionResult | None) -> str:
    size = f"{_count(len(flow.steps), 'step')}, {_count(len(layout.edges), 'edge')}"
    if result is None:
        return size
    kinds = Counter(outcome.kind for outcome in outcomes)
    told = ", ".join(f"{kinds[kind]} {kind}" for kind in COLOURS if kinds[kind])
    own = [record.error_type for record in result.execution_log if record.step_index in (-1, len(flow.steps))]
    at_fault = (
        f" at the flow's own {'input' if result.execution_log[-1].step_index < 0 else 'output'}" if any(own) else ""
    )
    ended = f"{'✓ succeeded' if result.success else '✗ failed'}{at_fault} in {milliseconds(result.total_duration_ms)}"
    return " · ".join(part for part in (ended + (" (dry run)" if result.dry_run else ""), told or size) if part)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _description(flow: AnyFlow, below: str, outcomes: list[Outcome]) -> str:
    told = [_told(step, outcomes[number] if outcomes else None) for number, step in enumerate(flow.steps[:_TOLD])]
    more = len(flow.steps) - len(told)
    return "; ".join([below, *told, *([f"and {more} more"] if more else [])])


def _told(step: FlowStep, outcome: Outcome | None) -> str:
    name = visible(step.display_name)
    return name if outcome is None else f"{name}: {outcome.words(step)}"


def _steps(flow: AnyFlow, layout: Layout, outcomes: list[Outcome]) -> Iterator[str]:
    for number, (step, box) in enumerate(zip(flow.steps, layout.steps, strict=True)):
        yield _step(step, box, outcomes[number] if outcomes else None)


def _step(step: FlowStep, box: Box, outcome: Outcome | None) -> str:
    kind = "plain" if outcome is None else outcome.kind.replace(" ", "-")
    off = " dw-off" if outcome is not None and outcome.is_off_branch else ""
    shape = f'x="{_px(box.x)}" y="{_px(box.y)}" width="{_px(box.width)}" height="{_px(box.height)}"'
    parts = [
        f'<g class="dw-step dw-{kind}{off}"><title>{escape(_step_tip(step, outcome))}</title>',
        f'<rect class="dw-box{" dw-capability" if _is_capability(step) else ""}" {shape} rx="8"/>',
    ]
    if step.flow_name is not None:
        inner = " ".join(f"M{_px(x)} {_px(box.y)}v{_px(box.height)}" for x in (box.x + 6, box.x + box.width - 6))
        parts.append(f'<path class="dw-side" d="{inner}"/>')
    if step.decision_candidates is not None:
        parts.append(f'<path class="dw-rhombus" d="M{_px(box.x + box.width - 20)} {_px(box.y + 11)}l6 6 -6 6 -6 -6z"/>')
    parts += _texts(step, box, outcome)
    return "".join([*parts, "</g>"])


def _is_capability(step: FlowStep) -> bool:
    return isinstance(step, DAGFlowStep) and step.step_type == "capability"


def _texts(step: FlowStep, box: Box, outcome: Outcome | None) -> list[str]:
    below = [("dw-small", second_line(step)), ("dw-outcome", "" if outcome is None else outcome.words(step))]
    below = [(style, text) for style, text in below if text]
    x, room = box.x + 14, box.width - 24
    # The lines stand together around the middle of the box.
    y = box.y + box.height / 2 + 5 - 8 * len(below)
    found = [
        f'<text class="dw-name" x="{_px(x)}" y="{_px(y)}">{escape(_fit(step.display_name, room, _NAME_PX))}</text>'
    ]
    for number, (style, text) in enumerate(below, 1):
        fitted = escape(_fit(text, room, _SMALL_PX))
        found.append(f'<text class="{style}" x="{_px(x)}" y="{_px(y + 16 * number)}">{fitted}</text>')
    return found


def _fit(text: str, room: float, letter: float) -> str:
    return cut(visible(text), int(room / letter))


def _step_tip(step: FlowStep, outcome: Outcome | None) -> str:
    step_id = f"{step.step_id}: " if isinstance(step, DAGFlowStep) else ""
    lines = [f"{step_id}{step.display_name}", kind_of(step)]
    if step.decision_candidates is not None:
        lines.append(f"one of {', '.join(step.decision_candidates)}")
    if step.retry is not None:
        lines.append(f"retries: up to {step.retry.max_retries}")
    if step.on_error != "fail":
        lines.append(f"on error: {step.on_error}")
    if outcome is not None:
        lines += [outcome.words(step), *_errors(outcome)]
    return "\n".join(visible(line) for line in lines if line)


def _errors(outcome: Outcome) -> Iterator[str]:
    if outcome.record is None:
        return
    for number, error in enumerate(outcome.record.retry_errors[:_TOLD], 1):
        yield f"attempt {number}: {_short(error)}"
    if outcome.record.error_message:
        yield f"{outcome.record.error_type}: {_short(outcome.record.error_message)}"


def _short(text: str) -> str:
    return cut(RedactionPolicy().redact_text(text), _LONGEST)


def _edges(flow: AnyFlow, layout: Layout, outcomes: list[Outcome]) -> Iterator[str]:
    taken = [not outcomes or is_taken(outcomes[route.source], outcomes[route.target]) for route in layout.edges]
    # What the run took lies on top.
    for now in (False, True):
        yield from (_edge(flow, route, now) for route, each in zip(layout.edges, taken, strict=True) if each is now)


def _edge(flow: AnyFlow, route: Route, taken: bool) -> str:
    ends = f"{_edge_end(flow.steps[route.source])} → {_edge_end(flow.steps[route.target])}"
    tip = f"{ends}: {route.label}" if route.label else ends
    x, y = route.points[-1]
    head = f"M{_px(x)} {_px(y)}l-8 -4.5v9z"
    return "".join(
        [
            f'<g class="dw-edge{"" if taken else " dw-off"}"><title>{escape(tip if taken else f"{tip} (not taken)")}</title>',
            f'<path class="dw-line" d="{_path(route.points)}"/><path class="dw-head" d="{head}"/>',
            _label(route),
            "</g>",
        ]
    )


def _edge_end(step: FlowStep) -> str:
    return visible(step.step_id if isinstance(step, DAGFlowStep) else step.display_name)


def _label(route: Route) -> str:
    if route.label_box is None:
        return ""
    box = route.label_box
    style = "dw-otherwise" if route.label == OTHERWISE else "dw-predicate"
    shape = f'x="{_px(box.x)}" y="{_px(box.y)}" width="{_px(box.width)}" height="{_px(box.height)}"'
    text = escape(cut(route.label, LABEL_COLUMNS))
    middle = f'x="{_px(box.x + box.width / 2)}" y="{_px(box.y + box.height / 2 + 4)}"'
    return f'<rect class="dw-label" {shape} rx="10"/><text class="{style}" {middle}>{text}</text>'


def _path(points: tuple[Point, ...]) -> str:
    (x, y), last = points[0], points[-1]
    # The line ends inside its arrow's head.
    points = (*points[:-1], (last[0] - 4, last[1]))
    parts = [f"M{_px(x)} {_px(y)}"]
    for (left, high), (right, low) in pairwise(points):
        if high == low:
            parts.append(f"H{_px(right)}")
        elif left == right:
            parts.append(f"V{_px(low)}")
        else:
            middle = _px((left + right) / 2)
            parts.append(f"C{middle} {_px(high)} {middle} {_px(low)} {_px(right)} {_px(low)}")
    return "".join(parts)


def _px(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _rules(inks: dict[str, str], colours: dict[OutcomeKind, tuple[str, str]]) -> str:
    kinds = {"plain": (inks["plain"], inks["line"]), **{kind.replace(" ", "-"): pair for kind, pair in colours.items()}}
    fills = "".join(
        f".dw-{kind} .dw-box,.dw-{kind} .dw-rhombus{{fill:{fill};stroke:{line}}}.dw-{kind} .dw-side{{stroke:{line}}}"
        for kind, (fill, line) in kinds.items()
    )
    return (
        f".dw-paper{{fill:{inks['paper']}}}.dw-title,.dw-name,.dw-outcome{{fill:{inks['ink']}}}"
        f".dw-small,.dw-otherwise{{fill:{inks['faint']}}}.dw-predicate{{fill:{inks['ink']}}}"
        f".dw-line{{stroke:{inks['line']}}}.dw-head{{fill:{inks['line']}}}"
        f".dw-label{{fill:{inks['paper']};stroke:{inks['line']}}}{fills}"
        f".dw-off .dw-line,.dw-off .dw-label{{stroke:{inks['off']}}}.dw-off .dw-head{{fill:{inks['off']}}}"
        f".dw-off .dw-predicate,.dw-off .dw-name,.dw-off .dw-outcome{{fill:{inks['faint']}}}"
    )


# A style inside a page's picture is one of the page, so that each rule is held to the picture.
_SHAPES = (
    ".dw-flow text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}"
    ".dw-flow .dw-title{font-size:16px;font-weight:600}.dw-flow .dw-small{font-size:12px}"
    ".dw-flow .dw-name{font:600 13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}"
    ".dw-flow .dw-predicate{font:11px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;text-anchor:middle}"
    ".dw-flow .dw-otherwise{font-style:italic;font-size:11px;text-anchor:middle}"
    ".dw-flow .dw-box{stroke-width:1.5}.dw-flow .dw-line,.dw-flow .dw-side{fill:none;stroke-width:1.5}"
    ".dw-flow .dw-capability{stroke-dasharray:7 3}.dw-flow .dw-off .dw-box,.dw-flow .dw-off .dw-line{stroke-dasharray:3 4}"
    ".dw-flow .dw-step:hover .dw-box,.dw-flow .dw-edge:hover .dw-line{stroke-width:3}"
)


def _scoped(rules: str) -> str:
    return "".join(
        f"{','.join(f'.dw-flow {one}' for one in selectors.split(','))}{{{values}}}"
        for selectors, _, values in (rule.partition("{") for rule in rules.split("}")[:-1])
    )


_STYLE = (
    f"{_SHAPES}{_scoped(_rules(_LIGHT_INKS, COLOURS))}"
    f"@media(prefers-color-scheme:dark){{{_scoped(_rules(_DARK_INKS, _DARK))}}}"
)
