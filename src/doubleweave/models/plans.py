"""What a flow would do, said without running it."""

from pydantic import BaseModel, Field


class StepPlan(BaseModel):
    """One step of a plan: where its inputs come from, the shapes of its data, and what is wrong with it."""

    step_index: int
    tool_name: str
    input_sources: dict[str, str]
    input_schema: dict[str, str] = Field(default_factory=dict)
    output_schema: dict[str, str] = Field(default_factory=dict)
    unresolved_keys: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)


class ExecutionPlan(BaseModel):
    """The steps of a flow in the order in which they would run, and the shape of the context at its end."""

    flow_name: str
    step_count: int
    steps: list[StepPlan] = Field(default_factory=list)
    final_context_shape: dict[str, str] = Field(default_factory=dict)
    all_resolvable: bool = True

    def __str__(self) -> str:
        outlook = "all inputs resolvable" if self.all_resolvable else "NOT all inputs resolvable"
        count = "1 step" if self.step_count == 1 else f"{self.step_count} steps"
        lines = [f"Plan of flow '{self.flow_name}': {count}, {outlook}"]
        for step in self.steps:
            lines.append(f"  {step.step_index}. {step.tool_name}")
            lines += [f"       {name} <- {source}" for name, source in step.input_sources.items()]
            lines += [f"       -> {name}: {kind}" for name, kind in step.output_schema.items()]
            lines += [f"       ! {warning}" for warning in step.warnings]
        shape = ", ".join(f"{name}: {kind}" for name, kind in self.final_context_shape.items())
        lines.append(f"Context at the end: {shape or 'empty'}")
        return "\n".join(lines)
