"""The executors: one object for both lanes, and one whose methods are all coroutines."""

from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Self, cast

from doubleweave._async.executor import drive as drive_async
from doubleweave._async.streams import watch as watch_async
from doubleweave._lanes.clock import SYSTEM_CLOCK
from doubleweave._sync.executor import drive
from doubleweave._sync.streams import watch
from doubleweave.core.effects import LifeOn
from doubleweave.core.events import EventCollector
from doubleweave.core.explain import explain
from doubleweave.core.life import life_of_run
from doubleweave.core.replay import life_of_replay
from doubleweave.core.resume import life_of_resumed_run
from doubleweave.core.run import Request
from doubleweave.core.scope import inherited_scope
from doubleweave.core.setup import Policies, Setup
from doubleweave.errors import FlowExecutionError
from doubleweave.models.callbacks import (
    ApprovalCallable,
    ApprovalCallback,
    DecisionCallable,
    DecisionCallback,
    DecisionPolicy,
    GuardrailCallable,
    GuardrailCallback,
)
from doubleweave.models.cancellation import CancellationToken, LinkedToken
from doubleweave.models.compatibility import DriftInfo
from doubleweave.models.contracts import SideEffectLevel
from doubleweave.models.cost import CostProfile
from doubleweave.models.events import FlowEvent
from doubleweave.models.observation import TraceRecorder
from doubleweave.models.plans import ExecutionPlan
from doubleweave.models.product import PRODUCT
from doubleweave.models.records import ExecutionResult, failed_step_record
from doubleweave.models.redaction import RedactionPolicy
from doubleweave.models.replay import ReplayMode, ReplayResult
from doubleweave.models.snapshots import Checkpointer
from doubleweave.models.step_cache import StepCache
from doubleweave.models.steps import FlowStep
from doubleweave.plugins import discover_tools
from doubleweave.registry import FlowRegistry
from doubleweave.tools import Tool

DryRunUnsupported = Literal["skip", "abort"]


class _Executor:
    """What both executors have: a registry, tools, middleware and policies.

    Args:
        registry: Where flows are looked up.
        cost_profile: When given, every result carries a cost report.
        redaction_policy: Masks inputs and outputs in log lines, and inputs shown to approval and guardrail callbacks.
        trace_recorder: Receives an observed trace of each run.
        middleware: Objects whose hooks are called in this order.
        step_cache: Where outputs of cacheable tools are looked up and kept.
        checkpointer: Where a snapshot is kept after every step of a linear flow and every level of a DAG.
        delete_on_success: Delete a run's snapshot when it succeeds.
        decision_callback: Chooses the tool of steps with `decision_candidates`.
        decision_policy: Limits of that callback.
        approval_callback: Asked before a tool runs whose contract requires approval.
        strict_safety: Refuse such tools when nobody can be asked, and never retry tools that are not safe to retry.
        max_side_effect_level: Refuse tools above this level.
        guardrail_callback: Sees the inputs of every tool before it runs, and may block it by raising.
        discover_plugins: Register the tools that installed distributions offer under the entry-point group
            `doubleweave.tools`.
        max_composition_depth: How many sub-flows may be nested below a flow.
        max_step_concurrency: How many steps of a DAG may run at once.

    Raises:
        ValueError: `max_step_concurrency` is below 1.
        TypeError: A callback has neither the method nor is callable.
    """

    def __init__(
        self,
        registry: FlowRegistry,
        *,
        cost_profile: CostProfile | None = None,
        redaction_policy: RedactionPolicy | None = None,
        trace_recorder: TraceRecorder | None = None,
        middleware: Iterable[Any] | None = None,
        step_cache: StepCache | None = None,
        checkpointer: Checkpointer | None = None,
        delete_on_success: bool = True,
        decision_callback: DecisionCallback | DecisionCallable | None = None,
        decision_policy: DecisionPolicy | None = None,
        approval_callback: ApprovalCallback | ApprovalCallable | None = None,
        strict_safety: bool = False,
        max_side_effect_level: SideEffectLevel | None = None,
        guardrail_callback: GuardrailCallback | GuardrailCallable | None = None,
        discover_plugins: bool = False,
        max_composition_depth: int = 10,
        max_step_concurrency: int = 1,
    ) -> None:
        policies = Policies.coerce(
            redaction_policy=redaction_policy,
            trace_recorder=trace_recorder,
            step_cache=step_cache,
            checkpointer=checkpointer,
            delete_on_success=delete_on_success,
            decision_callback=decision_callback,
            decision_policy=decision_policy,
            approval_callback=approval_callback,
            strict_safety=strict_safety,
            max_side_effect_level=max_side_effect_level,
            guardrail_callback=guardrail_callback,
            max_composition_depth=max_composition_depth,
            max_step_concurrency=max_step_concurrency,
        )
        self._setup = Setup(registry, policies, SYSTEM_CLOCK, middleware or (), cost_profile, self._run_capability_step)
        if discover_plugins:
            for tool in discover_tools():
                self.register_tool(tool)

    @property
    def registry(self) -> FlowRegistry:
        """The registry that flows are looked up in."""
        return self._setup.registry  # type: ignore[return-value]  # the one that the constructor was given

    @property
    def registered_tools(self) -> dict[str, Tool]:
        """The registered tools by name, as a new dict."""
        return cast(dict[str, Tool], self._setup.tools.copy())

    @property
    def middleware(self) -> tuple[Any, ...]:
        """The middleware, in the order in which hooks are called."""
        return tuple(self._setup.middleware)

    @property
    def cost_profile(self) -> CostProfile | None:
        """The profile that cost reports are made with; may be assigned and is read when a result is built."""
        return self._setup.cost_profile

    @cost_profile.setter
    def cost_profile(self, profile: CostProfile | None) -> None:
        self._setup.cost_profile = profile

    def register_tool(self, tool: Tool) -> None:
        """Register a tool under its name, replacing one of the same name.

        When the replaced tool had another `schema_hash`, every flow version that stores a hash of this tool other than the
        new one is set to `NEEDS_REVIEW`, with a warning.

        Raises:
            TypeError: It is no tool.
        """
        self._setup.register_tool(tool)

    def get_tool(self, name: str) -> Tool:
        """Return a registered tool.

        Raises:
            ToolNotFoundError: No tool has this name.
        """
        return cast(Tool, self._setup.tool(name))

    def with_replaced_tools(self, tools: Iterable[Tool] | Mapping[str, Tool]) -> Self:
        """Return an executor like this one, with the same registry and settings, that has only these tools."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._setup = Setup(
            self._setup.registry,
            self._setup.policies,
            self._setup.clock,
            self._setup.middleware,
            self._setup.cost_profile,
            other._run_capability_step,
        )
        for tool in tools.values() if isinstance(tools, Mapping) else tools:
            other._setup.tools[tool.name] = tool
        return other

    def add_middleware(self, middleware: Any) -> None:
        """Append middleware to the chain."""
        self._setup.middleware.append(middleware)

    def remove_middleware(self, middleware: Any) -> None:
        """Remove the first middleware equal to this one; nothing happens when there is none."""
        if middleware in self._setup.middleware:
            self._setup.middleware.remove(middleware)

    def get_drift_report(self) -> list[DriftInfo]:
        """Return one entry for each flow version and tool whose stored hash differs from the registered tool's."""
        return self._setup.drift()

    def accept_drift(self, flow_name: str, *, version: str | None = None) -> None:
        """Store the present tool hashes with a flow (its latest version by default) and make it active.

        Raises:
            FlowNotFoundError: The flow, or this version of it, is not registered.
        """
        self._setup.accept_drift(flow_name, version)

    def execute_capability_step(
        self, step_index: int, step: FlowStep, context: dict[str, Any], flow_name: str, trace_id: str
    ) -> Any:
        """Run a capability step and return its `StepRecord`, or an awaitable of it; to be overridden.

        Here every capability step fails.
        """
        error = FlowExecutionError(
            step.display_name, step_index, "capability steps are not supported by FlowExecutor; override this method"
        )
        return failed_step_record(step_index, step.display_name, {}, error, SYSTEM_CLOCK.now())

    def explain_flow(self, flow_name: str, initial_input: dict[str, Any]) -> ExecutionPlan:
        """Return what each step of a flow would read and add to the context; no tool is called.

        Raises:
            FlowNotFoundError: The flow is not registered.
            DAGDefinitionError: Its topology is not valid.
        """
        return explain(self._setup, flow_name, initial_input)

    def _resumed(self, trace_id: str) -> LifeOn[ExecutionResult]:
        return partial(life_of_resumed_run, self._setup, trace_id, inherited_scope(False, "skip", None))

    def _replayed(self, result: ExecutionResult, mode: ReplayMode | str, first_step: int) -> LifeOn[ReplayResult]:
        scope = inherited_scope(False, "skip", None)
        return partial(life_of_replay, self._setup, result, ReplayMode(mode), first_step, scope)

    def _watched(self, request: Request) -> Callable[[Callable[[FlowEvent], None]], LifeOn[ExecutionResult]]:
        def make_life(put: Callable[[FlowEvent], None]) -> LifeOn[ExecutionResult]:
            collector = EventCollector(put, self._setup.clock.now)
            scope = replace(request.scope, middleware=(*request.scope.middleware, collector))
            return partial(life_of_run, self._setup, replace(request, scope=scope))

        return make_life

    def _run_capability_step(self, *arguments: Any) -> Any:
        return self.execute_capability_step(*arguments)

    def _request(
        self,
        flow_name: str,
        initial_input: dict[str, Any],
        version: str | None,
        force: bool,
        deadline: float | None,
        cancel_token: CancellationToken | None,
        dry_run: bool,
        dry_run_unsupported: str,
        dynamic_params: Mapping[str, Any] | None,
    ) -> Request:
        scope = inherited_scope(dry_run, dry_run_unsupported, dynamic_params)
        return Request(flow_name, initial_input, version, force, deadline, cancel_token, scope)


class FlowExecutor(_Executor):
    """Runs registered flows of registered tools, blocking (`execute_flow`) or awaited (`execute_flow_async`).

    Any number of runs, from threads and tasks, may share one executor. The constructor takes the registry and the settings
    of its base class.
    """

    def execute_flow(
        self,
        flow_name: str,
        initial_input: dict[str, Any],
        *,
        version: str | None = None,
        force: bool = False,
        deadline: float | None = None,
        cancel_token: CancellationToken | None = None,
        dry_run: bool = False,
        dry_run_unsupported: DryRunUnsupported = "skip",
        dynamic_params: Mapping[str, Any] | None = None,
    ) -> ExecutionResult:
        """Run a flow and return its result; a step that fails makes a failed result, not an exception.

        Args:
            flow_name: The registered flow.
            initial_input: The first content of the context; checked against the flow's input schema, not coerced.
            version: Which version; None for the highest.
            force: Run the flow although it is not active.
            deadline: Absolute `time.time()` in seconds, checked before each step or level.
            cancel_token: Checked at the same places.
            dry_run: Call no tool with side effects above `read`; use its `dry_run_fn`.
            dry_run_unsupported: What to do with such tools that have none: `"skip"` the step or `"abort"` the flow.
            dynamic_params: Added to the context of this run and of the runs below it.

        Raises:
            ValueError: `dry_run_unsupported` is neither word.
            FlowNotFoundError, FlowStatusError, FlowCompositionError, DAGDefinitionError: The flow cannot run.
            FlowCancelledError: Deadline or token; carries the partial result.
            ContextKeyCollisionError, OutputMappingError, DecisionBudgetExceededError: The run broke a rule of its flow.
            FlowSerializationError, SchemaRefPolicyError: A class ref cannot be resolved or is refused.
        """
        request = self._request(
            flow_name,
            initial_input,
            version,
            force,
            deadline,
            cancel_token,
            dry_run,
            dry_run_unsupported,
            dynamic_params,
        )
        return drive(partial(life_of_run, self._setup, request))

    async def execute_flow_async(
        self,
        flow_name: str,
        initial_input: dict[str, Any],
        *,
        version: str | None = None,
        force: bool = False,
        deadline: float | None = None,
        cancel_token: CancellationToken | None = None,
        dry_run: bool = False,
        dry_run_unsupported: DryRunUnsupported = "skip",
        dynamic_params: Mapping[str, Any] | None = None,
    ) -> ExecutionResult:
        """As `execute_flow`, without blocking the event loop. Cancelling the task cancels the run."""
        request = self._request(
            flow_name,
            initial_input,
            version,
            force,
            deadline,
            cancel_token,
            dry_run,
            dry_run_unsupported,
            dynamic_params,
        )
        return await drive_async(partial(life_of_run, self._setup, request))

    def stream_flow(
        self,
        flow_name: str,
        initial_input: dict[str, Any],
        *,
        version: str | None = None,
        force: bool = False,
        deadline: float | None = None,
        cancel_token: CancellationToken | None = None,
        dry_run: bool = False,
        dry_run_unsupported: DryRunUnsupported = "skip",
        dynamic_params: Mapping[str, Any] | None = None,
    ) -> Generator[FlowEvent]:
        """Run a flow on a thread of its own and yield what happens, as it happens, sub-flows included.

        The arguments are those of `execute_flow`. The run begins with the first event that is asked for. It never waits for
        the reader. After the last event, the end of the flow, an error of the run is raised. Closing the generator early
        stops the run at its next step boundary and waits for that.

        Raises:
            DoubleweaveError: What `execute_flow` raises; errors from before the run's start come without any event.
        """
        token = LinkedToken(cancel_token)
        request = self._request(
            flow_name, initial_input, version, force, deadline, token, dry_run, dry_run_unsupported, dynamic_params
        )
        return watch(self._watched(request), f"{PRODUCT}-stream-{flow_name}", token)

    def resume_flow(self, trace_id: str) -> ExecutionResult:
        """Go on with the run of which the checkpointer has a snapshot, under the same trace id.

        The completed steps are not run again. The flow's status and input schema are not checked again.

        Raises:
            CheckpointerNotConfiguredError: The executor has no checkpointer.
            CheckpointNotFoundError: It has no snapshot of this run.
            CheckpointCorruptError: It has one that cannot be read.
            CheckpointVersionError: The snapshot has a format of another major version.
            FlowNotFoundError: The flow is not registered any more.
            CheckpointDriftError: The flow's version or a tool's schema has changed since.
            DoubleweaveError: Otherwise what `execute_flow` raises.
        """
        return drive(self._resumed(trace_id))

    def replay_flow(
        self, result: ExecutionResult, *, mode: ReplayMode | str = ReplayMode.VERIFY, resume_from_step: int = 0
    ) -> ReplayResult:
        """Run the flow of a result again, in the version and with the input of then, without the step cache.

        Args:
            result: The run to repeat.
            mode: `VERIFY` compares the outputs of every step, `EXECUTE` does not.
            resume_from_step: Begin a linear flow at this step, with the outputs that the result has of those before it.

        Raises:
            ValueError: `resume_from_step` is positive for a DAG or lies behind the end of the flow; `mode` is no mode.
            DoubleweaveError: Otherwise what `execute_flow` raises.
        """
        return drive(self._replayed(result, mode, resume_from_step))

    def stream_flow_async(
        self,
        flow_name: str,
        initial_input: dict[str, Any],
        *,
        version: str | None = None,
        force: bool = False,
        deadline: float | None = None,
        cancel_token: CancellationToken | None = None,
        dry_run: bool = False,
        dry_run_unsupported: DryRunUnsupported = "skip",
        dynamic_params: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[FlowEvent]:
        """As `stream_flow`, with the run as a task of the running loop; closing early cancels that task."""
        token = LinkedToken(cancel_token)
        request = self._request(
            flow_name, initial_input, version, force, deadline, token, dry_run, dry_run_unsupported, dynamic_params
        )
        return watch_async(self._watched(request), f"{PRODUCT}-stream-{flow_name}", token)

    async def resume_flow_async(self, trace_id: str) -> ExecutionResult:
        """As `resume_flow`, without blocking the event loop."""
        return await drive_async(self._resumed(trace_id))

    async def replay_flow_async(
        self, result: ExecutionResult, *, mode: ReplayMode | str = ReplayMode.VERIFY, resume_from_step: int = 0
    ) -> ReplayResult:
        """As `replay_flow`, without blocking the event loop."""
        return await drive_async(self._replayed(result, mode, resume_from_step))


class AsyncFlowExecutor(_Executor):
    """Runs registered flows of registered tools on the running event loop; constructed as `FlowExecutor` is."""

    async def execute_flow(
        self,
        flow_name: str,
        initial_input: dict[str, Any],
        *,
        version: str | None = None,
        force: bool = False,
        deadline: float | None = None,
        cancel_token: CancellationToken | None = None,
        dry_run: bool = False,
        dry_run_unsupported: DryRunUnsupported = "skip",
        dynamic_params: Mapping[str, Any] | None = None,
    ) -> ExecutionResult:
        """As `FlowExecutor.execute_flow`, without blocking the event loop. Cancelling the task cancels the run."""
        request = self._request(
            flow_name,
            initial_input,
            version,
            force,
            deadline,
            cancel_token,
            dry_run,
            dry_run_unsupported,
            dynamic_params,
        )
        return await drive_async(partial(life_of_run, self._setup, request))

    def stream_flow(
        self,
        flow_name: str,
        initial_input: dict[str, Any],
        *,
        version: str | None = None,
        force: bool = False,
        deadline: float | None = None,
        cancel_token: CancellationToken | None = None,
        dry_run: bool = False,
        dry_run_unsupported: DryRunUnsupported = "skip",
        dynamic_params: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[FlowEvent]:
        """As `FlowExecutor.stream_flow`, with the run as a task of the running loop; closing early cancels that task."""
        token = LinkedToken(cancel_token)
        request = self._request(
            flow_name, initial_input, version, force, deadline, token, dry_run, dry_run_unsupported, dynamic_params
        )
        return watch_async(self._watched(request), f"{PRODUCT}-stream-{flow_name}", token)

    async def resume_flow(self, trace_id: str) -> ExecutionResult:
        """As `FlowExecutor.resume_flow`, without blocking the event loop."""
        return await drive_async(self._resumed(trace_id))

    async def replay_flow(
        self, result: ExecutionResult, *, mode: ReplayMode | str = ReplayMode.VERIFY, resume_from_step: int = 0
    ) -> ReplayResult:
        """As `FlowExecutor.replay_flow`, without blocking the event loop."""
        return await drive_async(self._replayed(result, mode, resume_from_step))
