"""Making an input that breaks a flow as small as it can be."""

from collections.abc import Generator
from copy import deepcopy
from typing import Any

from doubleweave.executor import AsyncFlowExecutor, FlowExecutor
from doubleweave.fuzz.properties import FlowProperty, FuzzConfigError, violation
from doubleweave.models.flows import AnyFlow
from doubleweave.testing.trials import Outcome, Procedure, Trials, conduct, conduct_async, require_blocking

_SIMPLEST: dict[type, Any] = {bool: False, int: 0, float: 0.0, str: "", list: [], dict: {}}


def minimize_failure(
    executor: FlowExecutor,
    flow: AnyFlow,
    failing_input: dict[str, Any],
    prop: FlowProperty,
    *,
    max_rounds: int = 50,
) -> dict[str, Any]:
    """Return an input with fewer keys and simpler values under which a run of the flow still violates `prop`.

    In rounds, until nothing changes, it drops keys and replaces values by the simplest of their type, and keeps what still
    violates the property. There are no faults and there is no chance in it.

    Raises:
        FuzzConfigError: `failing_input` does not violate the property.
        TypeError: The runs of the executor have to be awaited; use `minimize_failure_async`.
        DoubleweaveError: Otherwise what `execute_flow` raises before a run has started.
    """
    require_blocking(executor, "minimize_failure_async(...)")
    return conduct(_minimizing(Trials(executor, flow), failing_input, prop, max_rounds))


async def minimize_failure_async(
    executor: FlowExecutor | AsyncFlowExecutor,
    flow: AnyFlow,
    failing_input: dict[str, Any],
    prop: FlowProperty,
    *,
    max_rounds: int = 50,
) -> dict[str, Any]:
    """As `minimize_failure`, without blocking the event loop, for both kinds of executor."""
    return await conduct_async(_minimizing(Trials(executor, flow), failing_input, prop, max_rounds))


def _minimizing(
    trials: Trials, failing_input: dict[str, Any], prop: FlowProperty, max_rounds: int
) -> Procedure[dict[str, Any]]:
    smallest = deepcopy(failing_input)
    if not (yield from _violates(trials, smallest, prop)):
        raise FuzzConfigError(f"the input does not violate the property '{prop.name}', so there is nothing to minimize")
    for _ in range(max_rounds):
        before = smallest
        for key in sorted(smallest, key=str):
            dropped = {name: value for name, value in smallest.items() if name != key}
            if (yield from _violates(trials, dropped, prop)):
                smallest = dropped
        for key in sorted(smallest, key=str):
            simplest = _SIMPLEST.get(type(smallest[key]))
            if simplest is None or simplest == smallest[key]:
                continue
            replaced = {**smallest, key: deepcopy(simplest)}
            if (yield from _violates(trials, replaced, prop)):
                smallest = replaced
        if smallest is before:
            break
    return smallest


def _violates(
    trials: Trials, inputs: dict[str, Any], prop: FlowProperty
) -> Generator[tuple[Trials, dict[str, Any]], Outcome, bool]:
    outcome = yield trials, inputs
    return violation(prop, outcome) is not None
