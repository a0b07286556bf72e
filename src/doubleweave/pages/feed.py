"""What browsers are told of a run that goes on: each message once, in order, kept for those who come late."""

import threading
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from doubleweave.models.events import FlowEvent
from doubleweave.models.flows import AnyFlow
from doubleweave.models.records import ExecutionResult
from doubleweave.pages.data import Curtain, Data, offset_ms, row_data, unused_id
from doubleweave.pages.graph import graph_data
from doubleweave.pages.render import json_in_html, render, report_data


class News(NamedTuple):
    """Messages, each with its number, and whether no more will come."""

    messages: list[tuple[int, bytes]]
    is_over: bool


class Feed:
    """The messages of one run. Whoever puts does not wait for whoever reads, however slow.

    Args:
        flow: The flow that runs.
        curtain: What may be seen of it.
    """

    def __init__(self, flow: AnyFlow, curtain: Curtain) -> None:
        self._flow = flow
        self._curtain = curtain
        self._told = _Told(curtain)
        self._changed = threading.Condition()
        self._messages: list[bytes] = []
        self._is_over = False
        self._is_closed = False
        self._last: Data = {"runs": [{"flow": flow.name, "state": "running"}], "rows": [], "graph": graph_data(flow)}

    def page(self) -> str:
        """Return the page: one that follows the messages while there may be more, and the report after that."""
        with self._changed:
            return render(self._last, live=not self._is_over)

    def put(self, event: FlowEvent) -> None:
        """Take an event of the run."""
        self._add([_message(kind, data) for kind, data in self._told.of(event)])

    def end(self, error: BaseException | None) -> ExecutionResult | None:
        """Take the end of the run with what it raised, and return its result if it has one."""
        result = self._told.result
        last: Data = {} if error is None else {"trouble": self._trouble(error)}
        if result is not None:
            last |= report_data(result, self._flow, None, self._curtain)
        else:
            last |= self._told.broken_off(self._last["runs"][0])
        self._add([_message("end", last)], last)
        return result

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def after(self, number: int, timeout: float) -> News:
        """Wait for messages after one of this number, for so many seconds at most, and return them.

        The last message says all that those before it do, and is the only one when it is there.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._is_over or len(self._messages) > number, timeout)
            count = len(self._messages)
            first = count - 1 if self._is_over and count > number else number
            messages = list(enumerate(self._messages[first:], first + 1))
            return News(messages, self._is_over or self._is_closed)

    @property
    def count(self) -> int:
        """How many messages there are."""
        with self._changed:
            return len(self._messages)

    def clock(self) -> bytes:
        """Return a message that says for how long the run has gone on; nothing before it has started."""
        elapsed = self._told.elapsed_ms
        return b"" if elapsed is None else _message("clock", elapsed)

    def _add(self, messages: Iterable[bytes], last: Data | None = None) -> None:
        with self._changed:
            self._messages += messages
            if last is not None:
                self._last = {**self._last, **last}
                self._is_over = True
            self._changed.notify_all()

    def _trouble(self, error: BaseException) -> str:
        code = getattr(error, "code", None)
        text = self._curtain.text(str(error))
        name = f"[{code}]" if isinstance(code, str) else f"{type(error).__name__}:"
        return f"{name} {text}".removesuffix(": ")


def _message(kind: str, data: Any) -> bytes:
    return f"event: {kind}\ndata: {json_in_html(data)}\n\n".encode()


class _Told:
    """The rows of a run by its events."""

    def __init__(self, curtain: Curtain) -> None:
        self.run: Data = {}
        self.result: ExecutionResult | None = None
        self._since: float | None = None
        self._curtain = curtain
        self._start: datetime | None = None
        # What the ids of a run's rows begin with, by its trace id. The outermost one comes first.
        self._prefixes: dict[str, str] = {}
        self._running: dict[tuple[str, int], Data] = {}
        self._rows: dict[str, Data] = {}
        self._seen: dict[str, int] = {}

    @property
    def elapsed_ms(self) -> float | None:
        """For how long the run has gone on; None before it has started."""
        return None if self._since is None else round((time.monotonic() - self._since) * 1000, 3)

    def broken_off(self, run: Data) -> Data:
        """Return what is known of a run that has no result. What has not ended by now never will."""
        now = self.elapsed_ms or 0.0
        end = {"state": "failed", "end": now, "error": {"message": "The run ended before this step did."}}
        rows = [
            {**row, **end, "ms": now - row["at"]} if row["state"] == "running" else row for row in self._rows.values()
        ]
        return {"runs": [{**run, **self.run, "state": "failed", "ms": now}], "rows": rows}

    def of(self, event: FlowEvent) -> list[tuple[str, Data]]:
        """Return the messages of an event."""
        if event.kind == "flow_start":
            return self._start_of(event)
        if event.trace_id not in self._prefixes or event.step_index is None:
            if event.kind == "flow_end" and event.trace_id == self.run.get("trace"):
                self.result = event.result
            return []
        if event.kind == "step_start":
            return self._row(self._started(event))
        if event.kind == "step_end":
            return self._row(self._ended(event))
        return self._chunk(event)

    def _start_of(self, event: FlowEvent) -> list[tuple[str, Data]]:
        if self._start is not None:
            self._prefixes[event.trace_id] = self._prefix(event)
            return []
        self._start, self._since = event.timestamp, time.monotonic()
        self._prefixes[event.trace_id] = ""
        self.run = {
            "flow": event.flow_name,
            "version": event.flow_version,
            "state": "running",
            "trace": event.trace_id,
            "started": event.timestamp.isoformat(timespec="milliseconds"),
            "total": event.total_steps,
            "inputs": self._curtain.value(event.initial_input),
        }
        return [("run", self.run)]

    def _prefix(self, event: FlowEvent) -> str:
        """Return the beginning of the ids of a sub-flow's rows: of the steps that may have started it, the last one did."""
        owners = [row["id"] for row in self._running.values() if row["name"] == event.flow_name]
        free = [id for id in owners if f"{id}/" not in self._prefixes.values()]
        return f"{free[-1] if free else event.trace_id}/"

    def _row(self, row: Data) -> list[tuple[str, Data]]:
        self._rows[row["id"]] = row
        return [("row", row)]

    def _started(self, event: FlowEvent) -> Data:
        row = self._place(event)
        row |= {"name": event.tool_name, "state": "running", "at": self._offset(event)}
        row["inputs"] = self._curtain.value(event.inputs)
        self._running[event.trace_id, row["index"]] = row
        return row

    def _ended(self, event: FlowEvent) -> Data:
        """Return the row of a step that has ended. Some end that have not started."""
        assert event.step_record is not None
        assert self._start is not None
        record = event.step_record
        row = self._running.pop((event.trace_id, record.step_index), None) or self._place(event)
        return row_data(record, self._curtain, self._start, row["id"], row["depth"])

    def _place(self, event: FlowEvent) -> Data:
        prefix = self._prefixes[event.trace_id]
        id = unused_id(f"{prefix}{event.step_index}", self._seen)
        return {"id": id, "depth": prefix.count("/"), "index": event.step_index}

    def _offset(self, event: FlowEvent) -> float:
        assert self._start is not None
        return offset_ms(event.timestamp, self._start)

    def _chunk(self, event: FlowEvent) -> list[tuple[str, Data]]:
        row = self._running.get((event.trace_id, event.step_index or 0))
        # The last chunk is the output, which comes with the record.
        if row is None or event.chunk is None or event.chunk.is_final:
            return []
        data = event.chunk.data
        text = self._curtain.text(data) if isinstance(data, str) else f"{self._curtain.value({'chunk': data})}\n"
        return [("chunk", {"id": row["id"], "text": text})]
