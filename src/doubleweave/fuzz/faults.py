"""Tools whose outputs are changed before anybody has validated them."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from pydantic import BaseModel

from doubleweave.fuzz.mutations import mutated
from doubleweave.fuzz.properties import FaultConfig
from doubleweave.testing.fakes import plain_input, wrapped_tool
from doubleweave.tools import Tool

FaultHook: TypeAlias = Callable[[str, Any, random.Random], Any]
"""`hook(tool_name, outputs, rng)` returns the outputs to go on with."""


def mutating_hook(config: FaultConfig) -> FaultHook:
    """Return the hook that changes one thing in an output with the configured probability."""

    def hook(tool_name: str, outputs: Any, rng: random.Random) -> Any:
        if rng.random() < config.output_fault_probability and isinstance(outputs, dict):
            return mutated(outputs, rng)
        return outputs

    return hook


def faulty_tools(tools: Iterable[Tool], hook: FaultHook, seed: int, case: int) -> list[Tool]:
    """Return copies of tools whose raw outputs go through `hook`; no step cache keeps or gives what they return."""
    return [_faulty(tool, hook, f"{seed}|{case}|{tool.name}") for tool in tools]


def _faulty(tool: Tool, hook: FaultHook, name_of_case: str) -> Tool:
    calls: Counter[str] = Counter()

    def after(validated: Any, raw_output: Any) -> Any:
        # By the input and not by the order of all calls, which is another one each time when steps run at once.
        text = json.dumps(plain_input(validated), sort_keys=True, default=str)
        calls[text] += 1
        rng = random.Random(f"{name_of_case}|{text}|{calls[text]}")
        return hook(tool.name, raw_output.model_dump() if isinstance(raw_output, BaseModel) else raw_output, rng)

    twin = wrapped_tool(tool, after=after)
    twin.cacheable = False
    return twin
