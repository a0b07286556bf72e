"""Flows: named, versioned lists of steps, run in order or by their dependencies."""

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, Field

from doubleweave.models.contracts import DeterminismLevel, ToolSafetyContract
from doubleweave.models.governance import FlowGovernance
from doubleweave.models.refs import class_ref_from, resolve_class_ref
from doubleweave.models.steps import DAGFlowStep, FlowStep

if TYPE_CHECKING:
    from doubleweave.models.records import ExecutionResult


class FlowStatus(str, Enum):
    """Whether a flow may run: only an active one does without being forced."""

    ACTIVE = "active"
    NEEDS_REVIEW = "needs_review"
    DISABLED = "disabled"


ContextCollisionPolicy: TypeAlias = Literal["overwrite", "warn", "error"]
Direction: TypeAlias = Literal["LR", "RL", "TB", "TD", "BT"]
"""Of a drawn graph, as Mermaid names it."""


class _FlowDefinition(BaseModel):
    """What every kind of flow has. Schema refs are texts until somebody asks for the class."""

    name: str
    version: str
    description: str
    steps: Sequence[FlowStep]
    deterministic: bool = True
    status: FlowStatus = FlowStatus.ACTIVE
    trigger_conditions: dict[str, Any] | None = None
    input_schema_ref: str | None = None
    output_schema_ref: str | None = None
    context_schema_ref: str | None = None
    tool_schema_hashes: dict[str, str] | None = None
    capability_id: str | None = None
    governance: FlowGovernance = Field(default_factory=FlowGovernance)
    safety: ToolSafetyContract | None = None
    on_context_collision: ContextCollisionPolicy = "warn"
    dynamic_params: tuple[str, ...] = ()

    @staticmethod
    def schema_ref_from(cls: type[BaseModel]) -> str:
        """Return the ref that names `cls`, for the schema ref fields."""
        return class_ref_from(cls)

    @property
    def input_schema(self) -> type[BaseModel] | None:
        """The class of `input_schema_ref`, imported now; None when unset. Raises as `resolve_class_ref`."""
        return self._resolve(self.input_schema_ref)

    @property
    def output_schema(self) -> type[BaseModel] | None:
        """The class of `output_schema_ref`, imported now; None when unset. Raises as `resolve_class_ref`."""
        return self._resolve(self.output_schema_ref)

    @property
    def context_schema(self) -> type[BaseModel] | None:
        """The class of `context_schema_ref`, imported now; None when unset. Raises as `resolve_class_ref`."""
        return self._resolve(self.context_schema_ref)

    @property
    def determinism_level(self) -> DeterminismLevel:
        """NONE when the flow is declared not deterministic, PARTIAL when a step chooses its way, else FULL."""
        if not self.deterministic:
            return DeterminismLevel.NONE
        if any(step.decision_candidates for step in self.steps):
            return DeterminismLevel.PARTIAL
        return DeterminismLevel.FULL

    def to_ascii(self, *, result: "ExecutionResult | None" = None) -> str:
        """Return the flow as lines of text. As `flow_to_ascii`."""
        from doubleweave.models.drawing import flow_to_ascii

        return flow_to_ascii(self, result=result)  # type: ignore[arg-type]  # every instance is of one of the two kinds

    def to_mermaid(
        self, *, direction: Direction = "LR", show_schemas: bool = False, result: "ExecutionResult | None" = None
    ) -> str:
        """Return the flow as a Mermaid graph. As `flow_to_mermaid`."""
        from doubleweave.models.drawing import flow_to_mermaid

        return flow_to_mermaid(self, direction=direction, show_schemas=show_schemas, result=result)  # type: ignore[arg-type]  # of one of the two kinds

    def to_dot(self, *, result: "ExecutionResult | None" = None) -> str:
        """Return the flow as a Graphviz digraph. As `flow_to_dot`."""
        from doubleweave.models.drawing import flow_to_dot

        return flow_to_dot(self, result=result)  # type: ignore[arg-type]  # every instance is of one of the two kinds

    def to_svg(self, *, result: "ExecutionResult | None" = None) -> str:
        """Return the flow as an SVG picture. As `flow_to_svg`."""
        from doubleweave.models.svg import flow_to_svg

        return flow_to_svg(self, result=result)  # type: ignore[arg-type]  # every instance is of one of the two kinds

    def _repr_html_(self) -> str:
        """Return what a notebook shows of the flow. As `flow_to_html`."""
        from doubleweave.models.html import flow_to_html

        return flow_to_html(self)  # type: ignore[arg-type]  # every instance is of one of the two kinds

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return the flow as JSON. As `flow_to_json`."""
        from doubleweave.models.flow_files import flow_to_json

        return flow_to_json(self, indent=indent)  # type: ignore[arg-type]  # every instance is of one of the two kinds

    def to_yaml(self) -> str:
        """Return the flow as YAML. As `flow_to_yaml`."""
        from doubleweave.models.flow_files import flow_to_yaml

        return flow_to_yaml(self)  # type: ignore[arg-type]  # every instance is of one of the two kinds

    @classmethod
    def from_json(cls, data: str, *, source: str | None = None) -> Self:
        """Return the flow that a JSON text describes. As `flow_from_json`; a flow of the other kind is refused."""
        from doubleweave.models.flow_files import flow_from_json, of_kind

        return of_kind(cls, flow_from_json(data, source=source), source)

    @classmethod
    def from_yaml(cls, data: str, *, source: str | None = None) -> Self:
        """Return the flow that a YAML text describes. As `flow_from_yaml`; a flow of the other kind is refused."""
        from doubleweave.models.flow_files import flow_from_yaml, of_kind

        return of_kind(cls, flow_from_yaml(data, source=source), source)

    @staticmethod
    def _resolve(ref: str | None) -> type[BaseModel] | None:
        return None if ref is None else resolve_class_ref(ref, expected_base=BaseModel)


class Flow(_FlowDefinition):
    """Steps that run one after another, each seeing what the steps before it have put into the context.

    The version is checked when the flow is registered. Schema refs are not imported before they are needed.
    """

    version: str = "0.1.0"
    steps: list[FlowStep]


class DAGFlow(_FlowDefinition):
    """Steps that run by their dependencies, each seeing what the levels before it have put into the context.

    Version and dependencies are checked when the flow is registered. Schema refs are not imported before they are
    needed.
    """

    steps: list[DAGFlowStep]

    @property
    def determinism_level(self) -> DeterminismLevel:
        """NONE when the flow is declared not deterministic, PARTIAL when a step chooses its way, else FULL."""
        level = super().determinism_level
        if level is DeterminismLevel.FULL and any(step.branches for step in self.steps):
            return DeterminismLevel.PARTIAL
        return level


AnyFlow: TypeAlias = Flow | DAGFlow
