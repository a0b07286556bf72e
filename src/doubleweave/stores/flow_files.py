"""Flow files on disk: reading one, and a store that keeps one for each flow."""

import os
import re
import stat
from pathlib import Path

from doubleweave.errors import FlowAlreadyExistsError, FlowNotFoundError, FlowSerializationError
from doubleweave.models.flow_files import flow_from_json, flow_from_yaml, flow_to_json
from doubleweave.models.flows import AnyFlow
from doubleweave.models.parse_limits import DEFAULT_PARSE_LIMITS, FlowParseLimits
from doubleweave.stores.files import LONGEST_NAME, write_atomically

_JSON = ".flow.json"
SUFFIXES = (_JSON, ".flow.yaml", ".flow.yml")
"""How the names of flow files end, in any case."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9._-]+")
_RESERVED = re.compile(r"[/\\@]")


def load_flow_file(path: str | Path, *, limits: FlowParseLimits = DEFAULT_PARSE_LIMITS) -> AnyFlow:
    """Return the flow of one file, JSON or YAML by the end of its name. Nothing that the flow names is imported.

    Raises:
        FlowSerializationError: The name ends in none of `.flow.json`, `.flow.yaml` and `.flow.yml`, the file is not a regular
            one, or its content is refused; as `flow_from_json` and `flow_from_yaml`, with the path as `source`.
        OSError: The file is missing or cannot be read.
    """
    path = Path(path)
    if not is_flow_file_name(path.name):
        raise FlowSerializationError(
            f"Unrecognised file extension: a flow file ends in {', '.join(SUFFIXES)}", source=str(path)
        )
    return parse_flow_file(path, read_flow_file(path, limits), limits)


def is_flow_file_name(name: str) -> bool:
    """Say whether a file of this name holds a flow."""
    return name.lower().endswith(SUFFIXES)


def read_flow_file(path: Path, limits: FlowParseLimits) -> bytes:
    """Return what is in a file, or so much of it as shows that it passes `max_bytes`. Raises as `load_flow_file`."""
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FlowSerializationError("it is not a regular file", source=str(path))
        return file.read() if limits.max_bytes is None else file.read(limits.max_bytes + 1)


def parse_flow_file(path: Path, content: bytes, limits: FlowParseLimits) -> AnyFlow:
    """Return the flow that a file of this name and content holds. Raises as `load_flow_file`."""
    is_json = path.name.lower().endswith(_JSON)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        form = "JSON" if is_json else "YAML"
        raise FlowSerializationError(f"Invalid {form}: it is not UTF-8 ({error})", source=str(path)) from error
    parse = flow_from_json if is_json else flow_from_yaml
    return parse(text, source=str(path), limits=limits)


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a named pipe does not wait for who writes into it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


class FileStore:
    """A `RegistryStore` that keeps each flow as `<name>@<version>.flow.json` in a folder, created when it is missing.

    A file is read each time that its flow is asked for. What is saved can be loaded again: other flows are refused. Several
    threads and processes may use one folder, for a file is replaced as a whole. Other files in the folder are left alone.

    Args:
        base_dir: The folder.
        limits: How much a file may hold.
    """

    def __init__(self, base_dir: str | Path, *, limits: FlowParseLimits = DEFAULT_PARSE_LIMITS) -> None:
        self._base_dir = Path(base_dir)
        self._limits = limits
        self._base_dir.mkdir(parents=True, exist_ok=True)

    @property
    def base_dir(self) -> Path:
        """The folder."""
        return self._base_dir

    def save_flow(self, flow: AnyFlow, *, overwrite: bool = False) -> None:
        """Write the file of `flow`.

        Raises:
            FlowSerializationError: Name or version cannot be part of a file name, or the flow could not be loaded again.
            FlowAlreadyExistsError: There is such a file, and `overwrite` is false. Of several processes that save one flow at
                a time, one does not raise this.
            OSError: The file cannot be written; the one before it is still there.
        """
        path = self._path(flow.name, flow.version)
        text = flow_to_json(flow)
        flow_from_json(text, source=str(path), limits=self._limits)
        try:
            write_atomically(path, text, replace=overwrite)
        except FileExistsError:
            raise FlowAlreadyExistsError(flow.name) from None

    def load_flow(self, name: str, version: str) -> AnyFlow:
        """Read a flow.

        Raises:
            FlowNotFoundError: There is no such file.
            FlowSerializationError: Name or version cannot be part of a file name, the file is refused, or it holds another
                flow than its name says.
            OSError: The file cannot be read.
        """
        path = self._path(name, version)
        try:
            flow = load_flow_file(path, limits=self._limits)
        except FileNotFoundError:
            raise FlowNotFoundError(name, version=version) from None
        if (flow.name, flow.version) != (name, version):
            raise FlowSerializationError(
                f"the file holds {f'{flow.name}@{flow.version}'!r} and not the flow that its name says",
                source=str(path),
            )
        return flow

    def has_flow(self, name: str, version: str) -> bool:
        """Say whether there is a file of this flow, whatever is in it."""
        try:
            return self._path(name, version).is_file()
        except FlowSerializationError:
            return False

    def list_keys(self) -> list[tuple[str, str]]:
        """Return every (name, version) that there is a file for, sorted as texts."""
        return sorted(
            key for path in self._base_dir.iterdir() if (key := _key_of(path.name)) is not None and path.is_file()
        )

    def delete_flow(self, name: str, version: str) -> None:
        """Remove the file of a flow.

        Raises:
            FlowNotFoundError: There is none.
            FlowSerializationError: Name or version cannot be part of a file name.
        """
        try:
            self._path(name, version).unlink()
        except FileNotFoundError:
            raise FlowNotFoundError(name, version=version) from None

    def __len__(self) -> int:
        return len(self.list_keys())

    def _path(self, name: str, version: str) -> Path:
        fault = _fault_of_key(name, version)
        if fault is not None:
            raise FlowSerializationError(fault)
        return self._base_dir / f"{name}@{version}{_JSON}"


def _key_of(file_name: str) -> tuple[str, str] | None:
    """Return the name and version that are the name of a file; None for the name of any other file."""
    name, _, version = file_name.removesuffix(_JSON).partition("@")
    is_one = file_name.endswith(_JSON) and version and _fault_of_key(name, version) is None
    return (name, version) if is_one else None


def _fault_of_key(name: str, version: str) -> str | None:
    """Say why there can be no file of a flow, if there can be none."""
    if not _SAFE_NAME.fullmatch(name):
        return (
            f"flow name {name[:80]!r} is not safe for a file name: use letters, digits, dots, underscores and hyphens"
        )
    if not version or _RESERVED.search(version) or not version.isprintable():
        return f"version {version[:80]!r} of flow '{name[:80]}' is empty or has what is reserved: / \\ @, control characters"
    if len(f"{name}@{version}{_JSON}".encode(errors="replace")) > LONGEST_NAME:
        return f"'{name[:80]}@{version[:80]}' is not safe for a file name: it is longer than {LONGEST_NAME} bytes"
    return None
