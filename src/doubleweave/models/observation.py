"""Observed traces: what was called, in order, whoever called it."""

from datetime import UTC, datetime
from time import perf_counter
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field


class ObservedStep(BaseModel):
    """One observed call; ``duration_ms`` is in milliseconds."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    tool_name: str
    inputs: dict[str, Any]
    outputs: dict[str, Any] | None = None
    recorded_at: datetime
    duration_ms: float = 0.0


class ObservedTrace(BaseModel):
    """The calls observed under one id; ``ended_at`` is ``None`` while the trace is open."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    trace_id: str
    source: str
    started_at: datetime
    ended_at: datetime | None = None
    steps: list[ObservedStep] = Field(default_factory=list)


class _OpenTrace:
    """A trace that still grows, and when (seconds of the performance counter) it last did."""

    __slots__ = ("last", "trace")

    def __init__(self, trace: ObservedTrace) -> None:
        self.trace = trace
        self.last = perf_counter()


class TraceRecorder:
    """Collects observed traces in memory. Any number of threads may use one recorder at once.

    Threads share nothing but two dicts and the step lists, and touch each through single operations that are atomic:
    taking a trace out of the open ones decides which of two callers closes it, and a step is one append.
    """

    def __init__(self) -> None:
        self._traces: dict[str, ObservedTrace] = {}
        self._open: dict[str, _OpenTrace] = {}

    def start_trace(self, source: str) -> str:
        """Open a trace and return its id (32 hexadecimal characters)."""
        trace = ObservedTrace(trace_id=uuid4().hex, source=source, started_at=_now())
        self._traces[trace.trace_id] = trace
        self._open[trace.trace_id] = _OpenTrace(trace)
        return trace.trace_id

    def record_step(
        self,
        trace_id: str,
        tool_name: str,
        *,
        inputs: dict[str, Any],
        outputs: dict[str, Any] | None = None,
        duration_ms: float | None = None,
    ) -> None:
        """Add a step to an open trace. An omitted duration is the time since the previous step, or since the start.

        Raises:
            KeyError: no trace with this id is open.
        """
        entry = self._open[trace_id]
        now = perf_counter()
        if duration_ms is None:
            duration_ms = (now - entry.last) * 1000.0
        entry.last = now
        entry.trace.steps.append(
            ObservedStep.model_construct(
                tool_name=tool_name,
                inputs=dict(inputs),
                outputs=None if outputs is None else dict(outputs),
                recorded_at=_now(),
                duration_ms=duration_ms,
            )
        )

    def end_trace(self, trace_id: str) -> ObservedTrace:
        """Close a trace, stamp ``ended_at`` and return it.

        Raises:
            KeyError: no trace with this id is open.
        """
        trace = self._open.pop(trace_id).trace
        trace.ended_at = _now()
        return trace

    def list_traces(self, *, include_open: bool = False) -> list[ObservedTrace]:
        """Return the closed traces, then, when asked, copies of the open ones; each group in the order of starting."""
        closed: list[ObservedTrace] = []
        still_open: list[ObservedTrace] = []
        for trace in list(self._traces.values()):
            if trace.ended_at is not None:
                closed.append(trace)
            elif include_open:
                still_open.append(trace.model_copy(update={"steps": list(trace.steps)}))
        return closed + still_open

    def __len__(self) -> int:
        """Return the number of traces, open and closed."""
        return len(self._traces)


def _now() -> datetime:
    return datetime.now(UTC)
