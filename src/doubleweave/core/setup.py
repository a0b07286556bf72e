"""What one executor knows between runs; both lanes read it and neither changes it."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from doubleweave.core.plan import Plan, make_plan
from doubleweave.errors import ToolNotFoundError
from doubleweave.models.callbacks import (
    DecisionPolicy,
    coerce_approval_callback,
    coerce_decision_callback,
    coerce_guardrail_callback,
)
from doubleweave.models.compatibility import DriftInfo
from doubleweave.models.contracts import SideEffectLevel
from doubleweave.models.cost import CostProfile
from doubleweave.models.flows import AnyFlow, FlowStatus
from doubleweave.models.observation import TraceRecorder
from doubleweave.models.product import PRODUCT
from doubleweave.models.redaction import RedactionPolicy
from doubleweave.models.registry import FlowRegistry
from doubleweave.models.snapshots import Checkpointer
from doubleweave.models.step_cache import StepCache
from doubleweave.models.tools import ToolBase

logger = logging.getLogger(f"{PRODUCT}.executor")


def moment(seconds: float) -> datetime:
    """Return the time, in UTC, that is `seconds` after the epoch."""
    return datetime.fromtimestamp(seconds, UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """Where a run takes its times and its trace id from."""

    perf_counter: Callable[[], float]
    time: Callable[[], float]
    new_trace_id: Callable[[], str]

    def now(self) -> datetime:
        """Return the time in UTC."""
        return moment(self.time())


@dataclass(frozen=True, slots=True)
class Policies:
    """The settings of an executor that do not change after construction."""

    redaction_policy: RedactionPolicy | None
    trace_recorder: TraceRecorder | None
    step_cache: StepCache | None
    checkpointer: Checkpointer | None
    delete_on_success: bool
    decision_callback: Any
    decision_policy: DecisionPolicy | None
    approval_callback: Any
    strict_safety: bool
    max_side_effect_level: SideEffectLevel | None
    guardrail_callback: Any
    max_composition_depth: int
    max_step_concurrency: int

    @classmethod
    def coerce(cls, **values: Any) -> "Policies":
        """Build the settings from constructor arguments.

        Raises:
            ValueError: `max_step_concurrency` is below 1.
            TypeError: A callback is neither of the protocol's shape nor callable.
        """
        concurrency = values["max_step_concurrency"]
        if concurrency < 1:
            raise ValueError(f"max_step_concurrency must be >= 1, got {concurrency}")
        values["decision_callback"] = coerce_decision_callback(values["decision_callback"])
        values["approval_callback"] = coerce_approval_callback(values["approval_callback"])
        values["guardrail_callback"] = coerce_guardrail_callback(values["guardrail_callback"])
        return cls(**values)


class Setup:
    """Registry, tools, middleware, policies and the cache of plans of one executor."""

    def __init__(
        self,
        registry: FlowRegistry,
        policies: Policies,
        clock: Clock,
        middleware: Iterable[Any],
        cost_profile: CostProfile | None,
        run_capability: Callable[..., Any],
    ) -> None:
        self.registry = registry
        self.policies = policies
        self.clock = clock
        self.middleware: list[Any] = list(middleware)
        self.cost_profile = cost_profile
        self.run_capability = run_capability
        self.tools: dict[str, ToolBase] = {}
        self._plans: dict[tuple[str, str], Plan] = {}

    def plan_for(self, flow: AnyFlow) -> Plan:
        """Return the flow's plan, made anew when the flow has changed since.

        Raises:
            DAGDefinitionError: The flow's topology is not valid.
        """
        key = (flow.name, flow.version)
        plan = self._plans.get(key)
        if plan is None or not plan.fits(flow):
            plan = self._plans[key] = make_plan(flow)
        return plan

    def register_tool(self, tool: ToolBase) -> None:
        """Store a tool by its name and mark the flows whose stored hash of it has become another one."""
        if not isinstance(tool, ToolBase):
            raise TypeError(f"register_tool takes a Tool, not {tool!r}; make one with Tool(...) or @tool")
        known = self.tools.get(tool.name)
        # First, for the hash of a tool whose schema has no JSON form raises; nothing has changed then.
        drifted = known is not None and known.schema_hash != tool.schema_hash
        self.tools[tool.name] = tool
        if drifted:
            self._mark_drifted(tool)

    def tool(self, name: str) -> ToolBase:
        """Return a registered tool.

        Raises:
            ToolNotFoundError: No tool has this name.
        """
        try:
            return self.tools[name]
        except KeyError:
            raise ToolNotFoundError(name) from None

    def drift(self) -> list[DriftInfo]:
        """Return one entry for every registered tool whose hash differs from the one a flow version stores."""
        return [
            DriftInfo(flow.name, name, expected, tool.schema_hash)
            for flow in self.registry.list_flows()
            for name, expected in (flow.tool_schema_hashes or {}).items()
            if (tool := self.tools.get(name)) is not None and tool.schema_hash != expected
        ]

    def accept_drift(self, flow_name: str, version: str | None) -> None:
        """Store the present hashes of a flow's registered tools and make the flow active.

        Raises:
            FlowNotFoundError: The flow, or this version of it, is not registered.
        """
        flow = self.registry.get_flow(flow_name, version=version)
        names = [step.display_name for step in flow.steps]
        hashes = {name: self.tools[name].schema_hash for name in names if name in self.tools}
        self.registry.update_flow_state(
            flow_name, version=flow.version, status=FlowStatus.ACTIVE, tool_schema_hashes=hashes
        )

    def _mark_drifted(self, tool: ToolBase) -> None:
        for flow in self.registry.list_flows():
            stored = (flow.tool_schema_hashes or {}).get(tool.name)
            if stored is None or stored == tool.schema_hash:
                continue
            self.registry.update_flow_state(flow.name, version=flow.version, status=FlowStatus.NEEDS_REVIEW)
            logger.warning(
                "Flow '%s' version %s needs review: the schema of tool '%s' changed", flow.name, flow.version, tool.name
            )
