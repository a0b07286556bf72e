"""What steps in flight meet when another one fails or raises."""

import asyncio
import threading
import time
from typing import Any

import pytest

import doubleweave as dw
from executors_under_test import execute, lanes, make_executor
from lanes_under_test import Recorder, number_tool
from parity_scenarios import ASKS, WRITES, dag, inc, node


class Left(BaseException):
    pass


# How a step fails before it has waited for anything: its fields, the executor's settings, and what its record says.
AT_ONCE: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("mapping", {"source": "gone"}, {}, "InputMappingError"),
    ("tool", {"tool": "gone"}, {}, "ToolNotFoundError"),
    ("contract", {"input_contract": "parity_scenarios:Strict"}, {}, "SchemaValidationError"),
    ("gate", {"tool": "asks"}, {"strict_safety": True}, "ApprovalDeniedError"),
    ("ceiling", {"tool": "write"}, {"max_side_effect_level": dw.SideEffectLevel.READ}, "SafetyCeilingError"),
    ("tool input", {"input_mapping": {"n": 1.5}}, {}, "SchemaValidationError"),
]


@lanes
@pytest.mark.parametrize("concurrency", [1, 2, 8])
@pytest.mark.parametrize(("fields", "settings", "error"), [row[1:] for row in AT_ONCE], ids=[row[0] for row in AT_ONCE])
def test_5_6_nothing_starts_after_a_step_that_failed_at_once(
    fields: dict[str, Any], settings: dict[str, Any], error: str, concurrency: int, lane: str
) -> None:
    called: list[int] = []

    def note(v: Any) -> dict[str, int]:
        called.append(v.n)
        return {"n": v.n}

    hooks = Recorder()
    tools = [
        number_tool("inc", inc),
        number_tool("note", note),
        number_tool("asks", inc, safety=ASKS),
        number_tool("write", inc, safety=WRITES),
    ]
    executor = make_executor(
        [dag(node("a", **fields), node("b", "note"), node("c", "note"))],
        tools,
        middleware=[hooks],
        max_step_concurrency=concurrency,
        **settings,
    )
    result = execute(executor, lane)
    assert [(r.step_index, r.error_type) for r in result.execution_log] == [(0, error)]
    assert called == []
    assert [call[2] for call in hooks.calls if call[0] == "step_start"] in ([], [0])


@lanes
@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_5_6_nothing_starts_after_a_step_that_raised_at_once(concurrency: int, lane: str) -> None:
    hooks = Recorder()
    executor = make_executor(
        [dag(node("a", input_contract="nowhere:Gone"), node("b"), node("c"))],
        [number_tool("inc", inc)],
        middleware=[hooks],
        max_step_concurrency=concurrency,
    )
    with pytest.raises(dw.FlowSerializationError):
        execute(executor, lane)
    assert [call[0] for call in hooks.calls] == ["flow_start", "flow_end"]


@lanes
@pytest.mark.parametrize("asynchronous", [False, True])
def test_row_8_dev_22_an_output_mapping_error_abandons_what_is_in_flight(asynchronous: bool, lane: str) -> None:
    under_way, release, ends = threading.Event(), threading.Event(), list[str]()

    def first(v: Any) -> dict[str, int]:
        assert under_way.wait(timeout=10)
        return {"n": v.n}

    def work(v: Any) -> dict[str, int]:
        under_way.set()
        ends.append("released" if release.wait(timeout=5) else "waited for")
        return {"n": v.n}

    async def work_async(v: Any) -> dict[str, int]:
        under_way.set()
        try:
            await asyncio.sleep(5)
            ends.append("waited for")
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        return {"n": v.n}

    executor = make_executor(
        [dag(node("a", "first", output_mapping={"x": "gone"}), node("b", "work"))],
        [number_tool("first", first), number_tool("work", work_async if asynchronous else work)],
        max_step_concurrency=2,
    )
    with pytest.raises(dw.OutputMappingError):
        execute(executor, lane)
    assert ends == (["cancelled"] if asynchronous else [])
    release.set()


@lanes
def test_row_8_dev_22_a_cancelled_sibling_may_clean_up_in_peace(lane: str) -> None:
    raised, cleaning, ends = threading.Event(), threading.Event(), list[str]()

    def first(v: Any) -> dict[str, int]:
        assert cleaning.wait(timeout=10)
        return {"n": v.n}

    def second(v: Any) -> dict[str, int]:
        assert raised.wait(timeout=10)
        raise Left

    async def third(v: Any) -> dict[str, int]:
        raised.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await asyncio.sleep(0.05)  # rolling back, say
            ends.append("cleaned up")
        return {"n": v.n}

    executor = make_executor(
        [dag(node("a", "first"), node("b", "second"), node("c", "third"))],
        [number_tool("first", first), number_tool("second", second), number_tool("third", third)],
        max_step_concurrency=3,
    )
    with pytest.raises(Left):
        execute(executor, lane)
    assert ends == ["cleaned up"]


@lanes
def test_5_6_a_step_that_waits_its_turn_is_not_started_after_one_that_failed(lane: str) -> None:
    called: list[str] = []
    failed = threading.Event()

    def slow(v: Any) -> dict[str, int]:
        called.append("slow")
        assert failed.wait(10)
        return {"n": v.n}

    def fail(v: Any) -> dict[str, int]:
        called.append("fail")
        raise ValueError("no")

    def late(v: Any) -> dict[str, int]:
        called.append("late")
        return {"n": v.n}

    class Tells:
        def on_step_end(self, ctx: Any) -> None:
            if not ctx.step_record.success:
                failed.set()

    made = [number_tool(each.__name__, each) for each in (slow, fail, late)]
    flow = dag(node("a", "slow"), node("b", "fail"), node("c", "late"))
    result = execute(make_executor([flow], made, middleware=[Tells()], max_step_concurrency=2), lane)
    assert [(record.tool_name, record.success) for record in result.execution_log] == [("slow", True), ("fail", False)]
    assert sorted(called) == ["fail", "slow"]


@lanes
@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_backoff_may_be_longer_than_the_system_can_wait_at_once(
    lane: str, concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("doubleweave._lanes.performers.LONGEST_WAIT", 0.01)
    calls: list[int] = []

    def fail_once(v: Any) -> dict[str, int]:
        calls.append(v.n)
        if len(calls) == 1:
            raise OSError("not yet")
        return {"n": v.n}

    patient = dw.RetryPolicy(max_retries=1, backoff_seconds=0.05)
    flow = dag(node("a", "fail_once", retry=patient), node("b"))
    made = [number_tool("fail_once", fail_once), number_tool("inc", inc)]
    start = time.monotonic()
    result = execute(make_executor([flow], made, max_step_concurrency=concurrency), lane)
    assert result.success
    assert result.execution_log[0].retry_count == 1
    assert time.monotonic() - start >= 0.05


@lanes
def test_row_8_what_ends_together_with_a_step_that_raises_comes_to_nothing(lane: str) -> None:
    """Their outcomes are there at once, while an earlier step is still waited for: the first in flat order is raised."""
    now, last = threading.Event(), threading.Event()

    def first(v: Any) -> dict[str, int]:
        assert last.wait(timeout=10)
        return {"n": v.n}

    def leaver(name: str) -> Any:
        def leave(v: Any) -> dict[str, int]:
            assert now.wait(timeout=10)
            raise Left(name)

        return leave

    class Busy:
        """Keeps the run busy until both have ended."""

        def on_step_end(self, ctx: Any) -> None:
            now.set()
            deadline = time.monotonic() + 10
            while busy_with("-b", "-c"):
                assert time.monotonic() < deadline
            last.set()

    def busy_with(*names: str) -> bool:
        return any(thread.name.endswith(names) for thread in threading.enumerate())

    tools = [number_tool("first", first), number_tool("b", leaver("b")), number_tool("c", leaver("c"))]
    executor = make_executor(
        [dag(node("a", "first"), node("w", "b"), node("x", "c"), node("d"))],
        [*tools, number_tool("inc", inc)],
        middleware=[Busy()],
        max_step_concurrency=4,
    )
    with pytest.raises(Left, match=r"^b$"):
        execute(executor, lane)
