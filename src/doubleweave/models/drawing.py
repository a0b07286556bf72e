"""Flows and results as text drawings: lines, Mermaid and Graphviz DOT. No other program is needed to make one."""

import re
from collections.abc import Sequence
from html.entities import html5
from typing import get_args

from doubleweave.models.flows import AnyFlow, DAGFlow, Direction
from doubleweave.models.labels import branch_labels, visible
from doubleweave.models.outcomes import OutcomeKind, is_taken, outcomes_of
from doubleweave.models.records import ExecutionResult
from doubleweave.models.topology import edges_of


def flow_to_ascii(flow: AnyFlow, *, result: ExecutionResult | None = None) -> str:
    """Return a flow on one line when it is linear, or one line for each dependency of a DAG.

    A name is quoted where it could be taken for more than one. With the result of a run each step says what became of it,
    and an edge that the run did not take is dashed.

    Raises:
        ValueError: The result is not one of this flow.
    """
    names = [_line_text(step.display_name) for step in flow.steps]
    if not names:
        return "(empty flow)"
    drawn = _Drawn(flow, result)
    labels = [f"[{name}{f' {words}' if words else ''}]" for name, words in zip(names, drawn.words, strict=True)]
    if not isinstance(flow, DAGFlow):
        return "".join(
            f"{f' {_ARROWS[drawn.is_taken(number - 1, number)]} ' if number else ''}{label}"
            for number, label in enumerate(labels)
        )
    edges = [f"{labels[one]} {_ARROWS[drawn.is_taken(one, other)]} {labels[other]}" for one, other in drawn.edges]
    return "\n".join(edges) if edges else ", ".join(names if result is None else labels)


def flow_to_mermaid(
    flow: AnyFlow,
    *,
    direction: Direction = "LR",
    show_schemas: bool = False,
    result: ExecutionResult | None = None,
) -> str:
    """Return a flow as a Mermaid graph, its nodes first.

    Args:
        flow: The flow.
        direction: Of the graph, as Mermaid names it.
        show_schemas: Accepted, and changes nothing.
        result: Of a run of the flow. Each step says, and shows by its colour, what became of it; branches have their
            conditions, and edges that the run did not take are dotted.

    Raises:
        ValueError: There is no such direction, or the result is not one of this flow.
    """
    drawn = _Drawn(flow, result)
    nodes = _node_ids(flow, _NOT_IN_MERMAID)
    labels = [
        f"{step.display_name} {words}" if words else step.display_name
        for step, words in zip(flow.steps, drawn.words, strict=True)
    ]
    lines = [f"  {node}[{_mermaid_text(label)}]" for node, label in zip(nodes, labels, strict=True)]
    lines += [f"  {nodes[one]} {_mermaid_link(drawn, (one, other))} {nodes[other]}" for one, other in drawn.edges]
    for kind, (fill, line) in COLOURS.items():
        members = [node for node, outcome in zip(nodes, drawn.outcomes, strict=False) if outcome.kind == kind]
        if members:
            name = kind.replace(" ", "_")
            lines += [f"  classDef {name} fill:{fill},stroke:{line},color:#111", f"  class {','.join(members)} {name}"]
    return _mermaid_graph(direction, lines or ["  empty[(empty flow)]"])


def flow_to_dot(flow: AnyFlow, *, result: ExecutionResult | None = None) -> str:
    """Return a flow as a Graphviz digraph, its nodes first.

    With the result of a run each step says, and shows by its colour, what became of it; branches have their conditions, and
    edges that the run did not take are dashed.

    Raises:
        ValueError: The result is not one of this flow.
    """
    drawn = _Drawn(flow, result)
    nodes = _node_ids(flow, _NOT_IN_DOT)
    lines = [f"  {node} [{_dot_node(drawn, number)}];" for number, node in enumerate(nodes)]
    lines += [f"  {nodes[one]} -> {nodes[other]}{_dot_edge(drawn, (one, other))};" for one, other in drawn.edges]
    return "\n".join([f"digraph {_graph_id(flow.name)} {{", *lines, "}\n"])


# The fill and the line of what became of a step, where the background is light.
COLOURS: dict[OutcomeKind, tuple[str, str]] = {
    "ok": ("#e6f6ec", "#2e8b57"),
    "cached": ("#e6f0fd", "#2f6fd0"),
    "fallback": ("#fff3dc", "#b87400"),
    "skipped": ("#f0f0f3", "#7d7d88"),
    "failed": ("#fde8e8", "#c93030"),
    "not run": ("#ffffff", "#a0a0aa"),
}
_ARROWS = {True: "→", False: "⇢"}


class _Drawn:
    """A flow, and what became of it if there is a result; without one nothing is said, and every edge is like any other."""

    def __init__(self, flow: AnyFlow, result: ExecutionResult | None) -> None:
        self.flow = flow
        self.edges = list(edges_of(flow))
        self.outcomes = [] if result is None else outcomes_of(flow, result)
        self.words = [outcome.words(step) for outcome, step in zip(self.outcomes, flow.steps, strict=False)]
        self.words += [""] * (len(flow.steps) - len(self.words))
        self.conditions = {} if result is None else branch_labels(flow)

    def is_taken(self, one: int, other: int) -> bool:
        return not self.outcomes or is_taken(self.outcomes[one], self.outcomes[other])


def _mermaid_link(drawn: _Drawn, edge: tuple[int, int]) -> str:
    link = "-->" if drawn.is_taken(*edge) else "-.->"
    return f"{link}|{_mermaid_text(drawn.conditions[edge])}|" if edge in drawn.conditions else link


def _dot_node(drawn: _Drawn, number: int) -> str:
    name = _dot_text(drawn.flow.steps[number].display_name)
    if not drawn.outcomes:
        return f'label="{name}"'
    fill, line = COLOURS[drawn.outcomes[number].kind]
    return f'label="{name}\\n{_dot_text(drawn.words[number])}", style=filled, fillcolor="{fill}", color="{line}"'


def _dot_edge(drawn: _Drawn, edge: tuple[int, int]) -> str:
    parts = [f'label="{_dot_text(drawn.conditions[edge])}"'] if edge in drawn.conditions else []
    parts += [] if drawn.is_taken(*edge) else ["style=dashed", 'color="#a0a0aa"']
    return f" [{', '.join(parts)}]" if parts else ""


def result_to_mermaid(result: ExecutionResult, *, direction: Direction = "LR") -> str:
    """Return the records of a run as a Mermaid graph in the order of the log, with outcomes and times; failures are red.

    Raises:
        ValueError: There is no such direction.
    """
    log = result.execution_log
    lines = [
        f"  R{number}[{_mermaid_text(record.tool_name)} {'✓' if record.success else '✗'} {record.duration_ms:.1f}ms]"
        for number, record in enumerate(log)
    ]
    lines += [f"  R{number} --> R{number + 1}" for number in range(len(log) - 1)]
    lines += [f"  style R{number} fill:#f66" for number, record in enumerate(log) if not record.success]
    return _mermaid_graph(direction, lines or ["  empty[(no steps)]"])


def _render_step_bar_chart(
    rows: Sequence[tuple[int, str, float, bool]], *, bar_width: int = 30, name_width: int = 22
) -> str:
    """Return a bar for each row of index, name, milliseconds and success; the longest one is `bar_width` characters long."""
    if not rows:
        return "(no steps)"
    longest = max(milliseconds for _, _, milliseconds, _ in rows)
    digits = max(len(str(index)) for index, _, _, _ in rows)
    return "\n".join(_bar(row, longest, digits, bar_width, name_width) for row in rows)


def _bar(row: tuple[int, str, float, bool], longest: float, digits: int, bar_width: int, name_width: int) -> str:
    index, name, milliseconds, is_ok = row
    label = visible(name)
    label = f"{label[: name_width - 1]}…" if len(label) > name_width else label
    bar = "█" * (round(bar_width * milliseconds / longest) if longest > 0 else 0)
    return (
        f"{index:>{digits}}  {label:<{name_width}}  {bar:<{bar_width}}  {milliseconds:.1f} ms{'' if is_ok else '  ERR'}"
    )


def _node_ids(flow: AnyFlow, odd: str) -> list[str]:
    """Return an id for each step, with `_` for what a pattern finds odd; two steps never have the same one."""
    if not isinstance(flow, DAGFlow):
        return [f"S{number}" for number in range(len(flow.steps))]
    wanted = [f"S_{re.sub(odd, '_', step.step_id)}" for step in flow.steps]
    # Who needs no change keeps the id that everybody expects.
    order = sorted(range(len(wanted)), key=lambda number: wanted[number] != f"S_{flow.steps[number].step_id}")
    found: dict[str, int] = {}
    suffixes: dict[str, int] = {}
    for number in order:
        node = wanted[number]
        while node in found:
            suffixes[wanted[number]] = suffix = suffixes.get(wanted[number], 1) + 1
            node = f"{wanted[number]}_{suffix}"
        found[node] = number
    return sorted(found, key=found.__getitem__)


_NOT_IN_DOT = r"\W"
_DOT_KEYWORDS = {"digraph", "edge", "graph", "node", "strict", "subgraph"}
# Mermaid takes a hyphen before one of these for the beginning of an arrow, and few letters beyond ASCII.
_NOT_IN_MERMAID = r"[^A-Za-z0-9_.-]|-(?=[-.])"


def _graph_id(name: str) -> str:
    word = re.sub(_NOT_IN_DOT, "_", name)
    return word if word[:1].isalpha() and word.lower() not in _DOT_KEYWORDS else f"G_{word}"


def _mermaid_graph(direction: Direction, lines: list[str]) -> str:
    if direction not in get_args(Direction):
        raise ValueError(f"direction must be one of {', '.join(get_args(Direction))}, not {direction!r}")
    return "\n".join([f"graph {direction}", *lines])


def _line_text(text: str) -> str:
    plain = text and text.isprintable() and not set(text) & {"→", ","}
    return text if plain else repr(text)


# What would end a label, begin another kind of it, or be taken for markup. Numbers would need `#`, which is special to Mermaid.
_CODED = "amp lt gt quot apos lpar rpar lsqb rsqb lcub rcub verbar bsol grave num commat dollar ast"
_MERMAID_TEXT = {ord(html5[f"{name};"]): f"&{name};" for name in _CODED.split()}


# What Mermaid takes for the beginning of a link, a list or a rule, and for a statement wherever on the line it stands.
_LEADING = re.compile(r"\s*([-+~=]|\d+[.)])")
_DIRECTION = re.compile(r"(?<=direction)(?=\s+(LR|RL|TB|TD|BT))")
_NOTHING = "&ZeroWidthSpace;"
# Some versions show what stands between underscores in bold.
_EMPHASIS = re.compile(r"(?<!\w)_.*_(?!\w)")


def _mermaid_text(text: str) -> str:
    """Return a label that Mermaid shows as it is."""
    coded = visible(text).translate(_MERMAID_TEXT).replace(":fa-", "&colon;fa-")
    coded = _DIRECTION.sub(_NOTHING, coded)
    if _EMPHASIS.search(coded):
        coded = coded.replace("_", "&lowbar;")
    if coded.startswith("/"):
        return f"&sol;{coded[1:]}"
    return f"{_NOTHING}{coded}" if _LEADING.match(coded) else coded or " "


def _dot_text(text: str) -> str:
    """Return a label that Graphviz shows as it is, line by line."""
    lines = [visible(line).replace("\\", "\\\\").replace('"', '\\"') for line in text.split("\n")]
    return re.sub(r"&(?=#?\w+;)", "&amp;", "\\n".join(lines))
