"""What OpenTelemetry's own SDK has collected of some runs, as plain data."""

from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from doubleweave import BaseMiddleware, ExecutionResult, StepRecord

PREFIX = "doubleweave."
Key = tuple[str, int | None]
"""The trace id of a run, and the index of a step; None for the run itself."""


class Spans:
    """A tracer, and the spans that have ended."""

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.tracer = provider.get_tracer("tests")

    @property
    def ended(self) -> list[ReadableSpan]:
        """All spans that have ended, in the order of their ends."""
        return list(self._kept.get_finished_spans())

    def clear(self) -> None:
        self._kept.clear()

    def named(self, name: str) -> ReadableSpan:
        """Return the one span of that name."""
        (span,) = (span for span in self.ended if span.name == PREFIX + name)
        return span

    def parent_of(self, span: ReadableSpan) -> ReadableSpan | None:
        """Return the span whose child a span is, or None for one without a parent."""
        if span.parent is None:
            return None
        (parent,) = (other for other in self.ended if context_of(other).span_id == span.parent.span_id)
        assert context_of(parent).trace_id == context_of(span).trace_id
        return parent

    def by_key(self) -> dict[Key, dict[str, Any]]:
        """Return all that spans of runs and steps say, with the keys of their parents instead of ids.

        Spans of attempts, which no result tells, are left out, and so are the events that stand for them.
        """
        ended = [span for span in self.ended if not is_attempt(span)]
        mine = {key_of(span): span for span in ended}
        assert len(mine) == len(ended)
        keys = {context_of(span).span_id: key for key, span in mine.items()}
        return {key: told_by(span, keys) for key, span in mine.items()}


def is_attempt(span: ReadableSpan) -> bool:
    return span.name.startswith(f"{PREFIX}attempt.")


def context_of(span: ReadableSpan) -> Any:
    return span.get_span_context()


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """Return the attributes of a span, all of which have the prefix, without it."""
    assert all(name.startswith(PREFIX) for name in span.attributes or {})
    return {name.removeprefix(PREFIX): value for name, value in (span.attributes or {}).items()}


def key_of(span: ReadableSpan) -> Key:
    attributes = attributes_of(span)
    return attributes["trace_id"], attributes.get("step_index")


def told_by(span: ReadableSpan, keys: dict[int, Key]) -> dict[str, Any]:
    return {
        "name": span.name,
        "parent": None if span.parent is None else keys[span.parent.span_id],
        "attributes": attributes_of(span),
        "times": (span.start_time, span.end_time),
        "status": (span.status.status_code.name, span.status.description),
    }


class Measurements:
    """A meter, and what was measured with it."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        provider = MeterProvider([self._reader], resource=Resource.get_empty(), shutdown_on_exit=False)
        self.meter = provider.get_meter("tests")

    def all(self) -> dict[tuple[str, ...], tuple[str, str | None, float, int]]:
        """Return, by instrument and attributes, the kind, the unit, the sum to a billionth, and the count of histograms."""
        data = self._reader.get_metrics_data()
        found: dict[tuple[str, ...], tuple[str, str | None, float, int]] = {}
        for metric in [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics:
            for point in metric.data.data_points:
                key = (metric.name, *sorted(f"{name}={value!s}" for name, value in (point.attributes or {}).items()))
                if isinstance(point, HistogramDataPoint):
                    found[key] = ("histogram", metric.unit, round(point.sum, 9), point.count)
                else:
                    assert isinstance(point, NumberDataPoint)
                    found[key] = ("counter", metric.unit, point.value, 0)
                    assert getattr(metric.data, "is_monotonic", False)
        return found


@dataclass
class Kept(BaseMiddleware):
    """What hooks were told: records by run and step, and the results of runs, the outermost last."""

    records: dict[Key, StepRecord] = field(default_factory=dict)
    results: list[ExecutionResult] = field(default_factory=list)

    def on_step_end(self, ctx: Any) -> None:
        self.records[ctx.trace_id, ctx.step_record.step_index] = ctx.step_record

    def on_flow_end(self, ctx: Any) -> None:
        self.results.append(ctx.result)


def logged(result: ExecutionResult) -> dict[Key, StepRecord]:
    """Return the records of a result and of the results in it."""
    found: dict[Key, StepRecord] = {}
    for record in result.execution_log:
        found[result.trace_id, record.step_index] = record
        if record.sub_result is not None:
            found.update(logged(record.sub_result))
    return found


def kept_by(middleware: Any) -> int:
    """Count what a middleware keeps of runs."""
    return sum(len(value) for value in vars(middleware).values() if isinstance(value, dict))
