"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from doubleweave.cli.text import Format

FlowFile = Annotated[Path, typer.Argument(metavar="FLOW_FILE", help="A .flow.json, .flow.yaml or .flow.yml file.")]
FlowName = Annotated[str, typer.Argument(metavar="FLOW_NAME", help="The name of a flow; its latest version is used.")]
Trace = Annotated[Path, typer.Argument(metavar="TRACE", help="The JSON of an execution result.")]
TraceA = Annotated[Path, typer.Argument(metavar="TRACE_A", help="The JSON of an execution result, the older one.")]
TraceB = Annotated[Path, typer.Argument(metavar="TRACE_B", help="The JSON of an execution result, the newer one.")]
Formatted = Annotated[Format, typer.Option("--format", "-f", case_sensitive=False, help="How to print the result.")]
Tools = Annotated[
    list[str] | None,
    typer.Option("--tools", "-t", metavar="MODULE", help="A Python module whose tools are registered; repeatable."),
]
Input = Annotated[str | None, typer.Option("--input", "-i", metavar="JSON", help="The initial input, a JSON object.")]
InputFile = Annotated[
    Path | None, typer.Option("--input-file", metavar="PATH", help="A file that holds the initial input; - for stdin.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing; the exit code tells.")]
RefAllow = Annotated[
    list[str] | None,
    typer.Option(
        "--schema-ref-allow", metavar="PREFIX", help="Import classes named in flow files only from here; repeatable."
    ),
]
File = Annotated[Path | None, typer.Option("--file", metavar="PATH", help="Look in this flow file.")]
DiscoverDir = Annotated[
    Path | None, typer.Option("--discover-dir", metavar="DIR", help="Look in the flow files of a directory and below.")
]
DiscoverEntryPoints = Annotated[
    bool, typer.Option("--discover-entry-points", help="Look in the flows that installed packages offer.")
]
OnAsyncLane = Annotated[bool, typer.Option("--async", help="Run on the async lane; the result is the same.")]
SubFlows = Annotated[
    Path | None, typer.Option("--discover-dir", metavar="DIR", help="Where the flows of sub-flow steps are.")
]
