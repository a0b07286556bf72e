"""The registry: which flows exist, in which versions and in which state."""

from collections.abc import Collection
from typing import Any

from packaging.version import InvalidVersion, Version

from doubleweave.errors import FlowNotFoundError, InvalidFlowVersionError
from doubleweave.models.flows import AnyFlow, DAGFlow, Flow, FlowStatus
from doubleweave.models.storage import InMemoryStore, RegistryStore
from doubleweave.models.topology import validate_dag_topology

_UNSET: Any = object()


def _status(flow_name: str, status: Any) -> FlowStatus:
    try:
        return FlowStatus(status)
    except ValueError:
        choices = ", ".join(repr(each.value) for each in FlowStatus)
        raise ValueError(f"Flow '{flow_name}': {status!r} is no status; take one of {choices}") from None


def _parse_version(flow_name: str, version: str) -> Version:
    try:
        return Version(version)
    except InvalidVersion as error:
        raise InvalidFlowVersionError(flow_name, version, "not a PEP 440 version") from error


class FlowRegistry:
    """Flows by name and version, with the latest version of each name at hand.

    Concurrent reads are safe. Changes must not run at the same time as others or as reads.

    Args:
        store: Where the flows are kept; a fresh `InMemoryStore` when None.

    Raises:
        InvalidFlowVersionError: `store` holds a version that is not PEP 440.
    """

    def __init__(self, store: RegistryStore | None = None) -> None:
        # An empty store is falsy.
        self._store: RegistryStore = InMemoryStore() if store is None else store
        self._latest: dict[str, tuple[Version, str]] = {}
        for name, version in self._store.list_keys():
            self._note_version(name, version, _parse_version(name, version))

    @property
    def store(self) -> RegistryStore:
        """The store that keeps the flows."""
        return self._store

    def register_flow(self, flow: AnyFlow, *, overwrite: bool = False) -> None:
        """Check and keep a flow. A failed check leaves the registry as it was.

        Raises:
            TypeError: It is no flow.
            InvalidFlowVersionError: The version is not PEP 440.
            DAGDefinitionError: A DAG has no valid topology.
            FlowAlreadyExistsError: Name and version are registered, and `overwrite` is false.
        """
        if not isinstance(flow, Flow | DAGFlow):
            raise TypeError(f"register_flow takes a Flow or a DAGFlow, not {flow!r}")
        parsed = _parse_version(flow.name, flow.version)
        if isinstance(flow, DAGFlow):
            validate_dag_topology(flow)
        self._store.save_flow(flow, overwrite=overwrite)
        self._note_version(flow.name, flow.version, parsed)

    def get_flow(self, name: str, *, version: str | None = None) -> AnyFlow:
        """Return the latest version of a flow, or the one asked for.

        Raises:
            FlowNotFoundError: There is none.
        """
        if version is not None:
            return self._store.load_flow(name, version)
        latest = self._latest.get(name)
        if latest is None:
            raise FlowNotFoundError(name)
        try:
            return self._store.load_flow(name, latest[1])
        except FlowNotFoundError:
            # Deleted from the store behind the registry's back; nobody asked for this version.
            raise FlowNotFoundError(name) from None

    def list_flows(
        self, *, status: FlowStatus | None = None, exclude_status: Collection[FlowStatus] | None = None
    ) -> list[AnyFlow]:
        """Return the flows that have `status` and no excluded one, in all versions, sorted by name and version text."""
        flows = [self._store.load_flow(name, version) for name, version in self._store.list_keys()]
        return [
            flow
            for flow in flows
            if (status is None or flow.status == status) and (not exclude_status or flow.status not in exclude_status)
        ]

    def get_active_flows(self) -> list[AnyFlow]:
        """Return every version of every flow that is active."""
        return self.list_flows(status=FlowStatus.ACTIVE)

    def list_flow_versions(self, name: str) -> list[str]:
        """Return the versions of a flow, oldest first.

        Raises:
            FlowNotFoundError: There is none.
        """
        versions = [version for key, version in self._store.list_keys() if key == name]
        if not versions:
            raise FlowNotFoundError(name)
        return sorted(versions, key=lambda version: _parse_version(name, version))

    def update_flow_state(
        self,
        flow_name: str,
        *,
        version: str | None = None,
        status: FlowStatus | None = None,
        tool_schema_hashes: dict[str, str] | None = _UNSET,
    ) -> AnyFlow:
        """Replace a flow, the latest version by default, by a copy with another state, and return the copy.

        What is left out keeps its value; `tool_schema_hashes=None` clears the hashes. Flow objects handed out before do
        not change. With nothing to change the registered flow itself is returned.

        Raises:
            FlowNotFoundError: There is no such flow.
            ValueError: There is no such status.
        """
        flow = self.get_flow(flow_name, version=version)
        update: dict[str, Any] = {}
        if status is not None:
            update["status"] = _status(flow_name, status)
        if tool_schema_hashes is not _UNSET:
            update["tool_schema_hashes"] = None if tool_schema_hashes is None else dict(tool_schema_hashes)
        if not update:
            return flow
        changed = flow.model_copy(update=update)
        self._store.save_flow(changed, overwrite=True)
        return changed

    def set_flow_status(self, flow_name: str, status: FlowStatus, *, version: str | None = None) -> None:
        """Give a flow, the latest version by default, another status. As `update_flow_state`."""
        self.update_flow_state(flow_name, version=version, status=status)

    def match_flow_by_intent(self, intent: str) -> AnyFlow | None:
        """Return the first flow, as `list_flows` sorts, whose name or description contains `intent`, in any case."""
        wanted = intent.casefold()
        for flow in self.list_flows():
            if wanted in flow.name.casefold() or wanted in flow.description.casefold():
                return flow
        return None

    def _note_version(self, name: str, version: str, parsed: Version) -> None:
        latest = self._latest.get(name)
        if latest is None or parsed >= latest[0]:
            self._latest[name] = (parsed, version)

    def __len__(self) -> int:
        return len(self._store.list_keys())

    def __repr__(self) -> str:
        names = sorted({name for name, _ in self._store.list_keys()})
        return f"FlowRegistry(flows={names!r})"
