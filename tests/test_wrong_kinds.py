"""What is no flow, tool or status is refused by name, and nothing has changed."""

from typing import Any

import pytest

from doubleweave import AsyncFlowExecutor, Flow, FlowExecutor, FlowRegistry, FlowStatus, FlowStep


@pytest.mark.parametrize("thing", ["x", None, 5, {"name": "x"}])
def test_what_is_no_flow_is_not_registered(thing: Any) -> None:
    registry = FlowRegistry()
    with pytest.raises(TypeError, match="register_flow takes a Flow or a DAGFlow, not "):
        registry.register_flow(thing)
    assert len(registry) == 0


@pytest.mark.parametrize("kind", [FlowExecutor, AsyncFlowExecutor])
@pytest.mark.parametrize("thing", ["x", None, 5, print])
def test_what_is_no_tool_is_not_registered(kind: Any, thing: Any) -> None:
    executor = kind(FlowRegistry())
    with pytest.raises(TypeError, match="register_tool takes a Tool, not "):
        executor.register_tool(thing)
    assert executor.registered_tools == {}


def test_a_status_that_does_not_exist_is_refused_with_those_that_do() -> None:
    registry = FlowRegistry()
    registry.register_flow(Flow(name="f", description="", steps=[FlowStep(tool_name="t")]))
    with pytest.raises(ValueError, match="Flow 'f': 'asleep' is no status; take one of 'active'"):
        registry.set_flow_status("f", "asleep")  # type: ignore[arg-type]  # what is refused
    assert registry.get_flow("f").status == FlowStatus.ACTIVE


def test_a_status_may_be_given_by_its_value() -> None:
    registry = FlowRegistry()
    registry.register_flow(Flow(name="f", description="", steps=[FlowStep(tool_name="t")]))
    registry.set_flow_status("f", "disabled")  # type: ignore[arg-type]  # its value
    assert registry.get_flow("f").status is FlowStatus.DISABLED
