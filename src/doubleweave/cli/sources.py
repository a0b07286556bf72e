"""Where commands get flows, tools, inputs and traces from."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import doubleweave as dw
from doubleweave.cli.text import detail_of, fail, prints_to_stderr, warn

if TYPE_CHECKING:
    from doubleweave.models.flows import AnyFlow

_registry: dw.FlowRegistry | None = None


def set_default_registry(registry: dw.FlowRegistry | None) -> None:
    """Set the registry in which commands look for flows by name when no option says where; None for none."""
    global _registry
    _registry = registry


def get_default_registry() -> dw.FlowRegistry | None:
    """Return the registry in which commands look for flows by name when no option says where."""
    return _registry


def require_file(path: Path) -> Path:
    """Return a path that leads to a file, or end the command."""
    if not is_there(path):
        fail(f"file not found: {path}", 2)
    if path.is_dir():
        fail(f"not a file: {path}", 2)
    return path


def require_directory(path: Path) -> Path:
    """Return a path that leads to a directory, or end the command."""
    if not is_there(path):
        fail(f"directory not found: {path}", 2)
    if not path.is_dir():
        fail(f"not a directory: {path}", 2)
    return path


def is_there(path: Path) -> bool:
    """Say whether a path leads to anything, or end the command when nobody can tell."""
    try:
        return path.exists()
    # A name that is too long, or a directory that nobody may look into.
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}", 2)


def read_text(path: Path) -> str:
    """Return what is in a file, or end the command; `-` is what the command is given on stdin."""
    from_stdin = str(path) == "-"
    if from_stdin and sys.stdin is None:
        fail("there is no stdin to read", 2)
    try:
        text = sys.stdin.read() if from_stdin else require_file(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        fail(f"{'stdin' if from_stdin else path} is not UTF-8")
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}", 2)
    # Some editors and shells begin a file with it.
    return text.removeprefix("\ufeff")


def load_flow(path: Path) -> AnyFlow:
    """Return the flow of a file, or end the command."""
    require_file(path)
    try:
        return dw.load_flow_file(path)
    except dw.FlowSerializationError as error:
        fail(f"[{error.code}] {path}: {error.detail}")
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}", 2)


class Found(NamedTuple):
    """A flow, and where it was found: a path, `entry-point` or `registry`."""

    flow: AnyFlow
    source: str


class Places(NamedTuple):
    """Where to look for flows, as the options say: the first that is given counts."""

    file: Path | None = None
    directory: Path | None = None
    entry_points: bool = False

    def flow(self, name: str) -> AnyFlow:
        """Return the latest version of a flow, or end the command with the names that there are."""
        option = self._option
        if option is None:
            return _registered(name)
        found = self.flows()
        versions = [each.flow for each in found if each.flow.name == name]
        if not versions:
            names = ", ".join(sorted({each.flow.name for each in found})) or "(none found)"
            fail(f"flow '{name}' not found by {option}; found: {names}")
        return max(versions, key=version_key)

    def flows(self) -> list[Found]:
        """Return every flow, in the order in which they are found; what is malformed is told on stderr."""
        if self.file is not None:
            return [Found(load_flow(self.file), str(self.file))]
        if self.directory is not None:
            return flows_below(self.directory)
        if self.entry_points:
            return [Found(flow, "entry-point") for flow in dw.discover_flows()]
        return [] if _registry is None else [Found(flow, "registry") for flow in _registry.list_flows()]

    @property
    def _option(self) -> str | None:
        if self.file is not None:
            return f"--file {self.file}"
        if self.directory is not None:
            return f"--discover-dir {self.directory}"
        return "--discover-entry-points" if self.entry_points else None


def _registered(name: str) -> AnyFlow:
    if _registry is None:
        fail("No registry configured: give --file, --discover-dir or --discover-entry-points")
    return _registry.get_flow(name)


def version_key(flow: AnyFlow) -> tuple[bool, Any]:
    """Return what puts flows in the order of their versions; what is no version comes first, as text."""
    from packaging.version import InvalidVersion, Version

    try:
        return True, Version(flow.version)
    except InvalidVersion:
        return False, flow.version


def flows_below(directory: Path) -> list[Found]:
    """Return the flows of the files of a directory and below, by path; malformed ones are told on stderr."""
    found = []
    for path in flow_files(directory):
        try:
            found.append(Found(dw.load_flow_file(path), str(path)))
        except (dw.FlowSerializationError, OSError) as error:
            warn(f"skipping {path}: {detail_of(error)}")
    return found


def flow_files(directory: Path) -> list[Path]:
    """Return the paths of the flow files of a directory and below, sorted."""
    from doubleweave.stores.flow_directories import flow_files

    return flow_files(require_directory(directory))


def import_tools(modules: Iterable[str] | None) -> dict[str, dw.Tool]:
    """Return the tools of modules by name; the first of a name counts. A module that cannot be imported ends the command."""
    tools: dict[str, dw.Tool] = {}
    for module in modules or ():
        for tool in _import_tools_from(module):
            tools.setdefault(tool.name, tool)
    return tools


def _import_tools_from(module: str) -> list[dw.Tool]:
    """Return the tools among the top-level values of a module, in the order of their definition, duplicates kept.

    The current directory is looked in, too.

    Raises:
        typer.Exit: The module cannot be imported, with code 2 and the reason on stderr.
    """
    return [value for value in vars(import_user_module(module, "tools module")).values() if isinstance(value, dw.Tool)]


def import_from_current_directory() -> None:
    """Let modules be imported from the current directory, too."""
    if not {"", os.getcwd()} & set(sys.path):
        # It stays there: what the module imports when its tools run lies there too.
        sys.path.insert(0, os.getcwd())


def import_user_module(name: str, role: str) -> Any:
    """Import a module of the user's from the path or the current directory, or end the command."""
    if name.endswith(".py") or os.sep in name:
        fail(f"{role} not importable: {name}: give the name of a module, as in `import`, not a file", 2)
    import_from_current_directory()
    try:
        with prints_to_stderr():
            return import_module(name)
    except (Exception, SystemExit) as error:
        reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        fail(f"{role} not importable: {name}: {reason}", 2)


def read_input(text: str | None, path: Path | None) -> dict[str, Any]:
    """Return the initial input that one of two options gives, or end the command."""
    if text is not None and path is not None:
        fail("--input and --input-file are mutually exclusive")
    if path is not None:
        return parse_object(read_text(path), "stdin" if str(path) == "-" else str(path))
    if text is None:
        fail('give the initial input: --input \'{"key": "value"}\' or --input-file PATH')
    return parse_object(text, "--input")


def parse_object(text: str, source: str) -> dict[str, Any]:
    """Return the JSON object that a text is, or end the command."""
    document = parse_json(text, f"malformed JSON in {source}")
    if not isinstance(document, dict):
        fail(f"the input in {source} must be a JSON object, not {_JSON_NAMES[type(document)]}")
    return document


_JSON_NAMES = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


def parse_json(text: str, complaint: str) -> Any:
    """Return the JSON value that a text is, or end the command with a complaint."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        fail(f"{complaint}: {error}")


def read_trace(path: Path) -> dw.ExecutionResult:
    """Return the execution result that a file holds, or end the command."""
    from pydantic import ValidationError

    try:
        return dw.ExecutionResult.model_validate_json(require_file(path).read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        fail(f"malformed trace file {path}: {f'{place}: ' if place else ''}{first['msg']}")
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}", 2)


def prepare_output(path: Path) -> Path:
    """Return a path that a file can be written to, its directory made where it is missing, or end the command."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}", 2)
    if path.is_dir():
        fail(f"not a file: {path}", 2)
    return path


def prepare_directory(path: Path) -> Path:
    """Return a path that is a directory, made where it is missing, or end the command."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        fail(f"not a directory: {path}", 2)
    except OSError as error:
        fail(f"{path} cannot be made: {error.strerror}", 2)
    return path


def write_output(path: Path, text: str) -> None:
    """Write a file, or end the command."""
    try:
        prepare_output(path).write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}", 2)


def sanitize_path_component(text: str) -> str:
    """Return a text that is safe as part of a file name: what is neither letter, digit, `.`, `_` nor `-` is `_`."""
    import re

    return re.sub(r"[^A-Za-z0-9._-]", "_", text) or "_"


def restrict_refs(prefixes: list[str] | None) -> None:
    """Let classes that flow files name be imported only from modules with these prefixes; from anywhere without any."""
    dw.set_schema_ref_policy(dw.SchemaRefAllowlist(prefixes) if prefixes else None)
