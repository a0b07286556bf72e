"""Traces in files: of real runs, and written by hand."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from cli_under_test import Called, Shell
from doubleweave import ExecutionResult, StepRecord
from doubleweave.cli import app
from executors_under_test import execute, make_executor
from parity_scenarios import tools

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def record(index: int = 0, tool: str = "inc", ms: float = 10.0, **values: Any) -> StepRecord:
    given = {"inputs": {}, "outputs": {"n": 1}, "started_at": NOW, "ended_at": NOW, **values}
    return StepRecord(step_index=index, tool_name=tool, duration_ms=ms, **given)


def trace(*records: StepRecord, **values: Any) -> ExecutionResult:
    given: dict[str, Any] = {
        "flow_name": "main",
        "flow_version": "0.1.0",
        "success": True,
        "final_output": {"n": 1},
        "trace_id": "0" * 32,
        "total_duration_ms": 100.0,
        "started_at": NOW,
        "ended_at": NOW,
    }
    return ExecutionResult(execution_log=list(records), **{**given, **values})


def write_trace(folder: Path, name: str, result: ExecutionResult) -> str:
    path = folder / name
    path.write_text(result.model_dump_json(), encoding="utf-8")
    return str(path)


def real_trace(folder: Path, name: str, lane: str, flow: Any, n: int = 1, **settings: Any) -> str:
    return write_trace(folder, name, execute(make_executor([flow], tools(), **settings), lane, {"n": n}))


def call(shell: Shell, *arguments: str) -> Called:
    """Call a command in both ways, which print and return the same."""
    called = shell(*arguments)
    run = CliRunner().invoke(app, list(arguments))
    assert Called(run.exit_code, run.stdout, run.stderr) == called
    return called
