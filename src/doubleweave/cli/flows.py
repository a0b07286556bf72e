"""The commands for the flows of a project: `flows list`, `flows promote` and `flows ignore`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

import doubleweave as dw
from doubleweave.cli import options
from doubleweave.cli.flow_edits import rewrite
from doubleweave.cli.sources import Found, Places, get_default_registry, load_flow, version_key
from doubleweave.cli.text import Format, emit_envelope, fail, help_when_bare, print_table, say

flows = typer.Typer(invoke_without_command=True, help="List flows, and say how far their review has come.")


class Stage(str, Enum):
    """A stage of review that a flow can be promoted to."""

    REVIEWED = "reviewed"
    ACTIVE = "active"


flows.callback()(help_when_bare)


@flows.command("list")
def list_flows(
    discover_dir: options.DiscoverDir = None,
    discover_entry_points: options.DiscoverEntryPoints = False,
    format_: options.Formatted = Format.TABLE,
) -> None:
    """List the flows of a directory, of installed packages or of the program's own registry.

    Exit code 0, also when there is none; 1 when nothing says where to look, 2 when the directory is missing.
    """
    places = Places(directory=discover_dir, entry_points=discover_entry_points)
    if places == Places() and get_default_registry() is None:
        fail("no flow source: give --discover-dir or --discover-entry-points")
    found = sorted(places.flows(), key=lambda each: (each.flow.name, version_key(each.flow), each.source))
    rows = [_row(each) for each in found]
    if format_ is Format.JSON:
        emit_envelope(rows)
    elif rows:
        print_table(tuple(rows[0]), [tuple(row.values()) for row in rows])
    else:
        say("(no flows discovered)")


@flows.command("promote")
def promote(
    flow_file: options.FlowFile,
    to: Annotated[Stage, typer.Option("--to", case_sensitive=False, help="The stage that the flow has reached.")],
    reviewed_by: Annotated[
        str | None, typer.Option("--reviewed-by", metavar="NAME", help="Who has reviewed it.")
    ] = None,
    notes: Annotated[str | None, typer.Option("--notes", metavar="TEXT", help="What the review has found.")] = None,
) -> None:
    """Write into a flow file that its flow is reviewed or active; the rest of the file stays as it is.

    Exit code 0 when it is written, 1 when the flow cannot move there from its stage, 2 when the file is missing.
    """
    _move(flow_file, dw.FlowLifecycle(to.value), reviewed_by, notes)


@flows.command("ignore")
def ignore(
    flow_file: options.FlowFile,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept as a review note.")] = None,
) -> None:
    """Write into a flow file that its flow is not wanted; the rest of the file stays as it is.

    Exit code 0 when it is written, 1 when the flow cannot move there from its stage, 2 when the file is missing.
    """
    _move(flow_file, dw.FlowLifecycle.IGNORED, None, reason)


def _row(found: Found) -> dict[str, Any]:
    flow = found.flow
    return {
        "name": flow.name,
        "version": flow.version,
        "status": flow.status.value,
        "step_count": len(flow.steps),
        "type": type(flow).__name__,
        "source": found.source,
    }


def _move(path: Path, target: dw.FlowLifecycle, reviewed_by: str | None, notes: str | None) -> None:
    flow = load_flow(path)
    try:
        moved = flow.governance.transition_to(target, reviewed_by=reviewed_by, review_notes=notes)
    except ValueError as error:
        fail(f"{path}: {error}")
    changes = {"lifecycle": target.value, "reviewed_by": reviewed_by, "review_notes": notes}
    rewrite(path, flow, moved, {key: value for key, value in changes.items() if value is not None})
    say(f"{path}: {flow.name} v{flow.version}: {flow.governance.lifecycle.value} → {target.value}")
