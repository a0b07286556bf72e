"""Running a flow again and again on the same inputs, and reporting whether its outputs agree."""

import hashlib
import json
import platform
import random
import sys
from collections.abc import Generator, Iterable
from copy import deepcopy
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from doubleweave.attest.keys import as_input, field_at
from doubleweave.attest.values import AttestationInputError, generate_input
from doubleweave.executor import AsyncFlowExecutor, FlowExecutor
from doubleweave.models.flows import AnyFlow
from doubleweave.models.product import __version__
from doubleweave.models.steps import DAGFlowStep, FlowStep
from doubleweave.testing.trials import Outcome, Procedure, Trials, conduct, conduct_async, require_blocking


class AttestationReport(BaseModel):
    """What was attested, of what, where and when; times are ISO 8601 in UTC, durations milliseconds.

    `divergences` has an entry for each input whose runs failed or gave different outputs: `input_index`, `input_payload`,
    `diverging_step` (a step index, or None) and `error_message`. `aggregate_fingerprint` is equal for equal outputs.
    """

    model_config = ConfigDict(frozen=True)

    doubleweave_version: str
    flow_name: str
    flow_version: str
    flow_schema_fingerprint: str
    tool_schema_hashes: dict[str, str]
    n: int
    repeats: int
    seed: int
    host_info: dict[str, str]
    started_at_iso: str
    ended_at_iso: str
    total_duration_ms: float
    observed_deterministic: bool
    aggregate_fingerprint: str
    divergences: list[dict[str, Any]] = Field(default_factory=list)


def attest_flow(
    *,
    flow: AnyFlow,
    executor: FlowExecutor,
    n: int,
    repeats: int,
    seed: int,
    seed_inputs: Iterable[dict[str, Any]] | None = None,
) -> AttestationReport:
    """Run a registered flow `repeats` times on each of `n` inputs, and report whether its outputs agree.

    An executor with a step cache gives the outputs of the first run again, and so attests little.

    Args:
        flow: The flow, registered with the executor in this version.
        executor: Has the flow's tools; it is not changed. For an `AsyncFlowExecutor` there is `attest_flow_async`.
        n: How many inputs are generated from the flow's input schema.
        repeats: How often each input is run, at least twice.
        seed: Of the generated inputs: the same seed gives the same ones.
        seed_inputs: The inputs to run, instead of generated ones; the report then has their number as `n`, and the seed -1.

    Raises:
        ValueError: `repeats` is below 2, or there is no input to run.
        AttestationInputError: No input can be generated; says for which field.
        TypeError: The runs of the executor have to be awaited.
        DoubleweaveError: Otherwise what `execute_flow` raises before a run has started.
    """
    require_blocking(executor, "attest_flow_async(...)")
    return conduct(_attestation(flow, executor, n, repeats, seed, seed_inputs))


async def attest_flow_async(
    *,
    flow: AnyFlow,
    executor: FlowExecutor | AsyncFlowExecutor,
    n: int,
    repeats: int,
    seed: int,
    seed_inputs: Iterable[dict[str, Any]] | None = None,
) -> AttestationReport:
    """As `attest_flow`, without blocking the event loop, for both kinds of executor."""
    return await conduct_async(_attestation(flow, executor, n, repeats, seed, seed_inputs))


def _attestation(
    flow: AnyFlow,
    executor: FlowExecutor | AsyncFlowExecutor,
    n: int,
    repeats: int,
    seed: int,
    seed_inputs: Iterable[dict[str, Any]] | None,
) -> Procedure[AttestationReport]:
    if repeats < 2:
        raise ValueError(f"repeats must be >= 2, got {repeats}")
    inputs = _generated(flow, n, seed) if seed_inputs is None else deepcopy(list(seed_inputs))
    if not inputs:
        raise ValueError(f"n must be >= 1, got {n if seed_inputs is None else 'no seed_inputs'}")
    trials, started_at, start = Trials(executor, flow), datetime.now(UTC), perf_counter()
    fingerprints: list[str] = []
    divergences: list[dict[str, Any]] = []
    for index, payload in enumerate(inputs):
        found, divergence = yield from _attest_one(trials, payload, repeats)
        fingerprints += found
        if divergence is not None:
            divergences.append({"input_index": index, "input_payload": payload, **divergence})
    return AttestationReport(
        doubleweave_version=__version__,
        flow_name=flow.name,
        flow_version=flow.version,
        flow_schema_fingerprint=_digest(_shape(flow)),
        tool_schema_hashes={name: tool.schema_hash for name, tool in executor.registered_tools.items()},
        n=len(inputs),
        repeats=repeats,
        seed=seed if seed_inputs is None else -1,
        host_info={
            "python_version": platform.python_version(),
            "platform": sys.platform,
            "machine": platform.machine(),
        },
        started_at_iso=started_at.isoformat(),
        ended_at_iso=datetime.now(UTC).isoformat(),
        total_duration_ms=(perf_counter() - start) * 1000.0,
        observed_deterministic=not divergences,
        aggregate_fingerprint=hashlib.sha256("|".join(sorted(fingerprints)).encode()).hexdigest(),
        divergences=divergences,
    )


def _generated(flow: AnyFlow, n: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [_validated(flow.input_schema, generate_input(flow.input_schema, rng)) for _ in range(n)]


def _validated(schema: type[BaseModel] | None, values: dict[str, Any]) -> dict[str, Any]:
    assert schema is not None
    try:
        model = schema.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        found = field_at(schema, fault["loc"])
        name, annotation = (schema.__name__, schema) if found is None else (found[0], found[1].annotation)
        raise AttestationInputError(name, f"{annotation!r}: {fault['input']!r} is refused, {fault['msg']}") from error
    inputs: dict[str, Any] = as_input(model, model.model_dump())
    return inputs


def _attest_one(
    trials: Trials, payload: dict[str, Any], repeats: int
) -> Procedure[tuple[list[str], dict[str, Any] | None]]:
    """Run one input; return the fingerprints of its outputs, in order and without doubles, and how it diverged, if it did."""
    outcomes: list[Outcome] = []
    for _ in range(repeats):
        outcomes.append((yield trials, payload))
    fingerprints = sorted({_digest(outcome.result.final_output) for outcome in outcomes})
    failed = next((each for each in outcomes if each.error is not None or not each.result.success), None)
    if failed is not None:
        return fingerprints, _failure(failed)
    if len(fingerprints) == 1:
        return fingerprints, None
    step = yield from _diverging_step(trials, payload)
    message = f"{repeats} runs of the same input disagreed: {len(fingerprints)} different outputs"
    return fingerprints, {"diverging_step": step, "error_message": message}


def _failure(outcome: Outcome) -> dict[str, Any]:
    record = next((each for each in outcome.result.execution_log if not each.success), None)
    if record is not None:
        return {"diverging_step": record.step_index, "error_message": record.error_message}
    return {"diverging_step": getattr(outcome.error, "step_index", None), "error_message": str(outcome.error)}


def _diverging_step(
    trials: Trials, payload: dict[str, Any]
) -> Generator[tuple[Trials, dict[str, Any]], Outcome, int | None]:
    """Return the index of the first step whose outputs differ between two more runs, or None."""
    first: Outcome = yield trials, payload
    second: Outcome = yield trials, payload
    for one, other in zip(first.result.execution_log, second.result.execution_log, strict=False):
        if _digest(one.outputs) != _digest(other.outputs):
            return one.step_index
    return None


def _shape(flow: AnyFlow) -> Any:
    return [type(flow).__name__, flow.name, flow.version, [_step_shape(step) for step in flow.steps]]


def _step_shape(step: FlowStep) -> Any:
    shape = {"tool": step.display_name, "mapping": step.input_mapping}
    return {**shape, "id": step.step_id, "depends_on": step.depends_on} if isinstance(step, DAGFlowStep) else shape


def _digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(_sorted_sets(value), sort_keys=True, separators=(",", ":"), default=str)


def _sorted_sets(value: Any) -> Any:
    """Return a value with the items of every set in order, and every key a text."""
    if isinstance(value, dict):
        return {str(key): _sorted_sets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sorted_sets(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_sorted_sets(item) for item in value), key=_canonical)
    return value
