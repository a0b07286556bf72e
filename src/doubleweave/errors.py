"""The exceptions that the library raises, each with a stable code.

Every class carries `code` (`CW-E` and three digits) and its constructor arguments as public attributes. The code is not
part of the message. All of them survive `pickle` and `copy`.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

_codes: dict[str, str] = {}


def error_code_registry() -> dict[str, str]:
    """Return a new dict from class name to code, for the root class and each subclass defined so far.

    Subclasses that users define are included. When two classes have the same name, the one defined last counts.
    """
    return dict(_codes)


def error_code_for(name: str | None) -> str | None:
    """Return the code of the error class called `name`; `None` for `None` and for any other name."""
    return None if name is None else _codes.get(name)


def _restore(cls: "type[DoubleweaveError]", args: tuple[Any, ...]) -> "DoubleweaveError":
    """Make an instance without its constructor, which takes other arguments than `args` holds."""
    return cls.__new__(cls, *args)


def _hinted(fault: str, hint: str, between: str = " ") -> str:
    return f"{fault}{between}{hint}" if hint else fault


class DoubleweaveError(Exception):
    """Base of every error that the library raises for a reason of its own."""

    code: ClassVar[str] = "CW-E000"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _codes[cls.__name__] = cls.code

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args), self.__dict__


_codes[DoubleweaveError.__name__] = DoubleweaveError.code


class ToolNotFoundError(DoubleweaveError):
    """A tool name has no registration; `hint` says which step of which flow names it, and what to do."""

    code: ClassVar[str] = "CW-E001"

    def __init__(self, tool_name: str, *, hint: str = "") -> None:
        self.tool_name = tool_name
        self.hint = hint
        super().__init__(_hinted(f"Tool '{tool_name}' is not registered.", hint))


class FlowNotFoundError(DoubleweaveError):
    """No flow of this name, or not in this version, is registered or stored."""

    code: ClassVar[str] = "CW-E002"

    def __init__(self, flow_name: str, *, version: str | None = None) -> None:
        self.flow_name = flow_name
        self.version = version
        of_version = "" if version is None else f" version '{version}'"
        super().__init__(f"Flow '{flow_name}'{of_version} is not registered.")


class FlowAlreadyExistsError(DoubleweaveError):
    """A flow of this name and version is there already, and overwriting was not asked for."""

    code: ClassVar[str] = "CW-E003"

    def __init__(self, flow_name: str) -> None:
        self.flow_name = flow_name
        super().__init__(f"Flow '{flow_name}' is already registered.")


class SchemaValidationError(DoubleweaveError):
    """Data does not match a schema.

    `context` says which: `tool`, `flow_input`, `flow_output`, `flow_context`, `step_input_contract` or
    `step_output_contract`. For the flow schemas `tool_name` is the flow's name. `hint` says what to do.
    """

    code: ClassVar[str] = "CW-E004"

    def __init__(self, tool_name: str, step_index: int, detail: str, *, context: str = "tool", hint: str = "") -> None:
        self.tool_name = tool_name
        self.step_index = step_index
        self.detail = detail
        self.context = context
        self.hint = hint
        fault = f"Schema validation failed for {context} '{tool_name}' at step {step_index}: {detail}"
        super().__init__(_hinted(fault, hint, "\n"))


class InputMappingError(DoubleweaveError):
    """A source key or JSON pointer of an input mapping finds nothing; `key` is that key or pointer, `hint` says what is there."""

    code: ClassVar[str] = "CW-E005"

    def __init__(self, tool_name: str, step_index: int, key: str, *, hint: str = "") -> None:
        self.tool_name = tool_name
        self.step_index = step_index
        self.key = key
        self.hint = hint
        fault = f"Input mapping key '{key}' not found for tool '{tool_name}' at step {step_index}."
        super().__init__(_hinted(fault, hint))


class FlowExecutionError(DoubleweaveError):
    """A tool raised an unexpected exception, or a flow that is called as a tool failed."""

    code: ClassVar[str] = "CW-E006"

    def __init__(self, tool_name: str, step_index: int, detail: str) -> None:
        self.tool_name = tool_name
        self.step_index = step_index
        self.detail = detail
        super().__init__(f"Execution error in tool '{tool_name}' at step {step_index}: {detail}")


class ToolDefinitionError(DoubleweaveError):
    """A tool cannot be made from what was given."""

    code: ClassVar[str] = "CW-E007"

    def __init__(self, function_name: str, detail: str) -> None:
        self.function_name = function_name
        self.detail = detail
        super().__init__(f"Cannot define tool from function '{function_name}': {detail}")


class ToolTimeoutError(DoubleweaveError):
    """A tool ran longer than its timeout, in seconds."""

    code: ClassVar[str] = "CW-E008"

    def __init__(self, tool_name: str, timeout_seconds: float) -> None:
        self.tool_name = tool_name
        self.timeout_seconds = timeout_seconds
        super().__init__(f"Tool '{tool_name}' exceeded timeout of {timeout_seconds}s.")


class ToolOutputSizeError(DoubleweaveError):
    """A tool's serialized output is larger than its limit; both sizes in bytes."""

    code: ClassVar[str] = "CW-E009"

    def __init__(self, tool_name: str, size: int, max_size: int) -> None:
        self.tool_name = tool_name
        self.size = size
        self.max_size = max_size
        super().__init__(f"Tool '{tool_name}' output size {size} exceeds max {max_size}.")


class DAGDefinitionError(DoubleweaveError):
    """A DAG flow's topology is wrong.

    `reason` is `duplicate_step_id`, `unknown_dependency`, `cycle` or `unknown_branch_target`.
    """

    code: ClassVar[str] = "CW-E010"

    def __init__(self, flow_name: str, reason: str, detail: str) -> None:
        self.flow_name = flow_name
        self.reason = reason
        self.detail = detail
        super().__init__(f"Invalid DAG flow '{flow_name}' ({reason}): {detail}")


class FlowStatusError(DoubleweaveError):
    """A run of a flow that is not active was asked for without `force=True`; `status` is the status value."""

    code: ClassVar[str] = "CW-E011"

    def __init__(self, flow_name: str, status: str) -> None:
        self.flow_name = flow_name
        self.status = status
        super().__init__(f"Flow '{flow_name}' has status '{status}'. Pass force=True to run it anyway.")


class FlowCancelledError(DoubleweaveError):
    """A run was cancelled at a step boundary; `result` is the partial execution result."""

    code: ClassVar[str] = "CW-E012"

    def __init__(
        self,
        flow_name: str,
        step_index: int,
        *,
        result: Any,
        deadline_exceeded: bool = False,
        token_cancelled: bool = False,
    ) -> None:
        self.flow_name = flow_name
        self.step_index = step_index
        self.result = result
        self.deadline_exceeded = deadline_exceeded
        self.token_cancelled = token_cancelled
        reasons = ["wall-clock deadline exceeded"] if deadline_exceeded else []
        if token_cancelled or not deadline_exceeded:
            reasons.append("cancellation requested")
        super().__init__(f"Flow '{flow_name}' cancelled before step {step_index} ({' and '.join(reasons)}).")


class ContextKeyCollisionError(DoubleweaveError):
    """A step's output would overwrite context keys, and the policy is to refuse that."""

    code: ClassVar[str] = "CW-E013"

    def __init__(self, flow_name: str, step_index: int, step_name: str, keys: Iterable[str]) -> None:
        self.flow_name = flow_name
        self.step_index = step_index
        self.step_name = step_name
        self.keys = list(keys)
        names = ", ".join(repr(key) for key in self.keys)
        super().__init__(
            f"Flow '{flow_name}' step {step_index} ('{step_name}') would overwrite context keys {names} "
            f"under on_context_collision='error'."
        )


class AsyncLaneUnsupportedError(DoubleweaveError):
    """Reserved: a flow uses constructs that one lane lacks. The lanes are equal, so the library does not raise it."""

    code: ClassVar[str] = "CW-E014"

    def __init__(self, flow_name: str, unsupported: Iterable[str]) -> None:
        self.flow_name = flow_name
        self.unsupported = list(unsupported)
        super().__init__(f"Flow '{flow_name}' cannot run with execute_flow_async: {'; '.join(self.unsupported)}.")


class FlowCompositionError(DoubleweaveError):
    """Sub-flows cannot be composed; `reason` is `cycle`, `max_depth_exceeded` or `unknown_flow`."""

    code: ClassVar[str] = "CW-E015"

    def __init__(self, flow_name: str, reason: str, detail: str) -> None:
        self.flow_name = flow_name
        self.reason = reason
        self.detail = detail
        super().__init__(f"Invalid flow composition for '{flow_name}' ({reason}): {detail}")


class InvalidFlowVersionError(DoubleweaveError):
    """A flow's version is not a PEP 440 version."""

    code: ClassVar[str] = "CW-E016"

    def __init__(self, flow_name: str, version: str, detail: str) -> None:
        self.flow_name = flow_name
        self.version = version
        self.detail = detail
        super().__init__(f"Flow '{flow_name}' has invalid version '{version}': {detail}.")


class FlowSerializationError(DoubleweaveError):
    """A flow file, or a reference to a class in one, is refused; `source` says where, when known."""

    code: ClassVar[str] = "CW-E017"

    def __init__(self, detail: str, *, source: str | None = None) -> None:
        self.detail = detail
        self.source = source
        of_source = "" if source is None else f" for '{source}'"
        super().__init__(f"Flow serialization failed{of_source}: {detail}.")


class CheckpointDriftError(DoubleweaveError):
    """The flow's version or a tool's schema hash changed since the snapshot."""

    code: ClassVar[str] = "CW-E018"

    def __init__(self, trace_id: str, flow_name: str, detail: str) -> None:
        self.trace_id = trace_id
        self.flow_name = flow_name
        self.detail = detail
        super().__init__(f"Cannot resume trace '{trace_id}' for flow '{flow_name}': {detail}.")


class CheckpointerNotConfiguredError(DoubleweaveError):
    """Resuming was asked of an executor without a checkpointer."""

    code: ClassVar[str] = "CW-E019"

    def __init__(self) -> None:
        super().__init__("No checkpointer is configured; pass checkpointer= to the executor to use resume_flow.")


class CheckpointNotFoundError(DoubleweaveError):
    """No snapshot is stored under this trace id."""

    code: ClassVar[str] = "CW-E020"

    def __init__(self, trace_id: str) -> None:
        self.trace_id = trace_id
        super().__init__(f"No snapshot found for trace_id '{trace_id}'.")


class CheckpointCorruptError(CheckpointNotFoundError):
    """A snapshot is stored under this trace id, but cannot be read."""

    code: ClassVar[str] = "CW-E055"

    def __init__(self, trace_id: str, path: str) -> None:
        super().__init__(trace_id)
        self.path = path
        self.args = (f"The snapshot for trace_id '{trace_id}' at '{path}' cannot be read; the file was kept.",)


class CheckpointVersionError(DoubleweaveError):
    """A snapshot was written in a format of another major version."""

    code: ClassVar[str] = "CW-E021"

    def __init__(self, trace_id: str, flow_name: str, snapshot_version: str, expected_version: str) -> None:
        self.trace_id = trace_id
        self.flow_name = flow_name
        self.snapshot_version = snapshot_version
        self.expected_version = expected_version
        super().__init__(
            f"Cannot resume trace '{trace_id}' for flow '{flow_name}': snapshot version '{snapshot_version}' "
            f"is not compatible with '{expected_version}'."
        )


class PluginDiscoveryError(DoubleweaveError):
    """A plugin cannot be loaded; `entry_point` is `<distribution>:<name>`, or `<value>:<name>`."""

    code: ClassVar[str] = "CW-E022"

    def __init__(self, entry_point: str, detail: str) -> None:
        self.entry_point = entry_point
        self.detail = detail
        super().__init__(f"Plugin discovery failed for entry point '{entry_point}': {detail}.")


class ContribError(DoubleweaveError):
    """A bundled tool failed."""

    code: ClassVar[str] = "CW-E023"

    def __init__(self, tool_name: str, detail: str) -> None:
        self.tool_name = tool_name
        self.detail = detail
        super().__init__(f"Contrib tool '{tool_name}' failed: {detail}.")


class MCPError(DoubleweaveError):
    """An MCP server cannot be reached, is gone, or does not keep to the protocol; `server` is its address without secrets."""

    code: ClassVar[str] = "CW-E024"

    def __init__(self, server: str, detail: str) -> None:
        self.server = server
        self.detail = detail
        super().__init__(f"MCP server '{server}': {detail}.")


class MCPSchemaConversionError(MCPError):
    """A tool of an MCP server cannot be taken over."""

    code: ClassVar[str] = "CW-E025"

    def __init__(self, server: str, tool_name: str, detail: str) -> None:
        of_tool = f"tool '{tool_name}' cannot be taken over: {detail.rstrip('.')}; take others with only="
        super().__init__(server, of_tool)
        self.tool_name = tool_name
        self.detail = detail


class MCPToolInvocationError(MCPError):
    """A tool of an MCP server answered that it failed; `tool_name` is the server's name for it, `detail` what it said."""

    code: ClassVar[str] = "CW-E026"

    def __init__(self, server: str, tool_name: str, detail: str) -> None:
        super().__init__(server, f"tool '{tool_name}' failed: {detail.rstrip('.')}")
        self.tool_name = tool_name
        self.detail = detail


class ApprovalDeniedError(DoubleweaveError):
    """The approval callback denied a step, raised, or is missing although the step needs it."""

    code: ClassVar[str] = "CW-E029"

    def __init__(self, tool_name: str, step_index: int, detail: str) -> None:
        self.tool_name = tool_name
        self.step_index = step_index
        self.detail = detail
        super().__init__(f"Approval denied for tool '{tool_name}' at step {step_index}: {detail.rstrip('.')}.")


class SafetyCeilingError(DoubleweaveError):
    """A tool's side-effect level is above the executor's ceiling; both are level values."""

    code: ClassVar[str] = "CW-E030"

    def __init__(self, tool_name: str, step_index: int, level: str, ceiling: str) -> None:
        self.tool_name = tool_name
        self.step_index = step_index
        self.level = level
        self.ceiling = ceiling
        super().__init__(
            f"Tool '{tool_name}' at step {step_index} has side-effect level '{level}', above the ceiling '{ceiling}'."
        )


class DecisionCallbackError(DoubleweaveError):
    """The decision callback raised, or chose a tool that is no candidate; `tool_name` is the step's default tool."""

    code: ClassVar[str] = "CW-E031"

    def __init__(self, tool_name: str, step_index: int, detail: str) -> None:
        self.tool_name = tool_name
        self.step_index = step_index
        self.detail = detail
        super().__init__(f"Decision failed at step {step_index} (default tool '{tool_name}'): {detail}")


class KernelInvocationError(DoubleweaveError):
    """A capability step could not be dispatched."""

    code: ClassVar[str] = "CW-E032"

    def __init__(self, capability_id: str, step_index: int, detail: str) -> None:
        self.capability_id = capability_id
        self.step_index = step_index
        self.detail = detail
        super().__init__(f"Invocation of capability '{capability_id}' failed at step {step_index}: {detail}.")


class CostProfileError(DoubleweaveError):
    """There is no price for this provider and model."""

    code: ClassVar[str] = "CW-E033"

    def __init__(self, provider: str, model: str, detail: str) -> None:
        self.provider = provider
        self.model = model
        self.detail = detail
        super().__init__(f"No maintained price for provider '{provider}' model '{model}': {detail}.")


class PredicateSyntaxError(DoubleweaveError):
    """A branch predicate cannot be parsed, is not allowed, or cannot be evaluated on the context."""

    code: ClassVar[str] = "CW-E036"

    def __init__(self, predicate: str, detail: str) -> None:
        self.predicate = predicate
        self.detail = detail
        super().__init__(f"Invalid predicate '{predicate}': {detail}")


class OutputMappingError(DoubleweaveError):
    """An output mapping names a key that the tool did not produce; `available` lists those it did."""

    code: ClassVar[str] = "CW-E041"

    def __init__(self, tool_name: str, step_index: int, output_key: str, available: Iterable[str]) -> None:
        self.tool_name = tool_name
        self.step_index = step_index
        self.output_key = output_key
        self.available = list(available)
        super().__init__(
            f"Output mapping key '{output_key}' not produced by tool '{tool_name}' at step {step_index}; "
            f"available keys: {sorted(self.available, key=str)}."
        )


class DecisionTimeoutError(DoubleweaveError):
    """The decision callback took longer than its timeout, in seconds; `tool_name` is the step's default tool."""

    code: ClassVar[str] = "CW-E049"

    def __init__(self, tool_name: str, step_index: int, timeout_s: float) -> None:
        self.tool_name = tool_name
        self.step_index = step_index
        self.timeout_s = timeout_s
        super().__init__(
            f"Decision at step {step_index} (default tool '{tool_name}') exceeded timeout of {timeout_s}s."
        )


class DecisionBudgetExceededError(DoubleweaveError):
    """A flow asked for more decisions than one run may make."""

    code: ClassVar[str] = "CW-E050"

    def __init__(self, flow_name: str, budget: int) -> None:
        self.flow_name = flow_name
        self.budget = budget
        super().__init__(f"Flow '{flow_name}' exceeded its budget of {budget} decisions.")


class SchemaRefPolicyError(DoubleweaveError):
    """The module of a class reference is not allowed; it was not imported."""

    code: ClassVar[str] = "CW-E051"

    def __init__(self, module_path: str, ref: str, detail: str | None = None) -> None:
        self.module_path = module_path
        self.ref = ref
        if detail is None:
            detail = f"module '{module_path}' is not permitted by the active schema-ref policy"
        self.detail = detail
        super().__init__(f"Class ref '{ref}' rejected: {detail}.")


class GuardrailViolationError(DoubleweaveError):
    """A guardrail blocked a step; `stage` is `input`."""

    code: ClassVar[str] = "CW-E052"

    def __init__(self, tool_name: str, step_index: int, stage: str, detail: str) -> None:
        self.tool_name = tool_name
        self.step_index = step_index
        self.stage = stage
        self.detail = detail
        super().__init__(f"Guardrail ({stage}) blocked tool '{tool_name}' at step {step_index}: {detail.rstrip('.')}.")


class JsonSchemaMismatchError(DoubleweaveError):
    """A value does not match a JSON Schema document.

    `errors` holds pairs of a JSON path (`$.items[2].name`) and a message; the text of the error shows the first five.
    """

    code: ClassVar[str] = "CW-E056"

    def __init__(self, schema_name: str, errors: Iterable[tuple[str, str]]) -> None:
        self.schema_name = schema_name
        self.errors: tuple[tuple[str, str], ...] = tuple(errors)
        shown = [f"{path}: {message}" for path, message in self.errors[:5]]
        if len(self.errors) > len(shown):
            shown.append(f"and {len(self.errors) - len(shown)} more")
        super().__init__(f"Value does not match the JSON Schema of {schema_name}: {'; '.join(shown)}")


class JsonSchemaDefinitionError(DoubleweaveError):
    """A document cannot serve as a JSON Schema; `path` is the JSON path of the fault in the document."""

    code: ClassVar[str] = "CW-E057"

    def __init__(self, path: str, detail: str) -> None:
        self.path = path
        self.detail = detail
        super().__init__(f"Invalid JSON Schema at {path}: {detail}.")


class CheckpointSaveError(DoubleweaveError):
    """A snapshot cannot be kept; the one before it is still there."""

    code: ClassVar[str] = "CW-E058"

    def __init__(self, trace_id: str, detail: str) -> None:
        self.trace_id = trace_id
        self.detail = detail
        super().__init__(f"Cannot save a snapshot of trace '{trace_id}': {detail}.")
