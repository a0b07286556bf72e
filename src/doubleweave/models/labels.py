"""What drawings write on the steps and edges of a flow."""

import unicodedata

from doubleweave.models.flows import AnyFlow, DAGFlow
from doubleweave.models.steps import DAGFlowStep, FlowStep

OTHERWISE = "otherwise"


def visible(text: str) -> str:
    """Return a text on one line; what has no shape of its own, or turns the text around, is written out."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def cut(text: str, columns: int) -> str:
    """Return a text, or its beginning with `…`, that is at most so many columns wide; some letters take two."""
    if columns_of(text) <= columns:
        return text
    width, kept = 1, ""
    for each in text:
        width += _columns(each)
        if width > columns:
            break
        kept += each
    return f"{kept}…"


def columns_of(text: str) -> int:
    """Return how many columns a text takes in a font of fixed width."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(letter: str) -> int:
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def kind_of(step: FlowStep) -> str:
    """Return what kind of step it is, in words; an empty text for the plain call of a tool."""
    if step.flow_name is not None:
        return "sub-flow"
    if isinstance(step, DAGFlowStep) and step.step_type == "capability":
        return f"capability {step.capability_id}" if step.capability_id else "capability"
    if step.decision_candidates is not None:
        return f"decides, 1 of {len(step.decision_candidates)}"
    return ""


def second_line(step: FlowStep) -> str:
    """Return what stands below the name of a step: its id, where it has another one, and its kind."""
    step_id = step.step_id if isinstance(step, DAGFlowStep) and step.step_id != step.display_name else ""
    return " · ".join(part for part in (visible(step_id), visible(kind_of(step))) if part)


def branch_labels(flow: AnyFlow) -> dict[tuple[int, int], str]:
    """Return the condition of each edge that a branch chooses, by the positions of the edge's ends."""
    if not isinstance(flow, DAGFlow):
        return {}
    positions = {step.step_id: number for number, step in enumerate(flow.steps)}
    found: dict[tuple[int, int], list[str]] = {}
    for number, step in enumerate(flow.steps):
        choices = [(edge.target_step_id, visible(edge.predicate)) for edge in step.branches]
        if step.default_next is not None:
            choices.append((step.default_next, OTHERWISE))
        for target, words in choices:
            if target in positions:
                found.setdefault((number, positions[target]), []).append(words)
    return {edge: ", or ".join(words) for edge, words in found.items()}
