"""Trace stores: the results of finished runs, in memory or in a folder."""

from pathlib import Path
from threading import Lock
from typing import Protocol, runtime_checkable

from pydantic import ValidationError

from doubleweave.models.records import ExecutionResult
from doubleweave.models.redaction import RedactionPolicy
from doubleweave.stores.files import write_atomically


@runtime_checkable
class TraceStore(Protocol):
    """Keeps results by trace id, oldest first; keeping an id again replaces it and makes it the newest."""

    def save(self, result: ExecutionResult) -> None:
        """Keep a result."""
        ...

    def load(self, trace_id: str) -> ExecutionResult | None:
        """Return a result, or None."""
        ...

    def list_trace_ids(self) -> list[str]:
        """Return the trace ids, oldest first."""
        ...

    def delete(self, trace_id: str) -> None:
        """Forget a result; nothing happens when there is none."""
        ...


# Stores of one folder change one file. A lock for each folder, however many stores it has.
_LOCKS: dict[Path, Lock] = {}


class InMemoryTraceStore:
    """Keeps results, redacted when there is a policy, for as long as it lives. Safe to use from several threads."""

    def __init__(self, *, redaction_policy: RedactionPolicy | None = None) -> None:
        self._policy = redaction_policy
        self._lock = Lock()
        self._results: dict[str, ExecutionResult] = {}

    def save(self, result: ExecutionResult) -> None:
        """Keep a result as the newest."""
        kept = redact_execution_result(result, self._policy)
        with self._lock:
            self._results.pop(result.trace_id, None)
            self._results[result.trace_id] = kept

    def load(self, trace_id: str) -> ExecutionResult | None:
        """Return a result, or None."""
        with self._lock:
            return self._results.get(trace_id)

    def list_trace_ids(self) -> list[str]:
        """Return the trace ids, oldest first."""
        with self._lock:
            return list(self._results)

    def delete(self, trace_id: str) -> None:
        """Forget a result; nothing happens when there is none."""
        with self._lock:
            self._results.pop(trace_id, None)

    def __len__(self) -> int:
        with self._lock:
            return len(self._results)


class FileTraceStore:
    """Keeps results as lines of `traces.jsonl` in a folder, which is created when it is missing.

    Lines that cannot be read are passed over, and dropped by the next save. Safe to use from several threads of one process,
    also by several stores of one folder; two processes that save at once can lose a result of each other.

    Args:
        root: The folder.
        redaction_policy: Applied before a result is written.
        max_traces: How many results are kept, the newest; None for all.

    Raises:
        ValueError: `max_traces` is not positive.
    """

    def __init__(
        self, root: str | Path, *, redaction_policy: RedactionPolicy | None = None, max_traces: int | None = None
    ) -> None:
        if max_traces is not None and max_traces <= 0:
            raise ValueError(f"max_traces must be positive, got {max_traces}")
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)
        self.path = self.root / "traces.jsonl"
        self._policy = redaction_policy
        self._max_traces = max_traces
        self._lock = _LOCKS.setdefault(self.root.resolve(), Lock())

    def save(self, result: ExecutionResult) -> None:
        """Write a result as the newest, and drop the oldest above `max_traces`.

        Raises:
            ValueError: The result holds a value that has no JSON form.
            OSError: The file cannot be written; it is as it was.
        """
        line = redact_execution_result(result, self._policy).model_dump_json()
        with self._lock:
            lines = self._read()
            lines.pop(result.trace_id, None)
            lines[result.trace_id] = line
            self._write(lines)

    def load(self, trace_id: str) -> ExecutionResult | None:
        """Return a result, or None."""
        with self._lock:
            line = self._read().get(trace_id)
        return None if line is None else ExecutionResult.model_validate_json(line)

    def list_trace_ids(self) -> list[str]:
        """Return the trace ids, oldest first."""
        with self._lock:
            return list(self._read())

    def delete(self, trace_id: str) -> None:
        """Remove a result; nothing happens when there is none."""
        with self._lock:
            lines = self._read()
            if lines.pop(trace_id, None) is not None:
                self._write(lines)

    def __len__(self) -> int:
        with self._lock:
            return len(self._read())

    def _read(self) -> dict[str, str]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        lines: dict[str, str] = {}
        for raw in content.splitlines():
            try:
                line = raw.decode()
                trace_id = ExecutionResult.model_validate_json(line).trace_id
            except (UnicodeDecodeError, ValidationError):
                continue
            lines.pop(trace_id, None)
            lines[trace_id] = line
        return lines

    def _write(self, lines: dict[str, str]) -> None:
        kept = list(lines.values())
        if self._max_traces is not None:
            kept = kept[-self._max_traces :]
        write_atomically(self.path, "".join(f"{line}\n" for line in kept))


def redact_execution_result(result: ExecutionResult, policy: RedactionPolicy | None) -> ExecutionResult:
    """Return a result with its inputs and outputs redacted by a policy, or the result itself when there is none."""
    return result if policy is None else policy.redact_execution_result(result)
