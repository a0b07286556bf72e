"""The commands that show runs in a browser: `report` and `watch`."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import doubleweave as dw
from doubleweave.cli import options
from doubleweave.cli.running import Concurrency, Job, Outcome, TraceOut, complain, other_flows, write_trace
from doubleweave.cli.sources import (
    import_tools,
    load_flow,
    prepare_output,
    read_input,
    read_trace,
    restrict_refs,
    write_output,
)
from doubleweave.cli.text import fail, say, warn

if TYPE_CHECKING:
    from doubleweave.models.flows import AnyFlow

Redact = Annotated[bool, typer.Option("--redact/--no-redact", help="Mask secrets in what is shown and written.")]


def report(
    trace: options.Trace,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="Write the page to this file.")],
    compare: Annotated[
        Path | None, typer.Option("--compare", metavar="TRACE", help="Show a second run beside the first.")
    ] = None,
    flow_file: Annotated[
        Path | None, typer.Option("--flow", metavar="FLOW_FILE", help="The flow that ran; its graph is drawn.")
    ] = None,
    redact: Redact = True,
) -> None:
    """Write a run as one HTML page: timeline, graph, steps with inputs, outputs and errors. It needs no network.

    Exit code 0 when the page is written, 1 when a trace or the flow file is malformed, 2 when a file is missing.
    """
    result = read_trace(trace)
    other = None if compare is None else read_trace(compare)
    flow = None if flow_file is None else load_flow(flow_file)
    if flow is not None and flow.name != result.flow_name:
        fail(f"{trace} is a run of flow '{result.flow_name}', not of '{flow.name}'")
    page = dw.run_page(result, flow=flow, other=other, redaction=dw.RedactionPolicy() if redact else None)
    write_output(output, page)
    say(f"wrote {output}")


def watch(
    flow_file: options.FlowFile,
    tools: options.Tools = None,
    input_: options.Input = None,
    input_file: options.InputFile = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 for a free one.")] = 0,
    on_async_lane: options.OnAsyncLane = False,
    concurrency: Concurrency = 1,
    schema_ref_allow: options.RefAllow = None,
    discover_dir: Annotated[
        Path | None, typer.Option("--discover-dir", metavar="DIR", help="Where the flows of sub-flow steps are.")
    ] = None,
    trace_out: TraceOut = None,
    redact: Redact = True,
    end: Annotated[
        bool, typer.Option("--exit", help="End with the run, once every browser that watches has got all of it.")
    ] = False,
) -> None:
    """Run the flow of a file and show it in a browser while it runs, at an address that nobody can guess.

    The page is served until Ctrl-C. Exit code 0 when the run succeeded, 1 when it failed, 2 when a file or a tools module is
    missing.
    """
    restrict_refs(schema_ref_allow)
    flow = load_flow(flow_file)
    job = Job(
        tools=import_tools(tools),
        flows=[flow, *other_flows(discover_dir, flow)],
        on_async_lane=on_async_lane,
        concurrency=concurrency,
    )
    initial_input = read_input(input_, input_file)
    kept = None if trace_out is None else prepare_output(trace_out)
    with _open_page(flow, host, port, redact) as page:
        say(page.url)
        run = _Run(job, page)
        outcome = _outcome(run, flow, initial_input)
        _tell(outcome)
        if kept is not None and outcome.result is not None:
            write_trace(kept, outcome.result, redact)
        _serve_on(page, end or run.is_stopped)
    raise typer.Exit(0 if outcome.is_success else 1)


def _open_page(flow: AnyFlow, host: str, port: int, redact: bool) -> dw.LivePage:
    """Return the page, served, with its warning as a line on stderr, or end the command."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        try:
            page = dw.LivePage(flow, redaction=dw.RedactionPolicy() if redact else None, host=host, port=port)
        except OSError as error:
            fail(f"cannot listen at {host}, port {port}: {error.strerror or error}")
    for each in caught:
        warn(f"warning: {each.message}")
    return page


def _outcome(run: _Run, flow: AnyFlow, initial_input: dict[str, Any]) -> Outcome:
    """Run the flow and return what came of it. Ctrl-C stops it: at once on the async lane, else at its next step."""
    try:
        run.start(flow.name, initial_input)
        return run.outcome()
    except KeyboardInterrupt:
        run.stop()
        warn("the run is being stopped; Ctrl-C once more ends it at once")
    return run.outcome()


class _Run:
    """A run on a thread of its own, for a main thread that waits for a step does not hear of Ctrl-C on every system.

    The thread is a daemon, so that a second Ctrl-C ends the program whatever the step does.
    """

    def __init__(self, job: Job, page: dw.LivePage) -> None:
        self._job = job
        self._page = page
        self._token = dw.CancellationToken()
        self._ended: Future[Outcome] = Future()
        self._cancel: Callable[[], object] = self._token.cancel
        self.is_stopped = False

    def start(self, name: str, initial_input: dict[str, Any]) -> None:
        """Begin the run."""

        def follow(executor: Any) -> Any:
            events = executor.stream_flow(name, initial_input, cancel_token=self._token)
            return self._follow_async(events) if self._job.on_async_lane else self._page.follow(events)

        threading.Thread(target=copy_context().run, args=(self._main, follow), daemon=True).start()

    def stop(self) -> None:
        """Ask it to end."""
        self.is_stopped = True
        # The loop of a run that has just ended is closed.
        with suppress(RuntimeError):
            self._cancel()

    def outcome(self) -> Outcome:
        """Wait for its end and return what came of it, or end the command when it was stopped before it had a result."""
        while not self._ended.done():
            # Woken up now and then, a thread hears of Ctrl-C.
            wait([self._ended], timeout=0.2)
        outcome = self._ended.result()
        if outcome is _STOPPED:
            self._page.wait_for_watchers()
            fail("stopped before the run had ended")
        return outcome

    def _main(self, follow: Callable[[Any], Any]) -> None:
        from asyncio import CancelledError

        try:
            self._ended.set_result(self._job.conduct(follow, []))
        except CancelledError:
            self._ended.set_result(_STOPPED)
        except BaseException as error:
            self._ended.set_exception(error)

    async def _follow_async(self, events: Any) -> dw.ExecutionResult:
        from asyncio import current_task, get_running_loop

        task = current_task()
        assert task is not None
        loop = get_running_loop()
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        return await self._page.follow_async(events)


_STOPPED = Outcome(None)


def _tell(outcome: Outcome) -> None:
    result = outcome.result
    if result is not None:
        word = "succeeded" if result.success else "failed"
        count = len(result.execution_log)
        say(f"{word} after {count} {'step' if count == 1 else 'steps'} and {result.total_duration_ms:.1f} ms")
    complain(result, outcome.error)


def _serve_on(page: dw.LivePage, end: bool) -> None:
    with suppress(KeyboardInterrupt):
        if end:
            page.wait_for_watchers()
            return
        say("The page stays there until Ctrl-C.")
        threading.Event().wait()
