"""The graph of a flow for the page: where its steps and edges stand, and which row of the table a step is."""

from doubleweave.models.flows import AnyFlow, DAGFlow
from doubleweave.models.labels import second_line
from doubleweave.models.layout import Box, Route, lay_out
from doubleweave.models.steps import DAGFlowStep
from doubleweave.models.topology import dag_levels
from doubleweave.pages.data import Data


def graph_data(flow: AnyFlow) -> Data:
    """Return the drawing of a flow.

    Raises:
        DAGDefinitionError: The flow is no DAG though it should be one.
    """
    layout = lay_out(flow)
    ids = _row_ids(flow)
    nodes = [
        {"id": id, "label": step.display_name, "sub": second_line(step), **_box(box)}
        for id, step, box in zip(ids, flow.steps, layout.steps, strict=True)
    ]
    if isinstance(flow, DAGFlow):
        _add_branches(flow, nodes)
    return {
        "width": layout.width,
        "height": layout.height,
        "nodes": nodes,
        "edges": [_edge(route, ids) for route in layout.edges],
    }


def _row_ids(flow: AnyFlow) -> list[str]:
    """Return the id of each step's row: records count the steps of a DAG level by level."""
    if not isinstance(flow, DAGFlow):
        return [str(number) for number in range(len(flow.steps))]
    levels = [step.step_id for level in dag_levels(flow) for step in level]
    places = {step_id: str(number) for number, step_id in enumerate(levels)}
    return [places[step.step_id] for step in flow.steps]


def _box(box: Box) -> Data:
    return {"x": box.x, "y": box.y, "width": box.width, "height": box.height}


def _edge(route: Route, ids: list[str]) -> Data:
    edge: Data = {"from": ids[route.source], "to": ids[route.target], "points": route.points}
    if route.label and route.label_box is not None:
        edge["label"] = {"text": route.label, **_box(route.label_box)}
    return edge


def _add_branches(flow: DAGFlow, nodes: list[Data]) -> None:
    """Add to each step that chooses the steps it chooses among, and when."""
    by_id = {step.step_id: node for step, node in zip(flow.steps, nodes, strict=True)}
    for step, node in zip(flow.steps, nodes, strict=True):
        if step.branches:
            node["branches"] = [_branch(by_id[target], when) for target, when in _targets(step)]


def _targets(step: DAGFlowStep) -> list[tuple[str, str | None]]:
    otherwise = [] if step.default_next is None else [(step.default_next, None)]
    return [*((edge.target_step_id, edge.predicate) for edge in step.branches), *otherwise]


def _branch(target: Data, predicate: str | None) -> Data:
    return {"id": target["id"], "label": target["label"], "predicate": predicate}
