"""LangGraph: a state that nodes update; a pydantic state is checked on the way into a node, not on the way out."""

import operator
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from bench_floors import Level, Value, increment, increment_awaited
from peers.by_hand import step, step_awaited


class Values(TypedDict):
    """The values of a DAG, merged."""

    values: Annotated[dict[str, Any], operator.or_]


def chain(length: int) -> Callable[[Any], Any]:
    graph, settings = _chain(length, _node), {"recursion_limit": length + 10}
    return lambda x: graph.invoke({"x": x}, settings)["x"]


def chain_awaited(length: int) -> Callable[[Any], Awaitable[Any]]:
    graph, settings = _chain(length, _node_awaited), {"recursion_limit": length + 10}

    async def run(x: Any) -> Any:
        return (await graph.ainvoke({"x": x}, settings))["x"]

    return run


def layers(shape: list[Level]) -> Callable[[Any], Any]:
    graph, settings = _layers(shape, _member), {"recursion_limit": len(shape) + 10}
    return lambda x: graph.invoke({"values": {"x": x}}, settings)["values"][shape[-1][-1][1]]


def layers_awaited(shape: list[Level]) -> Callable[[Any], Awaitable[Any]]:
    graph, settings = _layers(shape, _member_awaited), {"recursion_limit": len(shape) + 10}

    async def run(x: Any) -> Any:
        return (await graph.ainvoke({"values": {"x": x}}, settings))["values"][shape[-1][-1][1]]

    return run


def _node(state: Value) -> dict[str, Any]:
    return Value.model_validate(increment(state)).model_dump()


async def _node_awaited(state: Value) -> dict[str, Any]:
    return Value.model_validate(await increment_awaited(state)).model_dump()


def _member(state: Values, source: str, target: str) -> Any:
    return {"values": {target: step(state["values"][source])}}


async def _member_awaited(state: Values, source: str, target: str) -> Any:
    return {"values": {target: await step_awaited(state["values"][source])}}


def _chain(length: int, node: Callable[[Any], Any]) -> Any:
    graph = StateGraph(Value)
    names = [f"n{index}" for index in range(length)]
    for name in names:
        graph.add_node(name, node)
    for before, after in pairwise([START, *names, END]):
        graph.add_edge(before, after)
    return graph.compile()


def _layers(shape: list[Level], member: Callable[..., Any]) -> Any:
    graph = StateGraph(Values)
    before: Any = START
    for level in shape:
        for source, target in level:
            graph.add_node(target, partial(member, source=source, target=target))
            graph.add_edge(before, target)
        before = [target for _, target in level]
    graph.add_edge(before, END)
    return graph.compile()
