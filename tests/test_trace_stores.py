"""Trace stores: one contract for both, and what the one on disk does besides."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from doubleweave import (
    ExecutionResult,
    FileTraceStore,
    InMemoryTraceStore,
    RedactionPolicy,
    StepRecord,
    TraceStore,
    redact_execution_result,
)
from lanes_under_test import Case, observe
from parity_scenarios import THREE_DEEP, tools

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MASK = "***REDACTED***"
Make = Callable[..., Any]


@pytest.fixture(params=["memory", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "memory":
        return InMemoryTraceStore
    return lambda **settings: FileTraceStore(tmp_path / "deep" / "traces", **settings)


def trace(trace_id: str, number: int = 0, **changes: Any) -> ExecutionResult:
    record = StepRecord(
        step_index=0,
        tool_name="t",
        inputs={"token": "s3cret", "n": number},
        outputs={"n": number, "password": "s3cret"},
        started_at=NOW,
        ended_at=NOW,
        duration_ms=1.5,
    )
    values: dict[str, Any] = {
        "flow_name": "f",
        "flow_version": "1",
        "success": True,
        "final_output": {"n": number, "secret": "s3cret"},
        "execution_log": [record],
        "trace_id": trace_id,
        "started_at": NOW,
        "ended_at": NOW,
        "total_duration_ms": 2.5,
        "initial_input": {"api_key": "s3cret", "word": "ü\u2028\n\x85"},
    }
    return ExecutionResult(**values | changes)


def test_x_1_an_empty_store_has_nothing(make: Make) -> None:
    assert isinstance(make(), TraceStore)
    store = make()
    assert (store.load("x"), store.list_trace_ids(), len(store)) == (None, [], 0)
    store.delete("x")
    assert len(store) == 0


def test_what_is_saved_is_loaded_and_listed_oldest_first(make: Make) -> None:
    store = make()
    for number, trace_id in enumerate(["b", "a", "c"]):
        store.save(trace(trace_id, number))
    assert store.list_trace_ids() == ["b", "a", "c"]
    assert [store.load(trace_id) for trace_id in "bac"] == [trace("b", 0), trace("a", 1), trace("c", 2)]
    assert (len(store), store.load("d")) == (3, None)


def test_x_1_saving_an_id_again_replaces_it_and_makes_it_the_newest(make: Make) -> None:
    store = make()
    for number, trace_id in enumerate(["a", "b", "a"]):
        store.save(trace(trace_id, number))
    assert (store.list_trace_ids(), len(store)) == (["b", "a"], 2)
    assert store.load("a") == trace("a", 2)


def test_deleting_forgets_one(make: Make) -> None:
    store = make()
    for trace_id in "abc":
        store.save(trace(trace_id))
    store.delete("b")
    store.delete("b")
    assert (store.list_trace_ids(), store.load("b"), len(store)) == (["a", "c"], None, 2)
    store.save(trace("b"))
    assert store.list_trace_ids() == ["a", "c", "b"]


def test_x_1_the_policy_is_applied_before_storing(make: Make) -> None:
    policy = RedactionPolicy()
    store, original = make(redaction_policy=policy), trace("a", 7)
    store.save(original)
    assert original == trace("a", 7)
    kept = store.load("a")
    assert kept == policy.redact_execution_result(original)
    assert kept.initial_input["api_key"] == kept.final_output["secret"] == MASK
    record = kept.execution_log[0]
    assert (record.inputs, record.outputs) == ({"token": MASK, "n": 7}, {"n": 7, "password": MASK})


def test_x_1_without_a_policy_nothing_is_hidden(make: Make) -> None:
    store = make()
    store.save(trace("a"))
    assert store.load("a").initial_input == {"api_key": "s3cret", "word": "ü\u2028\n\x85"}


@pytest.mark.parametrize("lane", ["sync", "async"])
def test_the_trace_of_a_run_comes_back_whole(make: Make, lane: str) -> None:
    store, seen = make(), observe(Case(THREE_DEEP, tools), lane)
    assert seen.result is not None
    store.save(seen.result)
    assert store.load(seen.result.trace_id) == seen.result


def test_threads_may_share_a_store(make: Make) -> None:
    store, barrier, errors = make(), threading.Barrier(8), []

    def work(number: int) -> None:
        try:
            barrier.wait(timeout=10)
            for turn in range(5):
                store.save(trace(f"{number}-{turn}", turn))
                assert store.load(f"{number}-{turn}") == trace(f"{number}-{turn}", turn)
            store.delete(f"{number}-0")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert errors == []
    assert sorted(store.list_trace_ids()) == sorted(f"{number}-{turn}" for number in range(8) for turn in range(1, 5))
    order = [trace_id for trace_id in store.list_trace_ids() if trace_id.startswith("3-")]
    assert order == ["3-1", "3-2", "3-3", "3-4"]


def test_x_3_redacting_a_result_without_a_policy_gives_the_result() -> None:
    original = trace("a")
    assert redact_execution_result(original, None) is original
    assert redact_execution_result(original, RedactionPolicy()) == RedactionPolicy().redact_execution_result(original)


# --- the store on disk -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_text", [True, False])
def test_x_2_the_file_is_one_line_of_json_a_result(tmp_path: Path, as_text: bool) -> None:
    root = tmp_path / "a" / "b"
    store = FileTraceStore(str(root) if as_text else root)
    assert root.is_dir()
    store.save(trace("x"))
    store.save(trace("y"))
    lines = (root / "traces.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [ExecutionResult.model_validate_json(line) for line in lines] == [trace("x"), trace("y")]
    assert [path.name for path in root.iterdir()] == ["traces.jsonl"]


def test_x_1_nothing_that_is_redacted_reaches_the_disk(tmp_path: Path) -> None:
    FileTraceStore(tmp_path, redaction_policy=RedactionPolicy()).save(trace("x"))
    assert "s3cret" not in (tmp_path / "traces.jsonl").read_text(encoding="utf-8")


def test_another_store_finds_what_the_first_has_kept(tmp_path: Path) -> None:
    FileTraceStore(tmp_path).save(trace("x"))
    assert FileTraceStore(tmp_path).load("x") == trace("x")


CORRUPT = [
    b"",
    b"   ",
    b"nonsense",
    b'{"trace_id": "half", "flow_na',
    b'{"trace_id": "other shape"}',
    b"[]",
    b"null",
    b"\xff\xfe",
    b"[" * 5000,
]


@pytest.mark.parametrize("corrupt", CORRUPT, ids=[repr(line[:20]) for line in CORRUPT])
def test_x_2_corrupt_lines_are_passed_over_and_dropped_by_the_next_save(tmp_path: Path, corrupt: bytes) -> None:
    store = FileTraceStore(tmp_path)
    good = [trace(name).model_dump_json().encode() for name in "ab"]
    store.path.write_bytes(b"\n".join([corrupt, good[0], corrupt, good[1], corrupt]))
    assert (store.list_trace_ids(), len(store), store.load("b")) == (["a", "b"], 2, trace("b"))
    store.save(trace("c"))
    assert store.path.read_bytes().splitlines() == [*good, trace("c").model_dump_json().encode()]


def test_of_two_lines_with_one_id_the_later_counts(tmp_path: Path) -> None:
    store = FileTraceStore(tmp_path)
    lines = [trace("a", 1), trace("b", 2), trace("a", 3)]
    store.path.write_text("".join(f"{line.model_dump_json()}\n" for line in lines), encoding="utf-8")
    assert (store.list_trace_ids(), store.load("a")) == (["b", "a"], trace("a", 3))


@pytest.mark.parametrize("count", [0, -1])
def test_x_2_max_traces_must_be_positive(tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match="max_traces must be positive"):
        FileTraceStore(tmp_path / "never", max_traces=count)
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("count", "kept"), [(1, ["a"]), (2, ["d", "a"]), (4, ["b", "c", "d", "a"]), (None, list("bcda"))]
)
def test_x_2_max_traces_drops_the_oldest(tmp_path: Path, count: int | None, kept: list[str]) -> None:
    store = FileTraceStore(tmp_path, max_traces=count)
    for trace_id in ["a", "b", "c", "d", "a"]:
        store.save(trace(trace_id))
    assert (store.list_trace_ids(), len(store)) == (kept, len(kept))


def test_a_result_that_has_no_json_form_changes_nothing(tmp_path: Path) -> None:
    store = FileTraceStore(tmp_path)
    store.save(trace("a"))
    before = store.path.read_bytes()
    with pytest.raises(ValueError, match="serialize"):
        store.save(trace("b", final_output={"thing": object()}))
    assert store.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["traces.jsonl"]


def test_x_2_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileTraceStore(tmp_path)
    store.save(trace("a"))

    def refuse(source: Any, target: Any) -> None:
        assert Path(source).parent == tmp_path
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", refuse)
        with pytest.raises(OSError, match="no room"):
            store.save(trace("b"))
        with pytest.raises(OSError, match="no room"):
            store.delete("a")
    assert store.list_trace_ids() == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["traces.jsonl"]
    store.save(trace("b"))
    assert store.list_trace_ids() == ["a", "b"]


def test_x_2_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    writer, reader, stop, seen = FileTraceStore(tmp_path), FileTraceStore(tmp_path), threading.Event(), []
    writer.save(trace("0"))

    def read() -> None:
        while not stop.is_set():
            content = reader.path.read_bytes()
            seen.append(content.endswith(b"\n") and len(content.splitlines()) == len(reader_ids(content)))

    def reader_ids(content: bytes) -> list[str]:
        return [ExecutionResult.model_validate_json(line).trace_id for line in content.splitlines()]

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(1, 40):
        writer.save(trace(str(number)))
    stop.set()
    thread.join(timeout=10)
    assert seen
    assert all(seen)
    assert len(reader) == 40


def test_two_stores_of_one_folder_lose_nothing_to_each_other(tmp_path: Path) -> None:
    barrier, errors = threading.Barrier(4), []

    def work(number: int) -> None:
        try:
            store = FileTraceStore(tmp_path / "x" / ".." if number % 2 else tmp_path)
            barrier.wait(timeout=10)
            for turn in range(8):
                store.save(trace(f"{number}-{turn}"))
        except BaseException as error:
            errors.append(error)

    (tmp_path / "x").mkdir()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert errors == []
    assert len(FileTraceStore(tmp_path)) == 32
