# Generated from tests/_async/test_lane_twins.py by "make generate". Do not edit.
"""What the other lane tests rest on: things start at once, the end waits for all, no error is lost, nothing hangs."""

from contextvars import ContextVar
from typing import Any

import pytest

from lane_twins import SyncBarrier, SyncEvent, SyncTaskGroup

MARK: ContextVar[int] = ContextVar("MARK")


def test_all_run_at_once_and_the_end_waits_for_them() -> None:
    barrier = SyncBarrier(3)

    def meet(number: int, *, plus: int) -> int:
        barrier.wait()
        return number + plus

    with SyncTaskGroup() as group:
        started = [group.start(meet, number, plus=10) for number in range(3)]
    assert [one.result() for one in started] == [10, 11, 12]


def test_every_error_is_raised_and_the_others_finish() -> None:
    go = SyncEvent()

    def fail(number: int) -> None:
        raise ValueError(number)

    def last() -> str:
        go.wait()
        return "finished"

    def begin() -> None:
        with SyncTaskGroup() as group:
            finished.append(group.start(last))
            group.start(fail, 1)
            group.start(fail, 2)
            go.set()
            raise KeyError(3)

    finished: list[Any] = []
    with pytest.raises(BaseExceptionGroup) as raised:
        begin()
    assert [repr(error) for error in raised.value.exceptions] == ["KeyError(3)", "ValueError(1)", "ValueError(2)"]
    assert finished[0].result() == "finished"


def test_each_starts_in_a_copy_of_the_context() -> None:
    def mark(number: int) -> tuple[int, int]:
        seen = MARK.get()
        MARK.set(number)
        return seen, MARK.get()

    MARK.set(0)
    with SyncTaskGroup() as group:
        started = [group.start(mark, number) for number in (1, 2)]
    assert [one.result() for one in started] == [(0, 1), (0, 2)]
    assert MARK.get() == 0


def test_what_never_comes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lane_twins.PATIENCE", 0.01)
    with pytest.raises(TimeoutError):
        SyncEvent().wait()
    with pytest.raises(TimeoutError):
        SyncBarrier(2).wait()
