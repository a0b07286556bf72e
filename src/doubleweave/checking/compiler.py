"""The wiring check of a flow: whether what each step reads is there and is of the class that its tool wants."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from doubleweave.checking.ancestry import ancestry
from doubleweave.checking.fields import Fields, FieldType, input_fields, is_compatible, output_fields
from doubleweave.models.flows import AnyFlow, DAGFlow
from doubleweave.models.pointers import is_pointer, parse_pointer
from doubleweave.models.steps import DAGFlowStep, FlowStep, fallback_tool
from doubleweave.models.tools import ToolBase

Context = dict[str, FieldType]
# The index of a step and the name of the tool that it is about.
Place = tuple[int, str]


@dataclass
class CompilationError:
    """A fault for which a run of the flow fails, or its output is not what it declares.

    Fields are taken by their names, as steps are written for them; a model that is filled by aliases is for `check_flow`.

    `step_index` is the position in the list of steps, or their number for the output of the flow. `tool_name` is the step's
    tool, its fallback for the issue types with `fallback` in their name, and the flow for its output. `field_name` is the
    key or field that it is about, if there is one.
    """

    step_index: int
    tool_name: str
    field_name: str | None
    issue_type: str
    detail: str


@dataclass
class CompilationWarning:
    """Something that may be meant, or may be a mistake; the fields are those of `CompilationError`."""

    step_index: int
    tool_name: str
    field_name: str | None
    issue_type: str
    detail: str


@dataclass
class CompilationResult:
    """What `compile_flow` has found, by step; `success` is whether there are no errors."""

    success: bool
    errors: list[CompilationError] = field(default_factory=list)
    warnings: list[CompilationWarning] = field(default_factory=list)


def compile_flow(flow: AnyFlow, tools: Mapping[str, ToolBase]) -> CompilationResult:
    """Check that the steps of a flow find what they read, in classes that fit, without calling anything.

    Sub-flow steps and capability steps are not looked at and add nothing to the context; what is declared of the flow's
    input is all that its input has. Wiring that is wrong is returned, never raised.

    Args:
        flow: The flow; it need not be registered.
        tools: The tools that it will run with, by name, as `executor.registered_tools` has them.

    Raises:
        FlowSerializationError: A schema ref of the flow does not lead to a model class.
        SchemaRefPolicyError: The policy refuses its module.
    """
    start, wanted = flow.input_schema, flow.output_schema
    issues = _Issues()
    given: Context = {} if start is None else dict(input_fields(start).types)
    final = _check_steps(flow, tools, given, issues)
    if wanted is not None:
        _check_output(flow, input_fields(wanted), final, issues)
    return issues.result()


class _Issues:
    def __init__(self) -> None:
        self._errors: list[CompilationError] = []
        self._warnings: list[CompilationWarning] = []

    def error(self, place: Place, issue_type: str, name: str | None, detail: str) -> None:
        self._errors.append(CompilationError(*place, name, issue_type, detail))

    def warning(self, place: Place, issue_type: str, name: str | None, detail: str) -> None:
        self._warnings.append(CompilationWarning(*place, name, issue_type, detail))

    def result(self) -> CompilationResult:
        # The steps of a DAG are visited by their dependencies.
        self._errors.sort(key=lambda each: each.step_index)
        self._warnings.sort(key=lambda each: each.step_index)
        return CompilationResult(not self._errors, self._errors, self._warnings)


def _check_steps(flow: AnyFlow, tools: Mapping[str, ToolBase], start: Context, issues: _Issues) -> Context:
    """Check every step with the context that it sees; return the context at the end."""
    final = dict(start)
    added: dict[int, Context] = {}
    for index, behind in _visits(flow):
        visible = dict(final) if behind is None else dict(start)
        for ancestor in behind or ():
            visible |= added.get(ancestor, {})
        added[index] = _check_step(flow, index, tools, visible, issues)
        final |= added[index]
    return final


def _visits(flow: AnyFlow) -> Iterator[tuple[int, list[int] | None]]:
    """Yield the position of each step with those of the steps that it sees the outputs of; None stands for all before."""
    if isinstance(flow, DAGFlow):
        yield from ancestry(flow)
    else:
        yield from ((index, None) for index in range(len(flow.steps)))


def _check_step(flow: AnyFlow, index: int, tools: Mapping[str, ToolBase], visible: Context, issues: _Issues) -> Context:
    """Check one step; return what it adds to the context."""
    step = flow.steps[index]
    if step.tool_name is None or (isinstance(step, DAGFlowStep) and step.step_type == "capability"):
        return {}
    place = index, step.tool_name
    tool = tools.get(step.tool_name)
    if tool is None:
        issues.error(place, "missing_tool", None, f"Tool '{step.tool_name}' is not registered.")
        # What it would have written is not reported again by the steps that read it.
        return dict.fromkeys(step.output_mapping or ())
    _check_retry(place, step, tool, issues)
    fallback = _fallback(index, step, tools, issues)
    _check_inputs(place, step, input_fields(tool.input_schema), visible, issues)
    outputs = output_fields(tool.output_schema)
    if fallback is not None:
        _check_fallback((index, fallback.name), step, fallback, visible, outputs, issues)
    added = _contribution(place, step, outputs, issues)
    if flow.on_context_collision != "overwrite":
        _check_collisions(place, visible, added, issues)
    return added


def _check_retry(place: Place, step: FlowStep, tool: ToolBase, issues: _Issues) -> None:
    safety = tool.safety
    if step.retry is None or step.retry.max_retries == 0:
        return
    if not safety.safe_to_retry or not (safety.idempotent or safety.read_only):
        detail = f"Tool '{tool.name}' is retried, but its safety contract does not say that this is harmless."
        issues.warning(place, "unsafe_retry", None, detail)


def _fallback(index: int, step: FlowStep, tools: Mapping[str, ToolBase], issues: _Issues) -> ToolBase | None:
    name = fallback_tool(step.on_error)
    if name is not None and name not in tools:
        issues.error((index, name), "missing_fallback_tool", None, f"Fallback tool '{name}' is not registered.")
    return None if name is None else tools.get(name)


def _check_inputs(place: Place, step: FlowStep, inputs: Fields, visible: Context, issues: _Issues) -> None:
    _check_targets(place, step, inputs, visible, issues)
    for key, source in step.input_mapping.items():
        if not isinstance(source, str):
            continue
        read = parse_pointer(source)[0] if is_pointer(source) else source
        if read not in visible:
            detail = f"Input '{key}' is read from '{read}', which no step before this one writes."
            issues.error(place, "missing_mapping_key", source, detail)
        if not is_pointer(source) and key in visible and key != source:
            detail = f"Input '{key}' is read from '{source}', although the context has a key '{key}' too."
            issues.warning(place, "shadowed_key", key, detail)


def _check_targets(
    place: Place, step: FlowStep, inputs: Fields, visible: Context, issues: _Issues, prefix: str = ""
) -> None:
    """Check that a tool takes what the mapping gives it; `prefix` goes before the issue types."""
    mapping = step.input_mapping
    for key, source in mapping.items():
        if key not in inputs.types and not inputs.is_open:
            detail = f"Tool '{place[1]}' has no input '{key}'."
            issues.error(place, f"{prefix}unknown_target_key", key, detail)
        # A pointer leads into a value, and a literal has no declared type.
        given = visible.get(source) if isinstance(source, str) and not is_pointer(source) else None
        wanted = inputs.types.get(key)
        if not is_compatible(given, wanted):
            detail = f"Input '{key}' of tool '{place[1]}' is {_name(wanted)}, but '{source}' is {_name(given)}."
            issues.error(place, f"{prefix}type_mismatch", key, detail)
    origin, given_keys = ("mapped", mapping.keys()) if mapping else ("in the context", visible.keys())
    for key in sorted(inputs.required - given_keys):
        detail = f"Input '{key}' of tool '{place[1]}' is required and not {origin}."
        issues.error(place, f"{prefix}missing_required_input", key, detail)


def _check_fallback(
    place: Place, step: FlowStep, tool: ToolBase, visible: Context, primary: Fields, issues: _Issues
) -> None:
    _check_targets(place, step, input_fields(tool.input_schema), visible, issues, "fallback_")
    given = output_fields(tool.output_schema)
    mapping = step.output_mapping
    for key in dict.fromkeys(primary.types if mapping is None else mapping.values()):
        if key not in given.types:
            if not given.is_open:
                _note_absent(place, key, mapping is not None, issues)
        elif not is_compatible(given.types[key], primary.types.get(key)):
            found, wanted = _name(given.types[key]), _name(primary.types[key])
            detail = f"Output '{key}' is {wanted}, but {found} when fallback tool '{place[1]}' runs."
            issues.warning(place, "fallback_output_type_mismatch", key, detail)


def _note_absent(place: Place, key: str, is_mapped: bool, issues: _Issues) -> None:
    detail = f"Fallback tool '{place[1]}' has no output '{key}'."
    if is_mapped:
        issues.error(place, "fallback_output_missing_mapped_key", key, detail)
    else:
        issues.warning(place, "fallback_output_shape_divergence", key, detail)


def _contribution(place: Place, step: FlowStep, outputs: Fields, issues: _Issues) -> Context:
    """Return what a step adds to the context."""
    if step.output_mapping is None:
        return outputs.types
    for key in dict.fromkeys(step.output_mapping.values()):
        if key not in outputs.types and not outputs.is_open:
            issues.error(place, "unknown_output_key", key, f"Tool '{place[1]}' has no output '{key}'.")
    return {key: outputs.types.get(output) for key, output in step.output_mapping.items()}


def _check_collisions(place: Place, visible: Context, added: Context, issues: _Issues) -> None:
    for key in (key for key in added if key in visible):
        detail = f"Context key '{key}' is there before tool '{place[1]}' writes it."
        issues.warning(place, "context_collision", key, detail)


def _check_output(flow: AnyFlow, wanted: Fields, final: Context, issues: _Issues) -> None:
    place = len(flow.steps), flow.name
    for key, kind in wanted.types.items():
        if key not in final:
            detail = f"The output schema has a field '{key}', which neither the input nor a step provides."
            issues.error(place, "output_schema_gap", key, detail)
        elif not is_compatible(final[key], kind):
            detail = f"Field '{key}' of the output schema is {_name(kind)}, but the context has {_name(final[key])}."
            issues.error(place, "output_type_mismatch", key, detail)


def _name(kind: FieldType) -> str:
    return "anything" if kind is None else kind.__name__
