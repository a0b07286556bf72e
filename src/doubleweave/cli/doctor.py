"""The command that looks for what will keep flows from running: `doctor flow`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import doubleweave as dw
from doubleweave.cli import options
from doubleweave.cli.preflight import preflight
from doubleweave.cli.readiness import readiness, readiness_lines
from doubleweave.cli.sources import flow_files, import_from_current_directory, import_tools, is_there
from doubleweave.cli.text import Format, detail_of, emit_json, fail, help_when_bare, say_lines, warn

if TYPE_CHECKING:
    from doubleweave.models.flows import AnyFlow

Result = dict[str, Any]
doctor = typer.Typer(invoke_without_command=True, help="Look for what will keep flows from running.")


class Profile(str, Enum):
    """What else than flows can be looked at."""

    FIRST_RUN = "first-run"


doctor.callback()(help_when_bare)


@doctor.command("flow")
def flow(
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="A flow file, or a directory with flow files.")
    ] = None,
    check_drift: Annotated[
        bool,
        typer.Option("--check-drift", help="Say which tools are missing or have other schemas than the flow knows."),
    ] = False,
    run_preflight: Annotated[
        bool, typer.Option("--preflight", help="Say which tools are missing and which inputs nobody provides.")
    ] = False,
    profile: Annotated[
        Profile | None, typer.Option("--profile", help="Say whether this computer is ready; needs no PATH.")
    ] = None,
    tools: options.Tools = None,
    schema_ref_allow: options.RefAllow = None,
    format_: options.Formatted = Format.TABLE,
) -> None:
    """Look for what will keep flows from running, without running them.

    --preflight imports the classes that flow files name as their input schemas. Exit code 0 when all is well, 1 when something
    was found, 2 when PATH or a tools module is missing.
    """
    if profile is not None:
        found = readiness(_check_writable)
        _tell(found, found["ok"], readiness_lines(found), format_)
    place = _place_of(path, check_drift, run_preflight)
    known = import_tools(tools)
    if check_drift:
        found = look_at_flows(place, lambda each: drift_of(each, known), "drift_count")
        if found["drift_count"] and not tools and format_ is Format.TABLE:
            warn("no --tools given: every tool counts as missing")
        _tell(found, _is_well(found, "drift_count"), drift_lines(found), format_)
    import_from_current_directory()
    with _allowed(schema_ref_allow):
        found = look_at_flows(place, lambda each: flight_of(each, known if tools else None), "issue_count")
    _tell(found, _is_well(found, "issue_count"), flight_lines(found), format_)


def _place_of(path: Path | None, check_drift: bool, run_preflight: bool) -> Path:
    """Return the path to look at, or end the command because its options do not go together."""
    if not check_drift and not run_preflight:
        fail("doctor flow requires --check-drift, --preflight, or --profile first-run")
    if check_drift and run_preflight:
        fail("give one of --check-drift and --preflight, not both", 2)
    if path is None:
        fail("flow path is required", 2)
    if not is_there(path):
        fail(f"path not found: {path}", 2)
    return path


def _allowed(prefixes: list[str] | None) -> AbstractContextManager[None]:
    return dw.schema_ref_policy(dw.SchemaRefAllowlist(prefixes)) if prefixes else nullcontext()


def _tell(found: Result, is_ok: bool, lines: Iterable[str], format_: Format) -> NoReturn:
    if format_ is Format.JSON:
        emit_json(found)
    else:
        for each in found.get("load_errors", ()):
            warn(f"{each['path']}: {each['error']}")
        say_lines(lines)
    raise typer.Exit(0 if is_ok else 1)


def look_at_flows(path: Path, look: Callable[[AnyFlow], Result], count_name: str) -> Result:
    """Return what `look` says of each flow of a file or directory, and which files have no flow.

    Under `count_name` it says how many flows are not ok.
    """
    results: list[Result] = []
    load_errors: list[dict[str, str]] = []
    for file in flow_files(path) if path.is_dir() else [path]:
        try:
            results.append({"path": str(file), **look(dw.load_flow_file(file))})
        except (dw.FlowSerializationError, OSError) as error:
            load_errors.append({"path": str(file), "error": detail_of(error)})
    return {
        "path": str(path),
        "flow_count": len(results),
        count_name: sum(not each["ok"] for each in results),
        "load_errors": load_errors,
        "results": results,
    }


def drift_of(flow: AnyFlow, tools: Mapping[str, dw.Tool]) -> Result:
    """Return how a flow fits tools, as `check_flow_compatibility` says."""
    issues = dw.check_flow_compatibility(flow, tools)
    kinds = [issue.issue_type for issue in issues]
    return {
        "flow_name": flow.name,
        "flow_version": flow.version,
        "fingerprints_present": bool(flow.tool_schema_hashes),
        "ok": not issues,
        "missing_count": kinds.count("missing_tool"),
        "drift_count": kinds.count("schema_mismatch"),
        "issues": [
            {
                "step_index": issue.step_index,
                "tool_name": issue.tool_name,
                "issue_type": issue.issue_type,
                "detail": issue.detail,
            }
            for issue in issues
        ],
    }


def flight_of(flow: AnyFlow, tools: Mapping[str, dw.Tool] | None) -> Result:
    """Return what `preflight` says of a flow."""
    issues = preflight(flow, tools)
    return {"flow_name": flow.name, "ok": not issues, "issues": issues}


def drift_lines(found: Result) -> Iterator[str]:
    """Yield the lines of the table for flows and their drift."""
    for each in found["results"]:
        verdict = "OK" if each["ok"] else "DRIFT"
        note = "" if each["fingerprints_present"] else "  (no fingerprints to compare)"
        count = len(each["issues"])
        yield f"{verdict:<7}{each['flow_name']} v{each['flow_version']}  {count} issue(s)  {each['path']}{note}"
        yield from (f"  [{issue['issue_type']}] {issue['detail']}" for issue in each["issues"])
    yield _total(found, "drift_count", "drift")


def flight_lines(found: Result) -> Iterator[str]:
    """Yield the lines of the table for flows and what `preflight` says of them."""
    for each in found["results"]:
        yield f"{each['flow_name']}  {each['path']}  {'ok' if each['ok'] else 'issues'}"
        yield from (f"  {issue['type']}: {issue['detail']}" for issue in each["issues"])
    yield _total(found, "issue_count", "issues")


def _is_well(found: Result, count_name: str) -> bool:
    return not found[count_name] and not found["load_errors"]


def _total(found: Result, count_name: str, trouble: str) -> str:
    total, count = found["flow_count"], found[count_name]
    if _is_well(found, count_name):
        return f"all {total} flow(s) ok"
    return f"{count} flow(s) with {trouble}, {total - count} ok"


def _check_writable(path: Path) -> bool:
    """Say whether files can be made in a directory."""
    from tempfile import TemporaryFile

    try:
        with TemporaryFile(dir=path):
            return True
    except OSError:
        return False
