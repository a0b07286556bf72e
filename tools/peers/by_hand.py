"""The step for libraries that hand plain values from step to step: it validates what it is given and what it returns."""

from typing import Any

from bench_floors import Value, increment, increment_awaited


def step(x: Any) -> int:
    given = Value.model_validate({"x": x})
    output: int = Value.model_validate(increment(given)).model_dump()["x"]
    return output


async def step_awaited(x: Any) -> int:
    given = Value.model_validate({"x": x})
    output: int = Value.model_validate(await increment_awaited(given)).model_dump()["x"]
    return output
