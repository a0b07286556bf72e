"""Burr: a state machine of actions on a typed state, which it validates on the way into an action and out of it; no DAGs."""

from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

from burr.core import ApplicationBuilder, action
from burr.integrations.pydantic import PydanticTypingSystem

from bench_floors import Value, increment, increment_awaited


def chain(length: int) -> Callable[[Any], Any]:
    start, last = _starter(length, _act)
    return lambda x: start(x).run(halt_after=[last])[2].data.x


def chain_awaited(length: int) -> Callable[[Any], Awaitable[Any]]:
    start, last = _starter(length, _act_awaited)

    async def run(x: Any) -> Any:
        return (await start(x).arun(halt_after=[last]))[2].data.x

    return run


def _act(state: Value) -> Value:
    state.x = increment(state)["x"]
    return state


async def _act_awaited(state: Value) -> Value:
    state.x = (await increment_awaited(state))["x"]
    return state


def _starter(length: int, function: Callable[..., Any]) -> tuple[Callable[[Any], Any], str]:
    act = action.pydantic(reads=["x"], writes=["x"])(function)
    names = [f"n{index}" for index in range(length)]
    builder = ApplicationBuilder().with_actions(**dict.fromkeys(names, act)).with_transitions(*pairwise(names))
    typing = PydanticTypingSystem(Value)
    graph = builder.with_entrypoint(names[0]).with_typing(typing).with_state(Value(x=0)).build().graph

    def start(x: Any) -> Any:
        # An application keeps its place, so each run has one of its own, on the graph that was built once.
        application = ApplicationBuilder().with_graph(graph).with_entrypoint(names[0])
        return application.with_typing(typing).with_state(Value.model_validate({"x": x})).build()

    return start, names[-1]
