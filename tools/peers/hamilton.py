"""Hamilton: functions whose parameters name what they depend on; plain values, so each step validates by hand."""

import sys
from collections.abc import Awaitable, Callable
from inspect import Parameter, Signature
from typing import Any

from hamilton import async_driver, base, driver
from hamilton.ad_hoc_utils import create_temporary_module

from bench_floors import Level
from peers.by_hand import step, step_awaited


def chain(length: int) -> Callable[[Any], Any]:
    return _blocking(_one_a_level(length))


def chain_awaited(length: int) -> Callable[[Any], Awaitable[Any]]:
    return _awaited(_one_a_level(length))


def layers(shape: list[Level]) -> Callable[[Any], Any]:
    return _blocking(shape)


def layers_awaited(shape: list[Level]) -> Callable[[Any], Awaitable[Any]]:
    return _awaited(shape)


def _one_a_level(length: int) -> list[Level]:
    # It walks the graph recursively.
    sys.setrecursionlimit(20 * length + 5000)
    names = ["x", *(f"n{index}" for index in range(length))]
    return [[(names[index], names[index + 1])] for index in range(length)]


def _node(origin: str, target: str, before: list[str], awaited: bool) -> Callable[..., Any]:
    """Return a function that is called as its node is and has a parameter for each dependency."""

    def node(**values: int) -> int:
        return step(values[origin])

    async def node_awaited(**values: int) -> int:
        return await step_awaited(values[origin])

    function: Callable[..., Any] = node_awaited if awaited else node
    function.__name__ = target
    function.__annotations__ = {**dict.fromkeys(before, int), "return": int}
    parameters = [Parameter(name, Parameter.KEYWORD_ONLY, annotation=int) for name in before]
    vars(function)["__signature__"] = Signature(parameters, return_annotation=int)
    return function


def _nodes(shape: list[Level], awaited: bool) -> Any:
    functions = []
    before = ["x"]
    for level in shape:
        functions += [_node(origin, target, before, awaited) for origin, target in level]
        before = [target for _, target in level]
    return create_temporary_module(*functions, module_name=f"flow_{id(functions)}")


def _blocking(shape: list[Level]) -> Callable[[Any], Any]:
    adapter = base.SimplePythonGraphAdapter(base.DictResult())
    graph, last = driver.Driver({}, _nodes(shape, False), adapter=adapter), shape[-1][-1][1]
    return lambda x: graph.execute([last], inputs={"x": x})[last]


def _awaited(shape: list[Level]) -> Callable[[Any], Awaitable[Any]]:
    nodes, last = _nodes(shape, True), shape[-1][-1][1]
    graph = async_driver.AsyncDriver({}, nodes, result_builder=base.DictResult())

    async def run(x: Any) -> Any:
        return (await graph.execute([last], inputs={"x": x}))[last]

    return run
