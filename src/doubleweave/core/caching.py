"""Reusing what a tool returned for the same input."""

from typing import Any

from doubleweave.core.draft import Draft
from doubleweave.core.effects import Life
from doubleweave.core.run import Run
from doubleweave.core.setup import logger
from doubleweave.core.snapshots import call_store
from doubleweave.models.step_cache import StepCacheKey, compute_input_value_hash
from doubleweave.models.tools import ToolBase


def cache_key(draft: Draft, tool: ToolBase) -> StepCacheKey | None:
    """Return the key of a step's tool and inputs; None when its output is not to be cached.

    Inputs that do not pass validation have no key, for the call will fail; inputs without a JSON form have none, and a
    warning says so.
    """
    if not tool.cacheable or tool.is_streaming:
        return None
    try:
        validated = tool.validate_input(draft.record.inputs)
    except Exception:
        return None
    try:
        digest = compute_input_value_hash(validated)
    except (ValueError, TypeError, RecursionError) as error:
        logger.warning("Step %d '%s': not cached, its input has no JSON form (%s)", draft.step.index, tool.name, error)
        return None
    return StepCacheKey(tool_name=tool.name, schema_hash=tool.schema_hash, input_value_hash=digest)


def look_up(run: Run, tool: ToolBase, key: StepCacheKey) -> Life[dict[str, Any] | None]:
    """Return a copy of the cached output, or None. Whatever the cache raises leaves the run."""
    found = yield from call_store(run.call_context, run.step_cache, "get", key)
    if found is None:
        return None
    try:
        # A cache of JSON files gives dates back as text; the output schema makes dates of them.
        return tool._validate_output(found)
    except Exception:
        return dict(found)


def keep(run: Run, key: StepCacheKey, outputs: dict[str, Any]) -> Life[None]:
    """Hand a copy of a tool's validated output to the cache. Whatever that raises leaves the run."""
    yield from call_store(run.call_context, run.step_cache, "set", key, dict(outputs))
