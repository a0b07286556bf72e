"""The commands that run flows: `run` and `resume`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

import doubleweave as dw
from doubleweave.cli import options
from doubleweave.cli.sources import (
    Places,
    flows_below,
    import_tools,
    load_flow,
    prepare_directory,
    prepare_output,
    read_input,
    require_directory,
    restrict_refs,
    write_output,
)
from doubleweave.cli.text import PROG, Format, _error_line, fail, json_text, print_table, prints_to_stderr, say, warn

if TYPE_CHECKING:
    from doubleweave.models.flows import AnyFlow

Concurrency = Annotated[int, typer.Option("--concurrency", min=1, metavar="N", help="How many steps may run at once.")]
CheckpointDir = Annotated[
    Path | None, typer.Option("--checkpoint-dir", metavar="DIR", help="Keep a snapshot here, for `resume`.")
]
TraceOut = Annotated[Path | None, typer.Option("--trace-out", metavar="PATH", help="Write the result here as JSON.")]
Redact = Annotated[bool, typer.Option("--redact/--no-redact", help="Mask secrets in what --trace-out writes.")]
Progress = Annotated[
    bool | None,
    typer.Option(
        "--progress/--no-progress",
        help="Tell on stderr which steps run. By default a display on a terminal, lines elsewhere with --format table.",
    ),
]


def run(
    flow_file: options.FlowFile,
    tools: options.Tools = None,
    input_: options.Input = None,
    input_file: options.InputFile = None,
    format_: options.Formatted = Format.TABLE,
    quiet: options.Quiet = False,
    schema_ref_allow: options.RefAllow = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="V", help="The version the flow must have.")
    ] = None,
    discover_dir: options.SubFlows = None,
    on_async_lane: options.OnAsyncLane = False,
    concurrency: Concurrency = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Call no tool that changes anything.")] = False,
    deadline: Annotated[
        float | None, typer.Option("--deadline", metavar="SECONDS", help="Start no step later than this from now.")
    ] = None,
    checkpoint_dir: CheckpointDir = None,
    trace_out: TraceOut = None,
    redact: Redact = True,
    progress: Progress = None,
) -> None:
    """Run the flow of a file and print what each step did.

    Exit code 0 when the run succeeded, 1 when it failed, 2 when a file or a tools module is missing.
    """
    if deadline is not None and isnan(deadline):
        fail("--deadline must be a number of seconds", 2)
    restrict_refs(schema_ref_allow)
    flow = load_flow(flow_file)
    known = import_tools(tools)
    initial_input = read_input(input_, input_file)
    job = Job(
        tools=known,
        flows=[flow, *other_flows(discover_dir, flow)],
        on_async_lane=on_async_lane,
        concurrency=concurrency,
        checkpoints=None if checkpoint_dir is None else Checkpoints(prepare_directory(checkpoint_dir)),
    )
    settings: dict[str, Any] = {"version": version, "dry_run": dry_run}
    if deadline is not None:
        settings["deadline"] = time.time() + deadline
    report = Report(format_, quiet, None if trace_out is None else prepare_output(trace_out), redact)
    with _resumable(job.checkpoints), _progress(progress, report) as middleware:
        outcome = job.conduct(lambda executor: executor.execute_flow(flow.name, initial_input, **settings), middleware)
    report.tell(outcome)


def resume(
    trace_id: Annotated[str, typer.Argument(metavar="TRACE_ID", help="The trace id of the run that was cut short.")],
    checkpoint_dir: Annotated[
        Path, typer.Option("--checkpoint-dir", metavar="DIR", help="Where the run has kept its snapshot.")
    ],
    file: options.File = None,
    discover_dir: options.DiscoverDir = None,
    tools: options.Tools = None,
    format_: options.Formatted = Format.TABLE,
    quiet: options.Quiet = False,
    schema_ref_allow: options.RefAllow = None,
    on_async_lane: options.OnAsyncLane = False,
    concurrency: Concurrency = 1,
    trace_out: TraceOut = None,
    redact: Redact = True,
    progress: Progress = None,
) -> None:
    """Go on with a run that was cut short; completed steps are not run again.

    Exit code 0 when the run succeeded, 1 when it failed or cannot be resumed, 2 when a path is missing.
    """
    restrict_refs(schema_ref_allow)
    checkpoints = Checkpoints(require_directory(checkpoint_dir))
    checkpoints.require_name(trace_id)
    places = Places(file, discover_dir)
    if places == Places():
        fail("say where the flow is: --file FLOW_FILE or --discover-dir DIR", 2)
    job = Job(
        tools=import_tools(tools),
        flows=[found.flow for found in places.flows()],
        on_async_lane=on_async_lane,
        concurrency=concurrency,
        checkpoints=checkpoints,
    )
    report = Report(format_, quiet, None if trace_out is None else prepare_output(trace_out), redact)
    with _resumable(checkpoints), _progress(progress, report, lambda: checkpoints.completed) as middleware:
        outcome = job.conduct(lambda executor: executor.resume_flow(trace_id), middleware)
    report.tell(outcome)


@dataclass
class Outcome:
    """What came of a run: its result, if it has one, and the error that it raised, if it raised one."""

    result: dw.ExecutionResult | None
    error: dw.DoubleweaveError | None = None

    @property
    def is_success(self) -> bool:
        """Whether the run came to its end and no step failed."""
        return self.error is None and self.result is not None and self.result.success


class Checkpoints:
    """The snapshots in a directory, and what the command has had to do with them."""

    def __init__(self, directory: Path) -> None:
        self._files = dw.FileCheckpointer(directory)
        self.completed: list[int] = []
        """The steps that had been completed when the run was resumed."""
        self._saved: list[str] = []

    def require_name(self, trace_id: str) -> None:
        """End the command when there can be no snapshot of this trace id."""
        try:
            self._files.path_of(trace_id)
        except ValueError as error:
            fail(str(error))

    def save(self, snapshot: dw.ExecutionSnapshot) -> None:
        """Keep a snapshot."""
        self._files.save(snapshot)
        if snapshot.trace_id not in self._saved:
            self._saved.append(snapshot.trace_id)

    def load(self, trace_id: str) -> dw.ExecutionSnapshot | None:
        """Return the snapshot of a run that is to go on, if there is one."""
        snapshot = self._files.load(trace_id)
        if snapshot is not None:
            self.completed = [record.step_index for record in snapshot.execution_log if record.step_index >= 0]
            self._saved.append(trace_id)
        return snapshot

    def delete(self, trace_id: str) -> None:
        """Forget a run."""
        self._files.delete(trace_id)

    def resumable(self) -> list[str]:
        """Return the trace ids of the runs of this command that can go on."""
        return [trace_id for trace_id in self._saved if self._files.has(trace_id)]


@contextmanager
def _resumable(checkpoints: Checkpoints | None) -> Iterator[None]:
    """Tell, when the run is interrupted, by which trace id it can go on."""
    try:
        yield
    except KeyboardInterrupt:
        for trace_id in checkpoints.resumable() if checkpoints is not None else ():
            warn(f"interrupted; `{PROG} resume {trace_id}` goes on with it")
        raise


@dataclass
class Job:
    """Flows and tools that are to run, and how."""

    tools: dict[str, dw.Tool]
    flows: list[AnyFlow]
    on_async_lane: bool
    concurrency: int = 1
    checkpoints: Checkpoints | None = None

    def conduct(self, start: Callable[[Any], Any], middleware: list[Any]) -> Outcome:
        """Make an executor, let `start` run something on it, on the lane that was asked for, and return what came of it."""
        executor = self.executor(middleware)
        try:
            return Outcome(on_lane(lambda: start(executor), self.on_async_lane))
        except dw.DoubleweaveError as error:
            return Outcome(getattr(error, "result", None), error)

    def executor(self, middleware: list[Any]) -> Any:
        """Return an executor of the lane that was asked for, with flows and tools registered."""
        registry = dw.FlowRegistry()
        for flow in self.flows:
            registry.register_flow(flow)
        kind: Any = dw.AsyncFlowExecutor if self.on_async_lane else dw.FlowExecutor
        executor = kind(
            registry,
            middleware=middleware,
            max_step_concurrency=self.concurrency,
            checkpointer=self.checkpoints,
        )
        for tool in self.tools.values():
            executor.register_tool(tool)
        return executor


def on_lane(start: Callable[[], Any], is_async: bool) -> Any:
    """Return what a call gives, on the async lane awaited. What tools print meanwhile goes to stderr.

    A tool that ends the program ends the command as a failed one, whatever exit code it has in mind.
    """
    from asyncio import CancelledError

    try:
        with prints_to_stderr():
            return _awaited(start) if is_async else start()
    except (Exception, KeyboardInterrupt, CancelledError):
        raise
    except BaseException as error:
        fail(f"the run was broken off by {type(error).__name__}: {error}")


def _awaited(start: Callable[[], Any]) -> Any:
    import asyncio

    async def main() -> Any:
        return await start()

    return asyncio.run(main())


def other_flows(directory: Path | None, flow: AnyFlow) -> list[AnyFlow]:
    """Return the flows of a directory, but for the one that is to run, which may lie there too."""
    if directory is None:
        return []
    key = (flow.name, flow.version)
    return [found.flow for found in flows_below(directory) if (found.flow.name, found.flow.version) != key]


@dataclass
class Report:
    """How the end of a run is told."""

    format: Format
    quiet: bool
    trace_out: Path | None
    redact: bool

    def tell(self, outcome: Outcome) -> None:
        """Print what came of a run, write its trace, and end the command with its exit code."""
        try:
            if not self.quiet:
                self._print_all(outcome)
        finally:
            # Neither keeps a result from the user that the other one fails to give.
            if outcome.result is not None:
                self._write(outcome.result)
        raise typer.Exit(0 if outcome.is_success else 1)

    def _print_all(self, outcome: Outcome) -> None:
        if outcome.result is not None:
            self._print(outcome.result)
        complain(outcome.result, outcome.error)

    def _write(self, result: dw.ExecutionResult) -> None:
        if self.trace_out is not None:
            write_trace(self.trace_out, result, self.redact)

    def _print(self, result: dw.ExecutionResult) -> None:
        if self.format is Format.JSON:
            typer.echo(result_text(result))
        else:
            _print_result(result)


def write_trace(path: Path, result: dw.ExecutionResult, redact: bool) -> None:
    """Write a result as JSON, secrets masked if so asked, or end the command."""
    kept = dw.redact_execution_result(result, dw.RedactionPolicy() if redact else None)
    write_output(path, result_text(kept) + "\n")


def result_text(result: dw.ExecutionResult) -> str:
    """Return a result as JSON; what JSON has no form for is text in it."""
    try:
        return result.model_dump_json(indent=2, fallback=str)
    except (ValueError, RecursionError):
        from doubleweave.cli.plain import plain

        return json_text(plain(result), ensure_ascii=False)


def complain(result: dw.ExecutionResult | None, error: dw.DoubleweaveError | None) -> None:
    """Print on stderr what a run has raised, and the first of its steps that failed."""
    if error is not None:
        say(_error_line(error), err=True)
    failed = None if result is None else next((each for each in result.execution_log if not each.success), None)
    if failed is not None:
        warn(f"step {failed.step_index} (tool '{failed.tool_name}') failed: {failed.error_message}")


def _print_result(result: dw.ExecutionResult) -> None:
    say(f"Flow: {result.flow_name} v{result.flow_version}  ·  trace: {result.trace_id}")
    rows = [
        (record.step_index, record.tool_name, record.duration_ms, "ok" if record.success else "ERR", notes_of(record))
        for record in result.execution_log
    ]
    print_table(("step", "tool", "ms", "", ""), rows)
    say(f"Total: {result.total_duration_ms:.1f} ms  ·  success: {str(result.success).lower()}")
    if result.success:
        say("final_output:")
        say(json_text(result.final_output, ensure_ascii=False))
    else:
        say("The flow failed: there is no final output.")


def notes_of(record: dw.StepRecord) -> str:
    """Return in a few words what was special about a step."""
    retries = f"{record.retry_count} {'retry' if record.retry_count == 1 else 'retries'}" if record.retry_count else ""
    fallback = f"fallback {record.fallback_tool_name or ''}".strip() if record.fallback_used else ""
    words = (retries, "skipped" if record.skipped else "", "cached" if record.cached else "", fallback)
    return ", ".join(word for word in words if word)


@contextmanager
def _progress(
    wanted: bool | None, report: Report, completed: Callable[[], Sequence[int]] = list
) -> Iterator[list[Any]]:
    """Yield the middleware that shows what goes on; none when nothing is to be shown."""
    import sys

    on_terminal = _is_terminal(sys.stderr)
    is_shown = (on_terminal or report.format is Format.TABLE) if wanted is None else wanted
    if report.quiet or not is_shown:
        yield []
        return
    from doubleweave.cli.progress import progress_display

    with progress_display(on_terminal, completed) as middleware:
        yield [middleware]


def _is_terminal(stream: TextIO | None) -> bool:
    """Say whether a stream leads to a terminal that can change what it shows."""
    return stream is not None and stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")
