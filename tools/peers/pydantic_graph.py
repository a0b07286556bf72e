"""pydantic-graph: awaited steps joined by edges; it validates nothing, so each step does by hand."""

from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

from pydantic_graph import GraphBuilder, StepContext, reduce_list_append

from bench_floors import Level
from peers.by_hand import step, step_awaited


def chain(length: int) -> Callable[[Any], Any]:
    graph = _chain(length, _node)
    return lambda x: graph.run_sync(inputs=x)


def chain_awaited(length: int) -> Callable[[Any], Awaitable[Any]]:
    graph = _chain(length, _node_awaited)
    return lambda x: graph.run(inputs=x)


def layers(shape: list[Level]) -> Callable[[Any], Any]:
    graph = _layers(shape, _node)
    return lambda x: graph.run_sync(inputs=x)


def layers_awaited(shape: list[Level]) -> Callable[[Any], Awaitable[Any]]:
    graph = _layers(shape, _node_awaited)
    return lambda x: graph.run(inputs=x)


async def _node(ctx: StepContext[None, None, int]) -> int:
    return step(ctx.inputs)


async def _node_awaited(ctx: StepContext[None, None, int]) -> int:
    return await step_awaited(ctx.inputs)


def _chain(length: int, node: Callable[..., Any]) -> Any:
    graph = GraphBuilder(input_type=int, output_type=int)
    steps = [graph.step(node, node_id=f"n{index}") for index in range(length)]
    graph.add(*(graph.edge_from(a).to(b) for a, b in pairwise([graph.start_node, *steps, graph.end_node])))
    return graph.build()


def _layers(shape: list[Level], node: Callable[..., Any]) -> Any:
    """Return a graph that maps a step over the values of the level before, and joins what they return, level by level."""
    graph = GraphBuilder(input_type=int, output_type=int)

    async def spread(ctx: StepContext[None, None, int]) -> list[int]:
        return [ctx.inputs] * len(shape[0])

    async def last(ctx: StepContext[None, None, list[int]]) -> int:
        value: int = ctx.inputs[-1]
        return value

    before: Any = graph.step(spread, node_id="spread")
    graph.add(graph.edge_from(graph.start_node).to(before))
    for index in range(len(shape)):
        mapped = graph.step(node, node_id=f"level{index}")
        joined = graph.join(reduce_list_append, initial_factory=list, node_id=f"join{index}")
        graph.add(graph.edge_from(before).map().to(mapped), graph.edge_from(mapped).to(joined))
        before = joined
    end = graph.step(last, node_id="last")
    graph.add(graph.edge_from(before).to(end), graph.edge_from(end).to(graph.end_node))
    return graph.build()
