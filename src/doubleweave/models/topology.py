"""The shape of a DAG: whether it is one, and in which levels its steps run."""

from collections.abc import Iterator

from doubleweave.errors import DAGDefinitionError
from doubleweave.models.flows import AnyFlow, DAGFlow
from doubleweave.models.steps import DAGFlowStep


def validate_dag_topology(flow: DAGFlow) -> None:
    """Check that step ids are unique, dependencies exist without a cycle, and branches lead to direct dependents.

    Takes time linear in the number of steps, dependencies and branches.

    Raises:
        DAGDefinitionError: The first check that fails, with `reason` one of `duplicate_step_id`,
            `unknown_dependency`, `cycle` and `unknown_branch_target`.
    """
    _checked_depths(flow)


def dag_levels(flow: DAGFlow) -> list[list[DAGFlowStep]]:
    """Return the steps by level: 0 without dependencies, else one more than the highest level of a dependency.

    Inside a level steps keep the order of `flow.steps`. A flow without steps has no levels.

    Raises:
        DAGDefinitionError: As `validate_dag_topology`.
    """
    depths = _checked_depths(flow)
    levels: list[list[DAGFlowStep]] = [[] for _ in range(max(depths, default=-1) + 1)]
    for step, depth in zip(flow.steps, depths, strict=True):
        levels[depth].append(step)
    return levels


def edges_of(flow: AnyFlow) -> Iterator[tuple[int, int]]:
    """Yield the positions of the two ends of each edge; dependencies on steps that are not there have none."""
    if not isinstance(flow, DAGFlow):
        yield from ((number, number + 1) for number in range(len(flow.steps) - 1))
        return
    positions = {step.step_id: number for number, step in enumerate(flow.steps)}
    for number, step in enumerate(flow.steps):
        yield from ((positions[name], number) for name in dict.fromkeys(step.depends_on) if name in positions)


def _checked_depths(flow: DAGFlow) -> list[int]:
    positions = _positions(flow)
    dependencies = _dependencies(flow, positions)
    depths = _depths(flow, dependencies)
    _check_branch_targets(flow, positions)
    return depths


def _positions(flow: DAGFlow) -> dict[str, int]:
    positions: dict[str, int] = {}
    for position, step in enumerate(flow.steps):
        if step.step_id in positions:
            raise DAGDefinitionError(
                flow.name, "duplicate_step_id", f"Step id '{step.step_id}' is declared more than once."
            )
        positions[step.step_id] = position
    return positions


def _dependencies(flow: DAGFlow, positions: dict[str, int]) -> list[list[int]]:
    """Return the positions of each step's dependencies."""
    for step in flow.steps:
        for dependency in step.depends_on:
            if dependency not in positions:
                raise DAGDefinitionError(
                    flow.name, "unknown_dependency", f"Step '{step.step_id}' depends on unknown step '{dependency}'."
                )
    return [[positions[dependency] for dependency in step.depends_on] for step in flow.steps]


def _depths(flow: DAGFlow, dependencies: list[list[int]]) -> list[int]:
    """Return the level of each step, taking a step once all its dependencies are taken."""
    dependents: list[list[int]] = [[] for _ in dependencies]
    for position, needed in enumerate(dependencies):
        for dependency in needed:
            dependents[dependency].append(position)
    missing = [len(needed) for needed in dependencies]
    depths = [0] * len(dependencies)
    ready = [position for position, count in enumerate(missing) if count == 0]
    for position in ready:
        for dependent in dependents[position]:
            missing[dependent] -= 1
            if missing[dependent] == 0:
                # Steps get ready in the order of their depth, so that the dependency taken last is a deepest one.
                depths[dependent] = depths[position] + 1
                ready.append(dependent)
    if len(ready) < len(dependencies):
        blocked = [count > 0 for count in missing]
        cycle = [flow.steps[position].step_id for position in _find_cycle(dependencies, blocked)]
        detail = f"Steps depend on each other: {' -> '.join(cycle)}. Take one of these out of another's depends_on."
        raise DAGDefinitionError(flow.name, "cycle", detail)
    return depths


def _find_cycle(dependencies: list[list[int]], blocked: list[bool]) -> list[int]:
    """Return one cycle in running order, from its first declared step back to that step.

    Every blocked step has a blocked dependency, so that following them ends in a cycle.
    """
    path: list[int] = []
    seen_at: dict[int, int] = {}
    position = blocked.index(True)
    while position not in seen_at:
        seen_at[position] = len(path)
        path.append(position)
        position = next(dependency for dependency in dependencies[position] if blocked[dependency])
    cycle = path[seen_at[position] :][::-1]
    start = cycle.index(min(cycle))
    return [*cycle[start:], *cycle[: start + 1]]


def _check_branch_targets(flow: DAGFlow, positions: dict[str, int]) -> None:
    dependencies_of: dict[str, set[str]] = {}
    for step in flow.steps:
        targets = [edge.target_step_id for edge in step.branches]
        if step.default_next is not None:
            targets.append(step.default_next)
        for target in targets:
            if target not in positions:
                raise DAGDefinitionError(
                    flow.name, "unknown_branch_target", f"Step '{step.step_id}' branches to unknown step '{target}'."
                )
            if target not in dependencies_of:
                dependencies_of[target] = set(flow.steps[positions[target]].depends_on)
            if step.step_id not in dependencies_of[target]:
                raise DAGDefinitionError(
                    flow.name,
                    "unknown_branch_target",
                    f"Step '{step.step_id}' branches to '{target}', which does not depend directly on it.",
                )
