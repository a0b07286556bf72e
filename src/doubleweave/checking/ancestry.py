"""In which order the steps of a flow can be looked at, and which steps each of them comes after."""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

from doubleweave.models.flows import DAGFlow


def ancestry(flow: DAGFlow) -> Iterator[tuple[int, list[int]]]:
    """Yield each step's position with those of the steps it depends on, directly or not, in the order of the visit.

    Steps come after those they depend on, level by level; in list order when dependencies form a cycle. Unknown dependencies
    are left out, and of steps with one id the last counts.
    """
    positions = {step.step_id: position for position, step in enumerate(flow.steps)}
    needed = [{positions[name] for name in step.depends_on if name in positions} for step in flow.steps]
    order = _order(needed)
    place = {position: each for each, position in enumerate(order)}
    for position in order:
        yield position, sorted(_behind(position, needed), key=place.__getitem__)


def _order(needed: list[set[int]]) -> list[int]:
    sorter = TopologicalSorter(dict(enumerate(needed)))
    try:
        sorter.prepare()
    except CycleError:
        return list(range(len(needed)))
    order: list[int] = []
    while ready := sorted(sorter.get_ready()):
        order += ready
        sorter.done(*ready)
    return order


def _behind(position: int, needed: list[set[int]]) -> set[int]:
    found: set[int] = set()
    pending = [position]
    while pending:
        new = needed[pending.pop()] - found
        found |= new
        pending += new
    return found - {position}
