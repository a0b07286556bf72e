"""Running flows in tests and asking afterwards what their tools were called with."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from doubleweave.executor import FlowExecutor
from doubleweave.models.flows import AnyFlow
from doubleweave.models.records import ExecutionResult
from doubleweave.registry import FlowRegistry
from doubleweave.testing.fakes import fake_tool, plain_input, wrapped_tool
from doubleweave.tools import Tool


class FlowTestRunner:
    """An executor as in production, on either lane, whose tools count their calls.

    Args:
        flow: Registered at once, when given.
        registry: Where flows are kept; a fresh one in memory by default.
        executor_kwargs: The settings of the `FlowExecutor`.
    """

    def __init__(
        self, flow: AnyFlow | None = None, *, registry: FlowRegistry | None = None, **executor_kwargs: Any
    ) -> None:
        self._executor = FlowExecutor(FlowRegistry() if registry is None else registry, **executor_kwargs)
        self._inputs: dict[str, list[dict[str, Any]]] = {}
        if flow is not None:
            self.register(flow)

    @property
    def executor(self) -> FlowExecutor:
        """The executor that runs the flows."""
        return self._executor

    @property
    def registry(self) -> FlowRegistry:
        """The registry that flows are looked up in."""
        return self._executor.registry

    def register(self, flow: AnyFlow) -> None:
        """Register a flow, in the place of one of its name and version; raises what `FlowRegistry.register_flow` raises."""
        self.registry.register_flow(flow, overwrite=True)

    def fake_tool(
        self,
        name: str,
        output: Mapping[str, Any] | Callable[[dict[str, Any]], Any],
        *,
        description: str | None = None,
        cacheable: bool = False,
    ) -> Tool:
        """Make a fake as `doubleweave.testing.fake_tool` does, register it, and return what was registered."""
        return self.passthrough_tool(fake_tool(name, output, description=description, cacheable=cacheable))

    def passthrough_tool(self, real_tool: Tool) -> Tool:
        """Register a copy of a tool that counts its calls and otherwise is the same, and return the copy."""
        inputs = self._inputs.setdefault(real_tool.name, [])
        counting = wrapped_tool(real_tool, before=lambda validated: inputs.append(plain_input(validated)))
        self._executor.register_tool(counting)
        return counting

    def add_middleware(self, middleware: Any) -> None:
        """Append middleware to the executor's chain."""
        self._executor.add_middleware(middleware)

    def execute(self, flow_name: str, initial_input: dict[str, Any], **kwargs: Any) -> ExecutionResult:
        """Run a flow, blocking; takes, returns and raises what `FlowExecutor.execute_flow` does."""
        return self._executor.execute_flow(flow_name, initial_input, **kwargs)

    async def execute_async(self, flow_name: str, initial_input: dict[str, Any], **kwargs: Any) -> ExecutionResult:
        """Run a flow, awaited; takes, returns and raises what `FlowExecutor.execute_flow_async` does."""
        return await self._executor.execute_flow_async(flow_name, initial_input, **kwargs)

    def calls_to(self, name: str) -> int:
        """Return how often a tool's function was called, retries included; outputs from a cache are no calls."""
        return len(self._inputs.get(name, ()))

    def inputs_to(self, name: str) -> list[dict[str, Any]]:
        """Return copies of the inputs of these calls, in their order."""
        return deepcopy(self._inputs.get(name, []))
