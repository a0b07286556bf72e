"""Flows in which every step has a tool of its own, sub-flows nested three deep; and a process that runs one and is killed.

As a program: `flows_to_interrupt.py SHAPE LANE CONCURRENCY FOLDER TOOL BOUNDARY` runs a flow with its snapshots in FOLDER
until TOOL is called and BOUNDARY steps or levels are saved, says so on its standard output, and waits to be killed.
"""

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

from doubleweave import AnyFlow, ConditionalEdge, DAGFlowStep, ExecutionSnapshot, FileCheckpointer, FlowStep, Tool
from lanes_under_test import number_tool
from parity_scenarios import dag, linear, node, step
from resume_under_test import execute, make_executor


def composed(step_id: str, flow_name: str, after: str, source: str) -> DAGFlowStep:
    return DAGFlowStep(
        step_id=step_id,
        flow_name=flow_name,
        depends_on=after.split(),
        input_mapping={"n": source},
        output_mapping={step_id: "n"},
    )


def edge(target: str, predicate: str) -> ConditionalEdge:
    return ConditionalEdge(target_step_id=target, predicate=predicate)


BELOW: list[AnyFlow] = [
    linear(step("m1"), FlowStep(flow_name="inner"), step("m2"), name="middle"),
    dag(
        node("i1", "i1"),
        composed("i2", "innermost", "i1", "i1"),
        node("i3", "i3", after="i1", source="i1"),
        node("i4", "i4", after="i2 i3", source="i2"),
        name="inner",
        on_context_collision="overwrite",
    ),
    linear(step("z1"), step("z2"), name="innermost"),
]
BRANCHING = dag(
    node("a", "a", branches=[edge("b", "a > 1000")], default_next="c"),
    node("r", "r"),
    node("b", "b", after="a"),
    node("c", "c", after="a", source="a"),
    composed("s", "middle", "r", "r"),
    node("d", "d", after="b"),
    node("e", "e", after="c s", source="s", branches=[edge("f", "s > c and e > 0")]),
    node("f", "f", after="e", source="e"),
    node("g", "g", after="e", source="e"),
    node("h", "h", after="d f g", source="f"),
)
SHAPES: dict[str, list[AnyFlow]] = {
    "linear": [
        linear(step("a"), FlowStep(flow_name="middle"), step("b"), FlowStep(flow_name="inner"), step("c")),
        *BELOW,
    ],
    "dag": [BRANCHING, *BELOW],
}
TOOLS = [*"abcdefghr", "m1", "m2", "i1", "i3", "i4", "z1", "z2"]


def tools(on_call: Callable[[str], None]) -> list[Tool]:
    """Return the tools, every second one a coroutine function; each says its name to `on_call` first."""

    def make(number: int, name: str) -> Tool:
        def plain(v: Any) -> dict[str, int]:
            on_call(name)
            return {"n": v.n * 3 + number}

        async def awaited(v: Any) -> dict[str, int]:
            on_call(name)
            await asyncio.sleep(0)
            return {"n": v.n * 3 + number}

        return number_tool(name, awaited if number % 2 else plain)

    return [make(number, name) for number, name in enumerate(TOOLS)]


def completed(snapshot: ExecutionSnapshot) -> int:
    return snapshot.completed_steps or snapshot.completed_dag_levels


def main(shape: str, lane: str, concurrency: str, folder: str, tool: str, boundary: str) -> None:
    saved = threading.Event()

    class Store(FileCheckpointer):
        def save(self, snapshot: ExecutionSnapshot) -> None:
            super().save(snapshot)
            if snapshot.flow_name == "main" and completed(snapshot) >= int(boundary):
                saved.set()

    def wait_to_be_killed(v: Any) -> dict[str, int]:
        assert saved.wait(timeout=30)
        print("ready", flush=True)
        threading.Event().wait(timeout=60)
        raise AssertionError("nobody killed this process")

    executor = make_executor(
        SHAPES[shape], tools(lambda name: None), checkpointer=Store(folder), max_step_concurrency=int(concurrency)
    )
    executor.register_tool(number_tool(tool, wait_to_be_killed))
    execute(lane, executor)


if __name__ == "__main__":
    main(*sys.argv[1:])
