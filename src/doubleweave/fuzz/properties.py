"""What is promised of a flow, and what a fuzzing run reports of it."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import isawaitable, iscoroutine
from typing import Any, ClassVar

from doubleweave.errors import DoubleweaveError
from doubleweave.models.records import ExecutionResult
from doubleweave.testing.trials import Outcome


class FuzzConfigError(DoubleweaveError):
    """A fuzzing run cannot be set up."""

    code: ClassVar[str] = "CW-E038"

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


@dataclass(frozen=True)
class FlowProperty:
    """Something that holds for every run of a flow: `check(result)` is truthy when it does."""

    name: str
    check: Callable[[ExecutionResult], Any]
    description: str = ""

    def holds(self, result: ExecutionResult) -> bool:
        """Say whether the property holds; raises what the check raises.

        Raises:
            TypeError: The check is async: what it returns says nothing before it is awaited, which nobody does.
        """
        found = self.check(result)
        if isawaitable(found):
            if iscoroutine(found):
                found.close()
            raise TypeError(f"the check of property '{self.name}' is async; give a plain function")
        return bool(found)


BUILTIN_PROPERTIES: dict[str, FlowProperty] = {
    each.name: each
    for each in (
        FlowProperty("flow_succeeds", lambda result: result.success, "The run succeeds."),
        FlowProperty(
            "final_output_present", lambda result: result.final_output is not None, "The run has a final output."
        ),
    )
}
"""Properties that make sense for every flow, by name."""


@dataclass(frozen=True)
class FaultConfig:
    """How likely, from 0 to 1, the output of a tool call is to be changed before it is validated.

    Raises:
        FuzzConfigError: The probability is none.
    """

    output_fault_probability: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.output_fault_probability <= 1.0:
            raise FuzzConfigError(
                f"output_fault_probability must be within 0 and 1, got {self.output_fault_probability}"
            )

    @property
    def active(self) -> bool:
        """Whether there are faults at all."""
        return self.output_fault_probability > 0.0


@dataclass(frozen=True)
class FuzzCase:
    """One input of a fuzzing run."""

    index: int
    initial_input: dict[str, Any]


@dataclass(frozen=True)
class FuzzFailure:
    """A property that did not hold for a case.

    `result` is the partial one when the run raised. `check_error` is `<class>: <message>` of what the check, or else the run,
    raised; None when neither did.
    """

    property_name: str
    case_index: int
    initial_input: dict[str, Any]
    result: ExecutionResult
    check_error: str | None = None


@dataclass(frozen=True)
class FuzzReport:
    """What a fuzzing run found: failures by case, then in the order of the properties."""

    flow_name: str
    runs: int
    seed: int
    property_names: list[str]
    failures: list[FuzzFailure]

    @property
    def num_failures(self) -> int:
        """How many failures there are."""
        return len(self.failures)

    @property
    def passed(self) -> bool:
        """Whether there are none."""
        return not self.failures


@dataclass(frozen=True)
class Violation:
    """That a property did not hold, and what was raised meanwhile, if anything."""

    error: str | None


def violation(prop: FlowProperty, outcome: Outcome) -> Violation | None:
    """Return how a property is violated by a run, or None when it holds."""
    error = outcome.error
    try:
        if prop.holds(outcome.result):
            return None
    except Exception as raised:
        error = raised
    return Violation(None if error is None else f"{type(error).__name__}: {error}")
