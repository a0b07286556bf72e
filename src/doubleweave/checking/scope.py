"""Which context keys a step of a flow can see, with what types, and how certainly."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from doubleweave.checking.kinds import ANYTHING, Declared
from doubleweave.core.plan import PlannedStep

UNKNOWN = Declared(ANYTHING, ANYTHING, "plain")


@dataclass(frozen=True)
class Known:
    """What is known of a context key: the types that its value may have, whether it is there, and whether anybody declares it."""

    types: tuple[Declared, ...] = ()
    is_sure: bool = False
    is_declared: bool = True


@dataclass
class Writer:
    """What a step writes when it runs, other keys too when it is open; `level` and `index` are those of the step."""

    index: int
    level: int
    keys: dict[str, Known] = field(default_factory=dict)
    is_open: bool = False


class Scope:
    """The context of a run, as far as it can be told before.

    `start` is what the run begins with. When it `is_open` there may be any other keys too.
    """

    def __init__(self, start: Mapping[str, Known], is_open: bool) -> None:
        self._start = dict(start)
        # From which level on there may be keys that nobody declares.
        self._open_from = 0 if is_open else None
        self._writers: dict[str, list[Writer]] = {}

    def add(self, writer: Writer) -> None:
        """Note what the next step in flat order writes."""
        for key in writer.keys:
            self._writers.setdefault(key, []).append(writer)
        if writer.is_open and self._open_from is None:
            self._open_from = writer.level + 1

    def is_open(self, level: int) -> bool:
        """Say whether there may be keys before `level` that nobody declares."""
        return self._open_from is not None and self._open_from <= level

    def known(
        self, key: str, level: int, ran: frozenset[int], siblings: int = 0, one_of: frozenset[int] = frozenset()
    ) -> Known:
        """Return what a step sees of a key that sees the levels before `level`, when the steps in `ran` have run for certain.

        With `siblings`, it sees the steps before that flat index too. Of the steps in `one_of` at least one has run.
        """
        types: list[Declared] = []
        wrote: set[int] = set()
        for writer in reversed(self._writers.get(key, ())):
            if writer.level >= level and writer.index >= siblings:
                continue
            types += writer.keys[key].types
            if writer.keys[key].is_sure:
                wrote.add(writer.index)
                if writer.index in ran or (one_of and one_of <= wrote):
                    return Known(tuple(types), True)
        first = self._start.get(key)
        if first is not None:
            return Known((*types, *first.types), first.is_sure, first.is_declared)
        if self.is_open(level):
            return Known((*types, UNKNOWN), True, is_declared=False)
        return Known(tuple(types), False)

    def keys(self, level: int) -> list[str]:
        """Return every key that can be there before `level`."""
        written = [key for key, writers in self._writers.items() if any(each.level < level for each in writers)]
        return list(dict.fromkeys([*self._start, *written]))


class Certainty:
    """Which steps have run for certain when a step runs, and which can be skipped at all."""

    def __init__(self, steps: list[PlannedStep]) -> None:
        self.optional: set[int] = set()
        self._behind: list[frozenset[int]] = []
        for step in steps:
            needed = [steps[index] for index in step.depends_on]
            left_out = any(_may_choose_another(each, step) for each in needed)
            if left_out or (needed and all(each.index in self.optional for each in needed)):
                self.optional.add(step.index)
            # Of several dependencies one at least has run.
            ways = [self._behind[each.index] | {each.index} for each in needed]
            self._behind.append(frozenset.intersection(*ways) if ways else frozenset())
        self._always = {step.index for step in steps} - self.optional

    def before(self, step: PlannedStep) -> frozenset[int]:
        """Return the steps that have run for certain when `step` runs; more than those before it."""
        return self._behind[step.index] | self._always

    def at_the_end(self) -> frozenset[int]:
        """Return the steps that have run for certain when the run has succeeded."""
        return frozenset(self._always)


def _may_choose_another(step: PlannedStep, dependent: PlannedStep) -> bool:
    targets = {edge.target_step_id for edge in step.branches} | {step.default_next} - {None}
    return bool(targets - {dependent.step_id})
