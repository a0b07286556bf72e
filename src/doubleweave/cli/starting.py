"""The command that starts a project: `init`."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from doubleweave.cli.sources import is_there
from doubleweave.cli.text import PROG, fail, say

_LONGEST_NAME = 40


def init(
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="Where the project is to be; it is made where it is missing.")
    ] = Path("."),
) -> None:
    """Write a small project that works: a flow file, its tools, tests on both lanes, a Makefile.

    Files are named after the directory. Exit code 0 when they are written, 1 when one of them is there already, in which case
    nothing is written, 2 when the directory is none or cannot be written to.
    """
    name = _name_for(directory)
    files = {directory / file: template for file, template in _files(name).items()}
    if is_there(directory) and not directory.is_dir():
        fail(f"not a directory: {directory}", 2)
    taken = [str(path) for path in files if os.path.lexists(path)]
    if taken:
        fail(f"nothing has been written, since this would be overwritten: {', '.join(taken)}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, template in files.items():
            _write(path, template, name)
    except OSError as error:
        fail(f"{error.filename} cannot be written: {error.strerror}", 2)
    say("next:")
    for command in _next_commands(directory, name):
        say(f"  {command}")


def _name_for(directory: Path) -> str:
    """Return a name after a directory that can be part of a module's and of a file's."""
    name = re.sub(r"[^a-z0-9]+", "_", directory.resolve().name.lower()).strip("_")[:_LONGEST_NAME].strip("_")
    if not name:
        return "starter"
    return f"flow_{name}" if name[0].isdigit() else name


def _files(name: str) -> dict[str, str]:
    """Return the names of the files of a project, each with that of its template."""
    return {
        f"{name}.flow.json": "flow.json.in",
        f"{name}_tools.py": "tools.py.in",
        f"test_{name}.py": "test.py.in",
        "Makefile": "Makefile.in",
        "README.md": "README.md.in",
    }


def _write(path: Path, template: str, name: str) -> None:
    from importlib.resources import files

    text = (files(__package__) / "starter" / template).read_text(encoding="utf-8")
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.write(text.replace("{{name}}", name))
    say(f"created {path}")


def _next_commands(directory: Path, name: str) -> list[str]:
    enter = [] if directory.resolve() == Path.cwd() else [f"cd {shlex.quote(str(directory))}"]
    return [*enter, "make test", "make run", f"{PROG} viz {name} --file {name}.flow.json"]
