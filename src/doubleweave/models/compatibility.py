"""Whether a flow still fits the tools it was written for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from doubleweave.models.flows import AnyFlow


class HasSchemaHash(Protocol):
    """A tool, as far as compatibility is concerned."""

    @property
    def schema_hash(self) -> str:
        """The fingerprint of the tool's schemas."""
        ...


@dataclass
class CompatibilityIssue:
    """A step whose tool is absent (`missing_tool`) or has changed since the flow's snapshot (`schema_mismatch`)."""

    flow_name: str
    step_index: int
    tool_name: str
    issue_type: str
    detail: str


@dataclass
class DriftInfo:
    """A registered tool whose schema hash is not the one that a flow was written for."""

    flow_name: str
    tool_name: str
    expected_hash: str
    actual_hash: str


def check_flow_compatibility(flow: AnyFlow, tools: Mapping[str, HasSchemaHash]) -> list[CompatibilityIssue]:
    """Return what keeps the steps of `flow` from running with `tools` unchanged, in list order; empty when nothing.

    Steps that run another flow are not looked at.
    """
    expected_hashes = flow.tool_schema_hashes or {}
    issues: list[CompatibilityIssue] = []
    for index, step in enumerate(flow.steps):
        name = step.tool_name
        if name is None:
            continue
        tool = tools.get(name)
        if tool is None:
            detail = f"Tool '{name}' is not registered."
            issues.append(CompatibilityIssue(flow.name, index, name, "missing_tool", detail))
        elif expected_hashes.get(name, tool.schema_hash) != tool.schema_hash:
            detail = f"Tool '{name}' has schema hash {tool.schema_hash}, the flow expects {expected_hashes[name]}."
            issues.append(CompatibilityIssue(flow.name, index, name, "schema_mismatch", detail))
    return issues
