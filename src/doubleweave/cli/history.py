"""How long runs have taken, so that a display can say how long one will take. No inputs, outputs or errors are kept."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import typer

import doubleweave as dw
from doubleweave.cli.text import PROG

_KEPT = 20
"""How many runs of a flow are remembered."""
SWITCH = f"{PROG.upper()}_HISTORY"
"""The variable that turns remembering off when it is `off`."""


class History:
    """The durations of the successful runs of one version of a flow from one directory, in milliseconds, oldest first."""

    def __init__(self, flow_name: str, flow_version: str) -> None:
        digest = hashlib.sha256(f"{flow_name}@{flow_version} in {Path.cwd()}".encode(errors="replace")).hexdigest()[:32]
        self._path = Path(typer.get_app_dir(PROG)) / "history" / f"{digest}.json"
        self._runs = self._read()

    def step_ms(self) -> dict[str, float]:
        """Return how long each step usually takes."""
        steps = {step for run in self._runs for step in run["steps"]}
        return {step: median(run["steps"][step] for run in self._runs if step in run["steps"]) for step in steps}

    def total_ms(self) -> float | None:
        """Return how long a run usually takes; None when there is none to tell by."""
        return median(run["total"] for run in self._runs) if self._runs else None

    def add(self, result: dw.ExecutionResult) -> None:
        """Remember a run. Where this is not possible it is not remembered, for no run depends on it."""
        if _is_off() or not result.success:
            return
        steps = {
            str(record.step_index): record.duration_ms for record in result.execution_log if record.step_index >= 0
        }
        runs = [*self._runs, {"total": result.total_duration_ms, "steps": steps}][-_KEPT:]
        from doubleweave.stores.files import write_atomically

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(runs))
        except OSError:
            return

    def _read(self) -> list[dict[str, Any]]:
        if _is_off():
            return []
        try:
            runs = json.loads(self._path.read_text(encoding="utf-8"))
            return [
                {"total": float(run["total"]), "steps": {key: float(value) for key, value in run["steps"].items()}}
                for run in runs
            ]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return []


def _is_off() -> bool:
    return os.environ.get(SWITCH) == "off"


class Forecast:
    """What is left of a run, by the history of its flow."""

    def __init__(self, history: History) -> None:
        self._left = history.step_ms()
        self._all = sum(self._left.values())
        self._total = history.total_ms()
        self._since = perf_counter()

    def finished(self, step_index: int) -> None:
        """Note that a step is over."""
        self._left.pop(str(step_index), None)
        self._since = perf_counter()

    def left_seconds(self, elapsed: float = 0.0) -> float | None:
        """Return how many seconds the run may still take, some seconds after the last step was over; None when nobody knows.

        The usual time of a whole run is divided by the usual times of its steps: some of them overlap.
        """
        if self._total is None or not self._all:
            return None
        return max(0.0, self._total / 1000 * sum(self._left.values()) / self._all - elapsed)

    def left_text(self) -> str:
        """Return in words what may still be to come now; nothing when nobody knows."""
        left = self.left_seconds(perf_counter() - self._since)
        return "" if left is None else f"about {left:.0f} s left" if left >= 1 else "less than 1 s left"
