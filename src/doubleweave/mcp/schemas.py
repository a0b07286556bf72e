"""The JSON Schemas under which a flow is offered: what it has to be given, and what it promises to give back."""

import json
from collections.abc import Iterator
from copy import deepcopy
from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticUserError

from doubleweave.errors import DoubleweaveError, ToolDefinitionError
from doubleweave.export import derive_flow_input_schema, derive_flow_output_schema
from doubleweave.mcp.safety import Executor
from doubleweave.models.flows import AnyFlow, DAGFlow
from doubleweave.models.json_schema import JsonSchema
from doubleweave.models.pointers import is_pointer, parse_pointer
from doubleweave.models.steps import FlowStep

# What the schema of a last step says of other keys is not true of the final output, which has those of all steps.
_ABOUT_OTHER_KEYS = (
    "additionalProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
    "unevaluatedProperties",
)


def input_document(flow: AnyFlow, executor: Executor) -> dict[str, Any]:
    """Return the input schema of a flow: its own, else what the steps that nothing comes before need.

    Keys that only later steps read are not in it; they may be given, too.

    Raises:
        ToolDefinitionError: There is no telling.
        SchemaRefPolicyError: The flow's schema ref is refused.
    """
    document = _input_document(flow, executor, ())
    if document.setdefault("type", "object") != "object":
        raise ToolDefinitionError(flow.name, f"its input is of the type {document['type']}, but has to be an object")
    return document


def output_schema(flow: AnyFlow, executor: Executor) -> JsonSchema | None:
    """Return a schema that the final output of every successful run matches, None when there is no telling.

    Raises:
        SchemaRefPolicyError: The flow's schema ref is refused.
    """
    is_own = flow.output_schema_ref is not None
    if not is_own and not _ends_in_one_call(flow):
        return None
    source = derive_flow_output_schema(flow, executor)
    return None if source is None else _promise(source, is_own)


def _input_document(flow: AnyFlow, executor: Executor, above: tuple[str, ...]) -> dict[str, Any]:
    roots = _roots(flow)
    alone = roots[0] if len(roots) == 1 and not roots[0].input_mapping else None
    if flow.input_schema_ref is not None or (alone is not None and alone.tool_name is not None) or not roots:
        return _document(derive_flow_input_schema(flow, executor), flow.name)
    if flow.name in above:
        raise ToolDefinitionError(flow.name, f"it contains itself: {' -> '.join((*above, flow.name))}")
    parts = [_needs(step, executor, (*above, flow.name)) for step in roots]
    properties = {key: each for part in reversed(parts) for key, each in part["properties"].items()}
    required = dict.fromkeys(key for part in parts for key in part["required"])
    return {"type": "object", "properties": properties, "required": list(required)}


def _roots(flow: AnyFlow) -> list[FlowStep]:
    if isinstance(flow, DAGFlow):
        return [step for step in flow.steps if not step.depends_on]
    return list(flow.steps[:1])


def _needs(step: FlowStep, executor: Executor, above: tuple[str, ...]) -> dict[str, Any]:
    """Return what a step reads from the context that it finds, as an object schema without references."""
    declared = _declared(step, executor, above)
    fields = {name: _free(each) for name, each in declared.get("properties", {}).items()}
    if not step.input_mapping:
        return {"properties": fields, "required": declared.get("required", [])}
    sources = {field: source for field, source in step.input_mapping.items() if isinstance(source, str)}
    properties = {
        parse_pointer(source)[0] if is_pointer(source) else source: {} if is_pointer(source) else fields.get(field, {})
        for field, source in sources.items()
    }
    return {"properties": properties, "required": list(properties)}


def _declared(step: FlowStep, executor: Executor, above: tuple[str, ...]) -> dict[str, Any]:
    if step.flow_name is not None:
        return _input_document(executor.registry.get_flow(step.flow_name), executor, above)
    tool = executor.registered_tools.get(str(step.tool_name))
    if tool is None:
        raise ToolDefinitionError(above[-1], f"the tool '{step.tool_name}' is not registered on the executor")
    return _document(tool.input_schema, tool.name)


def _free(schema: Any) -> Any:
    """Return a part of a schema that can stand elsewhere: one that refers to what stays behind says nothing."""
    return {} if "$ref" in json.dumps(schema) or "$dynamicRef" in json.dumps(schema) else schema


def _document(schema: type[BaseModel] | JsonSchema, name: str) -> dict[str, Any]:
    if isinstance(schema, JsonSchema):
        return deepcopy(schema.document)
    try:
        return schema.model_json_schema()
    except PydanticUserError as error:
        raise ToolDefinitionError(name, f"its input has no JSON Schema: {error}") from error


def _ends_in_one_call(flow: AnyFlow) -> bool:
    """Say whether every successful run has the outputs of one tool, the last one's, under their own names."""
    last = list(_last_steps(flow))
    return (
        len(last) == 1
        and last[0].tool_name is not None
        and last[0].output_mapping is None
        and last[0].on_error == "fail"
        and not last[0].decision_candidates
        and not any(getattr(step, "branches", ()) for step in flow.steps)
    )


def _last_steps(flow: AnyFlow) -> Iterator[FlowStep]:
    if isinstance(flow, DAGFlow):
        needed = {name for step in flow.steps for name in step.depends_on}
        yield from (step for step in flow.steps if step.step_id not in needed)
    else:
        yield from flow.steps[-1:]


@lru_cache(maxsize=256)
def _promise(source: type[BaseModel] | JsonSchema, is_own: bool) -> JsonSchema | None:
    try:
        document = _output_document(source, is_own)
        for keyword in _ABOUT_OTHER_KEYS:
            document.pop(keyword, None)
        document.setdefault("type", "object")
        return JsonSchema(document)
    except (DoubleweaveError, PydanticUserError):
        return None


def _output_document(source: type[BaseModel] | JsonSchema, is_own: bool) -> dict[str, Any]:
    if isinstance(source, JsonSchema):
        return deepcopy(source.document)
    if is_own:
        # The context is checked against it as it is, not written out by it.
        return source.model_json_schema()
    by_alias = bool(source.model_config.get("serialize_by_alias"))
    return source.model_json_schema(mode="serialization", by_alias=by_alias)
