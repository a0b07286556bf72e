"""Checkpointers of one's own: what they raise, how they are called, in which order, and that they never hold the loop."""

import asyncio
import threading
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import Checkpointer, ExecutionSnapshot, InMemoryCheckpointer
from lanes_under_test import Recorder, number_tool
from parity_scenarios import dag, linear, node, step
from resume_under_test import LANES, Calls, execute, make_executor, only_trace, resume, snapshot

ON_BOTH_LANES = pytest.mark.parametrize("lane", LANES)
CONCURRENCY = pytest.mark.parametrize("concurrency", [1, 2, 8])
CHAIN = linear(step("a"), step("b"))
LEVELS = dag(node("a", "a"), node("b", "b", after="a", source="a"))


class Notes:
    """A checkpointer that writes down how it is called; has nothing but what the protocol asks for."""

    def __init__(self, failing: str = "", error: BaseException | None = None) -> None:
        self.failing, self.error = failing, error
        self.kept: dict[str, ExecutionSnapshot] = {}
        self.calls: list[tuple[Any, ...]] = []

    def _note(self, method: str, *what: Any) -> None:
        self.calls.append((method, *what))
        if method == self.failing and self.error is not None:
            raise self.error

    def save(self, snapshot: ExecutionSnapshot) -> Any:
        done = snapshot.completed_steps or snapshot.completed_dag_levels
        self._note("save", done, len(snapshot.execution_log))
        self.kept[snapshot.trace_id] = snapshot

    def load(self, trace_id: str) -> Any:
        self._note("load")
        return self.kept.get(trace_id)

    def delete(self, trace_id: str) -> Any:
        self._note("delete")
        self.kept.pop(trace_id, None)

    def list_trace_ids(self) -> list[str]:
        return sorted(self.kept)


class AsyncNotes(Notes):
    async def save(self, snapshot: ExecutionSnapshot) -> None:
        await asyncio.sleep(0)
        super().save(snapshot)

    async def load(self, trace_id: str) -> ExecutionSnapshot | None:
        await asyncio.sleep(0)
        loaded: ExecutionSnapshot | None = super().load(trace_id)
        return loaded

    async def delete(self, trace_id: str) -> None:
        await asyncio.sleep(0)
        super().delete(trace_id)


class AsyncInline(AsyncNotes):
    inline = True


class AsyncMemory(InMemoryCheckpointer):
    """A subclass of the store in memory whose methods are coroutine functions."""

    async def save(self, snapshot: ExecutionSnapshot) -> None:  # type: ignore[override]  # the executor awaits what it gets
        await asyncio.sleep(0)
        super().save(snapshot)

    async def load(self, trace_id: str) -> ExecutionSnapshot | None:  # type: ignore[override]  # it awaits this too
        await asyncio.sleep(0)
        return super().load(trace_id)


KINDS = pytest.mark.parametrize("kind", [Notes, AsyncNotes, AsyncInline, AsyncMemory])


@ON_BOTH_LANES
@CONCURRENCY
@KINDS
@pytest.mark.parametrize("flow", [CHAIN, LEVELS], ids=["linear", "dag"])
def test_plain_and_coroutine_methods_do(lane: str, concurrency: int, kind: Any, flow: dw.AnyFlow) -> None:
    store, calls = kind(), Calls(broken=["b"])
    assert isinstance(store, Checkpointer)
    executor = make_executor([flow], calls.tools("a b"), checkpointer=store, max_step_concurrency=concurrency)
    failed = execute(lane, executor)
    (trace_id,) = store.list_trace_ids()
    calls.broken.clear()
    result = resume(lane, executor, trace_id)
    assert (result.success, result.trace_id, calls.names) == (True, failed.trace_id, ["a", "b", "b"])
    assert store.list_trace_ids() == []
    if isinstance(store, Notes):
        assert store.calls == [("save", 1, 1), ("load",), ("save", 2, 2), ("delete",)]


@ON_BOTH_LANES
def test_without_has_a_store_says_not_found(lane: str) -> None:
    with pytest.raises(dw.CheckpointNotFoundError, match=r"^No snapshot found for trace_id 't'\.$") as caught:
        resume(lane, make_executor([CHAIN], [], checkpointer=Notes()), "t")
    assert not isinstance(caught.value, dw.CheckpointCorruptError)


@ON_BOTH_LANES
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_dev_36_with_has_a_store_tells_unreadable_from_not_there(lane: str, asynchronous: bool, there: bool) -> None:
    class Knows(Notes):
        def has(self, trace_id: str) -> Any:
            async def answer() -> bool:
                return there

            return answer() if asynchronous else there

        def __repr__(self) -> str:
            return "<a shelf>"

    with pytest.raises(dw.CheckpointNotFoundError) as caught:
        resume(lane, make_executor([CHAIN], [], checkpointer=Knows()), "t")
    assert isinstance(caught.value, dw.CheckpointCorruptError) == there
    assert getattr(caught.value, "path", None) == ("<a shelf>" if there else None)


@ON_BOTH_LANES
@CONCURRENCY
@pytest.mark.parametrize("flow", [CHAIN, LEVELS], ids=["linear", "dag"])
@pytest.mark.parametrize("kind", [Notes, AsyncNotes])
@pytest.mark.parametrize(("method", "records"), [("save", 1), ("delete", 2)])
def test_what_a_store_raises_leaves_the_run_after_its_partial_result(
    lane: str, concurrency: int, flow: dw.AnyFlow, kind: Any, method: str, records: int
) -> None:
    error = OSError("disk full")
    store, recorder, calls = kind(method, error), Recorder(), Calls()
    executor = make_executor(
        [flow], calls.tools("a b"), checkpointer=store, middleware=[recorder], max_step_concurrency=concurrency
    )
    with pytest.raises(OSError, match="disk full") as caught:
        execute(lane, executor)
    assert caught.value is error
    ends = [call[2] for call in recorder.calls if call[0] == "flow_end"]
    assert [(end["success"], end["final_output"], len(end["execution_log"])) for end in ends] == [
        (False, None, records)
    ]
    assert recorder.calls[-1][0] == "flow_end"


@ON_BOTH_LANES
@pytest.mark.parametrize("kind", [Notes, AsyncNotes])
def test_what_a_store_raises_at_load_comes_before_any_hook(lane: str, kind: Any) -> None:
    error, recorder, calls = OSError("no such share"), Recorder(), Calls()
    store = kind("load", error)
    executor = make_executor([CHAIN], calls.tools("a b"), checkpointer=store, middleware=[recorder])
    with pytest.raises(OSError, match="no such share") as caught:
        resume(lane, executor, "t")
    assert caught.value is error
    assert (recorder.calls, calls.names, store.calls) == ([], [], [("load",)])


@ON_BOTH_LANES
def test_a_base_exception_of_a_store_leaves_the_run_the_same_way(lane: str) -> None:
    class Leave(BaseException):
        pass

    recorder = Recorder()
    executor = make_executor([CHAIN], Calls().tools("a b"), checkpointer=Notes("save", Leave()), middleware=[recorder])
    with pytest.raises(Leave):
        execute(lane, executor)
    assert [call[0] for call in recorder.calls] == ["flow_start", "step_start", "step_end", "flow_end"]


@ON_BOTH_LANES
def test_what_a_store_raises_below_a_parent_closes_the_hooks_of_both(lane: str) -> None:
    recorder = Recorder()
    flows = [linear(dw.FlowStep(flow_name="inner")), linear(step("a"), name="inner")]
    store = Notes("save", OSError("disk full"))
    executor = make_executor(flows, Calls().tools("a"), checkpointer=store, middleware=[recorder])
    with pytest.raises(OSError, match="disk full"):
        execute(lane, executor)
    assert [call[1] for call in recorder.calls if call[0] == "flow_end"] == ["inner", "main"]


@ON_BOTH_LANES
@CONCURRENCY
@pytest.mark.parametrize("kind", [Notes, AsyncNotes])
def test_saves_come_in_the_order_of_the_levels_one_at_a_time(lane: str, concurrency: int, kind: Any) -> None:
    """The slow step of the first level ends when the fast branch has come to its end, if that can run ahead of it."""
    ahead = threading.Event()
    if concurrency == 1:
        ahead.set()

    def slow(v: Any) -> dict[str, int]:
        assert ahead.wait(timeout=10)
        return {"n": v.n}

    def last(v: Any) -> dict[str, int]:
        ahead.set()
        return {"n": v.n}

    calls = Calls()
    flow = dag(
        node("s", "slow"),
        node("a", "a"),
        node("b", "a", after="a", source="a"),
        node("c", "a", after="b", source="b"),
        node("d", "last", after="c", source="c"),
    )
    tools = [number_tool("slow", slow), calls.tool("a"), number_tool("last", last)]
    store = kind()
    executor = make_executor([flow], tools, checkpointer=store, max_step_concurrency=concurrency)
    assert execute(lane, executor).final_output == {"n": 1, "s": 1, "a": 2, "b": 3, "c": 4, "d": 4}
    assert store.calls == [("save", 1, 2), ("save", 2, 3), ("save", 3, 4), ("save", 4, 5), ("delete",)]


@ON_BOTH_LANES
@CONCURRENCY
def test_every_snapshot_is_the_same_at_any_concurrency(lane: str, concurrency: int) -> None:
    class Keeps(Notes):
        def save(self, snapshot: ExecutionSnapshot) -> None:
            super().save(snapshot)
            all_of_them.append((dict(snapshot.context), [r.step_index for r in snapshot.execution_log]))

    all_of_them: list[Any] = []
    flow = dag(node("a", "a"), node("b", "a"), node("c", "a", after="a", source="a"), node("d", "a", after="b c"))
    executor = make_executor([flow], Calls().tools("a"), checkpointer=Keeps(), max_step_concurrency=concurrency)
    execute(lane, executor)
    assert all_of_them == [
        ({"n": 1, "a": 2, "b": 2}, [0, 1]),
        ({"n": 1, "a": 2, "b": 2, "c": 3}, [0, 1, 2]),
        ({"n": 1, "a": 2, "b": 2, "c": 3, "d": 2}, [0, 1, 2, 3]),
    ]


@ON_BOTH_LANES
def test_a_subclass_of_the_store_in_memory_is_given_every_snapshot(lane: str) -> None:
    class Counts(InMemoryCheckpointer):
        def save(self, snapshot: ExecutionSnapshot) -> None:
            seen.append(snapshot.completed_steps)
            super().save(snapshot)

    seen: list[int] = []
    store = Counts()
    executor = make_executor([CHAIN], Calls().tools("a b"), checkpointer=store, delete_on_success=False)
    execute(lane, executor)
    kept = store.load(only_trace(store))
    assert kept is not None
    assert (seen, kept.completed_steps) == ([1, 2], 2)


class Patient(InMemoryCheckpointer):
    """A store that blocks in every method until the loop lets it go on."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.entered: asyncio.Queue[str] = asyncio.Queue()
        self.turns = {name: threading.Event() for name in ("save", "load", "delete")}

    def _wait(self, name: str) -> None:
        self._loop.call_soon_threadsafe(self.entered.put_nowait, name)
        assert self.turns[name].wait(timeout=10)

    def save(self, snapshot: ExecutionSnapshot) -> None:
        self._wait("save")
        super().save(snapshot)

    def load(self, trace_id: str) -> ExecutionSnapshot | None:
        self._wait("load")
        return super().load(trace_id)

    def delete(self, trace_id: str) -> None:
        self._wait("delete")
        super().delete(trace_id)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_store_that_blocks_leaves_the_loop_free(concurrency: int) -> None:
    store = Patient()
    InMemoryCheckpointer.save(store, snapshot(flow_version="1.0"))
    executor = make_executor([LEVELS], Calls().tools("a b"), checkpointer=store, max_step_concurrency=concurrency)
    run = asyncio.create_task(executor.resume_flow_async("t"))
    for name in ("load", "save", "save", "delete"):
        assert await asyncio.wait_for(store.entered.get(), timeout=10) == name
        assert not run.done()
        store.turns[name].set()
    assert (await run).final_output == {"n": 1, "a": 2, "b": 3}
    assert store.entered.empty()


async def test_cancelling_the_task_during_a_save_ends_the_run_once() -> None:
    store, recorder = Patient(), Recorder()
    executor = make_executor([CHAIN], Calls().tools("a b"), checkpointer=store, middleware=[recorder])
    run = asyncio.create_task(executor.execute_flow_async("main", {"n": 1}))
    assert await asyncio.wait_for(store.entered.get(), timeout=10) == "save"
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    store.turns["save"].set()
    assert [call[0] for call in recorder.calls] == ["flow_start", "step_start", "step_end", "flow_end"]
    assert recorder.calls[-1][2]["success"] is False
