"""Where a registry keeps its flows."""

from typing import Protocol, runtime_checkable

from doubleweave.errors import FlowAlreadyExistsError, FlowNotFoundError
from doubleweave.models.flows import AnyFlow


@runtime_checkable
class RegistryStore(Protocol):
    """Keeps flows by name and version. Concurrent reads must be safe; writes need not be."""

    def save_flow(self, flow: AnyFlow, *, overwrite: bool = False) -> None:
        """Keep a flow; `FlowAlreadyExistsError` when its name and version exist and `overwrite` is false."""
        ...

    def load_flow(self, name: str, version: str) -> AnyFlow:
        """Return a flow; `FlowNotFoundError` when there is none."""
        ...

    def has_flow(self, name: str, version: str) -> bool:
        """Say whether there is such a flow."""
        ...

    def list_keys(self) -> list[tuple[str, str]]:
        """Return every (name, version), sorted as texts."""
        ...

    def delete_flow(self, name: str, version: str) -> None:
        """Forget a flow; `FlowNotFoundError` when there is none."""
        ...


class InMemoryStore:
    """A `RegistryStore` that keeps the very objects it is given, for as long as it lives."""

    def __init__(self) -> None:
        self._flows: dict[tuple[str, str], AnyFlow] = {}

    def save_flow(self, flow: AnyFlow, *, overwrite: bool = False) -> None:
        """Keep `flow`.

        Raises:
            FlowAlreadyExistsError: Its name and version exist, and `overwrite` is false.
        """
        key = (flow.name, flow.version)
        if key in self._flows and not overwrite:
            raise FlowAlreadyExistsError(flow.name)
        self._flows[key] = flow

    def load_flow(self, name: str, version: str) -> AnyFlow:
        """Return the flow.

        Raises:
            FlowNotFoundError: There is none.
        """
        try:
            return self._flows[name, version]
        except KeyError:
            raise FlowNotFoundError(name, version=version) from None

    def has_flow(self, name: str, version: str) -> bool:
        """Say whether there is such a flow."""
        return (name, version) in self._flows

    def list_keys(self) -> list[tuple[str, str]]:
        """Return every (name, version), sorted as texts."""
        return sorted(self._flows)

    def delete_flow(self, name: str, version: str) -> None:
        """Forget the flow.

        Raises:
            FlowNotFoundError: There is none.
        """
        if self._flows.pop((name, version), None) is None:
            raise FlowNotFoundError(name, version=version)

    def __len__(self) -> int:
        return len(self._flows)
