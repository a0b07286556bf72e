"""What each step of a DAG must wait for before it can start, when steps of different levels may overlap.

The result of a run is that of level-by-level execution: a step sees what the levels before its own have merged, all of
them. It may still start earlier, as soon as its dependencies are done and every context key that it can read is final.
Which keys a step reads follows from its input mapping; which keys a step can write, from its output mapping or from the
declared outputs of every tool that it may call. Where that is unknown, the step waits for whole levels.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from doubleweave.core.mapping import mapped_keys
from doubleweave.core.plan import Plan, PlannedStep
from doubleweave.models.predicates import predicate_names
from doubleweave.models.tools import ToolBase


class Outlook:
    """What one step waits for.

    `reads` are the context keys it can read (None: all). It starts after the steps in `writers` have finished and
    `levels` levels are merged. `names` gives, for each name in its predicates, the steps and levels that the name's value
    waits for.
    """

    __slots__ = ("levels", "names", "reads", "writers")

    def __init__(self, reads: frozenset[str] | None, writers: frozenset[int], levels: int) -> None:
        self.reads = reads
        self.writers = writers
        self.levels = levels
        self.names: dict[str, tuple[frozenset[int], int]] = {}


class Forecast:
    """The outlook of every step, by flat index, who waits for what, and in `unread` for how much each step waits."""

    __slots__ = ("_schemas", "outlooks", "readers", "unread", "waiting_for_level")

    def __init__(self, outlooks: list[Outlook], schemas: Mapping[str, Any]) -> None:
        self._schemas = schemas
        self.outlooks = outlooks
        self.readers: dict[int, list[int]] = defaultdict(list)
        self.waiting_for_level: dict[int, list[int]] = defaultdict(list)
        self.unread = [len(outlook.writers) + (outlook.levels > 0) for outlook in outlooks]
        for index, outlook in enumerate(outlooks):
            for writer in outlook.writers:
                self.readers[writer].append(index)
            if outlook.levels:
                self.waiting_for_level[outlook.levels].append(index)

    def fits(self, tools: Mapping[str, ToolBase]) -> bool:
        """Say whether the tools still have the output schemas that this was worked out from."""
        return all(_schema_of(name, tools) is schema for name, schema in self._schemas.items())


def make_forecast(plan: Plan, tools: Mapping[str, ToolBase]) -> Forecast:
    """Work out what every step of a DAG waits for; linear in the usual size of a plan."""
    last_writers: dict[str, list[int]] = {}
    unknown_until = 0
    outlooks: list[Outlook] = []
    for number, level in enumerate(plan.levels):
        writes = [possible_writes(step, tools) for step in level.steps]
        outlooks.extend(_outlook(step, number, last_writers, unknown_until) for step in level.steps)
        _note_predicates(level.steps, writes, outlooks, last_writers, unknown_until)
        for step, keys in zip(level.steps, writes, strict=True):
            for key in keys or ():
                # A writer starts after its dependencies, so whoever waits for it has waited for them.
                earlier = last_writers.get(key, [])
                last_writers[key] = [index for index in earlier if index not in step.depends_on] + [step.index]
        if None in writes:
            unknown_until = number + 1
    names = {name for step in plan.steps for name in _tools_of(step)}
    return Forecast(outlooks, {name: _schema_of(name, tools) for name in names})


def possible_writes(step: PlannedStep, tools: Mapping[str, ToolBase]) -> frozenset[str] | None:
    """Return the context keys that a step can write, or None when that is unknown."""
    if step.output_mapping is not None:
        return frozenset(step.output_mapping)
    if step.is_capability or step.flow_name is not None:
        return None
    declared = [tools[name].declared_outputs() for name in _tools_of(step) if name in tools]
    if None in declared:
        return None
    return frozenset().union(*(keys for keys in declared if keys))


def _tools_of(step: PlannedStep) -> list[str]:
    return [*(step.candidates or [step.name]), *([step.fallback] if step.fallback else [])]


def _schema_of(name: str, tools: Mapping[str, ToolBase]) -> Any:
    return tools[name].output_schema if name in tools else None


def _outlook(step: PlannedStep, level: int, last_writers: Mapping[str, list[int]], unknown_until: int) -> Outlook:
    reads = None if step.is_capability or step.candidates else mapped_keys(step.model.input_mapping)
    if reads is None:
        return Outlook(None, frozenset(), level)
    writers = frozenset(index for key in reads for index in last_writers.get(key, ()))
    return Outlook(reads, writers, unknown_until)


def _note_predicates(
    steps: tuple[PlannedStep, ...],
    writes: list[frozenset[str] | None],
    outlooks: list[Outlook],
    last_writers: Mapping[str, list[int]],
    unknown_until: int,
) -> None:
    """Note what the names in a step's predicates wait for: earlier levels, and the siblings that precede the step."""
    siblings: dict[str, list[int]] = defaultdict(list)
    unknown_siblings: list[int] = []
    for step, keys in zip(steps, writes, strict=True):
        for edge in step.branches:
            for name in predicate_names(edge.predicate):
                indices = frozenset((*last_writers.get(name, ()), *siblings.get(name, ()), *unknown_siblings))
                outlooks[step.index].names[name] = (indices, unknown_until)
        if keys is None:
            unknown_siblings.append(step.index)
        for key in keys or ():
            siblings[key].append(step.index)
