"""Reusing what a tool returned for the same input."""

import json
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from doubleweave.core.draft import Draft
from doubleweave.core.effects import Life
from doubleweave.core.run import Run
from doubleweave.core.setup import logger
from doubleweave.core.snapshots import call_store
from doubleweave.models.schemas import field_names
from doubleweave.models.step_cache import StepCacheKey, compute_input_value_hash, trusted_key
from doubleweave.models.tools import ToolBase


def cache_key(draft: Draft, tool: ToolBase) -> StepCacheKey | None:
    """Return the key of a step's tool and inputs; None when its output is not to be cached.

    Inputs that do not pass validation have no key, for the call will fail. Inputs that have no JSON form, or one that they
    share with other inputs, have none either, and a warning says so.
    """
    if not tool.cacheable or tool.is_streaming:
        return None
    try:
        validated = tool.validate_input(draft.inputs)
    except Exception:
        return None
    try:
        digest = compute_input_value_hash(validated)
    except (ValueError, TypeError, RecursionError) as error:
        logger.warning("Step %d '%s': not cached, its input has no JSON form (%s)", draft.step.index, tool.name, error)
        return None
    try:
        schema_hash = tool.schema_hash
    except Exception as error:
        logger.warning("Step %d '%s': not cached, its schema has no hash (%s)", draft.step.index, tool.name, error)
        return None
    if not _survives_json(validated):
        detail = "its input's JSON form leaves something out"
        logger.warning("Step %d '%s': not cached, %s", draft.step.index, tool.name, detail)
        return None
    return trusted_key(tool.name, schema_hash, digest)


def look_up(run: Run, tool: ToolBase, key: StepCacheKey) -> Life[dict[str, Any] | None]:
    """Return a copy of the cached output, or None. Whatever the cache raises leaves the run."""
    found = yield from call_store(run.call_context, run.step_cache, "get", key)
    if found is None:
        return None
    if getattr(run.step_cache, "keeps_objects", False):
        return dict(found)
    try:
        return tool.restore_output(found)
    except Exception as error:
        logger.warning("Tool '%s': a cached output does not match its schema and is not used (%s)", tool.name, error)
        return None


def keep(run: Run, key: StepCacheKey, outputs: dict[str, Any]) -> Life[None]:
    """Hand a copy of a tool's validated output to the cache. Whatever that raises leaves the run.

    An output that the cache says it would give back as another one is not kept, and a warning says so.
    """
    if hasattr(run.step_cache, "read_back") and not _comes_back(run, key.tool_name, outputs):
        logger.warning("Tool '%s': not cached, its output would not come back as it is", key.tool_name)
        return
    yield from call_store(run.call_context, run.step_cache, "set", key, dict(outputs))


def _survives_json(validated: Any) -> bool:
    """Say whether an input can be told from every other input by its JSON: hidden fields, secrets and infinities cannot."""
    try:
        if not isinstance(validated, BaseModel):
            return bool(json.loads(json.dumps(validated)) == validated)
        model = type(validated)
        if _is_told_by_json(model):
            return True
        names = field_names(model)
        return bool(model.model_validate_json(validated.model_dump_json(round_trip=True), **names) == validated)
    except Exception:
        return False


@lru_cache(maxsize=1024)
def _is_told_by_json(model: type[BaseModel]) -> bool:
    """Say whether every instance of a model shows all of itself in JSON: its fields are texts, integers and truth values."""
    decorators = model.__pydantic_decorators__
    config = model.model_config
    return (
        all(field.annotation in (str, int, bool) and not field.exclude for field in model.model_fields.values())
        and not (decorators.field_serializers or decorators.model_serializers or model.__private_attributes__)
        and config.get("extra") != "allow"
        and model.model_dump_json is BaseModel.model_dump_json
        and not model.__pydantic_root_model__
        and not any(field.metadata for field in model.model_fields.values())
    )


def _comes_back(run: Run, tool_name: str, outputs: dict[str, Any]) -> bool:
    cache: Any = run.step_cache
    try:
        return run.setup.tool(tool_name).restore_output(cache.read_back(outputs)) == outputs
    except Exception:
        return False
