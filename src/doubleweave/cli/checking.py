"""The commands that look at flow files without running them: `validate`, `check` and `dump-schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

import doubleweave as dw
from doubleweave.cli import options
from doubleweave.cli.sources import flow_files, is_there, require_file, write_output
from doubleweave.cli.text import Format, detail_of, emit_envelope, error_entry, fail, say, say_lines

Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="PATH", help="Write it to this file.")]


def validate(flow_file: options.FlowFile, format_: options.Formatted = Format.TABLE) -> None:
    """Say whether a flow file can be read.

    Nothing that it names is imported. Exit code 0 when it is valid, 1 when it is not, 2 when it is missing.
    """
    verdict, error = _look_at(require_file(flow_file))
    if format_ is Format.JSON:
        _emit(verdict, [] if error is None else [error])
    else:
        _say_verdict(verdict)
    raise typer.Exit(0 if error is None else 1)


def check(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where to look for flow files, and below.")],
    format_: options.Formatted = Format.TABLE,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no table; the exit code tells.")] = False,
) -> None:
    """Say of every flow file in a directory and below whether it can be read.

    Exit code 0 when all are valid, 1 when one is not, 2 when the directory is missing.
    """
    looks = [_look_at(path) for path in flow_files(directory)]
    verdicts, errors = [verdict for verdict, _ in looks], [error for _, error in looks if error is not None]
    counts = {"valid_count": len(looks) - len(errors), "invalid_count": len(errors)}
    if format_ is Format.JSON:
        _emit({"directory": str(directory), **counts, "results": verdicts}, errors)
    elif not quiet:
        for verdict in verdicts:
            _say_verdict(verdict)
        say(f"{counts['valid_count']} valid, {counts['invalid_count']} invalid")
    raise typer.Exit(1 if errors else 0)


def dump_schema(
    output: Output = None,
    check: Annotated[bool, typer.Option("--check", help="Say whether the file at --output is up to date.")] = False,
) -> None:
    """Print the JSON Schema of flow files, for editors.

    Exit code 0, or with --check 1 when the file is missing or says something else.
    """
    text = json.dumps(dw.flow_schema_json(), indent=2, sort_keys=True) + "\n"
    if check:
        _check_schema(output, text)
    elif output is None:
        typer.echo(text, nl=False)
    else:
        write_output(output, text)
        say(f"{output}: written")


def _check_schema(path: Path | None, text: str) -> None:
    if path is None:
        fail("--check requires --output", 2)
    if not is_there(path):
        fail(f"{path} does not exist: write it with dump-schema --output {path}")
    try:
        is_same = path.read_bytes() == text.encode()
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}", 2)
    if not is_same:
        fail(f"{path} is out of date: write it anew with dump-schema --output {path}")
    say(f"{path}: up to date")


def _look_at(path: Path) -> tuple[dict[str, Any], Exception | None]:
    """Return what is to be said of a flow file, and what is wrong with it, if anything is."""
    try:
        flow = dw.load_flow_file(path)
    except (dw.FlowSerializationError, OSError) as error:
        return {"path": str(path), "valid": False, "error": detail_of(error)}, error
    verdict = {
        "path": str(path),
        "valid": True,
        "name": flow.name,
        "version": flow.version,
        "type": type(flow).__name__,
        "step_count": len(flow.steps),
    }
    return verdict, None


def _emit(data: Any, errors: list[Exception]) -> None:
    emit_envelope(data, status="error" if errors else "ok", errors=[error_entry(error) for error in errors])


def _say_verdict(verdict: dict[str, Any]) -> None:
    if verdict["valid"]:
        say_lines(["OK       {path}: {name} v{version} [{type}]".format(**verdict)])
    else:
        say_lines(["INVALID  {path}: {error}".format(**verdict)], err=True)
