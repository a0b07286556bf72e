"""The command that offers flows to agents: `serve`."""

from __future__ import annotations

import logging
import os
import signal
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import doubleweave as dw
from doubleweave.cli import options
from doubleweave.cli.sources import flows_below, import_tools, load_flow, restrict_refs
from doubleweave.cli.text import fail, warn
from doubleweave.errors import DoubleweaveError

if TYPE_CHECKING:
    from doubleweave.mcp import FlowServer
    from doubleweave.models.flows import AnyFlow

FlowFiles = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[FLOW_FILE]...", help="Files whose flows are offered.", show_default=False),
]
OfferedDir = Annotated[
    Path | None, typer.Option("--discover-dir", metavar="DIR", help="Offer the flows of a directory and below, too.")
]
Only = Annotated[
    list[str] | None,
    typer.Option("--flow", metavar="NAME", help="Offer only this flow; repeatable. Others may be its sub-flows."),
]


class Effects(str, Enum):
    """The levels of `SideEffectLevel`, which is not imported for the sake of help."""

    NONE = "none"
    READ = "read"
    WRITE = "write"
    EXTERNAL = "external"
    DESTRUCTIVE = "destructive"


Level = Annotated[
    Effects,
    typer.Option("--allow-side-effects", help="The highest side-effect level of a flow that is offered."),
]
TokenVariable = Annotated[
    str | None,
    typer.Option("--token-env", metavar="VAR", help="The variable with the token that callers over HTTP have to send."),
]
TellErrors = Annotated[
    bool | None,
    typer.Option(
        "--tell-errors/--withhold-errors",
        help="Tell callers why a run failed, or only the code and the trace id, as is done over HTTP by default.",
    ),
]
Hosts = Annotated[
    list[str] | None, typer.Option("--allow-host", metavar="HOST", help="A Host header that is accepted; repeatable.")
]
Origins = Annotated[
    list[str] | None, typer.Option("--allow-origin", metavar="URL", help="An Origin that is accepted; repeatable.")
]


def serve(
    flow_files: FlowFiles = None,
    discover_dir: OfferedDir = None,
    tools: options.Tools = None,
    only: Only = None,
    allow_side_effects: Level = Effects.READ,
    over_http: Annotated[bool, typer.Option("--http", help="Serve streamable HTTP, not stdin and stdout.")] = False,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 for a free one.")] = 8000,
    token_env: TokenVariable = None,
    allow_host: Hosts = None,
    allow_origin: Origins = None,
    tell_errors: TellErrors = None,
    call_seconds: Annotated[float, typer.Option("--call-seconds", help="How long one call may take.")] = 60.0,
    calls_at_once: Annotated[int, typer.Option("--calls-at-once", min=1, help="How many calls may run at once.")] = 8,
    input_bytes: Annotated[int, typer.Option("--input-bytes", min=1, help="How long arguments may be.")] = 1_048_576,
    output_bytes: Annotated[int, typer.Option("--output-bytes", min=1, help="How long outputs may be.")] = 1_048_576,
    schema_ref_allow: options.RefAllow = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, help="How many steps of a run may run at once.")
    ] = 1,
) -> None:
    """Offer flows as MCP tools, over stdin and stdout or over HTTP, until the client or the user ends it.

    Only flows that are active and only read are offered, unless --allow-side-effects says otherwise. Exit code 1 when no flow
    is, 2 when a file, directory, module or variable is missing.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    restrict_refs(schema_ref_allow)
    ceiling = dw.SideEffectLevel(allow_side_effects.value)
    executor = _executor(_flows(flow_files, discover_dir), tools, concurrency, ceiling)
    server = _server(
        executor,
        flows=only,
        max_side_effect_level=ceiling,
        limits={
            "call_seconds": call_seconds,
            "calls_at_once": calls_at_once,
            "input_bytes": input_bytes,
            "output_bytes": output_bytes,
        },
    )
    _tell_what_is_offered(server, is_all_allowed=allow_side_effects is Effects.DESTRUCTIVE)
    withhold = over_http if tell_errors is None else not tell_errors
    try:
        if not over_http:
            # A thread waits for stdin, and nothing but its end can wake it.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            server.run_stdio(withhold_errors=withhold)
        else:
            server.run_http(
                host=host,
                port=port,
                token=None if token_env is None else _token(token_env),
                allowed_hosts=allow_host or (),
                allowed_origins=allow_origin or (),
                withhold_errors=withhold,
                on_ready=lambda url: warn(f"serving at {url}"),
            )
    except KeyboardInterrupt:
        warn("stopped")
    except (ValueError, OSError) as error:
        fail(str(error))


def _flows(files: list[Path] | None, directory: Path | None) -> list[AnyFlow]:
    if not files and directory is None:
        fail("say which flows: FLOW_FILE... or --discover-dir DIR", 2)
    found = [] if directory is None else [each.flow for each in flows_below(directory)]
    return [*(load_flow(path) for path in files or ()), *found]


def _executor(
    flows: list[AnyFlow], tools: list[str] | None, concurrency: int, ceiling: dw.SideEffectLevel
) -> dw.AsyncFlowExecutor:
    registry = dw.FlowRegistry()
    for flow in flows:
        try:
            registry.register_flow(flow, overwrite=True)
        except DoubleweaveError as error:
            warn(f"skipping flow '{flow.name}': {error}")
    executor = dw.AsyncFlowExecutor(registry, max_step_concurrency=concurrency, max_side_effect_level=ceiling)
    for tool in import_tools(tools).values():
        executor.register_tool(tool)
    return executor


def _server(executor: dw.AsyncFlowExecutor, *, limits: dict[str, Any], **settings: Any) -> FlowServer:
    try:
        from doubleweave.mcp import FlowServer, Limits
    except ImportError as error:
        fail(str(error), 2)
    try:
        return FlowServer(executor, limits=Limits(**limits), **settings)
    except ValueError as error:
        fail(str(error), 2)


def _tell_what_is_offered(server: FlowServer, *, is_all_allowed: bool) -> None:
    for name, reason in server.refused().items():
        warn(f"not offered: {name}: {reason}")
    offered = server.offered()
    if not offered:
        hint = "" if is_all_allowed else "; --allow-side-effects LEVEL offers flows that do more than read"
        fail(f"there is no flow to offer{hint}")
    warn(f"offered: {', '.join(offered)}")


def _token(variable: str) -> str:
    token = os.environ.get(variable)
    if not token:
        fail(f"the variable {variable} has no token", 2)
    return token
