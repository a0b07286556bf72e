"""Which flows of an executor are offered as MCP tools, and as what."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from mcp import types

from doubleweave.errors import DoubleweaveError, FlowNotFoundError
from doubleweave.mcp.safety import Executor, contract_of, first_above
from doubleweave.mcp.schemas import input_document, output_schema
from doubleweave.models.contracts import SideEffectLevel, ToolSafetyContract
from doubleweave.models.flows import AnyFlow, FlowStatus
from doubleweave.models.json_schema import JsonSchema

_TOOL_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True)
class FlowOffer:
    """A flow as a tool."""

    flow: AnyFlow
    contract: ToolSafetyContract
    takes: dict[str, Any]
    gives: JsonSchema | None

    def as_tool(self) -> types.Tool:
        """Return what an MCP client is told of it."""
        return types.Tool(
            name=self.flow.name,
            description=self.flow.description,
            input_schema=self.takes,
            output_schema=None if self.gives is None else self.gives.document,
            annotations=types.ToolAnnotations(
                read_only_hint=self.contract.read_only,
                destructive_hint=self.contract.side_effects is SideEffectLevel.DESTRUCTIVE,
                idempotent_hint=self.contract.idempotent,
            ),
        )


@dataclass(frozen=True)
class Offers:
    """The offers of an executor, read anew each time: a flow that is disabled now is not offered now.

    Args:
        executor: Has the registry and the tools.
        names: The flows that may be offered; None for all.
        ceiling: The highest side-effect level that is offered.
    """

    executor: Executor
    names: Collection[str] | None
    ceiling: SideEffectLevel

    def all(self) -> list[FlowOffer]:
        """Return what is offered, by name."""
        return [each for _, each in self._judged() if isinstance(each, FlowOffer)]

    def refused(self) -> dict[str, str]:
        """Return, by name, why each other flow is not."""
        return {name: each for name, each in self._judged() if isinstance(each, str)}

    def get(self, name: str) -> FlowOffer | None:
        """Return the offer of this name; None when there is none."""
        judged = self._judge(name)
        return judged if isinstance(judged, FlowOffer) else None

    def _judged(self) -> Iterator[tuple[str, FlowOffer | str]]:
        names = {flow.name for flow in self.executor.registry.list_flows()} | set(self.names or ())
        for name in sorted(names):
            yield name, self._judge(name)

    def _judge(self, name: str) -> FlowOffer | str:
        if self.names is not None and name not in self.names:
            return "it is not among the flows to be offered"
        try:
            flow = self.executor.registry.get_flow(name)
            return self._offer(flow)
        except FlowNotFoundError as error:
            return str(error)
        except Exception as error:
            # Whatever a model of the user's does when it is asked for its schema, the other flows are offered.
            kind = "" if isinstance(error, DoubleweaveError) else f"{type(error).__name__}: "
            return f"its schema is not known: {kind}{error}"

    def _offer(self, flow: AnyFlow) -> FlowOffer | str:
        if flow.status is not FlowStatus.ACTIVE:
            return f"its status is '{FlowStatus(flow.status).value}'"
        if not _TOOL_NAME.fullmatch(flow.name):
            return "its name cannot be a tool's: up to 128 letters, digits, dots, underscores and dashes"
        above = first_above(flow, self.executor, self.ceiling)
        if above is not None:
            return f"{above}, above '{self.ceiling.value}'"
        contract = contract_of(flow, self.executor)
        return FlowOffer(flow, contract, input_document(flow, self.executor), output_schema(flow, self.executor))
