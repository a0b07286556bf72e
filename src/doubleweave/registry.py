"""The registry of flows, with the directories and plugins that they come from."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from doubleweave.models.registry import FlowRegistry as FlowRegistryBase
from doubleweave.models.storage import RegistryStore
from doubleweave.plugins import discover_flows
from doubleweave.stores.flow_directories import FlowDirectories, ReloadReport, WatchHandle


class FlowRegistry(FlowRegistryBase):
    """Flows by name and version, with the latest version of each name at hand, also read from directories of flow files.

    Concurrent reads are safe. Changes must not run at the same time as others or as reads, but for those by files: they may
    run beside each other and beside runs, when the store is one of the library's.

    Args:
        store: Where the flows are kept; a fresh `InMemoryStore` when None.
        discover_plugins: Register the flows that installed distributions offer under the entry-point group
            `doubleweave.flows`.

    Raises:
        InvalidFlowVersionError: `store` holds a version that is not PEP 440.
        FlowAlreadyExistsError: A plugin offers a flow that `store` has, or that another plugin offers.
    """

    def __init__(self, store: RegistryStore | None = None, *, discover_plugins: bool = False) -> None:
        super().__init__(store)
        for flow in discover_flows() if discover_plugins else ():
            self.register_flow(flow)

    def load_from_directory(self, directory: str | Path, *, overwrite: bool = True) -> ReloadReport:
        """Register the flow of every flow file in a directory and below, in the order of their paths.

        Flow files are regular files, not symbolic links, whose names end in `.flow.json`, `.flow.yaml` or `.flow.yml` in any
        case; other files are passed over. What a file holds is remembered for `reload_from_directory`.

        Returns:
            A report that has every flow as added.

        Raises:
            FileNotFoundError: There is nothing at this path.
            NotADirectoryError: It is no directory.
            FlowSerializationError: A file is refused, as by `load_flow_file`, or holds a flow that another file holds in the
                same version. The flows of the files before it stay registered; so they do after the following errors.
            FlowAlreadyExistsError: A flow is registered already, and `overwrite` is false.
            InvalidFlowVersionError, DAGDefinitionError: As `register_flow`; a note names the file.
        """
        return self._directories.load(directory, overwrite=overwrite)

    def reload_from_directory(self, directory: str | Path) -> ReloadReport:
        """Register the flows whose files are new or have changed since the directory was read, in the place of their old ones.

        Flows whose files are gone stay registered, and so do unchanged ones, in the state that they are in.

        Returns:
            A report of all files; everything is added when the directory was not read before.

        Raises:
            FileNotFoundError, NotADirectoryError, FlowSerializationError, InvalidFlowVersionError, DAGDefinitionError: As
                `load_from_directory`.
        """
        return self._directories.reload(directory)

    def watch(
        self,
        directory: str | Path,
        *,
        poll_interval_seconds: float = 2.0,
        on_reload: Callable[[ReloadReport], object] | None = None,
    ) -> WatchHandle:
        """Reload a directory at once and every `poll_interval_seconds`, in a daemon thread, until the handle is stopped.

        What goes wrong in a pass is logged as a warning and tried again in the next one. Tools are never touched.

        Args:
            directory: As for `load_from_directory`.
            poll_interval_seconds: The time between two passes.
            on_reload: Called in that thread with the report of each pass that added or updated a flow. What it raises is
                logged.

        Raises:
            ValueError: The interval is not above 0.
            FileNotFoundError: There is nothing at this path.
            NotADirectoryError: It is no directory.
        """
        return self._directories.watch(directory, poll_interval_seconds, on_reload)

    @cached_property
    def _directories(self) -> FlowDirectories:
        return FlowDirectories(self.register_flow)
