"""The record of a step while the step still runs."""

from typing import Any

from doubleweave.core.plan import PlannedStep
from doubleweave.core.run import Run
from doubleweave.core.setup import logger
from doubleweave.models.callbacks import ApprovalRecord, DecisionRecord
from doubleweave.models.log_lines import log_step_error
from doubleweave.models.records import ExecutionResult, StepRecord, trusted_step_record


class Draft:
    """What is known of a running step, and the ways in which it can become a record."""

    __slots__ = (
        "_perf_start",
        "approval",
        "decision",
        "fallback",
        "inputs",
        "retry_count",
        "retry_errors",
        "run",
        "started_at",
        "step",
        "sub_result",
        "tool_name",
    )

    def __init__(self, run: Run, step: PlannedStep) -> None:
        self.run = run
        self.step = step
        self.tool_name = step.name
        self.inputs: dict[str, Any] = {}
        self.approval: ApprovalRecord | None = None
        self.decision: DecisionRecord | None = None
        self.fallback: str | None = None
        self.retry_count = 0
        self.retry_errors: list[str] = []
        self.sub_result: ExecutionResult | None = None
        self.started_at = run.now()
        self._perf_start = run.perf_counter()

    def succeeded(self, outputs: dict[str, Any]) -> StepRecord:
        """Return the record of a step whose outputs go on."""
        return self._record(outputs, True)

    def skipped(self, error: Exception | None = None) -> StepRecord:
        """Return the record of a step that counts as done without outputs, with the error that was skipped, if any."""
        return self._record({}, True, error, skipped=True)

    def failed(self, error: Exception) -> StepRecord:
        """Log the error and return the record of a step that failed with it."""
        self.log_failure(error)
        return self._record(None, False, error)

    def interrupted(self, error: Exception) -> StepRecord:
        """Return the record of a sub-flow's step whose sub-flow was cancelled."""
        now = self.run.now()
        return trusted_step_record(
            self.step.index,
            self.step.name,
            {},
            None,
            now,
            now,
            0.0,
            success=False,
            error_type=type(error).__name__,
            error_message=str(error),
            flow_name=self.step.flow_name,
            sub_result=getattr(error, "result", None),
        )

    def log_failure(self, error: Exception) -> None:
        """Write the one ERROR line of a failure."""
        log_step_error(logger, self.step.index, self.tool_name, error)

    def log_failure_of(self, record: StepRecord) -> None:
        """Write the ERROR line of a record that somebody else made."""
        logger.error(
            "Step %d ERROR | tool=%s | error=%s: %s",
            self.step.index,
            record.tool_name,
            record.error_type,
            record.error_message,
        )

    def _record(
        self, outputs: dict[str, Any] | None, success: bool, error: Exception | None = None, skipped: bool = False
    ) -> StepRecord:
        run = self.run
        return trusted_step_record(
            self.step.index,
            self.tool_name,
            self.inputs,
            outputs,
            self.started_at,
            run.now(),
            (run.perf_counter() - self._perf_start) * 1000.0,
            error_type=None if error is None else type(error).__name__,
            error_message=None if error is None else text_of(error),
            success=success,
            retry_count=self.retry_count,
            retry_errors=self.retry_errors,
            skipped=skipped,
            fallback_used=self.fallback is not None,
            fallback_tool_name=self.fallback,
            flow_name=self.step.flow_name,
            sub_result=self.sub_result,
            approval=self.approval,
            decision=self.decision,
        )


def text_of(error: BaseException) -> str:
    """Return `str(error)`, or a stand-in when the error cannot even say what it is."""
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} without readable text>"
