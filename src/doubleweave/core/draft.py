"""What becomes the record of a step, while the step still runs and until somebody looks."""

from datetime import UTC, datetime
from typing import Any

from doubleweave.core.forecast import possible_writes
from doubleweave.core.mapping import Unresolved
from doubleweave.core.plan import PlannedStep
from doubleweave.core.run import Run
from doubleweave.core.setup import logger, moment
from doubleweave.errors import FlowCancelledError, InputMappingError, ToolNotFoundError, error_code_for
from doubleweave.models.hints import missing_key_hint, missing_tool_hint
from doubleweave.models.log_lines import log_step_error, text_of
from doubleweave.models.records import DEFAULTS, StepRecord, failed_step_record, own_copy, trusted_record
from doubleweave.models.tools import ToolBase


class Draft:
    """What a step has come to so far, and the ways in which it is finished.

    Few records are ever looked at before the run has ended, and many not at all. So a draft keeps what every step has in
    slots of its own and builds the record when asked for it. What few steps have, as an error or an approval, is written
    into the record, which is then there from that moment on.
    """

    __slots__ = (
        "_record",
        "cached",
        "inputs",
        "outputs",
        "perf_end",
        "perf_start",
        "run",
        "skipped",
        "started",
        "step",
        "success",
        "tool_name",
    )

    def __init__(self, run: Run, step: PlannedStep) -> None:
        # Until the step is finished; what is left of a run after it must not hold on to all of it.
        self.run = run
        self.step = step
        self.tool_name = step.name
        self.inputs: dict[str, Any] = _NOTHING
        self.outputs: dict[str, Any] | None = None
        self.success = True
        self.cached = self.skipped = False
        self._record: StepRecord | None = None
        self.perf_end: float | None = None
        # Read, then called: CPython 3.11 calls what is not a method at half the price so. All of the hot path does it.
        time, perf_counter = run.time, run.perf_counter
        self.started = time()
        self.perf_start = perf_counter()

    @property
    def record(self) -> StepRecord:
        """The record as it stands; the same object each time."""
        if self._record is None:
            step = self.step
            values = DEFAULTS.copy()
            values["step_index"] = step.index
            values["flow_name"] = step.flow_name
            values["retry_errors"] = []
            values["started_at"] = fromtimestamp(self.started, UTC)
            self._write(values)
            self._record = trusted_record(values)
        return self._record

    @property
    def is_plain(self) -> bool:
        """Whether the record is not built yet, and will say no more than that a tool succeeded."""
        return self._record is None and self.step.flow_name is None and self.perf_end is not None

    @property
    def started_at(self) -> datetime:
        """When the step started."""
        return moment(self.started)

    def take_inputs(self, context: dict[str, Any]) -> dict[str, Any]:
        """Resolve the step's inputs and keep them.

        Raises:
            InputMappingError: The input mapping names what is not in `context`.
        """
        try:
            resolve = self.step.resolve
            self.inputs = inputs = resolve(context)
        except Unresolved as error:
            hint = missing_key_hint(self.run.flow.name, error.field, error.source, context, self._names_before())
            raise InputMappingError(self.tool_name, self.step.index, error.key, hint=hint) from error.__cause__
        return inputs

    def registered(self, name: str) -> ToolBase:
        """Return a registered tool.

        Raises:
            ToolNotFoundError: No tool has this name.
        """
        tools = self.run.setup.tools
        if name not in tools:
            raise ToolNotFoundError(name, hint=missing_tool_hint(self.run.flow.name, self.step.index, name, tools))
        return tools[name]

    def _names_before(self) -> set[str]:
        """Return the keys that the context may have for this step, as far as that is known; the same on every lane.

        The context itself would not do: steps that ran ahead have written into it.
        """
        run = self.run
        before = (step for step in run.plan.steps if step.level < self.step.level)
        return {*run.initial_input, *run.scope.dynamic_params}.union(
            *(possible_writes(step, run.setup.tools) or () for step in before)
        )

    def kept(self) -> "Outcome":
        """Return a copy of a finished step that no later change of its record reaches."""
        if self._record is not None:
            return Settled(own_copy(self._record))
        twin = Draft.__new__(Draft)
        twin.step, twin.tool_name = self.step, self.tool_name
        twin.inputs, twin.outputs = self.inputs.copy(), self.outputs and self.outputs.copy()
        twin.success, twin.cached, twin.skipped = self.success, self.cached, self.skipped
        twin._record = None
        twin.started, twin.perf_start, twin.perf_end = self.started, self.perf_start, self.perf_end
        return twin

    def choose(self, tool_name: str) -> None:
        """Let another tool than the step's own do its work."""
        self.tool_name = self.record.tool_name = tool_name

    def succeeded(self, outputs: dict[str, Any]) -> "Draft":
        """Finish a step whose outputs go on."""
        perf_counter = self.run.perf_counter
        self.outputs = outputs
        self.perf_end = perf_counter()
        if self._record is not None:
            self._write(self._record.__dict__)
        del self.run
        return self

    def skip(self, error: Exception | None = None) -> "Draft":
        """Finish a step that counts as done without outputs, with the error that was skipped, if any."""
        self.skipped = self.record.skipped = True
        if error is not None:
            _keep_error(self.record, error)
        return self.succeeded({})

    def failed(self, error: Exception) -> "Draft":
        """Log the error and finish the step as one that failed with it."""
        self.log_failure(error)
        _keep_error(self.record, error)
        self.success = self.record.success = False
        self.cached = False
        self.succeeded({})
        self.outputs = self.record.outputs = None
        return self

    def interrupted(self, error: FlowCancelledError) -> "Settled":
        """Finish the step of a sub-flow that was cancelled."""
        step = self.step
        self.log_failure(error)
        now = moment(self.run.time())
        record = failed_step_record(
            step.index, step.name, {}, error, now, flow_name=step.flow_name, sub_result=error.result
        )
        return Settled(record)

    def log_failure(self, error: Exception) -> None:
        """Write the one ERROR line of a failure."""
        log_step_error(logger, self.step.index, self.tool_name, error)

    def _write(self, values: dict[str, Any]) -> None:
        values["tool_name"] = self.tool_name
        values["inputs"] = {} if self.inputs is _NOTHING else self.inputs
        values["outputs"] = self.outputs
        values["cached"] = self.cached
        if self.perf_end is not None:
            duration = self.perf_end - self.perf_start
            values["ended_at"] = fromtimestamp(self.started + duration, UTC)
            values["duration_ms"] = duration * 1000.0


fromtimestamp = datetime.fromtimestamp
_NOTHING: dict[str, Any] = {}


class Settled:
    """The outcome of a step whose record is there already; to be used like a finished `Draft`."""

    __slots__ = ("record",)

    def __init__(self, record: StepRecord) -> None:
        self.record = record

    def kept(self) -> "Settled":
        """Return a copy that no later change of the record reaches."""
        return Settled(own_copy(self.record))

    @property
    def is_plain(self) -> bool:
        """The record is there."""
        return False

    @property
    def tool_name(self) -> str:
        """The tool that did the work."""
        return self.record.tool_name

    @property
    def outputs(self) -> dict[str, Any] | None:
        """What the step goes on with."""
        return self.record.outputs

    @property
    def success(self) -> bool:
        """Whether the step did what it should."""
        return self.record.success

    @property
    def skipped(self) -> bool:
        """Whether the step counts as done without having run."""
        return self.record.skipped


Outcome = Draft | Settled


def _keep_error(record: StepRecord, error: Exception) -> None:
    name = type(error).__name__
    record.error_type, record.error_code, record.error_message = name, error_code_for(name), text_of(error)
