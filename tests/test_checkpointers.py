"""Both checkpointers, by one contract; what a file holds and survives; values that no file can hold."""

import json
import math
import os
import pickle
import threading
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import Checkpointer, FileCheckpointer, FlowStep, InMemoryCheckpointer, Tool
from lanes_under_test import Anything, Number, Recorder, number_tool
from parity_scenarios import inc, linear, step
from resume_under_test import LANES, NOW, Calls, execute, make_executor, only_trace, record, resume, snapshot

Store = InMemoryCheckpointer | FileCheckpointer
ON_BOTH_LANES = pytest.mark.parametrize("lane", LANES)


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return InMemoryCheckpointer() if request.param == "memory" else FileCheckpointer(tmp_path / "snapshots")


def rich_snapshot() -> dw.ExecutionSnapshot:
    inner = dw.ExecutionResult(
        flow_name="inner",
        flow_version="1",
        success=True,
        final_output={"deep": [{"x": None}]},
        execution_log=[record(skipped=True)],
        trace_id="u",
        started_at=NOW,
        ended_at=NOW,
        total_duration_ms=2.5,
        cost_report=dw.compute_cost_report(steps_executed=1, actual_execution_ms=2.5),
    )
    choice = dw.DecisionRecord(candidates=["a", "b"], chosen="b", default_tool_name="a", duration_ms=0.25)
    verdict = dw.ApprovalRecord(decision=dw.ApprovalDecision.DENY, reason="no")
    return snapshot(
        context={"n": 2, "text": 'ä\n"\\\u2028', "none": None, "list": [1, [2.5, {}], True], "big": 10**30},
        execution_log=[
            record(retry_count=2, retry_errors=["x", "y"], decision=choice, approval=verdict),
            record(1, "inner", sub_result=inner, flow_name="inner", fallback_used=True, fallback_tool_name="f"),
            record(2, "c", success=True, skipped=True, outputs={}, error_type="ToolTimeoutError", error_message="late"),
        ],
        completed_steps=3,
        tool_schema_hashes={"a": "0123456789abcdef"},
    )


# --- the contract of every checkpointer ---


def test_it_is_a_checkpointer(store: Store) -> None:
    assert isinstance(store, Checkpointer)


def test_what_was_saved_is_loaded(store: Store) -> None:
    store.save(rich_snapshot())
    loaded = store.load("t")
    assert loaded == rich_snapshot()
    assert loaded is not None
    assert loaded.started_at.tzinfo == UTC
    assert loaded.execution_log[2].error_code == "CW-E008"


def test_the_newest_snapshot_of_a_run_takes_the_place_of_the_one_before(store: Store) -> None:
    for done in (1, 2, 3):
        store.save(snapshot(completed_steps=done))
    store.save(snapshot("other", completed_steps=7))
    loaded, other = store.load("t"), store.load("other")
    assert loaded is not None
    assert other is not None
    assert (loaded.completed_steps, other.completed_steps) == (3, 7)
    assert store.list_trace_ids() == ["other", "t"]


def test_an_unknown_run_has_no_snapshot_and_is_deleted_silently(store: Store) -> None:
    assert store.load("t") is None
    store.delete("t")
    assert store.list_trace_ids() == []


def test_a_deleted_snapshot_is_gone_and_the_others_stay(store: Store) -> None:
    for trace_id in ("b", "a", "C", "_", "1.x-y"):
        store.save(snapshot(trace_id))
    store.delete("a")
    assert store.load("a") is None
    assert store.list_trace_ids() == sorted(["b", "C", "_", "1.x-y"])


def test_numbers_that_are_not_finite_survive(store: Store) -> None:
    values = {"nan": math.nan, "list": [math.inf, -math.inf]}
    inner = rich_snapshot().execution_log[1].sub_result
    assert inner is not None
    inner.final_output = values
    log = [record(inputs=values, outputs=values), record(1, sub_result=inner)]
    store.save(snapshot(context=values, initial_input=values, execution_log=log))
    loaded = store.load("t")
    assert loaded is not None
    found = [loaded.context, loaded.initial_input, loaded.execution_log[0].inputs, loaded.execution_log[0].outputs]
    nested = loaded.execution_log[1].sub_result
    assert nested is not None
    assert [str(each) for each in [*found, nested.final_output]] == [str(values)] * 5


def test_it_can_be_used_from_many_threads(store: Store) -> None:
    together = threading.Barrier(8)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            together.wait(timeout=10)
            for done in range(1, 11):
                store.save(snapshot(f"own-{number}", completed_steps=done))
                store.save(snapshot("shared", completed_steps=done))
                own, shared = store.load(f"own-{number}"), store.load("shared")
                assert own is not None
                assert shared is not None
                assert own.completed_steps == done
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert errors == []
    assert store.list_trace_ids() == sorted(["shared", *(f"own-{number}" for number in range(8))])


def test_the_store_in_memory_has_a_length() -> None:
    memory = InMemoryCheckpointer()
    memory.save(snapshot("a"))
    memory.save(snapshot("a"))
    memory.save(snapshot("b"))
    assert len(memory) == 2


# --- files ---


@pytest.mark.parametrize("as_text", [True, False])
def test_the_folder_is_created_with_its_parents_and_holds_one_json_file_a_run(tmp_path: Path, as_text: bool) -> None:
    root = tmp_path / "x" / "y"
    store = FileCheckpointer(str(root) if as_text else root)
    store.save(snapshot("t1"))
    store.save(snapshot("t1", completed_steps=1))
    store.save(snapshot("t2"))
    assert sorted(os.listdir(root)) == ["t1.snapshot.json", "t2.snapshot.json"]
    assert store.path_of("t1") == root / "t1.snapshot.json"
    content = json.loads((root / "t1.snapshot.json").read_text())
    assert (content["snapshot_version"], content["trace_id"], content["completed_steps"]) == ("1", "t1", 1)
    assert FileCheckpointer(root).load("t1") == store.load("t1")


def test_a_file_is_replaced_not_rewritten(tmp_path: Path) -> None:
    store = FileCheckpointer(tmp_path)
    store.save(snapshot(completed_steps=1))
    with open(store.path_of("t")) as reader:
        store.save(snapshot(completed_steps=2))
        assert json.loads(reader.read())["completed_steps"] == 1
    assert os.listdir(tmp_path) == ["t.snapshot.json"]


def test_a_file_that_cannot_be_replaced_leaves_nothing_else_behind(tmp_path: Path) -> None:
    store = FileCheckpointer(tmp_path)
    (tmp_path / "t.snapshot.json" / "full").mkdir(parents=True)
    with pytest.raises(dw.CheckpointSaveError, match=r"t\.snapshot\.json"):
        store.save(snapshot())
    assert os.listdir(tmp_path) == ["t.snapshot.json"]


def test_a_symbolic_link_is_replaced_and_what_it_names_is_not_touched(tmp_path: Path) -> None:
    target = tmp_path / "precious.txt"
    target.write_text("keep me")
    store = FileCheckpointer(tmp_path / "root")
    store.path_of("t").symlink_to(target)
    store.save(snapshot())
    assert not store.path_of("t").is_symlink()
    assert store.load("t") == snapshot()
    store.path_of("u").symlink_to(target)
    store.delete("u")
    assert target.read_text() == "keep me"


def test_a_string_that_could_be_a_path_above_the_folder_stays_in_it(tmp_path: Path) -> None:
    store = FileCheckpointer(tmp_path / "root")
    store.save(snapshot(".."))
    store.save(snapshot("."))
    assert sorted(os.listdir(tmp_path / "root")) == ["...snapshot.json", "..snapshot.json"]
    assert store.list_trace_ids() == [".", ".."]
    assert store.load("..") == snapshot("..")


BAD_IDS = ["", "../up", "a/b", "/etc/passwd", "a\\b", "a\x00b", "a\n", "\n", "a b", "ä", "x" * 300, "a:b", "~"]


@pytest.mark.parametrize("trace_id", BAD_IDS)
@pytest.mark.parametrize("method", ["save", "load", "has", "delete", "path_of"])
def test_an_id_that_cannot_be_part_of_a_file_name_is_refused_before_anything_is_touched(
    tmp_path: Path, trace_id: str, method: str
) -> None:
    (tmp_path / "up.snapshot.json").write_text("outside")
    store = FileCheckpointer(tmp_path / "root")
    with pytest.raises(ValueError, match="cannot be part of a file name: use up to 241 letters, digits") as caught:
        getattr(store, method)(snapshot(trace_id) if method == "save" else trace_id)
    assert len(str(caught.value)) < 500
    assert os.listdir(tmp_path / "root") == []
    assert (tmp_path / "up.snapshot.json").read_text() == "outside"


def test_the_longest_id_is_taken(tmp_path: Path) -> None:
    store = FileCheckpointer(tmp_path)
    store.save(snapshot("x" * 241))
    assert store.list_trace_ids() == ["x" * 241]


@ON_BOTH_LANES
def test_resuming_a_bad_id_is_refused(lane: str, tmp_path: Path) -> None:
    executor = make_executor([linear(step("a"))], Calls().tools("a"), checkpointer=FileCheckpointer(tmp_path))
    with pytest.raises(ValueError, match=r"'\.\./up' cannot be part of a file name"):
        resume(lane, executor, "../up")


def test_files_that_are_no_snapshots_are_not_listed(tmp_path: Path) -> None:
    store = FileCheckpointer(tmp_path)
    for name in ("notes.txt", "a b.snapshot.json", ".snapshot.json", "t.snapshot.json.bak", "t.cache.json"):
        (tmp_path / name).write_text("{}")
    store.save(snapshot())
    assert store.list_trace_ids() == ["t"]


# --- files that cannot be read ---


def good() -> bytes:
    return snapshot().model_dump_json().encode()


def as_bytes(content: Callable[[], bytes]) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content())


def as_link(path: Path) -> None:
    target = path.parent / "elsewhere.json"
    target.write_bytes(good())
    path.symlink_to(target)


BAD_FILES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.touch(),
    "truncated": as_bytes(lambda: good()[:-20]),
    "no JSON": as_bytes(lambda: b"\x00\xff\xfe not json"),
    "not UTF-8": as_bytes(lambda: good().replace(b"main", b"ma\xffn")),
    "no object": as_bytes(lambda: b"[1, 2]"),
    "field of a wrong type": as_bytes(lambda: good().replace(b'"completed_steps":0', b'"completed_steps":"many"')),
    "field missing": as_bytes(lambda: good().replace(b'"context"', b'"contest"')),
    "of another run": as_bytes(lambda: good().replace(b'"trace_id":"t"', b'"trace_id":"u"')),
    "nested too deeply": as_bytes(lambda: good().replace(b'{"n":1}', b'{"n":' + b"[" * 9999 + b"]" * 9999 + b"}")),
    "pickled": as_bytes(lambda: pickle.dumps({"trace_id": "t"})),
    "too long": as_bytes(lambda: good() + b" " * 5000),
    "symbolic link": as_link,
    "broken symbolic link": lambda path: path.symlink_to(path.parent / "nowhere"),
    "directory": lambda path: path.mkdir(),
    "FIFO": lambda path: os.mkfifo(path),
}


@ON_BOTH_LANES
@pytest.mark.parametrize("kind", BAD_FILES)
def test_dev_36_a_file_that_cannot_be_read_is_named_and_kept_and_nothing_runs(
    lane: str, kind: str, tmp_path: Path
) -> None:
    store = FileCheckpointer(tmp_path, max_bytes=5000)
    path = tmp_path / "t.snapshot.json"
    BAD_FILES[kind](path)
    before = path.read_bytes() if path.is_file() else path.lstat().st_mode
    calls, recorder = Calls(), Recorder()
    executor = make_executor([linear(step("a"))], calls.tools("a"), checkpointer=store, middleware=[recorder])
    assert store.load("t") is None
    assert store.has("t")
    with pytest.raises(dw.CheckpointCorruptError) as caught:
        resume(lane, executor, "t")
    error = caught.value
    assert isinstance(error, dw.CheckpointNotFoundError)
    assert (error.code, error.trace_id, error.path) == ("CW-E055", "t", str(path))
    assert str(error) == f"The snapshot for trace_id 't' at '{path}' cannot be read; the file was kept."
    assert (calls.names, recorder.calls) == ([], [])
    assert (path.read_bytes() if path.is_file() else path.lstat().st_mode) == before


@ON_BOTH_LANES
@pytest.mark.parametrize("version", ["2", "2.0", "0", "", "next"])
def test_a_snapshot_of_another_major_version_is_refused_and_kept(lane: str, version: str, tmp_path: Path) -> None:
    store = FileCheckpointer(tmp_path)
    store.save(snapshot(snapshot_version=version, flow_name="unknown"))
    before = store.path_of("t").read_bytes()
    with pytest.raises(dw.CheckpointVersionError) as caught:
        resume(lane, make_executor([], [], checkpointer=store), "t")
    error = caught.value
    assert (error.code, error.trace_id, error.flow_name) == ("CW-E021", "t", "unknown")
    assert (error.snapshot_version, error.expected_version) == (version, "1")
    assert str(error) == (
        f"Cannot resume trace 't' for flow 'unknown': snapshot version '{version}' is not compatible with '1'."
    )
    assert store.path_of("t").read_bytes() == before


@ON_BOTH_LANES
def test_a_snapshot_of_a_later_minor_version_with_more_in_it_is_resumed(lane: str, tmp_path: Path) -> None:
    store = FileCheckpointer(tmp_path)
    content = json.loads(snapshot(snapshot_version="1.7").model_dump_json())
    store.path_of("t").write_text(json.dumps({**content, "news": [1]}))
    executor = make_executor([linear(step("a"))], Calls().tools("a"), checkpointer=store)
    assert resume(lane, executor, "t").final_output == {"n": 2}


def test_reading_what_is_no_file_keeps_no_handle_open(tmp_path: Path) -> None:
    def next_handle() -> int:
        handle = os.open(os.devnull, os.O_RDONLY)
        os.close(handle)
        return handle

    store = FileCheckpointer(tmp_path)
    for kind in ("directory", "FIFO", "symbolic link", "empty"):
        BAD_FILES[kind](store.path_of(kind.split()[0]))
    before = next_handle()
    for kind in ("directory", "FIFO", "symbolic link", "empty"):
        assert store.load(kind.split()[0]) is None
    assert next_handle() == before


# --- values that no file can hold ---


class Opaque:
    pass


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def self_containing() -> Any:
    value: dict[str, Any] = {}
    value["again"] = [value]
    return value


DEEP = "context.v" + "[0]" * 100

UNSERIALISABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "object": (Opaque, "context.v is a Opaque, which has no JSON form"),
    "deep in containers": (
        lambda: {"rows": [1, (2, {"cell": Opaque()})]},
        "context.v.rows[1][1].cell is a Opaque, which has no JSON form",
    ),
    "in a model": (lambda: Anything(cell=Opaque()), "context.v.cell is a Opaque, which has no JSON form"),
    "function": (lambda: inc, "context.v is a function, which has no JSON form"),
    "bytes": (lambda: [b"fine", b"\xff"], "context.v[1] is a bytes, which has no JSON form"),
    "half a character": (lambda: "\ud800", "context.v is a str, which has no JSON form"),
    "contains itself": (self_containing, "context.v.again[0].again[0] contains itself"),
    "longer than readers take": (lambda: [10**5000], "context.v[0] is a int, which has no JSON form"),
    "deeper than readers take": (lambda: nested(199), f"{DEEP[:60]}... is nested more than 200 levels deep"),
    "endlessly deep": (lambda: nested(5000), f"{DEEP[:60]}... is nested more than 200 levels deep"),
}


def tool_that_returns(value: Callable[[], Any]) -> Tool:
    return Tool(name="b", description="", input_schema=Number, output_schema=Anything, fn=lambda v: {"v": value()})


@ON_BOTH_LANES
@pytest.mark.parametrize("kind", UNSERIALISABLE)
def test_a_value_that_no_file_can_hold_is_named_and_the_snapshot_before_it_stays(
    lane: str, kind: str, tmp_path: Path
) -> None:
    value, fault = UNSERIALISABLE[kind]
    store, ends = FileCheckpointer(tmp_path), []

    class Ends(dw.BaseMiddleware):
        def on_flow_end(self, ctx: Any) -> None:
            ends.append((ctx.result.success, ctx.result.final_output, [r.tool_name for r in ctx.result.execution_log]))

    tools = [number_tool("a", inc), tool_that_returns(value), number_tool("c", inc)]
    executor = make_executor([linear(*map(step, "abc"))], tools, checkpointer=store, middleware=[Ends()])
    with pytest.raises(dw.CheckpointSaveError) as caught:
        execute(lane, executor)
    trace_id = only_trace(store)
    error = caught.value
    assert (error.code, error.trace_id, error.detail) == ("CW-E058", trace_id, fault)
    assert str(error) == f"Cannot save a snapshot of trace '{trace_id}': {fault}."
    assert ends == [(False, None, ["a", "b"])]
    kept = store.load(trace_id)
    assert kept is not None
    assert (kept.completed_steps, kept.context) == (1, {"n": 2})
    assert os.listdir(tmp_path) == [f"{trace_id}.snapshot.json"]
    executor.register_tool(tool_that_returns(lambda: 0))
    assert resume(lane, executor, trace_id).final_output == {"n": 3, "v": 0}


def test_a_value_that_only_a_record_holds_is_found_there_too(tmp_path: Path) -> None:
    store = FileCheckpointer(tmp_path)
    log = [record(), record(1, inputs={"n": [Opaque()]})]
    with pytest.raises(dw.CheckpointSaveError, match=r"execution_log\[1\]\.inputs\.n\[0\] is a Opaque, which"):
        store.save(snapshot(execution_log=log))
    with pytest.raises(dw.CheckpointSaveError, match=r"initial_input\.x is a Opaque, which"):
        store.save(snapshot(initial_input={"x": Opaque()}))
    assert os.listdir(tmp_path) == []


@ON_BOTH_LANES
def test_a_snapshot_that_would_be_too_long_to_read_is_not_written(lane: str, tmp_path: Path) -> None:
    store = FileCheckpointer(tmp_path, max_bytes=5000)
    tools = [number_tool("a", inc), tool_that_returns(lambda: "x" * 6000)]
    with pytest.raises(dw.CheckpointSaveError, match="it is longer than max_bytes=5000"):
        execute(lane, make_executor([linear(step("a"), step("b"))], tools, checkpointer=store))
    kept = store.load(only_trace(store))
    assert kept is not None
    assert kept.completed_steps == 1


@ON_BOTH_LANES
def test_keys_that_are_not_text_are_kept_as_text_without_a_warning(lane: str, tmp_path: Path) -> None:
    store = FileCheckpointer(tmp_path)
    calls = Calls(broken=["b"])
    executor = make_executor([linear(step("a"), step("b"))], calls.tools("a b"), checkpointer=store)
    inputs: dict[Any, Any] = {"n": 1, 7: "seven"}
    assert not execute(lane, executor, inputs).success
    calls.broken.clear()
    assert resume(lane, executor, only_trace(store)).final_output == {"n": 3, "7": "seven"}


@ON_BOTH_LANES
def test_the_store_in_memory_takes_any_value(lane: str) -> None:
    store, value = InMemoryCheckpointer(), Opaque()
    calls = Calls(broken=["c"])
    tools = [tool_that_returns(lambda: value), calls.tool("c")]
    executor = make_executor([linear(FlowStep(tool_name="b"), step("c"))], tools, checkpointer=store)
    assert not execute(lane, executor).success
    calls.broken.clear()
    output = resume(lane, executor, only_trace(store)).final_output
    assert output is not None
    assert output["v"] is value
