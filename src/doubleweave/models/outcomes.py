"""What became of each step and edge of a flow in one run, for drawings."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from doubleweave.models.flows import AnyFlow, DAGFlow
from doubleweave.models.labels import visible
from doubleweave.models.records import ExecutionResult, StepRecord
from doubleweave.models.steps import DAGFlowStep, FlowStep
from doubleweave.models.topology import dag_levels

OutcomeKind: TypeAlias = Literal["ok", "cached", "fallback", "skipped", "failed", "not run"]

MARKS: dict[OutcomeKind, str] = {
    "ok": "✓ ",
    "cached": "✓ ",
    "fallback": "✓ ",
    "skipped": "– ",
    "failed": "✗ ",
    "not run": "",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a step: its record, if it has one, and whether it was left out because no branch led to it."""

    kind: OutcomeKind
    record: StepRecord | None = None
    is_off_branch: bool = False

    @property
    def leads_on(self) -> bool:
        """Whether the run went through the step."""
        return self.record is not None and self.record.success and not self.is_off_branch

    def words(self, step: FlowStep) -> str:
        """Return the outcome of a step in one line, with its time, retries and what else is not as usual."""
        return MARKS[self.kind] + ", ".join(self._parts(step))

    def _parts(self, step: FlowStep) -> list[str]:
        record = self.record
        if record is None or self.is_off_branch:
            return ["branch not taken" if self.is_off_branch else "not run"]
        what = outcome_name(record, self.kind)
        parts = [what] if what and self.kind != "fallback" else []
        parts += [milliseconds(record.duration_ms), *retries_of(record)]
        if record.tool_name != step.display_name:
            parts.append(f"chose {visible(record.tool_name)}")
        return [*parts, what] if self.kind == "fallback" else parts


def milliseconds(duration_ms: float) -> str:
    """Return a time in words, in seconds from ten thousand milliseconds on."""
    return f"{duration_ms:.1f} ms" if duration_ms < 10_000 else f"{duration_ms / 1000:.1f} s"


def retries_of(record: StepRecord) -> list[str]:
    """Return the number of retries in words; nothing when there were none."""
    if not record.retry_count:
        return []
    return ["1 retry" if record.retry_count == 1 else f"{record.retry_count} retries"]


def outcome_name(record: StepRecord, kind: OutcomeKind) -> str:
    """Return what is worth telling of a kind of outcome; an empty text for a plain success."""
    error = visible(record.error_type or "")
    match kind:
        case "ok":
            return ""
        case "fallback":
            return f"fallback {visible(record.fallback_tool_name or '')}"
        case "skipped":
            return f"skipped after {error}" if error else "skipped"
        case "failed":
            return error or "failed"
        case _:
            return kind


def kind_of_record(record: StepRecord) -> OutcomeKind:
    """Return the outcome that a record tells of."""
    if not record.success:
        return "failed"
    if record.skipped:
        return "skipped"
    if record.cached:
        return "cached"
    return "fallback" if record.fallback_used else "ok"


def outcomes_of(flow: AnyFlow, result: ExecutionResult) -> list[Outcome]:
    """Return the outcome of each step of a flow, in the order of `flow.steps`.

    Records of the flow's own input and output belong to no step; those of a sub-flow's steps are in its step's record.

    Raises:
        ValueError: The result is of another flow, or of another version of it.
        DAGDefinitionError: As `validate_dag_topology`.
    """
    if (result.flow_name, result.flow_version) != (flow.name, flow.version):
        raise ValueError(
            f"the result is of flow '{result.flow_name}' {result.flow_version}, not of '{flow.name}' {flow.version}; "
            "draw it with the flow that ran"
        )
    records = {record.step_index: record for record in result.execution_log}
    strange = [index for index in records if not -1 <= index <= len(flow.steps)]
    if strange:
        raise ValueError(
            f"the result has a record of step {strange[0]}, flow '{flow.name}' has {len(flow.steps)} steps"
        )
    if not isinstance(flow, DAGFlow):
        return [_outcome(records.get(index)) for index in range(len(flow.steps))]
    return _dag_outcomes(flow, records)


def _dag_outcomes(flow: DAGFlow, records: dict[int, StepRecord]) -> list[Outcome]:
    found: dict[str, Outcome] = {}
    choosers = {step.step_id for step in flow.steps if step.branches}
    order = [step for level in dag_levels(flow) for step in level]
    for index, step in enumerate(order):
        record = records.get(index)
        is_off = record is not None and _is_off_branch(step, record, choosers, found)
        found[step.step_id] = Outcome("skipped", record, is_off_branch=True) if is_off else _outcome(record)
    return [found[step.step_id] for step in flow.steps]


def _outcome(record: StepRecord | None) -> Outcome:
    return Outcome("not run") if record is None else Outcome(kind_of_record(record), record)


def _is_off_branch(step: DAGFlowStep, record: StepRecord, choosers: set[str], found: dict[str, Outcome]) -> bool:
    """Tell a step that no branch led to from one that was skipped for an error or in a dry run, which took some time."""
    left_out = record.skipped and record.error_type is None and record.started_at == record.ended_at
    if not left_out or record.inputs or record.duration_ms:
        return False
    above = [found[name] for name in step.depends_on]
    return any(name in choosers for name in step.depends_on) or (
        bool(above) and all(one.is_off_branch for one in above)
    )


def is_taken(source: Outcome, target: Outcome) -> bool:
    """Return whether a run went along an edge between steps with these outcomes."""
    return source.leads_on and target.record is not None and not target.is_off_branch
