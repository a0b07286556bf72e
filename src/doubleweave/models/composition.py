"""Checks of the tree of sub-flows below a flow."""

from doubleweave.errors import FlowCompositionError, FlowNotFoundError
from doubleweave.models.flows import AnyFlow
from doubleweave.models.registry import FlowRegistry


def validate_composition(registry: FlowRegistry, root: AnyFlow, max_depth: int) -> None:
    """Check every flow that `root` refers to, directly or through others, in its latest version.

    Raises:
        FlowCompositionError: A flow contains itself (`cycle`), the nesting is deeper than `max_depth` flows below the root
            (`max_depth_exceeded`), or a flow is not registered (`unknown_flow`).
    """
    # A flow that passed on a path of this length also passes on every shorter one: this keeps repeated references cheap.
    passed: dict[str, int] = {}

    def visit(flow: AnyFlow, path: tuple[str, ...]) -> None:
        for step in flow.steps:
            name = step.flow_name
            if name is None or getattr(step, "step_type", "tool") == "capability":
                continue
            if name in path:
                chain = " -> ".join((*path[path.index(name) :], name))
                raise FlowCompositionError(root.name, "cycle", f"{chain}. Remove one of these sub-flow steps.")
            if len(path) > max_depth:
                chain = " -> ".join((*path, name))
                detail = f"{chain} is nested deeper than max_composition_depth={max_depth}."
                raise FlowCompositionError(root.name, "max_depth_exceeded", detail)
            if passed.get(name, 0) >= len(path):
                continue
            visit(_latest(name, flow), (*path, name))
            passed[name] = len(path)

    def _latest(name: str, parent: AnyFlow) -> AnyFlow:
        try:
            return registry.get_flow(name)
        except FlowNotFoundError as error:
            detail = f"flow '{parent.name}' refers to '{name}', which is not registered."
            raise FlowCompositionError(root.name, "unknown_flow", detail) from error

    visit(root, (root.name,))
