"""Building linear flows by chained calls."""

from collections.abc import Mapping
from copy import copy
from typing import Any, ClassVar, Self

from pydantic import BaseModel

from doubleweave.errors import DoubleweaveError
from doubleweave.models.flows import Flow
from doubleweave.models.refs import class_ref_from
from doubleweave.models.steps import DAGFlowStep, FlowStep


class FlowBuilderError(DoubleweaveError):
    """A builder cannot make a flow of what it was given."""

    code: ClassVar[str] = "CW-E037"

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(f"FlowBuilder error: {detail}")


class FlowBuilder:
    """Collects the parts of a linear flow; each method but `build` returns the builder itself.

    Args:
        name, description: As the methods of the same names set them.
    """

    def __init__(self, name: str | None = None, description: str | None = None) -> None:
        self._fields: dict[str, Any] = {"name": name, "description": description}
        self._steps: list[FlowStep] = []

    def name(self, value: str) -> Self:
        """Set the flow's name."""
        return self._set("name", value)

    def description(self, value: str) -> Self:
        """Set the flow's description."""
        return self._set("description", value)

    def version(self, value: str) -> Self:
        """Set the flow's version, `0.1.0` when it is not set. It is checked when the flow is registered."""
        return self._set("version", value)

    with_version = version

    def with_input_schema(self, cls: type[BaseModel]) -> Self:
        """Set the model of the flow's input; the flow keeps a ref of the class.

        Raises:
            FlowBuilderError: It is no subclass of `BaseModel`.
        """
        return self._set("input_schema_ref", _ref_of("with_input_schema", cls))

    def with_output_schema(self, cls: type[BaseModel]) -> Self:
        """Set the model of the flow's output; the flow keeps a ref of the class.

        Raises:
            FlowBuilderError: It is no subclass of `BaseModel`.
        """
        return self._set("output_schema_ref", _ref_of("with_output_schema", cls))

    def with_trigger(self, conditions: dict[str, Any]) -> Self:
        """Set a copy of `conditions` as the flow's trigger conditions.

        Raises:
            FlowBuilderError: They are no mapping.
        """
        if not isinstance(conditions, Mapping):
            raise _refusal("with_trigger", conditions, "a dict")
        return self._set("trigger_conditions", dict(conditions))

    def step(self, /, tool_name: str, *, output_mapping: dict[str, str] | None = None, **mapping: Any) -> Self:
        """Add a step that calls a tool.

        Args:
            tool_name: The tool.
            output_mapping: Context keys to output keys, as in `FlowStep`.
            **mapping: Input fields to sources, as in `FlowStep.input_mapping`. A field that has the name of one of the others
                needs `step_from`.

        Raises:
            pydantic.ValidationError: `FlowStep` refuses the values.
        """
        return self.step_from(FlowStep(tool_name=tool_name, input_mapping=mapping, output_mapping=output_mapping))

    def step_from(self, flow_step: FlowStep) -> Self:
        """Add a shallow copy of a step.

        Raises:
            FlowBuilderError: It is no step, or one of a DAG, whose dependencies and branches a linear flow does not have.
        """
        if not isinstance(flow_step, FlowStep):
            raise _refusal("step_from", flow_step, "a FlowStep")
        if isinstance(flow_step, DAGFlowStep):
            raise FlowBuilderError(
                f"step '{flow_step.step_id}' is of a DAG, and only linear flows are built: give a FlowStep, or make a DAGFlow."
            )
        self._steps.append(_own_copy(flow_step))
        return self

    def build(self) -> Flow:
        """Return a new flow of what has been set so far; the builder can go on and build others.

        Raises:
            FlowBuilderError: The name or the description is empty; they are looked at in this order.
        """
        for field in ("name", "description"):
            if not self._fields[field]:
                raise FlowBuilderError(f"the flow has no '{field}': give it to FlowBuilder(...) or call .{field}(...).")
        fields = {key: dict(value) if isinstance(value, dict) else value for key, value in self._fields.items()}
        return Flow(steps=[_own_copy(step) for step in self._steps], **fields)

    def _set(self, field: str, value: Any) -> Self:
        self._fields[field] = value
        return self


def _ref_of(method: str, cls: Any) -> str:
    if not (isinstance(cls, type) and issubclass(cls, BaseModel)):
        raise _refusal(method, cls, "a subclass of pydantic.BaseModel")
    return class_ref_from(cls)


def _refusal(method: str, given: Any, wanted: str) -> FlowBuilderError:
    return FlowBuilderError(f"{method}({given!r}): give {wanted}.")


def _own_copy(step: FlowStep) -> FlowStep:
    """Return a copy with mappings and a list of its own; the constants in them are shared."""
    own = {name: copy(getattr(step, name)) for name in ("input_mapping", "output_mapping", "decision_candidates")}
    return step.model_copy(update=own)
