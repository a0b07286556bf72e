"""How a step's outputs reach the context of the run."""

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any

from doubleweave.errors import ContextKeyCollisionError, OutputMappingError


def apply_output_mapping(
    outputs: dict[str, Any], output_mapping: Mapping[str, str] | None, *, tool_name: str, step_index: int
) -> dict[str, Any]:
    """Return the outputs under the names that the context gives them.

    Without a mapping the same dict comes back, to be treated as read-only. With `{context_key: output_key}` only the listed
    keys do.

    Raises:
        OutputMappingError: The mapping names an output that the tool did not produce.
    """
    if output_mapping is None:
        return outputs
    projected = {}
    try:
        # A loop, because a comprehension is one more call on Python 3.11.
        for key, source in output_mapping.items():
            projected[key] = outputs[source]
    except KeyError:
        # In the order of the keys, for files keep no other one.
        missing = next(output_mapping[key] for key in sorted(output_mapping) if output_mapping[key] not in outputs)
        raise OutputMappingError(tool_name, step_index, missing, sorted(outputs, key=str)) from None
    return projected


def merge_step_outputs(
    context: MutableMapping[str, Any],
    outputs: dict[str, Any],
    *,
    policy: str,
    flow_name: str,
    step_index: int,
    step_name: str,
    logger: logging.Logger,
    output_mapping: Mapping[str, str] | None = None,
) -> None:
    """Merge outputs into `context`, treating keys that it already has by `policy`.

    `"warn"` overwrites and logs a warning a key, `"overwrite"` overwrites and logs a debug line a key, `"error"` raises and
    leaves the context as it was.

    Raises:
        ContextKeyCollisionError: A key exists and the policy is `"error"`.
        OutputMappingError: The mapping names an output that the tool did not produce.
    """
    projected = outputs
    if output_mapping is not None:
        projected = apply_output_mapping(outputs, output_mapping, tool_name=step_name, step_index=step_index)
    if heeds_collisions(policy, logger) and not projected.keys().isdisjoint(context.keys()):
        _report_collisions(context, projected, policy, flow_name, step_index, step_name, logger)
    context.update(projected)


def heeds_collisions(policy: str, logger: logging.Logger) -> bool:
    """Say whether anything happens when a key is overwritten: an error, or a line in the log."""
    return policy == "error" or logger.isEnabledFor(_level_of(policy))


def _level_of(policy: str) -> int:
    return logging.DEBUG if policy == "overwrite" else logging.WARNING


def _report_collisions(
    context: Mapping[str, Any],
    projected: dict[str, Any],
    policy: str,
    flow_name: str,
    step_index: int,
    step_name: str,
    logger: logging.Logger,
) -> None:
    keys = [key for key in projected if key in context]
    if policy == "error":
        raise ContextKeyCollisionError(flow_name, step_index, step_name, keys)
    level = _level_of(policy)
    for key in keys:
        logger.log(level, "Flow '%s' step %d '%s': context key %r overwritten", flow_name, step_index, step_name, key)
