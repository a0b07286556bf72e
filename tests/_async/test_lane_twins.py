# The one hand-written source of both lanes; edit here and run "make generate".
"""What the other lane tests rest on: things start at once, the end waits for all, no error is lost, nothing hangs."""

from contextvars import ContextVar
from typing import Any

import pytest

from lane_twins import AsyncBarrier, AsyncEvent, AsyncTaskGroup

MARK: ContextVar[int] = ContextVar("MARK")


async def test_all_run_at_once_and_the_end_waits_for_them() -> None:
    barrier = AsyncBarrier(3)

    async def meet(number: int, *, plus: int) -> int:
        await barrier.wait()
        return number + plus

    async with AsyncTaskGroup() as group:
        started = [group.start(meet, number, plus=10) for number in range(3)]
    assert [one.result() for one in started] == [10, 11, 12]


async def test_every_error_is_raised_and_the_others_finish() -> None:
    go = AsyncEvent()

    async def fail(number: int) -> None:
        raise ValueError(number)

    async def last() -> str:
        await go.wait()
        return "finished"

    async def begin() -> None:
        async with AsyncTaskGroup() as group:
            finished.append(group.start(last))
            group.start(fail, 1)
            group.start(fail, 2)
            go.set()
            raise KeyError(3)

    finished: list[Any] = []
    with pytest.raises(BaseExceptionGroup) as raised:
        await begin()
    assert [repr(error) for error in raised.value.exceptions] == ["KeyError(3)", "ValueError(1)", "ValueError(2)"]
    assert finished[0].result() == "finished"


async def test_each_starts_in_a_copy_of_the_context() -> None:
    async def mark(number: int) -> tuple[int, int]:
        seen = MARK.get()
        MARK.set(number)
        return seen, MARK.get()

    MARK.set(0)
    async with AsyncTaskGroup() as group:
        started = [group.start(mark, number) for number in (1, 2)]
    assert [one.result() for one in started] == [(0, 1), (0, 2)]
    assert MARK.get() == 0


async def test_what_never_comes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lane_twins.PATIENCE", 0.01)
    with pytest.raises(TimeoutError):
        await AsyncEvent().wait()
    with pytest.raises(TimeoutError):
        await AsyncBarrier(2).wait()
