"""The record of a step while the step still runs."""

from typing import Any

from doubleweave.core.mapping import Unresolved
from doubleweave.core.plan import PlannedStep
from doubleweave.core.run import Run
from doubleweave.core.setup import logger
from doubleweave.errors import FlowCancelledError, InputMappingError, error_code_for
from doubleweave.models.log_lines import log_step_error
from doubleweave.models.records import RECORD_FIELDS, StepRecord, failed_step_record
from doubleweave.models.trusted import trusted


class Draft:
    """A record that is filled while its step runs, and the ways in which it is finished."""

    __slots__ = ("_perf_start", "_values", "record", "run", "step")

    def __init__(self, run: Run, step: PlannedStep) -> None:
        self.run = run
        self.step = step
        # The record's own dict: to write there costs a tenth of what an assignment to the model does.
        self._values = values = step.values.copy()
        values["inputs"] = {}
        values["retry_errors"] = []
        values["started_at"] = run.now()
        self._perf_start = run.perf_counter()
        self.record = trusted(StepRecord, values, RECORD_FIELDS)

    def take_inputs(self, context: dict[str, Any]) -> dict[str, Any]:
        """Resolve the step's inputs and keep them.

        Raises:
            InputMappingError: The input mapping names what is not in `context`.
        """
        try:
            self._values["inputs"] = inputs = self.step.resolve(context)
        except Unresolved as error:
            raise InputMappingError(self.record.tool_name, self.step.index, error.key) from error.__cause__
        return inputs

    def succeeded(self, outputs: dict[str, Any]) -> StepRecord:
        """Return the record of a step whose outputs go on."""
        run, values = self.run, self._values
        values["outputs"] = outputs
        values["ended_at"] = run.now()
        values["duration_ms"] = (run.perf_counter() - self._perf_start) * 1000.0
        return self.record

    def skipped(self, error: Exception | None = None) -> StepRecord:
        """Return the record of a step that counts as done without outputs, with the error that was skipped, if any."""
        self._values["skipped"] = True
        if error is not None:
            self._keep_error(error)
        return self.succeeded({})

    def failed(self, error: Exception) -> StepRecord:
        """Log the error and return the record of a step that failed with it."""
        self.log_failure(error)
        self._keep_error(error)
        record = self.succeeded({})
        record.success = False
        record.outputs = None
        return record

    def interrupted(self, error: FlowCancelledError) -> StepRecord:
        """Return the record of a sub-flow's step whose sub-flow was cancelled."""
        step = self.step
        self.log_failure(error)
        return failed_step_record(
            step.index, step.name, {}, error, self.run.now(), flow_name=step.flow_name, sub_result=error.result
        )

    def log_failure(self, error: Exception) -> None:
        """Write the one ERROR line of a failure."""
        log_step_error(logger, self.step.index, self.record.tool_name, error)

    def log_failure_of(self, record: StepRecord) -> None:
        """Write the ERROR line of a record that somebody else made."""
        logger.error(
            "Step %d ERROR | tool=%s | error=%s: %s",
            self.step.index,
            record.tool_name,
            record.error_type,
            record.error_message,
        )

    def _keep_error(self, error: Exception) -> None:
        name = type(error).__name__
        self._values.update(error_type=name, error_code=error_code_for(name), error_message=text_of(error))


def text_of(error: BaseException) -> str:
    """Return `str(error)` as text that UTF-8 can hold, or a stand-in when the error cannot even say what it is."""
    try:
        return str(error).encode(errors="backslashreplace").decode()
    except Exception:
        return f"<{type(error).__name__} without readable text>"
