"""Directories of flow files: reading them into a registry, once, again, or whenever they change."""

import hashlib
import logging
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from pydantic import BaseModel, ConfigDict

from doubleweave.errors import DoubleweaveError, FlowSerializationError
from doubleweave.models.flows import AnyFlow
from doubleweave.models.parse_limits import DEFAULT_PARSE_LIMITS
from doubleweave.models.product import PRODUCT
from doubleweave.stores.flow_files import is_flow_file_name, parse_flow_file, read_flow_file

_logger = logging.getLogger(f"{PRODUCT}.registry")


class ReloadReport(BaseModel):
    """Which flows the files of a directory brought, each as `name@version`, sorted."""

    model_config = ConfigDict(frozen=True)

    added: list[str] = []
    updated: list[str] = []
    unchanged: list[str] = []

    @property
    def changed(self) -> bool:
        """Whether a flow was added or updated."""
        return bool(self.added or self.updated)


class WatchHandle:
    """A directory that is being watched. As a context manager it stops watching at the end."""

    def __init__(self, look: Callable[[], None], interval: float) -> None:
        self._look = look
        self._interval = min(interval, threading.TIMEOUT_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{PRODUCT}-watch", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the directory is still looked at."""
        return self._thread.is_alive()

    def stop(self, *, timeout: float = 5.0) -> None:
        """End watching and wait up to `timeout` seconds for the look that is under way; it is no fault to call it again."""
        self._stopping.set()
        # Whoever is called during a look stops at its end and cannot wait for it.
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._look()
            self._stopping.wait(self._interval)


class FlowDirectories:
    """The directories that the flows of one registry come from. Safe to use from several threads."""

    def __init__(self, register: "_Register") -> None:
        self._register = register
        self._lock = threading.Lock()
        self._seen: dict[Path, _Seen] = {}

    def load(self, directory: str | Path, *, overwrite: bool) -> ReloadReport:
        """Register the flow of every file. As `FlowRegistry.load_from_directory`."""
        _check_directory(directory)
        with self._lock:
            seen = _Seen()
            report = self._read(Path(directory), seen, overwrite)
            self._seen[Path(directory).resolve()] = seen
            return report

    def reload(self, directory: str | Path) -> ReloadReport:
        """Register the flow of every file that is new or changed. As `FlowRegistry.reload_from_directory`."""
        _check_directory(directory)
        with self._lock:
            seen = self._seen.setdefault(Path(directory).resolve(), _Seen())
            return self._read(Path(directory), seen, overwrite=True)

    def watch(
        self, directory: str | Path, interval: float, on_reload: Callable[[ReloadReport], object] | None
    ) -> WatchHandle:
        """Reload now and every `interval` seconds, in a thread. As `FlowRegistry.watch`."""
        if not interval > 0:
            raise ValueError(f"poll_interval_seconds must be above 0, got {interval!r}")
        _check_directory(directory)
        return WatchHandle(_Look(self, directory, on_reload), interval)

    def _read(self, directory: Path, seen: "_Seen", overwrite: bool) -> ReloadReport:
        before = {file.key: file.digest for file in seen.files.values()}
        now: dict[Path, _File] = {}
        owners: dict[str, Path] = {}
        report: dict[str, list[str]] = {"added": [], "updated": [], "unchanged": []}
        for path in flow_files(directory):
            content = read_flow_file(path, DEFAULT_PARSE_LIMITS)
            file = now[path] = seen.look_at(path, content)
            if owners.setdefault(file.key, path) is not path:
                names = f"'{owners[file.key].relative_to(directory)}' and '{path.relative_to(directory)}'"
                raise FlowSerializationError(f"{names} both hold the flow {file.key!r}", source=str(path))
            if seen.registered.get(file.key) != file.digest:
                self._register_from(path, content, overwrite)
                seen.registered[file.key] = file.digest
            known = before.get(file.key)
            report["added" if known is None else "unchanged" if known == file.digest else "updated"].append(file.key)
        seen.files = now
        return ReloadReport(**{change: sorted(keys) for change, keys in report.items()})

    def _register_from(self, path: Path, content: bytes, overwrite: bool) -> None:
        flow = parse_flow_file(path, content, DEFAULT_PARSE_LIMITS)
        try:
            self._register(flow, overwrite=overwrite)
        except DoubleweaveError as error:
            error.add_note(f"The flow is in {path}.")
            raise


class _Register(Protocol):
    def __call__(self, flow: AnyFlow, *, overwrite: bool) -> None: ...


class _File(NamedTuple):
    """A flow file as it was read: the digest of its bytes, and `name@version` of its flow."""

    digest: str
    key: str


class _Seen:
    """What is known of a directory."""

    def __init__(self) -> None:
        # The files of the last reading that came to its end: what reports compare with.
        self.files: dict[Path, _File] = {}
        # The digests of the flows as they were registered, also by readings that a bad file has ended: as long as it is bad,
        # those before it are not registered again and again, which would undo every change of their state.
        self.registered: dict[str, str] = {}

    def look_at(self, path: Path, content: bytes) -> _File:
        """Return what a file holds; it is parsed when it has changed."""
        digest = hashlib.sha256(content).hexdigest()
        file = self.files.get(path)
        if file is not None and file.digest == digest:
            return file
        flow = parse_flow_file(path, content, DEFAULT_PARSE_LIMITS)
        return _File(digest, f"{flow.name}@{flow.version}")


class _Look:
    """One look at a watched directory, and all that follow. What goes wrong is logged when it is new, and tried again."""

    def __init__(
        self,
        directories: FlowDirectories,
        directory: str | Path,
        on_reload: Callable[[ReloadReport], object] | None,
    ) -> None:
        self._directories = directories
        self._directory = directory
        self._on_reload = on_reload
        self._fault = ""

    def __call__(self) -> None:
        try:
            report = self._directories.reload(self._directory)
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
            if fault != self._fault:
                _logger.warning(
                    "Flows of %s are not reloaded, which is tried again: %s",
                    self._directory,
                    fault,
                    exc_info=not isinstance(error, DoubleweaveError | OSError),
                )
            self._fault = fault
            return
        self._fault = ""
        if report.changed and self._on_reload is not None:
            self._tell(self._on_reload, report)

    def _tell(self, on_reload: Callable[[ReloadReport], object], report: ReloadReport) -> None:
        try:
            on_reload(report)
        # An exit or interrupt that a callback raises would end this thread alone, and nobody would hear of it.
        except BaseException:
            _logger.exception("on_reload raised for %s; watching goes on", self._directory)


def _check_directory(directory: str | Path) -> None:
    if not Path(directory).exists():
        raise FileNotFoundError(f"there is no directory {str(directory)!r} to load flows from")
    if not Path(directory).is_dir():
        raise NotADirectoryError(f"{str(directory)!r} is no directory to load flows from")


def flow_files(directory: Path) -> list[Path]:
    """Return the flow files below a directory, sorted. Symbolic links are not followed and no files themselves."""

    def refuse(error: OSError) -> None:
        raise error

    found = [
        Path(folder, name)
        for folder, _, names in os.walk(directory, onerror=refuse)
        for name in names
        if is_flow_file_name(name)
    ]
    return sorted(path for path in found if stat.S_ISREG(path.lstat().st_mode))
