"""A flow compiled for running: flat indices, levels, resolvers. Made once and used until the flow changes."""

from collections.abc import Sequence
from typing import Any

from doubleweave.core.mapping import Resolver, compile_mapping
from doubleweave.models.flows import AnyFlow, DAGFlow
from doubleweave.models.steps import DAGFlowStep, FlowStep, RetryPolicy, fallback_tool
from doubleweave.models.topology import dag_levels

# A plan of many steps holds no more containers than it has to.
_NO_DEPENDENTS: dict[str, int] = {}
_NO_GROUPS: list[int] = []


class PlannedStep:
    """One step with everything about it that does not change from run to run.

    `index` counts steps in level order and is the record's `step_index`; `depends_on` holds such indices, and so does
    `dependents`, by step id, of a step with branches.
    `group` and `awaited_by` number the groups of steps with the same dependencies: the one that the step belongs to, and
    those that depend on it.
    """

    __slots__ = (
        "awaited_by",
        "branches",
        "candidates",
        "default_next",
        "dependents",
        "depends_on",
        "fallback",
        "flow_name",
        "group",
        "has_contracts",
        "index",
        "is_capability",
        "level",
        "model",
        "name",
        "output_mapping",
        "resolve",
        "retry",
        "skips_errors",
        "step_id",
    )

    def __init__(self, model: FlowStep, index: int, level: int) -> None:
        self.model = model
        self.index = index
        self.level = level
        self.name: str = model.display_name
        self.flow_name = model.flow_name
        self.resolve: Resolver = compile_mapping(model.input_mapping)
        self.output_mapping = model.output_mapping
        self.retry: RetryPolicy | None = model.retry
        self.fallback = fallback_tool(model.on_error)
        self.skips_errors = model.on_error == "skip"
        self.candidates = model.decision_candidates
        self.has_contracts = model.input_contract is not None or model.output_contract is not None
        self.step_id: str | None = None
        self.is_capability = False
        self.branches: Sequence[Any] = ()
        self.default_next: str | None = None
        self.depends_on: tuple[int, ...] = ()
        self.dependents: dict[str, int] = _NO_DEPENDENTS
        self.group = 0
        self.awaited_by: list[int] = _NO_GROUPS
        if isinstance(model, DAGFlowStep):
            self.step_id = model.step_id
            self.is_capability = model.step_type == "capability"
            self.branches = model.branches
            self.awaited_by = []
            self.default_next = model.default_next


class Level:
    """Steps that do not depend on each other. A linear flow has one step a level; `step` is the first.

    Its steps are those from the flat index `first` up to and without `end`.
    """

    __slots__ = ("end", "first", "merge_index", "merge_name", "number", "step", "steps")

    def __init__(self, steps: tuple[PlannedStep, ...], merge_index: int, merge_name: str) -> None:
        self.steps = steps
        self.step = steps[0]
        self.number = steps[0].level
        self.first = steps[0].index
        self.end = self.first + len(steps)
        self.merge_index = merge_index
        self.merge_name = merge_name


class Plan:
    """The compiled form of one flow object."""

    __slots__ = ("_flow", "_frozen", "groups", "is_dag", "levels", "needs", "schedule", "steps")

    def __init__(self, flow: AnyFlow) -> None:
        self.is_dag = isinstance(flow, DAGFlow)
        self.levels = _dag_levels(flow) if isinstance(flow, DAGFlow) else _linear_levels(flow)
        self.steps = [step for level in self.levels for step in level.steps]
        # Steps by what they depend on, for in a DAG of broad layers there are many more edges than such groups.
        self.groups = _group(self.steps)
        self.needs = [len(group[0].depends_on) for group in self.groups]
        # What may start when, worked out on first use by a run whose steps overlap.
        self.schedule: Any = None
        self._flow = flow
        self._frozen = _freeze(flow)

    def fits(self, flow: AnyFlow) -> bool:
        """Say whether this is the flow that the plan was made of, as it was then: it can be changed in place."""
        try:
            return self._flow is flow and self._frozen == [step.__dict__ for step in flow.steps]
        except Exception:
            # A literal of a mapping was replaced by one that cannot be compared.
            return False


def make_plan(flow: AnyFlow) -> Plan:
    """Compile a flow.

    Raises:
        DAGDefinitionError: The flow's topology is not valid.
    """
    return Plan(flow)


def _linear_levels(flow: AnyFlow) -> list[Level]:
    steps = [PlannedStep(model, index, index) for index, model in enumerate(flow.steps)]
    return [Level((step,), step.index, step.name) for step in steps]


def _dag_levels(flow: DAGFlow) -> list[Level]:
    levels: list[Level] = []
    by_id: dict[str, PlannedStep] = {}
    for number, models in enumerate(dag_levels(flow)):
        start = len(by_id)
        steps = tuple(PlannedStep(model, start + offset, number) for offset, model in enumerate(models))
        by_id.update({model.step_id: step for model, step in zip(models, steps, strict=True)})
        levels.append(Level(steps, number, f"DAG level {number}"))
    for model in flow.steps:
        step = by_id[model.step_id]
        dependencies = [by_id[name] for name in dict.fromkeys(model.depends_on)]
        step.depends_on = tuple([each.index for each in dependencies])
        for each in dependencies:
            if each.branches:
                each.dependents = {**each.dependents, model.step_id: step.index}
    return levels


def _group(steps: list[PlannedStep]) -> list[list[PlannedStep]]:
    groups: dict[tuple[int, ...], list[PlannedStep]] = {}
    for step in steps:
        groups.setdefault(step.depends_on, []).append(step)
    for number, (depends_on, members) in enumerate(groups.items()):
        for step in members:
            step.group = number
        for index in depends_on:
            steps[index].awaited_by.append(number)
    return list(groups.values())


_CONTAINERS = ("input_mapping", "output_mapping", "decision_candidates", "depends_on", "branches")


def _freeze(flow: AnyFlow) -> list[Any]:
    """Copy the state of a flow's steps, deep enough that a later change of a step or its containers shows."""
    return [_state_of(step) for step in flow.steps]


def _state_of(step: FlowStep) -> dict[str, Any]:
    state = dict(step.__dict__)
    for field in _CONTAINERS:
        if value := state.get(field):
            state[field] = value.copy()
    return state
