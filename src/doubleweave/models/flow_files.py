"""Flows as plain data, JSON and YAML: what is written is read back equal, and what is read is checked in a fixed order."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from doubleweave.errors import FlowSerializationError
from doubleweave.models.flows import AnyFlow, DAGFlow, Flow
from doubleweave.models.json_text import json_fault, parse_json
from doubleweave.models.json_values import json_path, shortened
from doubleweave.models.parse_limits import (
    DEFAULT_PARSE_LIMITS,
    FlowParseLimits,
    StructureError,
    check_structure,
)
from doubleweave.models.product import PRODUCT
from doubleweave.models.versions import FLOW_FORMAT_VERSION, same_major
from doubleweave.models.yaml_text import dump_yaml, parse_yaml

KINDS: dict[str, type[AnyFlow]] = {"Flow": Flow, "DAGFlow": DAGFlow}

_UNLIMITED = FlowParseLimits.unlimited()
_MOST_ERRORS = 20
_KindT = TypeVar("_KindT")


def flow_to_dict(flow: AnyFlow) -> dict[str, Any]:
    """Return a flow as JSON data, with its kind as `type` and the version of the file shape as `format_version`.

    `flow_from_dict` gives it back equal. Every field is written; refs stay texts. The data shares nothing with the flow.

    Raises:
        FlowSerializationError: A constant of the flow, such as a date or a tuple in an `input_mapping`, is one that JSON does
            not give back as it is, or a field has been set to what the flow's own checks refuse.
    """
    if not isinstance(flow, Flow | DAGFlow):
        raise TypeError(f"a Flow or a DAGFlow is written, not {flow!r}")
    for path, value in _constants(flow):
        _refuse_fault(flow, json_fault(value, path))
    try:
        fields = flow.model_dump(mode="json", warnings="error")
    except (ValueError, RecursionError) as error:
        detail = " ".join(str(error).split())
        raise FlowSerializationError(f"Flow '{flow.name}' cannot be written: {detail}") from error
    _refuse_fault(flow, json_fault(fields))
    kind = "DAGFlow" if isinstance(flow, DAGFlow) else "Flow"
    data = {"type": kind, "format_version": FLOW_FORMAT_VERSION, **fields}
    # Flows can be changed after their fields have been checked.
    flow_from_dict(data, limits=_UNLIMITED)
    return data


def flow_to_json(flow: AnyFlow, *, indent: int | None = 2) -> str:
    """Return a flow as JSON with sorted keys, on one line when `indent` is None; the same flow gives the same text.

    Raises:
        FlowSerializationError: As `flow_to_dict`.
    """
    return json.dumps(flow_to_dict(flow), indent=indent, sort_keys=True)


def flow_to_yaml(flow: AnyFlow) -> str:
    """Return a flow as YAML in block style with sorted keys; the same flow gives the same text.

    Raises:
        FlowSerializationError: As `flow_to_dict`; or `pyyaml` is not installed.
    """
    data = flow_to_dict(flow)
    try:
        return dump_yaml(data)
    except ImportError as error:
        raise _yaml_is_missing() from error


def flow_from_dict(
    data: Mapping[str, Any], *, source: str | None = None, limits: FlowParseLimits = DEFAULT_PARSE_LIMITS
) -> AnyFlow:
    """Return the flow that plain data describes.

    Nothing that the data names is imported, and unknown keys are passed over. Version, topology, tools, predicates and refs
    are not checked: registering and running do that.

    Args:
        data: Plain data as `flow_to_dict` makes it. What a key or default leaves out may be left out.
        source: What errors call the data, such as a file name.
        limits: How much the data may hold; `max_bytes` does not count here.

    Raises:
        FlowSerializationError: The data is refused. Checked in this order: that it is a mapping, its structure, the number of
            steps, `type`, `format_version`, and the fields, all of which that are wrong are named with their JSON paths.
    """
    if not isinstance(data, Mapping):
        raise FlowSerializationError(f"Expected a mapping at the top level, found {type(data).__name__}", source=source)
    try:
        check_structure(data, limits)
    except StructureError as error:
        raise FlowSerializationError(str(error), source=source) from error
    _check_head(data, source, limits)
    kind = data["type"]
    try:
        return KINDS[kind].model_validate(dict(data))
    except ValidationError as error:
        raise FlowSerializationError(
            f"Validation failed while reconstructing {kind}: {_listed(error)}", source=source
        ) from error


def flow_from_json(data: str, *, source: str | None = None, limits: FlowParseLimits = DEFAULT_PARSE_LIMITS) -> AnyFlow:
    """Return the flow that a JSON text describes.

    A key that stands twice in one object is refused, and so is a number that is no JSON or cannot be written again.

    Raises:
        FlowSerializationError: The text has more bytes than `limits` allow, is long and has more values than they allow, or is
            no JSON; then as `flow_from_dict`.
    """
    return flow_from_dict(_parse("JSON", parse_json, data, source, limits), source=source, limits=limits)


def flow_from_yaml(data: str, *, source: str | None = None, limits: FlowParseLimits = DEFAULT_PARSE_LIMITS) -> AnyFlow:
    """Return the flow that a YAML text describes; it means exactly what the JSON text with the same content means.

    What JSON cannot say is refused: aliases, merge keys, dates, binary data, sets, other tags, keys that are no texts or
    stand twice, and numbers that are not finite. Reading ends at the first value above a limit.

    Raises:
        FlowSerializationError: `pyyaml` is not installed; the text has more bytes than `limits` allow, is no such YAML, or is
            empty; then as `flow_from_dict`.
    """
    document = _parse("YAML", parse_yaml, data, source, limits)
    if document is None:
        raise FlowSerializationError("YAML payload is empty", source=source)
    return flow_from_dict(document, source=source, limits=limits)


def of_kind(kind: type[_KindT], flow: AnyFlow, source: str | None) -> _KindT:
    """Return `flow`.

    Raises:
        FlowSerializationError: It is not of this kind.
    """
    if not isinstance(flow, kind):
        raise FlowSerializationError(f"Expected a {kind.__name__} payload but got {type(flow).__name__}", source=source)
    return flow


def _constants(flow: AnyFlow) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield what a flow holds of no particular type, each with its path."""
    yield ("trigger_conditions",), flow.trigger_conditions
    for index, step in enumerate(flow.steps):
        yield ("steps", index, "input_mapping"), step.input_mapping


def _refuse_fault(flow: AnyFlow, fault: str | None) -> None:
    if fault is not None:
        raise FlowSerializationError(f"Flow '{flow.name}' cannot be written: {fault}")


def _parse(
    form: str,
    parse: Callable[[str, FlowParseLimits], Any],
    text: str,
    source: str | None,
    limits: FlowParseLimits,
) -> Any:
    if not isinstance(text, str):
        raise TypeError(f"{form} is read from a text, not from {type(text).__name__}")
    try:
        return parse(text, limits)
    except ImportError as error:
        raise _yaml_is_missing() from error
    except StructureError as error:
        raise FlowSerializationError(str(error), source=source) from error
    except (RecursionError, MemoryError) as error:
        detail = f"it is nested deeper than the parser goes (max_depth={limits.max_depth})"
        raise FlowSerializationError(f"Invalid {form}: {detail}", source=source) from error.__cause__ or error
    except ValueError as error:
        detail = str(error).rstrip(".")
        raise FlowSerializationError(f"Invalid {form}: {detail}", source=source) from error.__cause__ or error


def _yaml_is_missing() -> FlowSerializationError:
    return FlowSerializationError(f'YAML needs the package pyyaml: pip install "{PRODUCT}[yaml]"')


def _check_head(data: Mapping[str, Any], source: str | None, limits: FlowParseLimits) -> None:
    """Check what is not the model's to check, in the order in which it is reported."""
    steps = data.get("steps")
    if limits.max_steps is not None and isinstance(steps, list | tuple) and len(steps) > limits.max_steps:
        raise FlowSerializationError(f"$.steps has more steps than max_steps={limits.max_steps} allows", source=source)
    kind = data.get("type")
    if not isinstance(kind, str) or kind not in KINDS:
        raise FlowSerializationError(
            f"Missing or invalid 'type' discriminator: $.type is {_shown(kind)}, and must be 'Flow' or 'DAGFlow'",
            source=source,
        )
    version = data.get("format_version")
    if version is not None and not (_is_plain(version) and same_major(str(version), FLOW_FORMAT_VERSION)):
        raise FlowSerializationError(
            f"Unsupported flow file format_version {_shown(version)}: this release reads {FLOW_FORMAT_VERSION}.x",
            source=source,
        )


def _shown(value: Any) -> str:
    return shortened(repr(value)) if value is None or _is_plain(value) else f"of the type {type(value).__name__}"


def _is_plain(value: Any) -> bool:
    """Say whether a value has a text that is made in no time, which large integers and containers may not have."""
    return isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 10**100)


def _listed(error: ValidationError) -> str:
    """Say of each error where it is and what is wrong, the first ones only when there are many."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    texts = [f"{json_path(each['loc'])}: {_printable(shortened(each['msg']))}" for each in found[:_MOST_ERRORS]]
    if len(found) > _MOST_ERRORS:
        texts.append(f"and {len(found) - _MOST_ERRORS} more")
    return "; ".join(texts)


def _printable(text: str) -> str:
    """Escape what a file may quote from itself into a message to deceive who reads it in a terminal."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
