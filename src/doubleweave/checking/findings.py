"""What a check of a flow says."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from doubleweave.checking.fit import Level

Severity = Literal["error", "warning", "unproven"]
_SEVERITIES: dict[Level, Severity] = {
    Level.FAILS: "error",
    Level.MAY_FAIL: "warning",
    Level.UNPROVEN: "unproven",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a flow, may be, or cannot be shown to be right; where; and what to do.

    `severity` is `"error"` when what it is about (a call of a tool, fallback or candidate, a predicate, a check) fails whenever
    a run gets to it, `"warning"` when it may, `"unproven"` when that cannot be told.
    `step_index` counts as records do, -1 stands for the flow's input and the number of steps for its output; `step` is the
    step's id or, in a linear flow, its tool or sub-flow. `field` is the input field, context key or other name that it is
    about.
    """

    severity: Severity
    kind: str
    flow_name: str
    step_index: int
    step: str
    field: str | None
    detail: str
    fix: str

    def __str__(self) -> str:
        place = f"flow '{self.flow_name}', step {self.step_index} '{self.step}'"
        about = "" if self.field is None else f", field '{self.field}'"
        return f"{self.severity} {self.kind}: {place}{about}: {self.detail}. {self.fix}."


@dataclass
class CheckReport:
    """The findings of a check, in the order of the steps.

    `required_inputs` are the context keys that the flow reads, that no step writes before, and that no input schema declares.
    """

    flow_name: str
    findings: list[Finding] = field(default_factory=list)
    required_inputs: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to say: no run with declared inputs fails for a reason that the check covers."""
        return not self.findings

    @property
    def errors(self) -> list[Finding]:
        """The findings that make a run fail."""
        return [each for each in self.findings if each.severity == "error"]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)


class Notes:
    """Findings as they are made."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.required_inputs: dict[str, None] = {}

    def add(self, level: Level, kind: str, place: "Place", detail: str, fix: str, field: str | None = None) -> None:
        """Keep a finding, unless all is well."""
        if level is not Level.FITS:
            found = Finding(_SEVERITIES[level], kind, place.flow, place.index, place.step, field, detail, fix)
            if found not in self.findings:
                self.findings.append(found)


@dataclass(frozen=True)
class Place:
    """Where in which flow."""

    flow: str
    index: int
    step: str
