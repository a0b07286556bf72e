"""Checkpointers: the newest snapshot of each run, in memory or in a folder."""

import re
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from doubleweave.errors import CheckpointSaveError
from doubleweave.models.snapshots import ExecutionSnapshot
from doubleweave.stores.files import LONGEST_NAME, first_fault, read_regular, write_atomically

_SUFFIX = ".snapshot.json"
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]+")


class InMemoryCheckpointer:
    """Keeps snapshots for as long as it lives. Safe to use from several threads.

    A subclass is taken to block unless it says `inline = True` itself.
    """

    inline = True
    keeps_objects = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.inline = cls.__dict__.get("inline", False)

    def __init__(self) -> None:
        self._lock = Lock()
        self._snapshots: dict[str, Callable[[], ExecutionSnapshot]] = {}

    def save(self, snapshot: ExecutionSnapshot) -> None:
        """Keep a snapshot in the place of the one before it with the same trace id."""
        with self._lock:
            self._snapshots[snapshot.trace_id] = lambda: snapshot

    def save_deferred(self, trace_id: str, snapshot: Callable[[], ExecutionSnapshot]) -> None:
        """Keep what makes a snapshot, which costs the run the same after the first step and after the thousandth.

        Runs use it as long as `save` is the one of the same class.
        """
        with self._lock:
            self._snapshots[trace_id] = snapshot

    def load(self, trace_id: str) -> ExecutionSnapshot | None:
        """Return the snapshot, or None."""
        with self._lock:
            snapshot = self._snapshots.get(trace_id)
        return None if snapshot is None else snapshot()

    def delete(self, trace_id: str) -> None:
        """Forget the snapshot; nothing happens when there is none."""
        with self._lock:
            self._snapshots.pop(trace_id, None)

    def list_trace_ids(self) -> list[str]:
        """Return the trace ids, sorted."""
        with self._lock:
            return sorted(self._snapshots)

    def __len__(self) -> int:
        with self._lock:
            return len(self._snapshots)


class FileCheckpointer:
    """Keeps each snapshot as `<trace_id>.snapshot.json` in a folder, which is created when it is missing.

    A snapshot is JSON: what a run's context holds comes back as the JSON values that it became. Each save writes the whole
    log so far. Files that are not regular or longer than `max_bytes` are not read.
    """

    def __init__(self, root: str | Path, *, max_bytes: int = 256 * 1024 * 1024) -> None:
        self.root = Path(root)
        self.max_bytes = max_bytes
        self.root.mkdir(parents=True, exist_ok=True)

    def save(self, snapshot: ExecutionSnapshot) -> None:
        """Replace the file of the snapshot's run.

        Raises:
            ValueError: The trace id cannot be part of a file name.
            CheckpointSaveError: The snapshot holds a value that JSON cannot give back, is longer than `max_bytes`, or its
                file cannot be written; the one before it is still there.
        """
        path = self._path(snapshot.trace_id)
        try:
            text = snapshot.model_dump_json(warnings=False)
            from_json(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise CheckpointSaveError(snapshot.trace_id, _fault_of(snapshot)) from error
        if len(text.encode()) > self.max_bytes:
            raise CheckpointSaveError(snapshot.trace_id, f"it is longer than max_bytes={self.max_bytes}")
        try:
            write_atomically(path, text)
        except OSError as error:
            raise CheckpointSaveError(snapshot.trace_id, f"{path} cannot be written ({error})") from error

    def load(self, trace_id: str) -> ExecutionSnapshot | None:
        """Return the snapshot, or None when there is none that can be read.

        Raises:
            ValueError: The trace id cannot be part of a file name.
        """
        content = read_regular(self._path(trace_id), self.max_bytes)
        if content is None:
            return None
        try:
            snapshot = ExecutionSnapshot.model_validate_json(content)
        except ValidationError:
            return None
        return snapshot if snapshot.trace_id == trace_id else None

    def has(self, trace_id: str) -> bool:
        """Say whether there is a file for this id, whatever is in it."""
        path = self._path(trace_id)
        return path.exists() or path.is_symlink()

    def delete(self, trace_id: str) -> None:
        """Remove the file; nothing happens when there is none."""
        self._path(trace_id).unlink(missing_ok=True)

    def list_trace_ids(self) -> list[str]:
        """Return the ids that there are files for, sorted."""
        found = (path.name.removesuffix(_SUFFIX) for path in self.root.glob(f"*{_SUFFIX}"))
        return sorted(trace_id for trace_id in found if _SAFE_ID.fullmatch(trace_id))

    def path_of(self, trace_id: str) -> Path:
        """Return where the snapshot of a run is kept."""
        return self._path(trace_id)

    def _path(self, trace_id: str) -> Path:
        name = f"{trace_id}{_SUFFIX}"
        if not _SAFE_ID.fullmatch(trace_id) or len(name) > LONGEST_NAME:
            raise ValueError(
                f"trace id {trace_id[:80]!r} cannot be part of a file name: use up to {LONGEST_NAME - len(_SUFFIX)} "
                "letters, digits, dots, underscores and hyphens"
            )
        return self.root / name


def _fault_of(snapshot: ExecutionSnapshot) -> str:
    """Say where the first value stands that JSON cannot give back, and what it is."""
    places = [("context", snapshot.context, 1), ("initial_input", snapshot.initial_input, 1)]
    for index, record in enumerate(snapshot.execution_log):
        places += [(f"execution_log[{index}].{name}", value, 3) for name, value in record]
    for place, value, depth in places:
        fault = first_fault(place, value, depth)
        if fault is not None:
            return fault
    return "it has no JSON form"
