"""Step caches: the outputs of tools, in memory or in a folder."""

import hashlib
import json
import re
from pathlib import Path
from threading import Lock
from typing import Any

from doubleweave.models.step_cache import StepCacheKey
from doubleweave.stores.files import LONGEST_NAME, read_regular, write_atomically

_SUFFIX = ".cache.json"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def _parts(key: StepCacheKey) -> tuple[str, str, str]:
    return key.tool_name, key.schema_hash, key.input_value_hash


class InMemoryStepCache:
    """Keeps shallow copies of outputs, for as long as it lives. Safe to use from several threads.

    A subclass is taken to block unless it says `inline = True` itself.
    """

    inline = True
    keeps_objects = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.inline = cls.__dict__.get("inline", False)

    def __init__(self) -> None:
        self._lock = Lock()
        # By the parts of the key: a model takes ten times as long to hash and compare.
        self._outputs: dict[tuple[str, str, str], dict[str, Any]] = {}

    def get(self, key: StepCacheKey) -> dict[str, Any] | None:
        """Return a copy of the output kept under a key, or None."""
        with self._lock:
            output = self._outputs.get(_parts(key))
        return None if output is None else dict(output)

    def set(self, key: StepCacheKey, output: dict[str, Any]) -> None:
        """Keep a copy of an output."""
        with self._lock:
            self._outputs[_parts(key)] = dict(output)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._outputs.clear()

    def __len__(self) -> int:
        with self._lock:
            return len(self._outputs)


class FileStepCache:
    """Keeps each output as a JSON file in a folder, which is created when it is missing.

    What JSON cannot hold is kept as its text. Files that are not regular, are longer than `max_bytes`, or do not hold a JSON
    object are misses.
    """

    def __init__(self, root: str | Path, *, max_bytes: int = 64 * 1024 * 1024) -> None:
        self.root = Path(root)
        self.max_bytes = max_bytes
        self.root.mkdir(parents=True, exist_ok=True)

    def get(self, key: StepCacheKey) -> dict[str, Any] | None:
        """Return the output kept under a key, or None."""
        content = read_regular(self._path(key), self.max_bytes)
        if content is None:
            return None
        try:
            output = json.loads(content)
        except (ValueError, RecursionError):
            return None
        return output if isinstance(output, dict) else None

    def set(self, key: StepCacheKey, output: dict[str, Any]) -> None:
        """Keep an output.

        Raises:
            TypeError, ValueError: The output has keys that JSON cannot hold, or contains itself.
            OSError: The file cannot be written.
        """
        write_atomically(self._path(key), json.dumps(output, default=str))

    def read_back(self, output: dict[str, Any]) -> Any:
        """Return what `get` would give for an output that is kept now; nothing is written.

        Raises:
            TypeError, ValueError: The output cannot be kept.
        """
        return json.loads(json.dumps(output, default=str))

    def clear(self) -> None:
        """Remove every file of the cache."""
        for path in self.root.glob(f"*{_SUFFIX}"):
            path.unlink(missing_ok=True)

    def _path(self, key: StepCacheKey) -> Path:
        identity = hashlib.sha256(key.tool_name.encode()).hexdigest()[:16]
        tail = f".{identity}@{key.schema_hash}@{key.input_value_hash}{_SUFFIX}"
        return self.root / (_UNSAFE.sub("_", key.tool_name)[: LONGEST_NAME - len(tail)] + tail)
