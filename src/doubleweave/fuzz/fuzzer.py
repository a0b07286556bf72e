"""Running a flow on many strange inputs."""

import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from doubleweave.attest.values import AttestationInputError, generate_input
from doubleweave.executor import AsyncFlowExecutor, FlowExecutor
from doubleweave.fuzz.faults import FaultHook, faulty_tools, mutating_hook
from doubleweave.fuzz.mutations import mutated
from doubleweave.fuzz.properties import (
    FaultConfig,
    FlowProperty,
    FuzzCase,
    FuzzConfigError,
    FuzzFailure,
    FuzzReport,
    violation,
)
from doubleweave.models.flows import AnyFlow
from doubleweave.testing.trials import Procedure, Trials, conduct, conduct_async, require_blocking


@dataclass
class FlowFuzzer:
    """Runs a registered flow on many inputs and checks properties of each result. The same seed gives the same cases.

    Attributes:
        executor: Has the flow and its tools; it is not changed. The runs of an `AsyncFlowExecutor` are awaited: `run_async`.
        flow: The flow, in the version that is registered.
        properties: What should hold for every run; at least one.
        fault_config: Whether outputs of tools are changed at random before they are validated.
        fault_hook: Changes them instead: `hook(tool_name, outputs, rng)` returns what to go on with. `rng` depends on the
            seed, the case, the tool and its input, not on what runs at the same time.

    Raises:
        FuzzConfigError: There is no property.
    """

    executor: FlowExecutor | AsyncFlowExecutor
    flow: AnyFlow
    properties: Sequence[FlowProperty]
    fault_config: FaultConfig = field(default_factory=FaultConfig)
    fault_hook: FaultHook | None = None

    def __post_init__(self) -> None:
        if not self.properties:
            raise FuzzConfigError(f"give at least one property of flow '{self.flow.name}' to check")

    def run(self, *, runs: int, seed: int, base_input: dict[str, Any] | None = None) -> FuzzReport:
        """Run `runs` cases, blocking, and report which properties they violated.

        Case 0 is `base_input` itself; each later one has one change of it. Without a `base_input` cases are generated from the
        flow's input schema, and half of the later ones changed.

        Raises:
            FuzzConfigError: `runs` is below 1, or there is neither an input nor a schema to generate one from.
            TypeError: The runs of the executor have to be awaited.
            DoubleweaveError: Otherwise what `execute_flow` raises before a run has started.
        """
        require_blocking(self.executor, "FlowFuzzer.run_async(...)")
        return conduct(self._procedure(runs, seed, base_input))

    async def run_async(self, *, runs: int, seed: int, base_input: dict[str, Any] | None = None) -> FuzzReport:
        """As `run`, without blocking the event loop, for both kinds of executor."""
        return await conduct_async(self._procedure(runs, seed, base_input))

    def cases(self, *, runs: int, seed: int, base_input: dict[str, Any] | None = None) -> Iterator[FuzzCase]:
        """Yield the cases that `run` would run, without running them; raises its `FuzzConfigError`."""
        if runs < 1:
            raise FuzzConfigError(f"runs must be >= 1, got {runs}")
        rng = random.Random(seed)
        for index in range(runs):
            inputs = self._generated(rng) if base_input is None else deepcopy(base_input)
            is_changed = index > 0 and (base_input is not None or rng.random() < 0.5)
            yield FuzzCase(index, mutated(inputs, rng) if is_changed else inputs)

    def _procedure(self, runs: int, seed: int, base_input: dict[str, Any] | None) -> Procedure[FuzzReport]:
        failures: list[FuzzFailure] = []
        trials = Trials(self.executor, self.flow)
        for case in self.cases(runs=runs, seed=seed, base_input=base_input):
            outcome = yield self._with_faults(trials, seed, case), case.initial_input
            for prop in self.properties:
                found = violation(prop, outcome)
                if found is not None:
                    failures.append(FuzzFailure(prop.name, case.index, case.initial_input, outcome.result, found.error))
        return FuzzReport(self.flow.name, runs, seed, [prop.name for prop in self.properties], failures)

    def _with_faults(self, trials: Trials, seed: int, case: FuzzCase) -> Trials:
        if self.fault_hook is None and not self.fault_config.active:
            return trials
        hook = self.fault_hook or mutating_hook(self.fault_config)
        tools = faulty_tools(self.executor.registered_tools.values(), hook, seed, case.index)
        return Trials(self.executor, self.flow, tools)

    def _generated(self, rng: random.Random) -> dict[str, Any]:
        try:
            return generate_input(self.flow.input_schema, rng)
        except AttestationInputError as error:
            raise FuzzConfigError(
                f"no input of flow '{self.flow.name}' can be generated, give a base_input: "
                f"'{error.field_name}' ({error.annotation_repr})"
            ) from error
