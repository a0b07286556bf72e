"""Cancellation of runs whose levels overlap, and of flows that are tools."""

import threading
from typing import Any

import pytest

import doubleweave as dw
from executors_under_test import concurrencies, execute, lanes, make_executor
from lanes_under_test import number_tool
from parity_scenarios import dag, inc, linear, node, step
from test_cancellation import Stage, assert_cancelled, either


class Overlap:
    """Of `first` and `slow` in one level, `slow` ends when the run has been stopped; `next` depends on `first` alone."""

    def __init__(self, fails: bool, late: bool) -> None:
        self.stopped, self.fails, self.late = threading.Event(), fails, late
        self.called: list[str] = []
        flow = dag(
            node("a", "first"),
            node("b", "slow"),
            node("c", "next", after="a", source="a"),
            node("d", "last", after="c", source="c"),
        )
        self.stage = Stage([flow], None, 2)
        for name, fn in {"first": self.first, "slow": self.slow, "next": self.next, "last": self.last}.items():
            self.stage.executor.register_tool(number_tool(name, fn))

    def first(self, v: Any) -> dict[str, int]:
        if not self.late:
            self.stage.stop.now()
            self.stopped.set()
        return {"n": v.n}

    def slow(self, v: Any) -> dict[str, int]:
        self.called.append("slow")
        assert self.stopped.wait(timeout=10)
        if self.fails:
            raise ValueError("too slow")
        return {"n": v.n}

    def next(self, v: Any) -> dict[str, int]:
        self.called.append("next")
        if self.late:
            self.stage.stop.now()
            self.stopped.set()
        return {"n": v.n}

    def last(self, v: Any) -> dict[str, int]:
        self.called.append("last")
        return {"n": v.n}


@lanes
@either
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_7_2_dev_34_with_overlapping_levels_it_is_as_if_they_ran_one_by_one(
    late: bool, fails: bool, kind: str, lane: str
) -> None:
    """The check of a level comes before its first step; what runs in earlier levels is waited for and may yet fail."""
    overlap = Overlap(fails, late)
    outcome = overlap.stage.run(lane, kind)
    assert sorted(overlap.called) == (["next", "slow"] if late else ["slow"])
    if fails:
        assert [(r.step_index, r.error_type) for r in outcome.execution_log] == [(0, None), (1, "FlowExecutionError")]
    else:
        index = 3 if late else 2
        assert_cancelled(outcome, "main", index, kind, list(range(index)))
    assert [call[0] for call in overlap.stage.hooks.calls].count("flow_end") == 1


@lanes
@either
@pytest.mark.parametrize("fails", [False, True])
def test_7_2_dev_34_what_precedes_the_level_is_still_started(fails: bool, kind: str, lane: str) -> None:
    """The check of the last level fires while a step of the level before it waits for a slow one; that step still counts."""
    stopped = threading.Event()
    flow = dag(
        node("a", "fresh"),
        node("b", "slow"),
        node("c", "stops", after="a", source="a"),
        node("d", "late", after="b", source="b"),
        node("e", "never", after="c", source="c"),
    )
    stage = Stage([flow], None, 2)

    def slow(v: Any) -> dict[str, int]:
        assert stopped.wait(timeout=10)
        return {"n": v.n}

    def stops(v: Any) -> dict[str, int]:
        stage.stop.now()
        return {"n": v.n}

    def late(v: Any) -> dict[str, int]:
        if fails:
            raise ValueError("too late")
        return {"n": v.n}

    class Told(dw.BaseMiddleware):
        def on_step_end(self, ctx: dw.StepEndContext) -> None:
            if ctx.step_record.tool_name == "stops":
                stopped.set()

    stage.executor.add_middleware(Told())
    for name, fn in {"slow": slow, "stops": stops, "late": late}.items():
        stage.executor.register_tool(number_tool(name, fn))
    outcome = stage.run(lane, kind)
    if fails:
        assert [(r.step_index, r.success) for r in outcome.execution_log] == [
            (0, True),
            (1, True),
            (2, True),
            (3, False),
        ]
    else:
        assert_cancelled(outcome, "main", 4, kind, [0, 1, 2, 3])


@lanes
@concurrencies
@pytest.mark.parametrize("timeout", [None, 30.0])
def test_6_4_token_and_deadline_are_not_forwarded_to_a_flow_behind_a_tool(
    timeout: float | None, concurrency: int, lane: str
) -> None:
    token = dw.CancellationToken()

    def stop(v: Any) -> dict[str, int]:
        token.cancel()
        return {"n": v.n}

    inner = linear(step("stop"), step("inc"), name="inner")
    executor = make_executor(
        [dag(node("a", "wrapped"), node("b", "inc", after="a")), inner],
        [number_tool("stop", stop), number_tool("inc", inc)],
        max_step_concurrency=concurrency,
    )
    wrapped = dw.Tool.from_flow(inner, executor, name="wrapped")
    wrapped.timeout_seconds = timeout
    executor.register_tool(wrapped)
    with pytest.raises(dw.FlowCancelledError) as caught:
        execute(executor, lane, cancel_token=token)
    assert_cancelled(caught.value, "main", 1, "token", [0])
    assert caught.value.result.execution_log[0].outputs == {"n": 2}
    assert caught.value.__cause__ is None
